"""How long the agent takes, counted for the metrics. Pure: the loop says what time it is."""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

from neti.monitoring.figures import Distribution

# Seconds. From one small transaction to a fleet that comes back while the kernel refuses.
BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)


@dataclass(slots=True)
class Histogram:
    """``counts``: how many fell into each of BUCKETS, not cumulative; the last is above all
    bounds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds

    def told(self) -> Distribution:
        return Distribution(BUCKETS, tuple(self.counts), self.total)


@dataclass(slots=True)
class Measured:
    """``apply``: the transactions themselves. ``change``: from the turn in which a change of the
    fleet was heard until the kernel had it, gathering and refusals included."""

    apply: Histogram = field(default_factory=Histogram)
    change: Histogram = field(default_factory=Histogram)
    _heard: float | None = None

    def heard(self, at: float, *, pending: bool) -> None:
        """After what came at ``at`` was taken in. ``pending``: there is something for the kernel
        now."""
        if not pending:
            self._heard = None
        elif self._heard is None:
            self._heard = at

    def applied(self, started: float, now: float) -> None:
        """A transaction went through, with everything that was pending."""
        self.apply.observe(now - started)
        if self._heard is not None:
            self.change.observe(now - self._heard)
            self._heard = None
