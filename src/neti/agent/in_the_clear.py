"""What still goes in the clear where encryption is, or is to be, required: listed, or ended.

Must never do: end anything before required encryption is confirmed.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from neti import log
from neti.agent.core import Core
from neti.errors import DataplaneError
from neti.model import Encrypt, Member, Road
from neti.ruleset.reach import admitted_addresses, outside_addresses, requires
from neti.ruleset.roads import asked_between
from neti.ruleset.set_names import SetName
from neti.stage.excepted import Excepted, excepted
from neti.stage.in_the_clear import InTheClear, Tracked, ends, in_the_clear

_BOTH: Final[tuple[tuple[SetName, SetName], ...]] = (("peers4", "clear4"), ("peers6", "clear6"))


def look(core: Core, *, connections: bool = True) -> InTheClear | None:
    """None: the configuration requires no encryption here. ``connections``: the kernel's table of
    connections is looked through, which takes a while where it is full."""
    if not requires(core.settings.sites, core.host.site):
        return None
    members, fleet = list(_required(core)), core.members.fleet
    silent = [one.id for one in members if _is_silent(core, one)]
    whose, outside = _whose(core, members), _outside(core)
    tracked, fault = list[Tracked](), ""
    if connections and (whose or outside):
        try:
            tracked = core.out.connections.ending_in(whose.keys() | outside.keys())
        except DataplaneError as error:
            fault = str(error)
    keyless = [one.id for one in members if one.id not in fleet.keys]
    found = in_the_clear(keyless, silent, tracked, whose, core.settings, fault, outside)
    return replace(found, unable=has_no_device(core), excepted=excepted(whose, core.settings))


def by_the_file(core: Core) -> tuple[Excepted, ...]:
    """What may go in the clear by ``trusted`` and ``open_ports``, where encryption is required."""
    settings = core.settings
    if not requires(settings.sites, core.host.site):
        return ()
    asks_who = settings.trusted or any(opened.sources for opened in settings.open_ports)
    return excepted(_whose(core, list(_required(core))) if asks_who else {}, settings)


def of_sites(core: Core, sites: frozenset[str]) -> InTheClear:
    """The same of members of these, where it is not required yet."""
    members = [one for one in _reachable(core) if one.site in sites]
    elements, fleet = core.members.elements, core.members.fleet
    whose = {
        address.packed: one.id
        for one in members
        for address in admitted_addresses(one, host=core.host, sites=core.settings.sites)
        if str(address) not in elements.never_revoke
    }
    keyless = [one.id for one in members if one.id not in fleet.keys]
    silent = [one.id for one in members if _is_silent(core, one)]
    tracked, fault = list[Tracked](), ""
    try:
        tracked = core.out.connections.ending_in(whose.keys()) if whose else []
    except DataplaneError as error:
        fault = str(error)
    return in_the_clear(keyless, silent, tracked, whose, core.settings, fault)


def has_no_device(core: Core) -> bool:
    return "encryption_missing" in core.problems or "encryption_device" in core.problems


def contested(core: Core) -> dict[str, tuple[str, str]]:
    """Addresses of the own site's members to which nothing goes in the clear, because a member of
    another site claims them as well: whose each is, and by whom it is claimed."""
    if not core.members.requires:
        return {}
    host, sites, elements = core.host, core.settings.sites, core.members.elements
    # Where it is required, only members of the own site are let in by real addresses. The fleet may
    # be large, and there is hardly ever one.
    refused = {
        address
        for peers, clear in _BOTH
        for address in elements.wanted(peers) & elements.wanted(clear)
        if elements.wants(clear, address)
    }
    if not refused:
        return {}

    def having(members: Iterator[Member]) -> Iterator[tuple[str, str]]:
        for member in members:
            for address in admitted_addresses(member, host=host, sites=sites):
                if str(address) in refused:
                    yield str(address), member.id

    owners = dict(having(one for one in _reachable(core) if one.site == host.site))
    claimers = dict(having(_required(core)))
    return {one: (owners[one], claimers[one]) for one in owners.keys() & claimers.keys()}


def end(core: Core) -> None:
    """End what goes in the clear, so that programs notice at once: it would only be held up."""
    whose, outside = _whose(core, list(_required(core))), _outside(core)
    if not whose and not outside:
        return
    try:
        ended = core.out.connections.end_those(lambda one: ends(one, whose, core.settings, outside))
    except DataplaneError as error:
        log.warning("clear_not_ended", what=str(error))
        return
    log.info("clear_connections_ended", connections=ended)


def _whose(core: Core, members: list[Member]) -> dict[bytes, str]:
    return {
        address.packed: one.id
        for one in members
        for address in admitted_addresses(one, host=core.host, sites=core.settings.sites)
        if core.members.elements.wants("clear4" if address.version == 4 else "clear6", str(address))
    }


def _outside(core: Core) -> dict[bytes, str]:
    sites, own = core.settings.sites, core.host
    return {
        address.packed: one.id
        for one in core.members.fleet.members.values()
        if one.site == own.site and one.id != own.id
        for address in outside_addresses(one, sites=sites)
    }


def of_required_pairs(core: Core) -> frozenset[str]:
    """Ids of the members with which nothing may go in the clear."""
    return frozenset(one.id for one in _required(core))


def _required(core: Core) -> Iterator[Member]:
    host, sites = core.host, core.settings.sites
    for member in _reachable(core):
        if asked_between(member, host=host, sites=sites) is Encrypt.REQUIRE:
            yield member


def _reachable(core: Core) -> Iterator[Member]:
    """Who is lost does not answer, and nobody waits for it."""
    fleet = core.members.fleet
    for host_id, member in fleet.members.items():
        if host_id != core.host.id and host_id not in fleet.lost:
            yield member


def _is_silent(core: Core, member: Member) -> bool:
    if member.id not in core.members.fleet.keys:
        return False
    return core.members.road_of(member) not in (Road.PREFERRED, Road.REQUIRED)
