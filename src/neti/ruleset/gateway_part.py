"""What gateways mean to one host: elements, its peers' endpoints, its part in the rules. Pure.

A gateway is known to work while it is a member that is registered, and answers probes as far as
this host sends any. One that is lost and answers counts where no other does: it passes on what it
knew.

Must never do: change the address at which this host's WireGuard has its peers while that one will
do, whoever comes and goes.
"""

from collections.abc import Collection, Container, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Final

from neti.model import Host, Member, Reach
from neti.model.gateways import Gateway, GatewayPorts
from neti.model.settings import Settings
from neti.ruleset.gateway_choice import Belief, Choice, choice
from neti.ruleset.gateways import GatewayMaps, HostMaps, Passage, Way, chosen, counting, sharing
from neti.ruleset.objects import KernelState
from neti.ruleset.peers import Endpoint
from neti.ruleset.reach import Element, by_gateways, uses_gateways
from neti.ruleset.set_names import SetName
from neti.ruleset.surroundings import GatewayEnd

_PORTS_OF: Final[tuple[SetName, SetName]] = ("gateway_own", "gateway_public")
_UDP: Final = "17"  # of all protocols, the one that gateways pass on


class GatewayPart:
    """Not thread-safe: who owns the membership owns it."""

    def __init__(self, settings: Settings, host: Host) -> None:
        self.used = uses_gateways(settings.sites, host.site)
        self._settings, self._host = settings, host
        self._named = {name: site.gateways for name, site in settings.sites.items()}
        self.named = frozenset(one for ids in self._named.values() for one in ids)
        self.ports = (
            GatewayPorts(settings.overlay_subnet, settings.tunnel_port) if self.used else None
        )
        self.version = 0  # counts what was told
        self._passage: Passage | None = None  # None: this host's own overlay address is not known
        self._maps = HostMaps()
        self._choice = Choice()
        self._lost: frozenset[str] = frozenset()
        self._belief = Belief()
        self.drained: frozenset[str] = frozenset()  # by operators
        self._own: Member | None = None
        self._wanted: frozenset[Element] = frozenset()
        self._changed: set[str] = set()
        self._relayed: GatewayMaps | None = None  # what this host holds as a gateway
        self._was_cut_off = False  # at the last ``renew``
        self._mine: tuple[object, ...] = ()  # what the way to everybody depends on
        self._own_gateway: str | None = None
        # By id where this host sends to each gateway that it may need; and those of them that it
        # does send to, or would if they were alive.
        self.sent_to: tuple[Mapping[str, IPv4Address], frozenset[str]] = {}, frozenset()

    def succeed(self, before: "GatewayPart") -> None:
        """Keep what WireGuard's peers have, as far as it will do, who is sent to, and who is
        believed to work."""
        self._maps, self._choice = before._maps, before._choice
        self._relayed = before._relayed
        self.believe(before._belief)
        self.drain(before.drained)

    def begin(self, via: IPv4Address | None, *, behind: bool) -> None:
        """As the table has it, and WireGuard's peers, until members are known."""
        self._maps = HostMaps(via, behind)

    def recall(self, kernel: KernelState) -> None:
        """Whose port packets from an address got until now."""
        own, public = (
            {IPv4Address(key): int(value) for key, value in kernel.elements.get(name, {}).items()}
            for name in _PORTS_OF
        )
        self._relayed = GatewayMaps({}, own, {}, public)

    # --- what is told ---

    @property
    def noted(self) -> bool:
        """Whether members have changed since the last ``renew``."""
        return bool(self._changed)

    def note(self, ids: Collection[str]) -> None:
        """These members have changed."""
        if self.used:
            self._changed.update(ids)

    def believe(self, belief: Belief) -> None:
        """By probes."""
        self._belief = belief

    def drain(self, drained: frozenset[str]) -> None:
        """Operators want nobody to send to these. They are used where no other one works."""
        self.drained = drained

    def is_due(
        self, members: Mapping[str, Member], lost: Container[str], overlay: IPv4Address | None
    ) -> bool:
        """Whether other gateways are alive, or this host is another, than at the last ``renew``."""
        own = self._as_member(overlay)
        now = (self._chosen_from(members, own, self._lost_of(lost)), own, self.cut_off)
        return self.used and now != (self._choice, self._own, self._was_cut_off)

    def renew(
        self,
        members: Mapping[str, Member],
        lost: Container[str],
        overlay: IPv4Address | None,
        *,
        known: bool = True,
    ) -> tuple[set[Element], set[Element], set[str]]:
        """The fleet as it is now; ``known`` False: nothing is known of it, so this host's end stays
        as it was. Returns elements that are wished for no more, and those that are from now on; and
        the ids of members that WireGuard may have elsewhere from now on."""
        self.version += 1
        self._own, self._lost = self._as_member(overlay), self._lost_of(lost)
        self._choice = self._chosen_from(members, self._own, self._lost)
        changed, self._changed = self._changed, set()
        before, self._passage = self._passage, self._passed(members, self._own)
        if self._passage is not None and known:
            self._maps = _kept(self._maps, self._passage.at_host(self._host))
        mine = self._gateway_of(self._own)
        self._own_gateway = mine.id if mine is not None else None
        self.sent_to = self._sent_to()
        self._was_cut_off = self.cut_off
        wanted = frozenset(self._elements())
        gone, new = set(self._wanted - wanted), set(wanted - self._wanted)
        self._wanted = wanted
        return gone, new, changed | self._moved(members, before)

    def _lost_of(self, lost: Container[str]) -> frozenset[str]:
        return frozenset(one for one in self.named if one in lost and one != self._host.id)

    def _chosen_from(
        self, members: Mapping[str, Member], own: Member | None, lost: frozenset[str]
    ) -> Choice:
        if not self.used:
            return Choice()
        there = {one: members[one] for one in (self.named - {self._host.id}) & members.keys()}
        if own is not None:
            there[own.id] = own
        found = counting(there, self._named, self._settings.overlay_subnet)
        sites = (frozenset(one.id for one in found if one.site == name) for name in self._named)
        return choice(sites, lost, self.drained, self._belief, self._choice)

    def _as_member(self, overlay: IPv4Address | None) -> Member | None:
        """What the registry says of this host changes nothing here."""
        host = self._host
        if overlay is None or overlay not in self._settings.overlay_subnet:
            return None
        return Member(
            id=host.id, site=host.site, private=host.private, public=host.public, overlay=overlay
        )

    def _passed(self, members: Mapping[str, Member], own: Member | None) -> Passage | None:
        if own is None or self.ports is None:
            return None
        others = (one for one in members.values() if one.id != own.id)
        return Passage(
            (own, *others), self._settings.sites, self._named, self._choice.live, self.ports
        )

    def _moved(self, members: Mapping[str, Member], before: Passage | None) -> set[str]:
        """Whoever is reached in another way, though nothing of its own has changed. Everybody, if
        that is because of this host or of a site's first or last gateway."""
        now, passage = self._maps.via, self._passage
        served = passage.served if passage is not None else frozenset()
        mine = (now, passage is not None and passage.is_open(self._host), served)
        same, self._mine = mine == self._mine, mine
        if before is None or passage is None or not same:
            return set(members)
        return {one for one, _ in before.opened.items() ^ passage.opened.items()}

    def _elements(self) -> Iterator[Element]:
        if self._passage is None:
            return
        maps = self._maps
        yield from (Element("gateways", str(one)) for one in maps.gateways)
        if maps.near is not None:
            yield Element("gateway_near", _UDP, str(maps.near))
        yield from _each("gateway_far", maps.far)
        for gateway in self._passage.gateways(self._host.site):
            if gateway.id == self._host.id:
                more = self._relayed = self._passage.at_gateway(gateway, self._relayed)
                yield from _each("gateway_inside", more.inside)
                yield from _each("gateway_own", more.own)
                yield from _each("gateway_direct", more.direct)
                yield from _each("gateway_public", more.public)

    def end(self, uplinks: tuple[str, ...]) -> GatewayEnd | None:
        """This host's part in the rules. ``uplinks``: its interfaces to the outside. None: it has
        none. Raises ValueError where nft cannot name them."""
        if self._passage is None or self.ports is None:
            return None
        return GatewayEnd(
            ports=self.ports,
            private=self._host.private,
            via=self._maps.via,
            behind=self._maps.behind,
            uplinks=uplinks if self.is_gateway else None,
            cut_off=self.cut_off,
        )

    def _sent_to(self) -> tuple[Mapping[str, IPv4Address], frozenset[str]]:
        passage, host = self._passage, self._host
        if passage is None or self._own is None or self._maps.via is None:
            return {}, frozenset()
        if not self._maps.behind:
            others = passage.others_gateways(host.site)
            return {one.id: one.public for one in others}, frozenset(one.id for one in others)
        mine = passage.gateways(host.site)
        wanted = {one.id for one in mine} - self.drained
        near = (chosen(self._own.overlay, mine, live) for live in (self._choice.live, wanted))
        return {one.id: one.private for one in mine}, frozenset(one.id for one in near if one)

    @property
    def is_gateway(self) -> bool:
        own = self._passage.gateways(self._host.site) if self._passage is not None else ()
        return any(one.id == self._host.id for one in own)

    @property
    def cut_off(self) -> bool:
        """Whether this is a gateway, and no other site's gateway answers it any more."""
        return self.is_gateway and self.unanswered

    @property
    def unanswered(self) -> bool:
        """Whether this host has a public address of its own, and no other site's gateway answers
        it any more. Each was asked: what an agent before this one believed does not count."""
        asked = self.sent_to[0].keys() if not self._maps.behind else frozenset()
        return bool(asked) and asked <= self._belief.dead - self._belief.presumed

    def endpoint(self, member: Member) -> Endpoint | None:
        """Where this host's WireGuard has it; None: nowhere, or they do not encrypt."""
        if self._passage is None or member.id == self._host.id:
            return None
        return self._passage.endpoint(self._host, member, self._maps.via)

    def way(self, member: Member) -> Way | None:
        """None: no gateway is asked of the way to it."""
        return self._passage.way(self._host, member) if self._passage is not None else None

    def through(self, member: Member) -> tuple[str, ...]:
        """The ids of the gateways by which what is sent to it goes, in order. The second one is
        chosen by the first, which may believe in others than this host does."""
        if self.way(member) is not Way.GATEWAY:
            return ()
        its = self._gateway_of(member)
        found = (self._own_gateway, its.id if its is not None else None)
        return tuple(one for one in found if one is not None)

    def _gateway_of(self, one: Member | None) -> Gateway | None:
        """None: it has a public address of its own, or its site has no gateway."""
        if one is None or self._passage is None or self._passage.is_open(one):
            return None
        return chosen(one.overlay, self._passage.gateways(one.site), self._choice.live)

    def is_used(self, host_id: str) -> bool:
        """Whether hosts of its site are reached by this gateway, as far as this host decides."""
        return host_id in self._choice.live

    def own_gateway(self) -> str | None:
        """Of this host, if it is behind any."""
        return self._own_gateway

    def reached_at(self, member: Member) -> IPv4Address | None:
        """Where packets to it go first, from site to site; None: nowhere. As the maps have it: of
        a whole fleet it is asked often, and to choose a gateway takes as many hashes as there are.
        """
        match self.way(member):
            case Way.DIRECT:
                return member.public
            case Way.GATEWAY if self._maps.behind:
                return self._maps.near
            case Way.GATEWAY if self.ports is not None:
                return self._maps.far.get(self.ports.port(member.overlay))
            case _:
                return None

    # --- what is wrong ---

    def without(self, members: Mapping[str, Member]) -> dict[str, dict[str, str]]:
        """Sites of which no gateway is known to work, with what is wrong of each. Only such with
        members that need one, and of which each gateway was judged."""
        passage = self._passage
        if passage is None:
            return {}
        needing = {one.site for one in members.values() if not passage.is_open(one)}
        if self._own is not None and not passage.is_open(self._own):
            needing.add(self._own.site)
        found, sites = {}, self._settings.sites
        for name, site in sites.items():
            asked = any(by_gateways(site, other) for other in sites.values())
            if site.reached_by is not Reach.GATEWAY or name not in needing or not asked:
                continue
            usable = {one.id for one in passage.gateways(name)}
            if not usable & (self._choice.works | self._choice.presumed):
                found[name] = {one: self._fault(one, name, members) for one in site.gateways}
        return found

    def useless(self, members: Mapping[str, Member]) -> dict[str, str]:
        """Gateways that cannot be used, and why."""
        found = {}
        for name, ids in self._named.items() if self._passage is not None else ():
            usable = {one.id for one in self._passage.gateways(name)} if self._passage else set()
            for one in ids:
                idle = one in self.drained and one in members and one not in self._belief.dead
                fine = one in self._choice.works | self._choice.presumed or idle
                if one not in usable or not fine:
                    found[one] = self._fault(one, name, members)
        return found

    def sharing(self) -> frozenset[str]:
        """Gateways that say the public address of another one."""
        every = self._passage.every_gateway() if self._passage is not None else ()
        return sharing(every)

    def _fault(self, host_id: str, site: str, members: Mapping[str, Member]) -> str:
        member = self._own if host_id == self._host.id else members.get(host_id)
        if member is None:
            return "is not a member"
        if member.site != site:
            return f"is in site {member.site}"
        if member.public is None:
            return "has no public address"
        if host_id in self._belief.dead:
            return "does not answer"
        if host_id in self._lost:
            return "is lost"
        return f"has the overlay address {member.overlay}, outside {self._settings.overlay_subnet}"


def _kept(before: HostMaps, now: HostMaps) -> HostMaps:
    """With the former ``via``, if this host is still on the same side of gateways: its peers then
    have the endpoints that they had. Any address will do to which a route leads."""
    if before.via is None or before.behind != now.behind:
        return now
    return replace(now, via=before.via)


def _each(
    where: SetName, held: Mapping[int, IPv4Address] | Mapping[IPv4Address, int]
) -> Iterator[Element]:
    return (Element(where, str(key), str(value)) for key, value in held.items())
