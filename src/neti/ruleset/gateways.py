"""Who goes through which gateway, and what that is in the table's maps. Pure.

Nobody has to agree with anybody. Every gateway of a site knows all its members, so a packet may
come through any of them; each sender's side chooses by what it believes to be alive.

Must never do: choose a gateway that is not of the member's own site, or none while there is one.
"""

import enum
import hashlib
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from neti.model import Host, Member, Reach, Site
from neti.model.gateways import Gateway, GatewayPorts
from neti.model.settings import Settings
from neti.ruleset.objects import KernelState
from neti.ruleset.peers import Endpoint


class Way(enum.Enum):
    """How packets go between two hosts."""

    INSIDE = "inside"  # one site: by private address
    LINK = "link"  # by private address too: a link joins the two sites
    DIRECT = "direct"  # both have a public address of their own
    GATEWAY = "gateway"  # at least one of them is behind its site's gateways
    NONE = "none"  # one of them has neither


def chosen(
    overlay: IPv4Address, gateways: Iterable[Gateway], live: Collection[str]
) -> Gateway | None:
    """The gateway of the host with this address: the highest of a hash for each pair of the two
    (rendezvous hashing), so when one goes only its own hosts move. ``gateways``: those of its site.
    ``live``: the ids of those to choose from; all, if it names none of them. None: the site has no
    gateway.
    """
    every = list(gateways)
    able = [one for one in every if one.id in live] or every
    return max(able, key=lambda one: (_weight(overlay, one), one.id), default=None)


def _weight(overlay: IPv4Address, gateway: Gateway) -> bytes:
    return hashlib.blake2b(overlay.packed + gateway.id.encode(), digest_size=8).digest()


def counting(
    members: Mapping[str, Member], named: Mapping[str, Collection[str]], subnet: IPv4Network
) -> list[Gateway]:
    """By id, of all sites. One that is no member of the site that names it, or has no public
    address, or an overlay address outside ``subnet``, does not count. Two that say the same public
    address count both: whoever says another's must not take its office away, and only one of them
    is there, which passes on for both. Costs as much as there are gateways."""
    asked = sorted({one for ids in named.values() for one in ids} & members.keys())
    return [
        Gateway(m.id, m.site, m.private, m.public)
        for m in map(members.__getitem__, asked)
        if m.id in named.get(m.site, ()) and m.public is not None and m.overlay in subnet
    ]


def sharing(gateways: Iterable[Gateway]) -> frozenset[str]:
    """The ids of those that say the public address of another one."""
    every = list(gateways)
    held = Counter(gateway.public for gateway in every)
    return frozenset(gateway.id for gateway in every if held[gateway.public] > 1)


@dataclass(frozen=True, slots=True)
class HostMaps:
    """What the table of a host at one end holds. ``via``: for ``GatewayEnd``; None: nobody is
    reached through a gateway."""

    via: IPv4Address | None = None
    behind: bool = False
    gateways: frozenset[IPv4Address] = frozenset()
    near: IPv4Address | None = None
    far: Mapping[int, IPv4Address] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GatewayMaps:
    """What the table of a gateway holds beside a host's."""

    inside: Mapping[int, IPv4Address]
    own: Mapping[IPv4Address, int]
    direct: Mapping[int, IPv4Address]
    public: Mapping[IPv4Address, int]


def _first_come(
    places: Mapping[int, IPv4Address], before: Mapping[IPv4Address, int]
) -> dict[IPv4Address, int]:
    """By address whose port what comes from there gets. Of several members that claim one, who had
    it keeps it: their peers' WireGuard follows the port, so one that claims the address of another
    and lets it go again would have what is for that one sent to itself meanwhile."""
    found: dict[IPv4Address, int] = {}
    for port, address in places.items():
        if address not in found or before.get(address) == port:
            found[address] = port
    return found


