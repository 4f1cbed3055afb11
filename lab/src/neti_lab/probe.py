"""Traffic from inside a namespace: requests to the lab's web services, counted and timed.

As a program (``python -m neti_lab.probe watch|first|refused ADDRESS``) it is started inside a
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
from typing import Final

from neti_lab.topology import WEB_PORT

REQUEST_SECONDS: Final = 2.0
_REQUEST: Final = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n"
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


def fetch(address: str, *, seconds: float = REQUEST_SECONDS) -> Reply:
    """One request on a connection of its own. OSError when it fails."""
    with connect(address, seconds=seconds) as connection:
        return ask(connection)


def watch(address: str, *, every: float, ended: Callable[[float], bool]) -> dict[str, Tally]:
    """Until ``ended``: again and again a new connection, and one long one all the while.

    ``ended`` waits for that many seconds at most. A long connection that broke is not replaced:
    every further request that it should have carried has failed.
    """
    requests, stream = Tally(), Tally()
    with contextlib.ExitStack() as stack:
        # That the first request works is the caller's condition, not a finding.
        long = stack.enter_context(connect(address))
        ask(long)
        print("ready", flush=True)
        due = time.monotonic()
        while True:
            requests.count(_problem(lambda: fetch(address)), time.monotonic())
            stream.count(_problem(lambda: ask(long)), time.monotonic())
            due = max(due + every, time.monotonic())
            if ended(due - time.monotonic()):
                return {"requests": requests, "stream": stream}


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
    if mode == "watch":
        tallies = watch(address, every=float(rest[0]), ended=_input_ended)
        print(json.dumps({name: asdict(tally) for name, tally in tallies.items()}))
        return
    print("ready", flush=True)
    result = {"first": first, "refused": refused}[mode](address, ended=_input_ended)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
