"""How busy this machine is, and how much longer things may take for it.

Time-outs of the lab are real. On a machine that does something else at the same time they would end
what is only slow, so a command measures first, says so, and stretches them, its children's too.
"""

import os
from typing import Final

_VARIABLE: Final = "NETI_LAB_STRETCH"
_MOST: Final = 4.0


def measure() -> tuple[float, int]:
    """The processes that wanted to run in the last minute, and the processors there are."""
    return os.getloadavg()[0], len(os.sched_getaffinity(0))


def factor_of(load: float, processors: int) -> float:
    """1 up to a process for each processor; 4 at most."""
    return min(_MOST, max(1.0, load / processors))


def stretch_time_outs() -> str:
    """Of this process and of those that it starts from now on; what to say about it."""
    load, processors = measure()
    factor = factor_of(load, processors)
    os.environ[_VARIABLE] = f"{factor:.2f}"
    said = f"this machine: {load:.1f} processes want to run on {processors} processors"
    if factor == 1:
        return f"{said}, so time-outs are as they are"
    return f"{said}: BUSY, so time-outs are {factor:.1f} times as long, and figures say less"


def stretched(seconds: float) -> float:
    """As long as that may take now. Constants of a child have it from the start."""
    return seconds * float(os.environ.get(_VARIABLE, "1"))
