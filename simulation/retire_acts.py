"""Operators take hosts out of the fleet, let them in again, and give their addresses to others.

Must never do: what ``simulation/acts.py`` must not.
"""

import contextlib
from collections.abc import Callable
from itertools import islice
from random import Random
from typing import Any

from neti.errors import NetiError
from neti.oneshot import retiring
from neti.oneshot.moving import Move
from neti.registry.memory import MemoryRegistry
from simulation.acts import Stage, act
from simulation.host import SimulatedHost
from simulation.world import SESSION_SECONDS


@act("an operator retires it", 0.8)
def retire(stage: Stage, host: SimulatedHost) -> None:
    if _said(stage, lambda r, now: retiring.say(r, [host.id], now=now)):
        stage.truth.retire(host.id, stage.world.time.now)
    stage.world.settle()


@act("an operator lets it in again", 1)
def take_back(stage: Stage, host: SimulatedHost) -> None:
    if _said(stage, lambda r, now: retiring.back(r, [host.id], now=now)):
        stage.truth.take_back([host.id])
    stage.world.settle()


def _drawn_move(chance: Random) -> tuple[Any, ...]:
    """To whom, and after how many steps the command is cut off: the word, the lease."""
    return chance.randrange(50), chance.choice((1, 2, 2, 2))


@act(
    "its address is to be that of host number {0} (so many steps of the command: {1})",
    0.8,
    _drawn_move,
)
def move_lease(stage: Stage, host: SimulatedHost, number: int, steps: int) -> None:
    """``neti lease move OLD NEW --take-out``. What comes behind these steps only looks."""
    world = stage.world
    new = world.hosts[number % len(world.hosts)].id

    def carry_out(registry: MemoryRegistry, now: float) -> None:
        move = Move(
            registry=registry,
            old=host.id,
            new=new,
            session_seconds=SESSION_SECONDS,
            wall=lambda: now,
        )
        for step in islice(move.steps(), steps):
            if step.name == "noted":
                stage.truth.retire(host.id, world.time.now)

    _said(stage, carry_out)
    world.settle()


def back_again(stage: Stage) -> None:
    """Everybody who was ever taken out, whatever the registry still knows of it."""
    world = stage.world
    if not stage.truth.ever_retired:
        return
    ids = sorted(stage.truth.ever_retired)
    if _said(stage, lambda r, now: retiring.back(r, ids, now=now)):
        stage.truth.take_back(ids)
    world.settle()


def _said(stage: Stage, say: Callable[[MemoryRegistry, float], None]) -> bool:
    """Whether it was said."""
    if stage.world.server._down:
        return False
    with contextlib.suppress(NetiError):
        say(MemoryRegistry(stage.world.server), stage.world.server.wall())
        return True
    return False
