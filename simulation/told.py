"""What the registry means to a host, worked out anew from names and leases alone.

Nothing of Neti's own judgement is used for it but the reading of a name. Must never do: ask an
agent.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from neti.errors import EntryError
from neti.model import Member, entry
from neti.registry import Registry
from neti.ruleset.objects import REVOKED_BY, KernelState
from neti.ruleset.set_names import SetName

_SITE: Final = "ec2"


@dataclass(frozen=True, slots=True)
class Told:
    """What the registry says at one moment."""

    members: dict[str, Member]
    leases: Mapping[IPv4Address, str]
    faults: tuple[str, ...]


def told_by(registry: Registry) -> Told:
    """Read it, and judge it: one name for each id, one lease for each id, no half of one."""
    faults = []
    members: dict[str, Member] = {}
    names = registry.names()
    data = registry.data(names)
    # Behind the names: a host that joins meanwhile has its lease before it is registered.
    leases = registry.leases()
    for name in sorted(names):
        try:
            parsed = entry.parse(name)
        except EntryError:
            continue
        if not isinstance(parsed, Member):
            continue
        if parsed.id in members:
            faults.append(f"registry: {parsed.id} is registered twice")
        more = entry.parse_data(data.get(name, b""))
        members[parsed.id] = replace(parsed, more=more)
        if leases.get(parsed.overlay) != parsed.id:
            faults.append(f"registry: {parsed.id} claims {parsed.overlay}, which is not its lease")
    twice = {owner for owner, count in Counter(leases.values()).items() if count > 1}
    faults += [f"registry: {host_id} has two leases" for host_id in sorted(twice)]
    for overlay, host_id in leases.items():
        if host_id in members and registry.lease_of(host_id) != overlay:
            faults.append(f"registry: the halves of {host_id}'s lease disagree")
    return Told(members, leases, tuple(faults))


def expected_sets(
    told: Told, host_id: str, site: str = _SITE, *, required: bool = False
) -> dict[SetName, dict[str, str]]:
    """What these members mean to the kernel of this host in this site. ``required``: those of
    another site are reached, and let in, through the tunnel alone."""
    overlay: dict[str, str] = {}
    peers4: set[str] = set()
    peers6: set[str] = set()
    for member in told.members.values():
        near = member.site == site
        if member.id == host_id:
            overlay[str(member.overlay)] = str(member.private)
            continue
        if required and not near:
            continue
        reached = member.private if near else member.public
        if reached is not None:
            overlay[str(member.overlay)] = str(reached)
        peers4 |= {str(member.private)} if near else set()
        peers4 |= {str(member.public)} if member.public is not None else set()
        for address in member.more:
            (peers6 if isinstance(address, IPv6Address) else peers4).add(str(address))
    return {
        "overlay": overlay,
        "peers4": dict.fromkeys(peers4, ""),
        "peers6": dict.fromkeys(peers6, ""),
    }


def differing(
    kernel: KernelState, told: Told, host_id: str, site: str = _SITE, *, required: bool = False
) -> Iterator[str]:
    """In what the kernel differs from what the registry told."""
    if kernel.structure is None:
        yield "kernel: there is no table"
        return
    for where, expected in expected_sets(told, host_id, site, required=required).items():
        held = dict(kernel.elements.get(where, {}))
        yield from same(f"kernel: {where}", set(held), set(expected))
        for key in held.keys() & expected.keys():
            if held[key] != expected[key]:
                yield f"kernel: {where} {key} leads to {held[key]}, not {expected[key]}"
    for peers, revoked in REVOKED_BY.items():
        both = kernel.elements.get(peers, {}).keys() & kernel.timed.get(revoked, {}).keys()
        if both:
            yield f"kernel: {min(both)} is a peer and revoked"


def same(what: str, held: set[str], expected: set[str]) -> Iterator[str]:
    """In what two sets differ, in words."""
    if extra := held - expected:
        yield f"{what}: {len(extra)} too many, {min(extra)} for one"
    if missing := expected - held:
        yield f"{what}: {len(missing)} missing, {min(missing)} for one"
