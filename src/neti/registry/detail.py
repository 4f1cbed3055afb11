"""The document of a host: what it says of itself, whole in its report and for operators, and a part
that every member may read. Its writer and its reader. Pure. See docs/design/fleet-view.md.

What a host says about itself is untrusted text. A version, stage, code or time that is malformed is
ignored, and so is a key that this version does not know. A name is made printable, which does not
make it safe in a command (``neti.text.plain_name`` does).

Must never do: raise because of what another host wrote, or hand on what cannot be printed.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, astuple, dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from neti.model.entry import HOST_ID
from neti.model.labels import NO_LABELS, Labels, readable
from neti.model.problem_codes import OUT_OF_STEP
from neti.registry.hurts import Hurts, port_of, read_hurts, time_of
from neti.text import printable

FORMAT: Final = 1  # a key never changes its meaning; whatever means something else has another name
MAX_DETAIL_BYTES: Final = 16_384  # read of another version's; this one writes 4 KiB at most
_MOST_BYTES: Final = 4095
MAX_CODES: Final = 20
MAX_LEFT: Final = 12
MAX_MISSED: Final = 12
# Of ``Document.encryption``: there is a device that works; and something in the clear is refused,
# or is again after 'neti up'.
ABLE: Final = frozenset({"prefer", "trial", "partly", "require"})
REQUIRING: Final = frozenset({"trial", "partly", "require", "require-unable"})
_MAX_NAME: Final = 64
_VERSION: Final = re.compile(r"[0-9][0-9A-Za-z.+~-]{0,31}", re.ASCII)
_STAGE: Final = re.compile(r"[a-z][a-z-]{0,15}", re.ASCII)
_DIGITS: Final = 12
_DIGEST: Final = re.compile(rf"[0-9a-f]{{{_DIGITS}}}", re.ASCII)
_CODE: Final = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)
_WORD: Final = re.compile(r"[0-9]{1,20}", re.ASCII)
_MOST_WORD: Final = 32  # characters of a version, a stage or a digest
_MANY: Final = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An operator's word that took rules out of force. ``by``: who, and from where; ``at``,
    ``until``: Unix seconds. What is not known is empty or None."""

    by: str = ""
    at: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsSeen:
    """``since``: from when on it is watched whether members call the host; ``at``: up to when,
    which may be long before the document was written; ``last``: when one last began a connection;
    None: none has since. Unix seconds. ``open``: how many connections of
    members were open when the document was written; None: that is not known."""

    since: int
    at: int
    last: int | None = None
    open: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Who is still called from there by a real address, as ``neti leftovers`` has it. ``to``: an
    id; ``port``: as "5432/tcp"; ``calls``: new connections; ``last``: the last one, Unix
    seconds."""

    to: str
    port: str
    calls: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What came of the last 'neti verify' there: how many members it reached, of how many that it
    tried; ``missed``: the first ``MAX_MISSED`` that it did not; ``missed_more``: how many besides;
    ``at``: Unix seconds; ``word``: the number in the operators' word that it answers, empty where
    somebody typed it."""

    at: int
    tried: int
    reached: int
    missed: tuple[str, ...] = ()
    missed_more: int = 0
    word: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """``name``: the host's name; ``pid``: its agent's; ``installed``: as ``neti.build`` has it;
    ``problems``: codes of what is wrong;
    ``encryption``: "off", "unable" (no device that works, or Neti is down), "require-unable" (the
    same, and "require" is in effect, or is after 'neti up'), "prefer", "trial" (of "require"),
    "partly" ("require" is in effect, but not with each other site), or "require" where it is with
    all; ``tunnel_port``: where those who encrypt call it; ``member_ports``: "none", "waiting",
    "trial" or "in-force"; ``gateways``: see ``gateways_named``; ``openings``: how many ports are
    open there for a time; ``down``: only while it is;
    ``relaxed``: only while its neti.yml asks for more, or for a time; ``left``: the latest
    ``MAX_LEFT``; ``left_more``: how many there are besides; ``left_since``: from when on that
    is recorded; ``calls``: by members; ``verified``: None until somebody does in this run of the
    agent; ``config_read``: when the configuration was read; ``config_unread``: since when the file
    is another; ``written``: when the document was; all in Unix seconds. What it does not say is
    empty, or None for the rest."""

    name: str = ""
    pid: int | None = None
    version: str = ""
    installed: str = ""
    stage: str = ""
    problems: tuple[str, ...] | None = None
    encryption: str = ""
    tunnel_port: int | None = None
    member_ports: str = ""
    gateways: str = ""
    openings: int | None = None
    down: Order | None = None
    relaxed: Order | None = None
    labels: Labels = field(default_factory=lambda: NO_LABELS)
    config_read: int | None = None
    config_unread: int | None = None
    hurts: Hurts | None = None
    left: tuple[Left, ...] | None = None
    left_more: int | None = None
    verified: Verified | None = None
    left_since: int | None = None
    calls: CallsSeen | None = None
    written: int | None = None


