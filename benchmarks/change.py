"""Row 1: one change, from the write to the registry until it is in a peer's kernel.

Both sides follow one ZooKeeper and are measured in turn, never at once: two cores would make them
wait for each other.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from benchmarks import measure, registry
from benchmarks.figures import MS, Line, Report, Times, once
from benchmarks.fleet import moved
from benchmarks.kernel import Kind
from benchmarks.measure import Fleet
from benchmarks.scale import Scale, say
from benchmarks.sides import Side, neti, old
from benchmarks.stage import Stage
from benchmarks.svg import Bars, Lines
from neti.model import Member

NAME: Final = "change"
TITLE: Final = "One change, from the registry write to a peer's kernel"
# Between two changes, so that each finds everybody idle: after a change of address the agent has
# the kernel walk its whole connection table, some 10 to 20 ms.
_PAUSE: Final = 0.05
_SETTLE: Final = 1.0
_WEIGHED: Final = 30  # rounds in which bytes are counted too, which takes a program each time
_KINDS: Final = ("join", "address change", "leave")


@dataclass(slots=True)
class Seen:
    """What one side took for changes of one fleet's size. ``whole``: CPU of one change with all
    that follows later (journal, a look after departures), the mean of all three kinds."""

    times: dict[str, Times] = field(default_factory=lambda: {kind: Times() for kind in _KINDS})
    cpu: dict[str, Times] = field(default_factory=lambda: {kind: Times() for kind in _KINDS})
    received: dict[str, Times] = field(default_factory=lambda: {kind: Times() for kind in _KINDS})
    whole: float = 0.0


def run(scale: Scale) -> Report:
    report = Report(TITLE)
    latency: dict[str, list[tuple[float, float]]] = {"Neti": [], "2014": []}
    cpu: list[tuple[str, dict[str, float]]] = []
    with Stage() as stage:
        fleet = Fleet(stage)
        fleet.grow(min(scale.sizes))
        write = measure.zookeeper_alone(stage, scale.rounds)
        lines = [Line("one write to this ZooKeeper, nobody watching", write, None)]
        for size in scale.sizes:
            say(f"change: {size:,} members")
            fleet.grow(size)
            with neti(stage) as side:
                measure.wait_until_known(stage, side.agent, size)
                ours = _measure(stage, fleet, side, scale.rounds, warm=min(20, scale.rounds))
            with old(stage) as pipeline:
                other = _measure(stage, fleet, pipeline, scale.slow_rounds, warm=2)
            lines += _lines(size, ours, other)
            latency["Neti"].append((size, ours.times["join"].median * MS))
            latency["2014"].append((size, other.times["join"].median * MS))
            cpu.append(
                (
                    f"{size:,} members",
                    {
                        "Neti": ours.cpu["join"].median * MS,
                        "2014 pipeline": other.cpu["join"].median * MS,
                    },
                )
            )
            bare = measure.by_libnftables(stage, fleet.members, scale.rounds)
            lines.append(
                Line(f"{size:,}: join, against libnftables alone", ours.times["join"], bare.join)
            )
    report.compare(lines, ours="Neti", other="2014 pipeline")
    report.plots["change-latency"] = Bars(
        "A join, from the registry write to the kernel: median",
        "ms",
        [
            (f"{int(size):,} members", {"Neti": at, "2014 pipeline, without its pause": then})
            for (size, at), (_, then) in zip(latency["Neti"], latency["2014"], strict=True)
        ],
        logarithmic=True,
    )
    report.plots["change-cpu"] = Bars(
        "CPU of one host for one join: median", "ms", cpu, logarithmic=True
    )
    report.plots["change-growth"] = Lines(
        "A join in the 2014 pipeline and in Neti, by fleet size", "ms", "members", latency
    )
    return report


def _lines(size: int, ours: Seen, other: Seen) -> list[Line]:
    lines = []
    for kind in _KINDS:
        lines += [
            Line(f"{size:,}: {kind}", ours.times[kind], other.times[kind]),
            Line(f"{size:,}:   its CPU", ours.cpu[kind], other.cpu[kind]),
            Line(
                f"{size:,}:   bytes from ZooKeeper",
                ours.received[kind],
                other.received[kind],
                1.0,
                "B",
            ),
        ]
    whole = once(ours.whole), once(other.whole)
    return [*lines, Line(f"{size:,}: CPU with what follows (mean)", *whole)]


def _measure(stage: Stage, fleet: Fleet, side: Side, rounds: int, *, warm: int) -> Seen:
    session = stage.session()
    seen = Seen()
    joiners = fleet.joiners(warm + rounds)
    try:
        for joiner in joiners[:warm]:
            _round(side, session, joiner, Seen(), weigh=True)
        time.sleep(_SETTLE)
        side.ready()
        cpu = side.cpu()
        for number, joiner in enumerate(joiners[warm:]):
            _round(side, session, joiner, seen, weigh=number < _WEIGHED)
        time.sleep(_SETTLE)
        side.ready()
        seen.whole = (side.cpu() - cpu) / (rounds * len(_KINDS))
    finally:
        session.close()
    return seen


def _round(
    side: Side, session: registry.Session, joiner: Member, into: Seen, *, weigh: bool
) -> None:
    there = moved(joiner)
    steps: tuple[tuple[str, Kind, Member, Callable[[], int]], ...] = (
        ("join", "added", joiner, lambda: registry.send_join(session, joiner)),
        ("address change", "added", there, lambda: registry.send_move(session, joiner, there)),
        ("leave", "removed", there, lambda: registry.send_leave(session, there)),
    )
    for name, kind, member, send in steps:
        side.ready()
        received = side.received() if weigh else 0
        cpu, started = side.cpu(), time.perf_counter()
        count = send()
        into.times[name].each.append(side.wait(kind, member) - started)
        session.finish(count)
        time.sleep(_PAUSE)
        into.cpu[name].each.append(side.cpu() - cpu)
        if weigh:
            into.received[name].each.append(side.received() - received)
