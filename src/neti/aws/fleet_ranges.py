"""The fleet's own addresses as sources for ``neti aws ip-ranges --fleet``. Pure.

A lost host is not registered, but it may be healthy. Its lease says that it still belongs to the
fleet, so its addresses stay until the lease is released. Must never mistake a prefix that an
earlier run widened for one that was asked for.
"""

import bisect
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from neti.aws.fleet_memory import Memory, Seen
from neti.aws.groups import description
from neti.aws.ip_ranges import FLEET, GATEWAYS, TUNNEL_FLEET, Shape, Sources, sources
from neti.aws.prefixes import aggregate
from neti.errors import NetiError
from neti.model import Member, Site
from neti.ruleset.reach import by_link

_MANY: Final = re.compile(rf"(?:{FLEET}|{TUNNEL_FLEET}|{GATEWAYS}): \d+ hosts")
_FEW: Final = 4  # smaller fleets may lose any share of their addresses at once


@dataclass(frozen=True, slots=True)
class FleetSources:
    """``kept``: addresses and prefixes of hosts that hold a lease but are not registered at the
    moment. ``removed`` of ``held``: how many sources would no longer be let in."""

    sources: Sources
    kept: tuple[str, ...]
    without_public: tuple[str, ...]
    memory: Memory
    held: int
    removed: int


def of_fleet(
    members: Iterable[Member],
    leased: Collection[str],
    held: Mapping[str, str],
    *,
    group: str,
    memory: Memory,
    own_site: str | None,
    sites: Mapping[str, Site],
    shape: Shape,
    only: Collection[str] | None = None,
) -> FleetSources:
    """For a group in ``own_site``, whose members reach each other by private address. ``held``:
    what earlier runs let in, description by CIDR. ``only``: the sites that are let in; None: all
    others."""
    everybody = list(members)
    if not everybody:
        raise NetiError(
            "the registry has no members. Nothing was changed, because an empty answer may be wrong"
        )
    now = memory.of_now(everybody, leased)
    registered = {member.id for member in everybody}
    lost = set(leased) - registered
    ids: dict[str, list[str]] = {}
    for host_id, seen in sorted(now.hosts.items()):
        for address in _addresses(seen, own_site, sites, only):
            ids.setdefault(f"{address}/32", []).append(host_id)
    widened = [cidr for cidr, told in held.items() if _MANY.match(told)]
    unknown = memory.unknown(group, widened, lost)
    named = [
        cidr
        for cidr, told in held.items()
        if cidr not in ids and not _MANY.match(told) and _names_one(told, lost - now.hosts.keys())
    ]
    kept = [cidr for cidr, hosts in ids.items() if not registered.intersection(hosts)]
    made = _sources(ids, {cidr: held[cidr] for cidr in (*named, *unknown)}, shape)
    before, after = _held(memory, group, held, own_site, sites, only), _Covered(made.cidrs)
    return FleetSources(
        sources=made,
        kept=(*kept, *named, *unknown),
        without_public=tuple(
            member.id
            for member in everybody
            if member.site != own_site
            and (only is None or member.site in only)
            and not any(_addresses(_seen(member), own_site, sites, only))
        ),
        memory=now.after(group, held=held.keys(), planned=made.cidrs, kept=unknown),
        held=len(before),
        removed=sum(not after.touches(network) for network in before),
    )


def refuse_mass_removal(held: int, removed: int) -> None:
    """Half of the fleet does not leave at once, but a registry that lost its data looks like
    that."""
    if held >= _FEW and removed * 2 > held:
        raise NetiError(
            f"{removed} of the fleet's {held} authorised addresses would be removed at once: "
            "nothing was changed. Check 'neti fleet'; if they are really gone, add "
            "--allow-removals"
        )


def _seen(member: Member) -> Seen:
    return Seen(site=member.site, private=member.private, public=member.public)


def _addresses(
    seen: Seen, own_site: str | None, sites: Mapping[str, Site], only: Collection[str] | None
) -> Iterator[IPv4Address]:
    """The addresses from which the host reaches ``own_site``; none if it is in that site, or in
    one that is not let in."""
    if seen.site == own_site or (only is not None and seen.site not in only):
        return
    own, its = sites.get(own_site or ""), sites.get(seen.site)
    peered = by_link(own, its)
    if peered:
        yield seen.private
    if seen.public is not None and not (peered and by_link(its, own)):
        yield seen.public


def _sources(ids: Mapping[str, list[str]], kept: Mapping[str, str], shape: Shape) -> Sources:
    """``kept`` prefixes are let in although no host asks for them, so they do not count as asked
    for."""
    asked = len(ids.keys() | {cidr for cidr in kept if cidr.endswith("/32")})
    if shape.max_rules is None:
        told = {cidr: description(shape.mark, ", ".join(hosts)) for cidr, hosts in ids.items()}
        made = Sources(4, dict(sorted((told | dict(kept)).items())), asked)
    else:
        networks = [IPv4Network(cidr) for cidr in (*ids, *kept)]
        hosts = len({host for several in ids.values() for host in several})
        made = sources(networks, 4, f"{hosts} hosts", shape)
    opened = sum(n.num_addresses for n in aggregate(map(IPv4Network, made.cidrs)))
    return replace(made, asked=asked, surplus=opened - asked)


def _held(
    memory: Memory,
    group: str,
    held: Mapping[str, str],
    own_site: str | None,
    sites: Mapping[str, Site],
    only: Collection[str] | None,
) -> list[IPv4Network]:
    """What is let in now, for counting: as host addresses where it is known which hosts they
    are."""
    covered = _Covered(held)
    hosts = {
        IPv4Network(address)
        for seen in memory.hosts.values()
        for address in _addresses(seen, own_site, sites, only)
    }
    known = {network for network in hosts if covered.touches(network)}
    made = memory.left.get(group, frozenset())
    others = {
        IPv4Network(cidr) for cidr, told in held.items() if not (_MANY.match(told) and cidr in made)
    }
    return [*known, *(others - known)]


class _Covered:
    """Whether a network shares an address with any of these, however many they are."""

    def __init__(self, cidrs: Iterable[str]) -> None:
        networks = aggregate(map(IPv4Network, cidrs))
        self._first = [int(network.network_address) for network in networks]
        self._last = [int(network.broadcast_address) for network in networks]

    def touches(self, network: IPv4Network) -> bool:
        place = bisect.bisect_right(self._first, int(network.broadcast_address)) - 1
        return place >= 0 and self._last[place] >= int(network.network_address)


def _names_one(told: str, lost: Collection[str]) -> bool:
    hosts = told.partition(": ")[2].split(", ")
    return any(host in lost for host in hosts)
