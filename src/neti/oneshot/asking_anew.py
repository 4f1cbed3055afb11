"""Asks every host to say anew how it is, and waits until they have.

Must never do: wait for ever, or change anything but that word.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from neti.fleet.pace import asked_within
from neti.model.settings import Settings
from neti.oneshot.registered import read
from neti.registry import OperatorRegistry

_LONGER: Final = 12.0  # seconds beyond the agents' own time: a look of theirs, and the way
_LOOKS: Final = 20
_LEAST: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """``asked``: hosts that say when they wrote; ``silent``: of these, who has not written since.
    ``within``: seconds that agents take at most."""

    asked: int
    silent: frozenset[str]
    within: float


def ask_anew(
    settings: Settings,
    registry: OperatorRegistry,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Answered]:
    """After each look how many have answered; ends when all have, or when time is up. Whether a
    host has answered is seen by its own time, which need not be ours."""
    before = _written(settings, registry)
    registry.change_setting("asked", str(time.time_ns()).encode())
    within = asked_within(len(before))
    begun, left = clock(), set(before)
    while left and clock() - begun < within + _LONGER:
        sleep(max(_LEAST, within / _LOOKS))
        now = _written(settings, registry)
        left = {host_id for host_id in left if now.get(host_id) == before[host_id]}
        yield Answered(asked=len(before), silent=frozenset(left), within=within)


def _written(settings: Settings, registry: OperatorRegistry) -> dict[str, int]:
    told = read(settings, registry).told
    return {i: document.written for i, document in told.items() if document.written is not None}
