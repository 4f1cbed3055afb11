"""A lab whose hosts have networks but no agents yet: what rolls Neti out has something to do."""

import itertools
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.netns import require_root
from tests.support.playbooks import Controller

from neti_lab import agents, lifecycle
from neti_lab.state import LabState, open_state
from neti_lab.topology import LabHost, LabPlan, plan_lab

_numbers = itertools.count(1)
PYTHON = sys.executable
NETI = str(Path(sys.executable).parent / "neti")


@dataclass
class Site:
    """A lab, the folder that stands for its hosts' disks, and the controller."""

    state: LabState
    plan: LabPlan
    disks: Path
    controller: Controller

    def disk(self, host: str) -> Path:
        return self.disks / host

    def settings(self, host: LabHost, **changed: Any) -> dict[str, Any]:
        """neti.yml of a host, as a mapping."""
        document = agents.configuration(self.plan, host, state=self.state)
        return {**document, "table_files_path": str(self.disk(host.name) / "state"), **changed}

    def variables(self, host: LabHost, **changed: Any) -> dict[str, Any]:
        """The host's in the inventory; ``changed``: keys of neti.yml."""
        disk, config = self.disk(host.name), str(self.disk(host.name) / "etc/neti.yml")
        daemon = f"/sbin/start-stop-daemon --pidfile {disk}/agent.pid"
        return {
            "ansible_connection": "neti.fleet.lab",
            "neti_lab": self.plan.name,
            "ansible_become": False,
            "ansible_python_interpreter": PYTHON,
            "neti_install_from": "none",
            "neti_command": NETI,
            "neti_agent_config": self.settings(host, **changed),
            "neti_agent_config_file": config,
            "neti_agent_group": "root",
            "neti_service_manager": "command",
            "neti_agent_service_commands": {
                "status": f"{daemon} --status",
                "start": f"{daemon} --start --background --make-pidfile --output {disk}/agent.log"
                f" --startas {PYTHON} -- -m neti agent -c {config}",
                "stop": f"{daemon} --stop --retry 20",
                "reload": f"{daemon} --stop --signal HUP",
            },
        }

    def inventory(self, *names: str, **changed: Any) -> None:
        hosts = {name: self.variables(self.plan.host(name), **changed) for name in names}
        self.controller.inventory({"neti_agents": hosts})

    def pid(self, host: str) -> int:
        return int((self.disk(host) / "agent.pid").read_text())

    def log(self, host: str) -> str:
        return (self.disk(host) / "agent.log").read_text()


@pytest.fixture
def lab_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Builds a lab of so many hosts a site; it is gone after the test with all that runs in it."""
    require_root()
    if shutil.which("start-stop-daemon", path="/sbin:/usr/sbin") is None:
        pytest.skip("start-stop-daemon is not installed")
    state = open_state(f"d{os.getpid() % 10**7}x{next(_numbers)}")

    def build(hosts: int = 1, *, with_agents: bool = False) -> Site:
        plan = plan_lab(name=state.name, hosts=hosts)
        lifecycle.bring_up(state, plan, with_agents=with_agents)
        disks = tmp_path / "disks"
        for host in plan.hosts:
            (disks / host.name).mkdir(parents=True)
        return Site(state, plan, disks, Controller(tmp_path / "controller"))

    lifecycle.take_down(state)
    yield build
    lifecycle.take_down(state)
