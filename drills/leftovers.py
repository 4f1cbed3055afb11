"""What drills leave when they are killed: namespaces, folders, mounts in them; known by name.

Must never do: touch what has not the drills' prefix, or belongs to a run that is alive.
"""

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from drills.drill import PREFIX
from neti_lab import lifecycle, namespaces, processes
from neti_lab.state import LABS, LabState

_LAB: Final = "drill"  # and behind it the process id; a lab's name has no "-"
_numbers: Final = itertools.count(1)


def new_prefix() -> str:
    """For the namespaces of one field: no other has it."""
    return f"{PREFIX}{os.getpid()}-{next(_numbers)}-"


def lab() -> LabState:
    """Of the one lab that this process may have for a drill."""
    return LabState(f"{_LAB}{os.getpid()}")


def end(names: Iterable[str]) -> None:
    """Stop whatever still runs inside these namespaces, and delete them."""
    there = [name for name in names if name in namespaces.existing(PREFIX)]
    while found := namespaces.processes_in(there) - {os.getpid()}:
        running = (processes.find(pid) for pid in found)
        processes.stop((process for process in running if process is not None), grace=1.0)
    namespaces.delete(there)


def clear() -> None:
    """What runs that were killed have left behind: namespaces, what runs in them, folders, labs."""
    end(name for name in namespaces.existing(PREFIX) if not _alive(name))
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        if not _alive(folder.name):
            _unmount(folder)
            shutil.rmtree(folder, ignore_errors=True)
    for folder in LABS.glob(f"{_LAB}*"):
        number = folder.name.removeprefix(_LAB)
        if number.isdigit() and processes.find(int(number)) is None:
            lifecycle.take_down(LabState(folder.name))


def _unmount(folder: Path) -> None:
    """Disks that a drill put there, the last one first."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for where in reversed(mounts):
        if where.startswith(f"{folder}/"):
            subprocess.run(["umount", "-l", where], check=False)


def _alive(name: str) -> bool:
    number = name.removeprefix(PREFIX).partition("-")[0]
    # A name without a number is not ours to judge.
    return not number.isdigit() or processes.find(int(number)) is not None
