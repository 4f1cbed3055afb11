"""Agents without a kernel, a network or a thread: driven turn by turn on a clock that is told."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, cast

from neti.agent.core import Outside
from neti.agent.loop import Agent
from neti.agent.naming import HostsDoor
from neti.agent.probe_socket import ProbeDoor
from neti.agent.worker import Job, JobEvent, Worker, outcome
from neti.clock import ManualClock
from neti.control.server import Request
from neti.dataplane.conntrack import GoesOn
from neti.dataplane.conntrack_limit import ConntrackLimit
from neti.dataplane.foreign import Dropping
from neti.dataplane.forwarding import Forwarding
from neti.dataplane.interfaces import DEFAULT_LOCAL_PORTS, Interface
from neti.dataplane.memory import MemoryDataplane
from neti.dataplane.reconciler import Reconciler
from neti.dataplane.tracked_entry import is_open
from neti.dataplane.wireguard.keys import new_key
from neti.dataplane.wireguard.memory import MemoryTunnel
from neti.errors import ConfigError
from neti.host.network import Link, Network, Route
from neti.model import Host, IPAddress, Site
from neti.model.settings import Settings
from neti.model.wireguard_key import PrivateKey
from neti.monitoring.status import Status, status_of
from neti.registry.memory import MemoryRegistry, MemoryServer
from neti.ruleset.set_names import SetName
from neti.stage.in_the_clear import Tracked
from neti.stage.shadow import Listener, Port
from neti.stage.way_in import OperatorSession
from neti.state.folder import StateFolder


class InlineWorker(Worker):
    """Does each job at once, so that a test's next line sees its end."""

    def start(self) -> None: ...

    def submit(self, name: str, job: Job) -> None:
        self._tell(outcome(name, job))


@dataclass
class FakeMachine:
    private: IPv4Address
    routes: list[Route] = field(default_factory=list)
    others: tuple[str, ...] = ()
    device: str = "eth0"
    dropping: tuple[Dropping, ...] = ()
    more_interfaces: tuple[Interface, ...] = ()
    listening: tuple[Listener, ...] = ()
    temporary: tuple[IPAddress, ...] = ()
    tells_control_groups: bool = True

    def network(self, overlay_subnet: IPv4Network) -> Network:
        links = (Link(self.device, 1500, (self.private,)),)
        return Network(links, (self.device,), tuple(self.routes), temporary=self.temporary)

    def set_overlay_route(
        self, overlay_subnet: IPv4Network, private: IPv4Address, mtu: int | None, *, anew: bool
    ) -> None:
        self.routes = [route for route in self.routes if not route.ours]
        self.routes.append(Route(overlay_subnet, "lo", "78", private, mtu))

    def remove_overlay_route(self, overlay_subnet: IPv4Network) -> None:
        self.routes = [route for route in self.routes if not route.ours]

    def interfaces(self) -> tuple[Interface, ...]:
        return (Interface(1, "lo"), Interface(2, self.device), *self.more_interfaces)

    def listeners(self) -> list[Listener]:
        return list(self.listening)

    def local_ports(self) -> tuple[int, int]:
        return DEFAULT_LOCAL_PORTS

    def others_judging_input(self) -> tuple[str, ...]:
        return self.others

    def control_groups(self) -> bool:
        return self.tells_control_groups

    def foreign_drops(self) -> tuple[tuple[Dropping, ...], tuple[str, ...]]:
        return self.dropping, ()


class FakeConnections:
    def __init__(self) -> None:
        self.ended: list[IPv4Address] = []
        self.tracked: list[Tracked] = []

    def end_connections_to(
        self, destinations: list[IPv4Address], goes_on: GoesOn | None = None
    ) -> int:
        self.ended += destinations
        return len(destinations)

    def end_stale(
        self,
        overlay: IPv4Network,
        leads: Callable[[IPv4Address], IPv4Address | None],
        goes_on: GoesOn | None = None,
    ) -> int:
        return 0

    def sources_with_connections(self, sources: list[IPAddress]) -> set[IPAddress]:
        return set()

    def ending_in(self, addresses: Collection[bytes]) -> list[Tracked]:
        return [
            one
            for one in self.tracked
            if any(a.packed in addresses for a in (one.source, one.to, one.answers))
        ]

    def opened_by(self, sources: Collection[bytes]) -> list[Tracked]:
        return [one for one in self.tracked if one.source.packed in sources and is_open(one)]

    def end_those(self, which: Callable[[Tracked], bool]) -> int:
        before = len(self.tracked)
        self.tracked = [one for one in self.tracked if not which(one)]
        return before - len(self.tracked)


