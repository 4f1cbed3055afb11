"""What goes wrong while a fleet moves: one thing at a time, at moments that a seed decides.

Agents killed with -9, the ensemble's leader killed, a proxy killed, a host's whole ruleset flushed.
What systemd would restart is restarted after its two seconds. Nothing else is ever touched.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Final

from neti.errors import NetiError
from neti_lab import LabError, agents, ensemble, namespaces, registries
from neti_lab.busy import stretched
from neti_lab.migrate.journey import Journey
from neti_lab.topology import LabHost

_BETWEEN: Final = (0.5, 3.0)  # seconds from the end of one trouble to the next
_RESTART_SECONDS: Final = 2.0  # as RestartSec in the units
_MEND_SECONDS: Final = 40.0


_DONE: Final = {
    "agent": "killed the agent of",
    "leader": "killed the ensemble's leader",
    "proxy": "killed proxy",
    "flush": "flushed all rules of",
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """CLOCK_MONOTONIC; ``ended``: everything was as before. ``error``: it never was."""

    kind: str
    where: str
    began: float
    ended: float
    error: str | None = None


class Chaos:
    """A thread that makes trouble between ``start`` and ``stop``."""

    def __init__(self, journey: Journey, seed: int) -> None:
        self.troubles: list[Trouble] = []
        self._journey = journey
        self._chance = Random(seed)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos", daemon=True)

    @contextmanager
    def reigning(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._ended.set()
            self._thread.join(stretched(_MEND_SECONDS))

    def _run(self) -> None:
        kinds: list[Callable[[], tuple[str, float] | None]] = [
            self._agent,
            self._leader,
            self._proxy,
            self._flush,
        ]
        while not self._ended.wait(self._chance.uniform(*_BETWEEN)):
            act = self._chance.choice(kinds)
            began = time.monotonic()
            kind = act.__name__.strip("_")
            say = self._journey.say
            # Never while a phase takes hosts or leases away: a restarted one would come back.
            with self._journey.undisturbed:
                if self._ended.is_set():
                    return
                try:
                    done = act()
                except NetiError as error:
                    self.troubles.append(Trouble(kind, "", began, time.monotonic(), str(error)))
                    say(f"chaos: {kind} NOT mended: {error}")
                    continue
            if done is not None:
                where, since = done
                self.troubles.append(Trouble(kind, where, since, time.monotonic()))
                say(f"chaos: {_DONE[kind]} {where}; mended in {time.monotonic() - since:.2f} s")

    # --- kinds: each returns where, and since when; None when there is nothing to break ---

    def _agent(self) -> tuple[str, float] | None:
        host = self._some_member()
        if host is None:
            return None
        play = self._journey.play
        began = time.monotonic()
        agents.send(host, signal.SIGKILL, state=play.state)
        time.sleep(_RESTART_SECONDS)
        agents.start(play.plan, [host], state=play.state)
        self._until(lambda: host.name in registries.registered(play.registry), f"{host.name} again")
        return host.name, began

    def _leader(self) -> tuple[str, float]:
        play = self._journey.play
        leader = ensemble.leader(play.plan, play.state)
        began = time.monotonic()
        ensemble.kill(leader, play.state)
        time.sleep(_RESTART_SECONDS)
        ensemble.start_server(play.plan, leader, play.state)
        ensemble.server(play.plan, leader, play.state).wait(stretched(_MEND_SECONDS))
        return leader.name, began

    def _proxy(self) -> tuple[str, float] | None:
        play = self._journey.play
        running = [p for p in play.plan.site("ec2").keepers if play.state.process(p.name)]
        if not running:
            return None
        proxy = self._chance.choice(running)
        began = time.monotonic()
        ensemble.kill(proxy, play.state)
        time.sleep(_RESTART_SECONDS)
        ensemble.start_proxy(play.plan, proxy, play.state)
        return proxy.name, began

    def _flush(self) -> tuple[str, float] | None:
        host = self._some_member()
        if host is None:
            return None
        inside = self._journey.play.plan.namespace(host.name)
        began = time.monotonic()
        agents.checked(namespaces.command_inside(inside, ["nft", "flush", "ruleset"]))
        self._until(lambda: _has_rules(inside), f"the rules of {host.name}")
        return host.name, began

    def _some_member(self) -> LabHost | None:
        play = self._journey.play
        members = [h for h in play.hosts if agents.agent_of(h, state=play.state) is not None]
        return self._chance.choice(members) if members else None

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + stretched(_MEND_SECONDS)
        while True:
            try:
                if condition():
                    return
            except NetiError:
                pass  # the registry, which may be choosing a leader; it is asked again
            if time.monotonic() > deadline:
                raise LabError(f"{what} did not come back within {stretched(_MEND_SECONDS):.0f} s")
            time.sleep(0.01)


def _has_rules(namespace: str) -> bool:
    line = namespaces.command_inside(namespace, ["nft", "list", "map", "inet", "neti", "overlay"])
    try:
        return "elements" in agents.checked(line)
    except LabError:
        return False
