"""Asks every host to say anew how it is, and waits until they have.

Must never do: wait for ever, or change anything but that word.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from neti.fleet.pace import asked_within
from neti.model.settings import Settings
from neti.oneshot.documents import told_by
from neti.oneshot.registered import entries
from neti.registry import OperatorRegistry

_LONGER: Final = 12.0  # seconds beyond the agents' own time: a look of theirs, and the way
_LOOKS: Final = 20
_LEAST: Final = 1.0
_A_SECOND: Final = 1.0  # documents say to the second when they were written


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """``asked``: members that say when they wrote; ``silent``: of these, who has not written since;
    ``unseen``: the other members: they do not say when, as those of earlier versions, so nobody
    sees whether they answer. ``within``: seconds that agents take at most."""

    asked: int
    silent: frozenset[str]
    unseen: frozenset[str]
    within: float


def ask_anew(
    settings: Settings,
    registry: OperatorRegistry,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Answered]:
    """At once, and after each look, how many have answered; ends when all have, or when time is up.
    Whether a host has answered is seen by its own time, which need not be ours: so nobody is asked
    in the second in which it may have written. One that is gone does not answer."""
    believed = entries(settings, registry)
    before = _written(registry, believed)
    sleep(_A_SECOND)
    registry.change_setting("asked", str(time.time_ns()).encode())
    # As the agents reckon it, who know of all members.
    within = asked_within(len(believed))
    unseen = frozenset(believed.keys() - before.keys())

    def look(left: frozenset[str]) -> Collection[str]:
        now = _written(registry, {host_id: believed[host_id] for host_id in left})
        return {i for i in left if now.get(i, before[i]) == before[i]}

    pause = max(_LEAST, within / _LOOKS)
    for left in awaited(before, look, within + _LONGER, pause, sleep=sleep, clock=clock):
        yield Answered(asked=len(before), silent=left, unseen=unseen, within=within)


def awaited(
    first: Collection[str],
    look: Callable[[frozenset[str]], Collection[str]],
    seconds: float,
    pause: float,
    *,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
) -> Iterator[frozenset[str]]:
    """Who has not answered yet: at once, and after each ``look``, which tells it; until nobody is
    left, or ``seconds`` are over. ``pause``: seconds between two looks."""
    left, begun = frozenset(first), clock()
    while True:
        yield left
        if not left or clock() - begun >= seconds:
            return
        sleep(pause)
        left = frozenset(look(left))


def _written(registry: OperatorRegistry, believed: Mapping[str, str | None]) -> dict[str, int]:
    told = told_by(registry, believed).by
    return {i: document.written for i, document in told.items() if document.written is not None}
