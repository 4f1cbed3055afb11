"""Looks at the fleet for ``neti top`` beside the keys, one at a time, and keeps what has happened.

Must never do: begin a look while another one lasts, or end because the registry is away.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from neti.cli.common import nothing_collected
from neti.cli.top_view import Known
from neti.errors import NetiError
from neti.fleet.picture import EVENTS, Event, Picture, fair, happened
from neti.fleet.selecting import Choice
from neti.oneshot.part import part_of
from neti.oneshot.watched import Watched
from neti.threads import begin

EVERY: Final = 2.0  # seconds between two looks; more where a look takes longer
HOUR: Final = 3600.0


class Looker:
    """``known`` and ``failure`` may be read by any thread; ``watched`` belongs to this one's.
    ``clock``: seconds, only for spans."""

    def __init__(
        self,
        watched: Watched,
        choice: Choice,
        *,
        only: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watched = watched
        self._choice = choice
        self._clock = clock
        self._before: Picture | None = None  # the last whole picture of which all is of then
        self._again = threading.Event()
        self._ended = threading.Event()
        self._done = threading.Event()
        self.known = Known(only=only)
        self.failure: BaseException | None = None  # what no look should ever come to

    def begin(self) -> None:
        """Raises RuntimeError where there is no thread for it."""
        begin(self._run)

    def now(self) -> None:
        """Look at once, if no look is on its way."""
        self._again.set()

    def end(self, patience: float) -> None:
        """Wait so many seconds for a look that is on its way; then it ends with the process."""
        self._ended.set()
        self._again.set()
        self._done.wait(patience)

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                begun = self._clock()
                self.look()
                self._again.clear()  # whoever asked meanwhile has this one
                if not self._ended.is_set():
                    self._again.wait(max(EVERY, self._clock() - begun))
        except BaseException as error:
            self.failure = error
        finally:
            self._watched.close()
            self._done.set()

    def look(self) -> None:
        """Once, in the caller's thread. What the registry refuses is said like its silence."""
        try:
            with nothing_collected():
                self.known = self._after(self._watched.look())
        except NetiError as error:
            picture = self.known.picture
            if picture is not None:
                picture = replace(picture, unanswered=str(error))
            self.known = replace(self.known, picture=picture, failed=str(error))

    def _after(self, whole: Picture) -> Known:
        known, picture, unsaid, seen = self.known, whole, 0, self._watched.seen
        if self._choice != Choice() and seen is not None:
            picture, unsaid = part_of(whole, seen, self._choice)
        new: list[Event] = []
        if whole.unanswered is None:
            if self._before is not None:
                new = list(happened(self._before, whole))
            self._before = whole
        if known.picture is not None and picture is not whole:
            # Of the whole: who only changes a label has not left the fleet.
            shown = picture.cells.keys() | known.picture.cells.keys()
            new = [one for one in new if one.id in shown]
        events, cut = _kept(new, known, whole.at)
        return replace(
            known,
            picture=picture,
            failed=None,
            unsaid=unsaid,
            note=_note(whole.unheard),
            events=events,
            cut=cut,
            since=self._since(whole),
        )

    def _since(self, whole: Picture) -> float | None:
        """From when on events are seen: from the first look that the registry answered."""
        if self.known.since is None:
            return whole.at if whole.unanswered is None else None
        return max(self.known.since, whole.at - HOUR)


def _note(unheard: str) -> str:
    return f"All look silent: {unheard}" if unheard else ""


def _kept(new: Iterable[Event], known: Known, now: float) -> tuple[tuple[Event, ...], bool]:
    """The newest first, of one moment the gravest; and whether any of the hour was left out."""
    held = [one for one in known.events if one.at > now - HOUR]
    latest = sorted(fair(held, new), key=lambda one: (-one.level, one.id))
    every = (*latest, *held)
    # Until what was left out would be older than an hour, the list is not whole.
    cut = len(every) > EVENTS or (known.cut and len(every) == EVENTS)
    return every[:EVENTS], cut