class Passage:
    """The fleet at one moment, this host included, as one host sees it. Open are hosts with a
    public address that no other member claims, and all that have one of a site without gateways.

    ``named``: the ids of each site's gateways, as configured; which of them count, ``counting``
    says. ``live``: the ids of those to choose from. Members whose overlay address is not in
    ``ports.subnet`` do not count at all.
    """

    def __init__(
        self,
        members: Iterable[Member],
        sites: Mapping[str, Site],
        named: Mapping[str, Collection[str]],
        live: Collection[str],
        ports: GatewayPorts,
    ) -> None:
        every = sorted(members, key=lambda m: m.id)
        self._members = {m.id: m for m in every if m.overlay in ports.subnet}
        self._sites, self._live, self._ports = sites, live, ports
        claimed = Counter(m.public for m in self._members.values() if m.public is not None)
        usable = counting(self._members, named, ports.subnet)
        self._open = {gateway.id: gateway.public for gateway in usable}
        for m in self._members.values():
            # Whoever claims its address must not cut a host off that has no gateway to go by.
            alone = m.public is not None and claimed[m.public] == 1
            if m.public is not None and (alone or not named.get(m.site)):
                self._open[m.id] = m.public
        self._gateways: dict[str, list[Gateway]] = {}
        for gateway in usable:
            self._gateways.setdefault(gateway.site, []).append(gateway)

    @property
    def opened(self) -> Mapping[str, IPv4Address]:
        """By id the public address of each open host."""
        return self._open

    @property
    def served(self) -> frozenset[str]:
        """Sites with a gateway."""
        return frozenset(self._gateways)

    def gateways(self, site: str) -> tuple[Gateway, ...]:
        """Those that count, by id."""
        return tuple(self._gateways.get(site, ()))

    def every_gateway(self) -> Iterator[Gateway]:
        return itertools.chain.from_iterable(self._gateways.values())

    def way(self, one: Member | Host, other: Member | Host) -> Way:
        """The same whichever of the two asks."""
        if one.site == other.site:
            return Way.INSIDE
        if not {one.id, other.id} <= self._members.keys():
            return Way.NONE
        if self._linked(one.site, other.site):
            return Way.LINK
        if not all(m.id in self._open or self.gateways(m.site) for m in (one, other)):
            return Way.NONE
        both = one.id in self._open and other.id in self._open
        return Way.DIRECT if both else Way.GATEWAY

    def is_open(self, host: Member | Host) -> bool:
        """Whether a public address leads to it alone, as far as the members say."""
        return host.id in self._open

    def endpoint(
        self, host: Host, member: Member, via: IPv4Address | None = None
    ) -> Endpoint | None:
        """Where ``host``'s WireGuard has its peer; None: nowhere, or the two do not encrypt. It
        does not depend on who is alive. ``via``: the one that it has; None: as ``at_host`` says."""
        way = self.way(host, member)
        if way is Way.LINK:
            return Endpoint(member.private, self._ports.tunnel)
        if way is Way.DIRECT:
            return Endpoint(self._open[member.id], self._ports.tunnel)
        if way is not Way.GATEWAY:
            return None
        via = via if via is not None else self._via(host)
        return Endpoint(via, self._ports.port(member.overlay)) if via is not None else None

    def at_host(self, host: Host) -> HostMaps:
        own = self._members.get(host.id)
        if own is None:
            return HostMaps()
        if host.id not in self._open:
            mine = self.gateways(own.site)
            near = chosen(own.overlay, mine, self._live)
            return HostMaps(
                self._via(own),
                True,
                frozenset(gateway.private for gateway in mine),
                near.private if near else None,
            )
        known = frozenset(gateway.public for gateway in self.others_gateways(own.site))
        return HostMaps(self._via(own), False, known, None, dict(self._far(own.site)))

    def at_gateway(self, gateway: Gateway, before: GatewayMaps | None = None) -> GatewayMaps:
        """``before``: what it held until now."""
        inside, direct = {}, {}
        for member in self._members.values():
            if member.site == gateway.site and member.id not in self._open:
                inside[self._ports.port(member.overlay)] = member.private
        for member in self._across(gateway.site):
            if member.id in self._open:
                direct[self._ports.port(member.overlay)] = self._open[member.id]
        return GatewayMaps(
            inside,
            _first_come(inside, before.own if before is not None else {}),
            direct,
            _first_come(direct, before.public if before is not None else {}),
        )

    def _via(self, host: Member | Host) -> IPv4Address | None:
        """One real address, because a route leads there. Not the same gateway's on every host: one
        that claims what no route leads to, a broadcast address say, must not cut all of them off.
        """
        own = self._members.get(host.id)
        if own is None:
            return None
        if own.id not in self._open:
            mine = chosen(own.overlay, self.gateways(own.site), ())
            return mine.private if mine is not None else None
        theirs = chosen(own.overlay, self.others_gateways(own.site), ())
        return theirs.public if theirs is not None else None

    def others_gateways(self, site: str) -> list[Gateway]:
        """Of all sites that are reached by the internet from this one."""
        return [gateway for other in self._others(site) for gateway in self.gateways(other)]

    def _far(self, site: str) -> Iterator[tuple[int, IPv4Address]]:
        for member in self._across(site):
            if member.id not in self._open:
                through = chosen(member.overlay, self.gateways(member.site), self._live)
                if through is not None:
                    yield self._ports.port(member.overlay), through.public

    def _across(self, site: str) -> Iterator[Member]:
        """Members of the sites that are reached by the internet."""
        others = set(self._others(site))
        return (member for member in self._members.values() if member.site in others)

    def _others(self, site: str) -> list[str]:
        every = {member.site for member in self._members.values()} - {site}
        return sorted(other for other in every if not self._linked(site, other))

    def _linked(self, one: str, other: str) -> bool:
        """A link carries both directions, whichever of the two sites says it."""
        pair = (self._sites.get(one), self._sites.get(other))
        return any(site is not None and site.reached_by is Reach.PRIVATE for site in pair)


def sent_by(kernel: KernelState) -> frozenset[str]:
    """Addresses of the gateways to which a table sends."""
    maps = (kernel.elements.get("gateway_near", {}), kernel.elements.get("gateway_far", {}))
    return frozenset(to for one in maps for to in one.values())


def gateways_of(
    members: Mapping[str, Member], settings: Settings, drained: Collection[str] = ()
) -> dict[str, str]:
    """By host id the gateway by which other sites reach it, if all that are members are alive.
    Only of hosts that are behind one. ``drained``: by operators."""
    named = {name: site.gateways for name, site in settings.sites.items()}
    if not any(named.values()):
        return {}
    ports = GatewayPorts(settings.overlay_subnet, settings.tunnel_port)
    passage = Passage(members.values(), settings.sites, named, members.keys(), ports)
    live = members.keys() - set(drained)
    found = {
        one.id: chosen(one.overlay, passage.gateways(one.site), live)
        for one in members.values()
        if not passage.is_open(one)
    }
    return {host_id: one.id for host_id, one in found.items() if one is not None}


def usable_gateways(members: Mapping[str, Member], settings: Settings, site: str) -> frozenset[str]:
    """The ids of those that every host would go by, if all that are members are alive, and whose
    public address no other one says."""
    named = {name: one.gateways for name, one in settings.sites.items()}
    found = counting(members, named, settings.overlay_subnet)
    return frozenset(one.id for one in found if one.site == site) - sharing(found)
