"""The agent: one loop, one queue, one thread that decides. Everything else only sends it messages.

wait -> take in what is told -> fleet -> elements -> one transaction -> disk, log, status

Must never do: block on the registry or the network, conclude anything from silence, or leave the
kernel worse than it found it. What a kill leaves behind is documented at each step that changes the
world; docs/design/agent.md has them all in one table.
"""

import queue
from collections.abc import Callable, Collection
from ipaddress import IPv4Address
from typing import Any, Final

from neti.agent import commands, jobs, leftover_log, status
from neti.agent.calling import Calling
from neti.agent.core import Core, Outside
from neti.agent.faults import Faults
from neti.agent.follow import Following
from neti.agent.footing import Footing
from neti.agent.going_down import GoingDown
from neti.agent.itself import hurting
from neti.agent.journal import Journal
from neti.agent.keeping_time import ClockNote, rebased
from neti.agent.kernel import Found, Kernel
from neti.agent.leftover_log import LeftoverLog
from neti.agent.opening import OpeningPorts
from neti.agent.registration import Registration
from neti.agent.reloading import Reloading
from neti.agent.roads import Roads
from neti.agent.shadow_evidence import ShadowEvidence
from neti.agent.shadow_log import ShadowLog
from neti.agent.staging import Staging
from neti.agent.told import Answers, Reload, Stop, Told, gathered
from neti.agent.trial import Shadow, Trying
from neti.agent.verifying import Verifying
from neti.agent.whoami import IDENTITY_EVERY, OwnIdentity
from neti.agent.worker import JobDone, JobFailed
from neti.clock import SteadyClock
from neti.control.server import Request
from neti.control.trouble import Trouble
from neti.dataplane import malloc
from neti.dataplane.monitor import NetworkChanged, RulesChanged
from neti.errors import NetiError, Unexpected
from neti.host.systemd import Watchdog, notify
from neti.model import Host
from neti.model.problems import Problems
from neti.model.settings import Settings
from neti.monitoring.status import Status
from neti.registry import HostChanged
from neti.registry.opening import expiring
from neti.state.folder import OPENINGS_FILE
from neti.state.gone import GONE_FILE
from neti.state.loaded import Loaded
from neti.state.stage import stage_found

_DRAIN_AT_MOST: Final = 20_000  # events taken in before it is the kernel's turn
_ENTRY_FOLLOWS: Final = 0.005  # seconds after its host's record, at most
_FED_AFTER: Final = 500  # events after which the watchdog is fed again
_CERTIFICATE_EVERY: Final = 600.0


