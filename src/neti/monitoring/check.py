"""What ``neti check`` concludes from what the agent says and what the kernel holds. Pure.

``judge`` looks at one Situation and names everything that is wrong, the worst first. It does not
take the agent's word for what the kernel does.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from neti.model.problems import Severity
from neti.monitoring.check_encryption import COUNTED, faults
from neti.monitoring.check_line import line
from neti.monitoring.situation import (
    FAMILIES,
    SEVERITY,
    Finding,
    KernelLook,
    Level,
    Limits,
    Situation,
    Verdict,
)
from neti.monitoring.status import Lost, Status
from neti.words import and_more

_DROPS: Final = ("trial", "enforced")
# Codes of a host that is open although it should not be. The agent repairs some of them at once.
_OPEN: Final = ("arming", "stage_lost")
# Codes with limits of their own here, and codes that other keys of the document tell as well, so
# that an agent of an older version, which has no codes, is judged in the same way.
_SAID_ELSEWHERE: Final = frozenset(
    {
        "conntrack",
        "down",
        "down_open",
        "fight",
        "held",
        "lost",
        "registry",
        "trial_expired",
        *COUNTED,
    }
)
_NAMED: Final = 5  # hosts


_LEVELS: Final = {
    Severity.NOTE: Level.OK,
    Severity.WARNING: Level.WARNING,
    Severity.CRITICAL: Level.CRITICAL,
}


def judge(seen: Situation, limits: Limits) -> Verdict:
    # What is the same of several things, such as files on a full disk, is said once.
    found = dict.fromkeys(_findings(seen, limits))
    findings = sorted(found, key=lambda one: -SEVERITY.index(one.level))
    level = findings[0].level if findings else Level.OK
    return Verdict(level, tuple(findings), line(seen, findings, level, limits))


# --- findings ---


def _findings(seen: Situation, limits: Limits) -> Iterator[Finding]:
    if seen.config_fault is not None:
        yield Finding(Level.CRITICAL, f"the configuration is invalid: {seen.config_fault}")
    for sentence in seen.blind:
        yield Finding(Level.UNKNOWN, sentence)
    yield from _not_as_expected(seen)
    off = seen.off
    if off is not None:
        yield from _while_off(off, seen)
    if seen.status is not None:
        if off is None:
            yield from _kernel_against_status(seen.status, seen.kernel)
            yield from _open_against_a_wish(seen.status)
            yield from _encryption(seen.status, seen.road)
        yield from _safety(seen.status, seen.held)
        yield from _registry(seen.status, limits)
        yield from _the_rest(seen, seen.status, limits)
    elif off is None and seen.agent == "silent":
        yield Finding(Level.CRITICAL, seen.agent_says or "the agent hangs")
    elif off is None and seen.agent == "absent":
        yield Finding(Level.CRITICAL, seen.agent_says or "no agent is running on this host")
        yield from _table_is_there(seen.kernel)
    yield from _conntrack(seen.conntrack, limits)


def _not_as_expected(seen: Situation) -> Iterator[Finding]:
    """``neti check --expect``. A trial counts as neither, because it has not ended yet."""
    stage = seen.stage
    if seen.expected is None or stage in (None, seen.expected):
        return
    if stage == "trial":
        yield Finding(Level.WARNING, f"expected {seen.expected}, but a trial is still running")
    else:
        yield Finding(Level.CRITICAL, f"expected {seen.expected}, but this host is {_as(stage)}")


def _as(stage: str | None) -> str:
    return "in shadow" if stage == "shadow" else str(stage)


def _wishes(seen: Situation) -> bool:
    """Whether this host should be enforced, by the last word on it."""
    return bool(seen.wished) if seen.status is None else seen.status.wished.reject_all


def _while_off(why: str, seen: Situation) -> Iterator[Finding]:
    kernel = seen.kernel
    if _wishes(seen):
        yield Finding(
            Level.CRITICAL,
            f"Neti is switched off on this host ({why}), so reject_all is not in force and "
            "everything gets in",
        )
    elif seen.expected != "down":
        yield Finding(Level.WARNING, f"Neti is switched off on this host ({why})")
    if kernel is not None and kernel.table:
        yield Finding(
            Level.WARNING,
            "table inet neti is still in the kernel: 'neti down' takes it out",
        )


def _table_is_there(kernel: KernelLook | None) -> Iterator[Finding]:
    """Without the table, or while it is dormant, overlay addresses lead nowhere, in any stage."""
    if kernel is not None and not kernel.table:
        yield Finding(Level.CRITICAL, "table inet neti is not in the kernel", passing=True)
    elif kernel is not None and kernel.dormant:
        yield Finding(Level.CRITICAL, "table inet neti is dormant: it does nothing", passing=True)


def _kernel_against_status(status: Status, kernel: KernelLook | None) -> Iterator[Finding]:
    if kernel is None:
        return
    missing = list(_table_is_there(kernel))
    yield from missing
    stage = status.stage
    if stage in _DROPS and not missing:
        open_to = [family for family in FAMILIES if family not in kernel.drops]
        if open_to:
            yield Finding(
                Level.CRITICAL,
                f"the stage is {stage}, but the kernel does not drop {' and '.join(open_to)} input",
                passing=True,
            )
    elif stage == "shadow" and kernel.drops:
        yield Finding(
            Level.CRITICAL,
            "the stage is shadow, but the kernel drops input: hosts that are not members are cut "
            "off",
            passing=True,
        )
    if kernel.table and kernel.as_written is False:
        yield Finding(
            Level.WARNING, "table inet neti is not what the agent wrote there", passing=True
        )


def _open_against_a_wish(status: Status) -> Iterator[Finding]:
    """Enforcement is requested, or was in force, and now neither it nor a trial is. ``_safety``
    reports a trial that ended."""
    said = [one for one in status.problems if one.code in _OPEN]
    for one in said:
        yield Finding(_LEVELS[one.severity], one.sentence, passing=True)
    wishes = status.wished.reject_all
    if wishes and status.stage == "shadow" and status.trial is None and not said:
        yield Finding(
            Level.CRITICAL,
            "enforcement is requested, but the stage is shadow: input is not dropped",
            passing=True,
        )


def _encryption(status: Status, road: Sequence[str]) -> Iterator[Finding]:
    if status.encryption is not None:
        for one in faults(status.encryption, road):
            yield Finding(_LEVELS[one.severity], one.text, one.passing)


def _safety(status: Status, held: int) -> Iterator[Finding]:
    """Trial, holds and drift: what an operator must look at."""
    trial = status.trial
    if trial is not None and trial.state == "expired":
        why = "; ".join(trial.why) or "nobody confirmed it"
        of = " and ".join(trial.of)
        yield Finding(Level.CRITICAL, f"the trial of {of} ended unconfirmed: {why}")
    if held:
        ids = ", ".join(hold.id for hold in status.holds[:_NAMED])
        more = and_more(held - len(status.holds[:_NAMED]))
        yield Finding(
            Level.CRITICAL,
            f"removals held back: {held} ({ids}{more}){_since(status.holds)}: look at them, then "
            "'neti release'",
        )
    if status.drift.fight:
        yield Finding(Level.CRITICAL, status.drift.fight)


def _registry(status: Status, limits: Limits) -> Iterator[Finding]:
    stale = status.registry.stale
    if stale is None or stale >= limits.stale_warning:
        level = Level.WARNING
        if stale is not None and stale >= limits.stale_critical:
            level = Level.CRITICAL
        since = f"for {stale:.0f} s" if stale is not None else "for an unknown time"
        yield Finding(
            level,
            f"not in step with the registry {since} ({status.registry.reason}); the "
            "last good state stays in force",
        )
    elif stale == 0 and not status.registered:
        yield Finding(Level.WARNING, "this host is not registered: peers do not know it")


def _since(absent: Sequence[Lost]) -> str:
    """For how long the first of them has been gone; empty if the agent does not tell."""
    ages = [one.seconds for one in absent if one.seconds is not None]
    return f", the first for {max(ages):.0f} s" if ages else ""


def _the_rest(seen: Situation, status: Status, limits: Limits) -> Iterator[Finding]:
    lost = status.members.lost
    if lost > limits.lost_warning:
        ids = ", ".join(one.id for one in status.lost[:_NAMED])
        yield Finding(
            Level.WARNING,
            f"members lost: {lost} ({ids}){_since(status.lost)}: they vanished without a word",
        )
    count = status.skipped.count
    if count > limits.skipped_warning:
        yield Finding(Level.WARNING, f"registry entries not believed: {count}: see 'neti status'")
    for one in status.problems:
        if one.code == "config_unread" and seen.config_fault is not None:
            continue  # already reported: it cannot be read
        if (
            one.code not in _SAID_ELSEWHERE
            and one.code not in _OPEN
            and one.severity is not Severity.NOTE
        ):
            yield Finding(_LEVELS[one.severity], one.sentence)


def _conntrack(percent: float | None, limits: Limits) -> Iterator[Finding]:
    if percent is None or percent < limits.conntrack_warning:
        return
    critical = percent >= limits.conntrack_critical
    yield Finding(
        Level.CRITICAL if critical else Level.WARNING,
        f"the connection-tracking table is {percent:.0f} % full: when it is full, new connections "
        "are dropped; raise conntrack_max",
    )
