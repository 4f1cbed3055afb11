"""A complete list waits for the operators' word ``strict``, which the registry tells next.

Whoever is not strict believes each name that a list holds. An agent that starts for the first time,
or was away when the word was said, would believe forged ones for as long as it takes until the word
comes, some milliseconds later. So the list, and what is told after it, is taken in with that word:
the word "on" before it, and any other after it, because whether that is believed depends on where
the list comes from.

Must never do: hold back that the registry is away, or let the list wait beyond ``Fresh``, by which
every setting that has changed was told.
"""

from collections.abc import Callable

from neti.registry import (
    Event,
    Fresh,
    Origin,
    SessionEnded,
    SessionTaken,
    SettingRead,
    Snapshot,
    Stale,
)
from neti.registry.strict import is_strict


class WordFirst:
    """Not thread-safe: the loop's thread owns it. ``reports``: whether unvouched names are believed
    now, and are only reported; ``strict``: takes the word, and where it was said."""

    def __init__(
        self,
        take_in: Callable[[Event], None],
        strict: Callable[[bytes | None, Origin], None],
        reports: Callable[[], bool],
    ) -> None:
        self._take_in = take_in
        self._strict = strict
        self._reports = reports
        self._held: list[Event] = []  # a list, and what came after it

    @property
    def waits(self) -> bool:
        """Whether a list is held back."""
        return bool(self._held)

    def told(self, event: Event) -> None:
        match event:
            case Stale() | SessionEnded() | SessionTaken():
                self._take_in(event)
            case Snapshot() if not self._held and self._reports():
                self._held.append(event)
            case SettingRead("strict", value) if self._held:
                held, self._held = self._held, []
                listed = next(each.origin for each in reversed(held) if isinstance(each, Snapshot))
                if is_strict(value):
                    self._strict(value, listed)
                self._all(held)
                self._strict(value, listed)
            case Fresh() if self._held:
                held, self._held = self._held, []
                self._all([*held, event])
            case _ if self._held:
                self._held.append(event)
            case _:
                self._take_in(event)

    def _all(self, events: list[Event]) -> None:
        for each in events:
            self._take_in(each)
