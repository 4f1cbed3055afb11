"""The relay: accepts, picks a server, passes bytes both ways, ends dead connections. One event
loop.

Each direction reads only when the other side has taken what was read before (back-pressure), so a
connection costs two small buffers, however slow its ends are.

Must never look into what it relays, or let one connection's failure affect another.
"""

import asyncio
import contextlib
import socket
from collections import Counter
from dataclasses import dataclass, field

from neti import log
from neti.proxy.servers import Server, Servers
from neti.proxy.settings import ProxySettings

_CHUNK = 65536
# How long one side may go on sending after the other has finished.
_HALF_CLOSED_SECONDS = 10.0
_LOG_REFUSED_EVERY = 10.0
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True)
class Counts:
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # by reason
    ended: Counter[str] = field(default_factory=Counter)  # by reason
    to_servers: int = 0  # bytes
    to_clients: int = 0


class Relay:
    def __init__(self, settings: ProxySettings, servers: Servers) -> None:
        self._settings = settings
        self._servers = servers
        self.counts = Counts()
        self._sources: Counter[str] = Counter()
        self._open: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._said_refused = 0.0

    @property
    def connections(self) -> int:
        return sum(self._sources.values())

    # --- life ---

    async def listen(self) -> None:
        """Raises OSError when it cannot listen on the address."""
        place = self._settings.listen
        self._listener = await asyncio.start_server(
            self._accepted, place.host, place.port, limit=_CHUNK, backlog=1024
        )

    def stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()

    async def drain(self) -> None:
        """Ends all connections, spread over the given seconds, so that clients do not all return to
        the other proxies at once."""
        waiting = list(self._open)
        pause = self._settings.drain / max(1, len(waiting))
        for number, task in enumerate(waiting):
            task.cancel()
            if number % 20 == 19:
                await asyncio.sleep(20 * pause)
        await asyncio.gather(*waiting, return_exceptions=True)

    # --- one connection ---

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        peer = writer.get_extra_info("peername")
        source = str(peer[0]) if peer else "?"
        reason = self._objection(source)
        if reason is not None:
            self._refuse(writer, source, reason)
            self._open.discard(task)
            return
        self._sources[source] += 1
        self.counts.accepted += 1
        try:
            await self._serve((reader, writer))
        except asyncio.CancelledError:
            self.counts.ended["stopped"] += 1
        finally:
            self._open.discard(task)
            writer.transport.abort()
            self._sources[source] -= 1
            if not self._sources[source]:
                del self._sources[source]

    def _objection(self, source: str) -> str | None:
        if self.connections >= self._settings.max_connections:
            return "full"
        if self._sources[source] >= self._settings.max_per_source:
            return "source"
        return None

    def _refuse(self, writer: asyncio.StreamWriter, source: str, reason: str) -> None:
        self.counts.refused[reason] += 1
        writer.transport.abort()
        now = asyncio.get_running_loop().time()
        if now - self._said_refused >= _LOG_REFUSED_EVERY:
            self._said_refused = now
            limit = "--max-connections" if reason == "full" else "--max-per-source"
            log.warning("refused", source=source, limit=limit, refused=sum(_values(self.counts)))

    async def _serve(self, client: Pair) -> None:
        found = await self._connected()
        if found is None:
            self.counts.refused["no server"] += 1
            return
        server, upstream = found
        _keep_alive(client[1], self._settings.idle)
        _keep_alive(upstream[1], self._settings.idle)
        flow = _Flow(self._settings.idle)
        end = flow.abandon
        server.connections += 1
        server.connected_total += 1
        server.ending.add(end)
        try:
            why = await flow.run(client, upstream, self.counts)
            self.counts.ended[why] += 1
            if why == "closed":
                await _flushed(client[1], upstream[1])
        finally:
            server.ending.discard(end)
            server.connections -= 1
            upstream[1].transport.abort()

    async def _connected(self) -> tuple[Server, Pair] | None:
        """The first server that accepts a connection."""
        for server in self._servers.candidates():
            place = server.place
            try:
                async with asyncio.timeout(self._settings.connect):
                    pair = await asyncio.open_connection(place.host, place.port, limit=_CHUNK)
                return server, pair
            except (OSError, TimeoutError):
                server.failed_total += 1
                server.doubted.set()
        log.warning("no_server", tried=len(self._servers.all))
        return None


class _Flow:
    """Relays both directions of one connection until there is a reason to end it.

    ``idle`` seconds pass without an answer of the server that the client took: that is silence. A
    server answers every ping of a session. Bytes of the client do not count, because whoever sends
    one now and then, and no request ever, would hold its place for good.
    """

    def __init__(self, idle: float) -> None:
        self._idle = idle
        self._moved = 0.0
        self._half_closed = False
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def abandon(self) -> None:
        self._end("server down")

    def _end(self, why: str) -> None:
        if not self._over.done():
            self._over.set_result(why)

    async def run(self, client: Pair, upstream: Pair, counts: Counts) -> str:
        self._moved = asyncio.get_running_loop().time()
        # The loop alone keeps only a weak reference.
        tasks = [
            asyncio.create_task(self._pass(client[0], upstream[1], counts, up=True)),
            asyncio.create_task(self._pass(upstream[0], client[1], counts, up=False)),
            asyncio.create_task(self._watch_silence()),
        ]
        try:
            return await self._over
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        counts: Counts,
        *,
        up: bool,
    ) -> None:
        clock = asyncio.get_running_loop().time
        try:
            while chunk := await reader.read(_CHUNK):
                writer.write(chunk)
                await writer.drain()
                if up:
                    counts.to_servers += len(chunk)
                else:
                    self._moved = clock()
                    counts.to_clients += len(chunk)
            if writer.can_write_eof():
                writer.write_eof()
        except OSError:
            self._end("reset")
            return
        await self._finish()

    async def _finish(self) -> None:
        """One side has finished sending: what it sent is still delivered, and the other may finish
        too."""
        if self._half_closed:
            self._end("closed")
            return
        self._half_closed = True
        await asyncio.sleep(_HALF_CLOSED_SECONDS)
        self._end("half closed")

    async def _watch_silence(self) -> None:
        clock = asyncio.get_running_loop().time
        while (left := self._moved + self._idle - clock()) > 0:
            await asyncio.sleep(left)
        self._end("silent")


async def _flushed(*writers: asyncio.StreamWriter) -> None:
    """Closes when everything written has been sent, or after a time limit."""
    for writer in writers:
        writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_HALF_CLOSED_SECONDS):
            await asyncio.gather(*(writer.wait_closed() for writer in writers))


def _keep_alive(writer: asyncio.StreamWriter, idle: float) -> None:
    """The kernel notices a dead peer, even while there is unsent data."""
    sock: socket.socket = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(idle * 1000))


def _values(counts: Counts) -> list[int]:
    return list(counts.refused.values())
