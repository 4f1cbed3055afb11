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
_ONLY_NETI: Final = "--- from here on the groups are open, and only Neti keeps the scanner out ---"


@dataclass(frozen=True, slots=True)
class Line:
    """``excused``: failures while some host had no rules, because they had been flushed."""

    seconds: float
    figures: Figures
    excused: int
    hits: int
    excused_hits: int
    step: str = ""
    by_neti: bool = False


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
            step=phase.step,
            by_neti=phase.by_neti,
        )
        for phase, span, counted in zip(
            phases, spans, figures.by_phase(requests, spans), strict=True
        )
    ]


def as_text(lines: Sequence[Line]) -> list[str]:
    """The table at the end, in 77 columns; what is excused stands beside what is not, as (+N). A
    line parts the phases in which groups keep the scanner out from those in which Neti does."""
    header = ["", "PHASE", "TIME s", "REQUESTS", "FAILED", "P99 ms", "MAX ms", "HITS"]
    rows = [
        [
            one.step,
            one.figures.phase,
            f"{one.seconds:.1f}",
            f"{one.figures.requests:,}",
            _counted(one.figures.failures, one.excused),
            _ms(one.figures.p99_ms),
            _ms(one.figures.max_ms),
            _counted(one.hits, one.excused_hits),
        ]
        for one in lines
    ]
    shown = table(header, rows)
    parts = [number for number, one in enumerate(lines) if one.by_neti]
    if parts:
        shown.insert(1 + parts[0], _ONLY_NETI)
    return shown


def _counted(number: int, excused: int) -> str:
    return f"{number - excused} (+{excused})" if excused else f"{number}"


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}"


def _overlaps(began: float, ended: float, windows: Sequence[tuple[float, float]]) -> bool:
    return any(began < until + REPAIR_SECONDS and ended > since for since, until in windows)
