"""True time, and one host's three clocks, which may each say something else."""

from dataclasses import dataclass, field
from typing import Final

_CALENDAR: Final = 1_800_000_000.0  # what an honest wall clock shows at true time 0


@dataclass(slots=True)
class Time:
    """Seconds since the simulation began. Nobody inside can see it."""

    now: float = 0.0


@dataclass(slots=True)
class HostClock:
    """``set``: by how much the wall clock is wrong. ``slept``: seconds of this boot in which the
    machine was suspended: CLOCK_BOOTTIME counts them, CLOCK_MONOTONIC does not."""

    time: Time
    set: float = 0.0
    booted: float = -1000.0
    slept: float = field(default=0.0)

    def monotonic(self) -> float:
        return self.time.now - self.booted - self.slept

    def boottime(self) -> float:
        return self.time.now - self.booted

    def wall(self) -> float:
        return _CALENDAR + self.time.now + self.set

    def boot(self) -> None:
        self.booted, self.slept = self.time.now - 20.0, 0.0
