"""What the rooms of the agent share: this host, its settings, the fleet, what is wrong.

The loop's thread owns all of it. ``Outside`` are the doors to the world, so that tests can hand in
others.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol

from neti import log
from neti.agent.config_read import ConfigRead
from neti.agent.machine import Machine
from neti.agent.membership import Membership
from neti.agent.reconcile import Reconciler
from neti.agent.settings_live import LiveSettings
from neti.agent.state import StateError, StateFolder
from neti.agent.state_records import Self
from neti.agent.tagging import Tagger
from neti.agent.timers import Timers
from neti.agent.worker import Worker
from neti.clock import Clock, SteadyClock
from neti.dataplane.conntrack_limit import ConntrackLimit
from neti.enforcement import Enforcement
from neti.guard import Guard
from neti.measured import Measured
from neti.model import Host, IPAddress
from neti.problems import Problems
from neti.registry import Registry
from neti.settings import Settings
from neti.stage import DOWN, Record, Stage, in_force


class Connections(Protocol):
    """See ``neti.dataplane.conntrack.Conntrack``."""

    def end_connections_to(self, destinations: list[IPv4Address]) -> int: ...

    def sources_with_connections(self, sources: list[IPAddress]) -> set[IPAddress]: ...

    def end_stale(
        self, overlay: IPv4Network, leads: Callable[[IPv4Address], IPv4Address | None]
    ) -> int: ...


@dataclass(slots=True, kw_only=True)
class Outside:
    reconciler: Reconciler
    machine: Machine
    connections: Connections
    registry: Registry
    worker: Worker
    folder: StateFolder
    clock: Clock
    discover: Callable[[Settings], Host]
    reload: Callable[[], Settings]
    probe_registry: Callable[[], None]  # by a connection of its own; raises RegistryError
    boot: str
    conntrack_limit: ConntrackLimit | None = None
    tagger: Tagger | None = None  # None: not an instance of EC2's
    reserved: frozenset[IPAddress] = frozenset()
    config_read: ConfigRead | None = None  # None: from no file (tests)


@dataclass(slots=True, kw_only=True)
class Core:
    """Not thread-safe: the loop's thread owns it."""

    settings: Settings
    host: Host
    out: Outside
    members: Membership
    itself: Self
    record: Record
    guard: Guard
    steady: SteadyClock
    timers: Timers = field(default_factory=Timers)
    problems: Problems = field(default_factory=Problems)
    live: LiveSettings = field(default_factory=LiveSettings)
    measured: Measured = field(default_factory=Measured)
    known: bool = False  # the fleet is known: from the registry, or from the last good state
    fresh: bool = False
    stale_reason: str = "not connected yet"
    fresh_at: float | None = None  # steady seconds
    stale_since: float | None = None  # steady seconds; None while fresh
    down: bool = False

    @property
    def way_in(self) -> bool:
        """Whether an operator can get in to an enforced host."""
        return self.settings.way_in

    def enforcement(self) -> Enforcement:
        """What the kernel should hold now."""
        return in_force(self.record, monotonic=self.now(), way_in=self.way_in, down=self.down)

    @property
    def stage(self) -> Stage:
        """What is in force."""
        return self.record.stage if self.way_in else Stage.SHADOW

    @property
    def stage_word(self) -> str:
        """As operators read it, everywhere: what is in force, or ``down``."""
        return DOWN if self.down else self.stage.value

    def now(self) -> float:
        """CLOCK_MONOTONIC seconds."""
        return self.out.clock.monotonic()

    def wall(self) -> float:
        """Unix seconds, for people and certificates: anybody may set this clock."""
        return self.out.clock.wall()

    def since(self) -> float:
        """Steady seconds, which nobody can set: for all that ends after so long."""
        return self.steady.now()

    def soon(self, name: str, seconds: float = 0.0) -> None:
        self.timers.at(name, self.now() + seconds)

    def empty_membership(self) -> Membership:
        return Membership.empty(self.settings, self.host, self.out.reserved, self.guard)

    def keep(self, write: Callable[[], None]) -> None:
        """A disk that fails is named and does not stop the kernel from being kept in step."""
        try:
            write()
            self.problems.clear("disk")
        except StateError as error:
            self.problems.set("disk", str(error))
            log.error("state_not_written", what=str(error))

    def keep_self(self, itself: Self) -> None:
        if itself != self.itself:
            self.itself = itself
            self.keep(lambda: self.out.folder.save_self(itself))

    def keep_record(self, record: Record) -> None:
        if record != self.record:
            if record.wished or record.by == "command":
                self.problems.clear("stage_lost")  # somebody has said again what it should be
            self.record = record
            self.keep(lambda: self.out.folder.save_record(record))
