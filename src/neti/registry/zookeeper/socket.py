"""How kazoo waits, connects and reads, but with less patience and fewer system calls.

kazoo waits for its socket before it reads the four bytes of a length, and again before it reads
the rest. Other threads run during each wait, which doubled the cost of an event.

Must never do: connect without checking, where ``registry_tls`` is set.
"""

import select
import socket
import ssl
from typing import Any, Final, Self

from kazoo.handlers.threading import SequentialThreadingHandler

from neti.model.settings import RegistryTLS
from neti.registry.zookeeper import tls

_AHEAD: Final = 32 * 1024  # bytes: some 300 events


class ReadAhead:
    """A connected socket that reads everything that has come at once. Used by one thread.

    Bytes that it holds make no descriptor readable, so ``pending`` has to be asked first, as with
    an SSLSocket. kazoo asks every socket that has this method.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._held = b""
        self._at = 0

    def recv(self, count: int) -> bytes:
        """Like socket.recv: up to ``count`` bytes, none when the connection has ended."""
        if self._at == len(self._held):
            self._held, self._at = self._socket.recv(_AHEAD), 0
        chunk = self._held[self._at : self._at + count]
        self._at += len(chunk)
        return chunk

    def pending(self) -> int:
        """How many bytes can be read without waiting."""
        deciphered = self._socket.pending() if isinstance(self._socket, ssl.SSLSocket) else 0
        return len(self._held) - self._at + deciphered

    def fileno(self) -> int:
        return self._socket.fileno()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


class PatientHandler(SequentialThreadingHandler):  # type: ignore[misc]  # kazoo has no types
    """kazoo would wait for one silent host as long as the whole session may last, trust every CA
    of this machine, and check no name."""

    def __init__(self, connect_seconds: float, files: RegistryTLS | None) -> None:
        super().__init__()
        self._connect_seconds = connect_seconds
        self._files = files

    def select(self, *arguments: Any, **more: Any) -> Any:
        waiting = [s for s in arguments[0] if isinstance(s, ReadAhead) and s.pending()]
        if waiting:
            others = [s for s in arguments[0] if s not in waiting]
            readable, writable, failed = self._select(others, *arguments[1:3], 0)
            return [*waiting, *readable], writable, failed
        return self._select(*arguments, **more)

    def _select(self, *arguments: Any, **more: Any) -> Any:
        # kazoo makes a new epoll object for each turn of its loop, for a handful of descriptors.
        try:
            return select.select(*arguments, **more)
        except (ValueError, TypeError):  # a descriptor above 1023
            return super().select(*arguments, **more)

    def create_connection(self, *arguments: Any, timeout: float, **more: Any) -> ReadAhead:
        seconds = min(timeout, self._connect_seconds)
        if self._files is not None:
            address, name = more["address"], more["hostname"]
            return ReadAhead(tls.connect(self._files, address, name=name, seconds=seconds))
        return ReadAhead(super().create_connection(*arguments, timeout=seconds, **more))
