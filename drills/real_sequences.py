"""The same with real agents, kernels and registries: few sequences, for they take real time."""

import time
from collections.abc import Callable
from random import Random
from typing import Final

from drills.drill import Row, Run
from drills.field import Field, RegistryKind
from drills.host import FieldHost
from drills.settled import told_by, wait_until_settled
from drills.waiting import wait_for
from neti.registry import Registry

KINDS: Final[tuple[RegistryKind, ...]] = ("embedded", "zookeeper")
_HOSTS: Final = 4
_SESSION: Final = 2
_LINGER: Final = 1
_PAUSES: Final = (0.0, 0.05, 0.3, 1.0)


class Story:
    """One sequence in one field: draws a step, does it, keeps the model."""

    def __init__(self, field: Field, chance: Random) -> None:
        self.field = field
        self.chance = chance
        self.log: list[str] = []
        self.away = False

    def step(self) -> None:
        host = self.chance.choice(self.field.hosts)
        acts: list[Callable[[FieldHost], None]] = [self._stop_or_start, self._kill, self._move]
        acts += [self._restart, self._leave, self._weather]
        act = self.chance.choice(acts)
        self.log.append(f"{host.name}:{act.__name__.strip('_')}")
        act(host)
        time.sleep(self.chance.choice(_PAUSES))

    def _stop_or_start(self, host: FieldHost) -> None:
        if host.agent.running:
            host.agent.end()
        else:
            host.agent.start()

    def _kill(self, host: FieldHost) -> None:
        if host.agent.running:
            host.agent.kill()

    def _restart(self, host: FieldHost) -> None:
        host.agent.end()
        host.agent.start()

    def _move(self, host: FieldHost) -> None:
        """To the host's other address; who it is is read when the agent starts."""
        identity = host.document["identity"]
        addresses = (str(host.plan.private), str(host.plan.other_private))
        moved = addresses[1] if identity["private"] == addresses[0] else addresses[0]
        host.configure(identity={**identity, "private": moved})
        self._restart(host)

    def _leave(self, host: FieldHost) -> None:
        host.neti("leave")  # refused where it cannot be told; the agent goes on then
        if host.agent.running:
            host.agent.wait(0.3)

    def _weather(self, host: FieldHost) -> None:
        for server in self.field.servers:
            (server.resume if self.away else server.pause)()
        self.away = not self.away

    def quiet(self, registry: Registry) -> list[str]:
        """Everything works again, and whoever has an agent is a member, nobody else."""
        if self.away:
            self._weather(self.field.hosts[0])
        hosts = self.field.hosts
        if not any(host.agent.running for host in hosts):
            hosts[0].agent.start()
        running = {host.name for host in hosts if host.agent.running}
        wait_for(
            lambda: set(told_by(registry).members) == running,
            f"after {' '.join(self.log)}: the registry does not come to hold {sorted(running)}",
            seconds=40,
        )
        # Three of four that go within ten minutes are more than half: the guard holds the last of
        # them, as it should (drill 6), until an operator has looked.
        time.sleep(_LINGER + _PAUSES[-1])
        for host in hosts:
            if host.agent.running:
                host.neti("release", "--all")
                found = wait_until_settled(host, registry, seconds=40)
                if found:
                    return [f"{host.name}: {what}" for what in found]
        return [
            f"registry: {host.name} is at another address than the model's"
            for host in hosts
            if host.name in running
            and str(told_by(registry).members[host.name].private)
            != host.document["identity"]["private"]
        ]


def row(drill: Run, kind: RegistryKind, number: int, steps: int) -> Row:
    """One sequence."""
    what = f"real agents, {kind}, sequence {number + 1}"
    with Field(drill, hosts=_HOSTS, registry=kind) as field:
        for host in field.hosts:
            host.configure(session_seconds=_SESSION, linger_seconds=_LINGER)
        field.start()
        registry = field.open_registry()
        story = Story(field, drill.chance(f"{kind}/{number}"))
        for _ in range(steps):
            story.step()
        began = time.monotonic()
        found = story.quiet(registry)
        told = " ".join(story.log)
        if found:
            return Row(what, f"{found[0]} ({len(found)}); {told}", False)
        seconds = time.monotonic() - began
        return Row(what, f"{steps} steps, all agree {seconds:.1f} s later", True)
