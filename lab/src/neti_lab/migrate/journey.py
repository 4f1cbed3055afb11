"""What the phases of a migration share: the lab, the application, commands, and the clock.

A phase is counted from its first to its last moment: every request that began in it, every attempt
of the scanner.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

from neti.errors import NetiError
from neti.registry import Registry
from neti_lab import LabError, agents, groups, namespaces, registries, wireguard, wiring
from neti_lab.busy import stretched
from neti_lab.migrate.company import PORTS, Company, task_of
from neti_lab.migrate.live import watching
from neti_lab.play import Play, wait_for
from neti_lab.topology import LabHost

TRIAL_SECONDS: Final = 6
REST_SECONDS: Final = 1.5  # after a change, so that what it broke would show in its own phase
_COMMAND_SECONDS: Final = 60.0
_CHANGE_SECONDS: Final = 60.0
_HEALTH_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Phase:
    """CLOCK_MONOTONIC, seconds."""

    title: str
    began: float
    ended: float
    step: str = ""  # of docs/runbook.md; empty: it has none
    by_neti: bool = False  # no group keeps the scanner out any more, only Neti does


@dataclass(slots=True)
class Journey:
    """``play.hosts`` are the members as they should be now. ``member_ports``: by task, with groups;
    those of the file."""

    play: Play
    company: Company
    phases: list[Phase] = field(default_factory=list)
    tries_at_groups: int | None = None  # the scanner's, while groups were shut; None: they are
    member_ports: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    # Held while hosts or leases are taken away: nothing may be broken and mended meanwhile.
    undisturbed: threading.RLock = field(default_factory=threading.RLock)

    # --- the story ---

    @contextmanager
    def phase(self, title: str, step: str) -> Iterator[None]:
        """A phase; the caller's statistics are shown while it runs, and found good at its end."""
        with self.play.stage.scene(title, number=step) as show, watching(self.company, title, show):
            began = time.monotonic()
            try:
                yield
                time.sleep(REST_SECONDS)
            finally:
                by_neti = self.tries_at_groups is not None
                self.phases.append(Phase(title, began, time.monotonic(), step, by_neti))

    def say(self, text: str) -> None:
        self.play.stage.say(text)

    def find(self, what: str, ok: bool, figure: str) -> None:
        self.play.stage.find(what, ok, figure)

    # --- commands, as an operator types them ---

    def neti(self, host: LabHost, *words: str, shown: bool = True) -> str:
        """What it printed. Run again while it fails, as an operator would whose agent is just being
        restarted; LabError in the end."""
        config = self.play.state.config(host.name)
        heading = f"$ neti {' '.join(words)}          (on {host.name})"
        return self._insist(lambda: self._run(host, config, words), heading if shown else None)

    def operator(self, host: LabHost, *words: str, shown: bool = True) -> str:
        """The same on that host, with an operator's certificate."""
        config = self.play.state.operator_config
        heading = f"$ neti {' '.join(words)}          (on {host.name}, as an operator)"
        return self._insist(lambda: self._run(host, config, words), heading if shown else None)

    def registry_check(self, host: LabHost) -> None:
        """Until it finds no fault: a proxy that has just begun knows its servers within seconds.
        Debian's ZooKeeper is 3.8.0, so that there is a warning for each server."""
        said: list[str] = []

        def well() -> bool:
            words = ("registry", "check")
            text = self._run(host, self.play.state.operator_config, words, well=(0, 1))
            said[:] = text.splitlines()
            return said[-1].startswith("0 faults")

        self.say(f"$ neti registry check          (on {host.name}, as an operator)")
        self.until(well, f"registry check from {host.site} goes on finding faults")
        self.find(f"registry check from {host.site}", True, said[-1])

    def status(self, host: LabHost) -> dict[str, Any]:
        """Also while something is wrong there, which the exit code says: a trial that ended
        unconfirmed, a fight over the rules. Without an agent the command says what the disk and
        the kernel know, which has no stage; the agent that is being restarted is asked again."""
        config = self.play.state.config(host.name)

        def said() -> str:
            text = self._run(host, config, ("status", "--json"), well=(0, 1))
            if not text or "agent" in json.loads(text):
                raise LabError(f"no agent answers on {host.name}")
            return text

        found: dict[str, Any] = json.loads(self._insist(said, None))
        return found

    def start_agents(self, hosts: Sequence[LabHost]) -> None:
        """And WireGuard first, where they encrypt; it is a unit of its own on a real host."""
        play = self.play
        if play.plan.encrypt:
            wireguard.start(play.plan, hosts, state=play.state)
        agents.start(play.plan, hosts, state=play.state)

    def configure(self, hosts: Iterable[LabHost], **changes: Any) -> None:
        """Change keys of their neti.yml and reload, as configuration management does."""
        for host in hosts:
            path = self.play.state.config(host.name)
            document = yaml.safe_load(path.read_text()) | changes
            scratch = path.with_suffix(".new")
            scratch.write_text(yaml.safe_dump(document, sort_keys=False))
            scratch.replace(path)
            agents.reload(host, state=self.play.state)

    # --- waiting ---

    def until(
        self, condition: Callable[[], bool], what: str, *, seconds: float = _CHANGE_SECONDS
    ) -> float:
        def holds() -> bool:
            try:
                return condition()
            except NetiError:
                return False  # an agent that is just being restarted; it is asked again

        return wait_for(holds, what, seconds=stretched(seconds))

    def in_good_health(self, hosts: Sequence[LabHost]) -> None:
        """Until ``neti check`` says so of each of these. A fight over the rules is named for a
        minute after its last repair, so that may take a while."""
        self.say("$ neti check          (on each host)")
        self.until(
            lambda: all("NETI OK" in self._check(host) for host in hosts),
            "not every host is in good health",
            seconds=_HEALTH_SECONDS,
        )
        self.find("hosts in good health", True, f"{len(hosts)}")

    def _check(self, host: LabHost) -> str:
        config = self.play.state.config(host.name)
        return self._run(host, config, ("check",), well=(0, 1, 2, 3))

    def registered(self, hosts: Iterable[LabHost]) -> float:
        """Until all of these are; their overlay addresses are known then."""
        wanted = {host.name for host in hosts}
        registry = self.registry
        seconds = self.until(
            lambda: wanted <= registries.registered(registry),
            f"not all registered: {sorted(wanted)}",
        )
        self.play.overlays = {
            host_id: str(overlay) for overlay, host_id in registry.leases().items()
        }
        return seconds

    def stages(self, hosts: Iterable[LabHost], stage: str) -> None:
        """Until all of these are in this stage."""
        for host in hosts:
            reached = partial(self._is_in, host, stage)
            self.until(reached, f"{host.name} does not come to be {stage}")

    def _is_in(self, host: LabHost, stage: str) -> bool:
        return bool(self.status(host)["stage"] == stage)

    @property
    def registry(self) -> Registry:
        return self.play.registry

    # --- addresses ---

    def private(self, *hosts: LabHost) -> list[str]:
        return [f"{host.private}:{PORTS[task_of(host)]}" for host in hosts]

    def overlay(self, *hosts: LabHost) -> list[str]:
        return [f"{self.play.overlays[host.name]}:{PORTS[task_of(host)]}" for host in hosts]

    def hosts(self, site: str) -> list[LabHost]:
        return list(self.play.plan.site(site).hosts)

    def groups(self, site: str, rules: str) -> None:
        """Change what the site's emulated security groups let in."""
        plan = self.play.plan
        namespaces.load_rules(plan.namespace(plan.site(site).site_gateway), rules)

    def publish(self, host: LabHost, port: int) -> None:
        """Let the world find and reach this port of the host."""
        found = wiring.publish(self.play.plan.site(host.site), host, port)
        self.groups(host.site, groups.publish(host, port) + found)

    def published(self, host: LabHost) -> str:
        """Where its users find the host's service."""
        address, port = self.play.plan.site(host.site).door(host, PORTS[task_of(host)])
        return f"{address}:{port}"

    # --- within ---

    def _run(
        self, host: LabHost, config: Path, words: Sequence[str], *, well: Sequence[int] = (0,)
    ) -> str:
        command = agents.neti_command(*words, "-c", str(config))
        plan, state = self.play.plan, self.play.state
        line = wireguard.command_on(plan, host, command, state=state)
        return agents.checked(line, well=well)

    def _insist(self, act: Callable[[], str], shown: str | None) -> str:
        if shown is not None:
            self.say(shown)
        deadline = time.monotonic() + stretched(_COMMAND_SECONDS)
        while True:
            try:
                said = act()
            except LabError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
                continue
            if shown is not None and said.strip():
                self.say("\n".join(f"  {line}" for line in said.rstrip().splitlines()))
            return said
