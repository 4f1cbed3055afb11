"""Answers ``neti verify``: says who this is and whom it sees, and moves 64 KiB both ways.

For members only: a connection from any other address is closed before a byte is read. The amounts
are fixed, time is bounded, and so is the number of connections at once.

    caller sends  65536 bytes
    host answers  one JSON line {"id", "seen_from", "arrived_at"}, then 65536 bytes
"""

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final

from neti.errors import NetiError

TRANSFER_BYTES: Final = 65536
SECONDS: Final = 10.0
_AT_ONCE: Final = 64


class Responder:
    def __init__(self, port: int, host_id: str, admitted: Callable[[IPv4Address], bool]) -> None:
        self._id = host_id
        self._admitted = admitted
        self._places = threading.BoundedSemaphore(_AT_ONCE)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind(("0.0.0.0", port))
        except OSError as error:
            self._socket.close()
            raise NetiError(
                f"verify_port {port} cannot be used ({error.strerror}): "
                "peers' neti verify will not reach this host"
            ) from error
        self._socket.listen(128)
        self._thread = threading.Thread(target=self._run, name="neti-responder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _run(self) -> None:
        while True:
            try:
                connection, (address, _port) = self._socket.accept()
            except OSError:
                return
            if not self._admitted(IPv4Address(address)) or not self._places.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._serve, args=(connection, address), daemon=True).start()

    def _serve(self, connection: socket.socket, address: str) -> None:
        try:
            with connection, contextlib.suppress(OSError):
                connection.settimeout(SECONDS)
                receive_exactly(connection, TRANSFER_BYTES)
                arrived_at = connection.getsockname()[0]
                said = {"id": self._id, "seen_from": address, "arrived_at": arrived_at}
                connection.sendall(json.dumps(said).encode() + b"\n" + bytes(TRANSFER_BYTES))
        finally:
            self._places.release()


def receive_exactly(connection: socket.socket, count: int) -> None:
    """Read and forget ``count`` bytes; ConnectionError when the other side stops before."""
    while count > 0:
        part = connection.recv(min(count, 65536))
        if not part:
            raise ConnectionError("closed in the middle of the transfer")
        count -= len(part)
