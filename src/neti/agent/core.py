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
from neti.agent.settings_live import LiveSettings
from neti.agent.tagging import Tagger
from neti.agent.timers import Timers
from neti.agent.worker import Worker
from neti.clock import Clock, SteadyClock
from neti.dataplane.conntrack_limit import ConntrackLimit
from neti.dataplane.reconciler import Reconciler
from neti.fleet.guard import Guard
from neti.host.machine import Machine
from neti.model import Host, IPAddress
from neti.model.problems import Problems
from neti.model.settings import Settings
from neti.monitoring.histogram import Measured
from neti.registry import AgentRegistry
from neti.ruleset.desired import Membership
from neti.ruleset.enforce import RELAXED, Enforcement
from neti.stage.stages import DOWN, Record, Stage, hindrance, in_force
from neti.state.folder import STAGE_FILE, StateError, StateFolder
from neti.state.records import Self


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
    registry: AgentRegistry
    worker: Worker
    folder: StateFolder
    clock: Clock
    discover: Callable[[Settings], Host]
    reload: Callable[[], Settings]
    keep_config: Callable[[], None]  # what was reloaded last is in force; raises StateError
    probe_registry: Callable[[], None]  # by a connection of its own; raises RegistryError
    boot: str
    conntrack_limit: ConntrackLimit | None = None
    tagger: Tagger | None = None  # None: not an instance of EC2's
    reserved: frozenset[IPAddress] = frozenset()
    config_read: ConfigRead | None = None  # None: from no file (tests)
    # What of this agent's lock and socket is gone, and how they are made again: raises NetiError.
    taken_away: Callable[[], list[str]] = list
    make_again: Callable[[], None] = lambda: None


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
    fresh: bool = False
    stale_reason: str = "not connected yet"
    fresh_at: float | None = None  # steady seconds
    stale_since: float | None = None  # steady seconds; None while fresh
    down: bool = False
    said_down: bool = False  # what the disk says of it, as it was last obeyed
    # Files whose content on disk is not what is known here, and how each is written.
    behind: dict[str, Callable[[], None]] = field(default_factory=dict)

    @property
    def way_in(self) -> bool:
        """Whether an operator can get in to an enforced host."""
        return self.settings.way_in

    def enforcement(self) -> Enforcement:
        """What the kernel should hold now."""
        if self.record.relaxed and STAGE_FILE in self.behind and not self.down:
            return RELAXED  # the kernel remembers it for as long as the disk does not
        return in_force(
            self.record,
            monotonic=self.now(),
            way_in=self.way_in,
            down=self.down,
            known=self.members.lets_somebody_in,
        )

    def suspended(self) -> str | None:
        """Why the kernel drops nothing, whatever was decided; None when nothing is in the way."""
        known = self.members.lets_somebody_in
        return hindrance(way_in=self.way_in, down=self.down, known=known)

    @property
    def stage(self) -> Stage:
        """What is in force."""
        known = self.members.lets_somebody_in
        open_ = hindrance(way_in=self.way_in, down=False, known=known) is not None
        return Stage.SHADOW if open_ else self.record.stage

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

    def shown(self, at: float | None) -> float | None:
        """The Unix time to tell people for the steady time ``at``."""
        return None if at is None else self.steady.shown(at)

    def soon(self, name: str, seconds: float = 0.0) -> None:
        self.timers.at(name, self.now() + seconds)

    def renew_members(self, *, remember: bool) -> None:
        """For the present settings and host."""
        before = self.members
        self.members = Membership.empty(self.settings, self.host, self.out.reserved, self.guard)
        self.members.succeed(before, now=self.since(), remember=remember)

    def keep(self, name: str, write: Callable[[], None]) -> bool:
        """A disk that fails is named and does not stop the kernel from being kept in step.

        ``name``: of the file. While it is behind what is known here, it is written again and again
        by ``write``, which takes what is known then. Whether it is on disk now.
        """
        try:
            write()
        except StateError as error:
            if name not in self.behind:
                log.error("state_not_written", what=str(error), file=name)
            self.behind[name] = write
            self.problems.set("disk", str(error), subject=name)
            if "disk" not in self.timers.due:
                self.timers.retry("disk", self.now())
        else:
            if self.behind.pop(name, None) is not None:
                log.info("state_written_again", file=name)
            self.problems.clear("disk", subject=name)
            if not self.behind:
                self.timers.worked("disk")
        self._say_what_will_not_last()
        return name not in self.behind

    def keep_what_is_behind(self) -> None:
        """The timer "disk": each file that could not be written."""
        for name, write in tuple(self.behind.items()):
            self.keep(name, write)

    def _say_what_will_not_last(self) -> None:
        if STAGE_FILE in self.behind:
            self.problems.set(
                "stage_not_saved",
                f"this host is in {self.stage.value} now, and that is not on disk: a reboot undoes "
                "it; make the state folder writable",
            )
        else:
            self.problems.clear("stage_not_saved")

    def keep_self(self, itself: Self) -> None:
        if itself != self.itself:
            self.itself = itself
            self.keep("self.json", lambda: self.out.folder.save_self(self.itself))

    def keep_record(self, record: Record, *, anew: bool = False) -> bool:
        """Whether it is on disk. ``anew``: also where it is what it was."""
        decided = record.wished or record.by == "command"
        if record != self.record:
            if decided:
                self.problems.clear("stage_lost")  # somebody has said again what it should be
            self.record = record
        elif not anew and STAGE_FILE not in self.behind:
            return True
        # A record that a newer version wrote, and that nobody here understands, is not written over
        # because of what nobody decided.
        if not decided and self.out.folder.holds_what_is_not_understood(STAGE_FILE):
            return True
        return self.keep(STAGE_FILE, lambda: self.out.folder.save_record(self.record))
