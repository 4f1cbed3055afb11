"""Checks again whether members' records still name their entries, a few at a time.

Entries of the last good state, and those that were there before a gap and after it, are believed
meanwhile. If every agent asked about every member at once after an outage, the servers would do
nothing else. So it takes a minute, and longer in a fleet of thousands.

Must never do: ask about all members at once, or while the registry is away.
"""

import math
from collections import deque
from collections.abc import Mapping, Set
from typing import Final

from neti.agent.core import Core
from neti.fleet.pace import seconds_for_all

_EVERY: Final = 1.0  # seconds between two batches


class Proving:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._left: deque[str] = deque()
        self._batch = 1

    @property
    def goes_on(self) -> bool:
        """Whether there are records left to be read."""
        return bool(self._left)

    def listed(self) -> None:
        """A complete list was taken in: we did not see what happened to the entries before it."""
        fleet = self._core.members.fleet
        if fleet.reads_records:
            fleet.doubt_what_was_proved()
            self._begin(fleet.unproved)

    def anew(self, proved: Mapping[str, str]) -> None:
        """The membership was built from scratch. Of these entries, by id, it is known still that
        records name them; records of other members may not have been read, or were being read."""
        fleet = self._core.members.fleet
        if fleet.reads_records:
            words = fleet.trusted_words
            self._begin({host_id for host_id in words if words[host_id] != proved.get(host_id)})

    def _begin(self, ids: Set[str]) -> None:
        core, fleet = self._core, self._core.members.fleet
        left = deque(sorted(ids))
        count = len(left)
        if not count:
            return
        left.rotate(core.out.chance(count))  # so that agents ask about different ones
        if core.own_key.wanted:  # those without a key first: nothing reaches them by the tunnel
            left = deque(sorted(left, key=fleet.keys.__contains__))
        self._left = left
        self._batch = math.ceil(count * _EVERY / seconds_for_all(count))
        core.soon("prove", _EVERY)

    def look(self) -> None:
        """The timer "prove"."""
        core, fleet = self._core, self._core.members.fleet
        if self._left and core.in_step.fresh:
            batch = [self._left.popleft() for _ in range(min(self._batch, len(self._left)))]
            fleet.prove_again(host_id for host_id in batch if host_id in fleet.unproved)
        if self._left:
            core.soon("prove", _EVERY)
