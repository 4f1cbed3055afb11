"""The agent's door to gateways: a word goes out by UDP, and comes back if the gateway passes on.

It looks for answers when asked to, and waits for none. What waits in the socket is bounded by the
kernel, so a flood costs a few hundred reads.

Must never do: wait, or raise anything but NetiError.
"""

import contextlib
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Final, Protocol

from neti.errors import NetiError
from neti.ruleset.surroundings import SENT_MARK

WORD_BYTES: Final = 16
# In front of each word. WireGuard's packets begin with 1 to 4, so it drops one that strays there.
_TITLE: Final = b"neti"
_AT_MOST: Final = 1024  # datagrams read at once
_BUFFER: Final = 1 << 16  # bytes


class ProbeDoor(Protocol):
    """Not thread-safe."""

    @property
    def opened(self) -> int | None:
        """The UDP port that is held here; None: none is."""

    def open(self, port: int) -> None:
        """Unless it is open. Raises NetiError where the port cannot be had."""

    def ask(self, to: IPv4Address, word: bytes) -> bool:
        """Whether the kernel took it."""

    def answers(self) -> Iterator[tuple[bytes, IPv4Address]]:
        """Words that came since the last call, and from where."""

    def close(self) -> None: ...


class ProbeSocket:
    """In the network namespace of the thread that opens it. Needs CAP_NET_ADMIN, for the mark by
    which the rules know a probe."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._port = 0

    @property
    def opened(self) -> int | None:
        return self._port if self._socket is not None else None

    def open(self, port: int) -> None:
        if port == self.opened:
            return
        self.close()
        try:
            self._socket, self._port = _bound(port), port
        except OSError as error:
            raise NetiError(f"UDP port {port} cannot be used ({error.strerror})") from error

    def ask(self, to: IPv4Address, word: bytes) -> bool:
        if self._socket is None:
            return False
        with contextlib.suppress(OSError):
            self._socket.sendto(_TITLE + word, (str(to), self._port))
            return True
        return False

    def answers(self) -> Iterator[tuple[bytes, IPv4Address]]:
        for _ in range(_AT_MOST):
            if self._socket is None:
                return
            try:
                data, (source, port) = self._socket.recvfrom(len(_TITLE) + WORD_BYTES + 1)
            except OSError:
                return  # nothing is there
            if port == self._port and data.startswith(_TITLE):
                yield data[len(_TITLE) :], IPv4Address(source)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _bound(port: int) -> socket.socket:
    """Raises OSError, also where no file descriptor is left."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, SENT_MARK)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        made.bind(("0.0.0.0", port))
    except OSError:
        made.close()
        raise
    return made
