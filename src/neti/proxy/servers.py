"""The ensemble as the proxy sees it: which server answers, which is next. One event loop owns it.

A server is checked with ZooKeeper's command ``srvr``, which a stock server answers. After two
failures in a row it is down and gets no new connections. After five, its connections are ended so
that clients go elsewhere (not sooner, because a server that is only slow would get all of them back
at once). The first answer ends both. A client's failed connection only makes the next check come
sooner: a burst of clients says more about this machine than about the server.

Must never take a server for down because the command is not allowed there.
"""

import asyncio
import contextlib
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from neti import log
from neti.model.settings import RegistryTLS
from neti.proxy.settings import Endpoint, ProxySettings
from neti.registry.zookeeper import tls
from neti.words import why

_DOWN_AFTER = 2
_END_AFTER = 5
_MOST = 8192


@dataclass(slots=True, eq=False)
class Server:
    place: Endpoint
    up: bool = True  # assume up, so that the first client does not wait for a check
    failures: int = 0
    reason: str = ""
    connections: int = 0
    connected_total: int = 0
    failed_total: int = 0  # failed connections
    downs_total: int = 0
    ending: set[Callable[[], None]] = field(default_factory=set)  # each ends one connection
    doubted: asyncio.Event = field(default_factory=asyncio.Event)  # check it now


class Servers:
    def __init__(self, settings: ProxySettings) -> None:
        self._settings = settings
        self.all = tuple(Server(place) for place in settings.servers)

    def candidates(self) -> list[Server]:
        """In the order to try them: those that are up first, and of these the least busy."""
        return sorted(self.all, key=lambda server: (not server.up, server.connections))

    async def watch(self) -> None:
        """Checks each server, forever."""
        async with asyncio.TaskGroup() as group:
            for server in self.all:
                group.create_task(self._watch(server))

    async def _watch(self, server: Server) -> None:
        while True:
            self.note(server, await self._fault(server))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.health):
                    await server.doubted.wait()
                # One check is enough for a thousand refused clients; one each would be a flood.
                await asyncio.sleep(self._settings.health / 10)
            server.doubted.clear()

    def note(self, server: Server, fault: str | None) -> None:
        """Records the outcome of one check."""
        if fault is None:
            if not server.up:
                log.info("server_up", server=server.place)
            server.up, server.failures, server.reason = True, 0, ""
            return
        server.failures += 1
        server.reason = fault
        if server.up and server.failures >= _DOWN_AFTER:
            server.up = False
            server.downs_total += 1
            log.warning("server_down", server=server.place, why=fault)
        if server.failures == _END_AFTER and server.ending:
            log.warning("server_left", server=server.place, ended=len(server.ending))
            for end in tuple(server.ending):
                end()

    async def _fault(self, server: Server) -> str | None:
        try:
            async with asyncio.timeout(self._settings.connect):
                return _judged(await _srvr(server.place, self._settings.files))
        except TimeoutError:
            return f"no answer within {self._settings.connect:g} s"
        except OSError as error:
            files = self._settings.files
            insecure = tls.refusal(error, files) if files is not None else None
            # asyncio puts the address where the reason usually is.
            return insecure or (os.strerror(error.errno) if error.errno else why(error))
        except tls.TLSError as error:
            return str(error)


def _judged(answer: str) -> str | None:
    if "Mode:" in answer or "not in the whitelist" in answer or "is not executed" in answer:
        return None
    if "not currently serving" in answer:
        return "it is not serving: the ensemble has no quorum"
    return f"it is not a ZooKeeper server: it answered {answer[:40]!r}"


async def _srvr(place: Endpoint, files: RegistryTLS | None) -> str:
    secure: ssl.SSLContext | None = tls.context(files) if files is not None else None
    reader, writer = await asyncio.open_connection(place.host, place.port, ssl=secure)
    try:
        writer.write(b"srvr")
        await writer.drain()
        return (await reader.read(_MOST)).decode(errors="replace")
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
