"""An agent is killed with -9: at random moments, and right after each of its writes.

Each time the next one starts from what the kernel, the disk and the registry then hold.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from threading import Event, Thread
from typing import Final

from drills import tracer
from drills.drill import DrillError, Run
from drills.field import Field, RegistryKind
from drills.fleet import Fleet, generated
from drills.host import FieldHost
from drills.plan import OPEN_PORT
from drills.settled import told_by, wait_until_settled
from drills.waiting import wait_for
from neti.control.client import AgentUnreachable
from neti.errors import NetiError
from neti.identity import fingerprint
from neti.registry import Registry
from neti.state.folder import StateFolder

_SESSION: Final = 2
_LINGER: Final = 1
_MOST_WRITES: Final = 400  # no run of the scenario comes near it
_CHURNERS: Final = 60
_CHANGES_A_SECOND: Final = 50
_LONGEST_LIFE: Final = 1.2  # seconds: from the first instruction to long after it is registered
_LOOK_EACH: Final = 20  # kills between two looks at everything
_RELEASES: Final = 4


class Churn:
    """Members that join and leave without end, while the ``with`` block lasts."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._stop = Event()
        self._thread = Thread(target=self._run)
        self.changes = 0
        self.seconds = 0.0
        self.broke: NetiError | None = None

    def __enter__(self) -> "Churn":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        try:
            while not self._stop.wait(
                max(0.0, began + self.changes / _CHANGES_A_SECOND - time.monotonic())
            ):
                member = generated(self.changes % _CHURNERS)
                if member.id in self._fleet.members:
                    self._fleet.leave(member.id)
                else:
                    self._fleet.join(member)
                self.changes += 1
        except NetiError as error:
            self.broke = error
        self.seconds = time.monotonic() - began


def at_random(run: Run, kills: int, stop: Event) -> tuple[list[str], str]:
    """What is wrong after any of so many kills, and how it went."""
    chance = run.chance("random kills")
    with Field(run, hosts=1) as field:
        (host,) = field.hosts
        _short_lives(host)
        registry, fleet = field.open_registry(), Fleet(field.open_registry())
        done, changes, seconds = 0, 0, 0.0
        while done < kills:
            with Churn(fleet) as churn:
                for _ in range(min(_LOOK_EACH, kills - done)):
                    host.agent.start()
                    time.sleep(chance.uniform(0.0, _LONGEST_LIFE))
                    host.agent.kill()
                    done += 1
                    if stop.is_set():
                        raise DrillError("the drill was ended")
                    if found := list(_at_rest(host, registry)):
                        return [f"right after kill {done}: {what}" for what in found], ""
            if churn.broke is not None:
                raise churn.broke
            changes, seconds = changes + churn.changes, seconds + churn.seconds
            run.say(f"{done} of {kills} random kills")
            host.agent.start()
            if found := _settled_by_release(host, registry):
                return [f"after kill {done}: {what}" for what in found], ""
            host.agent.kill()
    return [], f"{done} kills, {changes / seconds:.0f} changes a second"


def _settled_by_release(host: FieldHost, registry: Registry) -> list[str]:
    """So many left within minutes that the guard holds the last of them: the operator looks, and
    lets them go."""
    wait_for(lambda: bool(host.status()), "the agent does not answer")
    found: list[str] = []
    for _ in range(_RELEASES):
        found = wait_until_settled(host, registry, seconds=8)
        if not found:
            break
        host.agent.ask("release")
    return found