class Agent:
    """See the module's first lines. ``tell`` is safe from any thread; everything else is the
    loop's."""

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
        """``problems``: those from before the loop. ``brittle``: raise unexpected errors, for
        tests."""
        steady = SteadyClock(outside.clock, outside.boot, loaded.mark)
        before, members, openings = loaded.record, loaded.members, loaded.openings
        loaded = rebased(loaded, steady)
        self._openings_moved = loaded.openings != openings
        self._record_moved = loaded.record != before
        self._times_moved = loaded.members is not members
        problems = problems if problems is not None else Problems()
        core = self.core = Core(settings, host, outside, loaded, steady=steady, problems=problems)
        self.faults = Faults(core, brittle=brittle)
        self.journal = Journal(core)
        self.registration = Registration(core, on_left=self.stop)
        self.roads = Roads(core, self.journal)
        self.kernel = Kernel(core, self.journal, self.roads, self._found_in_kernel)
        self.opening = OpeningPorts(core, self.kernel)
        self.following = Following(core, self.journal, self.registration, self.kernel.resync)
        self.whoami = OwnIdentity(core, self._addresses_changed)
        self.shadow = ShadowLog(
            outside.folder.path, outside.folder.machine, outside.reconciler, steady
        )
        self.leftovers = LeftoverLog(
            outside.folder.path,
            outside.folder.machine,
            outside.reconciler,
            steady,
            boot=outside.boot,
            whose=leftover_log.Owners(core, self.journal.former),
        )
        evidence = shadow if shadow is not None else ShadowEvidence(core, self.shadow)
        describing = self.registration.describing
        describing.hurts = lambda: hurting(core, self.shadow)
        describing.left, describing.left_since = self.leftovers.latest, self.leftovers.since
        self.calling = Calling(core, self.kernel.calls)
        describing.calls = self.calling.told
        self.verifying = Verifying(core, self._seen_from_here, describing.describe)
        describing.verified = lambda: self.verifying.last
        describing.to_verify = self.verifying.asked
        self.trying = Trying(core, self.kernel, describing, evidence)
        self.staging = Staging(core, self.kernel, describing, evidence, self.trying)
        self.going_down = GoingDown(core, self.kernel, self.trying, self.staging.shuts_out)
        self.reloading = Reloading(
            core,
            following=self.following,
            kernel=self.kernel,
            staging=self.staging,
            describing=describing,
            faults=self.faults,
        )
        self.queue: queue.SimpleQueue[Told] = inbox if inbox is not None else queue.SimpleQueue()
        self._watchdog = Watchdog()
        self._clock_note = ClockNote(core, loaded.mark)
        self._footing = Footing(
            core, lambda: core.disk.keep("shadow.jsonl", self.shadow.write_anew)
        )
        self._stopping = False
        self._woken: float | None = None  # when the loop last woke, in steady seconds
        self._loaded = loaded
        self._rooms = self._what_is_due()
        core.grouping.follow()  # whoever is remembered is in groups at once
        if loaded.members or loaded.gone:
            core.members.remember(loaded.members, loaded.gone)

    # --- life ---

    def tell(self, what: Told) -> None:
        self.queue.put(what)

    def stop(self) -> None:
        self._stopping = True

    def start(self) -> None:
        """Put the kernel right by what is known without the registry, then ask the registry."""
        core = self.core
        if not self._times_moved and self.shadow.whole:
            # Before anything is written by this boot's clock: killed in between, and with the wall
            # clock set before the next start, nobody could tell any more how old it is.
            self._clock_note.look()
        if core.disk.itself.overlay is not None:
            overlay = IPv4Address(core.disk.itself.overlay)
            if overlay in core.settings.overlay_subnet:
                core.members.hold_lease(overlay)
        if not core.down.now and core.out.reconciler.marked_down():
            self.going_down.found_in_kernel()
        kernel = core.out.reconciler.read()
        if not core.members.known:
            itself = core.disk.itself
            core.members.admit_by(core.ports_in_force)  # by which groups' sets are looked at
            core.members.adopt(kernel, via=itself.via, behind=itself.behind)
        core.members.gateways.recall(kernel)
        self.roads.passing.probing.begin(kernel)
        found = stage_found(core.out.folder, self._loaded, kernel)
        self.staging.take_up(found, enforced_once=self._loaded.enforced_once)
        self._replace_torn()
        self.opening.begin()
        self.journal.take_changes()
        self.kernel.resync("start")
        self.kernel.tracked.end_stale()
        self.journal.anew_on_disk()
        self._keep_moved()
        self._clock_note.look()
        core.out.worker.start()
        core.out.registry.watch(self.tell, hosts=core.members.fleet.reads_records)
        core.soon("identity", IDENTITY_EVERY)
        for name in ("sweep", "audit", "count", "origin"):
            core.soon(name, IDENTITY_EVERY)
        core.soon("openings")
        core.soon("shadow")
        core.soon("leftovers")
        core.soon("arrivals")
        core.soon("jobs")
        core.soon("footing")
        self._look_at_certificate()
        notify(
            "READY=1", f"STATUS=waiting for the registry; {len(core.members.fleet.members)} members"
        )

    def _replace_torn(self) -> None:
        """Replace files that would otherwise be written only at their next change."""
        core, torn = self.core, self.core.disk.torn()
        if any(name.startswith("stage.json") for name in torn):
            core.stage.keep(core.stage.record, anew=True)
        if OPENINGS_FILE in torn:
            core.openings.keep()
        if "guard.json" in torn:
            core.disk.keep("guard.json", lambda: core.out.folder.save_window(core.guard.window))
        if GONE_FILE in torn:
            gone = core.members.fleet.gone
            core.disk.keep(GONE_FILE, lambda: core.out.folder.note_gone({}, gone))

    def _keep_moved(self) -> None:
        """Write times that were moved at the start before the clock's note by which they were
        moved."""
        core = self.core
        if self._record_moved:
            core.stage.keep(core.stage.record, anew=True)
        if self._openings_moved:
            core.openings.keep()
        if self._times_moved:
            core.disk.keep("guard.json", lambda: core.out.folder.save_window(core.guard.window))
        self.core.disk.keep("shadow.jsonl", self.shadow.keep_whole)

    def run(self) -> None:
        """Until told to stop."""
        while not self._stopping:
            self.step(block=True)
            if not self.faults.hanging:
                self._watchdog.feed(self.core.now())
        self.following.note_origin()
        self.core.disk.keep("shadow.jsonl", self.shadow.stop)
        self.core.disk.keep(leftover_log.FILE, self.leftovers.stop)

    def step(self, *, block: bool = False) -> None:
        """One turn of the loop: everything that is told or due now, then the kernel."""
        core, guard = self.core, self.faults.guard
        waiting, woken = self._waiting(block), core.now()
        guard("obeying the disk", self._obey_disk)
        for number, told in enumerate(gathered(waiting, most=_FED_AFTER)):
            if number % _FED_AFTER == 0 or isinstance(told, Answers):
                # The loop is not stuck, it only has much to take in.
                self._watchdog.feed(core.now())
            self._take_in_whole(told)
        self._watchdog.feed(core.now())
        for name in core.timers.expired(core.now()):
            if guard(f"the timer {name!r}", self._rooms[name]):
                core.timers.retry(name, core.now())
        guard("settling the fleet", self._settle_fleet)
        guard("asking the registry", self.following.ask)
        guard("saying the stage", self.registration.describing.follow_stage)
        core.measured.heard(woken, pending=core.members.elements.pending)
        guard("committing", self._commit)

    def _commit(self) -> None:
        if "commit" not in self.core.timers.due and self.kernel.pending:
            self.kernel.commit_when_quiet()
        self.roads.settled()
        self.kernel.tracked.end_soon()

    def _take_in_whole(self, told: Told | Answers) -> None:
        """Whatever happens, a caller gets an answer and a job's end is not lost."""
        if isinstance(told, Answers):
            if self.faults.guard("taking in answers", lambda: self.following.take_in_all(told)):
                for each in told.each:  # so that one answer keeps no other from being heard
                    self._take_in_whole(each)
            return
        what = type(told).__name__
        fault = self.faults.guard(f"taking in {what}", lambda: self._take_in(told))
        if fault is None:
            return
        if isinstance(told, Request):
            told.fail(fault)
        elif isinstance(told, JobDone | JobFailed):
            self._job_broke(told.name, Unexpected(fault))

    def _job_broke(self, name: str, error: NetiError) -> None:
        self.faults.guard(f"the end of the job {name!r}", lambda: jobs.failed(self, name, error))

    def _obey_disk(self) -> None:
        """Follow commands that were given while this agent hung, before anything is written."""
        self.going_down.obey_disk()
        if self.core.out.folder.is_relaxed:
            self.staging.relaxed_on_disk()

    def _waiting(self, block: bool) -> list[Told]:
        told: list[Told] = []
        patience = self._patience()
        try:
            if block:
                told.append(self.queue.get(timeout=patience))
            while len(told) < _DRAIN_AT_MOST:
                if block and isinstance(told[-1], HostChanged):
                    # As a rule the entry that was made with it comes next. Alone, the record would
                    # be asked for twice, or the entry have to wait for the end of an empty turn.
                    told.append(self.queue.get(timeout=_ENTRY_FOLLOWS))
                else:
                    told.append(self.queue.get_nowait())
        except queue.Empty:
            pass
        if block:
            now = self.core.since()
            before, self._woken = self._woken, now
            self.following.woke(late=now - before - patience if before is not None else 0.0)
        return told

    def _patience(self) -> float:
        now = self.core.now()
        due = min(self.core.timers.due.values(), default=now + IDENTITY_EVERY)
        return max(0.0, min(due - now, self._watchdog.patience))

    # --- taking in ---

    def _take_in(self, told: Told) -> None:
        match told:
            case NetworkChanged():
                self.kernel.others.network_changed()
            case RulesChanged():
                self.kernel.others.changed(told)
            case JobDone(name, result):
                jobs.done(self, name, result)
            case JobFailed(name, error):
                jobs.failed(self, name, error)
            case Request():
                commands.answer(self, told)
            case Reload():
                self.reloading.reload()
            case Stop():
                self._stopping = True
            case Trouble():
                self.faults.told(told)
            case _:
                self.following.take_in(told)

    # --- what is due ---

    def _what_is_due(self) -> dict[str, Callable[[], object]]:
        """By the timer's name."""
        return {
            "commit": self.kernel.commit,
            "resync": lambda: self.kernel.resync("asked for"),
            "drift": self.kernel.look_for_drift,
            "network": self.kernel.look_at_network,
            "audit": self.kernel.audit,
            "arrivals": self.kernel.look_at_arrivals,
            "fight": self.kernel.others.name_fight,
            "sweep": self.kernel.tracked.sweep,
            "connections": self.kernel.tracked.end,
            "register": self.registration.register,
            "others": self.registration.impostors.look,
            "stage": self.staging.due,
            "count": self.trying.count,
            "origin": self.following.note_origin,
            "clock": self._clock_note.look,
            "footing": self._footing.look,
            "shadow": self._look_at_shadow,
            "leftovers": self._look_at_leftovers,
            "identity": self.whoami.ask,
            "key_taken": self.registration.key.taken_is_over,
            "revoked": self.following.revoked_keys.end,
            "linger": self.following.let_go,
            "leases": self.following.ask_unleased,
            "memory": self._list_settled,
            "disk": self.core.disk.keep_what_is_behind,
            "jobs": self.faults.look_at_jobs,
            "anew": self._read_anew,
            "forget": self.faults.forget,
            "certificate": self._look_at_certificate,
            "describe": self.registration.describing.look,
            "verify": self.verifying.look,
            "prove": self.following.proving.look,
            "roads": self.kernel.look_at_roads,
            "groups": self.core.grouping.look,
            "hosts": self.core.naming.write,
            "openings": self.opening.look,
            "gateways": self.roads.passing.follow,
            "probe": self.roads.passing.probing.look,
        }

    def _seen_from_here(self, ids: Collection[str]) -> tuple[Status, list[dict[str, Any]]]:
        return status.status(self), status.members(self, ids)

    def _list_settled(self) -> None:
        self.core.out.collector.go_on()
        self.journal.note_leases()
        malloc.give_back()

    def _read_anew(self) -> None:
        """The membership from what is known, then the registry's own list: an event may have been
        lost where its handling failed."""
        self.following.anew(remember=True)
        self.core.out.registry.relist()

    def _look_at_certificate(self) -> None:
        core = self.core
        core.soon("certificate", _CERTIFICATE_EVERY)
        core.problems.clear("certificate")
        for number, sentence in enumerate(expiring(core.settings, core.wall())):
            core.problems.set("certificate", sentence, subject=str(number))

    def _look_at_shadow(self) -> None:
        self.kernel.listen()
        self.core.disk.keep("shadow.jsonl", self.shadow.tick)
        self.shadow.name_problems(self.core.problems)
        self.core.soon("shadow", self.shadow.pause)

    def _look_at_leftovers(self) -> None:
        self.core.disk.keep(leftover_log.FILE, self.leftovers.tick)
        self.core.soon("leftovers", self.leftovers.pause)

    def _settle_fleet(self) -> None:
        core = self.core
        self.journal.take_changes()
        core.grouping.follow()
        core.naming.look()
        self.roads.follow()
        core.others_keys.look()
        if not core.members.elements.pending:
            self.journal.write()  # what does not concern the kernel still goes to disk
        next_tick = core.members.fleet.next_tick()
        if next_tick is None or not core.in_step.fresh:
            core.timers.due.pop("linger", None)
        else:
            due = core.now() + max(0.0, next_tick - core.since())
            core.timers.due["linger"] = max(due, self.following.hears_again_at)
        self.following.look_at_doubt()

    def _found_in_kernel(self, what: Found) -> None:
        match what:
            case "disarmed":
                self.trying.disarmed()
            case "relaxed":
                self.staging.relaxed_in_kernel()
            case "down":
                self.going_down.found_in_kernel()

    def _addresses_changed(self) -> None:
        self.following.anew(remember=True)
        self.core.soon("register")
