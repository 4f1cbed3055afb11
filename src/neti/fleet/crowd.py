"""Makes room when one id has too many entries, and lets others of them have their turn. Pure.

It promises that each entry of a crowd is looked at once, the newest first, and that the one that
speaks for its host is never put aside.

Methods return the ids that must be decided anew by the caller.

Must never do: decide which entry is believed.
"""

from neti.fleet.dispute import Judge
from neti.fleet.entries import Roster
from neti.fleet.members import Standing
from neti.fleet.reads import Asking


class Crowds:
    """Not thread-safe: the fleet owns it."""

    def __init__(self, roster: Roster, asking: Asking, standing: Standing, judge: Judge) -> None:
        self._roster = roster
        self._asking = asking
        self._standing = standing
        self._judge = judge

    def make_room(self, host_id: str) -> set[str]:
        """If it has thousands of entries, only a handful of them are looked at."""
        if not self._roster.overcrowded(host_id):
            return set()
        name = self._judge.least(host_id)
        return self._put_aside(name) if name is not None else set()

    def fill(self, host_id: str, *, unseen: bool = False) -> set[str]:
        """There is room for one of the id's crowd."""
        name = self._roster.next_of_crowd(host_id, unseen=unseen)
        if name is None:
            return set()
        claim = self._roster.claims[name]
        if claim.extended:
            self._asking.want_data((name,))
        if not self._asking.holds_lease(claim):
            self._asking.want_lease(claim.overlay)
        return self._judge.affected(claim)

    def turn(self, host_id: str) -> set[str]:
        """Entries whose address is leased to another host make room for others of their id, because
        the host's own entry may be among these."""
        again: set[str] = set()
        if not self._roster.has_unseen(host_id):
            return again
        for name in self._roster.entries_of(host_id):
            claim = self._roster.claims[name]
            if (
                self._asking.holds_lease(claim) is False
                and name != self._standing.speaks.get(host_id)
                and self._roster.has_unseen(host_id)
            ):
                again |= self._put_aside(name) | self.fill(host_id, unseen=True)
        return again

    def _put_aside(self, name: str) -> set[str]:
        claim = self._roster.claims[name]
        touched = self._judge.affected(claim)
        self._judge.forget(name)
        self._asking.forget_data(name)
        self._roster.put_aside(name, seen=self._asking.holds_lease(claim) is False)
        return touched
