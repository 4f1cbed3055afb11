"""The agent: one loop, one queue, one thread that decides. Everything else only tells it things.

wait -> take in what is told -> fleet -> elements -> one transaction -> disk, log, status

Must never do: block on the registry or the network, conclude anything from silence, or leave the
kernel worse than it found it. What a kill leaves behind is written at each step that changes the
world; docs/design/agent.md has them all in one table.
"""

import contextlib
import queue
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from typing import Any, Final

from neti import log
from neti.agent import figures, hangup, preview, status
from neti.agent.core import Core, Outside
from neti.agent.faults import Faults
from neti.agent.follow import Following
from neti.agent.footing import Footing
from neti.agent.journal import Journal
from neti.agent.keeping_time import ClockNote, rebased
from neti.agent.kernel import Kernel
from neti.agent.registration import Registration
from neti.agent.reloading import changed, reloadable
from neti.agent.shadow_evidence import ShadowEvidence
from neti.agent.shadow_log import ShadowLog
from neti.agent.trial import Shadow, Staging
from neti.agent.whoami import IDENTITY_EVERY, OwnIdentity
from neti.agent.worker import JobDone, JobFailed
from neti.clock import SteadyClock
from neti.control.server import Request
from neti.control.trouble import Trouble
from neti.dataplane import malloc
from neti.dataplane.monitor import NetworkChanged, RulesChanged
from neti.errors import ConfigError, DataplaneError, NetiError, Unexpected
from neti.fleet.guard import Guard
from neti.host.systemd import Watchdog, notify, notify_reloading
from neti.model import Host
from neti.model.document import plain
from neti.model.problems import Problems
from neti.model.settings import Settings
from neti.registry import Event
from neti.registry.opening import problems_of as expiring
from neti.ruleset.desired import Membership
from neti.stage.stages import Record
from neti.state.folder import GOOD_CONFIG, Loaded
from neti.state.stage import stage_found
from neti.words import some

_DRAIN_AT_MOST: Final = 20_000  # events taken in before the kernel gets its turn
_FED_AFTER: Final = 500  # events between two looks whether the watchdog is to be fed
_CERTIFICATE_EVERY: Final = 600.0


@dataclass(frozen=True, slots=True)
class Reload:
    """Read the configuration again (SIGHUP)."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop this program (SIGTERM, SIGINT); rules and registration stay."""


Told = (
    Event | NetworkChanged | RulesChanged | JobDone | JobFailed | Request | Reload | Stop | Trouble
)


