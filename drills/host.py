"""One host of a field: its configuration, its agent, its kernel as seen from outside Neti."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from tests.support.agent_process import AgentProcess

from drills.drill import DrillError
from drills.plan import HostPlan
from drills.waiting import wait_for
from neti.dataplane.nftables import NftablesDataplane
from neti.host.network import ROUTE_PROTOCOL
from neti.ruleset.objects import FAMILY_TABLE, ORDERED, KernelState
from neti_lab import namespaces

T = TypeVar("T")

_REPAIRS_IN_PEACE: Final = 2


class FieldHost:
    def __init__(self, plan: HostPlan, agent: AgentProcess, document: dict[str, Any]) -> None:
        self.plan = plan
        self.name = plan.name
        self.namespace = agent.namespace
        self.container = f"{agent.namespace}-c"
        self.agent = agent
        self.document = document
        self._dataplane: NftablesDataplane | None = None
        self.configure()

    # --- configuration and agent ---

    @property
    def config(self) -> Path:
        return self.agent.config

    @property
    def id(self) -> str:
        """Who its configuration says that it is."""
        return str(self.document["identity"]["id"])

    @property
    def state(self) -> Path:
        return self.agent.state

    def configure(self, **changes: Any) -> None:
        """Write neti.yml, with these keys changed for good."""
        self.document |= changes
        scratch = self.config.with_suffix(".new")
        scratch.write_text(yaml.safe_dump(self.document, sort_keys=False))
        scratch.replace(self.config)

    def reload(self, **changes: Any) -> None:
        """Change the configuration and have it read; returns when it is in force."""
        self.configure(**changes)
        done = self._log_lines("reloaded") + self._log_lines("reload_refused")
        self.agent.hang_up()
        wait_for(
            lambda: self._log_lines("reloaded") + self._log_lines("reload_refused") > done,
            f"{self.name} does not reload: {self.agent.last_words()}",
        )

    def _log_lines(self, event: str) -> int:
        return self.agent.log.read_text(errors="replace").count(f"{event} ")

    def resyncs(self, structure: str) -> int:
        """How many times its log says that it wrote this much of the table."""
        return self.agent.log.read_text(errors="replace").count(f"structure={structure} ")

    def at_peace(self) -> None:
        """Two repairs are behind it: start the agent anew, for a third within the minute would be
        a fight, in which repairs are slow on purpose."""
        if self.status()["drift"]["repairs"] >= _REPAIRS_IN_PEACE:
            self.agent.end()
            self.agent.start()
            self.wait_until_registered()

    def wait_until_registered(self) -> None:
        def registered() -> bool:
            self.agent.check()
            return bool(self.status()["registered"])

        wait_for(registered, f"{self.name} does not register")

    def wait_until_enforced(self) -> None:
        """A trial of a few seconds that a busy machine let pass unconfirmed is begun again, as an
        operator would: whether trials are confirmed is for the drill that is about them."""

        def enforced() -> bool:
            status = self.status()
            if status["trial"] is not None and status["trial"]["state"] == "expired":
                self.neti("enforce", "--no-follow", "--anyway")
            return bool(status["stage"] == "enforced")

        wait_for(enforced, f"{self.name} is not enforced", seconds=90)

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.agent.ask("status")
        return answer

    def members(self) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = self.agent.ask("members")
        return answer

    def member_ids(self) -> set[str]:
        return {member["id"] for member in self.members()}

    @property
    def overlay(self) -> IPv4Address:
        address = self.status()["overlay"]
        if address is None:
            raise DrillError(f"{self.name} has no overlay address yet")
        return IPv4Address(address)

    def neti(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """A command line on this host."""
        command = [sys.executable, "-m", "neti", *words, "-c", str(self.config)]
        return self.command(*self.agent.inside, *command)

    # --- the kernel, past Neti ---

    def read(self) -> KernelState:
        if self._dataplane is None:
            self._dataplane = self.inside(NftablesDataplane)
        return self._dataplane.read()

    def sets(self) -> dict[str, dict[str, str]]:
        """What the sets hold that the agent orders."""
        return {where: dict(self.read().elements.get(where, {})) for where in ORDERED}

    def clean(self) -> None:
        """As a host that never had an agent: nothing on disk, in the kernel, in the routes."""
        shutil.rmtree(self.state, ignore_errors=True)
        self.state.mkdir(mode=0o700)
        if self.read().structure is not None:
            self.nft(f"delete table {FAMILY_TABLE}")
        self.ip("-4", "route", "flush", "proto", str(ROUTE_PROTOCOL))

    def nft(self, text: str) -> None:
        """What another program does: ``nft TEXT``. DrillError when the kernel refuses it."""
        done = self.command("nft", text)
        if done.returncode != 0:
            raise DrillError(f"nft {text!r} on {self.name}: {done.stderr.strip()}")

    def ip(self, *words: str) -> str:
        done = self.command("ip", *words)
        if done.returncode != 0:
            raise DrillError(f"ip {' '.join(words)} on {self.name}: {done.stderr.strip()}")
        return done.stdout

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            namespaces.command_inside(self.namespace, words),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )

    def inside(self, function: Callable[[], T]) -> T:
        return namespaces.call_inside(self.namespace, function)
