"""The two sides that see the same change of the registry: Neti's agent and the 2014 pipeline.

Must never do: end a process that it did not start.
"""

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final, Protocol

from tests.support.agent_process import AgentProcess

from benchmarks.fleet import TLS_PORT, ZOOKEEPER_PORT
from benchmarks.kernel import KernelEvents, Kind, NotInTime
from benchmarks.stage import Stage
from neti.model import Member, entry
from neti_lab import namespaces

_PATIENCE: Final = 60.0


class Side(Protocol):
    """One host that follows the registry."""

    def ready(self) -> None:
        """Forget what came before the next change."""

    def wait(self, kind: Kind, member: Member, *, seconds: float = _PATIENCE) -> float:
        """When (time.perf_counter) the kernel had it."""

    def cpu(self) -> float: ...

    def received(self) -> int:
        """Bytes from ZooKeeper so far."""


class NetiSide:
    def __init__(
        self, stage: Stage, agent: AgentProcess, events: KernelEvents | None = None
    ) -> None:
        """``events``: of the host's kernel, where somebody listens since before the start."""
        self.agent = agent
        self.events: KernelEvents = events if events is not None else stage.events(stage.host)
        self._namespace = stage.host

    def close(self) -> None:
        self.events.close()

    def ready(self) -> None:
        self.events.drain()

    def wait(self, kind: Kind, member: Member, *, seconds: float = _PATIENCE) -> float:
        return self.events.wait_for(kind, member.overlay, seconds=seconds)

    def wait_all(self, overlays: set[IPv4Address], *, seconds: float) -> float:
        return self.events.wait_for_all(overlays, seconds=seconds, alive=self.agent.check)

    def cpu(self) -> float:
        return self.agent.cpu_seconds()

    def received(self) -> int:
        """As the kernel counts what came over the agent's connections: no headers of TCP."""
        ports = ["dport", "=", f":{ZOOKEEPER_PORT}", "or", "dport", "=", f":{TLS_PORT}"]
        look = ["ss", "-tinHO", *ports]
        done = subprocess.run(
            namespaces.command_inside(self._namespace, look),
            capture_output=True,
            text=True,
            check=True,
        )
        words = done.stdout.split()
        return sum(int(w.partition(":")[2]) for w in words if w.startswith("bytes_received:"))


class OldSide:
    """The 2014 pipeline's process, and what it says of each pass."""

    def __init__(self, stage: Stage) -> None:
        self._log = (stage.folder / "pipeline2014.log").open("ab")
        command = [sys.executable, "-m", "benchmarks.pipeline2014", stage.old]
        self._process = subprocess.Popen(
            namespaces.command_inside(stage.old, command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )
        self._passes: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.last: dict[str, Any] = {"cpu": 0.0, "bytes": 0, "members": 0}
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._passes.put(json.loads(line))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._log.close()

    def ready(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self.last = self._passes.get_nowait()

    def next_pass(self, *, seconds: float = _PATIENCE) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.last = self._passes.get(timeout=0.5)
                return self.last
            except queue.Empty:
                if self._process.poll() is None and time.monotonic() < deadline:
                    continue
            words = Path(self._log.name).read_text(errors="replace")[-300:]
            raise NotInTime(f"the 2014 pipeline made no pass within {seconds:.0f} s: {words}")

    def wait(self, kind: Kind, member: Member, *, seconds: float = _PATIENCE) -> float:
        name = entry.encode(member)
        while True:
            told = self.next_pass(seconds=seconds)
            if name in told[kind]:
                return float(told["at"])

    def wait_count(self, members: int, *, seconds: float = _PATIENCE) -> float:
        deadline = time.monotonic() + seconds
        while self.last["members"] != members or "at" not in self.last:
            self.next_pass(seconds=max(0.1, deadline - time.monotonic()))
        return float(self.last["at"])

    def cpu(self) -> float:
        return float(self.last["cpu"])

    def received(self) -> int:
        return int(self.last["bytes"])


@contextlib.contextmanager
def neti(stage: Stage) -> Iterator[NetiSide]:
    """A fresh agent on a fresh host; it leaves the registry behind as it found it."""
    with stage.agent() as agent:
        side = NetiSide(stage, agent)
        try:
            yield side
            agent.leave()
        finally:
            side.close()


@contextlib.contextmanager
def old(stage: Stage) -> Iterator[OldSide]:
    side = OldSide(stage)
    try:
        side.next_pass()
        yield side
    finally:
        side.close()
