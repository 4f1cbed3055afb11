"""Reads other programs' packet filters out of the kernel, as seldom and as little as will do.

Only tables with a filter chain at a hook that incoming packets pass are read: a Kubernetes node's
ten thousand NAT rules are not. Nothing is read while the ruleset's generation is the same, and a
large ruleset that changes all the time takes a small share of the time at most.
"""

import re
import struct
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from neti.dataplane.foreign import Dropping, Table, droppings, legacy
from neti.dataplane.foreign.nft import may_be_dormant, parse, tables_to_read
from neti.dataplane.libnftables import Nftables
from neti.dataplane.netlink import NETLINK_NETFILTER, NetlinkSocket, attributes
from neti.errors import DataplaneError

_GENERATION: Final = (10 << 8) | 16  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN
_GENERATION_ID: Final = 1  # NFTA_GEN_ID
# After a look that took a second, none for so many: 1/300 of the time.
_PAUSE_FACTOR: Final = 300.0


class ForeignTables:
    """Works in the network namespace of the thread that made it, and in that thread only."""

    def __init__(self, nft: Nftables, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._nft = nft
        self._clock = clock
        self._socket = NetlinkSocket(NETLINK_NETFILTER)
        self._generation: int | None = None
        self._not_before = 0.0
        self._of_nft: tuple[Dropping, ...] = ()
        self._found: tuple[Dropping, ...] = ()
        self.untold: tuple[str, ...] = ()  # sentences about what cannot be told

    def look(self) -> tuple[Dropping, ...]:
        """Base chains that drop, ours left out. Raises DataplaneError."""
        started = self._clock()
        if started < self._not_before:
            return self._found
        others, self.untold = legacy.read()
        generation = self._read_generation()
        if generation != self._generation or generation is None:
            self._of_nft = tuple(one for table in self._tables() for one in droppings(table))
            self._generation = generation
        self._found = (*self._of_nft, *(one for table in others for one in droppings(table)))
        self._not_before = started + (self._clock() - started) * _PAUSE_FACTOR
        return self._found

    def _read_generation(self) -> int | None:
        for body in self._socket.ask(_GENERATION, struct.pack("=BBH", 0, 0, 0)):
            held = dict(attributes(body[4:]))
            if _GENERATION_ID in held:
                return int.from_bytes(held[_GENERATION_ID], "big")
        return None

    def _tables(self) -> Iterator[Table]:
        for family, name in tables_to_read(self._nft.query("list chains", terse=True)):
            try:
                listed = self._nft.query(f"list table {family} {_quoted(name)}", terse=True)
                dormant = may_be_dormant(listed) and self._is_dormant(family, name)
            except DataplaneError as error:
                if "No such file or directory" in str(error):
                    continue  # gone since the list of chains was read
                raise
            if not dormant:
                yield parse(family, name, listed, partial(self._map, family, name))

    def _is_dormant(self, family: str, name: str) -> bool:
        listing = self._nft.listing(f"list table {family} {_quoted(name)}")
        return any(
            line.startswith("\tflags ") and "dormant" in line for line in listing.split("\n")
        )

    def _map(self, family: str, table: str, name: str) -> list[Any]:
        """A verdict map's elements."""
        for item in self._nft.query(f"list map {family} {_quoted(table)} {_quoted(name)}"):
            if "map" in item:
                elements: list[Any] = item["map"].get("elem", [])
                return elements
        return []


def _quoted(name: str) -> str:
    """A name of somebody else's as nft can say it; it has no escapes."""
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_/\\.-]*", name) else f'"{name}"'
