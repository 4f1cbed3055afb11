"""Decides from the facts alone which member, if any, an id stands for. Pure.

It promises that the outcome does not depend on which id is looked at first, and that it is final:
whatever a decision touches is decided too, before ``settle`` returns.

Must never do: note a fact. It is told which ids may stand differently now.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from neti.fleet.crowd import Crowds
from neti.fleet.dispute import Judge
from neti.fleet.entries import Roster
from neti.fleet.lost import Absences
from neti.fleet.members import Standing
from neti.fleet.reads import Asking
from neti.fleet.removal import Leaving
from neti.fleet.vouching import Vouching
from neti.model import Member


@dataclass(frozen=True, slots=True)
class Settlement:
    """Not thread-safe: the fleet owns it."""

    _roster: Roster
    _asking: Asking
    _standing: Standing
    _absences: Absences
    _vouching: Vouching
    _judge: Judge
    _leaving: Leaving
    _crowds: Crowds

    def settle(self, touched: Iterable[str]) -> None:
        """Decide anew for these ids, then for those of them that are lost."""
        while touched:
            again: set[str] = set()
            # All choices from one picture, so that none depends on who was looked at first.
            chosen = {host_id: self._judge.judge(host_id) for host_id in touched}
            for host_id, name in chosen.items():
                again |= self._decide(host_id, name)
                again |= self._crowds.turn(host_id)
                if host_id not in self._standing.members and not self._roster.entries_of(host_id):
                    self._vouching.forget(host_id)
            touched = again | self._leaving.without_lease(chosen)
        # Only now, as a claim may follow the one that ended.
        for overlay in self._roster.take_unclaimed():
            self._asking.forget_lease(overlay)

    def _decide(self, host_id: str, chosen: str | None) -> set[str]:
        """Let ``chosen`` speak for this id; returns the ids that are to be decided after it."""
        again: set[str] = set()
        if host_id in self._absences:
            if chosen is None:
                return again
            before = self._standing.speaks[host_id]
            self._absences.end(host_id)
            if before not in self._roster:  # it may have returned as well, beside a better one
                again = self._roster.ids_at(self._roster.claims[before].overlay) - {host_id}
                self._roster.drop(before)
        if chosen is None:
            if host_id in self._standing.members:
                # What spoke for it kept its other entries from being believed before they are read.
                again = {*again, host_id}
            self._standing.drop(host_id)
        else:
            self._standing.accept(chosen, self._member(host_id, chosen))
        return again

    def _member(self, host_id: str, name: str) -> Member:
        """Until the further addresses of a new entry have been read, those of the host's former
        entry stay: most hosts have the same, and must not be shut out for that moment."""
        told, before = self._roster.member(name), self._standing.members.get(host_id)
        if before is None or not told.extended or told.more:
            return told
        if not (self._asking.asks_data(name) or self._vouching.waits(host_id)):
            return told
        return replace(told, more=before.more)
