"""Answers ``neti verify``: says who this is and whom it sees, and moves 64 KiB both ways.

For members only: a connection from any other address is closed before a byte is read. The amounts
are fixed, and bounded are the time of a whole connection, the number of connections at once, and
those of one address.

    caller sends  65536 bytes
    host answers  one JSON line {"id", "seen_from", "arrived_at"}, then 65536 bytes
"""

import json
import socket
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final

from neti.control.accepting import Acceptor, Connection
from neti.control.trouble import Trouble
from neti.errors import NetiError

TRANSFER_BYTES: Final = 65536
SECONDS: Final = 10.0
_AT_ONCE: Final = 64
_PER_SOURCE: Final = 8


class Responder:
    def __init__(
        self,
        port: int,
        host_id: str,
        admitted: Callable[[IPv4Address], bool],
        tell: Callable[[Trouble], None] = lambda _trouble: None,
    ) -> None:
        self._id = host_id
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("0.0.0.0", port))
            listener.listen(128)
        except OSError as error:
            listener.close()
            raise NetiError(
                f"verify_port {port} cannot be used ({error.strerror}): "
                "peers' neti verify will not reach this host"
            ) from error
        self.port = int(listener.getsockname()[1])
        self._acceptor = Acceptor(
            "responder",
            listener,
            self._serve,
            seconds=SECONDS,
            at_once=_AT_ONCE,
            per_source=_PER_SOURCE,
            admitted=lambda source: admitted(IPv4Address(source)),
            tell=tell,
        )

    def start(self) -> None:
        self._acceptor.start()

    def close(self) -> None:
        self._acceptor.close()

    def _serve(self, connection: Connection, source: str) -> None:
        left = TRANSFER_BYTES
        while left > 0:
            part = connection.receive(left)
            if not part:
                return
            left -= len(part)
        arrived_at = connection.socket.getsockname()[0]
        said = {"id": self._id, "seen_from": source, "arrived_at": arrived_at}
        connection.send(json.dumps(said).encode() + b"\n" + bytes(TRANSFER_BYTES))
