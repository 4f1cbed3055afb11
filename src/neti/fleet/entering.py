"""An entry comes or goes: notes what that means, and what must be asked because of it. Pure.

Methods return the ids that must be decided anew by the caller.

Must never do: decide who is a member.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from neti.fleet.crowd import Crowds
from neti.fleet.dispute import Judge
from neti.fleet.entries import Roster
from neti.fleet.members import Standing
from neti.fleet.moves import Moves
from neti.fleet.reads import Asking
from neti.fleet.removal import Leaving
from neti.fleet.vouching import Vouching
from neti.model import Departure, Member, Moved


@dataclass(frozen=True, slots=True)
class Entering:
    """Not thread-safe: the fleet owns it. ``guarded``: goodbyes pass the guard too."""

    _roster: Roster
    _asking: Asking
    _standing: Standing
    _vouching: Vouching
    _judge: Judge
    _leaving: Leaving
    _crowds: Crowds
    _moves: Moves
    guarded: bool = field(kw_only=True)

    def enter(self, name: str, *, bulk: bool = False, now: float = 0.0) -> set[str]:
        """The registry has it. ``bulk``: it was in a complete list."""
        told = self._roster.enter(name, bulk=bulk)
        if isinstance(told, Member):
            same = self._judge.says_the_same(told)
            if bulk:
                self._vouching.listed(told.id, name, now=now, same=same)
            elif not self._vouching.appeared(told.id, name, now=now, same=same) and (
                self._vouching.decides
            ):
                # It is nobody's word, so nothing is asked about it.
                return self._crowds.make_room(told.id) | {told.id}
            if told.extended and not (self._vouching.decides and self._vouching.waits(told.id)):
                self._asking.want_data((name,))  # otherwise once its record has been read
            if not self._asking.holds_lease(told):
                # First sight, or the lease has changed hands since it was read: look.
                self._asking.want_lease(told.overlay)
            return self._crowds.make_room(told.id) | self._judge.affected(told)
        if isinstance(told, Moved):
            # A real one is gone in the step that made it, so none is in a list.
            if not bulk and self._roster.claimed(told.overlay):
                self._want_leases(self._moves.heard(told.overlay, now=now))
        elif isinstance(told, Departure):
            if self._vouching.decides:
                if self.knows(told.id):
                    self._vouching.said_goodbye(told.id, listed=bulk)
                return self.heed_goodbye(told.id, now=now)
            return self._leaving.goodbye(told, now=now)
        return set()

    def tick(self, *, now: float) -> None:
        """Look at leases of which it was said that they were moved, and whose look was put off."""
        self._want_leases(self._moves.tick(now=now))

    def _want_leases(self, overlays: Iterable[IPv4Address]) -> None:
        for overlay in overlays:
            if self._roster.claimed(overlay):
                self._asking.want_lease(overlay)

    def remove(self, name: str, *, now: float) -> set[str]:
        """The registry no longer has it."""
        claim = self._roster.remove(name)
        if claim is None:
            return set()
        touched = self._judge.affected(claim)
        self._judge.forget(name)
        self._vouching.vanished(claim.id, name)
        if claim.extended or self._vouching.reads:
            self._asking.forget_data(name)
        if self._standing.speaks.get(claim.id) != name:
            self._roster.drop(name)
            return touched | self._crowds.fill(claim.id)
        departed = self._said_goodbye(name, claim)
        if departed and not self.guarded:
            self._roster.drop(name)
            return touched | self._crowds.fill(claim.id)
        self._leaving.lose(claim.id, since=now)
        if departed:
            touched |= self._leaving.let_go((claim.id,), now=now, said=True)
        return touched

    def knows(self, host_id: str) -> bool:
        """Whether it is a member, or the registry has an entry of it."""
        return host_id in self._standing.members or bool(self._roster.entries_of(host_id))

    def heed_goodbye(self, host_id: str, *, now: float) -> set[str]:
        """Where records decide, a goodbye counts only once the host's own record says so."""
        word = self._vouching.goodbye(host_id) if self._vouching.decides else None
        return self._leaving.goodbye(word, now=now) if word is not None else set()

    def _said_goodbye(self, name: str, claim: Member) -> bool:
        if not self._vouching.decides:
            return self._roster.said_goodbye(name)
        word = self._vouching.goodbye(claim.id)
        return word is not None and word.generation >= claim.generation
