"""Which ids an operator wants to admit, for which certificates: typed, or from a file. Pure.

    web-1                                 for its lease's owner, or by the pattern
    web-1,CN=web-1,OU=hosts               a subject has commas, an id has none
    web-1,"CN=web-1,OU=hosts"             the same, as a spreadsheet writes it

Must never do: accept a subject that ZooKeeper would never report for a certificate.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from neti.errors import NetiError
from neti.model.entry import HOST_ID
from neti.text import printable

MAX_FILE_BYTES: Final = 16 * 1024 * 1024
_MAX_SUBJECT: Final = 512
_HEADING: Final = re.compile(r"id\s*(,\s*subject\s*)?", re.IGNORECASE)
# RFC 2253, as Java spells it: the first word, and no space behind a comma.
_SUBJECT: Final = re.compile(r"[A-Za-z0-9.]+=\S.*")
_SPACED: Final = re.compile(r"(?<!\\),\s")
# What openssl writes before it.
_LABELLED: Final = re.compile(r"subject\s*=", re.IGNORECASE)
_ID_PLACE: Final = "{id}"


@dataclass(frozen=True, slots=True)
class Asked:
    """``subject`` None: the one of the id's lease, or made by a pattern."""

    id: str
    subject: str | None = None


def typed(words: Iterable[str]) -> list[Asked]:
    """Ids, each with or without a subject after it. Every subject has a '=', and no id has one."""
    found: list[Asked] = []
    for word in words:
        if "=" not in word:
            found.append(Asked(checked_id(word, "")))
        elif found and found[-1].subject is None:
            found[-1] = Asked(found[-1].id, checked_subject(word, ""))
        else:
            raise NetiError(f"{printable(word)!r}: a subject stands behind the id that it is for")
    return once(found, "")


def read(raw: bytes, source: str) -> list[Asked]:
    """Raises NetiError, which names file, line and value."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NetiError(f"{source}: is not text in UTF-8 (byte {error.start})") from error
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if not bare or bare.startswith("#") or (number == 1 and _HEADING.fullmatch(bare)):
            continue
        host_id, _, subject = (part.strip() for part in bare.partition(","))
        if len(subject) > 1 and subject[0] == subject[-1] == '"':
            subject = subject[1:-1].replace('""', '"')
        where = f"{source}, line {number}: "
        named = checked_subject(subject, where) if subject else None
        found.append(Asked(checked_id(host_id.strip('"'), where), named))
    return once(found, f"{source}: ")


def once(asked: Iterable[Asked], where: str) -> list[Asked]:
    """Each id once. Raises NetiError for an id with two subjects."""
    found: dict[str, Asked] = {}
    for one in asked:
        before = found.get(one.id)
        if before is not None and None not in (before.subject, one.subject) and before != one:
            raise NetiError(
                f"{where}{one.id} is there with two subjects, {printable(before.subject)} and "
                f"{printable(one.subject)}: a host has one"
            )
        if before is None or before.subject is None:
            found[one.id] = one
    return list(found.values())


def by_pattern(pattern: str, host_id: str) -> str:
    return pattern.replace(_ID_PLACE, host_id)


def checked_pattern(pattern: str) -> str:
    if _ID_PLACE not in pattern:
        raise NetiError(
            f"--subject {printable(pattern)!r}: expected a subject with {_ID_PLACE} in it, such as "
            "'CN={id},OU=hosts'"
        )
    checked_subject(by_pattern(pattern, "id"), "--subject ")
    return pattern


def checked_id(host_id: str, where: str) -> str:
    if not HOST_ID.fullmatch(host_id):
        raise NetiError(
            f"{where}{printable(host_id)!r} is no host id: expected 1 to 40 of letters, digits, "
            "'.', '_', '-', beginning with a letter or digit"
        )
    return host_id


def is_subject(subject: str) -> bool:
    """Whether ZooKeeper would spell a certificate's subject so."""
    return (
        printable(subject, _MAX_SUBJECT) == subject
        and _SUBJECT.fullmatch(subject) is not None
        and _SPACED.search(subject) is None
        and _LABELLED.match(subject) is None
    )


def checked_subject(subject: str, where: str) -> str:
    if not is_subject(subject):
        raise NetiError(
            f"{where}{printable(subject)!r} is no subject as ZooKeeper spells it: expected "
            "CN=web-1,OU=hosts (no space after a comma, and without the word subject)\n"
            "→ openssl x509 -in FILE -noout -subject -nameopt RFC2253 | sed s/^subject=//"
        )
    return subject
