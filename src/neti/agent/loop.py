"""The agent: one loop, one queue, one thread that decides. Everything else only tells it things.

wait -> take in what is told -> fleet -> elements -> one transaction -> disk, log, status

Must never do: block on the registry or the network, conclude anything from silence, or leave the
kernel worse than it found it. What a kill leaves behind is written at each step that changes the
world; docs/design/agent.md has them all in one table.
"""

import json
import os
import queue
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Any, Final

from neti import __version__, log
from neti.agent import settings_live, status
from neti.agent.control import Request
from neti.agent.machine import Machine
from neti.agent.membership import Membership
from neti.agent.reconcile import Reconciler, SeenStructure
from neti.agent.state import Loaded, Remembered, Self, StateError, StateFolder
from neti.agent.systemd import notify, notify_reloading
from neti.agent.worker import JobDone, JobFailed, Worker
from neti.clock import Clock
from neti.dataplane.monitor import NetworkChanged, RulesChanged
from neti.dataplane.network import Network
from neti.errors import DataplaneError, IdentityHeld, NetiError, RegistryError
from neti.fleet import Change
from neti.model import Host, IPAddress, Member
from neti.policy import Surroundings, structure
from neti.registry import (
    Appeared,
    DataRead,
    Event,
    Fresh,
    LeaseRead,
    Registry,
    SessionEnded,
    SettingRead,
    Snapshot,
    Stale,
    Vanished,
    entry,
)
from neti.settings import Settings

_DRAIN_AT_MOST: Final = 20_000  # events taken in before the kernel gets its turn
_IDENTITY_EVERY: Final = 60.0  # seconds between looks at this host's own addresses
_RETRY_AFTER: Final = (1.0, 2.0, 5.0, 10.0, 30.0)  # pauses after a failure; the last one stays
_SETTLE: Final = 0.2  # seconds in which other programs' changes are gathered before a look
_SWEEP_EVERY: Final = 60.0  # seconds between looks for removed sources without connections
_LOG_EACH: Final = 20  # members named singly in the log; more are one line


@dataclass(frozen=True, slots=True)
class Reload:
    """Read the configuration again (SIGHUP)."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop this program (SIGTERM, SIGINT); rules and registration stay."""


Told = (
    Event | NetworkChanged | RulesChanged | JobDone | JobFailed | Request | Reload | Stop
)


@dataclass(slots=True)
class Timers:
    """When (monotonic seconds) something is due; absent: not at all."""

    due: dict[str, float] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)

    def at(self, name: str, when: float) -> None:
        self.due[name] = min(when, self.due.get(name, when))

    def retry(self, name: str, now: float) -> float:
        """Due again after a pause that grows with each failure in a row; the pause."""
        count = self.failures.get(name, 0)
        self.failures[name] = count + 1
        pause = _RETRY_AFTER[min(count, len(_RETRY_AFTER) - 1)]
        self.due[name] = now + pause
        return pause

    def worked(self, name: str) -> None:
        self.failures.pop(name, None)
        self.due.pop(name, None)

    def expired(self, now: float) -> list[str]:
        names = [name for name, when in self.due.items() if when <= now]
        for name in names:
            del self.due[name]
        return names


@dataclass(slots=True, kw_only=True)
class Outside:
    """The agent's doors to the world, so that tests can hand in others."""

    reconciler: Reconciler
    machine: Machine
    registry: Registry
    worker: Worker
    folder: StateFolder
    clock: Clock
    discover: Callable[[], Host]
    reload: Callable[[], Settings]
    revoked_alive: Callable[[list[IPv4Address]], set[IPv4Address]]
    reserved: frozenset[IPAddress] = frozenset()


class Agent:
    """See the module's first lines. ``tell`` is safe from any thread; all else is the loop's."""

    def __init__(
        self, settings: Settings, host: Host, outside: Outside, loaded: Loaded, *, machine_id: str
    ) -> None:
        self.settings = settings
        self.host = host
        self.out = outside
        self.members = Membership.empty(settings, host, outside.reserved)
        self.queue: queue.SimpleQueue[Told] = queue.SimpleQueue()
        self.timers = Timers()
        self.live = settings_live.LiveSettings()
        self.itself = replace(loaded.itself, machine=machine_id)
        self.known = False  # the fleet is known: from the registry, or from the last good state
        self.fresh = False
        self.stale_reason = "not connected yet"
        self.fresh_at: float | None = None
        self.entry: str | None = None  # the name under which this host is registered now
        self.problems: dict[str, str] = {f"state {n}": s for n, s in enumerate(loaded.faults)}
        self.applies = 0
        self._commit_after = 0.0
        self._stopping = False
        self._surroundings: Surroundings | None = None
        self._last_member: Member | None = None
        if loaded.members:
            self.members.remember(loaded.members)
            self.known = True
        for sentence in loaded.faults:
            log.warning("state_fault", what=sentence)

    # --- life ---

    def tell(self, what: Told) -> None:
        self.queue.put(what)

    def start(self) -> None:
        """Make the kernel right from what is known without the registry, then ask the registry."""
        if self.itself.overlay is not None:
            overlay = IPv4Address(self.itself.overlay)
            if overlay in self.settings.overlay_subnet:
                self.members.hold_lease(overlay)
        if not self.known:
            self.members.adopt(self.out.reconciler.read())
        self.members.enforce(self.settings.reject_all and self.known)
        self._observe_changes(self.members.take_changes())
        self.resync("start")
        self.out.worker.start()
        self.out.registry.watch(self.tell)
        self._look_at_identity_later()
        self.timers.at("sweep", self._now() + _SWEEP_EVERY)
        notify("READY=1", f"STATUS=waiting for the registry; {len(self.members.fleet.members)}")

    def run(self) -> None:
        """Until told to stop."""
        while not self._stopping:
            self.step(block=True)

    def step(self, *, block: bool = False) -> None:
        """One turn of the loop: everything that is told or due now, then the kernel."""
        for told in self._waiting(block):
            self._take_in(told)
        for name in self.timers.expired(self._now()):
            self._due(name)
        self._settle_fleet()
        self._ask()
        if "commit" not in self.timers.due and self._pending:
            self._commit_when_quiet()

    def _waiting(self, block: bool) -> list[Told]:
        told: list[Told] = []
        try:
            if block:
                told.append(self.queue.get(timeout=self._patience()))
            while len(told) < _DRAIN_AT_MOST:
                told.append(self.queue.get_nowait())
        except queue.Empty:
            pass
        return told

    def _patience(self) -> float:
        due = min(self.timers.due.values(), default=self._now() + _IDENTITY_EVERY)
        return max(0.0, due - self._now())

    def _now(self) -> float:
        return self.out.clock.monotonic()
