"""What the agent keeps on disk, as values and as the text of a file. Pure.

Every text is lines of ``checksum json``. One that was torn or edited is told by its checksum, and
one of another machine by the fingerprint in it.
"""

import base64
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from typing import Any, Final

from neti.absence import Hold
from neti.agent.durable import line
from neti.model import Host, IPAddress
from neti.registry import Origin, Session
from neti.stage import Record, Trial

# No host id: a journal's first line, which says how many lines belong to its base.
_HEADER: Final = "#"


@dataclass(frozen=True, slots=True)
class Remembered:
    """One accepted member as the last good state keeps it. ``lost_since``: Unix seconds."""

    name: str
    more: tuple[IPAddress, ...] = ()
    lost_since: float | None = None
    leased: bool = False  # the lease was read and is this host's
    hold: Hold | None = None


@dataclass(frozen=True, slots=True)
class Self:
    """What a restarted agent knows of itself. ``structure_text`` is what was asked for,
    ``structure_seen`` how the kernel listed it: equal to today's listing, nothing was touched.
    ``origin``: the registry as it was last seen. The rest is what ``neti restore`` needs."""

    overlay: str | None = None
    entry: str | None = None
    structure_text: str | None = None
    structure_seen: str | None = None
    origin: Origin | None = None
    host: Host | None = None
    uplinks: tuple[str, ...] = ()
    ssh_untracked: bool = False


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a journal. ``base``: how many lines behind it were written with it: only
    all of them together are a fleet."""

    machine: str
    base: int


# --- the journal of members ---


def header_line(header: Header) -> bytes:
    return line({_HEADER: [header.machine, header.base]})


def header_of(document: Mapping[str, Any]) -> Header | None:
    if _HEADER not in document:
        return None
    machine, base = document[_HEADER]
    return Header(str(machine), int(base))


def changes_line(changes: Mapping[str, Remembered | None]) -> bytes:
    """None: gone."""
    return line({host_id: _plain(held) for host_id, held in changes.items()})


def apply_changes(members: dict[str, Remembered], document: Mapping[str, Any]) -> None:
    for host_id, record in document.items():
        if record is None:
            members.pop(host_id, None)
        else:
            members[host_id] = _remembered(record)


def _plain(held: Remembered | None) -> list[Any] | None:
    if held is None:
        return None
    hold = [held.hold.since, held.hold.reason, held.hold.doubt] if held.hold is not None else None
    return [held.name, [str(a) for a in held.more], held.lost_since, held.leased, hold]


def _remembered(record: list[Any]) -> Remembered:
    name, more, lost_since, leased, hold = record
    return Remembered(
        str(name),
        tuple(ipaddress.ip_address(address) for address in more),
        None if lost_since is None else float(lost_since),
        bool(leased),
        None if hold is None else Hold(float(hold[0]), str(hold[1]), bool(hold[2])),
    )


# --- single documents ---


def self_document(itself: Self) -> dict[str, Any]:
    host = itself.host
    return {
        **asdict(itself),
        "host": None
        if host is None
        else {
            "id": host.id,
            "site": host.site,
            "private": str(host.private),
            "public": str(host.public) if host.public else None,
            "more": [str(address) for address in host.more],
        },
    }


def self_of(document: dict[str, Any]) -> Self:
    host, origin = document["host"], document["origin"]
    return Self(
        **{
            **document,
            "uplinks": tuple(document["uplinks"]),
            "origin": Origin(**origin) if origin is not None else None,
            "host": None
            if host is None
            else Host(
                id=host["id"],
                site=host["site"],
                private=IPv4Address(host["private"]),
                public=IPv4Address(host["public"]) if host["public"] else None,
                more=tuple(ipaddress.ip_address(address) for address in host["more"]),
            ),
        }
    )


def session_document(session: Session) -> dict[str, Any]:
    return {"id": session.id, "password": base64.b64encode(session.password).decode()}


def session_of(document: dict[str, Any]) -> Session:
    password = base64.b64decode(document["password"], validate=True)
    return Session(int(document["id"]), password)


def record_document(record: Record) -> dict[str, Any]:
    return asdict(record)


def record_of(document: dict[str, Any]) -> Record:
    trial = document["trial"]
    return Record(
        **{
            **document,
            "trial": Trial(**trial) if trial is not None else None,
            "why": tuple(document["why"]),
        }
    )


def window_document(window: Mapping[str, float]) -> dict[str, Any]:
    return {"let_go": dict(window)}


def window_of(document: dict[str, Any]) -> dict[str, float]:
    return {str(host_id): float(at) for host_id, at in document["let_go"].items()}


def base_lines(members: Iterable[tuple[str, Remembered]], machine: str) -> list[bytes]:
    """A whole journal, its header first."""
    lines = [changes_line({host_id: held}) for host_id, held in members]
    return [header_line(Header(machine, len(lines))), *lines]