# What another member may read: who is in listings and inventories, and who holds an id.
_FOR_MEMBERS: Final = ("name", "pid", "version", "installed", "labels", "written")


def for_members(document: Document) -> Document:
    """What of it any member may read. Which hosts are open is nobody's business but operators'."""
    return Document(**{key: getattr(document, key) for key in _FOR_MEMBERS})


def encode(document: Document) -> bytes:
    """Less than 4 KiB: each part is bounded as the reader bounds it, and what matters least gives
    way: ``left``, its last first; where it hurts, and whom ``verified`` names, likewise; who is
    behind ``relaxed`` and ``down``; the host's name.

    Labels and codes never do: a gate goes by them, and would pass over a host that keeps one to
    itself."""
    written = b""
    for shorter in _ever_shorter(document):
        written = _encoded(shorter)
        if len(written) <= _MOST_BYTES:
            break
    return written


def _ever_shorter(document: Document) -> Iterator[Document]:
    yield document
    while document.left:
        # Where none has room it is not said, which is not the same as that there is none.
        more = (document.left_more or 0) + 1
        document = replace(document, left=document.left[:-1] or None, left_more=more)
        yield document
    while document.hurts is not None and document.hurts.at:
        document = replace(document, hurts=replace(document.hurts, at=document.hurts.at[:-1]))
        yield document
    while document.verified is not None and document.verified.missed:
        said = document.verified
        fewer = replace(said, missed=said.missed[:-1], missed_more=said.missed_more + 1)
        document = replace(document, verified=fewer)
        yield document
    for order in ("relaxed", "down"):
        if (said := getattr(document, order)) is not None:
            document = replace(document, **{order: replace(said, by="")})
            yield document
    yield replace(document, name="")


def _encoded(document: Document) -> bytes:
    plain = {
        **{key: getattr(document, key) for key in Document.__slots__},
        "name": printable(document.name, _MAX_NAME),
        "problems": None if document.problems is None else _gravest(document.problems),
        "labels": dict(readable(dict(document.labels))),
        "down": _plain(document.down),
        "relaxed": _plain(document.relaxed),
        "hurts": None if document.hurts is None else document.hurts.plain(),
        "verified": None if document.verified is None else asdict(document.verified),
        "calls": None if document.calls is None else asdict(document.calls),
        "left": None if document.left is None else [astuple(one) for one in document.left],
    }
    said = {
        key: value
        for key, value in plain.items()
        if value not in (None, "", {}) and (key, value) != ("left_more", 0)
    }
    text = json.dumps({"format": FORMAT, **said}, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="replace")


def _gravest(codes: Iterable[str]) -> list[str]:
    """As many as a reader takes, first those that keep a host from being in step."""
    return sorted(codes, key=lambda code: (code not in OUT_OF_STEP, code))[:MAX_CODES]


def _plain(order: Order | None) -> dict[str, Any] | None:
    return None if order is None else {**asdict(order), "by": printable(order.by, _MAX_NAME)}


def of_one_writing(raw: bytes, report: Document) -> bool:
    """Whether the same agent wrote this document and the report at the same time. It looks at
    three keys, which takes a fifth of the time of ``decode``."""
    held = _held(raw)
    return all(
        getattr(report, key) == (_READERS[key](held[key]) if key in held else nothing)
        for key, nothing in _AUTHOR
    )


_AUTHOR: Final = (("version", ""), ("pid", None), ("written", None))


def _held(raw: bytes) -> dict[str, Any]:
    try:
        held: Any = json.loads(raw[:MAX_DETAIL_BYTES].decode())
    except (ValueError, RecursionError):
        return {}
    return held if isinstance(held, dict) else {}


