"""What became of everybody's requests, phase by phase. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from neti.lab.migrate.chaos import Trouble
from neti.lab.migrate.journey import Phase
from neti.lab.report import table

# A request that began this long before a ruleset was flushed may still have needed it, and what the
# flush broke is told by a time-out at the latest.
REPAIR_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Request:
    """``at``: CLOCK_MONOTONIC when it was due."""

    at: float
    milliseconds: float
    ok: bool


@dataclass(frozen=True, slots=True)
class PhaseFigures:
    """``excused``: failures while a host had no rules, because they had been flushed."""

    title: str
    seconds: float
    requests: int
    failures: int
    excused: int
    p50: float | None
    p99: float | None
    slowest: float | None
    hits: int
    excused_hits: int


def figures(
    phases: Sequence[Phase],
    requests: Sequence[Request],
    hits: Sequence[float],
    troubles: Sequence[Trouble] = (),
) -> list[PhaseFigures]:
    """One line for each phase. What fell between two phases counts to the earlier one."""
    ends = [phase.began for phase in phases[1:]] + [float("inf")]
    flushed = [(one.began, one.ended) for one in troubles if one.kind == "flush"]
    found = []
    for phase, end in zip(phases, ends, strict=True):
        began = phase.began
        mine = [one for one in requests if began <= one.at < end]
        failed = [one for one in mine if not one.ok]
        times = sorted(one.milliseconds for one in mine if one.ok)
        reached = [at for at in hits if began <= at < end]
        found.append(
            PhaseFigures(
                title=phase.title,
                seconds=phase.ended - began,
                requests=len(mine),
                failures=len(failed),
                excused=sum(
                    _overlaps(one.at, one.at + one.milliseconds / 1000, flushed) for one in failed
                ),
                p50=rank(times, 0.5),
                p99=rank(times, 0.99),
                slowest=times[-1] if times else None,
                hits=len(reached),
                excused_hits=sum(_overlaps(at, at, flushed) for at in reached),
            )
        )
    return found


def rank(ordered: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile of numbers in order; None of none."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


def lines(found: Sequence[PhaseFigures], *, with_chaos: bool) -> list[str]:
    """The table at the end."""
    header = ["PHASE", "SECONDS", "REQUESTS", "FAILED", "P50 ms", "P99 ms", "SLOWEST ms", "HITS"]
    rows = [
        [
            one.title,
            f"{one.seconds:.1f}",
            f"{one.requests:,}",
            _counted(one.failures, one.excused, with_chaos),
            _ms(one.p50),
            _ms(one.p99),
            _ms(one.slowest),
            _counted(one.hits, one.excused_hits, with_chaos),
        ]
        for one in found
    ]
    return table(header, rows)


def _counted(number: int, excused: int, with_chaos: bool) -> str:
    return f"{number - excused} (+{excused})" if with_chaos and excused else f"{number}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _overlaps(began: float, ended: float, windows: Sequence[tuple[float, float]]) -> bool:
    return any(began < until + REPAIR_SECONDS and ended > since for since, until in windows)
