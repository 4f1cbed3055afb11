"""Records for the hosts that have leases: what ``neti registry init`` makes before members may.

Must never do: give a record to anybody but whom the whole lease belongs to.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Final

from kazoo.exceptions import NodeExistsError
from kazoo.protocol.serialization import Create
from kazoo.security import Id

from neti.model.entry import HOST_ID
from neti.registry.record import HostRecord, encode
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.calls import Attempt
from neti.registry.zookeeper.layout import Layout
from neti.registry.zookeeper.leases import overlay_of

# What ``hosts`` says while its first records are made: nobody may create there yet, and that is not
# an operator's wish. Afterwards it says nothing.
UNFINISHED: Final = b"init"
_PART: Final = 500


@dataclass(frozen=True, slots=True)
class Begun:
    """A record that is to be made."""

    id: str
    overlay: IPv4Address
    subject: str


def missing(
    attempt: Attempt, layout: Layout, gone: Collection[str] = ()
) -> tuple[tuple[Begun, ...], tuple[str, ...]]:
    """Of whole leases without a record; and the ids of those that belong to no certificate, or to
    several: whoever comes first gets these. ``gone``: records that are there and will not be."""
    begun: list[Begun] = []
    without: list[str] = []
    there = {i for i in attempt.names(layout.hosts) if layout.host(i) not in gone}
    ids = [i for i in attempt.names(layout.id_to_ip) if HOST_ID.fullmatch(i) and i not in there]
    for part in _parts(sorted(ids)):
        attempt.go_on()
        closed: set[str] = set()
        halves = attempt.read([layout.by_id(i) for i in part], unread=closed)
        held = {
            i: o for i, half in zip(part, halves, strict=True) if (o := overlay_of(half or b""))
        }
        others = [layout.by_overlay(overlay) for overlay in held.values()]
        holders = attempt.read(others, unread=closed)
        paths = [layout.by_id(host_id) for host_id in held]
        acls = attempt.acls([*paths, *others], unread=closed)
        for number, (host_id, overlay) in enumerate(held.items()):
            if holders[number] != host_id.encode():
                continue  # half a lease, which 'neti registry check' names
            both = {tuple(rights.owners(acl)) for acl in (acls[number], acls[len(held) + number])}
            match list(both):
                case [(subject,)]:
                    begun.append(Begun(host_id, overlay, subject))
                case _:
                    without.append(host_id)
    return tuple(begun), tuple(without)


def make(attempt: Attempt, layout: Layout, begun: Sequence[Begun], parent: rights.Rights) -> None:
    """May be repeated. One that is there meanwhile stays as it is."""
    for part in _parts(begun):
        attempt.go_on()
        requests = [
            Create(
                layout.host(one.id),
                encode(HostRecord(overlay=one.overlay)),
                rights.of_child(parent, also=rights.WRITE, owner=Id("x509", one.subject)),
                0,
            )
            for one in part
        ]
        for answer in attempt.each(requests):
            if isinstance(answer, Exception) and not isinstance(answer, NodeExistsError):
                raise answer


def _parts(every: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for first in range(0, len(every), _PART):
        yield every[first : first + _PART]
