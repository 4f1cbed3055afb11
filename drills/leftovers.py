"""Namespaces of the drills: how they are named, and clearing those of a run that was killed.

Must never do: touch a namespace without the drills' prefix, or one whose run is alive.
"""

import itertools
import os
from collections.abc import Iterable
from typing import Final

from neti.lab import namespaces, processes

_PREFIX: Final = "neti-drill-"
_numbers: Final = itertools.count(1)


def new_prefix() -> str:
    """For the namespaces of one field: no other has it."""
    return f"{_PREFIX}{os.getpid()}-{next(_numbers)}-"


def end(names: Iterable[str]) -> None:
    """Stop whatever still runs inside these namespaces, and delete them."""
    there = [name for name in names if name in namespaces.existing(_PREFIX)]
    while found := namespaces.processes_in(there) - {os.getpid()}:
        running = (processes.find(pid) for pid in found)
        processes.stop((process for process in running if process is not None), grace=1.0)
    namespaces.delete(there)


def clear() -> None:
    """What runs that were killed have left behind."""
    end(name for name in namespaces.existing(_PREFIX) if not _alive(name))


def _alive(name: str) -> bool:
    number = name.removeprefix(_PREFIX).partition("-")[0]
    return number.isdigit() and processes.find(int(number)) is not None
