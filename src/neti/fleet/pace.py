"""How often records are looked at, so that a host that writes its own again and again costs little.

Each host has a few looks in hand. They come back one by one, slower in a large fleet: what all of
its agents together ask about one host stays the same. A look that has to wait is put off by some
chance beside, so that agents do not all look at the same moment; and it is one look, however often
the record was written meanwhile. Pure.

Must never do: drop a look, or let one host's writes delay a look at another.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final
from zlib import crc32

_IN_HAND: Final = 6
_SHORTEST: Final = 1.0  # seconds until a look comes back
_MEMBERS_A_SECOND: Final = 1000  # so many agents look at one record in a second, all together
_FORGET_FROM: Final = 1024


class Pace:
    """Not thread-safe: the fleet owns it. ``now`` is steady seconds; ``share``: any text that
    differs from agent to agent; ``members``: how many there are."""

    def __init__(self, share: str, members: Callable[[], int]) -> None:
        self._share = share
        self._members = members
        self._whole: dict[str, float] = {}  # by id: when all its looks are in hand again
        self._later: dict[str, float] = {}
        self._order: list[tuple[float, str]] = []
        self._forget_from = _FORGET_FROM

    def waits(self, host_id: str) -> bool:
        """Whether a look at this host's record is put off."""
        return host_id in self._later

    def may(self, host_id: str, *, now: float) -> bool:
        """Whether its record may be looked at now; if not, it is put off."""
        if host_id in self._later:
            return False
        every = max(_SHORTEST, self._members() / _MEMBERS_A_SECOND)
        whole = max(now, self._whole.get(host_id, now)) + every
        self._note(host_id, whole, now)
        wait = whole - now - _IN_HAND * every
        if wait <= 0:
            return True
        chance = crc32(f"{self._share} {host_id} {whole}".encode()) / 0xFFFFFFFF
        self._later[host_id] = when = now + wait + chance * every
        heappush(self._order, (when, host_id))
        return False

    def forget(self, host_id: str) -> None:
        """Nobody has this id any more. How many looks are in hand is kept."""
        self._later.pop(host_id, None)

    def next(self) -> float | None:
        """When ``due`` next has something."""
        while self._order and self._later.get(self._order[0][1]) != self._order[0][0]:
            heappop(self._order)
        return self._order[0][0] if self._order else None

    def due(self, *, now: float) -> list[str]:
        """Whose record is to be looked at after all."""
        ids = []
        while (when := self.next()) is not None and when <= now:
            _, host_id = heappop(self._order)
            del self._later[host_id]
            ids.append(host_id)
        return ids

    def _note(self, host_id: str, whole: float, now: float) -> None:
        self._whole[host_id] = whole
        if len(self._whole) > self._forget_from:
            self._whole = {i: at for i, at in self._whole.items() if at > now}
            self._forget_from = max(_FORGET_FROM, 2 * len(self._whole))
