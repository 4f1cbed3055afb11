"""Sessions that watch ZooKeeper by the raw wire format: the two ways to learn of a change.

A *children watch* says that something changed and must be set again by reading all names again; a
*persistent recursive watch* (request 106) says what changed.
"""

import struct
import threading
from typing import Final

from tests.support.swarm import RawSession, _text

_GET_CHILDREN, _ADD_WATCH = 8, 106
_PERSISTENT_RECURSIVE: Final = 1
_EVENT: Final = -1  # the xid of watch events
_PING: Final = -2
_PING_SECONDS: Final = 8.0


class WatchingSession(RawSession):
    """On a blocking socket. ``received``: bytes that ZooKeeper sent, headers of TCP left out."""

    def __init__(self, address: str, port: int, *, timeout_ms: int = 40_000) -> None:
        self.received = 0
        self._events = 0
        self._sending = threading.Lock()
        super().__init__(address, port, timeout_ms=timeout_ms)

    def keep_alive(self) -> None:
        """From now on ping by a thread of its own, which ends with the program."""

        def ping() -> None:
            while True:
                threading.Event().wait(_PING_SECONDS)
                self.send_ping()

        threading.Thread(target=ping, daemon=True).start()

    def fileno(self) -> int:
        return self._socket.fileno()

    def read_some(self) -> bytes:
        """For who polls many of these: what is there, in no particular pieces."""
        return self._socket.recv(1 << 20)

    def names(self, path: str, *, watch: bool) -> list[str]:
        """All children; with ``watch`` the next change of them is an event."""
        self.send_names(path, watch=watch)
        return parse_names(self._answer())

    def send_names(self, path: str, *, watch: bool) -> None:
        self._xid += 1
        head = struct.pack("!ii", self._xid, _GET_CHILDREN)
        self._send(head + _text(path.encode()) + bytes([watch]))

    def send_watch(self, path: str) -> None:
        self._xid += 1
        mode = struct.pack("!i", _PERSISTENT_RECURSIVE)
        self._send(struct.pack("!ii", self._xid, _ADD_WATCH) + _text(path.encode()) + mode)

    def wait_for_event(self) -> None:
        while self._events == 0:
            self._note(self._receive())
        self._events = 0

    def _answer(self) -> bytes:
        while True:
            reply = self._receive()
            if self._note(reply):
                return reply

    def _note(self, reply: bytes) -> bool:
        """Whether it answers a request."""
        (xid,) = struct.unpack_from("!i", reply)
        self._events += xid == _EVENT
        return xid not in (_EVENT, _PING)

    def _send(self, body: bytes) -> None:
        with self._sending:
            super()._send(body)

    def _receive(self) -> bytes:
        reply = super()._receive()
        self.received += 4 + len(reply)
        return reply


def parse_names(reply: bytes) -> list[str]:
    (count,) = struct.unpack_from("!i", reply, 16)
    offset, names = 20, []
    for _ in range(count):
        (length,) = struct.unpack_from("!i", reply, offset)
        names.append(reply[offset + 4 : offset + 4 + length].decode())
        offset += 4 + length
    return names
