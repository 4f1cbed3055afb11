"""Row 3: an agent's start with everybody in ZooKeeper, and an hour's changes in a shorter time.

The soak is shortened by rate: an hour at 5 changes a second is 18,000 changes, and so many are
made, as fast as ``_SOAK_RATE`` allows. What depends on the time that passes and not on changes
(idle CPU, the audits of every minute) is measured apart, while nothing happens.
"""

import time
from typing import Final

from benchmarks import measure, registry
from benchmarks.figures import Line, Report, Times, once
from benchmarks.measure import Fleet, Start
from benchmarks.scale import Scale, say
from benchmarks.sides import NetiSide, neti, old
from benchmarks.stage import Stage

NAME: Final = "agent_start"
TITLE: Final = "An agent's start, its memory, and a soak"
_SOAK_RATE: Final = 300.0  # changes a second
_HOUR: Final = 3600 * 5


def run(scale: Scale) -> Report:
    report = Report(TITLE)
    lines: list[Line] = []
    with Stage() as stage:
        fleet = Fleet(stage)
        for size in scale.sizes:
            say(f"agent_start: {size:,} members")
            fleet.grow(size)
            started = Start()
            for _ in range(scale.starts):
                measure.start(stage, fleet, started)
            other = Times()
            for _ in range(scale.starts):
                began = time.perf_counter()
                with old(stage) as side:
                    other.each.append(float(side.last["at"]) - began)
            lines += [
                Line(f"{size:,}: start to rules in place", Times(started.seconds), other, 1.0, "s"),
                Line(f"{size:,}: until idle, leases read", Times(started.settled), None, 1.0, "s"),
                Line(f"{size:,}: CPU until idle", Times(started.cpu), None, 1.0, "s"),
                Line(f"{size:,}: a join half way there", Times(started.join), None),
                Line(f"{size:,}: resident then", Times(started.mib), None, 1.0, "MiB"),
                Line(f"{size:,}: resident at most", Times(started.peak_mib), None, 1.0, "MiB"),
            ]
        changes = int(min(_HOUR, scale.seconds * 12 * _SOAK_RATE))
        say(f"agent_start: soak of {changes:,} changes")
        with neti(stage) as side:
            measure.wait_until_known(stage, side.agent, len(fleet.members))
            lines += _soak(stage, fleet, side, changes)
            lines += _idle(side, max(2.0, scale.seconds * 8))
    report.compare(lines, ours="Neti", other="2014 pipeline")
    return report


def _soak(stage: Stage, fleet: Fleet, side: NetiSide, changes: int) -> list[Line]:
    joiners = fleet.joiners(min(100, changes))
    session = stage.session()
    before, _ = side.agent.memory_mib()
    # Whether it goes on growing, which the first and the last look alone would not tell.
    quarters = {changes * part // 4: 0.0 for part in (1, 2, 3)}
    cpu, began, late = side.cpu(), time.perf_counter(), 0.0
    try:
        for number in range(changes):
            due = began + number / _SOAK_RATE
            late = max(late, time.perf_counter() - due)
            time.sleep(max(0.0, due - time.perf_counter()))
            turn, leaving = divmod(number, 2)
            send = registry.send_leave if leaving else registry.send_join
            session.finish(send(session, joiners[turn % len(joiners)]))
            if number in quarters:
                quarters[number] = side.agent.memory_mib()[0]
        took = time.perf_counter() - began
        side.agent.wait_until_idle()
    finally:
        session.close()
    after, most = side.agent.memory_mib()
    return [
        Line(f"soak of {changes:,} changes: took", once(took), None, 1.0, "s"),
        Line("  CPU of one change", once((side.cpu() - cpu) / changes), None),
        Line("  resident before", once(before), None, 1.0, "MiB"),
        *(
            Line(f"  resident after {part} of 4 parts", once(held), None, 1.0, "MiB")
            for part, held in enumerate(quarters.values(), 1)
        ),
        Line("  resident after", once(after), None, 1.0, "MiB"),
        Line("  resident at most", once(most), None, 1.0, "MiB"),
    ]


def _idle(side: NetiSide, seconds: float) -> list[Line]:
    cpu = side.cpu()
    time.sleep(seconds)
    share = (side.cpu() - cpu) / seconds * 100
    return [Line(f"idle for {seconds:.0f} s: CPU of one core", once(share), None, 1.0, "%")]
