"""Row 7: the embedded registry: many agents on one machine share one file.

First each is a process with a registration and a watch, as an agent has; kernels and rules are left
out, so that what is measured is the registry. Beside it stands its own idle time: renewals must not
wake everybody. Then the same number of whole agents (``whole_agents``).
"""

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import whole_agents
from benchmarks.figures import Line, Report, Times, once
from benchmarks.process import cpu_of
from benchmarks.scale import Scale, say
from neti.errors import NetiError
from neti.registry.embedded.registry import EmbeddedRegistry

NAME: Final = "embedded"
TITLE: Final = "The embedded registry: many agents, one file"
_SESSION: Final = 10.0
_PATIENCE: Final = 120.0


class Watcher:
    """A process that registers, watches, and says when it saw what."""

    def __init__(self, stack: ExitStack, path: Path, number: int) -> None:
        module = "tests.support.embedded_agent"
        words = [sys.executable, "-m", module, str(path), f"host-{number}", str(_SESSION), "watch"]
        self._process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
        )
        self.pid = self._process.pid
        self.seen: dict[str, float] = {}  # name of the entry -> time.monotonic
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        stack.callback(self._end)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            at, kind, *names = line.decode().split()
            if kind in ("Appeared", "Snapshot"):
                for name in names:
                    self.seen.setdefault(name, float(at))

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait()


def run(scale: Scale) -> Report:
    report = Report(TITLE)
    lines = [*_registry_alone(scale), *whole_agents.measure(scale)]
    report.compare(lines, ours="embedded", other="-")
    return report


def _registry_alone(scale: Scale) -> list[Line]:
    count = scale.agents
    with tempfile.TemporaryDirectory(prefix="neti-bench-") as folder, ExitStack() as stack:
        path = Path(folder) / "registry.db"
        writer = EmbeddedRegistry(path, session_seconds=60)
        stack.callback(writer.close)
        began = time.monotonic()
        say(f"embedded: starting {count} registry processes")
        watchers = [Watcher(stack, path, number) for number in range(count)]
        _until(lambda: all(len(w.seen) >= count for w in watchers))
        together = time.monotonic() - began
        first, last = Times(), Times()
        say("embedded: changes")
        for number in range(max(3, scale.rounds // 4)):
            name = f"1.{number:024x}.0.vpc.guest"
            previous = f"1.{number - 1:024x}.0.vpc.guest" if number else None
            at = time.monotonic()
            writer.register(host_id="guest", name=name, data=b"", detail=b"{}", replaces=previous)
            _until(partial(_all_saw, watchers, name))
            seen = [watcher.seen[name] - at for watcher in watchers]
            first.each.append(min(seen))
            last.each.append(max(seen))
        pids = [watcher.pid for watcher in watchers]
        say("embedded: idle")
        time.sleep(1.0)
        cpu, began = cpu_of(pids), time.monotonic()
        time.sleep(max(2.0, scale.seconds * 2))
        idle = (cpu_of(pids) - cpu) / (time.monotonic() - began) / count * 100
    alone = f"{count} registry processes alone"
    return [
        Line(f"{alone}: from start until all see all", once(together), None, 1.0, "s"),
        Line("  a change seen by the first", first, None),
        Line("  a change seen by the last", last, None),
        Line("  idle, renewing: CPU of one process", once(idle), None, 1.0, "%"),
    ]


def _all_saw(watchers: list[Watcher], name: str) -> bool:
    return all(name in watcher.seen for watcher in watchers)


def _until(so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not so():
        if time.monotonic() > deadline:
            raise NetiError("not all agents saw what was registered")
        time.sleep(0.005)
