"""The registry as commands about the whole fleet see it: what every agent would believe."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neti import listing
from neti.admission import Admission
from neti.agent import control
from neti.agent.control import AgentUnreachable
from neti.aws.report import Registered, id_of
from neti.cli.common import registry_of
from neti.cli.output import say
from neti.errors import RegistryUnavailable
from neti.fleet import Fleet
from neti.identity.preflight import registry_addresses
from neti.listing import Row, told_of
from neti.model import IPAddress, Member
from neti.registry import Registry
from neti.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """``told``: what each host says of itself; ``taken``: what no host may be called beside the
    members' ids; ``skipped``: entries that no agent believes, of which the first are named."""

    members: Mapping[str, Member]
    told: Mapping[str, Mapping[str, str]]
    taken: frozenset[str]
    skipped: Mapping[str, str]
    skipped_count: int

    def rows(self) -> list[Row]:
        return listing.rows(self.members, self.told, self.taken)


def read(settings: Settings, registry: Registry) -> Registered:
    """Members by the agents' own judgement; reads, changes nothing."""
    fleet, leases, told = _judged(settings, registry)
    return Registered(
        members=dict(fleet.members),
        told=told,
        leases=leases,
        # All of them: of whom is not named it would be said that it has no agent.
        skipped=_all_skipped(fleet),
        present=frozenset(map(id_of, fleet.names)),
    )


def seen(settings: Settings) -> Seen:
    """From the registry; where that does not answer, from this host's agent, with a word on stderr.

    Raises RegistryUnavailable when neither can be asked.
    """
    try:
        with registry_of(settings) as registry:
            fleet, leases, told = _judged(settings, registry)
    except RegistryUnavailable as away:
        try:
            members = control.call(settings.table_files_path, "members")
        except AgentUnreachable:
            raise away from None
        say(
            f"neti: {away}",
            "neti: this is what this host's agent knew last; names, versions and stages are not "
            "known",
            err=True,
        )
        return _by_the_agent(settings, members)
    return Seen(
        members=fleet.members,
        told=told,
        taken=frozenset({*leases, *settings.sites}),
        skipped=_all_skipped(fleet),
        skipped_count=fleet.skipped_count(),
    )


def _by_the_agent(settings: Settings, members: list[dict[str, Any]]) -> Seen:
    return Seen(
        members={one["id"]: _member(one) for one in members},
        told={},
        taken=frozenset(settings.sites),
        skipped={},
        skipped_count=0,
    )


def _member(told: dict[str, Any]) -> Member:
    return Member(
        id=told["id"],
        site=told["site"],
        private=ipaddress.IPv4Address(told["private"]),
        public=ipaddress.IPv4Address(told["public"]) if told["public"] else None,
        overlay=ipaddress.IPv4Address(told["overlay"]),
    )


def _judged(
    settings: Settings, registry: Registry
) -> tuple[Fleet, dict[str, ipaddress.IPv4Address], dict[str, dict[str, str]]]:
    owners = registry.leases()
    admission = Admission(
        sites=settings.sites,
        overlay_subnet=settings.overlay_subnet,
        reserved=frozenset(registry_addresses(settings, resolve=_literally)),
    )
    fleet = Fleet(admission, linger_seconds=settings.linger_seconds)
    fleet.snapshot(registry.names(), now=0.0)
    for overlay in fleet.questions().leases:
        fleet.lease_read(overlay, owners.get(overlay))
    told = {detail.host_id: told_of(detail.document) for detail in registry.details()}
    return fleet, {host_id: overlay for overlay, host_id in owners.items()}, told


def _all_skipped(fleet: Fleet) -> dict[str, str]:
    return fleet.skipped(max(len(fleet.names), 1))


def _literally(name: str) -> list[IPAddress]:
    """Looking at the fleet must not wait for DNS."""
    try:
        return [ipaddress.ip_address(name)]
    except ValueError:
        return []