@dataclass
class FakeShadow:
    """What the record of refused packets would say."""

    members: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    full: str = ""
    used: dict[Port, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()

    def sample(self) -> None: ...

    def refused_members(self, since: float) -> tuple[str, ...]:
        return self.members

    def kept_out(self, since: float | None = None) -> tuple[str, ...]:
        return self.kept

    def lost_uses(self, since: float) -> tuple[str, ...]:
        return self.uses

    def incomplete(self, since: float) -> str:
        return self.full

    def unanswered(self) -> dict[Port, str]:
        return dict(self.used)

    def give_up(self, ports: Iterable[Port]) -> None:
        self.used = {port: words for port, words in self.used.items() if port not in set(ports)}


@dataclass
class Box:
    """One host: what outlives its agent (kernel, disk, addresses), and the agent when it runs."""

    world: "World"
    host: Host
    settings: Settings
    dataplane: MemoryDataplane = field(default_factory=MemoryDataplane)
    connections: FakeConnections = field(default_factory=FakeConnections)
    agent: Agent | None = None
    new_settings: Settings | None = None
    kept: list[Settings | None] = field(default_factory=list)  # configurations that came in force
    shadow: FakeShadow = field(default_factory=FakeShadow)
    conntrack_limit: ConntrackLimit | None = None
    forwarding: Forwarding | None = None
    probes: ProbeDoor | None = None
    hosts_file: HostsDoor | None = None
    sessions: list[OperatorSession] = field(default_factory=list)  # open SSH sessions
    brittle: bool = True
    new_key: Callable[[], PrivateKey] = new_key

    def __post_init__(self) -> None:
        self.machine = FakeMachine(self.host.private)
        self.tunnel = MemoryTunnel(self.world.clock.wall)

    def start(self) -> Agent:
        folder = StateFolder(self.settings.table_files_path)
        loaded = folder.load("this machine")
        self.registry = MemoryRegistry(self.world.server, session=loaded.session)
        worker = InlineWorker(self._tell)
        seen = loaded.itself.structure
        outside = Outside(
            reconciler=Reconciler(self.dataplane, self.connections, seen, self.world.clock),
            machine=self.machine,
            connections=self.connections,
            probe_registry=self._probe,
            boot=self.world.boot,
            chance=lambda below: 0,
            new_key=self.new_key,
            tunnel=self.tunnel,
            conntrack_limit=self.conntrack_limit,
            forwarding=self.forwarding,
            probes=self.probes,
            hosts_file=self.hosts_file,
            registry=self.registry,
            worker=worker,
            folder=folder,
            clock=self.world.clock,
            discover=lambda _settings: self.host,
            reload=self._reloaded,
            keep_config=lambda: self.kept.append(self.new_settings),
            ssh_sessions=lambda ports: [s for s in self.sessions if s.local_port in ports],
        )
        self.agent = Agent(
            self.settings,
            self.host,
            outside,
            loaded,
            shadow=self.shadow,
            brittle=self.brittle,
        )
        self.agent.start()
        return self.agent

    def _probe(self) -> None:
        other = MemoryRegistry(self.world.server)
        other.lease_of(self.host.id)
        other.close()

    def stop(self) -> None:
        """As SIGTERM or a kill: nothing is said to the registry or to the kernel."""
        self.registry.detach()
        self.agent = None

    @property
    def running(self) -> Agent:
        assert self.agent is not None
        return self.agent

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        request = Request(command, arguments)
        self.running.tell(request)
        self.world.settle()
        return request.wait()

    def problems(self) -> dict[str, str]:
        """What ``neti status`` names, by its code."""
        return {one["code"]: one["sentence"] for one in self.status()["problems"]}

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.ask("status")["result"]
        return answer

    def told(self) -> Status:
        """The same, as commands read it."""
        return status_of(json.loads(json.dumps(self.status())))

    def elements(self, where: str) -> dict[str, str]:
        """What a set or map of the kernel holds, whatever its kind."""
        state = self.dataplane.read()
        if where == "enforce":
            held = state.enforce.items()
            return {key: "drop" if left is None else f"drop {left}" for key, left in held}
        timed = {name: {k: str(left) for k, left in v.items()} for name, v in state.timed.items()}
        return dict({**state.elements, **timed}.get(cast("SetName", where), {}))

    def _tell(self, event: JobEvent) -> None:
        self.running.tell(event)

    def _reloaded(self) -> Settings:
        if self.new_settings is None:
            raise ConfigError("neti.yml:3: reject_all: expected true or false")
        return self.new_settings


class World:
    """A registry, a clock and hosts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.boot = "boot-1"
        self.server = MemoryServer()
        self.clock = ManualClock()
        self.boxes: list[Box] = []
        self.sites = {
            "ec2": Site(name="ec2", private=(IPv4Network("10.0.0.0/16"),)),
            "vpc": Site(name="vpc", private=(IPv4Network("10.0.0.0/16"),)),
        }

    def box(self, number: int, site: str = "ec2", **changes: Any) -> Box:
        host = Host(
            id=f"{site}-{number}",
            site=site,
            private=IPv4Address(f"10.0.0.{number}"),
            public=IPv4Address(f"{'198.51.100' if site == 'ec2' else '203.0.113'}.{number}"),
        )
        settings = Settings(
            path=Path("neti.yml"),
            sites=self.sites,
            sites_configured=True,
            ssh_whitelist=(IPv4Network("198.51.100.200/32"),),
            table_files_path=self.folder / f"{host.id}-{len(self.boxes)}",
        )
        box = Box(self, host, replace(settings, **changes))
        self.boxes.append(box)
        return box

    def started(self, number: int, site: str = "ec2", **changes: Any) -> Box:
        box = self.box(number, site, **changes)
        box.start()
        self.settle()
        return box

    def crowd(self, numbers: Iterable[int], site: str = "ec2", **changes: Any) -> list[Box]:
        """The same for many: they start in this order, and settle together."""
        boxes = [self.box(number, site, **changes) for number in numbers]
        for box in boxes:
            box.start()
        self.settle()
        return boxes

    def settle(self) -> None:
        """Turns of every loop until nobody has anything left to do now: nothing is told and no
        timer is due, twice in a row, because a turn may also see what another left on disk."""
        idle = 0
        for _ in range(20):
            running = [box.agent for box in self.boxes if box.agent is not None]
            for agent in running:
                agent.step()
            now = self.clock.monotonic()
            busy = any(
                not agent.queue.empty() or any(at <= now for at in agent.core.timers.due.values())
                for agent in running
            )
            idle = 0 if busy else idle + 1
            if idle == 2:
                return

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.settle()


@contextmanager
def world(folder: Path) -> Iterator[World]:
    made = World(folder)
    yield made
    for box in made.boxes:
        if box.agent is not None:
            box.stop()
