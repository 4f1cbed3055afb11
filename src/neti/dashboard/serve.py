"""One process that looks at the fleet and serves the page.

If it is started as root, it goes on as another user, once the port is bound and the first look is
done. That user may not be able to read Python itself, such as one in root's home; so everything
that is needed from there on is loaded before, the files of the page too.

Must never do: listen where others can reach it without TLS, or hold rights that it does not need.
"""

import asyncio
import contextlib
import logging
import os
import pwd
import secrets
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import anyio.to_thread
import uvicorn

from neti import log
from neti.dashboard import app
from neti.dashboard.board import Board
from neti.dashboard.connections import BACKLOG, Connection
from neti.dashboard.tls import Certificate
from neti.dashboard.user import become
from neti.errors import NetiError
from neti.fleet.picture import Picture
from neti.model.settings import Settings
from neti.oneshot.watched import Watched
from neti.words import why

LEAST: Final = 1.0  # seconds between two looks
Socket = socket.socket
_FIRST_FD: Final = 3
_GRACE: Final = 1  # seconds that open pages get when it ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """``names``: what else a browser may call it."""

    address: IPv4Address | IPv6Address
    port: int
    names: tuple[str, ...] = ()

    @property
    def local(self) -> bool:
        return self.address.is_loopback


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Its own handlers would raise the signal anew once it has ended."""
        yield


class Served:
    """One server. Raises NetiError where it cannot listen."""

    def __init__(
        self,
        settings: Settings,
        watched: Watched,
        where: Where,
        *,
        token: str,
        version: str,
        listening: socket.socket | None = None,
        certificate: Certificate | None = None,
    ) -> None:
        """``listening``: see ``activated``; ``certificate``: needed beyond loopback."""
        if not where.local and certificate is None:
            raise ValueError("beyond loopback a certificate is needed")
        self._watched = watched
        self._where = where
        self._board = Board(version)
        self._tls = certificate if not where.local else None
        self._socket = listening if listening is not None else _bound(where)
        port = self._socket.getsockname()[1]
        self.scheme = "http" if self._tls is None else "https"
        names = _called(where, port, self.scheme)
        # Of this start alone: a browser may hold scripts or service workers of whoever had this
        # port before, and cookies of other ports, by the name that it had then. Every name below
        # localhost is this machine (RFC 6761, 6.3).
        if where.local:
            own = f"{secrets.token_hex(8)}.localhost"
            names = [own if names[0] == str(where.address) else f"{own}:{port}", *names]
        self.link = f"{self.scheme}://{names[0]}/#token={token}"
        self._app = app.made(
            settings,
            self._board,
            lambda: watched.seen,
            token=token,
            names=names,
            scheme=self.scheme,
        )
        self._config = self._configured()

    def run(
        self,
        ready: Callable[[], None] = lambda: None,
        *,
        user: pwd.struct_passwd | None = None,
    ) -> None:
        """Until SIGINT or SIGTERM. ``ready``: called once it answers; ``user``: as whom, if not as
        who this is."""
        try:
            if user is not None:
                self._look()
                asyncio.run(_rehearsed())
                self._watched.close()  # what root opened, such as the file of a registry
                become(user)
            asyncio.run(self._run(ready))
        finally:
            self._socket.close()
            self._watched.close()

    def _configured(self) -> uvicorn.Config:
        config = uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            lifespan="off",
            http=Connection,
            ws="none",
            backlog=BACKLOG,
            timeout_graceful_shutdown=_GRACE,
            ssl_keyfile=self._tls.key if self._tls else None,
            ssl_certfile=self._tls.cert if self._tls else None,
        )
        config.load()  # reads the certificate, and imports what it is made of
        return config

    async def _run(self, ready: Callable[[], None]) -> None:
        server = _Server(self._config)
        # What they say is said by this process, or comes from whoever asks wrongly.
        for name in ("uvicorn.error", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)

        def end() -> None:
            server.should_exit = True
            self._board.end()

        loop = asyncio.get_running_loop()
        ends = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup(1)
            ends.append(signal.SIGHUP)
        for number in ends:
            loop.add_signal_handler(number, end)
        looks = asyncio.create_task(self._follow())
        hears = asyncio.create_task(self._until_hung_up(end))
        serves = asyncio.create_task(server.serve([self._socket]))
        while not server.started and not serves.done():
            await asyncio.sleep(0.01)
        if server.started:
            ready()
        await asyncio.wait({looks, serves}, return_when=asyncio.FIRST_COMPLETED)
        end()
        await serves
        for task in (looks, hears):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _until_hung_up(self, end: Callable[[], None]) -> None:
        """By ssh without a terminal Ctrl-C ends only ssh itself. Then nobody reads any more what
        this process writes, and nobody who has the link is there."""
        waits = select.poll()
        waits.register(sys.__stdout__.fileno() if sys.__stdout__ else 1, 0)
        while True:
            if any(what & (select.POLLERR | select.POLLHUP) for _, what in waits.poll(0)):
                end()
                return
            await asyncio.sleep(LEAST)

    async def _follow(self) -> None:
        while True:
            seen = await asyncio.to_thread(self._look)
            if seen is not None:
                await self._board.show(seen)
            await asyncio.sleep(LEAST)

    def _look(self) -> Picture | None:
        try:
            return self._watched.look()
        except NetiError as error:
            log.warning("fleet_not_seen", what=str(error))
            return None


async def _rehearsed() -> None:
    """What is loaded only when it is used first: threads beside the loop."""
    await asyncio.to_thread(int)
    await anyio.to_thread.run_sync(int)


def where(text: str, names: Sequence[str] = ()) -> Where:
    """``ADDRESS:PORT`` or ``[ADDRESS]:PORT``. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError("expected ADDRESS:PORT, such as 127.0.0.1:8642")
    try:
        address = ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise ValueError(f"{host}: expected an IP address, and no name") from None
    return Where(address=address, port=int(port), names=tuple(names))


def activated() -> socket.socket | None:
    """The socket that systemd, or whoever does as it does, listens on for this process
    (``sd_listen_fds(3)``); None: it did not. It may be of another network namespace. Raises
    NetiError."""
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    if pid != str(os.getpid()):
        return None
    if count != "1":
        raise NetiError(f"LISTEN_FDS={count}: expected 1, one socket to serve the page on")
    os.set_inheritable(_FIRST_FD, False)
    return socket.socket(fileno=_FIRST_FD)


def where_of(listening: socket.socket, names: Sequence[str] = ()) -> Where:
    address, port = listening.getsockname()[:2]
    return Where(address=ip_address(address), port=port, names=tuple(names))


def _bound(where: Where) -> socket.socket:
    family = socket.AF_INET6 if where.address.version == 6 else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((str(where.address), where.port))
        made.listen(128)
    except OSError as error:
        made.close()
        raise NetiError(
            f"cannot listen on {where.address}, port {where.port}: {why(error)}\n"
            "→ --listen ADDRESS:PORT chooses others; port 0 takes any that is free"
        ) from error
    return made


def _called(where: Where, port: int, scheme: str) -> list[str]:
    """As browsers write it in Host: without the port where it is the scheme's own. The first goes
    into the link."""
    bare = f"[{where.address}]" if where.address.version == 6 else str(where.address)
    names = [*where.names] if where.address.is_unspecified else [bare, *where.names]
    if where.local:
        names.append("localhost")
    if where.address.is_unspecified:
        names += [socket.gethostname(), socket.getfqdn()]
    own = {"http": 80, "https": 443}[scheme]
    found = [name if port == own else f"{name}:{port}" for name in names]
    return list(dict.fromkeys(name.lower() for name in found))
