"""Random sequences of what befalls a fleet, in memory: agents and registry real, kernels not.

The model is no more than who should be a member at the end, at which address. Everything is drawn
from one Random, so a seed repeats a sequence step by step.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from typing import Final

from tests.support.agents import Box, World

from drills.settled import differing, told_by
from neti.dataplane.monitor import RulesChanged
from neti.errors import DataplaneError, NetiError
from neti.registry.memory import MemoryRegistry
from neti.state.folder import StateFolder

_HOSTS: Final = 6
_STEPS: Final = 40
_TRIAL: Final = 30  # seconds
_MACHINE: Final = "this machine"  # as tests.support.agents calls it
_PAUSES: Final = (0.1, 0.5, 2.0, 11.0, 61.0)
_JUNK: Final = ("junk", "left.x", "1.0a000001c6336401c0a80001.0.ec2.ec2-1", "1." + "f" * 58)


@dataclass(slots=True)
class Sequence:
    """One sequence: draws its steps, does them, and is asked what is wrong after quiet."""

    folder: Path
    chance: Random
    log: list[str] = field(default_factory=list)
    leases: dict[str, IPv4Address] = field(default_factory=dict)
    world: World = field(init=False)

    def __post_init__(self) -> None:
        self.world = World(self.folder)
        for number in range(1, _HOSTS + 1):
            self.world.box(number, "ec2" if number % 2 else "vpc")

    def run(self) -> list[str]:
        """All steps, then quiet; every fault that is left."""
        acts: list[tuple[int, Callable[[Box], None]]] = [
            (6, self._join),
            (2, self._leave),
            (3, self._move),
            (2, self._drop),
            (2, self._die),
            (3, self._restart),
            (1, self._registry_away),
            (2, self._registry_back),
            (1, self._cut),
            (1, self._restore),
            (1, self._junk),
            (1, self._drift),
            (1, self._kernel_refuses),
            (1, self._wiped),
            (1, self._restored),
            (2, self._word),
            (6, self._time),
        ]
        weights = [weight for weight, _ in acts]
        for _ in range(_STEPS):
            ((_, act),) = self.chance.choices(acts, weights)
            act(self.chance.choice(self.world.boxes))
            self._note_leases()
        self._quiet()
        self._note_leases()
        return list(self._faults())

    def close(self) -> None:
        for box in self.world.boxes:
            if box.agent is not None:
                box.stop()

    # --- what befalls a host ---

    def _join(self, box: Box) -> None:
        if box.agent is None:
            self._say("join", box)
            box.start()
            self.world.settle()

    def _leave(self, box: Box) -> None:
        """Refused while the registry cannot be told; then it stays."""
        if box.agent is None or "result" not in box.ask("leave"):
            return
        self._say("leave", box)
        self._end(box)

    def _move(self, box: Box) -> None:
        taken = {each.host.private for each in self.world.boxes}
        last = self.chance.randrange(20, 200)
        private = IPv4Address(f"10.0.0.{last}")
        if box.agent is None or private in taken:
            return
        self._say(f"move to {private}", box)
        public = None
        if self.chance.random() < 0.7 and box.host.public is not None:
            public = IPv4Address((int(box.host.public) & ~0xFF) | last)
        box.host = replace(box.host, private=private, public=public or box.host.public)
        box.machine.private = private

    def _drop(self, box: Box) -> None:
        """The agent dies, and its session ends without a word."""
        if box.agent is not None:
            self._say("drop", box)
            self._end(box)

    def _end(self, box: Box) -> None:
        session = box.registry._session  # what the registry knows of it, an operator does not
        box.stop()
        if session is not None:
            self.world.server.expire(session)
        self.world.settle()

    def _die(self, box: Box) -> None:
        """Killed; the session lives on, as it does for its time-out."""
        if box.agent is not None:
            self._say("die", box)
            box.stop()

    def _restart(self, box: Box) -> None:
        if box.agent is not None:
            self._say("restart", box)
            box.stop()
            box.start()
            self.world.settle()

    # --- what befalls registry and kernel ---

    def _registry_away(self, box: Box) -> None:
        self._say("registry away")
        self.world.server.stop()
        self.world.settle()

    def _registry_back(self, box: Box) -> None:
        self._say("registry back")
        self.world.server.start()
        self.world.settle()

    def _cut(self, box: Box) -> None:
        if box.agent is not None:
            self._say("connection cut", box)
            self.world.server.cut(box.registry)
            self.world.settle()

    def _restore(self, box: Box) -> None:
        if box.agent is not None:
            self._say("connection back", box)
            self.world.server.restore(box.registry)
            self.world.settle()

    def _junk(self, box: Box) -> None:
        junk = self.chance.choice(_JUNK)
        self._say(f"junk {junk}")
        act = self.chance.choice((self.world.server.put, self.world.server.remove))
        act(junk)
        self.world.settle()

    def _drift(self, box: Box) -> None:
        if box.agent is None:
            return
        self._say("rules flushed", box)
        box.dataplane.table = None
        box.running.tell(RulesChanged(4711, "nft"))

    def _kernel_refuses(self, box: Box) -> None:
        """Until the next such step, or quiet."""
        refuses = box.dataplane.failing is None
        self._say("kernel refuses" if refuses else "kernel works again", box)
        box.dataplane.failing = "Device or resource busy" if refuses else None

    def _wiped(self, box: Box) -> None:
        """Everything in the registry is lost. Who is away then has no claim to its address."""
        self._say("registry wiped")
        self.world.server.stop()
        self.world.settle()
        self.world.server.wipe()
        here = {each.host.id for each in self.world.boxes if each.agent is not None}
        self.leases = {host_id: held for host_id, held in self.leases.items() if host_id in here}
        self._registry_back(box)

    def _restored(self, box: Box) -> None:
        """An hour passes, and the registry is what it was before it."""
        self._say("registry restored from an older copy")
        copy = self.world.server.copied()
        self._move(box)
        self._pass(61.0)
        self.world.server.stop()
        self.world.settle()
        self.world.server.restore_copy(copy)
        self._registry_back(box)
        self.world.server.expire_orphans()
        self.world.settle()

    def _word(self, box: Box) -> None:
        """Of the operator: on what is kept out, or on who is held."""
        word = self.chance.choice(("enforce", "confirm", "relax", "release"))
        if box.agent is not None:
            wait = self.chance.random() < 0.5
            self._say(f"{word}, and wait for my word" if word == "enforce" and wait else word, box)
            box.ask(word, seconds=_TRIAL, wait=wait)

    def _time(self, box: Box) -> None:
        seconds = self.chance.choice(_PAUSES)
        self._say(f"{seconds} s")
        self._pass(seconds)

    def _pass(self, seconds: float) -> None:
        """In one leap; second by second for as long as a trial wants to be looked at."""
        while seconds > 1 and any(self._is(box, "trial") for box in self.world.boxes):
            self.world.pass_time(1.0)
            seconds -= 1
        self.world.pass_time(seconds)

    def _is(self, box: Box, stage: str) -> bool:
        return box.agent is not None and box.status()["stage"] == stage

    # --- afterwards ---

    def _quiet(self) -> None:
        """Everything works again, those whose sessions live are back, and time passes."""
        server = self.world.server
        for junk in _JUNK:
            server.remove(junk)
        server.start()
        for box in self.world.boxes:
            box.dataplane.failing = None
            if box.agent is not None:
                server.restore(box.registry)
            elif self._registered(box):
                box.start()
        self.world.settle()
        for seconds in (61.0, 61.0, 700.0, 61.0):
            self._pass(seconds)
        for box in self.world.boxes:
            if box.agent is not None and box.status()["holds"]:
                self._say("release", box)
                box.ask("release")
            if box.agent is not None and self._trial_expired(box):
                self._answer(box)
        self._pass(_TRIAL + 2.0)

    def _trial_expired(self, box: Box) -> bool:
        """Rightly a problem until an operator answers."""
        return "trial_expired" in {one["code"] for one in box.status()["problems"]}

    def _answer(self, box: Box) -> None:
        """Once more, now that nothing is in the way of a good end; or not at all, if refused."""
        self._say("enforce once more", box)
        if "result" not in box.ask("enforce", seconds=_TRIAL, wait=False):
            self._say("relax", box)
            box.ask("relax")

    def _registered(self, box: Box) -> bool:
        return any(held.host_id == box.host.id for held in self._look().details())

    def _look(self) -> MemoryRegistry:
        return MemoryRegistry(self.world.server)

    def _note_leases(self) -> None:
        """An id has one lease, for ever."""
        for overlay, host_id in self.world.server._leases.items():
            self.leases.setdefault(host_id, overlay)

    def _faults(self) -> Iterator[str]:
        told = told_by(self._look())
        yield from told.faults
        running = {box.host.id: box for box in self.world.boxes if box.agent is not None}
        if told.members.keys() != running.keys():
            yield f"registry: members {sorted(told.members)}, model: {sorted(running)}"
            return
        for overlay, host_id in told.leases.items():
            if self.leases[host_id] != overlay:
                yield f"registry: {host_id} has {overlay}, had {self.leases[host_id]}"
        for host_id, box in running.items():
            member = told.members[host_id]
            if (member.private, member.public) != (box.host.private, box.host.public):
                yield f"registry: {host_id} at {member.private}, model: {box.host.private}"
            try:
                kernel = box.dataplane.read()
            except DataplaneError as error:
                yield f"{host_id}: {error}"
                continue
            if kernel.armed_for_good != (box.status()["stage"] == "enforced"):
                yield f"{host_id}: {box.status()['stage']}, and map enforce has {kernel.enforce}"
            yield from (f"{host_id}: {w}" for w in differing(kernel, told, host_id, box.host.site))
            yield from (
                f"{host_id}: {one['code']}: {one['sentence']}" for one in box.status()["problems"]
            )
            kept = StateFolder(box.settings.table_files_path).load(_MACHINE)
            if kept.members.keys() != told.members.keys() or kept.faults:
                yield f"{host_id}: disk holds {sorted(kept.members)} {kept.faults}"

    def _say(self, what: str, box: Box | None = None) -> None:
        self.log.append(f"{box.host.id}: {what}" if box is not None else what)


def faults_of(folder: Path, chance: Random) -> tuple[list[str], list[str]]:
    """What is wrong after one sequence, and its steps."""
    sequence = Sequence(folder, chance)
    try:
        found = sequence.run()
    except NetiError as error:
        found = [f"it broke: {error}"]
    finally:
        sequence.close()
    return found, sequence.log
