"""One ``neti agent`` process in a network namespace: started, ended, killed, looked at.

For whoever drives a real agent from outside: benchmarks, drills. Must never do: signal a process
that it did not start, or leave one behind that it was told to end.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from neti.control import client
from neti.errors import NetiError
from neti_lab import namespaces

_IDLE_SECONDS: Final = 0.005  # of CPU in a second
_PATIENCE: Final = 60.0  # seconds, for a busy machine: nothing waits this long when it works


def cpu_seconds(pid: int) -> float:
    """User and system time of all its threads that live, to the nanosecond, and of children that
    have ended, in hundredths of a second (/proc/PID/stat, see proc(5))."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    total = sum(map(int, stat[13:15])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            total += int(path.read_text().split()[0])
    return total / 1e9


class AgentProcess:
    """It runs from ``start`` until it ends itself or is ended; then it may be started again."""

    def __init__(
        self, namespace: str, *, config: Path, state: Path, log: Path, program: str = "neti"
    ) -> None:
        """``program``: the module that is run; it takes a command line as ``neti`` does."""
        self.namespace = namespace
        self.program = program
        self.config = config
        self.state = state
        self.log = log
        self.inside: tuple[str, ...] = ()  # what stands before its command line in the namespace
        self._process: subprocess.Popen[bytes] | None = None

    # --- life ---

    def command(self) -> list[str]:
        words = [*self.inside, sys.executable, "-m", self.program]
        words += ["agent", "-c", str(self.config)]
        return namespaces.command_inside(self.namespace, words)

    def start(self, around: Sequence[str] = ()) -> None:
        """Returns at once. ``around``: a command that runs the agent's command line."""
        if self.running:
            raise NetiError(f"the agent in {self.namespace} runs already (process {self.pid})")
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*around, *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise NetiError(f"the agent in {self.namespace} was never started")
        return self._process.pid

    def check(self) -> None:
        """NetiError with its last words when it does not run."""
        if not self.running:
            raise NetiError(f"the agent in {self.namespace} does not run: {self.last_words()}")

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def hang_up(self) -> None:
        """As the unit reloads it."""
        self.signal(signal.SIGHUP)

    def kill(self) -> None:
        """As kill -9: nothing of it runs when this returns."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def end(self) -> None:
        """As the unit stops it: by SIGTERM, and by force if it hangs."""
        if self._process is None:
            return
        self._process.terminate()
        self._process.send_signal(signal.SIGCONT)
        self.wait(_PATIENCE)

    def wait(self, seconds: float) -> None:
        """Until it has ended; by force when that takes longer."""
        if self._process is None:
            return
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def leave(self) -> None:
        """As ``neti leave``: deregister and stop, so that the next one finds no earlier self."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self.ask("leave")
                break
            except NetiError:  # not registered yet
                self.check()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        self.wait(_PATIENCE)

    # --- looking at it ---

    def ask(self, command: str, **arguments: Any) -> Any:
        """What it answers on its socket. Raises NetiError."""
        return client.call(self.state, command, **arguments)

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pid)

    def wait_until_idle(self, seconds: float = 60.0) -> None:
        """Until it has done nothing for a second."""
        deadline = time.monotonic() + seconds
        used = self.cpu_seconds()
        while True:
            time.sleep(1.0)
            self.check()
            before, used = used, self.cpu_seconds()
            if used - before < _IDLE_SECONDS:
                return
            if time.monotonic() > deadline:
                raise NetiError(f"the agent is still busy after {seconds:.0f} s")

    def memory_mib(self) -> tuple[float, float]:
        """Resident now, and at most so far."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        kib = {
            name: int(rest.split()[0])
            for name, _, rest in (line.partition(":") for line in lines)
            if name in {"VmRSS", "VmHWM"}
        }
        return kib["VmRSS"] / 1024, kib["VmHWM"] / 1024

    def last_words(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        return " / ".join(lines[-3:]) or "it said nothing"
