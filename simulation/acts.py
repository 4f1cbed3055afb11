"""Everything that can happen, by name. An act is a value: the same acts in the same order make the
same story, whatever drew them, so a story can be replayed with some of them left out.

Must never do: draw anything while it is performed, or fail because an earlier act is missing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from neti.registry.memory import Copy
from simulation.host import SimulatedHost
from simulation.invariants import Fault
from simulation.truth import Truth
from simulation.world import World

TRIAL: Final = 30


@dataclass(frozen=True, slots=True)
class Act:
    """``host``: its place in the world, -1: no host. ``args``: drawn beforehand."""

    kind: str
    host: int = -1
    args: tuple[Any, ...] = ()

    def words(self, world: World) -> str:
        said = KINDS[self.kind].words.format(*self.args)
        if self.host < 0:
            return said
        return f"{world.hosts[self.host % len(world.hosts)].label}: {said}"


@dataclass(slots=True)
class Stage:
    """What acts work on, and what they find wrong themselves."""

    world: World
    truth: Truth
    faults: list[Fault] = field(default_factory=list)
    copies: dict[str, dict[str, bytes]] = field(default_factory=dict)
    registry_copy: Copy | None = None
    fakes: list[str] = field(default_factory=list)
    editions: int = 0  # of groups, that operators wrote

    def fault(self, code: str, host: SimulatedHost, sentence: str) -> None:
        self.faults.append(Fault(code, host.label, sentence))


Perform = Callable[..., None]


# Commands that may be cut off in the middle, and with which arguments.
INTERRUPTED: Final[dict[str, tuple[Any, ...]]] = {
    "enforce": (False, False),
    "confirm": (),
    "relax": (),
    "down": (),
    "up": (),
    "leave": (),
    "release": (),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """``draw``: its arguments. ``words``: in a story, with the arguments in their places.
    ``lately``: drawn only where that is asked for, until the seeds that have it were looked through
    (``--lately``); stories may have it."""

    perform: Perform
    words: str
    weight: float
    draw: Callable[[Random], tuple[Any, ...]]
    of_host: bool
    lately: bool


KINDS: dict[str, Kind] = {}


def _nothing(chance: Random) -> tuple[Any, ...]:
    return ()


def act(
    words: str,
    weight: float = 1.0,
    draw: Callable[[Random], tuple[Any, ...]] = _nothing,
    *,
    of_host: bool = True,
    lately: bool = False,
) -> Callable[[Perform], Perform]:
    def declared(perform: Perform) -> Perform:
        KINDS[perform.__name__] = Kind(perform, words, weight, draw, of_host, lately)
        return perform

    return declared


def perform(stage: Stage, one: Act) -> None:
    kind = KINDS[one.kind]
    if kind.of_host:
        kind.perform(stage, stage.world.hosts[one.host % len(stage.world.hosts)], *one.args)
    else:
        kind.perform(stage, *one.args)


def soon(chance: Random) -> tuple[int]:
    """After how many effects: most turns have few."""
    return (chance.choice((1, 1, 2, 2, 3, 4, 5, 6, 8, 11, 15, 22, 40)),)
