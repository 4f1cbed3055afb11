"""Row 6: connections while the fleet changes: 200 changes a second, and an address that flips.

A program makes one connection after the other to a member's overlay address, from the host that
follows the registry. The member answers at both of its addresses, so that every failed connection
is the fault of the rules.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

from benchmarks import measure, registry
from benchmarks.figures import US, Line, Report, Times, once
from benchmarks.fleet import moved
from benchmarks.measure import Fleet
from benchmarks.pairs import background
from benchmarks.scale import Scale, say
from benchmarks.sides import neti, old
from benchmarks.stage import Stage
from benchmarks.svg import Bars
from neti.model import Member
from neti_lab import namespaces

NAME: Final = "under_load"
TITLE: Final = "Connections while the fleet changes"
_CHANGES: Final = 200.0  # a second
_FLIPS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Phase:
    connect: Times
    failed: int


class Caller:
    """Connects without end; what it said is read by a thread."""

    def __init__(self, namespace: str, member: Member) -> None:
        words = [sys.executable, "-m", "benchmarks.talk", "endless", str(member.overlay)]
        self._process = subprocess.Popen(
            namespaces.command_inside(namespace, words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._said: list[tuple[float, float, bool]] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            at, took, good = line.split()
            self._said.append((float(at), float(took), good == b"1"))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()

    def during(self, began: float, ended: float) -> Phase:
        mine = [(took, good) for at, took, good in self._said if began <= at < ended]
        return Phase(
            Times([took for took, good in mine if good]), sum(not good for _, good in mine)
        )


def run(scale: Scale) -> Report:
    report = Report(TITLE)
    size = scale.largest
    with Stage() as stage, ExitStack() as stack:
        fleet = Fleet(stage)
        fleet.grow(size)
        target = fleet.members[0]
        _serve(stage, stack, target)
        say(f"under_load: {size:,} members, Neti")
        with neti(stage) as side:
            measure.wait_until_known(stage, side.agent, size)
            ours = _phases(stage, stage.host, fleet, scale.seconds * 2)
        say(f"under_load: {size:,} members, the 2014 pipeline")
        with old(stage):
            other = _phases(stage, stage.old, fleet, scale.seconds * 2)
    lines = []
    for what, mine in ours.items():
        theirs = other[what]
        lines += [
            Line(f"{size:,}: connection, {what}", mine.connect, theirs.connect, US, "µs"),
            Line("  failed", once(mine.failed), once(theirs.failed), 1.0, ""),
        ]
    report.compare(lines, ours="Neti", other="2014 pipeline")
    report.plots["under-load"] = Bars(
        "Connections while the fleet changes: 99th percentile",
        "µs",
        [
            (
                what,
                {
                    "Neti": phase.connect.p99 * US,
                    "2014 pipeline": other[what].connect.p99 * US,
                },
            )
            for what, phase in ours.items()
        ],
        logarithmic=True,
    )
    return report


def _serve(stage: Stage, stack: ExitStack, target: Member) -> None:
    for address in (target.private, moved(target).private):
        words = ["ip", "address", "add", f"{address}/32", "dev", "eth0"]
        subprocess.run(namespaces.command_inside(stage.registry, words), check=True)
    serve = [sys.executable, "-m", "benchmarks.talk", "server"]
    background(stack, namespaces.command_inside(stage.registry, serve), ready=b"ready")


def _phases(stage: Stage, namespace: str, fleet: Fleet, seconds: float) -> dict[str, Phase]:
    joiners = fleet.joiners(50)
    caller = Caller(namespace, fleet.members[0])
    session = stage.session()
    phases = {}
    try:
        time.sleep(0.5)
        for what, rate, changes in (
            ("nothing changes", 0.0, iter(())),
            (f"{_CHANGES:.0f} changes a second", _CHANGES, _comings(session, joiners)),
            (f"its address flips {_FLIPS:.0f} times a second", _FLIPS, _flips(session, fleet)),
        ):
            began = time.perf_counter()
            _paced(changes, rate, seconds)
            time.sleep(0.2)
            phases[what] = caller.during(began, time.perf_counter() - 0.1)
    finally:
        session.close()
        caller.close()
    return phases


def _paced(changes: Iterator[Callable[[], int]], rate: float, seconds: float) -> None:
    """At least one full turn, which leaves everything as it was found."""
    began = time.perf_counter()
    if not rate:
        time.sleep(seconds)
        return
    number = 0
    while time.perf_counter() - began < seconds or number % 2:
        next(changes)()
        number += 1
        time.sleep(max(0.0, began + number / rate - time.perf_counter()))


def _comings(session: registry.Session, joiners: Sequence[Member]) -> Iterator[Callable[[], int]]:
    while True:
        for joiner in joiners:
            for send in (registry.send_join, registry.send_leave):
                yield partial(_one, session, partial(send, session, joiner))


def _one(session: registry.Session, send: Callable[[], int]) -> int:
    count = send()
    session.finish(count)
    return count


def _flips(session: registry.Session, fleet: Fleet) -> Iterator[Callable[[], int]]:
    """Of the first member; the fleet keeps what the registry holds."""
    while True:
        yield lambda: _flip(session, fleet)


def _flip(session: registry.Session, fleet: Fleet) -> int:
    now, then = fleet.members[0], moved(fleet.members[0])
    count = registry.send_move(session, now, then, stays=True)
    session.finish(count)
    fleet.members[0] = then
    return count
