"""When something is due, by name. It has no thread and no clock: the loop says what time it is."""

from dataclasses import dataclass, field
from typing import Final

_RETRY_AFTER: Final = (1.0, 2.0, 5.0, 10.0, 30.0)  # pauses after a failure; the last one stays


@dataclass(slots=True)
class Timers:
    """When (monotonic seconds) something is due; missing: not at all."""

    due: dict[str, float] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)

    def at(self, name: str, when: float) -> None:
        self.due[name] = min(when, self.due.get(name, when))

    def retry(self, name: str, now: float) -> float:
        """Due again after a pause that grows with each failure in a row. Returns the pause."""
        count = self.failures.get(name, 0)
        self.failures[name] = count + 1
        pause = _RETRY_AFTER[min(count, len(_RETRY_AFTER) - 1)]
        self.at(name, now + pause)  # never later than it already was
        return pause

    def worked(self, name: str) -> None:
        self.failures.pop(name, None)

    def expired(self, now: float) -> list[str]:
        names = [name for name, when in self.due.items() if when <= now]
        for name in names:
            del self.due[name]
        return names
