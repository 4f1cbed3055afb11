"""What the parts of the agent stand on: settings, this host, clock, timers, members, problems.

``Outside`` holds the doors to the world, so that tests can pass in others.
"""

import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol

from neti.agent.collector import Collector, NoCollector
from neti.agent.config_read import ConfigRead
from neti.agent.disk import Disk
from neti.agent.down import Down
from neti.agent.grouping import Grouping
from neti.agent.in_step import InStep
from neti.agent.naming import HostsDoor, Naming
from neti.agent.others_keys import OthersKeys
from neti.agent.own_key import OwnKey
from neti.agent.own_openings import OwnOpenings
from neti.agent.own_stage import OwnStage
from neti.agent.probe_socket import ProbeDoor
from neti.agent.settings_live import LiveSettings
from neti.agent.tagging import Tagger
from neti.agent.timers import Timers
from neti.agent.worker import Worker
from neti.clock import Clock, SteadyClock
from neti.dataplane.conntrack import GoesOn
from neti.dataplane.conntrack_limit import ConntrackLimit
from neti.dataplane.forwarding import Forwarding
from neti.dataplane.reconciler import Reconciler
from neti.dataplane.wireguard.keys import new_key
from neti.dataplane.wireguard.tunnel import WholeTunnel
from neti.fleet.guard import Guard
from neti.fleet.vouching import Mode, mode_of
from neti.host.machine import Machine
from neti.model import Host, IPAddress
from neti.model.groups import MemberPorts
from neti.model.problems import Problems
from neti.model.settings import Settings
from neti.model.wireguard_key import PrivateKey
from neti.monitoring.histogram import Measured
from neti.registry import AgentRegistry
from neti.ruleset.desired import Membership
from neti.stage.in_the_clear import Tracked
from neti.stage.stages import Record
from neti.stage.way_in import OperatorSession
from neti.state.folder import StateFolder
from neti.state.loaded import Loaded


class Connections(Protocol):
    """See ``neti.dataplane.conntrack.Conntrack``."""

    def end_connections_to(
        self, destinations: list[IPv4Address], goes_on: GoesOn | None = None
    ) -> int: ...

    def sources_with_connections(self, sources: list[IPAddress]) -> set[IPAddress]: ...

    def ending_in(self, addresses: Collection[bytes]) -> list[Tracked]: ...

    def opened_by(self, sources: Collection[bytes]) -> list[Tracked]: ...

    def end_those(self, which: Callable[[Tracked], bool]) -> int: ...

    def end_stale(
        self,
        overlay: IPv4Network,
        leads: Callable[[IPv4Address], IPv4Address | None],
        goes_on: GoesOn | None = None,
    ) -> int: ...


@dataclass(slots=True, kw_only=True)
class Outside:
    reconciler: Reconciler
    machine: Machine
    connections: Connections
    registry: AgentRegistry
    worker: Worker
    folder: StateFolder
    clock: Clock
    discover: Callable[[Settings], Host]
    reload: Callable[[], Settings]
    keep_config: Callable[[], None]  # keeps what was reloaded last; raises StateError
    probe_registry: Callable[[], None]  # over a separate connection; raises RegistryError
    boot: str
    running_here: str = ""  # as ``neti.identity.machine.running_here``
    chance: Callable[[int], int] = secrets.randbelow  # from 0 up to, and without, this number
    new_key: Callable[[], PrivateKey] = new_key
    conntrack_limit: ConntrackLimit | None = None
    forwarding: Forwarding | None = None  # None: this host cannot be a gateway (tests)
    probes: ProbeDoor | None = None  # None: gateways are judged by the registry alone (tests)
    tunnel: WholeTunnel | None = None  # None: nothing can be encrypted (tests)
    hosts_file: HostsDoor | None = None  # None: nobody serves names (tests)
    tagger: Tagger | None = None  # None: not an EC2 instance
    reserved: frozenset[IPAddress] = frozenset()
    config_read: ConfigRead | None = None  # None: there is no file (tests)
    # See ``neti.host.ssh_session.open_sessions``.
    ssh_sessions: Callable[[Collection[int]], list[OperatorSession]] = lambda _ports: []
    # What of this agent's lock and socket is gone, and how they are made again: raises NetiError.
    taken_away: Callable[[], list[str]] = list
    make_again: Callable[[], None] = lambda: None
    collector: Collector = NoCollector()


class Core:
    """Not thread-safe: the loop's thread owns it. Each part keeps its own state, which only its
    methods change; so does this for settings, host and members."""

    def __init__(
        self,
        settings: Settings,
        host: Host,
        out: Outside,
        loaded: Loaded,
        *,
        steady: SteadyClock,
        problems: Problems,
    ) -> None:
        self._settings = settings
        self._host = host
        self.out = out
        self.steady = steady
        self.problems = problems
        self.timers = Timers()
        self.guard = Guard(window=loaded.window)
        self.live = LiveSettings()
        self.measured = Measured()
        self.disk = Disk(
            out.folder,
            loaded.itself,
            loaded.faults,
            clock=out.clock,
            problems=problems,
            timers=self.timers,
        )
        self._members = self._no_members()
        self.down = Down(out.folder, out.reconciler, self.disk, taken_away=self._taken_away)
        self.in_step = InStep(self.since())
        self.stage = OwnStage(self, loaded.record or Record())
        self.openings = OwnOpenings(self, loaded.openings)
        self.own_key = OwnKey(self)
        self.others_keys = OthersKeys(self)
        self.grouping = Grouping(self, loaded.groups)
        self.naming = Naming(self, loaded.names)

    def _taken_away(self) -> list[str]:
        return self.out.taken_away()

    def now(self) -> float:
        """CLOCK_MONOTONIC seconds."""
        return self.out.clock.monotonic()

    def wall(self) -> float:
        """Unix seconds, for people and certificates: this clock can be set."""
        return self.out.clock.wall()

    def since(self) -> float:
        """Steady seconds, which nobody can set: for everything that ends after a time."""
        return self.steady.now()

    def shown(self, at: float | None) -> float | None:
        """The steady time ``at`` as Unix time, for people."""
        return None if at is None else self.steady.shown(at)

    def soon(self, name: str, seconds: float = 0.0) -> None:
        self.timers.at(name, self.now() + seconds)

    # --- settings, host, members ---

    @property
    def settings(self) -> Settings:
        return self._settings

    @property
    def host(self) -> Host:
        return self._host

    @property
    def members(self) -> Membership:
        return self._members

    @property
    def ports_in_force(self) -> MemberPorts:
        """None, which lets every member in, also while it is not known who is in which group: a
        file that is torn shuts no port."""
        return self.stage.record.member_ports if self._members.groups.known else None

    def take_host(self, host: Host) -> None:
        """This host's addresses are these now. The members are still judged by the former ones
        until ``renew_members``."""
        self._host = host

    def take_settings(self, settings: Settings) -> None:
        """Likewise for the settings."""
        self._settings = settings

    def take_back(self, settings: Settings, members: Membership) -> None:
        """All as it was before ``take_settings`` and ``renew_members``."""
        self._settings, self._members = settings, members

    def renew_members(self, *, remember: bool) -> None:
        """For the present settings and host."""
        before, self._members = self._members, self._no_members()
        self._members.succeed(before, now=self.since(), remember=remember)

    def _no_members(self) -> Membership:
        return Membership.empty(
            self._settings, self._host, self.out.reserved, self.guard, self._records()
        )

    def _records(self) -> Mode:
        tls, strict = self._settings.registry_tls is not None, self.disk.itself.strict is not None
        return mode_of(tls=tls, strict=strict)
