"""What became of everybody's requests, and of the scanner's attempts, phase by phase. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from neti_lab.migrate.chaos import Trouble
from neti_lab.migrate.journey import Phase
from neti_lab.report import table
from neti_lab.shop import figures
from neti_lab.shop.figures import Figures, Traced

# As long as Neti may take to repair a host's rules, and a lost packet to be sent again.
REPAIR_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Line:
    """``excused``: failures while some host had no rules, because they had been flushed."""

    seconds: float
    figures: Figures
    excused: int
    hits: int
    excused_hits: int


def lines_of(
    phases: Sequence[Phase],
    requests: Sequence[Traced],
    hits: Iterable[float],
    troubles: Iterable[Trouble] = (),
) -> list[Line]:
    """One for each phase. What fell between two phases counts to the earlier one."""
    ends = [phase.began for phase in phases[1:]] + [float("inf")]
    spans = [
        figures.Phase(phase.title, phase.began, end)
        for phase, end in zip(phases, ends, strict=True)
    ]
    flushed = [(one.began, one.ended) for one in troubles if one.kind == "flush"]
    failed = [one for one in requests if not one.ok]
    reached = list(hits)
    return [
        Line(
            seconds=phase.ended - phase.began,
            figures=counted,
            excused=sum(
                span.begin <= one.due < span.end
                and _overlaps(one.due, one.due + one.latency_ms / 1000, flushed)
                for one in failed
            ),
            hits=sum(span.begin <= at < span.end for at in reached),
            excused_hits=sum(
                span.begin <= at < span.end and _overlaps(at, at, flushed) for at in reached
            ),
        )
        for phase, span, counted in zip(
            phases, spans, figures.by_phase(requests, spans), strict=True
        )
    ]


def as_text(lines: Sequence[Line]) -> list[str]:
    """The table at the end; what is excused stands beside what is not, as (+N)."""
    header = ["PHASE", "SECONDS", "REQUESTS", "FAILED", "P50 ms", "P99 ms", "SLOWEST ms", "HITS"]
    rows = [
        [
            one.figures.phase,
            f"{one.seconds:.1f}",
            f"{one.figures.requests:,}",
            _counted(one.figures.failures, one.excused),
            _ms(one.figures.p50_ms),
            _ms(one.figures.p99_ms),
            _ms(one.figures.max_ms),
            _counted(one.hits, one.excused_hits),
        ]
        for one in lines
    ]
    return table(header, rows)


def _counted(number: int, excused: int) -> str:
    return f"{number - excused} (+{excused})" if excused else f"{number}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _overlaps(began: float, ended: float, windows: Sequence[tuple[float, float]]) -> bool:
    return any(began < until + REPAIR_SECONDS and ended > since for since, until in windows)
