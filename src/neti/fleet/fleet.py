"""Who is a member: registry names in, accepted members and their changes out. Pure and incremental.

It promises that the outcome depends on what is known and not on the order in which it came, except
where order is the meaning: of two equal claims the one that was accepted stays. For this every fact
is kept as it was told, and ``_settle`` decides from the facts alone which member, if any, an id
stands for.

    entries        what the registry holds: names, and whose claims they are
    reads          leases as read, and what is to be read
    members, lost  who was let in by which entry, and who of them has no registration
    dispute        which entry is believed, and speaks for its host
    removal        who is lost, held, let go

Must never do: ask the registry or the clock itself (``questions`` and ``now`` are for that), or
let one entry's fault touch another member.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import islice
from types import MappingProxyType
from typing import Final

from neti.fleet.admission import Admission
from neti.fleet.dispute import Judge
from neti.fleet.entries import MAX_JUDGED, Roster
from neti.fleet.guard import Guard
from neti.fleet.lost import Absences, Hold, Lost
from neti.fleet.members import Change, Standing
from neti.fleet.reads import Asking, Questions
from neti.fleet.removal import Leaving
from neti.fleet.vouching import Mode, Vouching
from neti.model import Departure, IPAddress, Member, Moved
from neti.registry import HostRead

# Junk in the registry must not fill the status page.
MAX_NAMED: Final = 100
MAX_CROWDS_NAMED: Final = 20
_GHOST: Final = (
    "its host is gone, and an older copy of the registry brought this back: the host has to "
    "register again"
)


class Fleet:
    """Not thread-safe: the agent's loop owns it. ``now`` is Unix seconds everywhere.

    Whoever would be removed passes the ``guard``; without one nothing is ever held.
    """

    def __init__(
        self,
        admission: Admission,
        *,
        linger_seconds: float,
        guard: Guard | None = None,
        hold_seconds: float = 3600.0,
        records: Mode = "off",
    ) -> None:
        self._guarded = guard is not None
        self._now_leased: set[str] = set()  # members whose lease was read after they were let in
        self._roster = Roster(admission)
        self._asking = Asking()
        self._standing = Standing()
        self._absent = Absences()
        self._vouching = Vouching(records, self._asking, self._roster.__contains__)
        known = (self._roster, self._asking, self._standing, self._absent)
        self._judge = Judge(*known, self._vouching)
        self._leaving = Leaving(
            *known, linger_seconds=linger_seconds, guard=guard, hold_seconds=hold_seconds
        )

    # --- what is known ---

    @property
    def members(self) -> Mapping[str, Member]:
        """Accepted members, live and lost, by id."""
        return self._standing.members

    @property
    def speaks(self) -> Mapping[str, str]:
        """By the id of each member, the name of the entry that was accepted for it."""
        return self._standing.speaks

    @property
    def lost(self) -> Mapping[str, Lost]:
        """Members without a registration, those that are held included."""
        return self._absent.lost

    def absent(self, host_id: str) -> Lost | None:
        """``lost`` of one id, for less."""
        return self._absent.get(host_id)

    @property
    def holds(self) -> Mapping[str, Hold]:
        return self._absent.holds

    @property
    def passing(self) -> Collection[str]:
        """Lost members whom ``let_pass`` was about."""
        return self._absent.passing

    def take_absence_changes(self) -> set[str]:
        """Ids that were lost, held, or neither any more since the last call."""
        return self._absent.take_touched()

    def take_now_leased(self) -> set[str]:
        """Members whose lease was read since the last call, and who were members before that."""
        leased, self._now_leased = self._now_leased & self.members.keys(), set()
        return leased

    @property
    def gone(self) -> Mapping[str, int]:
        """Hosts that were removed, and the generation of each one's last entry: the latest last,
        and not more than ``removal.MAX_GONE``."""
        return MappingProxyType(self._leaving.gone)

    def take_new_gone(self) -> dict[str, int]:
        """Those that were removed since the last call."""
        return self._leaving.take_new_gone()

    @property
    def names(self) -> frozenset[str]:
        return self._roster.names

    @property
    def ghosts(self) -> Mapping[str, str]:
        """Entries of hosts that are gone, which an older copy of the registry brought back."""
        return self._roster.ghosts

    def stands(self, name: str) -> bool:
        """Whether the registry holds this name."""
        return name in self._roster

    def names_of(self, host_id: str) -> tuple[str, ...]:
        """Names of the admissible entries that claim this id."""
        return tuple(self._roster.entries_of(host_id))

    def departed(self, host_id: str) -> int | None:
        """The generation whose goodbye stands in the registry, with no entry of this id since."""
        return self._roster.departed(host_id)

    @property
    def owners(self) -> Mapping[IPv4Address, str | None]:
        """Leases as read, of the addresses that somebody claims."""
        return self._asking.owners

    def skipped(self, most: int = MAX_NAMED) -> dict[str, str]:
        """Entries that are not believed, each with the reason; the first hundred, or ``most``.

        An entry whose further addresses are refused is named too, though the rest of it counts.
        """
        roster = self._roster
        named = {
            name: f"{count} entries of one host id more than the {MAX_JUDGED} that are looked at"
            for name, count in islice(roster.crowds(), MAX_CROWDS_NAMED)
        }
        for name in islice(roster.junk, most - len(named)):
            named[name] = roster.fault(name)
        for name in islice(self._judge.disputed, most - len(named)):
            named[name] = self._judge.why(name)
        for name in islice(roster.bad_data, most - len(named)):
            named.setdefault(name, roster.bad_data[name])
        return named

    def skipped_count(self) -> int:
        faults = self._judge.disputed.keys() | self._roster.bad_data.keys()
        return len(self._roster.junk) + self._roster.crowded + len(faults)

    @property
    def records(self) -> Mode:
        """What hosts' records are for."""
        return self._vouching.mode

    def decide_by_records(self, decide: bool) -> None:
        """From now on only what records name is believed, or again what was believed before."""
        if self._vouching.mode != "off" and decide != self._vouching.decides:
            self._vouching.mode = "strict" if decide else "report"
            self._settle(set(map(self._id_of, self._roster.claims)))

    @property
    def unvouched(self) -> Collection[str]:
        """Entries that their hosts' records do not name, and that would speak for these hosts, or
        do; none where records are not read."""
        return self._judge.unvouched

    def shared_private(self) -> list[tuple[str, IPv4Address, tuple[str, ...]]]:
        """Private addresses that several members of one site claim: all are let in, and named."""
        return self._standing.shared_private()

    def questions(self) -> Questions:
        """What is to be asked now; each is handed out once."""
        return self._asking.take()

    def ask_again(self) -> None:
        """Answers may have been lost with a connection: ask whatever is still open."""
        self._asking.again()

    @property
    def unleased(self) -> bool:
        """Whether somebody claims an address that was nobody's when it was read, once."""
        return self._asking.unleased

    def ask_unleased(self) -> None:
        """Read those leases a second time."""
        self._asking.want_unleased()

    def ask_for_data(self) -> None:
        """Read all further addresses again: those refused by earlier settings may be welcome."""
        self._asking.want_data(self._roster.extended())

    def take_changes(self) -> list[Change]:
        """Differences since the last call, one per id at most."""
        return self._standing.take_changes()

    # --- what is told ---

    def remember(
        self,
        names: Mapping[str, tuple[IPAddress, ...]],
        *,
        lost: Mapping[str, tuple[str, float]],
        owners: Mapping[IPv4Address, str],
        holds: Mapping[str, Hold] = MappingProxyType({}),
        passing: Collection[str] = (),
        gone: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Begin from the last good state: ``names`` with their further addresses, ``lost`` as
        id -> (name, since). They stand until the registry says otherwise. ``gone``: who was removed
        before, as ``gone`` says.

        A lost one's further addresses are taken from ``names`` too, where it may stand as well.
        """
        self._leaving.remember_gone(gone)
        self._asking.remember_leases(owners)
        were_lost = dict(lost.values())
        words = {m.id: n for n in names if (m := self._roster.admissible(n)) is not None}
        self._vouching.trust(words)
        touched: set[str] = set()
        for name in names.keys() - were_lost.keys():
            touched |= self._enter(name, bulk=True)
            self._restore_more(name, names[name])
        self._settle(touched)
        self._restore_lost(were_lost, names)
        self._vouching.keep_only(self.members)
        for host_id, hold in holds.items():
            if host_id in self._absent:
                self._absent.hold((host_id,), hold)
        self._absent.let_pass(host_id for host_id in passing if host_id in self._absent)
        for overlay in owners:
            if not self._roster.claimed(overlay):
                self._asking.forget_lease(overlay)

    def snapshot(
        self, names: Iterable[str], *, now: float, doubt: str | None = None, older: bool = True
    ) -> None:
        """The registry's complete list. What is not in it has vanished while nobody looked.

        Everything is taken in before anything is decided, so no order within the list matters.
        With a ``doubt`` (it may be another registry than before, or an older copy) nobody is
        removed by it: who is not in it is held at once, and does not come back as an older self.
        Nor is anybody let in by it who was removed before: a host that left, or stayed away for too
        long, has to register anew. ``older``: it may be an older copy; what a registry that was
        laid out anew lists was made after that.
        """
        appeared, gone = self._roster.difference(frozenset(names))
        departures = {name for name in appeared if name.startswith("left.")}
        touched: set[str] = set()
        if gone and self._guarded:
            self._leaving.returning = {i for name in appeared if (i := self._leased(name))}
        for name in departures:
            touched |= self._enter(name, now=now)
        for name in sorted(gone, key=self._end_order):
            touched |= self._remove(name, now=now)
        self._leaving.returning = ()
        for name in sorted(appeared - departures):
            if doubt is not None and older and self._is_gone(name):
                self._roster.refuse(name, _GHOST)
            else:
                touched |= self._enter(name, bulk=True)
        self._roster.end_answered_departures()
        if doubt is not None:
            self._leaving.keep_all(Hold(now, doubt, doubt=True))
        self._settle(touched)

    def succeed(self, before: "Fleet") -> None:
        """Whom another fleet knows to be gone, and which entries it refuses for that."""
        self._leaving.remember_gone(before.gone)
        self._vouching.mode = before._vouching.mode
        self._vouching.trust(before._vouching.proved)
        for name, why in before.ghosts.items():
            self._roster.refuse(name, why)

    def appeared(self, name: str, *, bulk: bool = False, now: float = 0.0) -> None:
        self._settle(self._enter(name, bulk=bulk, now=now))
        self._vouching.other_event()

    def vanished(self, name: str, *, now: float) -> None:
        self._settle(self._remove(name, now=now))
        self._vouching.other_event()

    def host_changed(self, host_id: str) -> None:
        """Its record was written. If the next thing told is that an entry of it appeared, the two
        were one step."""
        known = host_id in self.members or bool(self._roster.entries_of(host_id))
        self._vouching.changed(host_id, known=known)

    def host_read(self, read: HostRead, *, now: float) -> None:
        """What its record says."""
        self._vouching.host_read(read)
        self._settle({read.host_id} | self._heed_goodbye(read.host_id, now=now))

    @property
    def unproved(self) -> Collection[str]:
        """Members that are believed by what was proved before a gap, or before this agent ran."""
        return self._vouching.trusted

    def doubt_what_was_proved(self) -> None:
        """Nobody watched for a while: what was proved and still stands is to be proved again, and
        is believed until then."""
        self._vouching.doubt_all()

    def prove_again(self, ids: Iterable[str]) -> None:
        """Look once more whether the records of these members still name their entries."""
        self._vouching.again(ids)

    def lease_read(self, overlay: IPv4Address, host_id: str | None) -> None:
        if not self._roster.claimed(overlay):
            return  # nobody claims this address any more, so the answer no longer matters
        known = overlay in self._asking.owners
        before = self._asking.owners.get(overlay)
        self._asking.lease_read(overlay, host_id)
        if not known:
            member = self.members.get(host_id) if host_id is not None else None
            if member is not None and member.overlay == overlay:
                self._now_leased.add(member.id)
            self._roster.lease_read(overlay)
            self._settle(self._roster.ids_at(overlay))
        elif before != host_id:
            # For all others it was somebody else's, and is.
            self._settle({i for i in (before, host_id) if i} & self._roster.ids_at(overlay))

    def data_read(self, name: str, data: bytes | None, made: int = 0) -> None:
        """An entry's further addresses, and the step that made it."""
        self._asking.data_read(name)
        claim = self._roster.data_read(name, data) if data is not None else None
        known = self._roster.claims.get(name)
        if known is not None:
            self._vouching.data_read(known.id, name, made)
            claim = known if self._vouching.decides else claim
        if claim is not None:
            self._settle((claim.id,))

    def tick(self, *, now: float) -> None:
        """Let go of lost members whose time is over, and of small holds whose time is."""
        self._settle(self._leaving.tick(now=now))

    def time_stood_still(self, seconds: float, *, now: float) -> None:
        """The registry was away for so long. Nobody could come back meanwhile, so the time of lost
        members did not run."""
        if len(self._absent):
            self._absent.stand_still(seconds, now=now)

    def next_tick(self) -> float | None:
        """When ``tick`` next has something to do, in Unix seconds."""
        return self._leaving.next_tick()

    def release(self, ids: Iterable[str]) -> None:
        """Remove these held members after all."""
        self._settle(self._leaving.release(ids))

    def let_pass(self, ids: Collection[str]) -> None:
        """Remove those of these lost members that are held, and let the others go without the
        guard when their time is over. Whoever returns, and is lost again, is like all others."""
        self._settle(self._leaving.let_pass(ids))

    # --- noting facts: each returns the ids that may stand differently now ---

    def _enter(self, name: str, *, bulk: bool = False, now: float = 0.0) -> set[str]:
        told = self._roster.enter(name, bulk=bulk)
        if isinstance(told, Member):
            if bulk:
                self._vouching.listed(told.id, name)
            elif not self._vouching.appeared(told.id, name) and self._vouching.decides:
                return self._make_room(told.id) | {told.id}  # nobody's word: nothing is asked
            if told.extended:
                self._asking.want_data((name,))
            if not self._asking.holds_lease(told):
                # First sight, or the lease has changed hands since it was read: look.
                self._asking.want_lease(told.overlay)
            return self._make_room(told.id) | self._affected(told)
        if isinstance(told, Moved):
            if self._roster.claimed(told.overlay):
                self._asking.want_lease(told.overlay)
        elif isinstance(told, Departure):
            if self._vouching.decides:
                self._asking.want_host(told.id)
                return self._heed_goodbye(told.id, now=now)
            return self._leaving.goodbye(told, now=now)
        return set()

    def _heed_goodbye(self, host_id: str, *, now: float) -> set[str]:
        """Where records decide, a goodbye counts once the host's own says so."""
        word = self._vouching.goodbye(host_id) if self._vouching.decides else None
        return self._leaving.goodbye(word, now=now) if word is not None else set()

    def _remove(self, name: str, *, now: float) -> set[str]:
        claim = self._roster.remove(name)
        if claim is None:
            return set()
        touched = self._affected(claim)
        self._judge.forget(name)
        self._vouching.vanished(claim.id, name)
        if claim.extended or self._vouching.mode != "off":
            self._asking.forget_data(name)
        if self._standing.speaks.get(claim.id) != name:
            self._roster.drop(name)
            return touched | self._fill(claim.id)
        departed = self._said_goodbye(name, claim)
        if departed and not self._guarded:
            self._roster.drop(name)
            return touched | self._fill(claim.id)
        self._leaving.lose(claim.id, since=now)
        if departed:
            touched |= self._leaving.let_go((claim.id,), now=now, said=True)
        return touched

    def _said_goodbye(self, name: str, claim: Member) -> bool:
        if not self._vouching.decides:
            return self._roster.said_goodbye(name)
        word = self._vouching.goodbye(claim.id)
        return word is not None and word.generation >= claim.generation

    def _id_of(self, name: str) -> str:
        return self._roster.claims[name].id

    def _affected(self, claim: Member) -> set[str]:
        """Who may stand differently when this claim comes or goes: its id, and while it is not
        known whose the lease is, one who claims the address with it, or was the only one to."""
        if self._asking.holds_lease(claim) is None and self._roster.count_at(claim.overlay) <= 2:
            return {claim.id, *self._roster.ids_at(claim.overlay)}
        return {claim.id}

    def _make_room(self, host_id: str) -> set[str]:
        """Whoever makes thousands of entries under one id has a handful of them looked at."""
        if not self._roster.overcrowded(host_id):
            return set()
        name = self._judge.least(host_id)
        return self._put_aside(name) if name is not None else set()

    def _put_aside(self, name: str) -> set[str]:
        claim = self._roster.claims[name]
        touched = self._affected(claim)
        self._judge.forget(name)
        self._asking.forget_data(name)
        self._roster.put_aside(name, seen=self._asking.holds_lease(claim) is False)
        return touched

    def _fill(self, host_id: str, *, unseen: bool = False) -> set[str]:
        """There is room for one of the id's crowd."""
        name = self._roster.next_of_crowd(host_id, unseen=unseen)
        if name is None:
            return set()
        claim = self._roster.claims[name]
        if claim.extended:
            self._asking.want_data((name,))
        if not self._asking.holds_lease(claim):
            self._asking.want_lease(claim.overlay)
        return self._affected(claim)

    def _end_order(self, name: str) -> tuple[bool, bool, str]:
        """Members that said goodbye go last, because a member that is lost at the same time may
        have shared a public address with one of them; the goodbyes themselves go after that."""
        return name.startswith("left."), self._roster.said_goodbye(name), name

    def _is_gone(self, name: str) -> bool:
        """Whether this is an entry of a host that was removed, and no later one."""
        member = self._roster.admissible(name)
        if member is None or member.id in self.members:
            return False
        return self._leaving.gone.get(member.id, -1) >= member.generation

    def _leased(self, name: str) -> str | None:
        """Whose entry this is, when its overlay address is known to be leased to that host."""
        member = self._roster.admissible(name)
        return member.id if member is not None and self._asking.holds_lease(member) else None

    def _restore_more(self, name: str, more: tuple[IPAddress, ...]) -> None:
        if self._roster.remember_more(name, more):
            self._asking.forget_data(name)

    def _restore_lost(
        self, since: Mapping[str, float], more: Mapping[str, tuple[IPAddress, ...]]
    ) -> None:
        restored: set[str] = set()
        for name in sorted(since):
            member = self._roster.admissible(name)
            if member is not None and member.id not in self.members:
                self._roster.keep(name, member)
                self._restore_more(name, more.get(name, ()))
                self._standing.accept(name, self._roster.member(name))
                self._leaving.lose(member.id, since=since[name])
                restored.add(member.id)
        self._settle(restored)

    # --- deciding ---

    def _settle(self, touched: Iterable[str]) -> None:
        """Decide anew for these ids, then for those of them that are lost."""
        while touched:
            again: set[str] = set()
            # All choices from one picture, so that none depends on who was looked at first.
            chosen = {host_id: self._judge.judge(host_id) for host_id in touched}
            for host_id, name in chosen.items():
                again |= self._decide(host_id, name)
                again |= self._next_of_crowd(host_id)
                if host_id not in self.members and not self._roster.entries_of(host_id):
                    self._vouching.forget(host_id)
            touched = again | self._leaving.without_lease(chosen)
        # Only now, as a claim may follow the one that ended.
        for overlay in self._roster.take_unclaimed():
            self._asking.forget_lease(overlay)

    def _next_of_crowd(self, host_id: str) -> set[str]:
        """Entries that were found to be nobody's make room for others of their id, which may be
        the host's own: so each of a crowd is looked at once, the newest first."""
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
                again |= self._put_aside(name) | self._fill(host_id, unseen=True)
        return again

    def _decide(self, host_id: str, chosen: str | None) -> set[str]:
        """Let ``chosen`` speak for this id; returns the ids that are to be decided after it."""
        again: set[str] = set()
        if host_id in self._absent:
            if chosen is None:
                return again
            before = self._standing.speaks[host_id]
            self._absent.end(host_id)
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
        """Until the further addresses of a new entry have been read, its host's former ones stand:
        most hosts have the same, and they must not be shut out for that moment."""
        told, before = self._roster.member(name), self.members.get(host_id)
        if before is None or not told.extended or told.more or not self._asking.asks_data(name):
            return told
        return replace(told, more=before.more)
