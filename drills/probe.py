"""Continuous traffic to an echo server, counted.

``python probe.py ADDRESS PORT EVERY [MARK [TCP_SECONDS UDP_SECONDS]]``, the last two being how long
an answer may take.

Four kinds at once: new connections, one long TCP stream, one TCP connection that idles and is used
a single time at the very end, and UDP. All that is sent begins with MARK. Standard library only, in
a process of its own. It ends when its standard input does. Must never retry: what did not work at
once has failed, and what the kernel had to send again is counted too.
"""

import json
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

SECONDS = 2.0  # without an answer that count as lost
_ERRORS_KEPT = 1000
_TCP_INFO_BYTES = 104
_TOTAL_RETRANS = 100  # offset of tcpi_total_retrans, linux/tcp.h


@dataclass
class Tally:
    """What became of one kind of traffic. Times are CLOCK_MONOTONIC, the same in all processes."""

    sent: int = 0
    lost: int = 0
    sent_again: int = 0  # TCP segments that the kernel had to repeat
    longest_ms: float = 0.0  # the slowest answer
    errors: list[tuple[float, str]] = field(default_factory=list)
    # From the first attempt without an answer to the next answer; the last may have had none.
    away: list[tuple[float, float]] = field(default_factory=list)
    _since: float | None = None

    def count(self, attempt: Callable[[], int]) -> None:
        """One attempt; it returns how many segments were sent again."""
        self.sent += 1
        began = time.monotonic()
        try:
            self.sent_again += attempt()
        except OSError as error:
            self.lost += 1
            self._since = began if self._since is None else self._since
            if len(self.errors) < _ERRORS_KEPT:
                self.errors.append((began, f"{type(error).__name__}: {error}"))
        else:
            self.longest_ms = max(self.longest_ms, (time.monotonic() - began) * 1000)
            self.settle()

    def settle(self) -> None:
        """What was away is so until now."""
        if self._since is not None:
            self.away.append((self._since, time.monotonic()))
            self._since = None


def sent_again(connection: socket.socket) -> int:
    raw = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    return int(struct.unpack_from("=I", raw, _TOTAL_RETRANS)[0])


def dial(address: str, port: int, seconds: float = SECONDS) -> socket.socket:
    connection = socket.create_connection((address, port), seconds)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def ask(connection: socket.socket, number: int, mark: bytes = b"") -> int:
    """A few bytes there and back; nothing that is known by now was sent again."""
    sent = mark + struct.pack("!Q", number)
    connection.sendall(sent)
    received = b""
    while len(received) < len(sent):
        part = connection.recv(len(sent) - len(received))
        if not part:
            raise ConnectionResetError("closed by the other side")
        received += part
    if received != sent:
        raise ConnectionError("another answer than the question")
    return 0


def ask_udp(sock: socket.socket, number: int, mark: bytes = b"") -> int:
    """One datagram there and back; an earlier one's late answer is not this one's."""
    sent = mark + struct.pack("!Q", number)
    sock.send(sent)
    while sock.recv(256) != sent:
        pass
    return 0


class Probes:
    """Connected when it has been made: that the first request works is no finding."""

    def __init__(
        self, address: str, port: int, mark: bytes, tcp: float = SECONDS, udp: float = SECONDS
    ) -> None:
        self._target, self._mark, self._tcp = (address, port), mark, tcp
        self.stream, self.idle = dial(address, port, tcp), dial(address, port, tcp)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.udp = socket.socket(family, socket.SOCK_DGRAM)
        self.udp.settimeout(udp)
        self.udp.connect(self._target)
        for connection in (self.stream, self.idle):
            ask(connection, 0, mark)
        ask_udp(self.udp, 0, mark)
        self.tallies = {kind: Tally() for kind in ("new", "stream", "idle", "udp")}

    def connect(self, number: int) -> int:
        with dial(*self._target, self._tcp) as connection:
            ask(connection, number, self._mark)
            return sent_again(connection)

    def run(self, every: float, ended: threading.Event) -> None:
        asks: dict[str, Callable[[int], int]] = {
            "new": self.connect,
            "stream": lambda number: ask(self.stream, number, self._mark),
            "udp": lambda number: ask_udp(self.udp, number, self._mark),
        }
        threads = [
            threading.Thread(target=_repeat, args=(self.tallies[kind], ask_once, every, ended))
            for kind, ask_once in asks.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.tallies["idle"].count(lambda: ask(self.idle, 1, self._mark))
        for tally in self.tallies.values():
            tally.settle()
        for kind, connection in (("stream", self.stream), ("idle", self.idle)):
            self.tallies[kind].sent_again += sent_again(connection)


def _repeat(
    tally: Tally, ask_once: Callable[[int], int], every: float, ended: threading.Event
) -> None:
    due, number = time.monotonic(), 0
    while not ended.is_set():
        number += 1
        tally.count(lambda number=number: ask_once(number))  # type: ignore[misc]  # a default in a lambda
        due = max(due + every, time.monotonic())
        ended.wait(max(0.0, due - time.monotonic()))


def main() -> None:
    address, port, every = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    mark = sys.argv[4] if len(sys.argv) > 4 else ""
    probes = Probes(address, port, mark.encode(), *map(float, sys.argv[5:7]))
    ended = threading.Event()
    runner = threading.Thread(target=probes.run, args=(every, ended))
    runner.start()
    print("ready", flush=True)
    select.select([sys.stdin], [], [])
    ended.set()
    runner.join()
    print(json.dumps({kind: asdict(tally) for kind, tally in probes.tallies.items()}))


if __name__ == "__main__":
    main()
