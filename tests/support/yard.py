"""Real agents of one fleet: each in a namespace of its own, all on one embedded registry.

Must never do: leave a namespace or a process behind.
"""

import itertools
import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import yaml
from tests.support.agent_process import AgentProcess
from tests.support.netns import PATIENCE

from neti.control.client import AgentUnreachable
from neti.errors import NetiError
from neti.registry.embedded.registry import EmbeddedRegistry
from neti_lab import namespaces

_numbers: Final = itertools.count(1)


class Yard:
    """``session_seconds``: of every agent."""

    def __init__(self, folder: Path, *, session_seconds: float = 4.0) -> None:
        self.folder = folder
        self.path = folder / "registry.db"
        self.agents: list[AgentProcess] = []
        self._session_seconds = session_seconds
        self._registries: list[EmbeddedRegistry] = []

    # --- agents ---

    def agent(self, number: int, name: str = "", **keys: Any) -> AgentProcess:
        """One that is not started yet: host ``hN`` at 10.0.0.N. ``name``: of its folder, when
        several have one number; ``keys``: of its neti.yml."""
        folder = self.folder / (name or f"h{number}")
        folder.mkdir()
        namespace = f"netitest-{os.getpid()}-y{next(_numbers)}"
        private = str(keys.pop("private", f"10.0.0.{number}"))
        subprocess.run(["ip", "netns", "add", namespace], check=True)
        made = AgentProcess(
            namespace, config=folder / "neti.yml", state=folder / "state", log=folder / "log"
        )
        self.agents.append(made)
        commands = [
            "link set lo up",
            "link add eth0 type veth peer name wire",
            "link set wire up",
            "link set eth0 up",
            f"address add {private}/16 dev eth0",
            "route add default dev eth0",
        ]
        words = ["ip", "-n", namespace, "-batch", "-"]
        subprocess.run(words, input="\n".join(commands), text=True, check=True)
        document = {
            "site": "ec2",
            "sites": {"ec2": {"private": ["10.0.0.0/16"]}, "vpc": {"private": ["10.1.0.0/16"]}},
            "identity": {"id": f"h{number}", "private": private, "public": f"54.0.0.{number}"},
            "registry": f"embedded:{self.path}",
            "session_seconds": self._session_seconds,
            "ssh_whitelist": ["10.0.0.77/32"],
            "table_files_path": str(made.state),
            **keys,
        }
        made.config.write_text(yaml.safe_dump(document))
        return made

    def start(self, *agents: AgentProcess, around: Sequence[str] = ()) -> None:
        """Until each is registered."""
        for one in agents:
            one.start(around)
        for one in agents:
            wait(lambda one=one: one.check() or one.ask("status")["registered"])  # type: ignore[misc]  # a default in a lambda

    # --- the registry ---

    def registry(self) -> EmbeddedRegistry:
        """A further session in it, closed with the yard."""
        opened = EmbeddedRegistry(self.path, session_seconds=60.0)
        self._registries.append(opened)
        return opened

    @contextmanager
    def store(self) -> Iterator[sqlite3.Connection]:
        """Past all clients: one transaction."""
        with closing(sqlite3.connect(self.path, isolation_level=None, timeout=20)) as store:
            store.execute("BEGIN IMMEDIATE")
            yield store
            store.execute("COMMIT")

    def changes(self) -> int:
        """How many changes of names were ever written."""
        with closing(sqlite3.connect(self.path, timeout=20)) as store:
            return int(store.execute("SELECT max(sequence) FROM changes").fetchone()[0])

    # --- the end ---

    def close(self) -> None:
        for registry in self._registries:
            registry.close()
        for agent in self.agents:
            agent.kill()
            subprocess.run(["ip", "netns", "delete", agent.namespace], check=False)


def wait(true: Callable[[], Any], seconds: float = 3 * PATIENCE) -> None:
    """An agent that does not answer yet is waited for too."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if true():
                return
        except AgentUnreachable:
            pass
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)


def overlays(agent: AgentProcess) -> set[str]:
    """Which overlay addresses lead somewhere, says its kernel."""
    from neti.dataplane.nftables import NftablesDataplane

    try:
        state = namespaces.call_inside(agent.namespace, lambda: NftablesDataplane().read())
    except NetiError:
        return set()
    return set(state.elements.get("overlay", {}))


def codes(agent: AgentProcess) -> set[str]:
    """Of the problems that it names."""
    return {problem["code"] for problem in agent.ask("status")["problems"]}
