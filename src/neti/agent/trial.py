"""One trial: begun, watched, and confirmed or ended; and its evidence.

The kernel ends a trial whatever happens here. ``neti.stage.evidence`` says what counts as evidence;
here it is gathered.

Must never do: remove the time-out without all the evidence or the operator's word.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from neti import log
from neti.agent.core import Core
from neti.agent.describing import Describing
from neti.agent.in_the_clear import end, look, of_required_pairs
from neti.agent.kernel import Kernel
from neti.agent.open_sessions import OpenSessions
from neti.errors import DataplaneError, KernelMoved, NetiError
from neti.model.groups import MemberPorts
from neti.monitoring.status import Expired, Running
from neti.stage import evidence, stages
from neti.stage.shadow import Port
from neti.stage.stages import Record, Trial

# The evidence counts only when most of the trial is over; from then on it is checked again and
# again until the kernel's own deadline.
_LOOK_FROM: Final = 2 / 3
_LOOKS: Final = 40  # in a whole trial, but no more than one a second
_MARGIN: Final = 0.5  # seconds after the deadline until the kernel has certainly ended it
_COUNTED_EVERY: Final = 30.0
_REFUSED: Final = {
    "clear_new": "new connections in the clear",
    "clear_older": "older connections in the clear",
    "clear_came": "members that sent in the clear",
}


class Shadow(Protocol):
    """What the record of refused packets says; see ``neti.agent.shadow_evidence``."""

    def sample(self) -> None: ...

    def refused_members(self, since: float) -> tuple[str, ...]: ...

    def kept_out(self, since: float | None = None) -> tuple[str, ...]: ...

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
    refused: Mapping[str, int]  # packets that were refused for being in the clear, until then
    registry: str | None = None
    asking: bool = False
    last: tuple[evidence.Finding, ...] = ()


class Trying:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(self, core: Core, kernel: Kernel, describing: Describing, shadow: Shadow) -> None:
        self._core = core
        self._kernel = kernel
        self._describing = describing
        self._shadow = shadow
        self._sessions = OpenSessions(core)
        self._progress: _Progress | None = None
        # Packets of members let in, by the moment (monotonic) they were counted, for comparison.
        self._counted: list[tuple[float, int]] = []
        self.findings: tuple[evidence.Finding, ...] = ()  # of the last trial that was looked at

    # --- a trial ---

    def begin(
        self,
        wished: Record,
        seconds: int,
        *,
        wait: bool,
        require: bool = False,
        ports: MemberPorts = None,
        losing: bool = False,
    ) -> tuple[str, ...]:
        """``require``, ``ports``, ``losing``: see ``Trial``. Returns what it is of. Raises
        DataplaneError, and then the kernel is as it was."""
        core = self._core
        self._kernel.bring_rules_in()
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
            require=require,
            member_ports=ports,
            losing=losing,
        )
        of = stages.parts(wished, require=require, ports=ports)
        # On disk first: if we are killed right after, a restart finds a trial that the kernel does
        # not hold, and counts it as unconfirmed.
        core.stage.keep(stages.begun(wished, trial))
        core.stage.wish()
        try:
            core.out.reconciler.begin_trial(core.members.elements)
        except DataplaneError:
            core.stage.keep(
                stages.unconfirmed(core.stage.record, ("the kernel refused",), core.since())
            )
            raise
        used = frozenset(self._shadow.unanswered())
        self._progress = _Progress(
            core.now(), self._admitted(), before, back, used, self._counters()
        )
        self.findings = ()
        log.warning(
            "trial_begun",
            of=" and ".join(of),
            seconds=seconds,
            confirms="operator" if wait else "evidence",
        )
        self._describing.describe()
        self._ask_registry()
        core.soon("stage", seconds * _LOOK_FROM if not wait else seconds + _MARGIN)
        return of

    def look_at(self, trial: Trial) -> None:
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
            self._progress = _Progress(core.now(), self._admitted(), 0, 0.0, used, self._counters())
        if left > trial.seconds * (1 - _LOOK_FROM):
            core.soon("stage", left - trial.seconds * (1 - _LOOK_FROM))
            return
        found = self.findings = evidence.findings(self._observe(trial))
        if core.stage.record.trial is None:
            return  # the look at the kernel found that it is over
        if not (missing := evidence.missing(found)):
            self.make_permanent("evidence", found)
            return
        if self._progress.last != found:
            log.info("trial_evidence", missing="; ".join(missing))
        self._progress.last = found
        self._ask_registry()
        core.soon("stage", min(max(1.0, trial.seconds / _LOOKS), left + _MARGIN))

    def disarmed(self) -> None:
        """A look at the kernel did not find the trial there."""
        trial = self._core.stage.record.trial
        if trial is None:
            return
        over = trial.deadline <= self._core.now()
        early = "another program removed the trial from the kernel before its time"
        self.unconfirmed(self._why(trial) if over else (early,))

    def relaxed(self) -> None:
        """The operator ended it."""
        self._progress = None

    def taken_down(self) -> None:
        """An operator took Neti out of the kernel."""
        if self._core.stage.record.trial is not None:
            self.unconfirmed(("neti down took the trial out of the kernel",))

    def unconfirmed(self, why: tuple[str, ...]) -> None:
        core = self._core
        self._progress = None
        core.stage.keep(stages.unconfirmed(core.stage.record, why, core.since()))
        log.error("trial_unconfirmed", why="; ".join(why), failures=core.stage.record.failures)
        core.stage.wish()
        self._describing.describe()
        core.soon("resync")
        core.soon("stage")

    def _why(self, trial: Trial) -> tuple[str, ...]:
        if trial.wait:
            return (f"nobody confirmed it within {trial.seconds} s (neti confirm)",)
        last = self._progress.last if self._progress is not None else ()
        return evidence.missing(last) or ("the agent did not come to look at the evidence",)

    def make_permanent(self, by: str, found: tuple[evidence.Finding, ...] = ()) -> bool:
        core = self._core
        try:
            trial = core.stage.record.trial
            ports = trial.member_ports if trial is not None else None
            rules = self._kernel.rules(ports) if ports is not None else None
            unread = core.out.reconciler.confirm_trial(core.members.elements, rules)
        except DataplaneError as error:
            over = isinstance(error, KernelMoved)
            said = "the kernel had ended it already" if over else "the kernel did not confirm it"
            self.unconfirmed((f"{said}: {error}",))
            return False
        core.stage.keep(stages.confirmed(core.stage.record))
        core.stage.wish()
        if rules is not None:
            self._kernel.goes_by(ports)
        if unread is not None:
            self._kernel.failed(unread)
        if core.stage.record.requires:
            core.soon("resync")  # roads are required now
            end(core)
        self._progress = None
        for finding in found:
            log.info("trial_evidence", what=finding.what, seen=finding.sentence)
        log.warning("trial_confirmed", by=by)
        self._describing.describe()
        return True

    # --- evidence ---

    def _observe(self, trial: Trial) -> evidence.Observed:
        core, progress = self._core, self._progress
        assert progress is not None
        # Strangers are refused already where a trial is of encryption alone, and go on being.
        shuts_ports = not core.stage.record.confirmed
        return evidence.Observed(
            registry=progress.registry,
            in_step=core.in_step.fresh,
            kernel=self._kernel_fault(),
            peers=sum(1 for host_id in core.members.fleet.members if host_id != core.host.id),
            admitted=max(0, self._admitted() - progress.admitted_at_start),
            admitted_before=progress.admitted_before,
            before_seconds=progress.before_seconds,
            refused_members=self._refused_members(trial),
            way_in=core.stage.refusal() or self._sessions.shut_out(),
            lost_uses=self._shadow.lost_uses(trial.began) if shuts_ports else (),
            incomplete=self._shadow.incomplete(trial.began) if shuts_ports else "",
            unanswered=self._still_unanswered(progress) if shuts_ports else (),
            containers=self._kernel.containers,
            unsaved=core.stage.not_on_disk() or "",
            clear=self._in_the_clear(progress) if trial.require else None,
            losing=trial.losing,
            kept_out=(
                self._shadow.kept_out(trial.began) if trial.member_ports is not None else None
            ),
        )

    def _refused_members(self, trial: Trial) -> tuple[str, ...]:
        """Without those of which it was accepted that they are, in the clear."""
        refused = self._shadow.refused_members(trial.began)
        if not (trial.require and trial.losing):
            return refused
        meant = of_required_pairs(self._core)
        return tuple(host_id for host_id in refused if host_id not in meant)

    def _in_the_clear(self, progress: _Progress) -> tuple[str, ...]:
        """Who has no road but that, and what was refused since the trial began."""
        found = look(self._core, connections=False)
        counted, before = self._counters(), progress.refused
        since = (
            (words, counted.get(name, 0) - before.get(name, 0)) for name, words in _REFUSED.items()
        )
        packets = [
            f"{count} packets of {words} were refused" for words, count in since if count > 0
        ]
        return (*(found.words() if found is not None else ()), *packets)

    def _still_unanswered(self, progress: _Progress) -> tuple[str, ...]:
        """Of the ports that were in use when the trial began. What was lost since then is in the
        record of the trial itself."""
        if not progress.unanswered:
            return ()
        used = self._shadow.unanswered()
        return tuple(words for port, words in used.items() if port in progress.unanswered)

    def _kernel_fault(self) -> str:
        """Read the kernel back and put it right. Returns what is still wrong."""
        core = self._core
        refused = self._kernel.resync("trial")
        if refused is not None:
            return str(refused)
        if core.stage.record.trial is None:
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
        """The timer "count": how much members send, to compare a later trial with."""
        self._count()
        self._core.soon("count", _COUNTED_EVERY)

    def _count(self) -> None:
        now = self._core.now()
        self._counted = [*self._counted[-120:], (now, self._admitted())]

    def _admitted(self) -> int:
        return self._counters().get("admitted", 0)

    def _counters(self) -> Mapping[str, int]:
        try:
            return self._core.out.reconciler.counters()
        except DataplaneError:
            return {}

    def _admitted_within(self, seconds: float) -> tuple[int, float]:
        """Packets of members in the last ``seconds``, at least between two counts, and only as far
        back as was counted; and how long that was."""
        end, total = self._counted[-1]
        reach = end - max(seconds, _COUNTED_EVERY)
        at, before = next((at, count) for at, count in self._counted if at >= reach)
        return max(0, total - before), end - at

    # --- telling ---

    def told(self) -> Running | Expired | None:
        """For status: the trial that runs, or the one that ended unconfirmed."""
        core, record = self._core, self._core.stage.record
        if record.trial is not None:
            last = self._progress.last if self._progress is not None else ()
            return Running(
                seconds_left=max(0, round(record.trial.deadline - core.now(), 1)),
                seconds=record.trial.seconds,
                confirms="operator" if record.trial.wait else "evidence",
                why=evidence.missing(last),
                of=stages.on_trial(record),
            )
        if record.wished and record.failures:  # where it is confirmed, of encryption
            return Expired(
                failures=record.failures,
                retry_at=core.shown(record.retry_at),
                why=record.why,
                of=core.stage.tried(),
            )
        return None