class Agent:
    """See the module's first lines. ``tell`` is safe from any thread; all else is the loop's."""

    def __init__(
        self,
        settings: Settings,
        host: Host,
        outside: Outside,
        loaded: Loaded,
        *,
        shadow: Shadow | None = None,
        inbox: "queue.SimpleQueue[Told] | None" = None,
        problems: Problems | None = None,
        brittle: bool = False,
    ) -> None:
        """``problems``: those from before there was a loop. ``brittle``: what is unexpected is
        raised, for tests."""
        steady = SteadyClock(outside.clock, outside.boot, loaded.mark)
        before = loaded.record
        loaded = rebased(loaded, steady)
        self._record_moved = loaded.record != before
        guard = Guard(window=dict(loaded.window))
        core = self.core = Core(
            settings=settings,
            host=host,
            out=outside,
            members=Membership.empty(settings, host, outside.reserved, guard),
            itself=loaded.itself,
            record=loaded.record or Record(),
            guard=guard,
            steady=steady,
            down=outside.folder.is_down,
            said_down=outside.folder.is_down,
            problems=problems if problems is not None else Problems(),
        )
        self.faults = Faults(core, brittle=brittle)
        self._faults = {str(n): fault for n, fault in enumerate(loaded.faults)}
        for subject, fault in self._faults.items():
            core.problems.set("state", fault, subject=subject)
        outside.folder.written = self._whole_again
        self.journal = Journal(core)
        self.registration = Registration(core, on_left=self.stop)
        self.following = Following(core, self.journal, self.registration)
        self.whoami = OwnIdentity(core, self._addresses_changed)
        self.kernel = Kernel(
            core,
            self.journal,
            on_disarmed=self._disarmed,
            on_relaxed=self._relaxed_in_kernel,
            on_down=self._down_in_kernel,
        )
        self.shadow = ShadowLog(
            outside.folder.path, outside.folder.machine, outside.reconciler, steady
        )
        evidence = shadow if shadow is not None else ShadowEvidence(core, self.shadow)
        self.staging = Staging(core, self.kernel, self.registration, evidence)
        self.queue: queue.SimpleQueue[Told] = inbox if inbox is not None else queue.SimpleQueue()
        self._watchdog = Watchdog()
        self._clock_note = ClockNote(core, loaded.mark)
        self._footing = Footing(core, lambda: core.keep("shadow.jsonl", self.shadow.keep_whole))
        self._stopping = False
        self._loaded = loaded
        if loaded.members:
            core.members.remember(loaded.members)
        for sentence in loaded.faults:
            log.warning("state_fault", what=sentence)

    # --- life ---

    def tell(self, what: Told) -> None:
        self.queue.put(what)

    def stop(self) -> None:
        self._stopping = True

    def start(self) -> None:
        """Make the kernel right from what is known without the registry, then ask the registry."""
        core = self.core
        core.stale_since = core.since()
        if core.itself.overlay is not None:
            overlay = IPv4Address(core.itself.overlay)
            if overlay in core.settings.overlay_subnet:
                core.members.hold_lease(overlay)
        if not core.down and core.out.reconciler.marked_down():
            self._down_in_kernel()
        kernel = core.out.reconciler.read()
        if not core.members.known:
            core.members.adopt(kernel)
        found = stage_found(core.out.folder, self._loaded, kernel)
        self.staging.take_up(found, enforced_once=self._loaded.enforced_once)
        self._replace_torn()
        self.journal.take_changes()
        self.kernel.resync("start")
        self.kernel.end_stale_connections()
        self.journal.anew_on_disk()
        self._keep_moved()
        self._clock_note.look()
        core.out.worker.start()
        core.out.registry.watch(self.tell)
        core.soon("identity", IDENTITY_EVERY)
        for name in ("sweep", "audit", "count", "origin"):
            core.soon(name, IDENTITY_EVERY)
        core.soon("shadow")
        core.soon("arrivals")
        core.soon("jobs")
        core.soon("footing")
        self._look_at_certificate()
        notify("READY=1", f"STATUS=waiting for the registry; {len(core.members.fleet.members)}")

    def _replace_torn(self) -> None:
        """What would otherwise be written at its next change only."""
        core, torn = self.core, {fault.file for fault in self._faults.values()}
        if any(name.startswith("stage.json") for name in torn):
            core.keep_record(core.record, anew=True)
        if "guard.json" in torn:
            core.keep("guard.json", lambda: core.out.folder.save_window(core.guard.window))

    def _keep_moved(self) -> None:
        """Times that were moved at the start go to disk before the note by which they were."""
        if self._record_moved:
            self.core.keep_record(self.core.record, anew=True)
        self.core.keep("shadow.jsonl", self.shadow.keep_whole)

    def _whole_again(self, name: str) -> None:
        for key in [key for key, fault in self._faults.items() if fault.file == name]:
            del self._faults[key]
            self.core.problems.clear("state", subject=key)

    def run(self) -> None:
        """Until told to stop."""
        while not self._stopping:
            self.step(block=True)
            if not self.faults.hanging:
                self._watchdog.feed(self.core.now())
        self.following.note_origin()
        self.core.keep("shadow.jsonl", self.shadow.stop)

    def step(self, *, block: bool = False) -> None:
        """One turn of the loop: everything that is told or due now, then the kernel."""
        core, guard = self.core, self.faults.guard
        waiting, woken = self._waiting(block), core.now()
        guard("obeying the disk", self._obey_disk)
        for number, told in enumerate(waiting):
            if number % _FED_AFTER == 0:
                self._watchdog.feed(core.now())  # the loop turns, only there is much to hear
            self._take_in_whole(told)
        self._watchdog.feed(core.now())
        for name in core.timers.expired(core.now()):
            if guard(f"the timer {name!r}", partial(self._due, name)):
                core.timers.retry(name, core.now())
        guard("settling the fleet", self._settle_fleet)
        guard("asking the registry", self.following.ask)
        guard("saying the stage", self.registration.describing.follow_stage)
        core.measured.heard(woken, pending=core.members.elements.pending)
        guard("committing", self._commit)

    def _commit(self) -> None:
        if "commit" not in self.core.timers.due and self.kernel.pending:
            self.kernel.commit_when_quiet()
        self.kernel.end_connections_soon()

    def _take_in_whole(self, told: Told) -> None:
        """Whatever comes of it: a caller gets an answer, and a job's end is never lost."""
        what = type(told).__name__
        fault = self.faults.guard(f"taking in {what}", lambda: self._take_in(told))
        if fault is None:
            return
        if isinstance(told, Request):
            told.fail(fault)
        elif isinstance(told, JobDone | JobFailed):
            self._job_broke(told.name, Unexpected(fault))

    def _job_broke(self, name: str, error: NetiError) -> None:
        self.faults.guard(f"the end of the job {name!r}", lambda: self._job_failed(name, error))

    def _obey_disk(self) -> None:
        """What was commanded without this agent while it hung, before anything is written."""
        core = self.core
        if (said := core.out.folder.is_down) != core.said_down:
            core.said_down = said
            try:
                if said != core.down:
                    self._follow_down()
            except NetiError as error:
                self.core.problems.set("kernel", str(error))
                log.error("kernel_refused", what=str(error))

        if self.core.out.folder.is_relaxed:
            self.staging.relaxed_on_disk()

    def _follow_down(self) -> None:
        core = self.core
        core.down = not core.down
        if core.down:
            log.warning("down", what="said on disk while the agent did not answer")
            self.kernel.take_out()
        else:
            log.info("up")
            self.kernel.resync("up")
            core.soon("stage")

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
        now = self.core.now()
        due = min(self.core.timers.due.values(), default=now + IDENTITY_EVERY)
        return max(0.0, min(due - now, self._watchdog.patience))

    # --- taking in ---

    def _take_in(self, told: Told) -> None:
        match told:
            case NetworkChanged():
                self.kernel.network_changed()
            case RulesChanged():
                self.kernel.changed_by_other(told)
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
            case Trouble():
                self.faults.told(told)
            case _:
                self.following.take_in(told)

    # --- what is due ---

    def _due(self, name: str) -> None:
        room: dict[str, Callable[[], object]] = {
            "commit": self.kernel.commit,
            "resync": lambda: self.kernel.resync("asked for"),
            "drift": self.kernel.look_for_drift,
            "network": self.kernel.look_at_network,
            "audit": self.kernel.audit,
            "arrivals": self.kernel.look_at_arrivals,
            "fight": self.kernel.name_fight,
            "sweep": self.kernel.sweep,
            "connections": self.kernel.end_connections,
            "register": self.registration.register,
            "others": self.registration.impostors.look,
            "stage": self.staging.due,
            "count": self.staging.count,
            "origin": self.following.note_origin,
            "clock": self._clock_note.look,
            "footing": self._footing.look,
            "shadow": self._look_at_shadow,
            "identity": self.whoami.ask,
            "linger": self.following.let_go,
            "memory": self._list_settled,
            "disk": self.core.keep_what_is_behind,
            "jobs": self._look_at_jobs,
            "anew": self._read_anew,
            "forget": self.faults.forget,
            "certificate": self._look_at_certificate,
            "describe": self.registration.describing.look,
        }
        room[name]()

    def _look_at_certificate(self) -> None:
        core = self.core
        core.soon("certificate", _CERTIFICATE_EVERY)
        core.problems.clear("certificate")
        for number, sentence in enumerate(expiring(core.settings, core.wall())):
            core.problems.set("certificate", sentence, subject=str(number))

    def _look_at_shadow(self) -> None:
        self.kernel.listen()
        self.core.keep("shadow.jsonl", self.shadow.tick)
        self.shadow.name_problems(self.core.problems)
        self.core.soon("shadow", self.shadow.pause)

    def _settle_fleet(self) -> None:
        core = self.core
        self.journal.take_changes()
        if not core.members.elements.pending:
            self.journal.write()  # what means nothing to the kernel still goes to disk
        next_tick = core.members.fleet.next_tick()
        if next_tick is None or not core.fresh:
            core.timers.due.pop("linger", None)
        else:
            core.timers.due["linger"] = core.now() + max(0.0, next_tick - core.since())
        if not core.members.fleet.holds:
            core.problems.clear("origin")

    def _down_in_kernel(self) -> None:
        core = self.core
        core.down = True
        log.warning("down", what="said while no disk could take it; the kernel bears it")
        core.keep("down", self._write_down)
        core.said_down = core.out.folder.is_down
        self.staging.taken_down()

    def _relaxed_in_kernel(self) -> None:
        self.staging.relaxed_in_kernel()

    def _disarmed(self) -> None:
        self.staging.disarmed()

    # --- jobs that ended ---

    def _job_done(self, name: str, result: Any) -> None:
        self.core.timers.worked(name)
        match name:
            case "identity":
                self.whoami.read(result)
            case "lease":
                self.registration.lease_held(result)
            case "register":
                self.registration.registered(result)
            case "leave":
                self.registration.left()
            case "probe":
                self.staging.registry_answered(None)

    def _job_failed(self, name: str, error: NetiError) -> None:
        match name:
            case "identity":
                self.whoami.failed(error)
            case "leave":
                self.registration.leave_failed(error)
            case "describe":
                self.registration.describing.failed()
                log.warning("detail_not_written", what=str(error))
            case "probe":
                self.staging.registry_answered(error)
            case _:
                self.registration.failed(error)

    def _addresses_changed(self) -> None:
        self.following.anew(remember=True)
        self.core.soon("register")

    # --- commands ---

    def _answer(self, request: Request) -> None:
        commands: dict[str, Callable[[Request], None]] = {
            "status": lambda r: r.succeed(status.status(self).document()),
            "members": lambda r: r.succeed(status.members(self)),
            "metrics": lambda r: r.succeed(plain(figures.figures(self))),
            "down": self._go_down,
            "up": self._go_up,
            "leave": self.registration.leave,
            "enforce": self.staging.enforce,
            "confirm": self.staging.confirm,
            "relax": self.staging.relax,
            "release": self._release,
            "preview": self._preview,
            "reload": self._answer_reload,
        }
        command = commands.get(request.command)
        if command is None:
            request.fail(f"this agent does not know the command {request.command!r}")
            return
        if not request.looks and not request.take():
            log.warning("command_abandoned", command=request.command)
            request.fail("this was given up before the agent came to it; nothing was done")
            return
        try:
            command(request)
        except NetiError as error:
            request.fail(str(error))

    def _go_down(self, request: Request) -> None:
        """The kernel first: a disk that is full must not keep anybody's rules in force."""
        core = self.core
        core.down = True
        refused = None
        try:
            self.kernel.take_out()
        except DataplaneError as error:
            refused = str(error)
        self.staging.taken_down()
        saved = core.keep("down", self._write_down)
        core.said_down = core.out.folder.is_down
        if not saved:
            with contextlib.suppress(DataplaneError):
                core.out.reconciler.mark_down()
        log.warning("down", what="nothing of Neti is in the kernel now; neti up ends this")
        if refused is not None:
            request.fail(refused)
        else:
            request.succeed({"state": "down", "unsaved": self._unsaved("down")})

    def _unsaved(self, name: str) -> str | None:
        held = self.core.problems.get("disk", subject=name)
        return None if held is None else held.sentence

    def _write_down(self) -> None:
        core = self.core
        core.out.folder.set_down(core.down)
        core.said_down = core.down
        if core.down:
            with contextlib.suppress(DataplaneError):
                core.out.reconciler.unmark_down()

    def _go_up(self, request: Request) -> None:
        core = self.core
        core.said_down = core.out.folder.is_down  # obeyed no more, whether or not it can go
        core.down = False
        with contextlib.suppress(DataplaneError):
            core.out.reconciler.unmark_down()
        core.keep("down", self._write_down)
        self.staging.taken_down()  # where 'neti down' found no agent that could note it
        refused = self.kernel.resync("up")
        core.soon("stage")
        if refused is not None:
            request.fail(str(refused))
        else:
            log.info("up")
            request.succeed(
                {"state": "up", "stage": core.stage.value, "unsaved": self._unsaved("down")}
            )

    def _preview(self, request: Request) -> None:
        core = self.core
        preview.answer(request, self.shadow, core.members, core.stage_word)

    def _release(self, request: Request) -> None:
        fleet = self.core.members.fleet
        asked = request.arguments.get("ids")
        ids = list(fleet.holds) if asked is None else [str(host_id) for host_id in asked]
        unknown = [host_id for host_id in ids if host_id not in fleet.holds]
        if unknown:
            request.fail(f"not held here: {', '.join(unknown)}: 'neti status' shows the holds")
            return
        fleet.release(ids)
        log.warning("released", hosts=len(ids), ids=some(ids), by="command")
        request.succeed({"released": sorted(ids), "still_held": len(fleet.holds)})

    def reload(self) -> None:
        """As SIGHUP asks for: what comes of it stands among the problems."""
        with contextlib.suppress(NetiError):
            self._reload()

    def _answer_reload(self, request: Request) -> None:
        said = request.arguments
        session = None if said.get("anyway") else said.get("session")
        try:
            in_force, restart = self._reload(session)
        except NetiError as error:
            request.fail(
                f"the new configuration is refused, the old one stays in force: {error}\n"
                "→ mend the file (neti config check), then neti reload"
            )
            return
        core = self.core
        request.succeed(
            {
                "changed": in_force,
                "restart": restart,
                "stage": core.stage_word,
                "reject_all": core.settings.reject_all,
                "trial_seconds": core.settings.trial_seconds,
            }
        )

    def _reload(self, session: Any = None) -> tuple[list[str], list[str]]:
        """Take the configuration in anew: the keys that are in force now, and those that need a
        restart. Raises NetiError where it is refused; the old one stays then. ``session``: the SSH
        session that must not be shut out by it."""
        core, before = self.core, self.core.settings
        notify_reloading()
        self._look_at_log(reopen=True)
        try:
            new = core.out.reload()
            self.staging.refuse_to_shut_out(session, new)
            kept = self._reconfigure(new)
        except NetiError as error:
            core.problems.set(
                "reload", f"the new configuration is refused, the old one stays: {error}"
            )
            log.error("reload_refused", what=str(error))
            raise
        else:
            self._reloaded(kept)
            return changed(before, core.settings), kept
        finally:
            notify("READY=1")

    def _list_settled(self) -> None:
        self.journal.note_leases()
        malloc.give_back()

    def _read_anew(self) -> None:
        """The membership from what is known, then the registry's own list: an event may have been
        lost where its handling failed."""
        self.following.anew(remember=True)
        self.core.out.registry.relist()

    def _reloaded(self, kept: list[str]) -> None:
        core = self.core
        if core.out.config_read is not None:
            core.out.config_read.accepted()
        core.keep(GOOD_CONFIG, core.out.keep_config)
        core.problems.clear("reload")
        if kept:
            words = ", ".join(kept)
            core.problems.set("reload", f"changed but not in force before a restart: {words}")
            log.warning("restart_needed", keys=words)
        self.staging.configured()
        self.kernel.resync("reload")
        self.registration.describing.describe()
        core.soon("certificate")
        core.soon("identity")  # addresses and sites may be others now
        log.info("reloaded", stage=core.stage.value)

    def _look_at_log(self, *, reopen: bool = False) -> None:
        """Whether log_file can be written; ``reopen``: it may have been moved away."""
        if reopen:
            log.reopen()
        if (fault := log.fault()) is not None:
            self.core.problems.set("log", fault)
        else:
            self.core.problems.clear("log")

    def _look_at_jobs(self) -> None:
        self.faults.look_at_jobs()
        self._look_at_log()

    def _reconfigure(self, new: Settings) -> list[str]:
        """Take the settings over; the keys that need a restart. Raises ConfigError, with all as it
        was, when most of the fleet would not be believed any more: a typing error in ``sites``
        shall not take a site down."""
        core = self.core
        settings, before = core.settings, core.members
        core.settings, kept = reloadable(settings, new)
        self.following.anew(remember=True)
        gone = before.fleet.members.keys() - core.members.fleet.members.keys()
        objection = core.guard.objection(gone, (), before.fleet.members, now=core.since())
        if gone and objection is not None:
            core.settings, core.members = settings, before
            raise ConfigError(
                f"by its sites {len(gone)} members would not be believed any more ({objection}), "
                f"among them {', '.join(sorted(gone)[:3])}; restart the agent if that is meant"
            )
        return kept


def install_signals(agent: Agent) -> None:
    """Signals only put something on the queue."""
    signal.signal(signal.SIGHUP, lambda *_: agent.tell(Reload()))
    signal.signal(signal.SIGTERM, lambda *_: agent.tell(Stop()))
    signal.signal(signal.SIGINT, lambda *_: agent.tell(Stop()))
    if hangup.asked():
        agent.tell(Reload())
