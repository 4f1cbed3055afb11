"""The registry as commands about the whole fleet see it: what every agent would believe.

Must never do: change anything in the registry, or wait for DNS.
"""

import contextlib
import ipaddress
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from neti.control.aside import ASIDES
from neti.control.client import AgentUnreachable
from neti.errors import EntryError, NetiError, RegistryUnavailable
from neti.fleet import listing
from neti.fleet.admission import Admission
from neti.fleet.fleet import Fleet
from neti.fleet.names import server_names
from neti.fleet.naming import Words, contests
from neti.fleet.registered import Registered, answer, id_of
from neti.identity.preflight import registry_addresses
from neti.model import Departure, IPAddress, Member, entry
from neti.model.settings import Settings
from neti.oneshot.away import neither
from neti.oneshot.documents import told_by
from neti.registry import OperatorRegistry
from neti.registry.record import HostRecord
from neti.registry.strict import is_strict


def read(settings: Settings, registry: OperatorRegistry, *, documents: bool = True) -> Registered:
    """Members by the agents' own judgement; reads, changes nothing. ``documents``: and what they
    say of themselves, which costs as much again."""
    fleet, leases = judged(settings, registry)
    told = told_by(registry, entries_of(fleet)).by if documents else {}
    return Registered(
        members=dict(fleet.members),
        told=told,
        leases=known_and_expected(registry, fleet, leases)[0],
        # All of them: of whom is not named it would be said that it has no agent.
        skipped=all_skipped(fleet),
        present=frozenset(map(id_of, fleet.names)),
    )


def unregistered(
    settings: Settings, registry: OperatorRegistry, asked: Collection[str] = ()
) -> frozenset[str]:
    """Of those who are ``asked`` about (none: of everybody) the hosts that are not registered.

    Who everybody is, the leases tell, and this host's agent, where there is one: a registry that
    was wiped knows nothing of those who are held because of it.
    """
    fleet, leases = judged(settings, registry)
    known = set(asked) or {*known_and_expected(registry, fleet, leases)[0], *_lost_here(settings)}
    return frozenset(known - fleet.members.keys())


def members_and_away(
    settings: Settings, registry: OperatorRegistry
) -> tuple[dict[str, str | None], frozenset[str]]:
    """As ``entries``, and as ``unregistered`` of everybody."""
    fleet, leases = judged(settings, registry)
    known = {*known_and_expected(registry, fleet, leases)[0], *_lost_here(settings)}
    return entries_of(fleet), frozenset(known - fleet.members.keys())


def known_and_expected(
    registry: OperatorRegistry, fleet: Fleet, leases: Mapping[ipaddress.IPv4Address, str]
) -> tuple[dict[str, ipaddress.IPv4Address], dict[str, ipaddress.IPv4Address]]:
    """By id, and those who got their lease by an operator's admission and never came: nobody
    misses them. A record that was made for a host of a version before names its address."""
    held = _by_id(leases)
    records = registry.records(held.keys() - fleet.members.keys())
    expected = {host_id for host_id, read in records.items() if read.record == HostRecord()}
    known = {host_id: overlay for host_id, overlay in held.items() if host_id not in expected}
    return known, {host_id: held[host_id] for host_id in expected}


def believed(settings: Settings, registry: OperatorRegistry) -> dict[str, str]:
    """By host id the entry that every agent believes by ranges, lease and generation, whether or
    not a record vouches for it."""
    fleet, _ = judged(settings, registry, by_records=False)
    return {host_id: name for host_id, name in entries_of(fleet).items() if name is not None}


def entries(settings: Settings, registry: OperatorRegistry) -> dict[str, str | None]:
    """By id the entry of each member; None: it is not known by which of several it is believed."""
    fleet, _ = judged(settings, registry)
    return entries_of(fleet)


def entries_of(fleet: Fleet) -> dict[str, str | None]:
    return {host_id: entry_of(fleet, host_id) for host_id in fleet.members}


def entry_of(fleet: Fleet, host_id: str) -> str | None:
    """The name by which a member is believed."""
    names = list(fleet.names_of(host_id))
    if len(names) == 1:
        return names[0]
    plain = replace(fleet.members[host_id], more=())
    return next((name for name in names if entry.parse(name) == plain), None)


def heard_of(
    settings: Settings, registry: OperatorRegistry, asked: Collection[str]
) -> frozenset[str]:
    """Ids with a lease or an entry, and those that this host's agent has lost; of those who are
    ``asked`` about also who was admitted, and was never here."""
    names = map(id_of, registry.names())
    known = {*registry.leases().values(), *names, *_lost_here(settings)}
    return frozenset(known | registry.records(set(asked) - known).keys())