def decode(raw: bytes) -> Document:
    """What can be read of it; the rest is ignored."""
    held = _held(raw)
    # By the keys that are there: most hosts say a dozen of two dozen, and there may be thousands.
    said = {key: read(value) for key, value in held.items() if (read := _READERS.get(key))}
    return Document(**said)


def gateways_named(by_site: Mapping[str, Iterable[str]]) -> str:
    """A digest of whom a neti.yml names as gateways, so that files can be told apart: hosts that
    name others wait for each other at different ones. Empty: it names none."""
    lists = [f"{site}={','.join(sorted(ids))}" for site, ids in sorted(by_site.items()) if ids]
    return sha256("\n".join(lists).encode()).hexdigest()[:_DIGITS] if lists else ""


def _text(value: object, form: re.Pattern[str]) -> str:
    return value if isinstance(value, str) and form.fullmatch(value) is not None else ""


def _line(value: object) -> str:
    return printable(value, _MAX_NAME) if isinstance(value, str) else ""


def _number(value: object, least: int, most: int) -> int | None:
    return value if type(value) is int and least <= value <= most else None


def _order(value: object) -> Order | None:
    if not isinstance(value, dict):
        return None
    by, at, until = value.get("by"), time_of(value.get("at")), time_of(value.get("until"))
    return Order(by=_line(by), at=at, until=until)


def _verified(value: object) -> Verified | None:
    if not isinstance(value, dict):
        return None
    at = time_of(value.get("at"))
    tried, reached, more = (
        _number(value.get(key), 0, _MANY) for key in ("tried", "reached", "missed_more")
    )
    named = value.get("missed")
    if at is None or tried is None or reached is None or more is None:
        return None
    if not isinstance(named, list) or reached > tried:
        return None
    missed = tuple(i for each in named[:MAX_MISSED] if (i := _text(each, HOST_ID)))
    word = _text(value.get("word"), _WORD)
    return Verified(at=at, tried=tried, reached=reached, missed=missed, missed_more=more, word=word)


def _called(value: object) -> CallsSeen | None:
    if not isinstance(value, dict):
        return None
    since, at = time_of(value.get("since")), time_of(value.get("at"))
    if since is None or at is None:
        return None
    last, opened = time_of(value.get("last")), _number(value.get("open"), 0, _MANY)
    return CallsSeen(since=since, at=at, last=last, open=opened)


def _left(value: object) -> tuple[Left, ...] | None:
    if not isinstance(value, list):
        return None
    found = []
    for each in value[:MAX_LEFT]:
        if isinstance(each, list) and len(each) == len(Left.__slots__):
            to, port = _text(each[0], HOST_ID), port_of(each[1])
            calls, last = _number(each[2], 1, _MANY), time_of(each[3])
            if to and port and calls is not None and last is not None:
                found.append(Left(to=to, port=port, calls=calls, last=last))
    return tuple(found)


def _codes(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(sorted({code for each in value if (code := _text(each, _CODE))})[:MAX_CODES])


def _word(form: re.Pattern[str]) -> Callable[[object], str]:
    # A fleet of thousands has a handful of versions, stages and ways to install.
    fits = lru_cache(maxsize=256)(lambda text: form.fullmatch(text) is not None)
    return lambda v: v if isinstance(v, str) and len(v) <= _MOST_WORD and fits(v) else ""


def _whole(least: int, most: int) -> Callable[[object], int | None]:
    return lambda value: _number(value, least, most)


_READERS: Final[Mapping[str, Callable[[object], Any]]] = {
    "name": _line,
    "pid": _whole(1, _MANY - 1),
    "version": _word(_VERSION),
    "installed": _word(_STAGE),
    "stage": _word(_STAGE),
    "problems": _codes,
    "encryption": _word(_STAGE),
    "tunnel_port": _whole(1, 65_535),
    "member_ports": _word(_STAGE),
    "gateways": _word(_DIGEST),
    "openings": _whole(0, _MANY - 1),
    "down": _order,
    "relaxed": _order,
    "labels": readable,
    "config_read": time_of,
    "config_unread": time_of,
    "hurts": read_hurts,
    "left": _left,
    "left_more": _whole(1, _MANY),
    "verified": _verified,
    "left_since": time_of,
    "calls": _called,
    "written": time_of,
}
