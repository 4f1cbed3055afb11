"""A client's long-lived connection, as a database driver keeps one: it reconnects and repeats.

Only for requests that may be repeated without harm. What it repeats it counts, for a repetition
that nobody hears of would make a disturbance look like none. Requests that are in flight when the
address changes finish on the old connection. Must never hold a request for longer than its
patience.
"""

import asyncio
import contextlib
import itertools
import time
from dataclasses import dataclass
from typing import Final

from neti_lab.busy import stretched
from neti_lab.shop import lines
from neti_lab.shop.configuration import Document, Endpoint

_CONNECT_SECONDS: Final = stretched(1.0)
_PAUSE_SECONDS: Final = 0.05  # twice as long each time, for many requests may be waiting
_LONGEST_PAUSE_SECONDS: Final = 0.2
# A peer that vanished without a word must not use up all of the patience.
_ANSWER_SECONDS: Final = stretched(2.0)
# "I am not the primary" is for the driver: the right one is at the same address soon.
_ELSEWHERE: Final = frozenset({"read_only", "handed_over"})


class Unanswered(Exception):
    """The patience is over; the message says what was in the way last."""


@dataclass(slots=True)
class LinkFigures:
    """What the link did without its user noticing, but for the time that it took."""

    reconnects: int = 0  # attempts to connect after a connection ended or could not be made
    repeats: int = 0  # requests sent again
    longest_wait_ms: float = 0.0


class Link:
    """One at a time for each client and each service."""

    def __init__(self, endpoint: Endpoint, *, patience: float) -> None:
        self.figures = LinkFigures()
        self._endpoint = endpoint
        self._patience = patience
        self._answer_seconds = min(_ANSWER_SECONDS, patience / 2)
        self._opening: asyncio.Task[_Wire] | None = None
        self._broke = False

    def point_to(self, endpoint: Endpoint) -> None:
        """New requests go there; those in flight finish where they are."""
        if endpoint != self._endpoint:
            self._endpoint = endpoint
            self._broke = False
            self._leave()

    async def ask(self, request: Document) -> tuple[Document, int]:
        """The answer, and how often the request was repeated. Unanswered when there is none."""
        began = time.monotonic()
        repeats = 0
        pause = _PAUSE_SECONDS
        try:
            while True:
                left = began + self._patience - time.monotonic()
                try:
                    async with asyncio.timeout(max(left, 0.0)):
                        return await self._attempt(request), repeats
                except OSError as error:
                    problem = str(error) or type(error).__name__
                if time.monotonic() - began + pause >= self._patience:
                    raise Unanswered(f"{self._endpoint}: {problem}")
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                repeats += 1
                self.figures.repeats += 1
        finally:
            waited = (time.monotonic() - began) * 1000
            self.figures.longest_wait_ms = max(self.figures.longest_wait_ms, waited)

    def close(self) -> None:
        self._leave()

    async def _attempt(self, request: Document) -> Document:
        opening = self._current()
        try:
            # All requests share one attempt to connect; none may cancel it for the others.
            wire = await asyncio.shield(opening)
            async with asyncio.timeout(self._answer_seconds):
                answer = await wire.ask(request)
            if answer.get("error") in _ELSEWHERE:
                raise ConnectionError(f"{self._endpoint} answers {answer['error']}")
        except OSError:
            if self._opening is opening:
                self._broke = True
                self._leave()
            raise
        return answer

    def _current(self) -> "asyncio.Task[_Wire]":
        opening = self._opening
        if opening is not None and opening.done() and not _usable(opening):
            self._broke = True
            opening = None
        if opening is None:
            self.figures.reconnects += self._broke
            self._broke = False
            opening = asyncio.create_task(_Wire.open(self._endpoint))
            self._opening = opening
        return opening

    def _leave(self) -> None:
        """Whoever waits for the connection or an answer on it may go on doing so."""
        if self._opening is not None:
            self._opening.add_done_callback(_retire)
            self._opening = None


class _Wire:
    """One connection with any number of requests in flight."""

    def __init__(self, streams: lines.Streams) -> None:
        self._reader, self._writer = streams
        self._tags = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Document]] = {}
        self._retired = False
        self.usable = True
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def open(cls, endpoint: Endpoint) -> "_Wire":
        return cls(await lines.connect(endpoint, seconds=_CONNECT_SECONDS))

    async def ask(self, request: Document) -> Document:
        """ConnectionError when the connection ends before there is an answer."""
        if not self.usable:
            raise ConnectionResetError("the connection has ended")
        tag = next(self._tags)
        self._waiting[tag] = asyncio.get_running_loop().create_future()
        try:
            self._writer.write(lines.encode({**request, "tag": tag}))
            return await self._waiting[tag]
        finally:
            del self._waiting[tag]
            self._close_if_done()

    def retire(self) -> None:
        """Close it once what is in flight has been answered."""
        self._retired = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._retired and not self._waiting:
            self._writer.close()

    async def _listen(self) -> None:
        problem = "the connection has ended"
        try:
            while (message := await lines.read(self._reader)) is not None:
                waiting = self._waiting.get(message.get("tag", 0))
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
        except (OSError, ValueError) as error:
            problem = str(error)
        finally:
            self.usable = False
            self._writer.close()
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(ConnectionResetError(problem))


def _usable(opening: asyncio.Task[_Wire]) -> bool:
    return opening.exception() is None and opening.result().usable


def _retire(opening: asyncio.Task[_Wire]) -> None:
    # Its failure is told by whoever waited for it.
    with contextlib.suppress(OSError, asyncio.CancelledError):
        opening.result().retire()
