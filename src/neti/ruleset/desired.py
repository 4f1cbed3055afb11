"""The fleet and what it means to this host's kernel, kept in step: Fleet -> Elements. Pure.

The agent says when to tell the kernel and the disk.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from types import MappingProxyType
from typing import Final

from neti.fleet.admission import Admission
from neti.fleet.fleet import Fleet
from neti.fleet.groups import GroupIndex
from neti.fleet.guard import Guard
from neti.fleet.members import Change
from neti.fleet.remembered import Everybody, Remembered
from neti.fleet.vouching import Mode
from neti.model import Encrypt, Host, IPAddress, Member, Road, entry
from neti.model.groups import Groups, MemberPorts
from neti.model.settings import Settings
from neti.ruleset.delta import Elements
from neti.ruleset.gateway_part import GatewayPart
from neti.ruleset.objects import KernelState
from neti.ruleset.plan import REVOKE_SECONDS
from neti.ruleset.policy_members import groups_of
from neti.ruleset.reach import (
    by_gateways,
    cross_address,
    elements_of,
    encryption,
    encrypts,
    only_encrypted,
    own_elements,
    road_without_key,
)
from neti.ruleset.set_names import SetName, group_sets

_PEERS: Final[tuple[SetName, ...]] = ("peers4", "peers6")
# What lets a member in does so once more for each of its groups, in the set of its family.
_BY_ADDRESS: Final[dict[SetName, int]] = {"peers4": 0, "tunnel_peers": 0, "peers6": 1}


@dataclass(slots=True)
class Membership:
    """Not thread-safe: the agent's loop owns it. ``known``: we know who is a member, from the
    registry or from the last good state. ``adopted``: we do not, so what the kernel holds
    counts. ``roads``: by id, of those of whom more is known than that they have no key.
    ``requires``: encryption that sites require is in force on this host. ``ports_in_force``: the
    ``member_ports`` that are, as ``Surroundings.member_ports``. ``groups``: of those that the rules
    look at, as of the last ``group_members`` or ``admit_by``."""

    settings: Settings
    host: Host
    fleet: Fleet
    elements: Elements
    overlay: IPv4Address | None = None
    known: bool = False
    adopted: bool = False
    roads: dict[str, Road] = field(default_factory=dict)
    requires: bool = False
    gateways: GatewayPart = field(init=False)
    ports_in_force: MemberPorts = None
    groups: GroupIndex = field(default_factory=GroupIndex)
    _defined: tuple[Groups | None, float] = (None, 0.0)
    _judged: frozenset[str] = frozenset()
    _touched: set[str] = field(default_factory=set)
    _untold: dict[str, Member | None] = field(default_factory=dict)  # as each was when last told

    def __post_init__(self) -> None:
        self.gateways = GatewayPart(self.settings, self.host)
        self._regroup()

    @property
    def only_encrypted(self) -> bool:
        """Whether some members are reached by the encrypted road alone, or not at all."""
        return self.requires or self.gateways.used

    @property
    def lets_somebody_in(self) -> bool:
        """Whether the kernel has, or is about to have, members to let in."""
        return self.known or self.adopted

    @classmethod
    def empty(
        cls,
        settings: Settings,
        host: Host,
        reserved: frozenset[IPAddress],
        guard: Guard | None = None,
        records: Mode = "off",
    ) -> "Membership":
        admission = Admission(
            sites=settings.sites,
            overlay_subnet=settings.overlay_subnet,
            reserved=reserved,
            own_site=host.site,
        )
        return cls(
            settings=settings,
            host=host,
            fleet=Fleet(
                admission,
                linger_seconds=settings.linger_seconds,
                guard=guard,
                hold_seconds=settings.hold_seconds,
                records=records,
                keys=encrypts(settings.sites, host.site),
                share=host.id,
            ),
            elements=Elements(revoke_seconds=REVOKE_SECONDS),
        )

    def remember(
        self, members: Mapping[str, Remembered], gone: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        """Begin from the last good state. ``gone``: who was removed (``Fleet.gone``)."""
        self.known = self.known or bool(members)
        owners: dict[IPv4Address, str] = {}
        for host_id, held in members.items():
            parsed = entry.parse(held.name)
            if held.leased and isinstance(parsed, Member):
                owners[parsed.overlay] = host_id
        self.fleet.remember(
            {held.name: held.more for held in members.values()},
            lost={
                host_id: (held.name, held.lost_since)
                for host_id, held in members.items()
                if held.lost_since is not None
            },
            owners=owners,
            holds={
                host_id: held.hold for host_id, held in members.items() if held.hold is not None
            },
            passing=[host_id for host_id, held in members.items() if held.passing],
            keys={host_id: held.key for host_id, held in members.items() if held.key is not None},
            gone=gone,
        )

    def listed(
        self, names: Iterable[str], *, now: float, doubt: str | None, older: bool = True
    ) -> None:
        """The registry's complete list; ``doubt``, ``older``: as ``Fleet.snapshot``."""
        self.known = True
        self.fleet.snapshot(names, now=now, doubt=doubt, older=older)

    def succeed(self, before: "Membership", *, now: float, remember: bool) -> None:
        """Take the place of ``before``, which was for other settings or other addresses: with its
        members as they are judged now, or with none (``remember`` False). The kernel keeps what it
        has until the next transaction, and for longer what was adopted, if that is remembered."""
        self.known, self.adopted = before.known, before.adopted
        self.requires = before.requires
        self.gateways.succeed(before.gateways)
        self._defined, self.ports_in_force = before._defined, before.ports_in_force
        self._regroup()
        self.fleet.succeed(before.fleet)
        if remember:
            self.remember(dict(before.everybody()))
            # Some who were not believed before may be now, and the other way round.
            self.fleet.snapshot(before.fleet.names, now=now)
            self.fleet.ask_for_data()
            self.roads = {
                host_id: road
                for host_id, road in before.roads.items()
                if self._may_go_by(host_id, road)
            }
        self.hold_lease(before.overlay)
        self.elements.believe(before.elements)
        if remember and self.adopted and not self.known:
            self._keep(before.elements.kernel)

    def _may_go_by(self, host_id: str, road: Road) -> bool:
        """By the present settings: not through a tunnel between sites that do not ask for one."""
        member, sites = self.fleet.members.get(host_id), self.settings.sites
        if member is None or member.site == self.host.site:
            return False
        asked = encryption(sites.get(self.host.site), sites.get(member.site))
        own, other = sites.get(self.host.site), sites.get(member.site)
        required = only_encrypted(own, other, requires=self.requires)
        return asked.encrypts and required == (road in (Road.REQUIRED, Road.NONE))

    def adopt(
        self, kernel: KernelState, *, via: IPv4Address | None = None, behind: bool = False
    ) -> None:
        """Nothing is known of the fleet yet, so want what the kernel holds, so that it stays.
        ``via``, ``behind``: this host's part in gateways there. ``adopted``: it lets somebody in
        already, or keeps strangers out. After ``admit_by``: only sets that the rules look at are
        wanted."""
        self.gateways.begin(via, behind=behind)
        self._keep(kernel.elements)
        some = any(kernel.elements.get(where) for where in _PEERS)
        self.adopted = kernel.armed_for_good or some

    def _keep(self, held: Mapping[SetName, Mapping[str, str]]) -> None:
        for where in self.elements.sets:
            for key, value in held.get(where, {}).items():
                self.elements.want(where, key, value)

    def hold_lease(self, overlay: IPv4Address | None) -> None:
        """This host's own overlay address, by which it reaches itself."""
        if overlay == self.overlay:
            return
        for old in own_elements(self.host, self.overlay) if self.overlay else ():
            self.elements.unwant(old.where, old.key, old.value)
        for new in own_elements(self.host, overlay) if overlay else ():
            self.elements.want(new.where, new.key, new.value)
        self.overlay = overlay

    def take_changes(self) -> list[Change]:
        """What became of members since the last call, one per id at most. The elements know of it
        already."""
        self._learn()
        untold, self._untold = self._untold, {}
        return [
            Change(host_id, before, after)
            for host_id, before in untold.items()
            if (after := self.fleet.members.get(host_id)) != before
        ]

    def _learn(self) -> None:
        """The elements know of members as they are now. The changes stay for ``take_changes``:
        whoever needs the elements up to date must not keep a change from the log and the disk."""
        changes = self.fleet.take_changes()
        for change in changes:
            self._untold.setdefault(change.id, change.before)
            for member, act in (
                (change.before, self.elements.unwant),
                (change.after, self.elements.want),
            ):
                if member is not None:
                    self._tell(act, member)
        touched = {change.id for change in changes}
        self._touched |= touched
        self.gateways.note(touched)

    def gateways_are_due(self) -> bool:
        """Whether who is to be sent to, or this host's own part, is not what ``pass_on`` knew."""
        return self.gateways.is_due(self.fleet.members, self.fleet.lost, self.overlay)

    def pass_on(self) -> None:
        """What gateways hold, as of the changes that were taken. Costs as much as there are
        members."""
        if not (self.gateways.noted or self.gateways_are_due()):
            return
        gone, new, moved = self.gateways.renew(
            self.fleet.members, self.fleet.lost, self.overlay, known=self.known
        )
        for one in gone:
            self.elements.unwant(one.where, one.key, one.value)
        for one in new:
            self.elements.want(one.where, one.key, one.value)
        self._touched |= moved

    def take_touched(self) -> set[str]:
        """Ids of the changes that were taken since the last call."""
        touched, self._touched = self._touched, set()
        return touched

    def require(self, on: bool) -> None:
        """Whether encryption that sites require is in force on this host from now on. The roads
        that were told stay as they are."""
        self._learn()
        if on != self.requires:
            sites = self.settings.sites.values()
            some = any(site.encrypt is Encrypt.REQUIRE for site in sites)
            members = list(self.fleet.members.values()) if some else []
            for member in members:
                self._tell(self.elements.unwant, member)
            self.requires = on
            for member in members:
                self._tell(self.elements.want, member)

    def group_members(self, groups: Groups | None, now: float) -> None:
        """Who is in which group from now on, as of ``now`` (Unix seconds); None: no operator's
        word is known, and nobody is in any."""
        self._learn()
        self._defined, self._judged = (groups, now), self.needed_groups
        self._regroup()

    def admit_by(self, in_force: MemberPorts) -> None:
        """These are in force from now on."""
        self._learn()
        if in_force != self.ports_in_force:
            self.ports_in_force = in_force
            self._regroup()

    def _regroup(self) -> None:
        after = GroupIndex(self._defined[0], self.needed_groups, self._defined[1])
        moved = self.groups.moved(after, self.fleet.members.values())
        for member in moved:
            self._tell(self.elements.unwant, member)
        self.groups = after
        self.elements.look_at(where for group in after.needed for where in group_sets(group))
        for member in moved:
            self._tell(self.elements.want, member)

    @property
    def needed_groups(self) -> frozenset[str]:
        """At which the rules look: that the file names, or what is in force."""
        return groups_of(self.settings, self.ports_in_force)

    def groups_are_due(self) -> bool:
        """Whether other groups are needed than the last ``group_members`` knew."""
        return self.groups.needed != self._judged

    def goes_by(self, host_id: str, road: Road | None) -> None:
        """From now on this member is reached by ``road``; None: nothing is known of it any more, as
        of one without a key."""
        self._learn()  # so that what is unwanted below is what is wanted now
        member = self.fleet.members.get(host_id)
        if member is not None:
            self._tell(self.elements.unwant, member)
        if road is None:
            self.roads.pop(host_id, None)
        else:
            self.roads[host_id] = road
        if member is not None:
            self._tell(self.elements.want, member)

    def reached_at(self, member: Member) -> IPv4Address | None:
        """The real address to which packets to it go first; None: none, or it is this host."""
        host, sites = self.host, self.settings.sites
        if by_gateways(sites.get(host.site), sites.get(member.site)):
            return self.gateways.reached_at(member)
        return cross_address(member, host=host, sites=sites)

    def road_of(self, member: Member) -> Road:
        host, sites = self.host, self.settings.sites
        return self.roads.get(member.id) or road_without_key(
            member, host=host, sites=sites, requires=self.requires
        )

    def _tell(self, act: Callable[[SetName, str, str], None], member: Member) -> None:
        host, sites = self.host, self.settings.sites
        road, groups = self.road_of(member), self.groups.of(member)
        for element in elements_of(member, host=host, sites=sites, road=road):
            act(element.where, element.key, element.value)
            for group in groups if element.where in _BY_ADDRESS else ():
                act(group_sets(group)[_BY_ADDRESS[element.where]], element.key, "")

    def remembered(self, host_id: str) -> Remembered | None:
        member = self.fleet.members.get(host_id)
        if member is None:
            return None
        lost = self.fleet.absent(host_id)
        return Remembered(
            name=self.fleet.speaks[host_id],
            more=member.more,
            lost_since=lost.since if lost is not None else None,
            leased=self.fleet.owners.get(member.overlay) == host_id,
            # Only lost ones are held, or let pass.
            hold=self.fleet.holds.get(host_id) if lost is not None else None,
            passing=lost is not None and host_id in self.fleet.passing,
            key=self.fleet.key_of_entry(host_id),
        )

    def everybody(self) -> Everybody:
        def lazily() -> Iterator[tuple[str, Remembered]]:
            for host_id in self.fleet.members:
                held = self.remembered(host_id)
                if held is not None:
                    yield host_id, held

        return Everybody(len(self.fleet.members), lazily())
