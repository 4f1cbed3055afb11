"""How members end: lost, held, let go, released, or without their lease. Pure.

It promises that the guard is asked before members are removed for being gone, and that all members
of one site that are due together go or stay together. A hold ends by itself only while at most a
quarter of the fleet is held. A member that has lost its lease goes without the guard: the registry
says that its overlay address is another host's, and only operators can change that.

Methods that remove members return the ids that must be decided anew by the caller.

Must never do: take silence for a goodbye; remove a member because another host claims its real
addresses, since any host can claim any address of its site; or begin a removal by itself: it is
told who is lost, who said goodbye, and what time it is.
"""

from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from typing import Final

from neti.fleet.entries import Roster
from neti.fleet.guard import Guard, ends_by_itself
from neti.fleet.lost import Absences, Batch, Hold, Lost
from neti.fleet.members import Standing
from neti.fleet.reads import Asking
from neti.model import Departure, Member

MAX_GONE: Final = 10_000  # hosts that were removed and are remembered


class Leaving:
    """Not thread-safe: the fleet owns it. ``now`` is Unix seconds."""

    def __init__(
        self,
        roster: Roster,
        asking: Asking,
        standing: Standing,
        absences: Absences,
        *,
        linger_seconds: float,
        guard: Guard | None,
        hold_seconds: float,
    ) -> None:
        self._roster = roster
        self._asking = asking
        self._standing = standing
        self._absences = absences
        self._linger = linger_seconds
        self._guard = guard
        self._hold_seconds = hold_seconds
        self._returning: Collection[str] = ()
        self.retired: frozenset[str] = frozenset()  # operators took these hosts out
        # Of hosts that were removed: the generation of their last entry, the latest last.
        self.gone: dict[str, int] = {}
        self._new_gone: dict[str, int] = {}

    def expect(self, ids: Collection[str]) -> None:
        """The list that is being taken in has these under another name, so they are not on their
        way out. Call it with nobody when the list is over."""
        self._returning = ids

    def lose(self, host_id: str, *, since: float) -> None:
        """Its registration is gone: it stays a member, and its time begins."""
        member = self._standing.members[host_id]
        self._absences.add(Lost(member, since))

    def goodbye(self, word: Departure, *, now: float) -> set[str]:
        """A lost member left on purpose, if the departure is about this generation of it."""
        lost = self._absences.get(word.id)
        if lost is None or lost.member.generation > word.generation:
            return set()
        if word.id in self._absences.holds:
            return set()
        return self.let_go((word.id,), now=now, said=True)

    def keep_all(self, hold: Hold) -> None:
        """The whole registry is in doubt: every member that it does not have stays, except those
        that an operator let go before."""
        absences = self._absences
        kept = [i for i in absences.lost if i not in absences.holds and i not in absences.passing]
        absences.hold(kept, hold)

    def tick(self, *, now: float) -> set[str]:
        """Let go of lost members whose time is over, and of small holds whose time is."""
        self._absences.set_back(now)
        over = self._absences.over(now=now, linger=self._linger)
        touched = self.let_go(over, now=now) if over else set()
        for batch in self._ending():
            over = self._absences.held_until(now - self._hold_seconds, batch)
            touched |= self.release(over)
        return touched

    def next_tick(self) -> float | None:
        """When ``tick`` next has something to do."""
        times = []
        lost = self._absences.first_lost()
        if lost is not None:
            times.append(lost + self._linger)
        for batch in self._ending():
            held = self._absences.first_held(batch)
            if held is not None:
                times.append(held + self._hold_seconds)
        return min(times, default=None)

    def _ending(self) -> list[Batch]:
        """Batches whose holds end by themselves. Each batch is judged separately."""
        members = len(self._standing.members)
        batches = self._absences.batches()
        return [batch for batch, held in batches if ends_by_itself(held, members)]

    def let_go(self, ids: Collection[str], *, now: float, said: bool = False) -> set[str]:
        """Remove these lost members, or hold them if the guard objects: for each site, all of them
        or none. ``said``: they said goodbye."""
        guard, passing = self._guard, self._absences.passing
        if guard is None:
            return self._remove(ids)
        touched: set[str] = set()
        if passing or self.retired:
            known = {*passing, *(self.retired & self._absences.lost.keys())}
            touched = self._remove([i for i in ids if i in known])
        by_site: dict[str, list[str]] = {}
        for host_id in ids:
            if host_id not in self._absences:
                continue
            by_site.setdefault(self._standing.members[host_id].site, []).append(host_id)
        for site, batch in sorted(by_site.items()):
            reason = self._objection(guard, site, batch, now=now)
            if reason is not None:
                self._absences.hold(batch, Hold(now, reason, said=said))
            else:
                guard.let_go(batch, now=now)
                touched |= self._remove(batch)
        return touched

    def _objection(
        self, guard: Guard, site: str, batch: Collection[str], *, now: float
    ) -> str | None:
        """If all that are gone together are too many, those of one other site are left out and it
        is asked again: one site that loses many members, or pretends to, does not hold back the
        others."""
        absences, members = self._absences, self._standing.members
        old = absences.held_before(now, guard)
        if absences.passing or self.retired:  # an operator knows about these
            old |= {*absences.passing, *(self.retired & absences.lost.keys())}
        fleet = members.keys() - old if old else members
        absent: Collection[str] = absences.lost.keys() - old if old else absences.lost.keys()
        if self._returning:  # these only have another entry in the same list
            absent = set(absent) - set(self._returning)
        reason = guard.objection(batch, absent, fleet, now=now)
        if reason is None:
            return None
        other = absences.worst_site_but(site, old)
        if other is None:
            return reason
        others = {i for i in absent if members[i].site != other}
        return reason if guard.objection(batch, others, fleet, now=now) is not None else None

    def release(self, ids: Iterable[str]) -> set[str]:
        """Remove these held members after all, because an operator said so or their time is over.
        They do not count towards the next hold."""
        return self._remove([i for i in dict.fromkeys(ids) if i in self._absences.holds])

    def let_pass(self, ids: Collection[str]) -> set[str]:
        """An operator says that these lost members may go: those that are held now, the others when
        their time is over, whatever else is gone by then."""
        self._absences.let_pass(i for i in ids if i in self._absences)
        return self.release(ids)

    def retire(self, ids: frozenset[str]) -> set[str]:
        """Operators took these hosts out of the fleet, and no others: whoever of them goes, goes
        without asking the guard, and does not count for others. Held ones go at once, unless
        because the registry is in doubt: an older copy of it holds an older word."""
        self.retired = ids
        holds = self._absences.holds
        return self._remove([i for i in ids & holds.keys() if not holds[i].doubt])

    def without_lease(self, ids: Iterable[str]) -> set[str]:
        """Remove those of these that are lost, and whose overlay address is not theirs any more."""
        lost = [one for i in ids if (one := self._absences.get(i)) is not None]
        return self._remove(one.member.id for one in lost if self._lease_is_gone(one.member))

    def _lease_is_gone(self, member: Member) -> bool:
        """Another host has it, or nobody; in a registry that is in doubt, nobody having it says
        nothing: one that was wiped knows no lease at all."""
        if self._asking.holds_lease(member) is not False:
            return False
        hold = self._absences.holds.get(member.id)
        in_doubt = hold is not None and hold.doubt
        return not in_doubt or self._asking.owners[member.overlay] is not None

    def _remove(self, ids: Iterable[str]) -> set[str]:
        touched: set[str] = set()
        for host_id in ids:
            member = self._absences.end(host_id).member
            self._note_gone(member)
            overlay = member.overlay
            name = self._standing.speaks[host_id]
            self._standing.drop(host_id)
            touched |= self._roster.ids_at(overlay)
            if name not in self._roster:
                self._roster.drop(name)
        return touched

    def _note_gone(self, member: Member) -> None:
        self.gone.pop(member.id, None)
        self.gone[member.id] = self._new_gone[member.id] = member.generation
        if len(self.gone) > MAX_GONE:
            oldest = next(iter(self.gone))
            del self.gone[oldest]
            self._new_gone.pop(oldest, None)

    def remember_gone(self, gone: Mapping[str, int]) -> None:
        """From an earlier run, or from the fleet before this one: the latest last."""
        self.gone.update(gone)
        for oldest in [*islice(self.gone, max(0, len(self.gone) - MAX_GONE))]:
            del self.gone[oldest]

    def take_new_gone(self) -> dict[str, int]:
        """Of those that were removed since the last call, as many as are remembered."""
        new, self._new_gone = self._new_gone, {}
        return new
