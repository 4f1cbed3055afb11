"""reject_all in the agent: begins trials, gathers evidence, confirms or lets go.

The kernel ends a trial whatever happens here. What is decided is in ``neti.stage.stages`` and
``neti.stage.evidence``; here it is asked for, done, written down and said.

Must never do: put a wish on disk as done before the kernel has it, or take a time-out off without
all the evidence or the operator's word.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from neti import log
from neti.agent.core import Core
from neti.agent.kernel import Kernel
from neti.agent.registration import Registration
from neti.control.server import Request
from neti.errors import ConfigError, DataplaneError, NetiError
from neti.model import IPAddress
from neti.model.said import Said
from neti.model.settings import Settings
from neti.monitoring.status import Expired, Running
from neti.ruleset.objects import SetName
from neti.stage import evidence, stages, way_in
from neti.stage.shadow import Port
from neti.stage.stages import Record, Stage, Trial
from neti.stage.taking_up import AGENT_SILENT, STAGE_LOST, Found, Source, take_up
from neti.state.folder import STAGE_FILE, StateError

# The evidence counts only when most of the trial is over; from then on it is looked at again and
# again until the kernel's own deadline.
_LOOK_FROM: Final = 2 / 3
_LOOKS: Final = 40  # in a whole trial, but no more than one a second
_MARGIN: Final = 0.5  # seconds after the deadline until the kernel has surely let go
_AGAIN: Final = 30.0  # seconds between looks whether a wished-for trial may begin


class Shadow(Protocol):
    """What the record of refused packets says; see ``neti.agent.shadow_evidence``."""

    def sample(self) -> None: ...

    def refused_members(self, since: float) -> tuple[str, ...]: ...

    def lost_uses(self, since: float) -> tuple[str, ...]: ...

    def incomplete(self, since: float) -> str: ...

    def unanswered(self) -> dict[Port, str]: ...

    def give_up(self, ports: Iterable[Port]) -> None: ...


@dataclass(slots=True)
class _Progress:
    """Of one trial. ``registry``: see ``evidence.Observed``."""

    began: float  # monotonic
    admitted_at_start: int
    admitted_before: int
    before_seconds: float
    unanswered: frozenset[Port]
    registry: str | None = None
    asking: bool = False
    last: tuple[evidence.Finding, ...] = ()


class Staging:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(
        self, core: Core, kernel: Kernel, registration: Registration, shadow: Shadow
    ) -> None:
        self._core = core
        self._kernel = kernel
        self._registration = registration
        self._shadow = shadow
        self._progress: _Progress | None = None
        # Packets of members let in, by the moment (monotonic) they were counted, for comparison.
        self._counted: list[tuple[float, int]] = []
        self._refusal_told: str | None = None
        self._findings: tuple[evidence.Finding, ...] = ()  # of the last trial that was looked at

    # --- wishes ---

    def configured(self) -> None:
        """The configuration was read anew."""
        core = self._core
        before = core.record
        core.keep_record(stages.configured(before, core.settings.reject_all))
        if core.record.wished != before.wished:
            self._say_wished()
        core.soon("stage")

    def _say_wished(self) -> None:
        log.info("stage_wished", reject_all=self._core.settings.reject_all, by="configuration")

    def take_up(self, found: Found, *, enforced_once: bool) -> None:
        """What an earlier run left: before the kernel is made right for the first time."""
        core, before = self._core, self._core.record
        taken = take_up(
            found,
            reject_all=core.settings.reject_all,
            boot=core.out.boot,
            monotonic=core.now(),
            now=core.since(),
            left=None if found.relaxed is None else self._left(found.relaxed),
        )
        record = taken.record
        if taken.source is Source.NOTHING:
            core.problems.set("stage_lost", STAGE_LOST[enforced_once])
            log.error("stage_lost", what=STAGE_LOST[enforced_once])
        core.keep_record(record)
        match taken.source:
            case Source.RELAXED_ON_DISK:
                self._forget_relaxed()
            case Source.RELAXED_IN_KERNEL if not before.relaxed:
                log.warning("relaxed", by="command, found in the kernel: it was not on disk")
            case Source.KERNEL_ALONE:
                why = "the kernel holds it for good, and there is no record of it"
                log.warning("stage_adopted", stage="enforced", why=why)
            case Source.KERNEL_NEWER:
                why = "the kernel holds it for good, and the record on disk is an older one"
                log.warning("stage_adopted", stage="enforced", why=why)
                core.problems.set(
                    "stage_adopted",
                    "the record on disk said shadow, and the kernel enforced: this host stays "
                    "enforced; neti relax, if it is not to be",
                )
            case _ if before.trial is not None and record.confirmed:
                log.warning("trial_confirmed", by="an earlier run, which was ended right after it")
            case _ if record.failures > before.failures:
                log.error("trial_unconfirmed", why="; ".join(record.why))
            case _ if record.wished != before.wished:
                self._say_wished()
        core.soon("stage")

    def enforce(self, request: Request) -> None:
        core = self._core
        if core.record.stage is Stage.ENFORCED and not core.suspended():
            core.keep_record(self._commanded(True, request.caller))
            request.succeed({"stage": "enforced", "said": "reject_all is enforced already"})
            return
        anyway = bool(request.arguments.get("anyway"))
        refusal = (
            self.refusal()
            or way_in.refusal(request.arguments.get("session"), core.settings, self._is_peer)
            or ("" if anyway else self._unlikely_to_end_well())
            or self._unanswered(anyway=anyway)
        )
        if refusal:
            request.fail(f"not armed: {refusal}")
            return
        wait = bool(request.arguments.get("wait"))
        if core.record.trial is not None and core.record.trial.wait and not wait:
            request.fail(
                "a trial is running that only 'neti confirm' makes permanent, so no other one is "
                "begun\n→ 'neti confirm' makes it permanent, 'neti relax' ends it"
            )
            return
        seconds = int(request.arguments.get("seconds") or core.settings.trial_seconds)
        before, wished = core.record, self._commanded(True, request.caller)
        try:
            self._begin(wished, seconds, wait=wait)
        except DataplaneError as error:
            # The operator is told that nothing came of it: what was said before goes on to count.
            core.keep_record(before)
            self._kernel.failed(error)
            request.fail(f"not armed: {error}")
            return
        request.succeed({"stage": "trial", "seconds": seconds})

    def refuse_to_shut_out(self, said: Any, new: Settings) -> None:
        """Raises ConfigError where this host drops, or would begin to, by a new configuration which
        no longer lets in the SSH session in which somebody has it read. A session that the old one
        does not let in either loses nothing. ``said``: the session's document; None: there is
        none."""
        record, settings = self._core.record, self._core.settings
        then = stages.configured(record, new.reject_all)
        dropping = record.stage is not Stage.SHADOW
        if not (dropping or then.wished) or not new.way_in:  # then the host is open
            return
        refused = way_in.refusal(said, new, self._is_peer)
        if refused is not None and not (
            dropping and way_in.refusal(said, settings, self._is_peer) is not None
        ):
            raise ConfigError(f"{refused}; 'neti reload --anyway', if that is meant")

    def _unanswered(self, *, anyway: bool) -> str | None:
        """Why an operator should think again: ports in use that would be shut. ``anyway`` is an
        answer: they may be lost."""
        self._kernel.listen()
        self._shadow.sample()
        used = self._shadow.unanswered()
        if not used:
            return None
        if not anyway:
            ports = ", ".join(used.values())
            return (
                f"'neti preview' lists ports in use that would be shut: {ports}; "
                f"{evidence.ANSWERS}, or 'neti enforce --anyway' accepts losing all of them"
            )
        try:
            self._shadow.give_up(used)
        except StateError as error:
            return f"that these ports may be lost cannot be written down: {error}"
        log.warning("losing_accepted", ports=", ".join(used.values()))
        return None

    def _is_peer(self, address: IPAddress) -> bool:
        where: SetName = "peers4" if address.version == 4 else "peers6"
        return self._core.members.elements.wants(where, str(address))

    def _commanded(self, on: bool, caller: str, seconds: float | None = None) -> Record:
        """``seconds``: for how long, from now; None: for good."""
        core = self._core
        return stages.commanded(
            core.record,
            on,
            at=core.wall(),
            by=caller,
            until=None if seconds is None else core.since() + seconds,
            seconds=seconds,
        )

    def relax(self, request: Request) -> None:
        until = request.arguments.get("until")
        seconds = None if until is None else max(0.0, float(until) - self._core.wall())
        refused = self._relax("command", request.caller, seconds)
        if refused is not None:
            request.fail(str(refused))
        else:
            request.succeed({**self._done("shadow"), "reject_all": self._core.settings.reject_all})

    def _done(self, now: str) -> dict[str, Any]:
        unsaved = self._unsaved()
        return {"stage": now} if unsaved is None else {"stage": now, "unsaved": unsaved}

    def _unsaved(self) -> str | None:
        """Why what was decided is not on disk; None: it is."""
        core = self._core
        held = core.problems.get("disk", subject=STAGE_FILE)
        return held.sentence if held is not None and STAGE_FILE in core.behind else None

    def relaxed_on_disk(self) -> None:
        """``neti relax`` did without this agent, which did not answer. The word is forgotten once
        it is followed and on disk, so that a later ``neti enforce`` counts."""
        core = self._core
        said = core.out.folder.relaxed_by()
        if core.record.wished or not core.record.relaxed:
            self._relax("command, while the agent did not answer", said.by, self._left(said))
        self._forget_relaxed()

    def _forget_relaxed(self) -> None:
        core = self._core
        if STAGE_FILE not in core.behind:
            core.keep("relaxed", lambda: core.out.folder.set_relaxed(False))

    def _left(self, said: Said) -> float | None:
        out = self._core.out
        return said.left(boot=out.boot, boottime=out.clock.boottime(), wall=out.clock.wall())

    def relaxed_in_kernel(self) -> None:
        """``neti relax`` did without this agent, and no disk took the word: the kernel bears it."""
        core = self._core
        core.keep_record(self._commanded(False, AGENT_SILENT))
        log.warning("relaxed", by="command, found in the kernel: it was not on disk")

    def _relax(
        self, by: str, caller: str = "", seconds: float | None = None
    ) -> DataplaneError | None:
        """The kernel first, by a transaction of its own: whatever else is refused must not keep
        anybody out. Why the kernel still drops; None: it does not."""
        core = self._core
        self._progress = None
        refused = self._kernel.disarm()
        core.keep_record(self._commanded(False, caller, seconds))
        log.warning("relaxed", by=by)
        self._kernel.resync("relax")
        self._registration.describing.describe()
        core.soon("stage")
        return refused

    def confirm(self, request: Request) -> None:
        core = self._core
        suspended = core.suspended()
        if suspended and core.record.stage is not Stage.SHADOW:
            request.fail(f"nothing is in force that could be confirmed: {suspended}")
        elif core.record.stage is Stage.ENFORCED:
            request.succeed({"stage": "enforced", "said": "reject_all is enforced already"})
        elif core.record.trial is None:
            why = "; ".join(core.record.why)
            ended = f" The last one ended unconfirmed: {why}." if why else ""
            request.fail(f"no trial is running, so there is nothing to confirm.{ended}")
        elif (unsaved := self._not_on_disk()) is not None:
            request.fail(f"not confirmed, the trial goes on: {unsaved}")
        elif self._make_permanent("the operator's word"):
            request.succeed(self._done("enforced"))
        else:
            request.fail("the trial was over before it could be confirmed: 'neti enforce' again")

    # --- time ---

    def due(self) -> None:
        """The timer "stage": a trial to look at, to end, or to begin."""
        core, trial = self._core, self._core.record.trial
        if core.down:
            return
        if stages.relaxed_long_enough(core.record, core.since()):
            log.warning("relaxed_long_enough", seconds=core.record.relaxed_for)
            core.keep_record(self._commanded(True, f"after: {core.record.said_by}"))
        if trial is not None:
            self._look_at(trial)
        elif core.record.relaxed_until is not None:
            core.soon("stage", max(0.0, core.record.relaxed_until - core.since()))
        elif stages.may_begin(core.record, core.since()):
            self._begin_if_possible()
        elif core.record.wants_trial and core.record.retry_at is not None:
            core.soon("stage", max(0.0, core.record.retry_at - core.since()))
        elif core.record.confirmed and (why := core.suspended()) is not None:
            core.problems.set("arming", f"reject_all is NOT in force: {why}")
        else:
            core.problems.clear("arming")

    def _unlikely_to_end_well(self) -> str:
        """What is missing already, and will be at the trial's end; empty: nothing."""
        core = self._core
        if not core.fresh:
            return (
                f"the registry is not in step ({core.stale_reason}), so the trial could not be "
                "confirmed; wait until 'neti status' says that it is, or say --anyway"
            )
        unsaved = self._not_on_disk()
        return f"{unsaved}; or say --anyway" if unsaved else ""

    def _not_on_disk(self) -> str | None:
        """Why nothing may be made permanent: the record is written anew, to see that it can be."""
        core = self._core
        if core.keep(STAGE_FILE, lambda: core.out.folder.save_record(core.record)):
            return None
        return (
            f"what is decided now would not outlast a reboot ({self._unsaved()}): make the state "
            "folder writable first"
        )

    def refusal(self) -> str | None:
        """Why the kernel must not be armed now; None when it may."""
        core = self._core
        return stages.hindrance(way_in=core.way_in, down=core.down, known=core.members.known)

    def _begin_if_possible(self) -> None:
        """As the configuration wishes: once there is a way in, and everybody is known for sure."""
        core = self._core
        refusal = self.refusal()
        if refusal is None and not core.fresh:
            refusal = "the registry is not in step yet"
        if refusal is None:
            refusal = self._not_on_disk()
        if refusal is not None:
            core.problems.set("arming", f"reject_all is true but NOT in force: {refusal}")
            if refusal != self._refusal_told:
                log.error("arming_refused", what=refusal)
            self._refusal_told = refusal
            core.soon("stage", _AGAIN)
            return
        self._refusal_told = None
        core.problems.clear("arming")
        try:
            self._begin(core.record, core.settings.trial_seconds, wait=False)
        except DataplaneError as error:
            self._kernel.failed(error)
            core.soon("stage", _AGAIN)

    # --- a trial ---

    def _begin(self, wished: Record, seconds: int, *, wait: bool) -> None:
        """Raises DataplaneError; the kernel is then as it was."""
        core = self._core
        core.problems.clear("arming")
        self._kernel.listen()
        self._shadow.sample()
        self._count()
        before, back = self._admitted_within(seconds)
        trial = Trial(
            boot=core.out.boot,
            deadline=core.now() + seconds,
            began=core.since(),
            seconds=seconds,
            wait=wait,
        )
        # On disk first: killed right behind, a restart finds a trial that the kernel does not hold,
        # and counts it as unconfirmed.
        core.keep_record(stages.begun(wished, trial))
        core.members.elements.enforcement = core.enforcement()
        try:
            core.out.reconciler.begin_trial(core.members.elements)
        except DataplaneError:
            core.keep_record(stages.unconfirmed(core.record, ("the kernel refused",), core.since()))
            raise
        used = frozenset(self._shadow.unanswered())
        self._progress = _Progress(core.now(), self._admitted(), before, back, used)
        self._findings = ()
        log.warning("trial_begun", seconds=seconds, confirms="operator" if wait else "evidence")
        self._registration.describing.describe()
        self._ask_registry()
        core.soon("stage", seconds * _LOOK_FROM if not wait else seconds + _MARGIN)

    def _look_at(self, trial: Trial) -> None:
        core = self._core
        left = trial.deadline - core.now()
        if left <= 0:
            self.unconfirmed(self._why(trial))
            return
        if trial.wait:
            core.soon("stage", left + _MARGIN)
            return
        if self._progress is None:  # taken up by a restart
            used = frozenset(self._shadow.unanswered())
            self._progress = _Progress(core.now(), self._admitted(), 0, 0.0, used)
        if left > trial.seconds * (1 - _LOOK_FROM):
            core.soon("stage", left - trial.seconds * (1 - _LOOK_FROM))
            return
        found = self._findings = evidence.findings(self._observe(trial))
        if core.record.trial is None:
            return  # looking at the kernel showed that it is over
        if not (missing := evidence.missing(found)):
            self._make_permanent("evidence", found)
            return
        if self._progress.last != found:
            log.info("trial_evidence", missing="; ".join(missing))
        self._progress.last = found
        self._ask_registry()
        core.soon("stage", min(max(1.0, trial.seconds / _LOOKS), left + _MARGIN))

    def disarmed(self) -> None:
        """The kernel was found without its trial, by a look at it."""
        trial = self._core.record.trial
        if trial is None:
            return
        over = trial.deadline <= self._core.now()
        early = "somebody took the trial out of the kernel before its time"
        self.unconfirmed(self._why(trial) if over else (early,))

    def taken_down(self) -> None:
        """Nothing of Neti's is in the kernel, by an operator's word."""
        if self._core.record.trial is not None:
            self.unconfirmed(("neti down took the trial out of the kernel",))

    def unconfirmed(self, why: tuple[str, ...]) -> None:
        core = self._core
        self._progress = None
        core.keep_record(stages.unconfirmed(core.record, why, core.since()))
        log.error("trial_unconfirmed", why="; ".join(why), failures=core.record.failures)
        core.members.elements.enforcement = core.enforcement()
        self._registration.describing.describe()
        core.soon("resync")
        core.soon("stage")

    def _why(self, trial: Trial) -> tuple[str, ...]:
        if trial.wait:
            return (f"nobody confirmed it within {trial.seconds} s (neti confirm)",)
        last = self._progress.last if self._progress is not None else ()
        return evidence.missing(last) or ("the agent did not come to look at the evidence",)

    def _make_permanent(self, by: str, found: tuple[evidence.Finding, ...] = ()) -> bool:
        core = self._core
        try:
            core.out.reconciler.confirm_trial()
        except DataplaneError as error:
            self.unconfirmed((f"the kernel had ended it already: {error}",))
            return False
        core.keep_record(stages.confirmed(core.record))
        core.members.elements.enforcement = core.enforcement()
        self._progress = None
        for finding in found:
            log.info("trial_evidence", what=finding.what, seen=finding.sentence)
        log.warning("trial_confirmed", by=by)
        self._registration.describing.describe()
        return True

    # --- evidence ---

    def _observe(self, trial: Trial) -> evidence.Observed:
        core, progress = self._core, self._progress
        assert progress is not None
        return evidence.Observed(
            registry=progress.registry,
            in_step=core.fresh,
            kernel=self._kernel_fault(),
            peers=sum(1 for host_id in core.members.fleet.members if host_id != core.host.id),
            admitted=max(0, self._admitted() - progress.admitted_at_start),
            admitted_before=progress.admitted_before,
            before_seconds=progress.before_seconds,
            refused_members=self._shadow.refused_members(trial.began),
            way_in=self.refusal() or "",
            lost_uses=self._shadow.lost_uses(trial.began),
            incomplete=self._shadow.incomplete(trial.began),
            unanswered=self._still_unanswered(progress),
            containers=self._kernel.containers,
            unsaved=self._not_on_disk() or "",
        )

    def _still_unanswered(self, progress: _Progress) -> tuple[str, ...]:
        """Of the ports that were in use when the trial began; the record of the trial itself says
        what is lost since."""
        if not progress.unanswered:
            return ()
        used = self._shadow.unanswered()
        return tuple(words for port, words in used.items() if port in progress.unanswered)

    def _kernel_fault(self) -> str:
        """Read back and put right; what is wrong even so."""
        core = self._core
        refused = self._kernel.resync("trial")
        if refused is not None:
            return str(refused)
        if core.record.trial is None:
            return "the trial is not in the kernel any more"
        return core.problems.sentence("fight")

    def _ask_registry(self) -> None:
        progress = self._progress
        if progress is not None and not progress.asking and progress.registry != "":
            progress.asking = True
            self._core.out.worker.submit("probe", self._core.out.probe_registry)

    def registry_answered(self, error: NetiError | None) -> None:
        """The job "probe" has ended."""
        if self._progress is not None:
            self._progress.asking = False
            self._progress.registry = str(error) if error is not None else ""

    def count(self) -> None:
        """The timer "count": how much members send, for comparison with a trial to come."""
        self._count()
        self._core.soon("count", _AGAIN)

    def _count(self) -> None:
        now = self._core.now()
        self._counted = [*self._counted[-120:], (now, self._admitted())]

    def _admitted(self) -> int:
        try:
            return self._core.out.reconciler.counters().get("admitted", 0)
        except DataplaneError:
            return 0

    def _admitted_within(self, seconds: float) -> tuple[int, float]:
        """Packets of members in the last so many seconds, but at least as long as lies between two
        counts, and as far back as was counted; and how long that was."""
        end, total = self._counted[-1]
        reach = end - max(seconds, _AGAIN)
        at, before = next((at, count) for at, count in self._counted if at >= reach)
        return max(0, total - before), end - at

    # --- telling ---

    @property
    def findings(self) -> tuple[evidence.Finding, ...]:
        """What was found in the last trial, piece by piece."""
        return self._findings

    def told(self) -> Running | Expired | None:
        """For status: the trial that runs, or the one that ended unconfirmed."""
        core, record = self._core, self._core.record
        if record.trial is not None:
            last = self._progress.last if self._progress is not None else ()
            return Running(
                seconds_left=max(0, round(record.trial.deadline - core.now(), 1)),
                seconds=record.trial.seconds,
                confirms="operator" if record.trial.wait else "evidence",
                why=evidence.missing(last),
            )
        if record.wished and not record.confirmed and record.failures:
            return Expired(
                failures=record.failures, retry_at=core.shown(record.retry_at), why=record.why
            )
        return None
