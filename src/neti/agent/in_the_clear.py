"""What still goes in the clear where encryption is, or is to be, required. Only reads."""

from collections.abc import Iterator

from neti.agent.core import Core
from neti.errors import DataplaneError
from neti.model import Encrypt, Member, Road
from neti.ruleset.reach import admitted_addresses, requires
from neti.ruleset.roads import asked_between
from neti.stage.in_the_clear import InTheClear, Tracked, in_the_clear


def look(core: Core, *, connections: bool = True) -> InTheClear | None:
    """None: the configuration requires no encryption here. ``connections``: the kernel's table of
    connections is looked through, which takes a while where it is full."""
    if not requires(core.settings.sites, core.host.site):
        return None
    members, fleet = list(_required(core)), core.members.fleet
    silent = [one.id for one in members if _is_silent(core, one)]
    whose = {
        address.packed: one.id
        for one in members
        for address in admitted_addresses(one, host=core.host, sites=core.settings.sites)
        if str(address) not in core.members.elements.never_revoke
    }
    tracked, fault = list[Tracked](), ""
    if connections and whose:
        try:
            tracked = core.out.connections.ending_in(whose.keys())
        except DataplaneError as error:
            fault = str(error)
    keyless = [one.id for one in members if one.id not in fleet.keys]
    return in_the_clear(keyless, silent, tracked, whose, core.settings, fault)


def of_required_pairs(core: Core) -> frozenset[str]:
    """Ids of the members with which nothing may go in the clear."""
    return frozenset(one.id for one in _required(core))


def _required(core: Core) -> Iterator[Member]:
    """Who is lost does not answer, and nobody waits for it."""
    fleet, host, sites = core.members.fleet, core.host, core.settings.sites
    for host_id, member in fleet.members.items():
        if host_id == host.id or host_id in fleet.lost:
            continue
        if asked_between(member, host=host, sites=sites) is Encrypt.REQUIRE:
            yield member


def _is_silent(core: Core, member: Member) -> bool:
    if member.id not in core.members.fleet.keys:
        return False
    return core.members.road_of(member) not in (Road.PREFERRED, Road.REQUIRED)
