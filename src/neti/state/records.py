"""What the agent keeps on disk, as values and as the text of a file. Pure.

Every text is lines of ``checksum json``. One that was torn or edited is told by its checksum, and
one of another machine by the fingerprint in it.

Versions read each other's files. What a reader does not know it passes over, and what is missing
has the value that it had before there was such a key. Within one ``format`` nothing but that may
change: no key gets another meaning or type, none is taken away. ``FORMAT`` rises when that cannot
be kept. Of a document with a later format that much is used that keeps a host enforced (its stage,
its members, who it is), if all of it can be read; the rest is refused (``KeyError, TypeError,
ValueError``). Whoever calls leaves such a document where it is.
"""

import base64
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Final

from neti.durable import line
from neti.fleet.lost import Hold
from neti.fleet.remembered import Remembered
from neti.model import Host
from neti.model.document import read
from neti.model.wireguard_key import PrivateKey, PublicKey
from neti.registry import Origin, Session
from neti.registry.retired import Retired
from neti.ruleset.plan import SeenStructure
from neti.stage.stages import Record

FORMAT: Final = 1
# No host id: a journal's first line, which says how many lines belong to its base.
_HEADER: Final = "#"
_GONE: Final = "gone"


@dataclass(frozen=True, slots=True)
class Self:
    """What a restarted agent knows of itself. ``structure_text`` is what was asked for,
    ``structure_seen`` how the kernel listed it: equal to today's listing, nothing was touched.
    ``origin``: the registry as it was last seen. ``followed``: ids of operators' releases for the
    whole fleet. ``strict``: the fleet in which an operator said that only what hosts' records name
    is believed. ``retired``: that an operator took this host out; ``let_in``: when one took that
    back last, in Unix seconds. ``via``, ``behind``: this host's part in gateways, as ``GatewayEnd``
    has it. The rest is what ``neti restore`` needs."""

    overlay: str | None = None
    entry: str | None = None
    structure_text: str | None = None
    structure_seen: str | None = None
    origin: Origin | None = None
    host: Host | None = None
    uplinks: tuple[str, ...] = ()
    ssh_untracked: bool = False
    followed: tuple[str, ...] = ()
    strict: str | None = None
    retired: Retired | None = None
    let_in: int | None = None
    via: IPv4Address | None = None
    behind: bool = False

    @property
    def structure(self) -> SeenStructure | None:
        """As the last run left it in the kernel, when that is known."""
        if self.structure_text is None or self.structure_seen is None:
            return None
        return SeenStructure(self.structure_text, self.structure_seen)


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a journal. ``base``: how many lines behind it were written with it: only
    all of them together are a fleet. ``newer``: a version that came after this one wrote it."""

    machine: str
    base: int
    newer: bool = False


# --- the journal of members ---


def header_line(header: Header) -> bytes:
    return line({_HEADER: [header.machine, header.base, FORMAT]})


def header_of(document: Mapping[str, Any]) -> Header | None:
    if _HEADER not in document:
        return None
    machine, base, *more = document[_HEADER]
    return Header(str(machine), int(base), is_newer(more[0] if more else FORMAT))


def is_newer(number: Any) -> bool:
    """Whether a document with this ``format`` was written by a version that came after this one."""
    return not isinstance(number, int) or number > FORMAT


def changes_line(changes: Mapping[str, Remembered | None]) -> bytes:
    """None: gone."""
    return line({host_id: _plain(held) for host_id, held in changes.items()})


def apply_changes(members: dict[str, Remembered], document: Mapping[str, Any]) -> None:
    for host_id, record in document.items():
        if record is None:
            members.pop(host_id, None)
        else:
            members[host_id] = _remembered(record)


def gone_line(gone: Mapping[str, int]) -> bytes:
    return line({_GONE: dict(gone)})


def apply_gone(gone: dict[str, int], document: Mapping[str, Any]) -> None:
    """The latest last. What else a line says is for a version that came after this one."""
    for host_id, generation in document[_GONE].items():
        gone.pop(host_id, None)
        gone[str(host_id)] = int(generation)


def _plain(held: Remembered | None) -> list[Any] | None:
    if held is None:
        return None
    hold = None
    if held.hold is not None:
        one = held.hold
        hold = [one.since, one.reason, one.doubt, one.said, one.older]
    more = [str(address) for address in held.more]
    key = None if held.key is None else str(held.key)
    return [held.name, more, held.lost_since, held.leased, hold, held.passing, key]


def _remembered(record: list[Any]) -> Remembered:
    name, more, lost_since, leased, hold, *later = record
    # Since later versions; what is missing is what it was before there was such a thing.
    passing = later[0] if later else False
    key = later[1] if len(later) > 1 else None
    return Remembered(
        str(name),
        tuple(ipaddress.ip_address(address) for address in more),
        None if lost_since is None else float(lost_since),
        bool(leased),
        None if hold is None else _hold(*hold),
        bool(passing),
        None if key is None else PublicKey.parse(str(key)),
    )


def _hold(
    since: Any, reason: Any, doubt: Any, said: Any = False, older: Any = None, *_newer: Any
) -> Hold:
    """An earlier version took each registry in doubt for one that may be an older copy."""
    may_be_older = bool(doubt if older is None else older)
    return Hold(float(since), str(reason), bool(doubt), bool(said), may_be_older)


# --- single documents that are not just their fields ---


def session_document(session: Session) -> dict[str, Any]:
    return {"id": session.id, "password": base64.b64encode(session.password).decode()}


def session_of(document: dict[str, Any]) -> Session:
    password = base64.b64decode(document["password"], validate=True)
    return Session(int(document["id"]), password)


def key_document(key: PrivateKey) -> dict[str, Any]:
    return {"private": key.text()}


def key_of(document: dict[str, Any]) -> PrivateKey:
    return PrivateKey.parse(str(document["private"]))


def record_of(document: dict[str, Any]) -> Record:
    """Whether it is confirmed must be there: all else may be missing. Who said it is no reason not
    to believe what was said."""
    if document.get("confirmed") is None:
        raise KeyError("confirmed")
    said_by = "command" if document.get("by") == "command" else "configuration"
    return read(Record, {**document, "by": said_by})


def window_document(window: Mapping[str, float]) -> dict[str, Any]:
    return {"let_go": dict(window)}


def window_of(document: dict[str, Any]) -> dict[str, float]:
    return {str(host_id): float(at) for host_id, at in document["let_go"].items()}


def base_lines(members: Iterable[tuple[str, Remembered]], machine: str) -> list[bytes]:
    """A whole journal, its header first."""
    lines = [changes_line({host_id: held}) for host_id, held in members]
    return [header_line(Header(machine, len(lines))), *lines]
