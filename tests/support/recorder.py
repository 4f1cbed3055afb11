"""A sink that keeps every event, and the picture that follows from them."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from neti.registry import Appeared, Event, Fresh, Session, Snapshot, Stale, Vanished

E = TypeVar("E")
PATIENCE = 60.0  # for a slow machine; nothing waits this long when it works


class Recorder:
    """Use it as the sink. ``doubts`` are events that contradict the picture they meet."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.times: list[float] = []
        self.picture: set[str] | None = None
        self.doubts: list[str] = []
        self.fresh = False
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self.times.append(time.monotonic())
            self._apply(event)
            self._changed.notify_all()

    def _apply(self, event: Event) -> None:
        match event:
            case Snapshot(names):
                self.picture = set(names)
            case Appeared() | Vanished() if self.picture is None:
                self.doubts.append(f"{event} before any snapshot")
            case Appeared(name) if self.picture is not None:
                if name in self.picture:
                    self.doubts.append(f"{name} appeared twice")
                self.picture.add(name)
            case Vanished(name) if self.picture is not None:
                if name not in self.picture:
                    self.doubts.append(f"{name} vanished but was not there")
                self.picture.discard(name)
            case Fresh():
                self.fresh = True
            case Stale():
                self.fresh = False

    def until(self, condition: Callable[["Recorder"], bool], patience: float = PATIENCE) -> None:
        """Wait for ``condition``; fails with what was seen instead."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), patience):
                raise AssertionError(f"not seen in {patience} s; last: {self.events[-12:]}")

    def until_fresh(self) -> Session:
        """Wait until it is complete; the session it is complete in."""
        self.until(lambda recorder: recorder.fresh)
        return self.of(Fresh)[-1].session

    def until_picture(self, *names: str) -> None:
        self.until(lambda recorder: recorder.picture == set(names))

    def of(self, kind: type[E]) -> list[E]:
        with self._changed:
            return [event for event in self.events if isinstance(event, kind)]

    def changes(self) -> list[Appeared | Vanished]:
        with self._changed:
            return [event for event in self.events if isinstance(event, Appeared | Vanished)]

    def mark(self) -> int:
        """A place in the stream, for ``since``."""
        return len(self.events)

    def since(self, mark: int) -> list[Event]:
        with self._changed:
            return self.events[mark:]
