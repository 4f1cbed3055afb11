"""What the registry says of a whole fleet, as one value. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from neti.fleet.fleet import Fleet
from neti.model import Member
from neti.registry import HostRead
from neti.registry.detail import Document


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What the registry says. ``told``: by host id, what a host says about itself ("version",
    "stage"), if that was read. ``skipped``: entries that agents ignore, with the reason.
    ``present``: ids with an entry, ignored or not."""

    members: Mapping[str, Member]
    told: Mapping[str, Document]
    leases: Mapping[str, IPv4Address]
    skipped: Mapping[str, str]
    present: frozenset[str] = frozenset()


def id_of(name: str) -> str:
    """The host id that an entry claims, whatever else is wrong with it. EC2's ids have no dot."""
    return name.rpartition(".")[2]


def answer(
    fleet: Fleet,
    owners: Mapping[IPv4Address, str],
    records: Callable[[Iterable[str]], Mapping[str, HostRead]] = lambda _ids: {},
    made: Callable[[Iterable[str]], Mapping[str, int]] = lambda _names: {},
) -> frozenset[str]:
    """Answer what the fleet asks about leases and records until it asks no more, as an agent does,
    whose questions follow from the answers: only so each of a crowd of entries is looked at.
    ``records``, ``made``: these are read only when they are asked for. Returns the entries whose
    data are to be read."""
    data: set[str] = set()
    while asked := fleet.questions():
        data |= asked.data
        for overlay in asked.leases:
            fleet.lease_read(overlay, owners.get(overlay))
        found = records(asked.hosts) if asked.hosts else {}
        for host_id in asked.hosts:
            fleet.host_read(found.get(host_id, HostRead(host_id, None)), now=0.0)
        steps = made(asked.data) if asked.data and fleet.reads_records else {}
        for name in asked.data:
            fleet.data_read(name, None, steps.get(name, 0))
    return frozenset(data)
