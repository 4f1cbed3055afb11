"""Somebody keeps changing what we keep putting right: alarm, and slow down. Pure.

Three repairs within a minute are a fight. Then repairs are spaced, so that two programs do not burn
a processor, until five minutes have passed without one.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

_FIGHT_REPAIRS: Final = 3
_FIGHT_SECONDS: Final = 60.0
_PEACE_SECONDS: Final = 300.0
SLOW_SECONDS: Final = 15.0  # between repairs in a fight


@dataclass(slots=True)
class Fight:
    """``repairs``: how many there were in all. Times are monotonic seconds."""

    repairs: int = 0
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=_FIGHT_REPAIRS))
    _who: str = ""
    _on: bool = False

    def repaired(self, now: float, who: str) -> None:
        self.repairs += 1
        self._recent.append(now)
        self._who = who or self._who
        if len(self._recent) == _FIGHT_REPAIRS and now - self._recent[0] <= _FIGHT_SECONDS:
            self._on = True

    def pause(self, now: float) -> float:
        """Seconds to wait before the next repair."""
        return SLOW_SECONDS if self.sentence(now) is not None else 0.0

    def sentence(self, now: float) -> str | None:
        """The alarm; None while there is none."""
        if self._on and now - self._recent[-1] > _PEACE_SECONDS:
            self._on = False
        if not self._on:
            return None
        who = self._who or "a program that could not be told"
        return (
            f"{who} keeps changing table inet neti or the overlay's route: put right "
            f"{self.repairs} times, now at most every {SLOW_SECONDS:.0f} s; stop that program "
            "from touching what is Neti's"
        )
