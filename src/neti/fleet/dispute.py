"""Which of its entries speaks for a host, and what is wrong with the others. Pure.

It promises that only *believed* entries count against others: one is believed when its overlay
address is leased to its id. So junk cannot displace a member, whatever id, generation or address
it names. Of two equal claims the one that was accepted stays.

Must never do: change what is known or who stands. It looks at facts and says what follows.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from neti.fleet.entries import Roster
from neti.fleet.lost import Absences
from neti.fleet.members import Standing
from neti.fleet.reads import Asking

# Which entry must make room first, by its lease: another's (0), not read yet, its own.
_ROOM: Final = {True: 2, None: 1, False: 0}


class Judge:
    """Not thread-safe: the fleet owns it. ``disputed``: names that do not count, and why; it is
    told when a name is gone."""

    def __init__(
        self, roster: Roster, asking: Asking, standing: Standing, absences: Absences
    ) -> None:
        self._roster = roster
        self._asking = asking
        self._standing = standing
        self._absences = absences
        self._disputed: dict[str, str] = {}
        self.disputed: Mapping[str, str] = MappingProxyType(self._disputed)

    def judge(self, host_id: str) -> str | None:
        """The name that speaks for this id, if one does; what is wrong with the others is noted."""
        entries = self._roster.entries_of(host_id)
        floor = self._absences.floor(host_id)
        chosen = self._best([name for name in entries if self._believed(name, floor)])
        for name in entries:
            fault = self._fault(name, chosen, floor) if name != chosen else None
            if fault is not None:
                self._disputed[name] = fault
            else:
                self._disputed.pop(name, None)
        return chosen

    def why(self, name: str) -> str:
        """What is wrong with a disputed entry, as things are now."""
        claim = self._roster.claims[name]
        chosen = self._standing.speaks.get(claim.id)
        fault = self._fault(name, chosen, self._absences.floor(claim.id))
        return fault or self._disputed[name]

    def least(self, host_id: str) -> str | None:
        """Of too many entries of one id the one to put aside: never the one that speaks for it; of
        the others first those whose lease is another's, then those whose lease was not read, the
        oldest of them first; of those that hold the lease, the lowest generation."""
        speaks = self._standing.speaks.get(host_id)
        entries = [name for name in self._roster.entries_of(host_id) if name != speaks]
        return min(entries, key=self._room, default=None)

    def _room(self, name: str) -> tuple[int, int]:
        claim = self._roster.claims[name]
        leased = self._asking.holds_lease(claim)
        return _ROOM[leased], claim.generation if leased else 0

    def forget(self, name: str) -> None:
        """The entry is gone."""
        self._disputed.pop(name, None)

    def _best(self, believed: list[str]) -> str | None:
        """The highest generation; of equals, the accepted one."""
        if len(believed) < 2:
            return believed[0] if believed else None
        claims = self._roster.claims
        accepted = self._standing.speaks.get(claims[believed[0]].id)
        return min(believed, key=lambda n: (-claims[n].generation, n != accepted, n))

    def _believed(self, name: str, floor: int) -> bool:
        claim = self._roster.claims[name]
        if claim.generation < floor:
            return False
        leased = self._asking.holds_lease(claim)
        if leased is not None:
            return leased
        # Not read yet. What was accepted stays so; what stood in a snapshot enters at once, unless
        # somebody else claims the address; what has just appeared waits for the read, a millisecond
        # away. So does what claims another address for somebody who is a member: it must not be
        # moved, not even for that millisecond.
        speaks = self._standing.speaks.get(claim.id)
        if speaks == name:
            return True
        if speaks is not None and self._roster.claims[speaks].overlay != claim.overlay:
            return False
        return self._roster.listed(name) and self._roster.count_at(claim.overlay) == 1

    def _fault(self, name: str, chosen: str | None, floor: int) -> str | None:
        claim = self._roster.claims[name]
        best = self._roster.claims.get(chosen) if chosen is not None else None
        ahead = best.generation if best is not None else -1
        if claim.generation < ahead:
            return None  # an older generation, about to be removed: no fault
        if self._asking.holds_lease(claim) is False:
            owner = self._asking.owners[claim.overlay]
            whose = f"leased to {owner}" if owner is not None else "leased to nobody"
            return f"overlay address {claim.overlay} is {whose}"
        if claim.generation < floor:
            return "it is older than what this host knows: the registry may be an older copy"
        if claim.generation == ahead:
            return f"host id {claim.id} is claimed twice, also by {chosen}"
        return None  # its lease is being read
