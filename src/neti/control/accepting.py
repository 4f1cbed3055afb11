"""The agent's listening sockets: who may have a connection, how many at once, and for how long.

One thread accepts, for ever. A connection is served by a thread of its own, which is given a
deadline for the whole of it. What is too much is closed at once, before a byte is read.

Must never do: stop accepting because of an error; take the last descriptors of this process, which
the agent needs for the kernel, the disk and the registry; or let one source have all places.
"""

import contextlib
import errno
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from neti import log, threads
from neti.control.trouble import Trouble

# Descriptors that no connection may take: a listing of the kernel, a state file, a new connection
# to the registry, a child process.
RESERVED_DESCRIPTORS: Final = 128
_PAUSE: Final = 0.5  # seconds after an error that may last
_PASSING: Final = frozenset({errno.EINTR, errno.EAGAIN, errno.ECONNABORTED, errno.EPROTO})
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Serve = Callable[["Connection", str], None]
Admitted = Callable[[str], bool]


class Connection:
    """A socket with one deadline for all that is read from it and written to it."""

    def __init__(self, accepted: socket.socket, seconds: float) -> None:
        self.socket = accepted
        self._until = time.monotonic() + seconds

    def extend(self, seconds: float) -> None:
        """From now on."""
        self._until = time.monotonic() + seconds

    def receive(self, most: int = 65536) -> bytes:
        """What has come, b'' when the other side sends no more. Raises OSError, TimeoutError."""
        self.socket.settimeout(self._left())
        return self.socket.recv(most)

    def send(self, content: bytes) -> None:
        """All of it: a peer that takes it byte by byte does not get longer than another."""
        left = memoryview(content)
        while left:
            self.socket.settimeout(self._left())
            left = left[self.socket.send(left) :]

    def _left(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the connection's time is over")
        return left


class Acceptor:
    """Serves what connects to ``listener``, which it then owns, from ``start`` to ``close``."""

    def __init__(
        self,
        name: str,
        listener: socket.socket,
        serve: Serve,
        *,
        seconds: float,
        at_once: int,
        per_source: int,
        admitted: Admitted = lambda _source: True,
        tell: Callable[[Trouble], None] = lambda _trouble: None,
        accepted: Callable[["Connection"], None] = lambda _connection: None,
    ) -> None:
        """``serve`` gets the connection and its source; the connection is closed after it.
        ``admitted`` is asked before anything is read. ``accepted`` hears of each that is about to
        be served, in order."""
        self.name = name
        self._listener = listener
        self._serve = serve
        self._seconds = seconds
        self._at_once = at_once
        self._per_source = per_source
        self._admitted = admitted
        self._tell = tell
        self._accepted = accepted
        self._sources: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._in_trouble = False
        self._thread = threading.Thread(target=self._run, name=f"neti-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """No new ones; those that are there come to their end by themselves."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._accept_one()
            except Exception as error:  # a listener that ends is silence that looks like peace
                if self._closing.is_set():
                    return
                self._troubled("thread", log.unexpected(f"the listener {self.name!r}", error))
                self._closing.wait(_PAUSE)

    def _accept_one(self) -> None:
        try:
            accepted, address = self._listener.accept()
        except OSError as error:
            if self._closing.is_set() or error.errno in _PASSING:
                return
            if error.errno in _EXHAUSTED:
                self._troubled("descriptors", _no_more(self.name, error))
            else:
                self._troubled("thread", log.unexpected(f"the listener {self.name!r}", error))
            self._closing.wait(_PAUSE)
            return
        source = str(address[0]) if isinstance(address, tuple) else ""
        self._take(accepted, source)

    def _take(self, accepted: socket.socket, source: str) -> None:
        served = False
        try:
            if not _leaves_the_reserve(accepted):
                self._troubled("descriptors", _reserve_reached(self.name))
            elif self._admitted(source) and self._enter(source):
                served = True
                self._begin(accepted, source)
        finally:
            if not served:
                accepted.close()

    def _begin(self, accepted: socket.socket, source: str) -> None:
        connection = Connection(accepted, self._seconds)
        self._accepted(connection)
        try:
            threads.begin(lambda: self._live(connection, source))
        except RuntimeError:  # no more threads
            accepted.close()
            self._leave(source)
            self._troubled("descriptors", _no_thread(self.name))
            self._closing.wait(_PAUSE)
        else:
            self._recovered()

    def _live(self, connection: Connection, source: str) -> None:
        try:
            with connection.socket:
                self._serve(connection, source)
        except OSError:
            pass  # gone, or too slow
        except Exception as error:  # one caller's input is no reason to end in silence
            log.unexpected(f"a connection of {self.name!r}", error)
        finally:
            self._leave(source)

    def _enter(self, source: str) -> bool:
        with self._lock:
            if self._sources.total() >= self._at_once or self._sources[source] >= self._per_source:
                return False
            self._sources[source] += 1
            return True

    def _leave(self, source: str) -> None:
        with self._lock:
            self._sources[source] -= 1
            if not self._sources[source]:
                del self._sources[source]

    def _troubled(self, code: str, sentence: str) -> None:
        if not self._in_trouble:
            log.error("listener_in_trouble", listener=self.name, what=sentence)
        self._in_trouble = True
        self._tell(Trouble(code, self.name, sentence))

    def _recovered(self) -> None:
        if self._in_trouble:
            self._in_trouble = False
            for code in ("descriptors", "thread"):
                self._tell(Trouble(code, self.name, None))


def read_line(connection: Connection, most: int) -> bytes:
    """Up to and with the first newline, or all when the other side sends no more. ValueError when
    it is longer than ``most``."""
    received = bytearray()
    while not received.endswith(b"\n"):
        part = connection.receive()
        if not part:
            break
        received += part
        if len(received) > most:
            raise ValueError("too long")
    return bytes(received)


def _leaves_the_reserve(accepted: socket.socket) -> bool:
    """The kernel hands out the lowest free number, so the number says how many are in use."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return True
    return accepted.fileno() < soft - min(RESERVED_DESCRIPTORS, soft // 2)


def _no_more(name: str, error: OSError) -> str:
    return (
        f"{name} cannot accept connections ({error.strerror}): this process or this machine has "
        "no descriptors or memory left; it goes on trying"
    )


def _reserve_reached(name: str) -> str:
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        f"{name} turns connections away: all but the last {RESERVED_DESCRIPTORS} of this process's "
        f"{soft} descriptors are in use, and the agent needs those (ls -l /proc/PID/fd)"
    )


def _no_thread(name: str) -> str:
    return (
        f"{name} turns connections away: no more threads can be made (memory, TasksMax, ulimit -u)"
    )
