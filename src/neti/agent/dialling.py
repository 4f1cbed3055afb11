"""TCP connections to ports of one host, made to see what comes of each, and closed at once.

Nothing is sent or read. Must never do: connect to more ports than ``AT_MOST``, or wait longer than
it was told to.
"""

import errno
import select
import socket
import time
from collections.abc import Iterable, Mapping
from typing import Final, Literal

# "answered": the connection was made. "refused": a reset came, as where nothing listens, or an ICMP
# "port unreachable". "silent": nothing came. "unreachable": this host has no way, or was told so.
Outcome = Literal["answered", "refused", "silent", "unreachable"]
OUTCOMES: Final[Mapping[str, Outcome]] = {
    "answered": "answered",
    "refused": "refused",
    "silent": "silent",
    "unreachable": "unreachable",
}
AT_MOST: Final = 8  # ports of one host
SECONDS: Final = 1.5  # for all of them: the kernel sends a SYN again after one second (RFC 6298)


def dial(
    address: str, ports: Iterable[int], seconds: float = SECONDS
) -> dict[int, tuple[Outcome, float]]:
    """What came of each port of an IPv4 address, and after how many seconds. All are connected to
    at once. Raises OSError where this host has no more sockets. Thread-safe."""
    began = time.monotonic()
    found: dict[int, tuple[Outcome, float]] = {}
    waiting: dict[int, tuple[int, socket.socket]] = {}
    poll = select.poll()
    try:
        for port in list(dict.fromkeys(ports))[:AT_MOST]:
            one = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            waiting[one.fileno()] = port, one
            code = one.connect_ex((address, port))
            if code not in (0, errno.EINPROGRESS):
                found[port] = _outcome(code), time.monotonic() - began
                del waiting[one.fileno()]
                one.close()
            else:
                poll.register(one, select.POLLOUT)
        while waiting and (left := began + seconds - time.monotonic()) > 0:
            for number, _ in poll.poll(left * 1000):
                port, one = waiting.pop(number)
                poll.unregister(number)
                code = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                found[port] = _outcome(code), time.monotonic() - began
                one.close()
    finally:
        for _, one in waiting.values():
            one.close()
    for port, _ in waiting.values():
        found[port] = "silent", time.monotonic() - began
    return found


def _outcome(code: int) -> Outcome:
    if code == 0:
        return "answered"
    if code == errno.ECONNREFUSED:
        return "refused"
    return "silent" if code == errno.ETIMEDOUT else "unreachable"
