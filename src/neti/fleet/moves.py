"""Words that a lease was moved: whose lease is read because of them, and how often. Pure.

Any member can make such words, as many as it likes and about every address, and each would have
every agent read a lease. So of many words the first few are heeded at once, and then some leases
together now and then, as with a record that is written again and again (``pace``).

Must never do: forget an address that a word named, or name the same one twice for one look.
"""

from ipaddress import IPv4Address
from itertools import islice
from typing import Final

from neti.fleet.pace import Pace

_AT_ONCE: Final = 128  # leases for one look: as many as one request to the registry names
_LOOK: Final = ""


class Moves:
    """Not thread-safe: the fleet owns it."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._said: dict[IPv4Address, None] = {}

    def heard(self, overlay: IPv4Address, *, now: float) -> list[IPv4Address]:
        """A word about this address came. Returns whose lease is to be read now."""
        self._said[overlay] = None
        return self._look(now) if not self._pace.waits(_LOOK) else []

    def tick(self, *, now: float) -> list[IPv4Address]:
        """Whose lease is to be read after all."""
        if not self._pace.due(now=now):
            return []
        return self._take(now)

    def next_tick(self) -> float | None:
        return self._pace.next()

    def _look(self, now: float) -> list[IPv4Address]:
        return self._take(now) if self._pace.may(_LOOK, now=now) else []

    def _take(self, now: float) -> list[IPv4Address]:
        taken = self._part()
        while self._said and self._pace.may(_LOOK, now=now):
            taken += self._part()
        return taken

    def _part(self) -> list[IPv4Address]:
        part = list(islice(self._said, _AT_ONCE))
        for overlay in part:
            del self._said[overlay]
        return part
