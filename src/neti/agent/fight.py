"""Another program keeps undoing our repairs: raise the alarm, and slow down. Pure.

Three repairs within a minute are a fight. Then the pause before a repair doubles each time, so that
two programs do not burn a processor. It is over after five minutes without a repair.

This host's own commands (``neti relax`` beside an agent that does not answer, ``neti restore``) are
no party to it, because each is a process of its own and ends. A second agent is: it stays the same
process.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

_FIGHT_REPAIRS: Final = 3
_FIGHT_SECONDS: Final = 60.0
_PEACE_SECONDS: Final = 300.0
_FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 15.0  # seconds between repairs in a fight
_OWN: Final = "neti"  # what the kernel calls a command of Neti's
_REMEMBERED: Final = 64  # commands


@dataclass(slots=True)
class Fight:
    """``repairs``: how many there were in total. Times are monotonic seconds."""

    repairs: int = 0
    _recent: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=_FIGHT_REPAIRS))
    _blows: int = 0  # repairs since it became a fight; 0: peace
    _commands: deque[int] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def party(self, program: str, pid: int) -> bool:
        """Whether this process, whose change was put right, is one that may keep at it."""
        if program != _OWN or pid in self._commands:
            return True
        self._commands.append(pid)
        return False

    def repaired(self, now: float, who: str) -> None:
        self._calm_down(now)
        self.repairs += 1
        self._recent.append((now, who))
        many = len(self._recent) == _FIGHT_REPAIRS
        if self._blows or (many and now - self._recent[0][0] <= _FIGHT_SECONDS):
            self._blows += 1

    def pause(self, now: float) -> float:
        """Seconds to wait before the next repair."""
        self._calm_down(now)
        if not self._blows:
            return 0.0
        return min(LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._blows - 1, 10))

    def sentence(self, now: float) -> str | None:
        """The alarm; None while there is none."""
        self._calm_down(now)
        if not self._blows:
            return None
        # The last that is known of these repairs: who did something before has no part in it.
        named = [who for _, who in self._recent if who]
        who = named[-1] if named else "a program that could not be identified"
        return (
            f"{who} keeps changing table inet neti, Neti's routes and rules, or neti0: repaired "
            f"{self.repairs} times. Until each repair this host may be open or cut off; what does "
            "neither is repaired more and more slowly. Stop that program from changing what is "
            "Neti's"
        )

    def _calm_down(self, now: float) -> None:
        if self._blows and now - self._recent[-1][0] > _PEACE_SECONDS:
            self._blows = 0
