"""How soon this host registers again when its sessions end, one after another.

The first times at once. But whoever can resume a session can end it, again and again, and each
registration is a change for every peer and lines in this host's log. Pure.

Must never do: keep a host waiting for longer than a few seconds.
"""

from collections import deque
from typing import Final

_AT_ONCE: Final = 5
_WITHIN: Final = 60.0  # seconds
_PAUSE: Final = 5.0


class Endings:
    """``now`` is CLOCK_MONOTONIC seconds."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_AT_ONCE)

    def note(self, now: float) -> None:
        self._times.append(now)

    def wait(self, now: float) -> float:
        """Seconds until the next registration."""
        if len(self._times) < _AT_ONCE or now - self._times[0] > _WITHIN:
            return 0.0
        return max(0.0, self._times[-1] + _PAUSE - now)
