"""What hosts feel of something: work done by agents, kernels and server, and whether they change.

Must never do: count an agent that was started anew meanwhile, whose figures begin at nothing.
"""

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from drills.drill import Row
from drills.field import Field
from drills.host import FieldHost

Sets = dict[str, dict[str, str]]
_LOOK_EVERY: Final = 0.05


@dataclass(frozen=True, slots=True)
class Figures:
    """Counted so far; of two of them, what was in between."""

    seconds: float
    applies: int
    agents: float
    server: float
    reads: int

    def since(self, before: "Figures") -> "Figures":
        return Figures(
            self.seconds - before.seconds,
            self.applies - before.applies,
            self.agents - before.agents,
            self.server - before.server,
            self.reads - before.reads,
        )

    def in_so_long(self, seconds: float) -> "Figures":
        """At the same rate."""
        part = seconds / self.seconds if self.seconds else 0.0
        return Figures(
            seconds,
            round(self.applies * part),
            self.agents * part,
            self.server * part,
            round(self.reads * part),
        )


def look(field: Field, hosts: Iterable[FieldHost]) -> Figures:
    hosts = list(hosts)
    return Figures(
        time.monotonic(),
        sum(int(host.status()["applies"]) for host in hosts),
        sum(host.agent.cpu_seconds() for host in hosts),
        _server_cpu(field),
        int(float(field.servers[0].metrics().get("zk_cnt_readlatency", "0"))),
    )


def _server_cpu(field: Field) -> float:
    stat = Path(f"/proc/{field.servers[0].pid}/stat").read_text()
    fields = stat.rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def sets_of(hosts: Iterable[FieldHost]) -> dict[str, Sets]:
    return {host.name: host.sets() for host in hosts}


def moved(hosts: Iterable[FieldHost], before: dict[str, Sets]) -> list[str]:
    """Hosts whose kernel holds something else than before."""
    return [host.name for host in hosts if host.sets() != before[host.name]]


def watched(hosts: Sequence[FieldHost], before: dict[str, Sets], seconds: float) -> list[str]:
    """What changed in kernels, looked at again and again."""
    until = time.monotonic() + seconds
    while True:
        if other := moved(hosts, before):
            return [f"the sets of {', '.join(other)} changed"]
        if time.monotonic() > until:
            return []
        time.sleep(_LOOK_EVERY)


def unwell(hosts: Iterable[FieldHost]) -> list[str]:
    """Hosts whose agents do not run, are not registered, or not in step."""
    found = []
    for host in hosts:
        host.agent.check()
        status = host.status()
        if not status["registered"] or not status["registry"]["fresh"]:
            found.append(host.name)
    return found


def row(
    what: str, said: object, felt: Figures, alone: Figures, *, wrong: Sequence[str], most_reads: int
) -> Row:
    """``alone``: the same without the attacker, for another span; ``wrong``: what was found."""
    alone = alone.in_so_long(felt.seconds)
    wrong = list(wrong)
    if felt.applies > alone.applies:
        wrong.append(f"{felt.applies} transactions were applied")
    if felt.reads - alone.reads > most_reads:
        wrong.append(f"more than {most_reads} reads")
    figure = (
        f"{said}; {'; '.join(wrong) or 'sets the same everywhere'}; in {felt.seconds:.1f} s "
        f"(beside: without it) applied {felt.applies} ({alone.applies}), "
        f"reads {felt.reads} ({alone.reads}), CPU of agents {felt.agents:.2f} s "
        f"({alone.agents:.2f}), of the server {felt.server:.2f} s ({alone.server:.2f})"
    )
    return Row(what, figure, not wrong)
