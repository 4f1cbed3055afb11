"""A host of some fleet with groups, drawn by a seed, and all that may be asked of it: cells.

A cell is one first packet: from where, by which device, to which port. What is said of it is asked
of ``neti explain`` and of ``tests.support.packet_model``. Must never do: depend on anything but the
seed.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from tests.support.packet_model import Packet, Table

from neti.agent.explaining import Asked
from neti.agent.kept_out import peers_at
from neti.agent.named import HERE
from neti.dataplane import Dataplane
from neti.dataplane.memory import MemoryDataplane
from neti.dataplane.reconciler import Connections, Reconciler
from neti.fleet.groups import GroupIndex
from neti.model import Encrypt, Host, IPAddress, Member, Road, Site, entry
from neti.model.groups import EVERY_MEMBER, GroupLine, Groups, MemberPort, MemberPorts
from neti.model.openings import Opening, Openings
from neti.model.settings import OpenPort, Settings
from neti.ruleset.desired import Membership
from neti.ruleset.enforce import OFF, Enforcement
from neti.ruleset.member_ports import PROTOCOLS, Proto, admits_everybody, covers
from neti.ruleset.objects import AddTimed, Structure, Transaction
from neti.ruleset.openings import lengths, until
from neti.ruleset.policy import structure
from neti.ruleset.reach import encryption
from neti.ruleset.roads import tunnel_for
from neti.ruleset.set_names import SetName
from neti.ruleset.surroundings import TUNNEL_DEVICE, Surroundings
from neti.stage.kept_out import Peer

PRIVATE, PRIVATE6 = "10.0.0.5", "fd00:5::5"
OVERLAY, MTU = "192.168.0.5", 1400
CONTAINER, CONTAINER6, INSIDE = "172.31.0.2", "fd00:31::2", 9000
PUBLISHED: Final = (8443, 5432)  # by a container, where it is asked for by ``Cell.published``
HOST: Final = Host(
    id="me",
    site="ec2",
    private=IPv4Address(PRIVATE),
    public=IPv4Address("198.51.100.5"),
    more=(ip_address(PRIVATE6),),
)
# Sources that were members until lately.
REMOVED: Final[tuple[tuple[SetName, dict[str, int]], ...]] = (
    ("revoked4", {"10.0.0.66": 600, "203.0.113.67": 600}),
    ("revoked6", {"fd00:5::67": 600}),
)
_STRANGERS: Final = ("203.0.113.66", "fd00:5::66", "192.168.0.99", "8.8.8.8")
_GROUPS: Final = ("app", "db", "ops", "web-1")
_PORTS: Final = (1, 22, 80, 443, 5432, 5433, 7077, 8000, 8050, 8443, 9000, 51820, 40001, 65535)
_OPENED_TO: Final = (
    "10.0.0.66/32",
    "203.0.113.0/28",
    "203.0.113.66/31",
    "10.0.0.0/8",
    "fd00:5::/64",
)
_PORTS_OF_A_CASE: Final = 12
_TRIAL: Final = 500.0  # seconds: longer than any test takes


@dataclass(frozen=True, slots=True)
class Cell:
    """``forged``: an overlay address that does not come through the tunnel."""

    source: IPAddress
    proto: Proto
    port: int
    published: bool = False
    forged: bool = False

    def __str__(self) -> str:
        how = (" forged" if self.forged else "") + (" of a container" if self.published else "")
        return f"{self.source}{how} -> {self.port}/{self.proto}"


@dataclass
class Case:
    """One host. ``tracked`` False: another program turns tracking off."""

    seed: int
    settings: Settings = field(init=False)
    in_force: MemberPorts = field(init=False)
    members: Membership = field(init=False)
    enforcement: Enforcement = field(init=False)
    tracked: bool = field(init=False)
    groups_known: bool = field(init=False)
    leased: bool = field(init=False)
    openings: Openings = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        draw = self._random.random
        self.groups_known = draw() > 0.05
        self.tracked = draw() > 0.15
        self.leased = draw() > 0.1
        self.settings = self._settings()
        file = self.settings.member_ports
        same = draw() < 0.4
        self.in_force = file if same else self._policy() if draw() < 0.7 else None
        if not self.groups_known:
            self.in_force = None
        self.members = Membership.empty(self.settings, HOST, frozenset())
        self.members.hold_lease(IPv4Address(OVERLAY) if self.leased else None)
        self.enforcement = self._enforcement()
        self.members.require(self.enforcement.requires)
        fleet = self._fleet()
        self._join(fleet)
        self.members.group_members(self._groups(fleet) if self.groups_known else None, now=0.0)
        self.members.admit_by(self.in_force)
        self.members.elements.enforce(self.enforcement)
        self.openings = Openings(held=tuple(self._openings()))

    # --- what is drawn ---

    def _settings(self) -> Settings:
        draw = self._random
        sites = {
            "ec2": Site(name="ec2", private=(ip_network("10.0.0.0/16"),)),  # type: ignore[arg-type]
            "vpc": Site(name="vpc", encrypt=draw.choice(list(Encrypt))),
        }
        return Settings(
            path=Path("neti.yml"),
            sites=sites,
            sites_configured=True,
            member_ports=self._policy(),
            open_ports=tuple(
                OpenPort(
                    *draw.choice(((80, 80), (8000, 8100), (5432, 5432), (1, 65535))),
                    draw.choice(("tcp", "udp")),
                    sources=() if draw.random() < 0.5 else self._some_networks(),  # type: ignore[arg-type]
                )
                for _ in range(draw.choice((0, 1, 1, 2)))
            ),
            trusted=self._some_networks() if draw.random() < 0.3 else (),  # type: ignore[arg-type]
            ssh_whitelist=self._some_networks(),  # type: ignore[arg-type]
        )

    def _some_networks(self) -> tuple[object, ...]:
        every = ("10.0.0.66/32", "10.0.0.10/31", "203.0.113.0/28", "fd00:5::10/127", "0.0.0.0/1")
        chosen = self._random.sample(every, self._random.choice((1, 2)))
        return tuple(map(ip_network, chosen))

    def _openings(self) -> Iterator[Opening]:
        """For a time, and to networks within each other."""
        draw = self._random
        for _ in range(draw.choice((0, 0, 1, 3))):
            first = draw.choice(_PORTS)
            yield Opening(
                source=ip_network(draw.choice(_OPENED_TO)),
                proto=draw.choice(PROTOCOLS),
                first=first,
                last=min(65535, first + draw.choice((0, 0, 3))),
                until=_TRIAL,
                seconds=int(_TRIAL),
            )

    def _policy(self) -> MemberPorts:
        draw = self._random
        lines = []
        for _ in range(draw.choice((0, 1, 2, 4, 7))):
            names = (*_GROUPS, EVERY_MEMBER) if draw.random() < 0.3 else _GROUPS
            groups = tuple(draw.sample(names, draw.choice((1, 1, 2))))
            if draw.random() < 0.15:
                lines.append(MemberPort(groups))
                continue
            first = draw.choice(_PORTS)
            last = first if draw.random() < 0.6 else min(65535, first + draw.choice((1, 100, 9000)))
            lines.append(MemberPort(groups, draw.choice(("tcp", "udp")), first, last))
        return tuple(lines) or None

    def _enforcement(self) -> Enforcement:
        draw = self._random.random()
        if draw < 0.15:
            return OFF
        permanent = draw < 0.7
        own, other = (self.settings.sites[name] for name in ("ec2", "vpc"))
        require: float | None = 0
        if encryption(own, other) is Encrypt.REQUIRE and self._random.random() < 0.7:
            require = None if permanent else _TRIAL
        file = self.settings.member_ports
        waits = not admits_everybody(file) and not covers(file, self.in_force)
        tries = waits and self.groups_known and self._random.random() < 0.4
        narrow = _TRIAL if tries else 0
        seconds = 0 if permanent else _TRIAL
        return Enforcement(permanent, seconds, require=require, narrow=narrow)

    def _fleet(self) -> list[Member]:
        draw = self._random
        made = []
        for number in range(10, 10 + draw.choice((2, 4, 6))):
            near = draw.random() < 0.5
            # Some share an address, as behind a NAT.
            private = f"10.0.0.{number}" if near else "10.1.0.7"
            public = f"203.0.113.{draw.choice((number, 10))}"
            more = [f"fd00:5::{number:x}"] if draw.random() < 0.6 else []
            more += [f"100.64.0.{number}"] if draw.random() < 0.3 and not near else []
            made.append(
                Member(
                    id=f"host-{number}",
                    site="ec2" if near else "vpc",
                    private=IPv4Address(private),
                    public=IPv4Address(public) if draw.random() < 0.8 or not near else None,
                    overlay=IPv4Address(f"192.168.0.{number}"),
                    extended=bool(more),
                    more=tuple(map(ip_address, more)),
                )
            )
        return made

    def _join(self, fleet: list[Member]) -> None:
        for member in fleet:
            name = entry.encode(member)
            self.members.fleet.appeared(name)
            self.members.fleet.lease_read(member.overlay, member.id)
            if member.extended:
                self.members.fleet.data_read(name, entry.encode_data(member.more))
        self.members.take_changes()
        own, other = (self.settings.sites[name] for name in ("ec2", "vpc"))
        asked = encryption(own, other)
        for member in fleet:
            if member.site == HOST.site or not asked.encrypts:
                continue
            roads = [Road.TRYING, Road.PREFERRED, Road.PLAIN]
            if self.enforcement.requires:
                roads = [Road.REQUIRED, Road.NONE]
            self.members.goes_by(member.id, self._random.choice(roads))

    def _groups(self, fleet: list[Member]) -> Groups:
        draw = self._random
        lines: dict[str, tuple[GroupLine, ...]] = {}
        for name in _GROUPS:
            if draw.random() < 0.1:
                continue  # nobody has defined it
            chosen = [one.id for one in fleet if draw.random() < 0.4]
            chosen += ["host-1?"] if draw.random() < 0.1 else []
            site = draw.choice(("", "", "vpc"))
            lines[name] = tuple(GroupLine(one, site) for one in chosen)
        return Groups(lines, edition=1)

    # --- what the kernel is to hold ---

    @property
    def rules(self) -> Structure:
        return structure(
            self.settings,
            Surroundings(
                uplinks=("eth0",),
                ssh_untracked=True,
                site=HOST.site,
                tunnel=tunnel_for(self.settings, HOST, self.members.overlay, MTU),
                member_ports=self.in_force,
                openings=lengths(self.openings.held),
            ),
        )

    def load(self, dataplane: Dataplane, connections: Connections) -> None:
        """Into a kernel that holds nothing of Neti."""
        reconciler = Reconciler(dataplane, connections, None)
        elements = self.members.elements
        elements.openings = until(self.openings.held, time.monotonic())
        reconciler.resync(self.rules, elements)
        if self.enforcement.seconds or self.enforcement.narrow or self.enforcement.require:
            reconciler.begin_trial(elements)
        dataplane.apply(Transaction(tuple(AddTimed(where, ends) for where, ends in REMOVED)))
        elements.kernel_is(dataplane.read())

    @cached_property
    def table(self) -> Table:
        """As it is in memory."""
        made = MemoryDataplane()
        self.load(made, _NoConnections())
        return Table(made)

    # --- what is said ---

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(self._cells())

    def _cells(self) -> Iterator[Cell]:
        removed = (address for _, ends in REMOVED for address in ends)
        sources = set(map(ip_address, (*_STRANGERS, *removed)))
        overlays = set()
        for member in self.members.fleet.members.values():
            overlays.add(member.overlay)
            sources |= {member.private, *member.more, *((member.public,) if member.public else ())}
        asked = {*_PORTS, *self._random.sample(range(1, 65536), 2)}
        for one in (*(self.settings.member_ports or ()), *(self.in_force or ())):
            if one.proto is not None:
                edges = (one.first - 1, one.first, one.last, one.last + 1)
                asked |= {edge for edge in edges if 1 <= edge <= 65535}
        ports = sorted(self._random.sample(sorted(asked), _PORTS_OF_A_CASE))
        for source in sorted(sources | overlays, key=lambda one: (one.version, int(one))):
            if source in overlays:
                yield Cell(source, "tcp", 5432, forged=True)
                if not (self.leased and self._wants("tunnel_peers", source)):
                    continue
            yield from (Cell(source, proto, port) for port in ports for proto in PROTOCOLS)
            for port in PUBLISHED if self.tracked else ():
                yield Cell(source, "tcp", port, published=True)

    def through_tunnel(self, cell: Cell) -> bool:
        """Whether it comes by ``neti0``, to this host's overlay address."""
        return not cell.forged and self.leased and self._wants("tunnel_peers", cell.source)

    def _wants(self, where: SetName, address: IPAddress) -> bool:
        return self.members.elements.wants(where, str(address))

    def device(self, cell: Cell) -> str:
        if cell.source.is_loopback:
            return "lo"
        return TUNNEL_DEVICE if self.through_tunnel(cell) else "eth0"

    def modelled(self, cell: Cell) -> bool:
        packet = Packet(
            cell.source,
            cell.proto,
            cell.port,
            device=self.device(cell),
            dport=INSIDE if cell.published else None,
            tracked=self.tracked,
        )
        return self.table.admits(packet)

    def explained(self, cell: Cell) -> bool | None:
        """None: it is not asked about."""
        if cell.forged:
            return None  # an overlay address stands for its member, which comes by another
        if cell.published and cell.port in (self.settings.ssh_port, self.settings.tunnel_port):
            return None
        source = str(cell.source)
        asked = Asked(self._core, cell.proto, cell.port, self._peers)
        answers = asked.pair(source, HERE).answers
        found = [one.admitted for one in answers if one.address == source]
        assert found, cell
        return found[0]

    @cached_property
    def _peers(self) -> dict[bytes, tuple[Peer, ...]]:
        return peers_at(self._core, {cell.source.packed for cell in self.cells})

    @cached_property
    def _core(self) -> Any:
        groups = self.members._defined[0]
        index = GroupIndex(groups, groups.lines if groups is not None else (), 0.0)
        word = "enforced" if self.enforcement.permanent else "trial"
        return SimpleNamespace(
            settings=self.settings,
            host=HOST,
            members=self.members,
            grouping=SimpleNamespace(every=lambda: index),
            ports_in_force=self.in_force,
            out=SimpleNamespace(machine=SimpleNamespace(local_ports=lambda: (32768, 60999))),
            openings=SimpleNamespace(decided=self.openings),
            steady=SimpleNamespace(shown=lambda at: at),
            stage=SimpleNamespace(
                word=word if self.enforcement else "shadow", narrows=self.enforcement.narrow > 0
            ),
        )


class _NoConnections:
    def end_connections_to(self, *_: object) -> int:
        return 0
