"""What agents ask after an outage in which all sessions ended: by whom, how much, how far apart.

Whole agents in namespaces of their own, over TLS. The network to ZooKeeper is away for so long that
every session ends; then all come back, and each has to hear again who is there. The other side is
the same agent without proof, in a fleet of its own right after.
"""

import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from drills.certified import Operator
from drills.drill import Run
from drills.field import Field
from drills.waiting import wait_for

from benchmarks.figures import Line, Report, once
from benchmarks.measured_agent import PROOF, QUESTIONS
from benchmarks.scale import Scale, say
from drills import plan
from neti_lab import namespaces

NAME: Final = "outage"
TITLE: Final = "After an outage of all sessions: what agents ask"
_PROGRAM: Final = "benchmarks.measured_agent"
_AWAY: Final = 12.0  # seconds: three times as long as a session lasts here
_PATIENCE: Final = 120.0


@dataclass(frozen=True, slots=True)
class Seen:
    """``reads``: nodes of each member and each agent; ``busiest``: the share of all that was asked
    in the second with the most; ``back``: seconds until everybody has everybody again."""

    reads: float
    of_leases: float
    of_entries: float
    of_records: float
    busiest: float
    back: float


def run(scale: Scale) -> Report:
    report = Report(TITLE)
    count = min(scale.agents, plan.MAX_HOSTS)
    after = 75.0 if scale.seconds >= 1 else 5.0
    proved = _play(count, (), after)
    believed = _play(count, ("env", f"{PROOF}=off"), after)
    report.compare(
        [
            Line(f"{count} agents: {what}", once(ours), once(other), scaled, unit)
            for what, ours, other, scaled, unit in (
                ("nodes read, a member and agent", proved.reads, believed.reads, 1.0, ""),
                ("  leases", proved.of_leases, believed.of_leases, 1.0, ""),
                ("  entries", proved.of_entries, believed.of_entries, 1.0, ""),
                ("  records", proved.of_records, believed.of_records, 1.0, ""),
                ("  in the busiest second", proved.busiest, believed.busiest, 100.0, "%"),
                ("until all have all again", proved.back, believed.back, 1.0, "s"),
            )
        ],
        ours="proved",
        other="not proved",
    )
    return report


def _play(count: int, around: Sequence[str], after: float) -> Seen:
    with ExitStack() as stack:
        run_ = stack.enter_context(Run("outage", scale="full", seed=0))
        asked = run_.folder()
        words = [*(around or ("env",)), f"{QUESTIONS}={asked}"]
        say(f"outage: a field of {count} hosts")
        field = stack.enter_context(
            Field(run_, hosts=count, registry="closed", others=plan.MASQUERADE)
        )
        operator = Operator(field)
        operator.says("registry", "init")
        for host in field.hosts:
            host.agent.program = _PROGRAM
        field.start(around=words)
        operator.says("registry", "strict", "on")
        _all_have_all(field)
        say("outage: away")
        _link(field, "down")
        time.sleep(_AWAY)
        _link(field, "up")
        began = time.monotonic()
        say("outage: back")
        _all_have_all(field)
        back = time.monotonic() - began
        time.sleep(max(0.0, began + after - time.monotonic()))
        return _seen(asked, began, count, back)


def _all_have_all(field: Field) -> None:
    everybody = {host.id for host in field.hosts}
    for host in field.hosts:
        wait_for(
            lambda host=host: (  # type: ignore[misc]  # a default in a lambda
                host.status()["registered"]
                and not host.status()["lost"]
                and host.member_ids() >= everybody - {host.id}
            ),
            f"{host.name} does not have everybody",
            seconds=_PATIENCE,
            every=0.5,
        )


def _link(field: Field, state: str) -> None:
    words = ["ip", "link", "set", "switch", state]
    subprocess.run(namespaces.command_inside(field.street, words), check=True)


def _seen(asked: Path, began: float, count: int, back: float) -> Seen:
    kinds, seconds = [0, 0, 0], Counter[int]()
    for file in asked.iterdir():
        for line in file.read_text().splitlines():
            at, *numbers = line.split()
            if float(at) >= began:
                kinds = [before + int(more) for before, more in zip(kinds, numbers, strict=True)]
                seconds[int(float(at) - began)] += sum(map(int, numbers))
    pairs, total = count * (count - 1), sum(kinds)
    leases, entries, records = (kind / pairs for kind in kinds)
    busiest = max(seconds.values(), default=0) / max(1, total)
    return Seen(total / pairs, leases, entries, records, busiest, back)
