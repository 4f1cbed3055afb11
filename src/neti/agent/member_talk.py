"""One connection to a member's responder, and how large the packets were in which it went.

TCP itself is the probe. It sends full segments with "don't fragment" set, both ways, by the very
road that traffic takes, and both ends keep to the smaller of the segment sizes that they announce
(RFC 9293, 3.7.1). So any responder can be asked, also one of an earlier version, no further port
has to be open, and nobody is sent an answer who has not shaken hands.

Must never do: believe what a member answers. It is compared, and whoever answers nonsense, or too
slowly, fails alone.
"""

import contextlib
import fcntl
import json
import socket
import struct
import termios
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from neti.agent.dialling import AT_MOST, OUTCOMES, Outcome
from neti.agent.responder import TRANSFER_BYTES
from neti.model import entry

HEADERS: Final = 40  # IPv4's and TCP's without options
_TIMESTAMPS: Final = 12  # TCP's option, padded (RFC 7323): the kernel takes it off a segment's size
_MAX_ANSWER: Final = 1024
_PIECE: Final = 500  # bytes: with all headers, less than every IPv4 host must take (576)
_STRANGE: Final = "what answers on its verify_port is not a Neti agent"
# struct tcp_info (linux/tcp.h): eight bytes, then numbers of 32 bits.
_INFO: Final = struct.Struct("=8B4I")
_HAS_TIMESTAMPS: Final = 1  # TCPI_OPT_TIMESTAMPS


@dataclass(frozen=True, slots=True)
class Answer:
    """Who answered, and from which address it saw this host. ``there``, ``back``: bytes of the
    largest packets in which 64 KiB came to it, and from it. ``dialled``: what it says came of its
    connections to ports of this host; None: it was not asked, or is of a version that makes none;
    empty: it does not know this host at the address from which it was asked."""

    id: str
    seen_from: str
    there: int
    back: int
    dialled: Mapping[int, Outcome] | None = None


class NoAnswer(ValueError):
    """What came is nothing that a Neti agent says; the message is ours."""


class Stalled(TimeoutError):
    """The member took the connection, and then the time was over.

    ``full``: bytes of the packets that both ends agreed on. ``sent``: all that this host had to
    say came to the member, so what is missing is its answer. ``round_trip``: seconds for the
    connection to be made.
    """

    def __init__(self, full: int, *, sent: bool, round_trip: float) -> None:
        super().__init__("no answer in time")
        self.full = full
        self.sent = sent
        self.round_trip = round_trip


def talk(
    overlay: str,
    port: int,
    seconds: float,
    *,
    largest: int | None = None,
    pieces: bool = False,
    begin: bytes = b"",
) -> Answer:
    """64 KiB there and back. One deadline for all of it: who sends a byte now and then holds up
    nobody. ``largest``: no packet has more bytes, in either direction. ``pieces``: this host sends
    small packets only, so that nothing but the answer's can be too large. ``begin``: how what this
    host sends begins, as by ``asking``.

    Raises Stalled, OSError, NoAnswer. Thread-safe.
    """
    began = time.monotonic()
    deadline = began + seconds
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        if largest is not None:
            size = largest - HEADERS
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, size)
        connection.settimeout(seconds)
        connection.connect((overlay, port))
        round_trip = time.monotonic() - began
        full, _ = _sizes(connection)
        try:
            _send(connection, deadline, begin, pieces=pieces)
            line = _receive(connection, deadline)
        except TimeoutError as error:
            sent = not _unsent(connection)
            _give_up(connection)
            raise Stalled(full, sent=sent, round_trip=round_trip) from error
        return _answer(line, *_sizes(connection))


def asking(host_id: str, ports: Iterable[int]) -> bytes:
    """That the member connects to these ports of this host. See ``neti.agent.responder``."""
    return json.dumps({"id": host_id, "dial": list(ports)}).encode() + b"\n"


def _send(connection: socket.socket, deadline: float, begin: bytes, *, pieces: bool) -> None:
    flags = 0
    if pieces:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        flags = socket.MSG_EOR  # the kernel puts no two of them into one segment
    left = memoryview(begin.ljust(TRANSFER_BYTES, b"\0"))
    while left:
        connection.settimeout(_left(deadline))
        left = left[connection.send(left[:_PIECE] if pieces else left, flags) :]


def _receive(connection: socket.socket, deadline: float) -> bytes:
    """The line; what comes behind it is counted."""
    received = b""
    while b"\n" not in received:
        received += _part(connection, _MAX_ANSWER, deadline)
        if len(received.partition(b"\n")[0]) > _MAX_ANSWER:
            raise NoAnswer(_STRANGE)
    line, _, rest = received.partition(b"\n")
    left = TRANSFER_BYTES - len(rest)
    while left > 0:
        left -= len(_part(connection, left, deadline))
    return line


def _part(connection: socket.socket, most: int, deadline: float) -> bytes:
    connection.settimeout(_left(deadline))
    part = connection.recv(min(most, TRANSFER_BYTES))
    if not part:
        raise ConnectionError("closed without an answer")
    return part


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.001)


def _sizes(connection: socket.socket) -> tuple[int, int]:
    """Bytes of the packets that this host sends now, and of the largest that came."""
    said = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    fields = _INFO.unpack(said)
    sending, coming = fields[10], fields[11]  # tcpi_snd_mss, tcpi_rcv_mss
    around = HEADERS + (_TIMESTAMPS if fields[5] & _HAS_TIMESTAMPS else 0)
    return sending + around, coming + around


def _unsent(connection: socket.socket) -> int:
    """Bytes that the member's kernel has not confirmed."""
    return int(struct.unpack("=i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0])


def _give_up(connection: socket.socket) -> None:
    """By a reset, which is small and arrives: the member waits for nothing any more, and neither
    kernel goes on repeating what does not pass."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))


def _answer(line: bytes, there: int = 0, back: int = 0) -> Answer:
    """As another host wrote it, which may not be a Neti agent, or a hostile one."""
    try:
        told = json.loads(line)
        host_id, seen_from = told["id"], told["seen_from"]
        if isinstance(host_id, str) and entry.HOST_ID.fullmatch(host_id):
            address = str(IPv4Address(str(seen_from)))
            return Answer(host_id, address, there, back, _dialled(told.get("dialled")))
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise NoAnswer(_STRANGE)


def _dialled(said: object) -> Mapping[int, Outcome] | None:
    """None: it says nothing of it. Raises ValueError, KeyError, TypeError."""
    if said is None:
        return None
    if not isinstance(said, dict):
        raise TypeError(_STRANGE)
    return {int(port): OUTCOMES[word] for port, word in list(said.items())[:AT_MOST]}
