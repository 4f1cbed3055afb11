"""Members that ``member_ports`` keep out of a port, or would: looked for in what was recorded.

Must never do: take a member for kept out whom another rule lets in, or who shares an address with
one that is admitted.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from neti.agent.core import Core
from neti.agent.shadow_log import ShadowLog
from neti.host.listeners import listeners
from neti.model import IPAddress, Member
from neti.model.groups import MemberPorts
from neti.ruleset.member_ports import admits_everybody, both, reached_by
from neti.ruleset.reach import elements_of
from neti.stage import kept_out
from neti.stage.kept_out import Around, Others, Peer, Row, is_admitted
from neti.stage.preview import View, opened_by, way_in_by
from neti.stage.record import Record
from neti.stage.shadow import Port

# In these the kernel has members by the addresses from which they come.
ADDRESSES: Final = frozenset({"peers4", "peers6", "tunnel_peers"})


def peers_at(core: Core, sources: Collection[bytes]) -> dict[bytes, tuple[Peer, ...]]:
    """Members that come to this host from these addresses (packed), as its kernel admits them.
    Costs as much as there are members."""
    if not sources:
        return {}
    members, groups = core.members, core.grouping.every()
    host, sites = core.host, core.settings.sites
    found: dict[bytes, tuple[Peer, ...]] = {}
    for member in members.fleet.members.values():
        road = members.road_of(member)
        if not any(one.packed in sources for one in _all_of(member)):
            continue
        for element in elements_of(member, host=host, sites=sites, road=road):
            if element.where not in ADDRESSES:
                continue
            here = packed(element.key)
            if here in sources:
                peer = Peer(member.id, frozenset(groups.of(member)))
                found[here] = (*found.get(here, ()), peer)
    return found


def overlay_at(core: Core, source: IPv4Address, host_id: str) -> IPv4Address | None:
    """The overlay address of this member, if it comes to this host from there. Any thread may ask:
    it reads what the loop replaces as a whole."""
    member = core.members.fleet.members.get(host_id)
    if member is None:
        return None
    host, sites, road = core.host, core.settings.sites, core.members.road_of(member)
    every = elements_of(member, host=host, sites=sites, road=road)
    at = any(one.where in ADDRESSES and one.key == str(source) for one in every)
    return member.overlay if at else None


def _all_of(member: Member) -> Iterator[IPAddress]:
    yield from (member.private, member.overlay, *member.more)
    if member.public is not None:
        yield member.public


def packed(address: str) -> bytes:
    return (IPv6Address if ":" in address else IPv4Address)(address).packed


def admits_now(core: Core) -> MemberPorts:
    """What the file admits counts at once, beside what is in force."""
    return both(core.settings.member_ports, core.ports_in_force)


def kept_from(core: Core, address: IPAddress, port: int, ports: MemberPorts) -> str:
    """Why a member at this address does not get in by TCP, by this policy, and what to write;
    empty: it does, or it is no member."""
    if admits_everybody(ports):
        return ""
    peers = peers_at(core, {address.packed})
    if is_admitted(address.packed, ("tcp", port), _judging(core, peers, ports)) is not False:
        return ""
    ids = ", ".join(peer.id for peer in peers[address.packed])
    to = ", ".join(sorted(reached_by(ports, "tcp", port))) or "nobody"
    return (
        f"{address} is the address of member {ids}, and member_ports let {to} in to {port}/tcp: "
        f"write '{port}/tcp: [GROUP]' with a group that it is in, or add {address} to ssh_whitelist"
    )


def _judging(core: Core, peers: dict[bytes, tuple[Peer, ...]], ports: MemberPorts) -> Around:
    always = frozenset({("tcp", core.settings.verify_port)})
    return Around(peers=peers, ports=ports, always=always)


class KeptOut:
    """Not thread-safe: the loop's thread owns it. Each look is at what the kernel holds now."""

    def __init__(self, core: Core, shadow: ShadowLog) -> None:
        self._core = core
        self._shadow = shadow

    def waiting(self, accepted: Iterable[Port] = ()) -> tuple[list[Row], Around]:
        """Whom the file's policy would keep out of what is in force, or does on trial."""
        self._shadow.sample()
        rows, around = self._look(self._shadow.unasked, self._core.settings.member_ports, accepted)
        in_force = replace(around, ports=self._core.stage.record.member_ports)
        return kept_out.let_in_by(rows, in_force), around

    def refused(self, accepted: Iterable[Port] = ()) -> tuple[list[Row], Around]:
        """Whom the policy in force keeps out. They are recorded among strangers."""
        self._shadow.sample()
        return self._look(self._shadow.record, admits_now(self._core), accepted)

    def meant(self, sources: Collection[bytes]) -> Callable[[bytes, Port], bool]:
        """Whether what came from one of these is refused because of the policy in force."""
        ports = admits_now(self._core)
        around = _judging(self._core, peers_at(self._core, sources), ports)
        return lambda source, port: is_admitted(source, port, around) is False

    def _look(
        self, record: Record, ports: MemberPorts, accepted: Iterable[Port]
    ) -> tuple[list[Row], Around]:
        sources = {source for use in record.ports.values() for source in use.sources}
        around = self._around(peers_at(self._core, sources), ports, accepted)
        return kept_out.kept_out(record, around), around

    def _around(
        self,
        peers: dict[bytes, tuple[Peer, ...]],
        ports: MemberPorts,
        accepted: Iterable[Port] = (),
    ) -> Around:
        core, settings, groups = self._core, self._core.settings, self._core.grouping.every()
        return replace(
            _judging(core, peers, ports),
            view=View(
                listening=tuple(listeners()),
                accepted=dict.fromkeys(accepted, 0.0),
                opened=opened_by(settings),
                way_in=way_in_by(settings),
                trusted=settings.trusted,
                now=self._shadow.now(),
            ),
            defined=groups.needed,
            everybody=Others(
                (member.id, frozenset(groups.of(member)))
                for member in core.members.fleet.members.values()
                if member.id != core.host.id
            ),
        )
