"""Numbers and how they are shown: two sides of one run, ratio first. Pure.

Must never do: leave out a round, or judge.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from benchmarks.svg import Bars, Lines

MS: Final = 1e3
US: Final = 1e6


@dataclass(slots=True)
class Times:
    """One number for each round; seconds, where it is a time."""

    each: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return median(self.each)

    @property
    def p99(self) -> float:
        return sorted(self.each)[min(len(self.each) - 1, int(len(self.each) * 0.99))]

    def __len__(self) -> int:
        return len(self.each)


def once(value: float) -> Times:
    return Times([value])


@dataclass(frozen=True, slots=True)
class Line:
    """One thing measured on both sides; ``other`` None: it has no counterpart."""

    what: str
    ours: Times
    other: Times | None
    scale: float = MS
    unit: str = "ms"


@dataclass(slots=True)
class Report:
    """What one row has to say: text for people, drawings of the same numbers."""

    title: str
    lines: list[str] = field(default_factory=list)
    plots: dict[str, Bars | Lines] = field(default_factory=dict)

    def say(self, *lines: str) -> None:
        self.lines += lines

    def compare(self, lines: Sequence[Line], *, ours: str, other: str) -> None:
        """A table. The ratio is that of the medians, ``ours`` divided by ``other``."""
        width = max(len(line.what) for line in lines)
        head = f"{'ratio':>8}  {'':{width}}  unit  "
        self.lines.append(f"{head}{ours:>22} {'n':>11}  {other:>22} {'n':>11}")
        self.lines.append(
            f"{'':8}  {'':{width}}        {'median':>12} {'p99':>10}"
            + " " * 14
            + f"{'median':>11} {'p99':>10}"
        )
        for line in lines:
            ratio = "-"
            if line.other is not None and line.other.median:
                ratio = significant(line.ours.median / line.other.median)
            self.lines.append(
                f"{ratio:>8}  {line.what:{width}}  {line.unit:4}  {_side(line.ours, line.scale)}"
                f"  {_side(line.other, line.scale)}"
            )


def _side(times: Times | None, scale: float) -> str:
    if times is None:
        return f"{'-':>12} {'-':>10} {'-':>11}"
    p99 = significant(times.p99 * scale) if len(times) > 1 else "-"
    return f"{significant(times.median * scale):>12} {p99:>10} {len(times):>11}"


def significant(value: float) -> str:
    """Three digits that mean something, and no exponents."""
    if value == 0:
        return "0"
    for least, digits in ((100, 0), (10, 1), (1, 2), (0.1, 3), (0.01, 4)):
        if abs(value) >= least:
            return f"{value:,.{digits}f}"
    return f"{value:.5f}"
