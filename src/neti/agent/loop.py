"""The agent: one loop, one queue, one thread that decides. Everything else only tells it things.

wait -> take in what is told -> fleet -> elements -> one transaction -> disk, log, status

Must never do: block on the registry or the network, conclude anything from silence, or leave the
kernel worse than it found it. What a kill leaves behind is written at each step that changes the
world; docs/design/agent.md has them all in one table.
"""

import queue
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Any, Final

from neti import log
from neti.agent import own_entry, settings_live, status
from neti.agent.control import Request
from neti.agent.host_network import HostNetwork
from neti.agent.machine import Machine
from neti.agent.membership import Membership
from neti.agent.reconcile import Reconciler, SeenStructure
from neti.agent.reloading import reloadable
from neti.agent.state import Loaded, Remembered, Self, StateError, StateFolder
from neti.agent.systemd import notify, notify_reloading
from neti.agent.timers import Timers
from neti.agent.worker import JobDone, JobFailed, Worker
from neti.clock import Clock
from neti.dataplane.monitor import NetworkChanged, RulesChanged
from neti.errors import DataplaneError, IdentityHeld, NetiError
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
_SETTLE: Final = 0.2  # seconds in which other programs' changes are gathered before a look
_END_CONNECTIONS_AFTER: Final = 0.5  # seconds in which addresses that lead nowhere are gathered
_SWEEP_EVERY: Final = 60.0  # seconds between looks for removed sources without connections
_LOG_EACH: Final = 20  # members named singly in the log; more are one line


@dataclass(frozen=True, slots=True)
class Reload:
    """Read the configuration again (SIGHUP)."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop this program (SIGTERM, SIGINT); rules and registration stay."""


Told = Event | NetworkChanged | RulesChanged | JobDone | JobFailed | Request | Reload | Stop


@dataclass(slots=True, kw_only=True)
class Outside:
    """The agent's doors to the world, so that tests can hand in others."""

    reconciler: Reconciler
    machine: Machine
    registry: Registry
    worker: Worker
    folder: StateFolder
    clock: Clock
    discover: Callable[[Settings], Host]
    reload: Callable[[], Settings]
    revoked_alive: Callable[[list[IPv4Address]], set[IPv4Address]]
    reserved: frozenset[IPAddress] = frozenset()


