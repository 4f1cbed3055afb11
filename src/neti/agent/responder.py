"""Answers ``neti verify``: says who this is and whom it sees, and moves 64 KiB both ways.

For members only: a connection from any other address is closed before a byte is read. The amounts
are fixed, and bounded are the time of a whole connection, the number of connections at once, and
those of one address.

    caller sends  65536 bytes
    host answers  one JSON line {"id", "seen_from", "arrived_at"}, then 65536 bytes

The caller's bytes may begin with a JSON line {"id", "dial": [port]}, by which it asks to be
connected to (``neti verify --ports``). The answer has "dialled" then: what came of each port, none
where the caller is not who it says. An agent of a version before takes the line for any bytes, and
its answer has no such key.

Must never do: connect to anybody but who asks, at its overlay address.
"""

import json
import socket
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any, Final

from neti.agent.dialling import AT_MOST, dial
from neti.control.accepting import Acceptor, Connection
from neti.control.trouble import Trouble
from neti.errors import NetiError

TRANSFER_BYTES: Final = 65536
SECONDS: Final = 10.0
_AT_ONCE: Final = 64
_PER_SOURCE: Final = 8
_LONGEST_LINE: Final = 512  # bytes
_LAST_PORT: Final = 65535

# Where a member with this id is connected to, if it comes from this address.
OverlayOf = Callable[[IPv4Address, str], IPv4Address | None]


def _nobody(_source: IPv4Address, _host_id: str) -> None:
    return None


class Responder:
    def __init__(
        self,
        port: int,
        host_id: str,
        admitted: Callable[[IPv4Address], bool],
        tell: Callable[[Trouble], None] = lambda _trouble: None,
        overlay_of: OverlayOf = _nobody,
    ) -> None:
        """``admitted`` and ``overlay_of`` are asked by threads of connections."""
        self._id = host_id
        self._overlay_of = overlay_of
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
        left, begun = TRANSFER_BYTES, b""
        while left > 0:
            part = connection.receive(left)
            if not part:
                return
            left -= len(part)
            begun += part[: max(0, _LONGEST_LINE - len(begun))]
        arrived_at = connection.socket.getsockname()[0]
        said: dict[str, Any] = {"id": self._id, "seen_from": source, "arrived_at": arrived_at}
        if (asked := _asked(begun)) is not None:
            said["dialled"] = self._dialled(source, *asked)
        connection.send(json.dumps(said).encode() + b"\n" + bytes(TRANSFER_BYTES))

    def _dialled(self, source: str, host_id: str, ports: list[int]) -> dict[str, str]:
        overlay = self._overlay_of(IPv4Address(source), host_id)
        if overlay is None:
            return {}
        found = dial(str(overlay), ports)
        return {str(port): outcome for port, (outcome, _) in found.items()}


def _asked(begun: bytes) -> tuple[str, list[int]] | None:
    """Who asks to be connected to, and at which ports; None: nobody does. Another host wrote it."""
    line, end, _ = begun.partition(b"\n")
    if not end or not line.startswith(b"{"):
        return None
    try:
        said = json.loads(line)
        host_id, ports = said["id"], said["dial"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(host_id, str) or not isinstance(ports, list) or len(ports) > AT_MOST:
        return None
    if not all(type(port) is int and 0 < port <= _LAST_PORT for port in ports):
        return None
    return host_id, ports
