"""The application of the fleet: which host has which task, and its processes, started and stopped.

The programs are ``neti_lab.shop``'s. What configuration management does to them on a real fleet
is done here: it writes their configuration, and they read it again.
"""

import json
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from neti_lab import LabError, agents, namespaces, processes
from neti_lab.busy import stretched
from neti_lab.shop import APP, CACHE, DATABASE, WEB
from neti_lab.state import LabState
from neti_lab.topology import INTERNET, STRANGER, LabHost, LabPlan

TASKS: Final = ("web", "web", "app", "app", "database", "cache")  # of hosts 1 to 6, on each side
PORTS: Final[Mapping[str, int]] = {"web": WEB, "app": APP, "database": DATABASE, "cache": CACHE}
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 60.0


class Company:
    """Not thread-safe, but for reading statistics."""

    def __init__(self, plan: LabPlan, state: LabState) -> None:
        self._plan = plan
        self._state = state
        self._folder = state.folder / "shop"
        self._folder.mkdir(exist_ok=True)
        self._documents: dict[str, dict[str, Any]] = {}

    # --- who does what ---

    def hosts(self, site: str, task: str) -> list[LabHost]:
        return [host for host in self._plan.site(site).workers if task_of(host) == task]

    def the(self, site: str, task: str) -> LabHost:
        return self.hosts(site, task)[0]

    # --- services ---

    def start(self, host: LabHost, **configuration: Any) -> None:
        """Start the host's service and wait until it listens."""
        task = task_of(host)
        if task == "database":
            configuration |= {
                "file": str(self._folder / f"{host.name}.orders"),
                "control": str(self._control(host)),
            }
        self._run(host.name, host.name, task, configuration)
        self._await_listening(host, PORTS[task])

    def configure(self, name: str, **changes: Any) -> None:
        """Change the configuration of what runs under this name; it takes it over by itself."""
        self._documents[name] |= changes
        path = self._folder / f"{name}.json"
        scratch = path.with_suffix(".new")
        scratch.write_text(json.dumps(self._documents[name]))
        scratch.replace(path)

    def configuration(self, name: str) -> Mapping[str, Any]:
        return self._documents[name]

    def stop(self, name: str) -> None:
        """By SIGTERM: it answers what it has begun, then ends."""
        process = self._state.process(f"shop-{name}")
        if process is None:
            return
        process.signal(signal.SIGTERM)
        deadline = time.monotonic() + stretched(_STOP_SECONDS)
        while process.alive:
            if time.monotonic() > deadline:
                raise LabError(f"the service of {name} does not end: {self.log(name)}")
            time.sleep(0.02)

    def runs(self, name: str) -> bool:
        return self._state.process(f"shop-{name}") is not None

    def control(self, host: LabHost, command: str) -> dict[str, Any]:
        """A database's answer to status, hand-over or promote."""
        line = [sys.executable, "-m", "neti_lab.shop", "control", str(self._control(host)), command]
        answer: dict[str, Any] = json.loads(agents.checked(line))
        return answer

    def stored(self, host: LabHost) -> list[str]:
        """The ids of all orders on a database's disk, in order."""
        lines = (self._folder / f"{host.name}.orders").read_text().splitlines()
        documents = [json.loads(line) for line in lines]
        return [document["id"] for document in documents if "id" in document]

    # --- those who call ---

    def users(self, webs: Iterable[str], rate: int) -> None:
        """The world: on the lab's internet."""
        self._run(
            "users", INTERNET, "users", {"webs": list(webs), "rate": rate, **self._out("users")}
        )

    def clients(self, host: LabHost, targets: Mapping[str, list[str]], rate: int) -> None:
        """Somebody on that host who talks to the tiers directly, all the time."""
        name = f"clients-{host.name}"
        out = self._out(name)
        self._run(name, host.name, "clients", {"targets": dict(targets), "rate": rate, **out})

    def scanner(
        self, targets: Iterable[str], *, node: str = STRANGER, name: str = "scanner"
    ) -> None:
        document = {"targets": list(targets), "stats": str(self.stats_file(name))}
        self._run(name, node, "scanner", document)

    def statistics(self, name: str) -> dict[str, Any]:
        """What it last wrote; empty before that."""
        try:
            found: dict[str, Any] = json.loads(self.stats_file(name).read_text())
        except (OSError, ValueError):
            return {}
        return found

    def stats_file(self, name: str) -> Path:
        return self._folder / f"{name}.stats"

    def trace_file(self, name: str) -> Path:
        return self._folder / f"{name}.trace"

    @property
    def orders_file(self) -> Path:
        return self._folder / "users.orders"

    def log(self, name: str) -> str:
        return processes.last_line(self._state.log(f"shop-{name}"))

    # --- within ---

    def _out(self, name: str) -> dict[str, str]:
        files = {"stats": str(self.stats_file(name)), "trace": str(self.trace_file(name))}
        return files | ({"orders": str(self.orders_file)} if name == "users" else {})

    def _control(self, host: LabHost) -> Path:
        return self._folder / f"{host.name}.control"

    def _run(self, name: str, node: str, role: str, document: dict[str, Any]) -> None:
        self._documents[name] = {"host": node, **document}
        path = self._folder / f"{name}.json"
        path.write_text(json.dumps(self._documents[name]))
        line = [sys.executable, "-m", "neti_lab.shop", role, str(path)]
        command = namespaces.command_inside(self._plan.namespace(node), line)
        processes.start(
            command,
            log=self._state.log(f"shop-{name}"),
            record=self._state.record(f"shop-{name}"),
        )

    def _await_listening(self, host: LabHost, port: int) -> None:
        deadline = time.monotonic() + stretched(_START_SECONDS)
        while not namespaces.call_inside(self._plan.namespace(host.name), lambda: _listens(port)):
            if self._state.process(f"shop-{host.name}") is None or time.monotonic() > deadline:
                raise LabError(f"the service of {host.name} does not start: {self.log(host.name)}")
            time.sleep(0.05)


def task_of(host: LabHost) -> str:
    return "gateway" if host.gateway else TASKS[host.number - 1]


def _listens(port: int) -> bool:
    """Whether somebody in the calling thread's namespace listens on this TCP port."""
    # /proc/thread-self shows the namespace of the thread that asks.
    lines = Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]
    return any(
        fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port
        for fields in (line.split() for line in lines)
    )