class Agent:
    """See the module's first lines. ``tell`` is safe from any thread; all else is the loop's."""

    def __init__(
        self,
        settings: Settings,
        host: Host,
        outside: Outside,
        loaded: Loaded,
        *,
        machine_id: str,
        inbox: "queue.SimpleQueue[Told] | None" = None,
    ) -> None:
        self.settings = settings
        self.host = host
        self.out = outside
        self.members = Membership.empty(settings, host, outside.reserved)
        self.queue: queue.SimpleQueue[Told] = inbox if inbox is not None else queue.SimpleQueue()
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
        self.network = HostNetwork(outside.machine, self.problems)
        self._journal: dict[str, Remembered | None] = {}  # changes that are not on disk yet
        self._lost_noted: frozenset[str] = frozenset()
        self.down = outside.folder.is_down
        self.leaving: Request | None = None
        self.left = False
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
        self.members.enforce(self._may_enforce())
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
        if self.out.reconciler.connections_to_end:
            self.timers.at("connections", self._now() + _END_CONNECTIONS_AFTER)

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

    # --- taking in ---

    def _take_in(self, told: Told) -> None:  # noqa: PLR0912 -- one line for each thing told
        match told:
            case Snapshot(names):
                self._begin_from_registry()
                self.members.fleet.snapshot(names, now=self.out.clock.wall())
            case Appeared(name):
                self.members.fleet.appeared(name)
            case Vanished(name):
                self.members.fleet.vanished(name, now=self.out.clock.wall())
                self._own_entry_vanished(name)
            case LeaseRead(overlay, host_id):
                self.members.fleet.lease_read(overlay, host_id)
            case DataRead(name, data):
                self.members.fleet.data_read(name, data)
            case SettingRead():
                self._live_setting(told)
            case Fresh():
                self._became_fresh(told)
            case Stale(reason):
                self._became_stale(reason)
            case SessionEnded():
                self.entry = None
                log.warning("session_ended", what="this host's registration is gone; registering")
                self.timers.at("register", self._now())
            case NetworkChanged():
                self.timers.at("network", self._now() + _SETTLE)
            case RulesChanged(pid, program):
                log.info("rules_changed_by_other", pid=pid, program=program)
                self.timers.at("drift", self._now() + _SETTLE)
            case JobDone(name, result):
                self._job_done(name, result)
            case JobFailed(name, error):
                self._job_failed(name, error)
            case Request():
                self._answer(told)
            case Reload():
                self.reload()
            case Stop():
                self._stopping = True

    def _begin_from_registry(self) -> None:
        """The first complete list ends what was only adopted from the kernel."""
        if self.known:
            return
        self.known = True
        self._anew(remember=False)

    def _anew(self, *, remember: bool) -> None:
        """Membership from scratch for the present settings and host; the kernel keeps what it has
        until the next transaction."""
        before = self.members
        self.members = Membership.empty(self.settings, self.host, self.out.reserved)
        if remember:
            self.members.remember(dict(before.everybody()))
            # What the old judgement kept out may be welcome now, and the reverse.
            self.members.fleet.snapshot(before.fleet.names, now=self.out.clock.wall())
        self.members.hold_lease(before.overlay)
        self.members.enforce(self._may_enforce())
        self.timers.at("resync", self._now())

    def _may_enforce(self) -> bool:
        """Whether reject_all comes into force: never before the members are known, which would keep
        them out, and never without a way in for the operator, unless that is asked for."""
        self.problems.pop("arming", None)
        if not self.settings.reject_all:
            return False
        if not self.settings.ssh_whitelist and not self.settings.allow_empty_ssh_whitelist:
            self.problems["arming"] = (
                "reject_all is true but is NOT in force: ssh_whitelist is empty, so nobody could "
                "get in to mend a mistake; write ssh_whitelist: [YOUR/RANGE], or "
                "allow_empty_ssh_whitelist: true"
            )
            log.error("arming_refused", what=self.problems["arming"])
            return False
        return self.known

    def _live_setting(self, read: SettingRead) -> None:
        self.live.take(read)
        if read.setting in self.live.faults:
            log.warning("live_setting_ignored", what=self.live.faults[read.setting])

    def _became_fresh(self, fresh: Fresh) -> None:
        # On disk before the registration exists: killed in between, a restart finds its session.
        self._keep(lambda: self.out.folder.save_session(fresh.session))
        self.fresh = True
        self.fresh_at = self.out.clock.wall()
        self.problems.pop("registry", None)
        self.members.fleet.ask_again()
        log.info("registry_fresh", members=len(self.members.fleet.members))
        self.timers.at("register", self._now())
        self.timers.at("resync", self._now())
        self._tell_systemd()

    def _became_stale(self, reason: str) -> None:
        if self.fresh or self.stale_reason != reason:
            log.warning("registry_stale", reason=reason, kept=len(self.members.fleet.members))
        self.fresh = False
        self.stale_reason = reason
        self.problems["registry"] = f"registry: {reason}; the last good state stays in force"
        self._tell_systemd()

    def _own_entry_vanished(self, name: str) -> None:
        if name == self.entry and self.leaving is None:
            log.warning("own_entry_vanished", entry=name)
            self.entry = None
            self.timers.at("register", self._now())

    def _tell_systemd(self) -> None:
        state = "in step" if self.fresh else f"registry: {self.stale_reason}"
        notify(f"STATUS={state}; {len(self.members.fleet.members)} members")

    # --- what is due ---

    def _due(self, name: str) -> None:
        match name:
            case "commit":
                self._commit()
            case "resync":
                self.resync("asked for")
            case "drift":
                self._look_for_drift()
            case "network":
                self._look_at_network()
            case "register":
                self._register()
            case "identity":
                settings = self.settings
                self.out.worker.submit("identity", lambda: self.out.discover(settings))
            case "sweep":
                self._sweep()
            case "connections":
                self._end_connections()
            case "linger":
                self.members.fleet.tick(now=self.out.clock.wall())

    # --- the fleet into the kernel ---

    @property
    def _pending(self) -> bool:
        """Whether there is something to commit. Not while a look at the kernel is due: what was
        refused would be refused again, and the look takes everything along."""
        return self.members.elements.pending and self.known and "resync" not in self.timers.due

    def _settle_fleet(self) -> None:
        self._observe_changes(self.members.take_changes())
        self._note_lost()
        if not self.members.elements.pending:
            self._write_journal()  # what means nothing to the kernel still goes to disk
        next_tick = self.members.fleet.next_tick()
        if next_tick is not None:
            wait = max(0.0, next_tick - self.out.clock.wall())
            self.timers.due["linger"] = self._now() + wait

    def _note_lost(self) -> None:
        """Who is lost, since when, is no change for the kernel, but a restart must know it."""
        lost = self.members.fleet.lost.keys()
        if lost != self._lost_noted:
            for host_id in lost ^ self._lost_noted:
                self._journal[host_id] = self.members.remembered(host_id)
            for host_id in lost - self._lost_noted:
                log.warning("member_lost", id=host_id, linger_seconds=self.settings.linger_seconds)
            self._lost_noted = frozenset(lost)

    def _observe_changes(self, changes: list[Change]) -> None:
        if not changes:
            return
        if len(changes) <= _LOG_EACH:
            for change in changes:
                _log_change(change)
        else:
            log.info(
                "members_changed",
                joined=sum(change.before is None for change in changes),
                gone=sum(change.after is None for change in changes),
                members=len(self.members.fleet.members),
            )
        self._journal.update({c.id: self.members.remembered(c.id) for c in changes})

    def _commit_when_quiet(self) -> None:
        """The first change after a quiet interval goes at once; those behind it are gathered."""
        now = self._now()
        if now >= self._commit_after:
            self._commit()
        else:
            self.timers.at("commit", self._commit_after)

    def _commit(self) -> None:
        if self.down or not self._pending:
            return
        started = self._now()
        try:
            changes = self.out.reconciler.commit(self.members.elements)
        except DataplaneError as error:
            self._kernel_failed(error)
            return
        self._commit_after = started + self.live.interval
        self.applies += 1
        log.info("applied", elements=changes.count(), seconds=self._now() - started)
        self._write_journal()

    def resync(self, reason: str) -> None:
        """Read the kernel back and make all of it right, the route included."""
        if self.down:
            return
        # What is known must be wished for before the kernel is compared with it: else members
        # that were only just read again would be taken out for a moment.
        self._settle_fleet()
        started = self._now()
        try:
            self._surroundings = self.network.look(self.settings, self.host)
            wanted = structure(self.settings, self._surroundings)
            planned = self.out.reconciler.resync(wanted, self.members.elements)
            self.network.route(self.settings, self.host)
        except DataplaneError as error:
            self._kernel_failed(error)
            return
        self.timers.worked("resync")
        self.problems.pop("kernel", None)
        if planned.transaction:
            self.applies += 1
            log.info(
                "resynced",
                reason=reason,
                structure=planned.structure,
                elements=planned.changes.count(),
                seconds=self._now() - started,
            )
            self._commit_after = self._now() + self.live.interval
        self._save_self()
        self._write_journal()

    def _kernel_failed(self, error: DataplaneError) -> None:
        pause = self.timers.retry("resync", self._now())
        self.problems["kernel"] = str(error)
        log.error("kernel_refused", what=str(error), retry_seconds=pause)

    def _ask(self) -> None:
        asked = self.members.fleet.questions()
        if asked.leases:
            self.out.registry.ask_leases(asked.leases)
        if asked.data:
            self.out.registry.ask_data(asked.data)

    # --- the machine ---

    def _look_at_network(self) -> None:
        if self.down:
            return
        before = self._surroundings
        try:
            self._surroundings = self.network.look(self.settings, self.host)
            self.network.route(self.settings, self.host)
        except DataplaneError as error:
            self._kernel_failed(error)
            return
        if self._surroundings != before:
            self.resync("uplinks changed")

    def _look_for_drift(self) -> None:
        """Somebody changed something in nftables: in ours, or beside it."""
        if self.down:
            return
        self.resync("another program changed nftables")

    def _end_connections(self) -> None:
        try:
            self.out.reconciler.end_connections()
        except DataplaneError as error:
            self._kernel_failed(error)

    def _sweep(self) -> None:
        """A removed source is remembered for as long as it has connections, and no longer."""
        self.timers.at("sweep", self._now() + _SWEEP_EVERY)
        revoked = [IPv4Address(key) for key in self.members.elements.revoked["revoked4"]]
        if self.down or not revoked:
            return
        try:
            alive = self.out.revoked_alive(revoked)
            over = [str(address) for address in revoked if address not in alive]
            self.out.reconciler.pardon(self.members.elements, "revoked4", over)
        except DataplaneError as error:
            self._kernel_failed(error)

    # --- this host in the registry ---

    def _register(self) -> None:
        if not self.fresh or self.leaving:
            return
        registry, host_id = self.out.registry, self.host.id
        if self.members.overlay is None:
            subnet = self.settings.overlay_subnet
            self.out.worker.submit("lease", lambda: registry.acquire(host_id, subnet))
            return
        known = (self.itself.entry, *self.members.fleet.names_of(host_id))
        member = own_entry.own_member(self.host, self.members.overlay, known)
        try:
            name = entry.encode(member)
            data = entry.encode_data(member.more)
        except NetiError as error:
            self.problems["registration"] = str(error)
            log.error("cannot_register", what=str(error))
            return
        replaces = self._replaced(name)
        detail = own_entry.detail(self.stage)

        def job() -> str:
            # The lease is looked up again: it may have been released while this host was away.
            held = registry.acquire(host_id, self.settings.overlay_subnet)
            if held != member.overlay:
                return f"lease {held}"
            registry.register(
                host_id=host_id, name=name, data=data, detail=detail, replaces=replaces
            )
            return name

        self.out.worker.submit("register", job)

    def _replaced(self, name: str) -> str | None:
        """This session's own earlier entry, when it has one under another name."""
        if self.entry is not None and self.entry != name:
            return self.entry
        saved = self.itself.entry
        if saved is not None and saved != name and saved in self.members.fleet.names:
            return saved
        return None

    def _job_done(self, name: str, result: Any) -> None:
        self.timers.worked(name)
        if name == "identity":
            self._identity_read(result)
        elif name == "lease":
            self._lease_held(result)
        elif name == "register":
            if result.startswith("lease "):
                self._lease_held(IPv4Address(result.removeprefix("lease ")))
                return
            self.problems.pop("registration", None)
            if self.entry != result:
                log.info("registered", entry=result, overlay=self.members.overlay)
            self.entry = result
            self._save_self()
        elif name == "leave":
            self._left()

    def _lease_held(self, overlay: IPv4Address) -> None:
        self.problems.pop("registration", None)
        if overlay != self.members.overlay:
            log.info("lease_held", overlay=overlay)
            self.members.hold_lease(overlay)
        self._save_self()
        self.timers.at("register", self._now())

    def _job_failed(self, name: str, error: NetiError) -> None:
        if name == "identity":
            self._look_at_identity_later()
            self.problems["identity"] = str(error)
            log.warning("identity_not_read", what=str(error))
            return
        if name == "leave":
            self._leave_failed(error)
            return
        if name == "describe":
            log.warning("detail_not_written", what=str(error))  # written anew when registering
            return
        pause = self.timers.retry("register", self._now())
        said = str(error)
        if self.problems.get("registration") != said:
            report = log.error if isinstance(error, IdentityHeld) else log.warning
            report("not_registered", what=said, retry_seconds=pause)
        self.problems["registration"] = said

    def _identity_read(self, host: Host) -> None:
        self._look_at_identity_later()
        self.problems.pop("identity", None)
        if host == self.host:
            return
        if host.id != self.host.id:
            self.problems["identity"] = (
                f"this host now says it is {host.id}, but the agent started as {self.host.id}: "
                "restart the agent"
            )
            log.error("identity_changed", was=self.host.id, now=host.id)
            return
        log.info("addresses_changed", private=host.private, public=host.public)
        self.host = host
        self._anew(remember=True)
        self.timers.at("register", self._now())

    def _look_at_identity_later(self) -> None:
        self.timers.at("identity", self._now() + _IDENTITY_EVERY)

    # --- commands ---

    def _answer(self, request: Request) -> None:
        commands: dict[str, Callable[[Request], None]] = {
            "status": lambda r: r.succeed(status.document(self)),
            "members": lambda r: r.succeed(status.members(self)),
            "down": self._go_down,
            "up": self._go_up,
            "leave": self._leave,
        }
        command = commands.get(request.command)
        if command is None:
            request.fail(f"this agent does not know the command {request.command!r}")
            return
        try:
            command(request)
        except NetiError as error:
            request.fail(str(error))

    def _go_down(self, request: Request) -> None:
        self.out.folder.set_down(True)
        self.down = True
        self.out.reconciler.remove()
        self.out.machine.remove_overlay_route(self.settings.overlay_subnet)
        log.warning("down", what="nothing of Neti is in the kernel now; neti up ends this")
        request.succeed("down")

    def _go_up(self, request: Request) -> None:
        self.out.folder.set_down(False)
        self.down = False
        self.resync("up")
        if "kernel" in self.problems:
            request.fail(self.problems["kernel"])
        else:
            log.info("up")
            request.succeed("up")

    def _leave(self, request: Request) -> None:
        name = self.entry
        if name is None:
            request.fail("this host is not registered, so it cannot leave")
            return
        if not self.fresh:
            request.fail(f"the registry cannot be told: {self.stale_reason}")
            return
        self.leaving = request
        member = entry.parse(name)
        assert isinstance(member, Member)
        departure = entry.encode_departure(member)
        registry, host_id = self.out.registry, self.host.id
        self.out.worker.submit(
            "leave", lambda: registry.leave(host_id=host_id, name=name, departure=departure)
        )

    def _left(self) -> None:
        log.warning("left", entry=self.entry, what="this host left the fleet; the agent stops")
        self.entry = None
        self.left = True
        self._keep(self.out.folder.forget_session)
        if self.leaving is not None:
            self.leaving.succeed("left")
        self._stopping = True

    def _leave_failed(self, error: NetiError) -> None:
        if self.leaving is not None:
            self.leaving.fail(str(error))
        self.leaving = None

    def reload(self) -> None:
        """Take the configuration in anew; an invalid one is refused and the old one stays."""
        notify_reloading()
        try:
            new = self.out.reload()
        except NetiError as error:
            self.problems["reload"] = (
                f"the new configuration is refused, the old one stays: {error}"
            )
            log.error("reload_refused", what=str(error))
        else:
            self.problems.pop("reload", None)
            self.settings, kept = reloadable(self.settings, new)
            if kept:
                words = ", ".join(kept)
                self.problems["reload"] = f"changed but not in force before a restart: {words}"
                log.warning("restart_needed", keys=words)
            self._anew(remember=True)
            self.resync("reload")
            self._refresh_detail()
            self.timers.at("identity", self._now())  # addresses and sites may be others now
            log.info("reloaded", stage=self.stage)
        notify("READY=1")

    def _refresh_detail(self) -> None:
        if self.entry is not None and self.fresh:
            registry, host_id = self.out.registry, self.host.id
            detail = own_entry.detail(self.stage)
            self.out.worker.submit("describe", lambda: registry.describe(host_id, detail))

    # --- disk ---

    def _write_journal(self) -> None:
        if not self._journal or not self.known:
            return
        changes, self._journal = self._journal, {}
        self._keep(lambda: self.out.folder.append(changes, self.members.everybody()))

    def _save_self(self) -> None:
        seen = self.out.reconciler.seen
        itself = Self(
            machine=self.itself.machine,
            overlay=str(self.members.overlay) if self.members.overlay else None,
            entry=self.entry or self.itself.entry,
            structure_text=seen.digest if seen else None,
            structure_seen=seen.listing if seen else None,
        )
        if itself != self.itself:
            self.itself = itself
            self._keep(lambda: self.out.folder.save_self(itself))

    def _keep(self, write: Callable[[], None]) -> None:
        """A disk that fails is named and does not stop the kernel from being kept in step."""
        try:
            write()
            self.problems.pop("disk", None)
        except StateError as error:
            self.problems["disk"] = str(error)
            log.error("state_not_written", what=str(error))

    @property
    def stage(self) -> str:
        return "enforced" if self.members.enforced else "shadow"


def _log_change(change: Change) -> None:
    member = change.after or change.before
    assert member is not None
    what = "joined" if change.before is None else "gone" if change.after is None else "changed"
    log.info(
        f"member_{what}",
        id=member.id,
        site=member.site,
        overlay=member.overlay,
        private=member.private,
        public=member.public or "none",
    )


def seen_structure(itself: Self) -> SeenStructure | None:
    """What the last run saw in the kernel, when it is known."""
    if itself.structure_text is None or itself.structure_seen is None:
        return None
    return SeenStructure(itself.structure_text, itself.structure_seen)


def install_signals(agent: Agent) -> None:
    """Signals only put something on the queue."""
    signal.signal(signal.SIGHUP, lambda *_: agent.tell(Reload()))
    signal.signal(signal.SIGTERM, lambda *_: agent.tell(Stop()))
    signal.signal(signal.SIGINT, lambda *_: agent.tell(Stop()))
