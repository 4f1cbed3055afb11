"""Reads other programs' packet filters out of the kernel, as rarely and as little as possible.

Only tables with a filter chain at a hook that incoming packets pass are read, and of these what can
be reached from there: a Kubernetes node's ten thousand NAT rules are not. Nothing is read while the
ruleset's generation is the same, and a large ruleset that changes all the time takes a small share
of the time at most.
"""

import time
from collections.abc import Callable, Iterator
from typing import Final

from neti.dataplane.foreign import Dropping, Table, droppings, legacy
from neti.dataplane.foreign.nft import BaseChain
from neti.dataplane.foreign.read import RulesReader, TooMuch
from neti.dataplane.listing import name

# So many times as long as a look took, there is no other: looks take 1/300 of the time at most.
_PAUSE_FACTOR: Final = 300.0


class ForeignTables:
    """Works in the network namespace of the thread that made it, and in that thread only."""

    def __init__(
        self, reader: RulesReader | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._reader = reader or RulesReader()
        self._clock = clock
        self._generation: int | None = None
        self._not_before = 0.0
        self._of_nft: tuple[Dropping, ...] = ()
        self._untold_of_nft: tuple[str, ...] = ()
        self._found: tuple[Dropping, ...] = ()
        self.untold: tuple[str, ...] = ()  # sentences about what cannot be told

    def look(self) -> tuple[Dropping, ...]:
        """Base chains that drop, ours left out. Raises DataplaneError."""
        started = self._clock()
        if started < self._not_before:
            return self._found
        others, untold = legacy.read()
        generation = self._reader.generation()
        if generation != self._generation or generation is None:
            self._untold_of_nft = ()
            self._of_nft = tuple(one for table in self._tables() for one in droppings(table))
            self._generation = generation
        self.untold = (*untold, *self._untold_of_nft)
        self._found = (*self._of_nft, *(one for table in others for one in droppings(table)))
        self._not_before = started + (self._clock() - started) * _PAUSE_FACTOR
        return self._found

    def _tables(self) -> Iterator[Table]:
        self._reader.begin()
        by_table: dict[tuple[str, bytes], list[BaseChain]] = {}
        for chain in self._reader.base_chains():
            if chain.may_drop_incoming:
                by_table.setdefault((chain.family, chain.table), []).append(chain)
        for (family, which), bases in by_table.items():
            if self._reader.dormant(family, which):
                continue
            try:
                table = self._reader.table(family, which, bases)
            except TooMuch as error:
                what = f"table {family} {name(which)} has {error}"
                untold = f"{what}: whether it drops what Neti lets in is not looked into"
                self._untold_of_nft = (*self._untold_of_nft, untold)
                continue
            yield table
