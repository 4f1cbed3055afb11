"""Hundreds of ZooKeeper sessions in one process: the raw wire format, pipelined, and no threads.

kazoo takes three threads a session; a fleet of agents needs none of what they are for.
"""

import socket
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Self

_CREATE, _DELETE, _PING, _CLOSE = 1, 2, 11, -11
_ANY_VERSION = -1
_EPHEMERAL = 1
# One entry: all permissions for the scheme "world" and everybody in it.
_OPEN_ACL = struct.pack("!iii5si6s", 1, 31, 5, b"world", 6, b"anyone")


def _text(raw: bytes) -> bytes:
    return struct.pack("!i", len(raw)) + raw


def create_body(path: str, data: bytes, *, ephemeral: bool) -> bytes:
    """What a request to make a node says, alone or within a step."""
    flags = struct.pack("!i", _EPHEMERAL if ephemeral else 0)
    return _text(path.encode()) + _text(data) + _OPEN_ACL + flags


class RawSession:
    """One session on one blocking socket."""

    def __init__(
        self, address: str, port: int, *, timeout_ms: int = 40_000, patience: float = 30
    ) -> None:
        """``patience``: seconds for each answer, then a TimeoutError that says who was asked."""
        self._asked = f"ZooKeeper at {address}:{port} did not answer within {patience:g} s"
        self._socket = socket.create_connection((address, port), timeout=patience)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._replies = self._socket.makefile("rb")
        self._xid = 0
        self._send(struct.pack("!iqiq", 0, 0, timeout_ms, 0) + _text(bytes(16)) + b"\0")
        _, self.timeout_ms, self.id = struct.unpack_from("!iiq", self._receive())

    def send_create(self, path: str, data: bytes, *, ephemeral: bool = True) -> None:
        """Answered by the next ``outcome`` that is not read yet."""
        self._xid += 1
        body = create_body(path, data, ephemeral=ephemeral)
        self._send(struct.pack("!ii", self._xid, _CREATE) + body)

    def send_delete(self, path: str) -> None:
        """Answered by the next ``outcome`` that is not read yet."""
        self._xid += 1
        self._send(
            struct.pack("!ii", self._xid, _DELETE)
            + _text(path.encode())
            + struct.pack("!i", _ANY_VERSION)
        )

    def send_ping(self) -> None:
        self._send(struct.pack("!ii", -2, _PING))

    def outcome(self) -> int:
        """ZooKeeper's error code for the oldest request, 0 when it was done."""
        _, _, code = struct.unpack_from("!iqi", self._receive())
        return int(code)

    def close(self, *, end_session: bool = True) -> None:
        if end_session:
            self._send(struct.pack("!ii", self._xid + 1, _CLOSE))
            self.outcome()
        self._replies.close()
        self._socket.close()

    def _send(self, body: bytes) -> None:
        self._socket.sendall(struct.pack("!i", len(body)) + body)

    def _receive(self) -> bytes:
        (length,) = struct.unpack("!i", self._exactly(4))
        return self._exactly(length)

    def _exactly(self, length: int) -> bytes:
        try:
            raw = self._replies.read(length)
        except TimeoutError as error:
            raise TimeoutError(self._asked) from error
        if len(raw) != length:
            raise ConnectionError("ZooKeeper closed the connection")
        return raw


class Swarm:
    """``count`` sessions that share the work."""

    def __init__(self, address: str, port: int, count: int) -> None:
        self.sessions = [RawSession(address, port) for _ in range(count)]

    def create(self, nodes: Sequence[tuple[str, bytes]], *, ephemeral: bool = True) -> None:
        """All of them, pipelined in every session at once."""
        count = len(self.sessions)
        for index, (path, data) in enumerate(nodes):
            self.sessions[index % count].send_create(path, data, ephemeral=ephemeral)
        for index, (path, _) in enumerate(nodes):
            code = self.sessions[index % count].outcome()
            assert code == 0, f"{path}: ZooKeeper error {code}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for session in self.sessions:
            session.close()
