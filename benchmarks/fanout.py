"""Row 5: how one ZooKeeper tells many sessions of a change: by the recursive watch that Neti uses,
and by a watch on the children with a new reading of all names, as in 2014.

The sessions are raw sockets in processes of their own, so that what is measured is the server and
the wire. The server has two cores, which the watching processes share.
"""

import select
import struct
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from typing import Final

from benchmarks.figures import MS, Line, Report, Times
from benchmarks.fleet import ZOOKEEPER, ZOOKEEPER_PORT
from benchmarks.measure import Fleet
from benchmarks.process import cpu_of
from benchmarks.registry import LAYOUT, send_join, send_leave
from benchmarks.scale import Scale, say
from benchmarks.stage import Stage
from benchmarks.svg import Lines
from benchmarks.watchers import WatchingSession
from neti.errors import NetiError
from neti_lab import namespaces

NAME: Final = "fanout"
TITLE: Final = "One ZooKeeper, many sessions that watch"
_BURST: Final = 100
_PATIENCE: Final = 120.0
# Above this much in one change (names read again by all) the children watch is left out: at
# 16,000 names a server takes some 10 ms for each reading, and a burst is many.
_MOST_BYTES: Final = 200_000_000
_HEAP_MIB: Final = 2048


def run(scale: Scale) -> Report:
    report = Report(TITLE)
    lines: list[Line] = []
    curves: dict[str, list[tuple[float, float]]] = {"recursive watch": [], "children watch": []}
    with Stage(heap_mb=_HEAP_MIB) as stage:
        fleet = Fleet(stage)
        fleet.grow(scale.largest)
        size = len(fleet.members)
        for sessions in scale.sessions:
            say(f"fanout: {sessions:,} sessions")
            ours = _measure(stage, fleet, sessions, "recursive", max(3, scale.slow_rounds // 2))
            heavy = sessions * size * 62 > _MOST_BYTES
            rounds = 2 if sessions * size > 2_000_000 else 4
            other = None if heavy else _measure(stage, fleet, sessions, "children", rounds)
            for what, times in ours.items():
                unit, factor = _UNITS[what.split(":")[1].strip().partition(",")[0]]
                theirs = other.get(what) if other is not None else None
                lines.append(Line(f"{sessions:,} sessions, {what}", times, theirs, factor, unit))
            curves["recursive watch"].append((sessions, ours["join: seen by all"].median * MS))
            if other is not None:
                seen = other["join: seen by all"].median * MS
                curves["children watch"].append((sessions, seen))
    report.say(f"{size:,} members are registered.", "")
    report.compare(lines, ours="recursive watch", other="children watch, re-read")
    report.plots["fanout"] = Lines(
        "A join until every session has seen it",
        "ms",
        "sessions",
        {k: v for k, v in curves.items() if v},
    )
    return report


_UNITS: Final = {
    "seen by all": ("ms", MS),
    "bytes to each": ("B", 1.0),
    "server CPU for each": ("µs", 1e6),
}


def _measure(stage: Stage, fleet: Fleet, sessions: int, kind: str, rounds: int) -> dict[str, Times]:
    result: dict[str, Times] = {}
    with ExitStack() as stack:
        crowd = Crowd(stack, stage, sessions, kind)
        session = stage.session()
        stack.callback(session.close)
        server = stage.zookeeper_process
        for what, count in (("join", 1), (f"burst of {_BURST}", _BURST)):
            took, received, cpu = Times(), Times(), Times()
            for _ in range(rounds if count == 1 else max(2, rounds // 4)):
                joiners = fleet.joiners(count)
                crowd.settle()
                before, bytes_before = cpu_of([server]), crowd.received
                began = time.perf_counter()
                for joiner in joiners:
                    send_join(session, joiner)
                session.finish(count)
                took.each.append(crowd.until_seen(len(fleet.members) + count, count) - began)
                received.each.append((crowd.received - bytes_before) / sessions)
                cpu.each.append((cpu_of([server]) - before) / sessions)
                for joiner in joiners:
                    session.finish(send_leave(session, joiner))
                crowd.settle()
            result[f"{what}: seen by all"] = took
            result[f"{what}: bytes to each"] = received
            result[f"{what}: server CPU for each"] = cpu
    return result


class Crowd:
    """A process with many sessions, told and telling by lines."""

    def __init__(self, stack: ExitStack, stage: Stage, sessions: int, kind: str) -> None:
        words = [sys.executable, "-m", "benchmarks.fanout", kind, str(sessions)]
        self._process = subprocess.Popen(
            namespaces.command_inside(stage.registry, words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        stack.callback(self._end)
        self.received = 0
        self._ask("ready?")

    def settle(self) -> None:
        """Until nothing comes any more; then counting begins anew."""
        self._ask("settle")

    def until_seen(self, names: int, changes: int) -> float:
        """When every session knew: by its event of each change, or by a list that has them all."""
        return self._ask(f"seen {names} {changes}")

    def _ask(self, what: str) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what}\n".encode())
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise NetiError("the sessions that watch have ended")
        at, received = line.split()
        self.received = int(received)
        return float(at)

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()


# --- the process with the sessions ---


class _Watchers:
    def __init__(self, kind: str, count: int) -> None:
        self.again = kind == "children"
        self.sessions: dict[int, WatchingSession] = {}
        self.poll = select.epoll()
        self.buffers: dict[int, bytearray] = {}
        self.received = 0
        self.events: dict[int, int] = {}
        self.lists: dict[int, int] = {}
        for _ in range(count):
            session = WatchingSession(str(ZOOKEEPER), ZOOKEEPER_PORT)
            number = session.fileno()
            self.sessions[number] = session
            self.buffers[number] = bytearray()
            self.poll.register(number, select.EPOLLIN)
            if self.again:
                session.send_names(LAYOUT.ip_map, watch=True)
            else:
                session.send_watch(LAYOUT.ip_map)

    def turn(self, seconds: float) -> bool:
        """Take in what is there; whether there was anything."""
        ready = self.poll.poll(seconds, 256)
        for number, _ in ready:
            self._read(number)
        return bool(ready)

    def _read(self, number: int) -> None:
        session, buffer = self.sessions[number], self.buffers[number]
        part = session.read_some()
        self.received += len(part)
        buffer += part
        while len(buffer) >= 4:
            (length,) = struct.unpack_from("!i", buffer)
            if len(buffer) < 4 + length:
                return
            xid, _, _ = struct.unpack_from("!iqi", buffer, 4)
            if xid == -1:
                self.events[number] = self.events.get(number, 0) + 1
                if self.again:
                    session.send_names(LAYOUT.ip_map, watch=True)
            elif self.again and xid > 0 and length > 20:
                (self.lists[number],) = struct.unpack_from("!i", buffer, 20)
            del buffer[: 4 + length]

    def all_seen(self, names: int, changes: int) -> bool:
        held = self.lists if self.again else self.events
        least = names if self.again else changes
        return len(held) == len(self.sessions) and min(held.values()) >= least


def _serve(kind: str, count: int) -> None:
    watchers = _Watchers(kind, count)
    asked: list[str] = []
    inbox = threading.Condition()

    def listen() -> None:
        for line in sys.stdin:
            with inbox:
                asked.append(line)

    threading.Thread(target=listen, daemon=True).start()
    pinged = time.monotonic()
    while True:
        watchers.turn(0.001)
        if time.monotonic() - pinged > 8:
            pinged = time.monotonic()
            for session in watchers.sessions.values():
                session.send_ping()
        if not asked:
            continue
        what, *numbers = asked.pop(0).split()
        if what == "seen":
            names, changes = map(int, numbers)
            deadline = time.monotonic() + _PATIENCE
            while not watchers.all_seen(names, changes) and time.monotonic() < deadline:
                watchers.turn(0.5)
        at = time.perf_counter()
        if what != "seen":
            while watchers.turn(0.3):
                pass
            watchers.events.clear()
            watchers.lists.clear()
        print(at, watchers.received, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
