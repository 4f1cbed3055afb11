"""Time as a thing that is handed in, so that no test sleeps and no rule reads the wall clock.

``monotonic`` orders events within one process; ``wall`` (Unix seconds) is the only time that is
written to disk, because it is the only one that means anything after a restart.
"""

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Seconds, as floats. Implementations are safe to call from any thread."""

    def monotonic(self) -> float: ...

    def wall(self) -> float: ...


class SystemClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()


@dataclass(slots=True)
class ManualClock:
    """A clock that moves only when told to."""

    now: float = 1_000_000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
