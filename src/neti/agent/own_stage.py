"""The stage of this host: what is decided, what is in force, what the kernel should hold.

What follows from a record is decided in ``neti.stage.stages``. Must never do: decide anything
itself, or overwrite a record of a newer version when nobody decided anything.
"""

from typing import TYPE_CHECKING

from neti import log
from neti.model.groups import MemberPorts, PortsState
from neti.ruleset.enforce import RELAXED, Enforcement
from neti.ruleset.member_ports import admits_everybody, same
from neti.ruleset.reach import requires
from neti.stage import stages
from neti.stage.stages import DOWN, Record, Stage, hindrance, in_force
from neti.state.folder import STAGE_FILE
from neti.state.loaded import StateError

if TYPE_CHECKING:
    from neti.agent.core import Core


class OwnStage:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(self, core: "Core", record: Record) -> None:
        self._core = core
        self.record = record

    @property
    def now(self) -> Stage:
        """What is in force."""
        return Stage.SHADOW if self._hindrance(down=False) is not None else self.record.stage

    @property
    def word(self) -> str:
        """What operators read everywhere: what is in force, or ``down``."""
        return DOWN if self._core.down.now else self.now.value

    @property
    def requires(self) -> bool:
        """Whether nothing may go in the clear between sites that require encryption: it was
        confirmed, and is in force. Not during a trial of it, which the kernel must be able to end
        alone."""
        return self.record.requires and self.now is Stage.ENFORCED

    @property
    def tries_to_require(self) -> bool:
        """Whether that is on trial now."""
        trial = self.record.trial
        on_trial = trial is not None and trial.require and not self.record.requires
        return on_trial and self.suspended() is None

    def to_try(self) -> MemberPorts:
        """Those of the configuration, where they take away from what is in force; None: there is
        nothing to put on trial."""
        ports = self._core.settings.member_ports or None
        return ports if stages.waits(self.record, ports) else None

    @property
    def ports(self) -> PortsState:
        """What is in force of the file's ``member_ports``."""
        if admits_everybody(self._core.settings.member_ports):
            return "none"
        if self.narrows:
            return "trial"
        taken = self.to_try() is None and self.now is Stage.ENFORCED
        held = self._core.down.now or not self._core.members.groups.known
        return "in force" if taken and not held else "waiting"

    @property
    def narrows(self) -> bool:
        """Whether members are kept out, on trial, of what the configuration takes away."""
        trial = self.record.trial
        tried = trial is not None and trial.member_ports is not None
        return tried and self.suspended() is None

    def tried(self) -> tuple[str, ...]:
        """What the last trial, which ended unconfirmed, was of. Of one that an earlier version
        began that is not noted: an operator's is of all that the configuration asks for."""
        core, record = self._core, self.record
        if record.tried:
            return record.tried
        if record.confirmed:
            return ("encryption",)
        both = record.by == "command" and requires(core.settings.sites, core.host.site)
        return ("reject_all", "encryption") if both else ("reject_all",)

    def suspended(self) -> str | None:
        """Why the kernel drops nothing, whatever was decided; None: nothing prevents it."""
        return self._hindrance(down=self._core.down.now)

    def _hindrance(self, *, down: bool) -> str | None:
        core = self._core
        known = core.members.lets_somebody_in
        return hindrance(way_in=core.settings.way_in, down=down, known=known)

    def refusal(self) -> str | None:
        """Why the kernel must not be armed now; None when it may."""
        core = self._core
        return hindrance(way_in=core.settings.way_in, down=core.down.now, known=core.members.known)

    def enforcement(self) -> Enforcement:
        """What the kernel should hold now."""
        core = self._core
        if self.record.relaxed and STAGE_FILE in core.disk.behind and not core.down.now:
            return RELAXED  # a mark in the kernel remembers it while the disk does not
        return in_force(
            self.record,
            monotonic=core.now(),
            way_in=core.settings.way_in,
            down=core.down.now,
            known=core.members.lets_somebody_in,
        )

    def wish(self) -> None:
        """Make ``enforcement`` part of the next transaction."""
        self._core.members.elements.enforce(self.enforcement())

    def follow_file(self) -> None:
        """The configuration was read again: what it asks for no more ends, and what it adds is in
        force. All else waits for a trial."""
        core, before = self._core, self.record
        if not requires(core.settings.sites, core.host.site):
            self.keep(stages.unrequired(before))
            if before.requires or (before.trial is not None and before.trial.require):
                log.warning("encryption_not_required", by="configuration")
        before = self.record
        self.keep(stages.allotted(before, core.settings.member_ports))
        if not same(before.member_ports, self.record.member_ports):
            log.warning("member_ports_in_force", by="configuration, by what it adds")
        if {"member_ports"} & set(stages.on_trial(before)) - set(stages.on_trial(self.record)):
            log.warning("member_ports_not_tried", by="configuration, which has others now")

    # --- on disk ---

    def keep(self, record: Record, *, anew: bool = False) -> bool:
        """Returns whether it is on disk. ``anew``: write it even if it has not changed."""
        core = self._core
        decided = record.wished or record.by == "command"
        if record != self.record:
            if decided:
                core.problems.clear("stage_lost")  # somebody has said again what it should be
            self.record = record
        elif not anew and STAGE_FILE not in core.disk.behind:
            return True
        # A record of a newer version that we do not understand is not overwritten when nobody
        # decided anything.
        if not decided and core.out.folder.holds_what_is_not_understood(STAGE_FILE):
            return True
        return core.disk.keep(STAGE_FILE, self._write)

    def not_on_disk(self) -> str | None:
        """Why nothing may be made permanent now. Writes the record again, to see whether that
        works."""
        if self._core.disk.keep(STAGE_FILE, self._write):
            return None
        return (
            f"what is decided now would not outlast a reboot ({self.unsaved()}): make the state "
            "folder writable first"
        )

    def unsaved(self) -> str | None:
        """Why the decision is not on disk; None: it is."""
        return self._core.disk.unsaved(STAGE_FILE)

    def _write(self) -> None:
        problems = self._core.problems
        try:
            self._core.out.folder.save_record(self.record)
        except StateError:
            problems.set(
                "stage_not_saved",
                f"this host is in {self.now.value} now, and that is not on disk: a reboot undoes "
                "it; make the state folder writable",
            )
            raise
        problems.clear("stage_not_saved")
