"""The agent's door to gateways: a word goes out by UDP, and comes back if the gateway passes on.

It looks for answers when asked to, and waits for none. Each word has a part that is the socket's
own, and the kernel keeps out of its buffer what comes without it: so a flood does not keep out the
answers, and costs no reads. Only gateways and who stands on the road see that part.

Must never do: wait, or raise anything but NetiError.
"""

import contextlib
import secrets
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Final, Protocol

from neti.dataplane.socket_filter import DROP, KEEP, attach, equals, load32
from neti.errors import NetiError
from neti.ruleset.surroundings import SENT_MARK

WORD_BYTES: Final = 8
# In front of the socket's own part, and that in front of each word. WireGuard's packets begin with
# 1 to 4, so it drops one that strays there.
_TITLE: Final = b"neti"
_OWN_BYTES: Final = 8
_UDP_HEADER: Final = 8  # a filter of a UDP socket sees it too
_AT_MOST: Final = 1024  # datagrams read at once
_BUFFER: Final = 1 << 16  # bytes


class ProbeDoor(Protocol):
    """Not thread-safe."""

    @property
    def opened(self) -> int | None:
        """The UDP port that is held here; None: none is."""

    def open(self, port: int) -> None:
        """Unless it is open. Raises NetiError where the port cannot be had."""

    def ask(self, to: IPv4Address, word: bytes) -> None:
        """Nothing is said of one that the kernel refuses: no answer will come."""

    def answers(self) -> Iterator[tuple[bytes, IPv4Address]]:
        """Words that came since the last call, and from where."""

    def close(self) -> None: ...


class ProbeSocket:
    """In the network namespace of the thread that opens it. Needs CAP_NET_ADMIN, for the mark by
    which the rules know a probe."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._port = 0
        self._title = b""

    @property
    def opened(self) -> int | None:
        return self._port if self._socket is not None else None

    def open(self, port: int) -> None:
        if port == self.opened:
            return
        self.close()
        title = _TITLE + secrets.token_bytes(_OWN_BYTES)
        try:
            self._socket, self._port, self._title = _bound(port, title), port, title
        except OSError as error:
            raise NetiError(f"UDP port {port} cannot be used ({error.strerror})") from error

    def ask(self, to: IPv4Address, word: bytes) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto(self._title + word, (str(to), self._port))

    def answers(self) -> Iterator[tuple[bytes, IPv4Address]]:
        for _ in range(_AT_MOST):
            if self._socket is None:
                return
            try:
                data, (source, port) = self._socket.recvfrom(len(self._title) + WORD_BYTES + 1)
            except OSError:
                return  # nothing is there
            if port == self._port and data.startswith(self._title):
                yield data[len(self._title) :], IPv4Address(source)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _bound(port: int, title: bytes) -> socket.socket:
    """It hears only what begins with ``title``. Raises OSError, also where no file descriptor is
    left."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, SENT_MARK)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        _keep_only(made, title)  # before anything can come
        made.bind(("0.0.0.0", port))
    except OSError:
        made.close()
        raise
    return made


def _keep_only(sock: socket.socket, title: bytes) -> None:
    numbers = [int.from_bytes(title[at : at + 4], "big") for at in range(0, len(title), 4)]
    left = 2 * len(numbers)  # steps to the last one
    steps = []
    for index, number in enumerate(numbers):
        left -= 2
        steps += [load32(_UDP_HEADER + 4 * index), equals(number, 0, left + 1)]
    attach(sock, (*steps, KEEP, DROP))
