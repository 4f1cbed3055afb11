"""The fleet's own public addresses as sources for ``neti aws ip-ranges --fleet``. Pure.

A host whose session ended without a word is not registered, and may be as healthy as ever. Its
lease says that it is still a host of the fleet, so its address stays until the lease is released.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network
from typing import Final

from neti.aws.groups import description
from neti.aws.ip_ranges import FLEET, Shape, Sources, sources
from neti.errors import NetiError
from neti.model import Member

_MANY: Final = re.compile(rf"{FLEET}: \d+ hosts")
_FEW: Final = 4  # fleets below this may lose any share of their addresses at once


@dataclass(frozen=True, slots=True)
class FleetSources:
    """``kept``: sources of hosts that hold a lease and are not registered just now."""

    sources: Sources
    kept: tuple[str, ...]
    without_public: tuple[str, ...]


def of_fleet(
    members: Iterable[Member],
    leased: Collection[str],
    held: Mapping[str, str],
    *,
    own_site: str | None,
    shape: Shape,
) -> FleetSources:
    """For a group in ``own_site``, whose members are reached by private address. ``held``: what
    earlier runs let in, description by CIDR."""
    everybody = list(members)
    if not everybody:
        raise NetiError(
            "the registry has no member: an empty answer is not acted upon, and nothing was changed"
        )
    others = [member for member in everybody if member.site != own_site]
    ids: dict[str, list[str]] = {}
    for member in sorted(others, key=lambda member: member.id):
        if member.public is not None:
            ids.setdefault(f"{member.public}/32", []).append(member.id)
    lost = set(leased) - {member.id for member in everybody}
    kept = [cidr for cidr, told in held.items() if cidr not in ids and _is_for(told, lost)]
    return FleetSources(
        _sources(ids, {cidr: held[cidr] for cidr in kept}, shape),
        tuple(kept),
        tuple(member.id for member in others if member.public is None),
    )


def refuse_mass_removal(held: int, removed: int) -> None:
    """Half of the fleet does not go at once; a registry that lost its memory looks just so."""
    if held >= _FEW and removed * 2 > held:
        raise NetiError(
            f"{removed} of {held} authorised addresses of the fleet would go at once: nothing was "
            "changed. Look at 'neti fleet'; if it is right, say --allow-removals"
        )


def _sources(ids: Mapping[str, list[str]], kept: Mapping[str, str], shape: Shape) -> Sources:
    if shape.max_rules is None:
        told = {cidr: description(FLEET, ", ".join(hosts)) for cidr, hosts in ids.items()}
        cidrs = dict(sorted((told | dict(kept)).items()))
        return Sources(4, cidrs, sum(IPv4Network(cidr).num_addresses for cidr in cidrs))
    networks = [ip_network(cidr) for cidr in (*ids, *kept)]
    return sources(networks, 4, f"{len(networks)} hosts", shape)


def _is_for(told: str, lost: Collection[str]) -> bool:
    if _MANY.match(told):
        return bool(lost)  # a widened prefix does not say whose it is
    hosts = told.partition(": ")[2].split(", ")
    return any(host in lost for host in hosts)