def after_each_write(
    run: Run, kind: RegistryKind, some: int | None, stop: Event
) -> tuple[list[str], str]:
    """What is wrong after any kill right behind a write. ``some``: that many of them, drawn."""
    with Field(run, hosts=1, registry=kind) as field:
        (host,) = field.hosts
        _short_lives(host)
        registry = field.open_registry()
        scenario = Scenario(field, host, registry)
        total, _ = scenario.play(0)
        scenario.end()
        kills = 0
        for number in _numbers(run.chance(f"writes/{kind}"), total, some):
            if stop.is_set():
                raise DrillError("the drill was ended")
            run.say(f"{kind}: kill after write {number} of about {total}")
            written, last = scenario.play(number)
            if written < number and number > total:
                break  # the whole scenario has fewer writes: all of them are done
            kills += written == number
            found = list(_at_rest(host, registry)) or scenario.go_on()
            if found:
                return [f"{kind}: killed after write {number}, {last}: {w}" for w in found], ""
            scenario.end()
    return [], f"{kills} kills, {total} writes in a run"


def _numbers(chance: Random, total: int, some: int | None) -> Iterator[int]:
    """In full: on and on until one run has ended by itself."""
    if some is None:
        yield from range(1, _MOST_WRITES)
    else:
        yield from sorted(chance.sample(range(1, total), min(some, total - 1)))


class Scenario:
    """A first start, a join and a leave, a reload and a stop: every kind of write is in it.

    Each time the host is another one, with nothing on disk, in the kernel or in the registry.
    """

    def __init__(self, field: Field, host: FieldHost, registry: Registry) -> None:
        self._field = field
        self._host = host
        self._registry = registry
        self._fleet = Fleet(field.open_registry())
        self._result = field.folder / "writes"
        self._round = 0
        self._fleet.join(generated(0))

    def play(self, after: int) -> tuple[int, str]:
        """Until the agent is killed after that many writes, or has ended; how many there were."""
        self._round += 1
        host = self._host
        host.configure(
            identity={**host.document["identity"], "id": f"h1-{self._round}"},
            open_ports=[OPEN_PORT],
        )
        host.clean()
        self._result.unlink(missing_ok=True)
        words = (str(after), str(self._field.folder), str(self._result))
        host.agent.start(around=[sys.executable, str(Path(tracer.__file__)), *words])
        self._until(lambda: bool(host.status()["registered"]))
        self._fleet.join(generated(self._round))
        self._fleet.leave(generated(self._round - 1).id)
        joined = str(self._fleet.members[generated(self._round).id].overlay)
        self._until(lambda: joined in host.sets()["overlay"])
        if host.agent.running:
            before = host.resyncs("chains")
            host.configure(open_ports=[OPEN_PORT, OPEN_PORT + 1])
            host.agent.hang_up()
            self._until(lambda: host.resyncs("chains") > before)
        host.agent.end()
        told = json.loads(self._result.read_text())
        return int(told["writes"]), str(told["last"])

    def go_on(self) -> list[str]:
        """The next agent starts; what is still wrong when it has had its time."""
        self._host.agent.start()
        return wait_until_settled(self._host, self._registry)

    def end(self) -> None:
        """The host leaves, so that the next one finds no other."""
        if not self._host.agent.running:
            self._host.agent.start()
        self._host.agent.leave()

    def _until(self, condition: Callable[[], bool]) -> None:
        """It holds, or the agent was killed."""

        def held() -> bool:
            if not self._host.agent.running:
                return True
            try:
                return condition()
            except AgentUnreachable:
                return False

        wait_for(held, f"a traced agent does not come to its end on {self._host.name}")


def _short_lives(host: FieldHost) -> None:
    host.configure(session_seconds=_SESSION, linger_seconds=_LINGER)


def _at_rest(host: FieldHost, registry: Registry) -> Iterator[str]:
    """With the agent just killed: nothing half done in the registry or on disk, and the table
    whole or not there."""
    yield from (fault for fault in told_by(registry).faults)
    yield from (f"disk: {fault}" for fault in StateFolder(host.state).load(fingerprint()).faults)
    kernel = host.read()
    if kernel.structure is not None and not {"input", "forward", "judge"} <= set(
        kernel.chain_names
    ):
        yield f"kernel: a table with the chains {', '.join(kernel.chain_names)} only"
