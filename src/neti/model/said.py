"""An operator's word that was left for an agent: when, by whom, and until when."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Said:
    """Unix seconds, as far as they are known. ``until`` None: for good. ``ends``: the same as
    ``until`` by CLOCK_BOOTTIME of ``boot``, which nobody can set."""

    at: float | None = None
    by: str = ""
    until: float | None = None
    boot: str = ""
    ends: float | None = None

    def left(self, *, boot: str, boottime: float, wall: float) -> float | None:
        """For how many seconds it still counts; None: for good. Across a reboot the wall clock has
        to say, and never makes it longer than it was."""
        if self.until is None:
            return None
        if self.ends is not None and self.boot == boot:
            return max(0.0, self.ends - boottime)
        left = max(0.0, self.until - wall)
        return left if self.at is None else min(left, max(0.0, self.until - self.at))


NOTHING_SAID: Final = Said()
