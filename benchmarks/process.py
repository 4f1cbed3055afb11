"""Processes that are measured: what they say, and the processor time that they take.

A process' time is what the scheduler gave it: work of the network stack that was done in its
context is in it, that of the kernel's own threads is not.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from neti.errors import NetiError


@dataclass(frozen=True, slots=True)
class Done:
    output: str
    cpu: float  # seconds


def run_inside(words: Sequence[str]) -> Done:
    """To its end. NetiError when it fails."""
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout as output, process.stderr as errors:
        said, complained = output.read(), errors.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise NetiError(f"{' '.join(words[4:])}: {(complained or said).decode()[-300:]}")
    return Done(said.decode(), usage.ru_utime + usage.ru_stime)


def cpu_of(processes: Iterable[int]) -> float:
    """Seconds of all threads that live."""
    total = 0
    for process in processes:
        for path in Path(f"/proc/{process}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # a thread that has just ended
                total += int(path.read_text().split()[0])
    return total / 1e9
