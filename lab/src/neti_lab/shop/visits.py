"""How users and internal clients come to a service: again and again, and on connections that stay.

Requests are begun by the clock and not when the last one was answered, for a slow service must not
make its own traffic lighter. Nothing is ever retried: a request that did not work at once has
failed, and a long connection that broke has failed its request.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from neti_lab.busy import stretched
from neti_lab.shop import lines
from neti_lab.shop.configuration import Endpoint
from neti_lab.shop.tally import Tally, Visited

REQUEST_SECONDS: Final = stretched(5.0)
_FAULTS: Final = (OSError, ValueError, KeyError, TypeError, EOFError, asyncio.LimitOverrunError)

# One request on an open connection to the endpoint. Wrong, or any other error, when it failed.
Visit = Callable[[Endpoint, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[Visited]]


class Wrong(Exception):
    """There was an answer, and it is not true."""


class Goodbye(ConnectionError):
    """The service is closing the connection of its own accord, and has said so."""


class Visits:
    """All the requests of one program."""

    def __init__(self, visit: Visit, tally: Tally, *, long_rate: float) -> None:
        self._visit = visit
        self._tally = tally
        self._long_seconds = 1 / long_rate
        self._running: set[asyncio.Task[None]] = set()
        self._long: dict[Endpoint, asyncio.Event] = {}
        self._pacing: asyncio.Task[None] | None = None

    def start(self, rate: Callable[[], float], next_target: Callable[[], Endpoint | None]) -> None:
        self._pacing = asyncio.create_task(self._pace(rate, next_target))

    def keep_connected(self, endpoints: Iterable[Endpoint]) -> None:
        """One long connection to each of these, and none to any other."""
        wanted = set(endpoints)
        for endpoint in set(self._long) - wanted:
            self._long.pop(endpoint).set()
        for endpoint in wanted - set(self._long):
            leaving = self._long[endpoint] = asyncio.Event()
            self._run(self._stay(endpoint, leaving))

    async def stop(self) -> None:
        """Begin nothing more, and wait for what has begun."""
        if self._pacing is not None:
            self._pacing.cancel()
        self.keep_connected(())
        if self._running:
            await asyncio.wait(self._running)

    async def _pace(
        self, rate: Callable[[], float], next_target: Callable[[], Endpoint | None]
    ) -> None:
        due = time.monotonic()
        while True:
            await asyncio.sleep(due - time.monotonic())
            target = next_target()
            if target is None:
                self._tally.failure(due, "there is nobody on the list", long=False)
            else:
                self._run(self._once(target, due))
            due += 1 / rate()

    def _run(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _once(self, target: Endpoint, due: float) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                reader, writer = await lines.connect(target, seconds=REQUEST_SECONDS)
                try:
                    visited = await self._visit(target, reader, writer)
                finally:
                    writer.close()
        except (Wrong, *_FAULTS) as error:
            self._failed(target, due, error, long=False)
        else:
            self._tally.success(due, visited, long=False)

    async def _stay(self, target: Endpoint, leaving: asyncio.Event) -> None:
        """Until we leave: request after request on one connection, a new one if it ended."""
        streams: lines.Streams | None = None
        while not leaving.is_set():
            due = time.monotonic()
            stays = False
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    if streams is None:
                        streams = await lines.connect(target, seconds=REQUEST_SECONDS)
                        self._tally.long["opened"] += 1
                    visited = await self._visit(target, *streams)
            except Goodbye:
                self._tally.long["goodbyes"] += 1
            except (Wrong, *_FAULTS) as error:
                self._failed(target, due, error, long=True)
            else:
                stays = visited.stays
                self._tally.success(due, visited, long=True)
            if streams is not None and not stays:
                streams[1].close()
                streams = None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(leaving.wait(), due + self._long_seconds - time.monotonic())
        if streams is not None:
            streams[1].close()

    def _failed(self, target: Endpoint, due: float, error: Exception, *, long: bool) -> None:
        text = f"{target}: {lines.describe(error)}"
        self._tally.failure(due, text, long=long, wrong=isinstance(error, Wrong))
