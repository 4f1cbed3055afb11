"""This host's own network, read again when the kernel says that it changed; and our one route.

Sets what is wrong in ``problems`` and clears it when it is over. Raises DataplaneError.
"""

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from neti import log
from neti.dataplane import foreign
from neti.errors import DataplaneError
from neti.host import surroundings
from neti.host.listeners import Listening
from neti.host.machine import Machine
from neti.host.network import Network
from neti.identity import outside_ranges
from neti.identity.preflight import overlay_conflicts
from neti.model import Host, IPAddress
from neti.model.problems import Problems
from neti.model.settings import Settings
from neti.monitoring.arrivals import Arrivals
from neti.ruleset.delta import Elements
from neti.ruleset.surroundings import Surroundings

_UNREAD: Final = "its rules could not be read"


def _members(settings: Settings) -> Iterator[IPv4Network | IPv6Network]:
    """Where their packets come from, as other tables see them."""
    for site in settings.sites.values():
        yield from (*site.private, *site.public)
        yield from site.ipv6
    if settings.encrypts:
        yield settings.overlay_subnet  # what leaves the tunnel


class HostNetwork:
    """Not thread-safe: the agent's loop owns it."""

    def __init__(self, machine: Machine, problems: Problems) -> None:
        self._machine = machine
        self._problems = problems
        self._seen: Network | None = None
        self._listening = Listening(machine.listeners, machine.local_ports)
        self._placed: tuple[object, ...] | None = None  # our route as it was left
        self.others: tuple[str, ...] = ()  # other tables that judge input
        self.drops: tuple[str, ...] = ()  # sentences about tables that may drop what we let in
        self._arrivals = Arrivals()
        self._relays = Arrivals()  # of what a gateway passes on
        self._not_relayed = ""  # who may drop that
        self._out: tuple[str, ...] = ()  # about tables that certainly drop it: these are a problem

    def look(self, settings: Settings, host: Host) -> Surroundings:
        """Read links, routes and other tables. Returns what the policy needs to know of them."""
        self._seen = self._machine.network(settings.overlay_subnet)
        self.others = self._machine.others_judging_input()
        self._name_conflicts(self._seen, settings)
        self._name_temporary(self._seen, host)
        self._name_outside(settings, host)
        self._name_drops(settings)
        return surroundings.surroundings(self._machine, self._seen, host, others=self.others)

    def note(self, elements: Elements, host: Host, reserved: frozenset[IPAddress]) -> None:
        """Note in ``elements`` what was seen, as far as it matters to them."""
        surroundings.note(elements, host, self._seen, reserved)
        self.listen(elements)

    def listen(self, elements: Elements) -> None:
        surroundings.listen(elements, self._listening)

    def route(self, settings: Settings, host: Host) -> bool:
        """Set our one route, once the address that it names exists. Uses what ``look`` saw. True if
        it was changed although the address and the MTU behind it were not."""
        seen = self._seen
        if seen is None or host.private not in seen.addresses():
            self._problems.set(
                "route",
                f"no interface has the private address {host.private}: "
                "the overlay's route waits for it",
            )
            self._placed = None  # the kernel removes the route with the address, no program did
            return False
        self._problems.clear("route")
        mtu = seen.mtu(seen.uplinks(host.private))
        route = seen.own_route()
        wanted, placed = (host.private, mtu), self._placed
        self._placed = wanted
        if route is not None and (route.source, route.mtu) == wanted:
            return False
        subnet = settings.overlay_subnet
        self._machine.set_overlay_route(subnet, host.private, mtu, anew=route is None)
        log.info("route_added", subnet=subnet, mtu=mtu)
        return placed == wanted

    def mtu(self, host: Host) -> int | None:
        """Of the uplinks, as ``look`` saw them."""
        seen = self._seen
        return seen.mtu(seen.uplinks(host.private)) if seen is not None else None

    def _name_temporary(self, seen: Network, host: Host) -> None:
        """Addresses that peers do not know and this host sends from all the same (RFC 8981)."""
        unknown = [
            str(a) for a in seen.temporary if a not in (host.private, host.public, *host.more)
        ]
        usable = any(address.version == 6 for address in host.more)
        if not unknown or not usable:
            self._problems.clear("temporary_address")
            return
        self._problems.set(
            "temporary_address",
            f"this host sends over IPv6 from {unknown[0]}, a temporary address that no peer knows: "
            "enforced peers drop it → sysctl -w net.ipv6.conf.all.use_tempaddr=0, and the same for "
            "the interface",
        )

    def _name_outside(self, settings: Settings, host: Host) -> None:
        outside = outside_ranges(settings, host.site, host.more)
        if outside is not None:
            self._problems.set("address_outside", outside)
        else:
            self._problems.clear("address_outside")

    def _name_conflicts(self, seen: Network, settings: Settings) -> None:
        subnet = settings.overlay_subnet
        foreign = overlay_conflicts(
            subnet,
            routes=[(r.destination, r.device) for r in seen.overlapping if not r.ours],
            addresses=sorted(seen.addresses(), key=str),
        )
        if foreign:
            self._problems.set(
                "overlay",
                f"overlay_subnet {subnet} is also used by {', '.join(foreign)}: "
                "members with addresses there cannot be reached from this host",
            )
        else:
            self._problems.clear("overlay")

    def _name_drops(self, settings: Settings) -> None:
        """Other tables are worth a sentence, but they never stop ours."""
        try:
            found, untold = self._machine.foreign_drops()
        except DataplaneError as error:
            self._problems.set("tables", f"other programs' tables cannot be read: {error}")
            return
        self._problems.clear("tables")
        self._not_relayed = foreign.not_relayed(found)
        ranges = dict.fromkeys(_members(settings)) if found else {}
        # Such a table keeps members out whatever Neti does; the others only may.
        keeping = {one.table for one in found if one.surely_drops_members(settings.verify_port)}
        out = foreign.sentences((one for one in found if one.table in keeping), ranges)
        rest = foreign.sentences((one for one in found if one.table not in keeping), ranges)
        drops = (*rest, *untold)
        for sentence in (*out, *drops):
            if sentence not in (*self._out, *self.drops):
                log.warning("foreign_table_drops", what=sentence)
        self._out, self.drops = out, drops
        self._name()

    def arrived(self, counted: Mapping[str, int]) -> None:
        """First packets of members: how many our chain let in, and how many passed all other
        chains."""
        # Refused for ``member_ports``: by the verdict, or by map ``narrowed``.
        refused = counted.get("unadmitted", 0) - counted.get("passed", 0)
        self._arrivals.look(counted.get("asked", 0), counted.get("arrived", 0), refused)
        self._name()

    def relayed(self, counted: Mapping[str, int]) -> None:
        """Packets that this gateway passes on: how many our chain let through, and how many passed
        all other chains. Who is no gateway says nothing."""
        passed = counted.get("relayed", 0)
        if not passed:
            self._relays = Arrivals()
        self._relays.look(passed, counted.get("relayed_out", 0))
        kept = self._relays.kept_out
        if not kept:
            self._problems.clear("gateway_kept_out")
            return
        if "gateway_kept_out" not in self._problems:
            log.error("gateway_kept_out", packets=kept)
        self._problems.set(
            "gateway_kept_out",
            f"another program's packet filter drops what this gateway passes on: of {kept} packets "
            "none got through. Let them through there as well: "
            f"{self._not_relayed or _UNREAD}",
        )

    @property
    def perhaps(self) -> tuple[str, ...]:
        """What another table may keep out: a note, unless packets have shown that it does not."""
        shown = self._arrivals.get_in or self._arrivals.kept_out
        return () if shown else self.drops

    def _name(self) -> None:
        """What packets show counts for more than what the rules say."""
        kept_out = self._arrivals.kept_out
        self._problems.clear("tables_drop")
        if kept_out == 0:
            self._problems.clear("kept_out")
            if self._out and not self._arrivals.get_in:
                self._problems.set("tables_drop", "; ".join(self._out))
            return
        if "kept_out" not in self._problems:
            log.error("members_kept_out", packets=kept_out)
        what = "; ".join((*self._out, *self.drops)) or _UNREAD
        self._problems.set(
            "kept_out",
            f"another program's packet filter keeps members out: Neti let {kept_out} new "
            f"connections of members in, and none of them arrived ({what})",
        )
