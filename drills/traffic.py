"""What probes counted, as rows: nothing lost, or at which step it was."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from drills.drill import Row

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

    def at(self, moment: float) -> str:
        past = [what for began, what in self._began if began <= moment]
        return past[-1] if past else "before the first step"


def rows(about: str, result: Mapping[str, Any], steps: Steps) -> list[Row]:
    """One row for each kind of traffic."""
    found = []
    for kind, what in KINDS.items():
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
