"""Traffic from inside a namespace: requests to the lab's web services, counted and timed.

As a program (``python -m neti_lab.probe watch|talk|first|refused ADDRESS``) it is started inside a
host's namespace and measures in a process of its own, undisturbed by whoever started it; it ends
when its standard input does, so it cannot be left behind. It must never retry: a request that did
not work at once has failed.
"""

import contextlib
import json
import select
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Final

from neti_lab.marks import TCP_ASKED, UDP_ANSWERED, UDP_ASKED
from neti_lab.topology import WEB_PORT
from neti_lab.web import LONG

REQUEST_SECONDS: Final = 2.0
_DATAGRAM_SECONDS: Final = 0.5
_REQUEST: Final = b"GET / HTTP/1.1\r\nHost: lab\r\nX-Mark: %b\r\n\r\n" % TCP_ASKED
_LONG_REQUEST: Final = _REQUEST.replace(b"GET / ", b"GET /long ", 1)
_TIGHT_SECONDS: Final = 0.001


@dataclass(frozen=True, slots=True)
class Reply:
    """What a web service says: who it is, and whom it saw."""

    host: str
    seen_from: str
    reached_at: str


@dataclass(slots=True)
class Tally:
    """What became of the requests. A gap is the time between two successes."""

    requests: int = 0
    failures: int = 0
    longest_gap_ms: float = 0.0
    errors: list[str] = field(default_factory=list)  # the first few
    _last_success: float | None = None

    def count(self, error: str | None, now: float) -> None:
        self.requests += 1
        if error is not None:
            self.failures += 1
            if len(self.errors) < 3:
                self.errors.append(error)
            return
        if self._last_success is not None:
            self.longest_gap_ms = max(self.longest_gap_ms, (now - self._last_success) * 1000)
        self._last_success = now


def connect(address: str, *, seconds: float = REQUEST_SECONDS) -> socket.socket:
    connection = socket.create_connection((address, WEB_PORT), timeout=seconds)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def ask(connection: socket.socket) -> Reply:
    """One request on a connection that stays open. OSError when it fails."""
    connection.sendall(_REQUEST)
    received = b""
    while b"\r\n\r\n" not in received or not received.endswith(b"}\n"):
        chunk = connection.recv(4096)
        if not chunk:
            raise ConnectionResetError("closed in the middle of an answer")
        received += chunk
    document = json.loads(received.partition(b"\r\n\r\n")[2])
    return Reply(document["host"], document["seen_from"], document["reached_at"])


def ask_long(connection: socket.socket) -> None:
    """An answer of many packets, all of them full of marks. OSError when it fails."""
    connection.sendall(_LONG_REQUEST)
    received = bytearray()
    while len(received.partition(b"\r\n\r\n")[2]) < len(LONG):
        chunk = connection.recv(1 << 16)
        if not chunk:
            raise ConnectionResetError("closed in the middle of a long answer")
        received += chunk
    if not received.endswith(LONG):
        raise ConnectionError("another long answer than expected")


class Datagrams:
    """One UDP socket to the address; each question has a number, and so has its answer."""

    def __init__(self, address: str, *, seconds: float = _DATAGRAM_SECONDS) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(seconds)
        self._socket.connect((address, WEB_PORT))
        self._number = 0

    def ask(self) -> None:
        """One there and back. OSError when it fails."""
        self._number += 1
        number = self._number.to_bytes(8)
        self._socket.send(UDP_ASKED + number)
        while not (answer := self._socket.recv(4096)).endswith(number):
            pass  # an earlier one's, too late
        if UDP_ANSWERED not in answer:
            raise ConnectionError("another answer than expected")

    def close(self) -> None:
        self._socket.close()


def fetch(address: str, *, seconds: float = REQUEST_SECONDS) -> Reply:
    """One request on a connection of its own. OSError when it fails."""
    with connect(address, seconds=seconds) as connection:
        return ask(connection)


def watch(
    address: str, *, every: float, ended: Callable[[float], bool], all_kinds: bool = False
) -> dict[str, Tally]:
    """Until ``ended``: again and again a new connection, and one long one all the while.

    ``ended`` waits for that many seconds at most. A long connection that broke is not replaced:
    every further request that it should have carried has failed. With ``all_kinds`` datagrams and
    long answers too.
    """
    requests, stream, datagrams, transfers = Tally(), Tally(), Tally(), Tally()
    with contextlib.ExitStack() as stack:
        # That the first request works is the caller's condition, not a finding.
        long = stack.enter_context(connect(address))
        ask(long)
        bulk = stack.enter_context(connect(address)) if all_kinds else None
        udp = stack.enter_context(contextlib.closing(Datagrams(address)))
        print("ready", flush=True)
        due = time.monotonic()
        while True:
            requests.count(_problem(lambda: fetch(address)), time.monotonic())
            stream.count(_problem(lambda: ask(long)), time.monotonic())
            if bulk is not None:
                transfers.count(_problem(partial(ask_long, bulk)), time.monotonic())
                datagrams.count(_problem(udp.ask), time.monotonic())
            due = max(due + every, time.monotonic())
            if ended(due - time.monotonic()):
                if bulk is None:
                    return {"requests": requests, "stream": stream}
                return {
                    "requests": requests,
                    "stream": stream,
                    "transfers": transfers,
                    "datagrams": datagrams,
                }


def first(address: str, *, ended: Callable[[float], bool]) -> float | None:
    """When (CLOCK_MONOTONIC, the same in all processes) the address first answered."""
    while not ended(_TIGHT_SECONDS):
        with contextlib.suppress(OSError):
            fetch(address)
            return time.monotonic()
    return None


def refused(address: str, *, ended: Callable[[float], bool]) -> tuple[float, float] | None:
    """When the address first was refused, and how many seconds that refusal took."""
    while not ended(_TIGHT_SECONDS):
        began = time.monotonic()
        try:
            fetch(address)
        except ConnectionRefusedError:
            now = time.monotonic()
            return now, now - began
        except OSError:
            continue  # neither reached nor refused
    return None


def _problem(request: Callable[[], object]) -> str | None:
    try:
        request()
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _input_ended(seconds: float) -> bool:
    readable, _, _ = select.select([sys.stdin], [], [], max(seconds, 0.0))
    return bool(readable)


def main() -> None:
    mode, address, *rest = sys.argv[1:]
    if mode in ("watch", "talk"):
        every = float(rest[0])
        tallies = watch(address, every=every, ended=_input_ended, all_kinds=mode == "talk")
        print(json.dumps({name: asdict(tally) for name, tally in tallies.items()}))
        return
    print("ready", flush=True)
    result = {"first": first, "refused": refused}[mode](address, ended=_input_ended)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
