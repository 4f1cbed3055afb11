"""The one line of ``neti check``: what is wrong, and performance data, as monitoring plugins write
it. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from neti.monitoring.situation import Finding, Level, Limits, Situation
from neti.text import plugin_line

_STAGES: Final = {"down": -1, "shadow": 0, "trial": 1, "enforced": 2}
_SHOWN: Final = 300  # characters of one finding


def line(seen: Situation, findings: Sequence[Finding], level: Level, limits: Limits) -> str:
    """``level``: the worst of ``findings``; OK where there are none."""
    words = [_worded(finding, level) for finding in findings] or [_all_is_well(seen)]
    return f"NETI {level.name} - {'; '.join(words)} | {_performance(seen, limits)}"


def _worded(finding: Finding, worst: Level) -> str:
    text = plugin_line(finding.text.replace("\n", " "), _SHOWN)
    return text if finding.level == worst else f"{finding.level.name.lower()}: {text}"


def _all_is_well(seen: Situation) -> str:
    status = seen.status
    if status is None:
        return "shadow, 0 members, registry in step"
    trial = status.trial
    running = trial is not None and trial.state == "running"
    left = f" ({trial.seconds_left:.0f} s left)" if trial is not None and running else ""
    stale = status.registry.stale
    # Too short to be a finding, but the line must still be true.
    registry = f"not in step with the registry for {stale:.0f} s" if stale else "registry in step"
    return f"{status.stage}{left}, {status.members.total} members, {registry}"


# --- performance data: 'label'=value[unit];warning;critical;minimum;maximum ---


def _performance(seen: Situation, limits: Limits) -> str:
    status = seen.status
    stage = _STAGES.get(seen.stage or "")
    members = lost = held = stale = repairs = openings = None
    if status is not None:
        members, lost, held = status.members.total, status.members.lost, seen.held
        stale, repairs = status.registry.stale, status.drift.repairs
        openings = len(status.openings)
    return " ".join(
        _words(
            (
                ("members", members, "", ";;0"),
                ("lost", lost, "", f"{limits.lost_warning};;0"),
                ("held", held, "", ";;0"),
                ("stale", stale, "s", f"{limits.stale_warning:g};{limits.stale_critical:g};0"),
                (
                    "conntrack",
                    seen.conntrack,
                    "%",
                    f"{limits.conntrack_warning:g};{limits.conntrack_critical:g};0;100",
                ),
                ("drift_repairs", repairs, "c", ";;0"),
                ("stage", stage, "", ";;-1;2"),
                ("openings", openings, "", ";;0"),
            )
        )
    )


def _words(rows: Iterable[tuple[str, float | None, str, str]]) -> Iterator[str]:
    for label, value, unit, rest in rows:
        shown = "U" if value is None else f"{value:.1f}".removesuffix(".0") + unit
        yield f"{label}={shown};{rest}"
