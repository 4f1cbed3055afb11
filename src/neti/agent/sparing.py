"""Limits log lines about other hosts: so many at once, then so many a second. Pure.

A host that comes and goes a hundred times a second must not fill the disks of others. What is not
logged one by one is counted and logged in one line. Must never do: suppress a line about this host.
"""

from dataclasses import dataclass, field
from typing import Final

AT_ONCE: Final = 200
A_SECOND: Final = 2.0
TOGETHER_EVERY: Final = 10.0  # seconds between two lines about what was not said one by one


@dataclass(slots=True)
class Sparing:
    """``now``: CLOCK_MONOTONIC seconds."""

    lines: float = AT_ONCE
    counted: dict[str, int] = field(default_factory=dict)
    _at: float | None = None
    _said: float = float("-inf")

    def may_say(self, lines: int, *, now: float) -> bool:
        """Whether this many lines may be logged now; if so, they count."""
        if self._at is not None:
            self.lines = min(AT_ONCE, self.lines + max(0.0, now - self._at) * A_SECOND)
        self._at = now
        if lines > self.lines:
            return False
        self.lines -= lines
        return True

    def count(self, **numbers: int) -> None:
        for what, number in numbers.items():
            self.counted[what] = self.counted.get(what, 0) + number

    def take_counted(self, *, now: float) -> dict[str, int] | None:
        """What to log in one line now."""
        if not any(self.counted.values()) or now < self._said + TOGETHER_EVERY:
            return None
        self._said = now
        counted, self.counted = self.counted, {}
        return counted
