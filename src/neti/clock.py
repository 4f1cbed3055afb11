"""Time as an injected object, so that no test sleeps and no rule reads the wall clock.

``monotonic`` orders events within one process. ``wall`` (Unix seconds) can be set by anybody, and
is set by NTP, so no deadline may depend on it. ``boottime`` cannot be set, counts sleep as well,
and means nothing after a reboot. ``SteadyClock`` combines both, for deadlines that must survive a
restart.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

# A clock that shows less than this (2024-01-01) has not been set since power-on.
SET_SINCE: Final = 1_704_067_200.0
BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id(path: Path = BOOT) -> str:
    """This boot's id; it changes at every boot (random(4)). Raises OSError."""
    return path.read_text(encoding="ascii").strip()


class Clock(Protocol):
    """Seconds, as floats. Implementations are thread-safe."""

    def monotonic(self) -> float: ...

    def wall(self) -> float: ...

    def boottime(self) -> float: ...


class SystemClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def boottime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Mark:
    """Steady time against the other clocks: ``steady - boottime`` in this ``boot``, and ``ahead``,
    ``steady - wall`` when that was last read."""

    boot: str
    offset: float
    ahead: float


class SteadyClock:
    """Seconds that look like Unix time and run evenly, even when somebody sets the clock.

    Within one boot it continues after a restart of the program, so times that were written before
    stay valid. Across a reboot it continues by the wall clock, since only that can say how long the
    machine was off: times that were written before stay as they are, so a kill between two files
    leaves nothing that would be moved twice. Where the wall clock cannot be believed (it shows less
    than what was written, or was never set), or nothing is known of the clock that times were
    written by, no time has passed: then ``shift`` moves them.
    """

    def __init__(self, clock: Clock, boot: str, before: Mark | None = None) -> None:
        self._clock = clock
        self._boot = boot
        self._before = before
        self._same = before is not None and before.boot == boot
        if before is not None and self._same:
            self._offset = before.offset
        else:
            ahead = before.ahead if before is not None else 0.0
            self._offset = clock.wall() + ahead - clock.boottime()

    def now(self) -> float:
        return self._clock.boottime() + self._offset

    def shown(self, at: float) -> float:
        """The steady time ``at`` as Unix time, for people."""
        return self._clock.wall() - (self.now() - at)

    @property
    def same_boot(self) -> bool:
        """Whether it continues the clock of an earlier run: then no true time is in the future."""
        return self._same

    def mark(self) -> Mark:
        return Mark(self._boot, self._offset, self.now() - self._clock.wall())

    def shift(self, latest: float) -> float:
        """What to add to the times that an earlier run wrote where they cannot stay as they are;
        ``latest`` is the last of them. Never leaves one in the future. Times that were moved by
        this are moved no more by it, whatever note of the clock is on disk."""
        now = self.now()
        if self._before is None:
            return now - latest  # the clock may have been set since: nobody can tell by how much
        if self._same:
            return min(0.0, now - latest)
        shown = latest - self._before.ahead  # by the wall clock
        never_set = shown < SET_SINCE <= self._clock.wall()
        return now - latest if never_set or latest > now else 0.0


@dataclass(slots=True)
class ManualClock:
    """A clock that moves only when told to. ``set``: by how much the wall clock was changed."""

    now: float = 1_000_000.0
    set: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + self.set

    def boottime(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
