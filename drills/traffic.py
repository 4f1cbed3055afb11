"""Probes and their echo servers, and what they counted, as rows: nothing lost, or at which step it
was."""

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from drills import echo, plan, probe
from drills.drill import Row
from neti_lab.traffic import ProbeProcess

KINDS: Final = {
    "new": "new TCP connections",
    "stream": "long TCP stream",
    "idle": "idle TCP connection, used at the end",
    "udp": "UDP echo",
}


@dataclass(slots=True)
class Steps:
    """What was done while probes ran, and when it began, so that a loss finds its cause."""

    _began: list[tuple[float, str]] = field(default_factory=list)

    def begin(self, what: str) -> None:
        self._began.append((time.monotonic(), what))

    @property
    def names(self) -> list[str]:
        return [what for _, what in self._began]

    def at(self, moment: float) -> str:
        past = [what for began, what in self._began if began <= moment]
        return past[-1] if past else "before the first step"


@contextlib.contextmanager
def serving(namespace: str, port: int = plan.PORT) -> Iterator[None]:
    """An echo server in the namespace."""
    words = [sys.executable, str(Path(echo.__file__)), str(port)]
    with ProbeProcess(namespace, words, node=namespace) as server:
        server.wait_until_ready()
        yield


@contextlib.contextmanager
def probing(
    namespace: str,
    address: object,
    *,
    port: int = plan.PORT,
    every: float = 0.01,
    mark: str = "",
    patience: tuple[float, float] = (probe.SECONDS, probe.SECONDS),
) -> Iterator[ProbeProcess]:
    """Continuous traffic from the namespace to the address; see ``drills.probe``. ``patience``:
    seconds without an answer that count as lost, by TCP and by UDP."""
    words = [sys.executable, str(Path(probe.__file__)), str(address), str(port), str(every), mark]
    with ProbeProcess(namespace, [*words, *map(str, patience)], node=namespace) as running:
        running.wait_until_ready()
        yield running


def longest_away(results: Sequence[Mapping[str, Any]], steps: Steps, kind: str) -> dict[str, float]:
    """Step -> seconds that this kind of traffic was away for somebody, at most, from then on."""
    found: dict[str, float] = {}
    for result in results:
        for began, ended in result[kind]["away"]:
            step = steps.at(began)
            found[step] = max(found.get(step, 0.0), ended - began)
    return found


def rows(
    about: str, result: Mapping[str, Any], steps: Steps, *, kinds: Iterable[str] = KINDS
) -> list[Row]:
    """One row for each kind of traffic."""
    found = []
    for kind in kinds:
        what = KINDS[kind]
        tally = result[kind]
        figure = f"{tally['lost']} of {tally['sent']} lost"
        if kind != "udp":
            figure += f", {tally['sent_again']} segments sent again"
        if tally["errors"]:
            moment, error = tally["errors"][0]
            figure += f"; first: {steps.at(moment)}: {error}"
        else:
            figure += f", slowest answer {tally['longest_ms']:.0f} ms"
        found.append(Row(f"{about}: {what}", figure, tally["lost"] == 0 and tally["sent"] > 0))
    return found