def contested_names(settings: Settings, registry: OperatorRegistry) -> list[str]:
    """A sentence for each name that several members want, by the rules of listings."""
    fleet, leases = judged(settings, registry)
    told = told_by(registry, entries_of(fleet)).by
    words = Words(taken=taken(settings), leases=leases, pinned={})
    return [*contests(listing.rows(fleet.members, told, words=words), words)]


def leases(
    settings: Settings,
    registry_of: Callable[[Settings], AbstractContextManager[OperatorRegistry]],
    ask: Callable[[Path, str], Any],
) -> tuple[dict[ipaddress.IPv4Address, str], RegistryUnavailable | None]:
    """Who holds which overlay address; and why the registry does not answer, where these are the
    members that this host's agent knows. Raises RegistryUnavailable when neither can be asked."""
    try:
        with registry_of(settings) as registry:
            return dict(registry.leases()), None
    except RegistryUnavailable as away:
        try:
            members = ask(settings.table_files_path, "members")
        except AgentUnreachable as unreachable:
            raise neither(away, unreachable) from None
        return {ipaddress.IPv4Address(one["overlay"]): one["id"] for one in members}, away


def site_of(registry: OperatorRegistry, host_id: str) -> str | None:
    """That which its entry says, whether it is believed or not; None: it has none."""
    for name in registry.names():
        with contextlib.suppress(EntryError):
            parsed = entry.parse(name)
            if isinstance(parsed, Member) and parsed.id == host_id:
                return parsed.site
    return None


def registered_of(registry: OperatorRegistry, host_ids: Collection[str]) -> set[str]:
    """Those that have an entry; the registry itself refuses to release them then."""
    return registered_and_departed(registry, host_ids)[0]


def registered_and_departed(
    registry: OperatorRegistry, host_ids: Collection[str]
) -> tuple[set[str], set[str]]:
    """Of these hosts those that have an entry, and those that said that they leave."""
    found, departed = set[str](), set[str]()
    for name in registry.names() if host_ids else ():
        with contextlib.suppress(EntryError):
            parsed = entry.parse(name)
            if isinstance(parsed, Member):
                found.add(parsed.id)
            elif isinstance(parsed, Departure):
                departed.add(parsed.id)
    return found & set(host_ids), departed & set(host_ids)


def _lost_here(settings: Settings) -> set[str]:
    with contextlib.suppress(NetiError):
        told = ASIDES.ask(settings.table_files_path, "members")
        return {str(one["id"]) for one in told if one["lost"]}
    return set()


def judged(
    settings: Settings, registry: OperatorRegistry, *, by_records: bool = True
) -> tuple[Fleet, Mapping[ipaddress.IPv4Address, str]]:
    """``by_records``: as strict agents do, where an operator said that they are to be strict."""
    strict = by_records and is_strict(registry.setting("strict"))
    fleet = Fleet(
        _admission(settings),
        linger_seconds=settings.linger_seconds,
        records="strict" if strict else "off",
    )
    owners = registry.leases()
    fleet.leases_are(owners)
    fleet.snapshot(registry.names(), now=0.0)
    answer(fleet, owners, registry.records, registry.made)
    return fleet, owners


def _by_id(leases: Mapping[ipaddress.IPv4Address, str]) -> dict[str, ipaddress.IPv4Address]:
    """Of two for one id, of which one is half a lease, the older."""
    return {host_id: overlay for overlay, host_id in reversed(list(leases.items()))}


def taken(settings: Settings) -> frozenset[str]:
    """Sites, which are groups, and what agents call ZooKeeper's servers by: a hosts file would lead
    them elsewhere."""
    return frozenset({*settings.sites, *server_names(settings)})


def _admission(settings: Settings) -> Admission:
    """That of all agents, each host as the agents of its own site see it: a server's private
    address may well be a host's in another site."""
    by_site = {
        site: frozenset(registry_addresses(settings, site, resolve=_literally))
        for site in settings.sites
    }
    return Admission(
        sites=settings.sites,
        overlay_subnet=settings.overlay_subnet,
        reserved=frozenset.intersection(*by_site.values()),
        reserved_in=by_site,
    )


def all_skipped(fleet: Fleet) -> dict[str, str]:
    return fleet.skipped(max(len(fleet.names), 1))


def _literally(name: str) -> list[IPAddress]:
    """Looking at the fleet must not wait for DNS."""
    try:
        return [ipaddress.ip_address(name)]
    except ValueError:
        return []
