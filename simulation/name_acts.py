"""What operators say of names.

Must never do: what ``simulation/acts.py`` must not.
"""

import contextlib
from collections.abc import Callable
from typing import Any, Final

from neti.errors import NetiError
from neti.oneshot import naming
from neti.registry.memory import MemoryRegistry
from neti.state.folder import NAMES_FILE
from simulation.acts import Stage, act
from simulation.clock import HostClock

SUFFIXES: Final = ("neti.internal", "fleet.internal", "")
NAMES: Final = ("db", "mail", "db.corp.example", "vpc-1")


@act(
    "an operator calls host number {1} {0}",
    1.5,
    lambda c: (c.choice(NAMES), c.randrange(50)),
    of_host=False,
)
def name_host(stage: Stage, name: str, number: int) -> None:
    world = stage.world
    settings, host_id = world.hosts[0].settings, world.hosts[number % len(world.hosts)].id
    _say(stage, lambda r, now: naming.give(settings, r, name, host_id, now=now))


@act(
    "an operator takes the name {} away",
    0.7,
    lambda c: (c.choice(NAMES),),
    of_host=False,
)
def name_away(stage: Stage, name: str) -> None:
    _say(stage, lambda r, now: naming.take(r, name, now=now))


@act(
    "an operator makes the fleet's suffix '{}'",
    1,
    lambda c: (c.choice(SUFFIXES),),
    of_host=False,
)
def suffix(stage: Stage, word: str) -> None:
    settings = stage.world.hosts[0].settings
    _say(stage, lambda r, now: naming.set_suffix(settings, r, word, now=now))


def names_again(stage: Stage) -> None:
    """Where the registry forgot them, or has older ones, or a host cannot read what it kept, an
    operator says anything of them."""
    cores = [host.agent.core for host in stage.world.hosts if host.agent]
    unread = [one.sentence for core in cores for one in core.problems if one.code == "state"]
    held = any("names" in core.live.faults for core in cores)
    if held or any(NAMES_FILE in sentence for sentence in unread):
        suffix(stage, SUFFIXES[0])
        suffix(stage, SUFFIXES[1])


def _say(stage: Stage, say: Callable[[MemoryRegistry, float], Any]) -> None:
    world = stage.world
    if world.server._down:
        return
    # Two within a second, in a registry and in an older copy of it, are two editions.
    stage.editions += 1
    with contextlib.suppress(NetiError):
        say(MemoryRegistry(world.server), HostClock(world.time).wall() + stage.editions)
    world.settle()


__all__ = ["names_again"]
