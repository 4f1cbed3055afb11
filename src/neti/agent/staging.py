"""reject_all in the agent: what the configuration and operators wish, and when a trial begins.

``neti.stage`` decides; here its decisions are carried out, kept and logged.

Must never do: write to disk that a wish is fulfilled before the kernel has it.
"""

from typing import Any, Final

from neti import log
from neti.agent.core import Core
from neti.agent.describing import Describing
from neti.agent.kernel import Kernel
from neti.agent.objections import Objections
from neti.agent.open_sessions import OpenSessions
from neti.agent.trial import Shadow, Trying
from neti.control.server import Request
from neti.errors import DataplaneError
from neti.fleet.attendance import moment
from neti.model.groups import MemberPorts
from neti.model.said import Said
from neti.ruleset.member_ports import needed
from neti.ruleset.reach import requires
from neti.stage import stages
from neti.stage.stages import GROUPS_MISSING, PORTS_LOST, Record, Stage
from neti.stage.taking_up import AGENT_SILENT, STAGE_LOST, Found, Source, take_up
from neti.state.folder import STAGE_FILE

_AGAIN: Final = 30.0  # seconds between looks whether a wished-for trial may begin
_GROUPS_AGAIN: Final = 1.0  # seconds between looks whether groups are known
_GROUPS_TIMES: Final = 30


