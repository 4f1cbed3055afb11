"""Groups of members, as operators define them and every agent reads them. Writer, reader. Pure.

It is the live setting ``groups`` in the registry, which members cannot write. JSON:

    {"format":1,"edition":7,"shrunk":0,"judged":[6,7],
     "groups":{"db":["db-*",{"id":"i-0abc","site":"vpc"},{"id":"i-0def","by":0}]},
     "subjects":{"db":[{"subject":"CN=db-*"}]}}

A line that is more than an id or a pattern is an object; ``until`` in it is in Unix seconds. Keys
that are not known are passed over, so a version that restricts a line by another key raises the
format number. ``by``: the place, from 0, of the subject for which a command put the id there. A
version that does not know subjects sees the ids, and these are who is in the group.

Must never do: raise anything but GroupsUnreadable, whatever the text.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from neti.errors import NetiError, RegistryError
from neti.model.entry import SITE_NAME
from neti.model.groups import EVERY_MEMBER, GROUP_NAME, ID_PATTERN, GroupLine, Groups
from neti.registry.admitted import is_subject
from neti.registry.wrong import Wrong, of_format, said

# Servers are configured to accept no request of more than 65,536 bytes.
MAX_BYTES: Final = 60_000
# Patterns in all groups with more than one star, and with a question mark: of these each agent may
# have to look for all in all ids, and one takes up to 0.7 µs, or 0.2 µs, for an id. The others are
# looked for by how they begin and end (``neti.fleet.id_patterns``). Nothing is written that has
# more of them than that and than there were. What has more, by a version before or by hand, is
# read: a host that could not would know no groups, and no command could make them fewer.
MAX_MANY_STARS: Final = 64
MAX_QUESTION_MARKS: Final = 256
_SLOW: Final[tuple[tuple[str, Callable[[str], bool], int], ...]] = (
    ("more than one '*'", lambda pattern: pattern.count("*") > 1, MAX_MANY_STARS),
    ("'?'", lambda pattern: "?" in pattern, MAX_QUESTION_MARKS),
)
_FORMAT: Final = 1
_MAX_EDITION: Final = 1 << 53
_MAX_UNTIL: Final = 1 << 40  # Unix seconds; far beyond what a calendar can show


class GroupsUnreadable(RegistryError):
    """A newer version wrote it, or it is no document of groups."""


class GroupsTooLong(NetiError):
    """The registry would not hold it, or it would take each agent long to follow it."""


def decode(raw: bytes | None) -> Groups:
    """Of no document: no groups, and edition 0. Raises GroupsUnreadable, which names the place."""
    if raw is None:
        return Groups({})
    try:
        if len(raw) > MAX_BYTES:
            raise Wrong(f"is longer than {MAX_BYTES:,} bytes")
        try:
            held = json.loads(raw.decode())
        except (ValueError, RecursionError) as error:
            raise Wrong("is not JSON") from error
        return _groups(held)
    except Wrong as wrong:
        raise GroupsUnreadable(
            f"the fleet-wide document of groups {wrong}: 'neti group' of this version did not "
            "write it. Upgrade this host, or have an operator delete it from the registry and "
            "define the groups again"
        ) from wrong


def encode(groups: Groups, before: Groups | None = None) -> bytes:
    """``before``: what it takes the place of. Raises GroupsTooLong."""
    every = {name: groups.lines[name] for name in sorted(groups.lines)}
    document: dict[str, Any] = {
        "format": _FORMAT,
        "edition": groups.edition,
        "shrunk": groups.shrunk,
        "judged": groups.judged,
        "groups": {name: _plain_ids(lines) for name, lines in every.items()},
    }
    subjects = {name: said for name, lines in every.items() if (said := _plain_subjects(lines))}
    document |= {"subjects": subjects} if subjects else {}
    _check_slow(groups, before)
    raw = json.dumps(document, separators=(",", ":")).encode()
    if len(raw) > MAX_BYTES:
        raise GroupsTooLong(
            f"all groups together would be {len(raw):,} bytes, and the registry holds {MAX_BYTES:,}"
            ": nothing was changed\n→ one pattern in place of many ids"
        )
    return raw


def _groups(held: Any) -> Groups:
    held = of_format(held, _FORMAT)
    listed = held.get("groups")
    if not isinstance(listed, dict):
        raise Wrong("has no groups")
    subjects = held.get("subjects", {})
    if not isinstance(subjects, dict):
        raise Wrong("has subjects that are no object")
    every = {
        _name(name): _lines(name, lines, _subjects(name, subjects.get(name, [])))
        for name, lines in listed.items()
    }
    return Groups(
        every,
        _edition(held.get("edition", 0), "edition"),
        _edition(held.get("shrunk", 0), "shrunk"),
        _judged(held.get("judged", [])),
    )


def _check_slow(groups: Groups, before: Groups | None) -> None:
    for kind, is_slow, most in _SLOW:
        number, had = (
            sum(is_slow(one.pattern) for of in lines.values() for one in of if not one.is_subject)
            for lines in (groups.lines, before.lines if before else {})
        )
        if number > max(most, had):
            raise GroupsTooLong(
                f"all groups together would have {number:,} patterns with {kind}, and {most} is "
                "the most: nothing was changed\n→ patterns with one '*' and no '?', or ids"
            )


def _judged(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise Wrong(f"has judged {said(value)}, which is no list of editions")
    return tuple(_edition(one, "judged") for one in value)


def _edition(value: Any, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_EDITION:
        raise Wrong(f"has {key} {said(value)}, which is no number of an edition")
    return value


def _name(name: str) -> str:
    if not GROUP_NAME.fullmatch(name) or name == EVERY_MEMBER:
        raise Wrong(f"has a group {said(name)}, which no group may be called")
    return name


def is_subject_pattern(text: str) -> bool:
    """A subject, as ZooKeeper spells it, perhaps with ``*`` and ``?`` in it."""
    return is_subject(text.replace("*", "x").replace("?", "x"))


def _lines(name: str, lines: Any, subjects: Sequence[GroupLine]) -> tuple[GroupLine, ...]:
    if not isinstance(lines, list):
        raise Wrong(f"has no list of lines in group {name}")
    return (*subjects, *(_line(name, line, subjects) for line in lines))


def _subjects(name: str, lines: Any) -> tuple[GroupLine, ...]:
    if not isinstance(lines, list):
        raise Wrong(f"has no list of subjects in group {name}")
    return tuple(_subject(name, line) for line in lines)


def _subject(name: str, line: Any) -> GroupLine:
    pattern = line.get("subject") if isinstance(line, dict) else None
    if isinstance(pattern, str) and is_subject_pattern(pattern):
        return replace(_line(name, line | {"id": "*"}, ()), pattern=pattern)
    raise Wrong(f"has {said(line)} in group {name}, which is no line of a subject")


def _by(name: str, place: Any, subjects: Sequence[GroupLine]) -> str:
    if place is None:
        return ""
    if type(place) is int and 0 <= place < len(subjects):
        return subjects[place].pattern
    raise Wrong(f"has an id by subject {said(place)} in group {name}, which has no such subject")


def _line(name: str, line: Any, subjects: Sequence[GroupLine]) -> GroupLine:
    whole = {"id": line} if isinstance(line, str) else line
    if isinstance(whole, dict):
        pattern, site, until = whole.get("id"), whole.get("site", ""), whole.get("until")
        if (
            isinstance(pattern, str)
            and ID_PATTERN.fullmatch(pattern)
            and isinstance(site, str)
            and (not site or SITE_NAME.fullmatch(site))
            and (until is None or _is_time(until))
        ):
            by = _by(name, whole.get("by"), subjects)
            return GroupLine(pattern, site, None if until is None else float(until), by)
    raise Wrong(f"has {said(line)} in group {name}, which is no line of an id or a pattern")


def _is_time(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value <= _MAX_UNTIL  # false for nan


def _plain_ids(lines: Iterable[GroupLine]) -> list[str | dict[str, Any]]:
    subjects = [line for line in lines if line.is_subject]
    places = {(line.pattern, line.site): place for place, line in enumerate(subjects)}
    return [_plain(line, places) for line in lines if not line.is_subject]


def _plain(line: GroupLine, places: Mapping[tuple[str, str], int]) -> str | dict[str, Any]:
    more = _restricted(line)
    if (place := places.get((line.by, line.site))) is not None:
        more["by"] = place
    return {"id": line.pattern, **more} if more else line.pattern


def _plain_subjects(lines: Iterable[GroupLine]) -> list[dict[str, Any]]:
    return [{"subject": line.pattern, **_restricted(line)} for line in lines if line.is_subject]


def _restricted(line: GroupLine) -> dict[str, Any]:
    site = {"site": line.site} if line.site else {}
    return site | ({"until": line.until} if line.until is not None else {})
