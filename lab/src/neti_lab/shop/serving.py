"""Listening, and knowing every connection and what is in flight on it, so as to stop politely.

Must never cut off a request that has begun, except after the grace of two seconds.
"""

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from neti import log
from neti_lab import LabError

LIMIT: Final = 2**20  # the longest line or head
_GRACE_SECONDS: Final = 2.0
# A connection that is taken while we stop brings a request in a moment: its caller did nothing
# wrong. One that brings none for this long is idle.
_YOUNG_SECONDS: Final = 0.3
_POLL_SECONDS: Final = 0.01
_BACKLOG: Final = 512


class Connection:
    """One caller."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.peer: str = writer.get_extra_info("peername")[0]
        self._opened = time.monotonic()
        self._requests = 0
        self._in_flight = 0

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """While it is being worked on, a polite stop waits for it."""
        self._requests += 1
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    @property
    def young(self) -> bool:
        return not self._requests and time.monotonic() - self._opened < _YOUNG_SECONDS

    @property
    def busy(self) -> bool:
        return bool(self._in_flight) or self.young

    def send(self, data: bytes) -> None:
        """To a caller who has hung up, nothing is sent."""
        if not self.writer.is_closing():
            self.writer.write(data)


class Service:
    """A listening socket and its connections. ``converse`` talks on one until it has ended."""

    def __init__(
        self, converse: Callable[[Connection], Awaitable[None]], *, goodbye: bytes = b""
    ) -> None:
        self._converse = converse
        self._goodbye = goodbye
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self.stopping = False

    async def start(self, port: int) -> None:
        """Listen on all addresses. LabError when the port is not to be had."""
        try:
            self._server = await asyncio.start_server(
                self._serve, "0.0.0.0", port, limit=LIMIT, backlog=_BACKLOG
            )
        except OSError as error:
            # asyncio has a text of its own, which names the address a second time
            reason = os.strerror(error.errno) if error.errno else error
            raise LabError(f"cannot listen on port {port}: {reason}") from error
        log.info("shop-listening", port=self._server.sockets[0].getsockname()[1])

    def peers(self) -> Counter[str]:
        """How many connections each address has."""
        return Counter(connection.peer for connection in self._connections)

    def dismiss(self) -> None:
        """Close all connections with a goodbye, whatever is still waiting for an answer on them.

        Who has only just come and not asked yet does not know what changed, and is answered.
        """
        for connection in list(self._connections):
            if not connection.young:
                self._close(connection)

    def release(self, connection: Connection) -> None:
        """From now on ``converse`` alone looks after it: it is no client's."""
        self._connections.discard(connection)

    async def stop(self) -> None:
        """Stop accepting, and finish what is in flight."""
        self.stopping = True
        if self._server is None:
            return
        # What the kernel has accepted for us would be reset; one turn of the loop takes it in.
        await asyncio.sleep(0)
        self._server.close()
        deadline = time.monotonic() + _GRACE_SECONDS
        while self._connections and time.monotonic() < deadline:
            for connection in list(self._connections):
                if not connection.busy:
                    self._close(connection)
            await asyncio.sleep(_POLL_SECONDS)
        if self._connections:
            log.warning("shop-requests-cut-off", connections=len(self._connections))
        for connection in list(self._connections):
            self._close(connection)
        # What was written last is still being handed to the kernel.
        await asyncio.sleep(_POLL_SECONDS)

    def _close(self, connection: Connection) -> None:
        connection.send(self._goodbye)
        connection.writer.close()
        self._connections.discard(connection)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        self._connections.add(connection)
        try:
            await self._converse(connection)
        except (OSError, ValueError, EOFError, asyncio.LimitOverrunError):
            pass  # the caller has hung up, or does not speak the protocol: its own affair
        finally:
            self._connections.discard(connection)
            writer.close()
