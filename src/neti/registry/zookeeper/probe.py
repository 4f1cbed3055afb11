"""One ZooKeeper server asked from outside: does it answer, in which version, and to whom.

Plain sockets and no session that lasts. Must never do: write to the server, but for one nameless
node that ends with its session, or keep a connection.
"""

import re
import socket
import ssl
import struct
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from neti.model.settings import RegistryTLS
from neti.registry.zookeeper import tls

_SECONDS: Final = 3.0
_SILENT_SECONDS: Final = 1.0
_MOST: Final = 1 << 20
_VERSION: Final = re.compile(r"version: (\d+)\.(\d+)\.(\d+)")
# Protocol version 0, no zxid seen, 4 s, a new session without password, not read-only.
_HELLO: Final = struct.pack("!iqiqi16s?", 0, 0, 4000, 0, 16, bytes(16), False)
_EXISTS_ROOT: Final = struct.pack("!iii1sb", 1, 3, 1, b"/", 0)
_CLOSE: Final = struct.pack("!ii", 2, -11)
_ADD_WATCH, _CREATE, _SYNC = 106, 1, 9
_RECURSIVE: Final = 1
_EPHEMERAL: Final = 1
_EVENT: Final = -1
# Nobody has this address (RFC 5737), so nobody may read what only it may read.
_NOBODY: Final = struct.pack("!iii2si9s", 1, 31, 2, b"ip", 9, b"192.0.2.1")


@dataclass(frozen=True, slots=True)
class Place:
    """As zk_hosts has it."""

    host: str
    port: int

    @classmethod
    def of(cls, text: str) -> "Place":
        host, _, port = text.rpartition(":")
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Answer:
    """To a four-letter word: its text, or why there is none; when the certificate ends."""

    text: str
    fault: str | None = None
    expires: float | None = None


def word(place: Place, four: str, files: RegistryTLS | None) -> Answer:
    """The server's answer to a four-letter word."""
    try:
        with _connected(place, files) as connection:
            expires = None
            if isinstance(connection, ssl.SSLSocket):
                ends = (connection.getpeercert() or {}).get("notAfter")
                expires = ssl.cert_time_to_seconds(ends) if isinstance(ends, str) else None
            connection.sendall(four.encode())
            return Answer(_all_of(connection), None, expires)
    except OSError as error:
        sentence = tls.refusal(error, files) if files is not None else None
        return Answer("", sentence or str(error.strerror or error))


def version_of(srvr: str) -> tuple[int, int, int] | None:
    match = _VERSION.search(srvr)
    return (int(match[1]), int(match[2]), int(match[3])) if match is not None else None


def serves(place: Place, files: RegistryTLS | None) -> bool | None:
    """Whether a client without a certificate may do anything at this port; None: nobody answers.

    With ``files`` in TLS without a certificate of ours, else in plain.
    """
    try:
        connection = socket.create_connection((place.host, place.port), _SECONDS)
    except OSError:
        return None
    try:
        if files is not None:
            nameless = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            nameless.check_hostname = False  # who answers was checked before; here: does it let in?
            nameless.verify_mode = ssl.CERT_NONE
            connection = nameless.wrap_socket(connection)
        with connection:
            return _lets_in(connection)
    except OSError:
        return False
    finally:
        connection.close()


def takes(place: Place, files: RegistryTLS | None, length: int) -> bool | None:
    """Whether the server would read a request of that many bytes; None: nobody answers.

    It is told the length and gets nothing more: a server that takes less ends the connection.
    """
    try:
        with _connected(place, files) as connection:
            connection.sendall(struct.pack("!i", length))
            connection.settimeout(_SILENT_SECONDS)
            try:
                return bool(connection.recv(1))
            except TimeoutError:
                return True
            except OSError:
                return False
    except OSError:
        return None


def tells_names(place: Place, files: RegistryTLS | None, parent: str) -> bool | None:
    """Whether a recursive watch tells of nodes that its owner may not read (CVE-2024-23944); None
    where that cannot be tried. Makes a node below ``parent`` that nobody may read and that ends
    with this session, and watches for it."""
    try:
        with _connected(place, files) as connection:
            return _watches_unread(connection, f"{parent}/.unread-{uuid4().hex}", parent)
    except (OSError, struct.error):
        return None


def _watches_unread(connection: socket.socket, path: str, parent: str) -> bool | None:
    connection.sendall(struct.pack("!i", len(_HELLO)) + _HELLO)
    if struct.unpack_from("!i", _packet(connection), 4)[0] <= 0:
        return None
    node = _text(path) + _text("") + _NOBODY + struct.pack("!i", _EPHEMERAL)
    told = False
    for xid, (kind, body) in enumerate(
        (
            (_ADD_WATCH, _text(parent) + struct.pack("!i", _RECURSIVE)),
            (_CREATE, node),
            (_SYNC, _text(parent)),  # what the node's making caused has come before its answer
        ),
        1,
    ):
        request = struct.pack("!ii", xid, kind) + body
        connection.sendall(struct.pack("!i", len(request)) + request)
        while True:
            reply = _packet(connection)
            answered, _, code = struct.unpack_from("!iqi", reply)
            if answered == _EVENT:
                told = told or path.encode() in reply
            elif answered == xid:
                break
        if code != 0:
            return None
    connection.sendall(struct.pack("!iii", 8, 4, -11))
    return told


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("!i", len(raw)) + raw


def _lets_in(connection: socket.socket) -> bool:
    """Begin a session, read one node, end the session."""
    connection.sendall(struct.pack("!i", len(_HELLO)) + _HELLO)
    reply = _packet(connection)
    if len(reply) < 8 or struct.unpack_from("!i", reply, 4)[0] <= 0:
        return False
    connection.sendall(struct.pack("!i", len(_EXISTS_ROOT)) + _EXISTS_ROOT)
    reply = _packet(connection)
    allowed = len(reply) >= 16 and struct.unpack_from("!i", reply, 12)[0] == 0
    connection.sendall(struct.pack("!i", len(_CLOSE)) + _CLOSE)
    return allowed


def _connected(place: Place, files: RegistryTLS | None) -> socket.socket:
    address = (place.host, place.port)
    if files is None:
        return socket.create_connection(address, _SECONDS)
    return tls.connect(files, address, name=place.host, seconds=_SECONDS)


def _packet(connection: socket.socket) -> bytes:
    header = _exactly(connection, 4)
    return _exactly(connection, min(struct.unpack("!i", header)[0], _MOST))


def _exactly(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        part = connection.recv(count - len(received))
        if not part:
            raise ConnectionResetError("the server ended the connection")
        received += part
    return received


def _all_of(connection: socket.socket) -> str:
    parts: list[bytes] = []
    while sum(map(len, parts)) < _MOST:
        part = connection.recv(65536)
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode(errors="replace")
