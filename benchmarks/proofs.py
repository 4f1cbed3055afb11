"""What it costs that an agent believes only what hosts' records name: the same agent without that.

Both sides are today's agent, over TLS, on one ZooKeeper where each member is vouched for by its
record; one of them reads no records, as agents without TLS do. They run in turns, on the same host.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from benchmarks import registry
from benchmarks.figures import Line, Report, Times
from benchmarks.measure import Fleet
from benchmarks.measured_agent import PROOF
from benchmarks.scale import Scale, say
from benchmarks.sides import NetiSide
from benchmarks.stage import Stage
from neti.model import Member

NAME: Final = "proofs"
TITLE: Final = "Only what hosts' records name is believed: a start, and a join"
_PROGRAM: Final = "benchmarks.measured_agent"
_WITHOUT: Final = ("env", f"{PROOF}=off")
_PAUSE: Final = 0.05  # between two joins, so that each finds everybody idle
_WARM_UP: Final = 3
_WEIGHED: Final = 10  # joins in each turn whose bytes are counted, which takes a program each time
_PATIENCE: Final = 120.0


@dataclass(slots=True)
class Seen:
    start: Times = field(default_factory=Times)
    start_cpu: Times = field(default_factory=Times)
    settled_cpu: Times = field(default_factory=Times)
    join: Times = field(default_factory=Times)
    join_cpu: Times = field(default_factory=Times)
    received: Times = field(default_factory=Times)


def run(scale: Scale) -> Report:
    report = Report(TITLE)
    lines: list[Line] = []
    with Stage(certified=True) as stage:
        fleet = Fleet(stage, records=True)
        for size in scale.sizes:
            fleet.grow(size)
            proved, believed = Seen(), Seen()
            for turn in range(scale.starts):
                say(f"proofs: {size:,} members, turn {turn + 1} of {scale.starts}")
                for seen, around in ((proved, ()), (believed, _WITHOUT)):
                    _turn(stage, fleet, seen, around, max(1, scale.rounds // scale.starts))
            lines += [
                Line(f"{size:,}: start to rules in place", proved.start, believed.start, 1.0, "s"),
                Line(f"{size:,}:   CPU until then", proved.start_cpu, believed.start_cpu, 1.0, "s"),
                Line(
                    f"{size:,}:   CPU until idle",
                    proved.settled_cpu,
                    believed.settled_cpu,
                    1.0,
                    "s",
                ),
                Line(f"{size:,}: join", proved.join, believed.join),
                Line(f"{size:,}:   its CPU", proved.join_cpu, believed.join_cpu),
                Line(
                    f"{size:,}:   bytes from ZooKeeper, with TLS",
                    proved.received,
                    believed.received,
                    1.0,
                    "B",
                ),
            ]
        lines.append(_without_tls(stage, fleet, scale))
    report.compare(lines, ours="proved", other="not proved")
    return report


def _without_tls(stage: Stage, fleet: Fleet, scale: Scale) -> Line:
    """The same bytes without TLS's frames, which the figure of a join is about: ZooKeeper's own."""
    proved, believed = Seen(), Seen()
    for seen, mode in ((proved, "strict"), (believed, "off")):
        around = ("env", f"{PROOF}={mode}")
        _turn(stage, fleet, seen, around, min(_WEIGHED, scale.rounds), plain=True)
    what = f"{len(fleet.members):,}:   bytes from ZooKeeper, without TLS"
    return Line(what, proved.received, believed.received, 1.0, "B")


def _turn(
    stage: Stage,
    fleet: Fleet,
    into: Seen,
    around: tuple[str, ...],
    rounds: int,
    *,
    plain: bool = False,
) -> None:
    """One agent's life: a first start, then joins."""
    overlays = {present.overlay for present in fleet.members}
    joiners = fleet.joiners(_WARM_UP + rounds)
    with _started(stage, around, plain=plain) as (side, began):
        done = side.wait_all(overlays, seconds=_PATIENCE)
        into.start_cpu.each.append(side.cpu())
        into.start.each.append(done - began)
        side.agent.wait_until_idle()
        into.settled_cpu.each.append(side.cpu())
        session = stage.session()
        try:
            for number, joiner in enumerate(joiners):
                seen = into if number >= _WARM_UP else Seen()
                _join(side, session, joiner, seen, weigh=number < _WARM_UP + _WEIGHED)
        finally:
            session.close()


@contextlib.contextmanager
def _started(
    stage: Stage, around: tuple[str, ...], *, plain: bool
) -> Iterator[tuple[NetiSide, float]]:
    events = stage.events(stage.host)
    began = time.perf_counter()
    with stage.agent(program=_PROGRAM, around=around, plain=plain) as agent:
        side = NetiSide(stage, agent, events)
        try:
            yield side, began
            agent.leave()
        finally:
            side.close()


def _join(
    side: NetiSide, session: registry.Session, joiner: Member, into: Seen, *, weigh: bool
) -> None:
    side.ready()
    received = side.received() if weigh else 0
    cpu, began = side.cpu(), time.perf_counter()
    session.send_registration(joiner)
    into.join.each.append(side.wait("added", joiner) - began)
    session.finish(1)
    time.sleep(_PAUSE)
    into.join_cpu.each.append(side.cpu() - cpu)
    if weigh:
        into.received.each.append(side.received() - received)
    session.finish(registry.send_leaving(session, joiner))
    side.wait("removed", joiner)
    session.finish(registry.send_forgotten(session, joiner))
    time.sleep(_PAUSE)