class Staging:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(
        self,
        core: Core,
        kernel: Kernel,
        describing: Describing,
        shadow: Shadow,
        trying: Trying,
    ) -> None:
        self._core = core
        self._kernel = kernel
        self._describing = describing
        self._shadow = shadow
        self._trying = trying
        self._sessions = OpenSessions(core)
        self._objections = Objections(core, kernel, shadow)
        self._refusal_told: str | None = None
        self._asked_for_groups = 0

    # --- wishes ---

    def configured(self) -> None:
        """The configuration was read again."""
        core = self._core
        before = core.stage.record
        core.stage.keep(stages.configured(before, core.settings.reject_all))
        if core.stage.record.wished != before.wished:
            self._say_wished()
        core.stage.follow_file()
        core.soon("stage")

    def _say_wished(self) -> None:
        log.info("stage_wished", reject_all=self._core.settings.reject_all, by="configuration")

    def take_up(self, found: Found, *, enforced_once: bool) -> None:
        """Take up what an earlier run left, before the kernel is put right for the first time."""
        core, before = self._core, self._core.stage.record
        taken = take_up(
            found,
            reject_all=core.settings.reject_all,
            boot=core.out.boot,
            monotonic=core.now(),
            now=core.since(),
            left=None if found.relaxed is None else self._left(found.relaxed),
            require=requires(core.settings.sites, core.host.site),
        )
        record = stages.allotted(taken.record, core.settings.member_ports)
        if taken.source is Source.NOTHING:
            core.problems.set("stage_lost", STAGE_LOST[enforced_once])
            log.error("stage_lost", what=STAGE_LOST[enforced_once])
        core.stage.keep(record)
        if record.ports_lost and not before.ports_lost:
            log.error("member_ports_lost", what=PORTS_LOST)
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
                    "the record on disk said shadow, but the kernel enforced: this host stays "
                    "enforced; run neti relax if it should not be",
                )
            case _ if before.trial is not None and record.confirmed:
                log.warning("trial_confirmed", by="an earlier run, which was killed right after it")
            case _ if record.failures > before.failures:
                log.error("trial_unconfirmed", why="; ".join(record.why))
            case _ if record.wished != before.wished:
                self._say_wished()
        core.soon("stage")

    def enforce(self, request: Request) -> None:
        core = self._core
        enforced = core.stage.record.stage is Stage.ENFORCED and not core.stage.suspended()
        asked = requires(core.settings.sites, core.host.site)
        ports = core.stage.to_try()
        if enforced and (core.stage.record.requires or not asked) and ports is None:
            core.stage.keep(self._commanded(True, request.caller))
            self._enforced_already(request)
            return
        wait = bool(request.arguments.get("wait"))
        seconds = int(request.arguments.get("seconds") or core.settings.trial_seconds)
        if (running := self._objections.less_strict(seconds, wait=wait)) is not None:
            now = stages.parts(core.stage.record, require=asked, ports=ports)
            missing = [one for one in now if one not in stages.on_trial(core.stage.record)]
            without = f"; it is not one of {' and '.join(missing)}" if missing else ""
            request.fail(
                f"{running}{without}\n→ 'neti confirm' makes it permanent, 'neti relax' ends it"
                f"{', then neti enforce again' if missing else ''}"
            )
            return
        anyway = bool(request.arguments.get("anyway"))
        refusal = (
            core.stage.refusal()
            or self._sessions.typed_in(request.arguments.get("session"), tried=ports is not None)
            or ("" if anyway else self._objections.unlikely_to_end_well())
            or (self._objections.keys_that_count_for_nothing() if asked else "")
            or ("" if anyway or not asked else self._objections.in_the_clear())
            or (self._objections.to_member_ports(ports, anyway=anyway) if ports else "")
            or ("" if enforced else self._objections.unanswered(anyway=anyway))
        )
        if refusal:
            request.fail(f"not armed: {refusal}")
            return
        before, wished = core.stage.record, self._commanded(True, request.caller)
        try:
            of = self._trying.begin(
                wished, seconds, wait=wait, require=asked, ports=ports, losing=anyway
            )
        except DataplaneError as error:
            # The operator is told that nothing came of it: what was said before goes on to count.
            core.stage.keep(before)
            self._kernel.failed(error)
            request.fail(f"not armed: {error}")
            return
        begun = {"stage": "trial", "seconds": seconds, **self._unread()}
        request.succeed(begun if of == ("reject_all",) else {**begun, "of": list(of)})

    def shuts_out(self, said: Any) -> str | None:
        """Why the SSH session in which a command was typed would not be let in once the stage that
        was decided is in the kernel; None: it would, or nobody is kept out."""
        record, settings = self._core.stage.record, self._core.settings
        if not settings.way_in or (record.stage is Stage.SHADOW and not record.wished):
            return None
        return self._sessions.typed_in(said)

    def would_be_lost(self) -> tuple[str, ...]:
        """Ports in use, in words: see ``Objections``."""
        return self._objections.would_be_lost()

    def _commanded(self, on: bool, caller: str, seconds: float | None = None) -> Record:
        """``seconds``: for how long from now; None: for good."""
        core = self._core
        return stages.commanded(
            core.stage.record,
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
            core = self._core
            requiring = requires(core.settings.sites, core.host.site)
            said = {"reject_all": core.settings.reject_all, "requires": requiring}
            request.succeed({**self._done("shadow"), **said})

    def _done(self, now: str) -> dict[str, Any]:
        unsaved = self._core.stage.unsaved()
        return {"stage": now} if unsaved is None else {"stage": now, "unsaved": unsaved}

    def relaxed_on_disk(self) -> None:
        """``neti relax`` worked without this agent, which did not answer. Its word is deleted once
        it is followed and on disk, so that a later ``neti enforce`` counts."""
        core = self._core
        said = core.out.folder.relaxed_by()
        if core.stage.record.wished or not core.stage.record.relaxed:
            self._relax("command, while the agent did not answer", said.by, self._left(said))
        self._forget_relaxed()

    def _forget_relaxed(self) -> None:
        core = self._core
        if STAGE_FILE not in core.disk.behind:
            core.disk.keep("relaxed", lambda: core.out.folder.set_relaxed(False))

    def _left(self, said: Said) -> float | None:
        out = self._core.out
        return said.left(boot=out.boot, boottime=out.clock.boottime(), wall=out.clock.wall())

    def relaxed_in_kernel(self) -> None:
        """``neti relax`` worked without this agent, and could only leave a mark in the kernel."""
        core = self._core
        core.stage.keep(self._commanded(False, AGENT_SILENT))
        log.warning("relaxed", by="command, found in the kernel: it was not on disk")

    def _relax(
        self, by: str, caller: str = "", seconds: float | None = None
    ) -> DataplaneError | None:
        """The kernel first, in a transaction of its own: if anything else is refused, nobody must
        be kept out by that. Returns why the kernel still drops; None: it does not."""
        core = self._core
        self._trying.relaxed()
        refused = self._kernel.disarm()
        core.stage.keep(self._commanded(False, caller, seconds))
        log.warning("relaxed", by=by)
        self._kernel.resync("relax")
        self._describing.describe()
        core.soon("stage")
        return refused

    def confirm(self, request: Request) -> None:
        core = self._core
        suspended = core.stage.suspended()
        if suspended and core.stage.record.stage is not Stage.SHADOW:
            request.fail(f"nothing is in force that could be confirmed: {suspended}")
        elif core.stage.record.stage is Stage.ENFORCED and core.stage.record.trial is None:
            self._no_trial(request) if self._failed() else self._enforced_already(request)
        elif core.stage.record.trial is None:
            self._no_trial(request)
        elif (unsaved := core.stage.not_on_disk()) is not None:
            request.fail(f"not confirmed, the trial goes on: {unsaved}")
        elif self._trying.make_permanent("the operator's word"):
            request.succeed(self._enforced())
        else:
            why = "; ".join(core.stage.record.why)
            request.fail(f"not confirmed: {why}\n→ 'neti enforce' again")

    def _failed(self) -> bool:
        """Whether a trial ended unconfirmed on a host that is enforced, and is still asked for."""
        core = self._core
        asked = requires(core.settings.sites, core.host.site)
        left = stages.parts(core.stage.record, require=asked, ports=core.stage.to_try())
        return bool(left) and core.stage.record.failures > 0

    def _no_trial(self, request: Request) -> None:
        why = "; ".join(self._core.stage.record.why)
        ended = f" The last one ended unconfirmed: {why}." if why else ""
        request.fail(f"no trial is running, so there is nothing to confirm.{ended}")

    def _enforced(self) -> dict[str, Any]:
        done = self._done("enforced")
        requires = {"requires": True} if self._core.stage.requires else {}
        ports = {"member_ports": True} if self._core.stage.ports == "in force" else {}
        return {**done, **requires, **ports}

    def _enforced_already(self, request: Request) -> None:
        """By the record: the kernel is asked before anybody is told so."""
        core, refused = self._core, self._kernel.resync("said to be enforced already")
        if refused is not None:
            request.fail(
                "reject_all is decided for good already, but this host's kernel is not as it "
                f"should be: {refused}\n→ 'neti status' shows what is in force; the agent tries "
                "again by itself"
            )
        else:
            said = "reject_all is enforced already"
            if core.stage.requires:
                said = "reject_all and encryption between sites are enforced already"
            if core.ports_in_force != core.stage.record.member_ports:
                said += f", but {GROUPS_MISSING}"
            if core.stage.to_try() is not None:
                said += "; member_ports wait until 'neti enforce' has tried them"
            request.succeed({**self._enforced(), "said": said, **self._unread()})

    def _unread(self) -> dict[str, Any]:
        """Somebody who has just edited the file takes it for what is put in force."""
        core = self._core
        changed = core.out.config_read.unread() if core.out.config_read is not None else None
        if changed is None:
            return {}
        return {
            "unread": f"{core.settings.path} was changed at {moment(changed)} and has not been "
            "read since: what is in force is what it said before\n→ neti reload, then 'neti "
            "enforce' again"
        }

    # --- time ---

    def due(self) -> None:
        """The timer "stage": a trial to look at, to end, or to begin."""
        core, trial = self._core, self._core.stage.record.trial
        if core.down.now:
            return
        if stages.relaxed_long_enough(core.stage.record, core.since()):
            log.warning("relaxed_long_enough", seconds=core.stage.record.relaxed_for)
            core.stage.keep(self._commanded(True, f"after: {core.stage.record.said_by}"))
        if trial is not None:
            self._trying.look_at(trial)
        elif core.stage.record.relaxed_until is not None:
            core.soon("stage", max(0.0, core.stage.record.relaxed_until - core.since()))
        elif stages.may_begin(core.stage.record, core.since()):
            self._begin_if_possible()
        elif core.stage.record.wants_trial and core.stage.record.retry_at is not None:
            core.soon("stage", max(0.0, core.stage.record.retry_at - core.since()))
        elif core.stage.record.confirmed and (why := core.stage.suspended()) is not None:
            core.problems.set("arming", f"reject_all is NOT in force: {why}")
        else:
            core.problems.clear("arming")

    def _ports_again(self) -> MemberPorts:
        """What a trial that begins by itself is of ``member_ports``: of all that wait, or of none
        where an operator would be refused. They must not keep ``reject_all`` of the file from being
        confirmed, so a trial that failed with them is tried again without."""
        record = self._core.stage.record
        if record.by == "configuration" and record.failures and "member_ports" in record.tried:
            return None
        ports = self._core.stage.to_try()
        return None if self._objections.to_member_ports(ports, anyway=False) else ports

    def _groups_may_come(self) -> bool:
        """Whether to wait a little for the registry's word of who is in which group, which comes
        after its list of members: a trial of ``member_ports`` needs it. Not for long, as the trial
        can begin without them."""
        core = self._core
        needs = needed(core.stage.to_try()) and not core.members.groups.known
        self._asked_for_groups = self._asked_for_groups + 1 if needs else 0
        return bool(needs) and self._asked_for_groups <= _GROUPS_TIMES

    def _requires_again(self) -> bool:
        """Whether a trial that begins by itself is of encryption too: where an operator's word
        began it. That of ``reject_all`` in the file must not fail for want of a member's key."""
        core = self._core
        return (
            core.stage.record.by == "command"
            and requires(core.settings.sites, core.host.site)
            and not self._objections.keys_that_count_for_nothing()
        )

    def _begin_if_possible(self) -> None:
        """As the configuration wishes: once there is a way in, and everybody is known for sure."""
        core = self._core
        refusal = core.stage.refusal()
        if refusal is None and not core.in_step.fresh:
            refusal = "the registry is not in step yet"
        if refusal is None:
            refusal = core.stage.not_on_disk()
        if refusal is not None:
            core.problems.set("arming", f"reject_all is true but NOT in force: {refusal}")
            if refusal != self._refusal_told:
                log.error("arming_refused", what=refusal)
            self._refusal_told = refusal
            core.soon("stage", _AGAIN)
            return
        self._refusal_told = None
        core.problems.clear("arming")
        if self._groups_may_come():
            core.soon("stage", _GROUPS_AGAIN)
            return
        try:
            self._trying.begin(
                core.stage.record,
                core.settings.trial_seconds,
                wait=False,
                require=self._requires_again(),
                ports=self._ports_again(),
            )
        except DataplaneError as error:
            self._kernel.failed(error)
            core.soon("stage", _AGAIN)
