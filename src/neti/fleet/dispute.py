"""Which of its entries speaks for a host, and what is wrong with the others. Pure.

It promises that only *believed* entries count against others: an entry is believed when its overlay
address is leased to its id. So junk cannot displace a member, whatever id, generation or address
it names. Of two equal claims the one that was accepted first stays.

Must never do: change what is known, or who is a member. It looks at facts and says what follows.
"""

from collections.abc import Mapping, Set
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from neti.fleet.entries import Roster
from neti.fleet.lost import Absences
from neti.fleet.members import Standing
from neti.fleet.reads import Asking
from neti.fleet.vouching import UNNAMED, Vouching
from neti.model import Member

# Which entry must make room first, by its record and by its lease: first one that is not the host's
# own, then one that was not read yet.
_ROOM: Final = {True: 2, None: 1, False: 0}


class Judge:
    """Not thread-safe: the fleet owns it. ``disputed``: names that do not count, and why;
    ``unvouched``: names that their hosts' records do not mention, without former entries. It must
    be told when a name is gone."""

    def __init__(
        self,
        roster: Roster,
        asking: Asking,
        standing: Standing,
        absences: Absences,
        vouching: Vouching,
    ) -> None:
        self._roster = roster
        self._asking = asking
        self._standing = standing
        self._absences = absences
        self._vouching = vouching
        self._disputed: dict[str, str] = {}
        self._unvouched: dict[str, None] = {}
        self.disputed: Mapping[str, str] = MappingProxyType(self._disputed)
        self.unvouched: Set[str] = self._unvouched.keys()

    def judge(self, host_id: str) -> str | None:
        """The name that speaks for this id, if any; notes what is wrong with the others."""
        entries = self._roster.entries_of(host_id)
        floor = self._absences.floor(host_id)
        chosen = self._best([name for name in entries if self._believed(name, floor)])
        for name in entries:
            fault = self._fault(name, chosen, floor) if name != chosen else None
            if fault is not None:
                self._disputed[name] = fault
            else:
                self._disputed.pop(name, None)
            if self._is_unvouched(name, chosen):
                self._unvouched[name] = None
            else:
                self._unvouched.pop(name, None)
        return chosen

    def why(self, name: str) -> str:
        """What is wrong with a disputed entry, as things are now."""
        claim = self._roster.claims[name]
        chosen = self._standing.speaks.get(claim.id)
        fault = self._fault(name, chosen, self._absences.floor(claim.id))
        return fault or self._disputed[name]

    def least(self, host_id: str) -> str | None:
        """The entry to put aside when an id has too many. Never the one that speaks for it. Of the
        others, first those that are known not to be in its record; then those whose address is
        leased to another host; then those whose lease was not read yet, the oldest first; and of
        those that hold the lease, the lowest generation."""
        speaks = self._standing.speaks.get(host_id)
        entries = [name for name in self._roster.entries_of(host_id) if name != speaks]
        return min(entries, key=self._room, default=None)

    def affected(self, claim: Member) -> set[str]:
        """Ids that may be judged differently when this claim comes or goes: its own. While it is
        not known whose the lease is, also that of one other host that claims the same address."""
        if self._asking.holds_lease(claim) is None and self._roster.count_at(claim.overlay) <= 2:
            return {claim.id, *self._roster.ids_at(claim.overlay)}
        return {claim.id}

    def _room(self, name: str) -> tuple[int, int, int]:
        claim = self._roster.claims[name]
        leased = self._asking.holds_lease(claim)
        vouched = self._vouching.vouched(claim.id, name)
        return _ROOM[vouched], _ROOM[leased], claim.generation if leased else 0

    def forget(self, name: str) -> None:
        """The entry is gone."""
        self._disputed.pop(name, None)
        self._unvouched.pop(name, None)

    def _best(self, believed: list[str]) -> str | None:
        """The one with the highest generation; of equals, the accepted one. Where records decide,
        one that a record names comes before any whose record is still being read."""
        if len(believed) < 2:
            return believed[0] if believed else None
        claims = self._roster.claims
        if self._vouching.decides:
            host_id = claims[believed[0]].id
            named = [n for n in believed if self._vouching.vouched(host_id, n)]
            believed = named or believed
        accepted = self._standing.speaks.get(claims[believed[0]].id)
        return min(believed, key=lambda n: (-claims[n].generation, n != accepted, n))

    def _believed(self, name: str, floor: int) -> bool:
        claim = self._roster.claims[name]
        if claim.generation < floor or not self._may_be_its_word(claim, name):
            return False
        leased = self._asking.holds_lease(claim)
        if leased is not None:
            return leased
        # Not read yet. An entry that was accepted stays so. One from a snapshot counts at once,
        # unless another host claims the address. One that has just appeared waits for the read,
        # which takes a millisecond. So does one that claims another address for a member: the
        # member must not be moved, not even for that millisecond.
        speaks = self._standing.speaks.get(claim.id)
        if speaks == name:
            return True
        if speaks is not None and self._roster.claims[speaks].overlay != claim.overlay:
            return False
        return self._roster.listed(name) and self._roster.count_at(claim.overlay) == 1

    def _may_be_its_word(self, claim: Member, name: str) -> bool:
        """By its host's record. While that is being read, an accepted entry stays, and so does one
        that says the same of the host; any other waits."""
        if not self._vouching.decides:
            return True
        vouched = self._vouching.vouched(claim.id, name)
        if vouched is not None:
            return vouched
        return self._standing.speaks.get(claim.id) == name or self.says_the_same(claim)

    def says_the_same(self, claim: Member) -> bool:
        """Of its host as what is believed of it, lost or not."""
        speaks = self._standing.speaks.get(claim.id)
        if speaks is None:
            return False
        accepted = self._roster.claims[speaks]
        return replace(claim, generation=accepted.generation) == accepted

    def _is_unvouched(self, name: str, chosen: str | None) -> bool:
        claim = self._roster.claims[name]
        if self._vouching.mode == "off" or self._vouching.vouched(claim.id, name) is not False:
            return False
        # An entry older than the one that speaks is a former one: it stays until its session ends.
        return chosen is None or claim.generation >= self._roster.claims[chosen].generation

    def _fault(self, name: str, chosen: str | None, floor: int) -> str | None:
        claim = self._roster.claims[name]
        best = self._roster.claims.get(chosen) if chosen is not None else None
        ahead = best.generation if best is not None else -1
        if self._vouching.decides and self._vouching.vouched(claim.id, name) is False:
            # A former entry of the host itself stays until its session ends.
            return UNNAMED if chosen is None or claim.generation >= ahead else None
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
