"""What ``neti check`` looked at, and what it concludes: values."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal

from neti.monitoring.status import Status

FAMILIES: Final = ("ipv4", "ipv6")

Stage = Literal["down", "shadow", "enforced"]


class Level(IntEnum):
    """A monitoring plugin's exit codes. Severity: see ``SEVERITY``."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


# Not knowing whether input is dropped is worse than a warning.
SEVERITY: Final = (Level.OK, Level.WARNING, Level.UNKNOWN, Level.CRITICAL)


@dataclass(frozen=True, slots=True)
class KernelLook:
    """``table inet neti`` as it stands in the kernel. ``drops``: families whose input is dropped
    when no rule lets it in. ``as_written``: it is what the agent wrote; None: not known."""

    table: bool
    dormant: bool = False
    as_written: bool | None = None
    drops: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What was seen. ``status`` is what the agent tells; None: nothing, and ``agent`` says why.
    ``switched_off``: why no agent should run. ``blind``: what could not be looked at, and why.
    ``conntrack``: percent of the connection-tracking table. ``expected``: the stage that the
    operator expects, and is told about when it is another one. ``wished``: whether disk and
    configuration want this host enforced, for when no agent says it; None: not known. ``road``:
    what of the encrypted road's device, rule and route is not as it should be."""

    status: Status | None = None
    agent: Literal["answers", "absent", "silent"] = "answers"
    agent_says: str = ""
    switched_off: str | None = None
    config_fault: str | None = None
    kernel: KernelLook | None = None
    blind: tuple[str, ...] = ()
    conntrack: float | None = None
    expected: Stage | None = None
    wished: bool | None = None
    road: tuple[str, ...] = ()

    @property
    def off(self) -> str | None:
        """Why nothing of Neti's should be in the kernel; None when it should."""
        if self.switched_off is not None:
            return self.switched_off
        down = self.status is not None and self.status.down
        return "neti down was called; neti up ends it" if down else None

    @property
    def stage(self) -> str | None:
        """None: it is not known."""
        if self.off is not None:
            return "down"
        return self.status.stage if self.status is not None else None

    @property
    def held(self) -> int:
        """The list may be cut short; the number is complete, but an older agent does not give
        it."""
        status = self.status
        return max(len(status.holds), status.members.held) if status is not None else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When something is worth a warning, or is critical: seconds and percent that are reached,
    counts that are exceeded."""

    stale_warning: float = 60.0
    stale_critical: float = 3600.0
    lost_warning: int = 0
    skipped_warning: int = 10
    conntrack_warning: float = 80.0
    conntrack_critical: float = 95.0


@dataclass(frozen=True, slots=True)
class Finding:
    """``passing``: it may only be a moment between two steps of the agent, so look again."""

    level: Level
    text: str
    passing: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    level: Level
    findings: tuple[Finding, ...]
    line: str

    @property
    def passing(self) -> bool:
        """Whether the worst of it may be over in a moment."""
        worst = [finding for finding in self.findings if finding.level == self.level]
        return self.level is not Level.OK and all(finding.passing for finding in worst)
