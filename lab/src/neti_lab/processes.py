"""Processes that the lab starts: known by id and start time, so that no other is ever signalled.

Must never do: send a signal to a process whose start time is not the one that was recorded, for
the kernel gives the ids of ended processes to new ones.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neti_lab import LabError

_POLL_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    started: int  # clock ticks after boot

    @property
    def alive(self) -> bool:
        return _start_time(self.pid) == self.started

    @property
    def resident_mib(self) -> float:
        """How much memory it has; 0 when it has ended."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def catches(self, number: signal.Signals) -> bool:
        """Whether it has a handler for it by now."""
        try:
            lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        except OSError:
            return False
        caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
        return bool(int(caught, 16) >> (number - 1) & 1)

    def signal(self, number: signal.Signals) -> bool:
        """Send it the signal; False when it has ended."""
        try:
            # The descriptor holds on to whatever process it was opened for, so after the check
            # the id cannot change its meaning any more.
            descriptor = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            if not self.alive:
                return False
            signal.pidfd_send_signal(descriptor, number)
            return True
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)


def find(pid: int) -> Process | None:
    """The process that has this id now."""
    started = _start_time(pid)
    return None if started is None else Process(pid, started)


def start(command: Sequence[str], *, log: Path, record: Path) -> Process:
    """Start a background process that outlives this one; ``record`` remembers it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("ab") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
            )
    except OSError as error:
        raise LabError(f"cannot start {command[0]}: {error.strerror}") from error
    # Not reaped yet, so its entry in /proc is there even when it has failed already.
    process = Process(child.pid, _stat(child.pid)[1])
    child.returncode = 0  # its end is looked up in /proc; no warning that nobody waited for it
    remember(process, record)
    return process


def remember(process: Process, record: Path) -> None:
    record.parent.mkdir(parents=True, exist_ok=True)
    scratch = record.with_suffix(".new")
    scratch.write_text(f"{process.pid} {process.started}\n")
    scratch.replace(record)


def recall(record: Path) -> Process | None:
    """The process that ``record`` remembers, if it is still alive."""
    try:
        pid, started = record.read_text().split()
        process = Process(int(pid), int(started))
    except (OSError, ValueError):
        return None
    return process if process.alive else None


def stop(processes: Iterable[Process], *, grace: float = 3.0) -> None:
    """End them all: politely, and after ``grace`` seconds by force."""
    remaining = list(processes)
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        for process in remaining:
            process.signal(number)
            process.signal(signal.SIGCONT)  # a stopped one could not hear it
        deadline = time.monotonic() + patience
        while remaining := [process for process in remaining if process.alive]:
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_SECONDS)
    if remaining:
        raise LabError(f"process {remaining[0].pid} does not end ({len(remaining)} are left)")


def last_line(log: Path) -> str:
    """The last line of a log, for an error message."""
    with contextlib.suppress(OSError):
        lines = log.read_text(errors="replace").strip().splitlines()
        if lines:
            return lines[-1]
    return f"{log} is empty"


def _start_time(pid: int) -> int | None:
    """None when there is no such process, or it has ended and merely waits for its parent."""
    try:
        state, started = _stat(pid)
    except OSError:
        return None
    return None if state in "ZX" else started


def _stat(pid: int) -> tuple[str, int]:
    """State and start time. The second field, the program's name, may itself contain spaces."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[19])
