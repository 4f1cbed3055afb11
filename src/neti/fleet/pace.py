"""How often records are looked at, so that a host that writes its own again and again costs little.

Each host has a few looks in hand. They come back one by one, slower in a large fleet: what all of
its agents together ask about one host stays the same. A look that has to wait is put off by some
chance beside, so that agents do not all look at the same moment; and it is one look, however often
the record was written meanwhile.

Looks that nothing waits for (a host is back, and says of itself what it said before) share a few
looks in hand. After an outage of all sessions every host is such a one, to every agent. Pure.

Must never do: drop a look, or let one host's writes delay a look at another.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final
from zlib import crc32

_IN_HAND: Final = 6
_SHORTEST: Final = 1.0  # seconds until a look comes back
_MEMBERS_A_SECOND: Final = 1000  # so many agents look at one record in a second, all together
_FORGET_FROM: Final = 1024
_ALL_IN_HAND: Final = 16  # looks that nothing waits for
LONG_ENOUGH: Final = 60.0  # seconds for all members
FLEET_ASKS: Final = 20_000.0  # looks per second from all agents of a fleet together


def seconds_for_all(members: int) -> float:
    """How long an agent takes to look at every member, where nothing waits for it: all agents of
    the fleet do so at the same time."""
    return max(LONG_ENOUGH, members * members / FLEET_ASKS)


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
        self._unhurried: set[str] = set()  # of those that are put off: nothing waits for them
        self._kept: dict[str, float] = {}  # by id: the turn of one that was hurried before it came
        self._all_whole = 0.0

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
        earliest = now + wait
        self._put_off(host_id, earliest + self._chance(host_id, earliest) * every)
        return False

    def may_unhurried(self, host_id: str, *, now: float) -> bool:
        """As ``may``, of a look that nothing waits for."""
        if host_id in self._later:
            return False
        turn = self._kept.pop(host_id, None)
        if turn is None:
            members = max(1, self._members())
            whole = seconds_for_all(members)
            every = whole / members
            self._all_whole = min(max(now, self._all_whole) + every, now + whole)
            wait = self._all_whole - now - _ALL_IN_HAND * every
            turn = now + max(0.0, wait)
            if turn > now:
                turn += self._chance(host_id, turn) * every
        if turn <= now:
            return True
        self._unhurried.add(host_id)
        self._put_off(host_id, turn)
        return False

    def hurry(self, host_id: str) -> None:
        """Something may wait for it now. It keeps its turn: a host that comes back again and again
        takes no more of what all share."""
        if host_id in self._unhurried:
            turn = self._later[host_id]
            self.forget(host_id)
            self._kept[host_id] = turn

    def forget(self, host_id: str) -> None:
        """Nobody has this id any more. How many looks are in hand is kept."""
        self._later.pop(host_id, None)
        self._unhurried.discard(host_id)
        self._kept.pop(host_id, None)

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
            self.forget(host_id)
            ids.append(host_id)
        return ids

    def _chance(self, host_id: str, when: float) -> float:
        """From 0 to 1, another one for each agent."""
        return crc32(f"{self._share} {host_id} {when}".encode()) / 0xFFFFFFFF

    def _put_off(self, host_id: str, when: float) -> None:
        self._later[host_id] = when
        heappush(self._order, (when, host_id))
        if len(self._order) > _FORGET_FROM + 2 * len(self._later):
            self._order = [(at, one) for one, at in self._later.items()]
            heapify(self._order)

    def _note(self, host_id: str, whole: float, now: float) -> None:
        self._whole[host_id] = whole
        if len(self._whole) > self._forget_from:
            self._whole = {i: at for i, at in self._whole.items() if at > now}
            self._forget_from = max(_FORGET_FROM, 2 * len(self._whole))


def asked_within(members: int) -> float:
    """Seconds within which all of so many answer an operator who asks them for their documents:
    a hundred within half a minute, and from two thousand on all within ten minutes."""
    return min(600.0, 0.3 * members)
