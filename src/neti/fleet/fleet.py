"""Who is a member: registry names in, accepted members and their changes out. Pure and incremental.

It promises that the outcome depends on what is known and not on the order in which it came, except
where order is the meaning: of two equal claims the one that was accepted stays. For this every fact
is kept as it was told, and ``settle`` decides from the facts alone.

    known          what may be asked of it
    entries        what the registry holds: names, and whose claims they are
    reads          leases as read, and what is to be read
    vouching       which entry is its host's own word, by the host's record
    members, lost  who was let in by which entry, and who of them has no registration
    dispute        which entry is believed, and speaks for its host
    crowd          which entries of one id are looked at when there are too many
    removal        who is lost, held, let go
    entering       what it means that an entry comes or goes
    answering      what it means that something was read
    settle         who is a member, by all of these
    beginning      what the last good state on disk says

Must never do: ask the registry or the clock itself (``questions`` and ``now`` are for that), or
let one entry's fault touch another member.
"""

from collections.abc import Collection, Iterable, Mapping, Set
from ipaddress import IPv4Address
from types import MappingProxyType
from typing import Final

from neti.fleet.admission import Admission
from neti.fleet.answering import Answering
from neti.fleet.beginning import Beginning
from neti.fleet.crowd import Crowds
from neti.fleet.entering import Entering
from neti.fleet.guard import Guard
from neti.fleet.known import Known
from neti.fleet.lost import Hold
from neti.fleet.members import Change
from neti.fleet.reads import Questions
from neti.fleet.settle import Settlement
from neti.fleet.vouching import Mode
from neti.model import IPAddress
from neti.model.wireguard_key import PublicKey
from neti.registry import DataRead, HostRead, KeyRead, LeaseRead

_GHOST: Final = (
    "its host is gone, and an older copy of the registry brought this back: the host has to "
    "register again"
)


class Fleet(Known):
    """What is told to a fleet, and what it hands out once: changes and questions."""

    def __init__(
        self,
        admission: Admission,
        *,
        linger_seconds: float,
        guard: Guard | None = None,
        hold_seconds: float = 3600.0,
        records: Mode = "off",
        keys: bool = False,
        share: str = "",
    ) -> None:
        super().__init__(
            admission,
            linger_seconds=linger_seconds,
            guard=guard,
            hold_seconds=hold_seconds,
            records=records,
            keys=keys,
            share=share,
        )
        self._guarded = guard is not None
        crowds = Crowds(self._roster, self._asking, self._standing, self._judge)
        self._entering = Entering(
            self._roster,
            self._asking,
            self._standing,
            self._vouching,
            self._judge,
            self._leaving,
            crowds,
            self._moves,
            guarded=self._guarded,
        )
        self._answering = Answering(
            self._roster, self._asking, self._standing, self._vouching, self._entering
        )
        self._settle = Settlement(
            self._roster,
            self._asking,
            self._standing,
            self._absent,
            self._vouching,
            self._judge,
            self._leaving,
            crowds,
        ).settle
        self._beginning = Beginning(
            self._roster,
            self._asking,
            self._standing,
            self._absent,
            self._vouching,
            self._leaving,
            self._entering,
            self._settle,
        )

    # --- what it hands out once ---

    def take_changes(self) -> list[Change]:
        """Differences since the last call, one per id at most."""
        return self._standing.take_changes()

    def take_absence_changes(self) -> set[str]:
        """Ids that were lost, held, or neither any more since the last call."""
        return self._absent.take_touched()

    def take_new_gone(self) -> dict[str, int]:
        """Those that were removed since the last call."""
        return self._leaving.take_new_gone()

    def take_now_leased(self) -> set[str]:
        """Members whose lease was read since the last call, and who were members before that."""
        return self._answering.take_now_leased()

    def take_rekeyed(self) -> set[str]:
        """Ids whose public key came, changed or went since the last call, or was proved with a new
        entry."""
        return self._vouching.take_rekeyed()

    def questions(self) -> Questions:
        """What is to be asked now; each is handed out once."""
        return self._asking.take()

    def ask_again(self) -> None:
        """Answers may have been lost with a connection: ask whatever is still open."""
        self._asking.again()

    def ask_unleased(self) -> None:
        """Read those leases a second time."""
        self._asking.want_unleased()

    def ask_for_data(self) -> None:
        """Read all further addresses again: those refused by earlier settings may be welcome."""
        self._asking.want_data(self._roster.extended())

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
        keys: Mapping[str, PublicKey] = MappingProxyType({}),
    ) -> None:
        """Begin from the last good state: ``names`` with their further addresses, those of lost
        members included, and ``lost`` as id -> (name, since). They stand until the registry says
        otherwise. ``gone``: hosts that were removed before, as the property of that name has them.
        ``keys``: hosts' public keys.
        """
        self._beginning.remember(
            names, lost=lost, owners=owners, holds=holds, passing=passing, gone=gone, keys=keys
        )

    def snapshot(
        self, names: Iterable[str], *, now: float, doubt: str | None = None, older: bool = True
    ) -> None:
        """The registry's complete list. What is not in it has vanished while nobody looked.

        Everything is taken in before anything is decided, so no order within the list matters.
        With a ``doubt`` (it may be another registry than before, or an older copy) it removes
        nobody: a member that is not in it is held at once, and does not come back by an older
        entry. A host that left, or stayed away for too long, is not let in by it either: it has to
        register again. ``older``: it may be an older copy; all that a new registry lists was made
        after the host was removed.
        """
        appeared, gone = self._roster.difference(frozenset(names))
        departures = {name for name in appeared if name.startswith("left.")}
        touched: set[str] = set()
        if gone and self._guarded:
            self._leaving.expect({i for name in appeared if (i := self._leased(name))})
        for name in departures:
            touched |= self._entering.enter(name, bulk=True, now=now)
        for name in sorted(gone, key=self._end_order):
            touched |= self._entering.remove(name, now=now)
        self._leaving.expect(())
        listed: set[str] = set()
        for name in sorted(appeared - departures):
            if doubt is not None and older and self._is_gone(name):
                self._roster.refuse(name, _GHOST)
            else:
                listed |= self._entering.enter(name, bulk=True, now=now)
        self._vouching.whole_list()
        touched |= {host_id for host_id in listed if not self._answering.waits(host_id)}
        self._roster.end_answered_departures()
        if doubt is not None:
            self._leaving.keep_all(Hold(now, doubt, doubt=True, older=older))
        self._settle(touched)

    def succeed(self, before: "Fleet") -> None:
        """Take over from another fleet which hosts are gone, and which entries it refuses because
        of that."""
        self._leaving.remember_gone(before.gone)
        self._leaving.retired = before._leaving.retired
        self._vouching.begin_like(before._vouching)
        for name, why in before.ghosts.items():
            self._roster.refuse(name, why)

    def appeared(self, name: str, *, bulk: bool = False, now: float = 0.0) -> None:
        self._settle(self._entering.enter(name, bulk=bulk, now=now))
        self._vouching.other_event()

    def vanished(self, name: str, *, now: float) -> None:
        self._settle(self._entering.remove(name, now=now))
        self._vouching.other_event()

    def host_changed(self, host_id: str, *, now: float = 0.0) -> None:
        """Its record was written. If the next thing told is that an entry of it appeared, the two
        were one step."""
        self._vouching.changed(host_id, known=self._entering.knows(host_id), now=now)

    def revoke_keys(self, revoked: Set[str]) -> bool:
        """As ``MemberKeys.revoke``."""
        return self._vouching.keys.revoke(revoked)

    def end_revoked_keys(self) -> None:
        self._vouching.keys.end_revoked()

    def decide_by_records(self, decide: bool) -> None:
        """From now on only what records name is believed, or again what was believed before."""
        if self._vouching.decide(decide):
            if not decide:  # nothing was asked about entries that were nobody's word
                self._ask_about_all()
            self._settle(set(map(self._id_of, self._roster.claims)))

    def gap_begins(self) -> None:
        """Perhaps nobody watches from now on."""
        self._vouching.gap_begins()

    def gap_is_over(self) -> None:
        """Everything is known again. A list, if there was one, was told before. Whose the keys are
        that several say is asked on each connection."""
        self._vouching.gap_is_over()
        self._vouching.keys.ask_again()

    def doubt_what_was_proved(self) -> None:
        """Nobody watched for a while: what was proved before and still stands must be proved again,
        and is believed until then."""
        self._vouching.doubt_all()

    def prove_again(self, ids: Iterable[str]) -> None:
        """Look once more whether the records of these members still name their entries."""
        self._vouching.again(ids)

    def answers(
        self, reads: Iterable[LeaseRead | DataRead | HostRead | KeyRead], *, now: float
    ) -> None:
        """Several answers: all are taken in before anything is decided."""
        touched: set[str] = set()
        for read in reads:
            match read:
                case HostRead():
                    touched |= self._answering.host_read(read, now=now)
                case LeaseRead(overlay, host_id):
                    touched |= self._answering.lease_read(overlay, host_id)
                case DataRead(name, data, made):
                    touched |= self._answering.data_read(name, data, made)
                case KeyRead():
                    touched |= self._answering.key_read(read)
        self._settle(touched)

    def leases_are(self, owners: Mapping[IPv4Address, str]) -> None:
        """Whose they are, for whoever has read all of them before the first list: of a member that
        holds its own nothing is asked, and it is decided once."""
        self._asking.remember_leases(owners)

    def host_read(self, read: HostRead, *, now: float) -> None:
        """What its record says."""
        self._settle(self._answering.host_read(read, now=now))

    def lease_read(self, overlay: IPv4Address, host_id: str | None) -> None:
        self._settle(self._answering.lease_read(overlay, host_id))

    def data_read(self, name: str, data: bytes | None, made: int = 0) -> None:
        """An entry's further addresses, and the step that made it."""
        self._settle(self._answering.data_read(name, data, made))

    def tick(self, *, now: float) -> None:
        """Let go of lost members whose time is over, and of small holds whose time is. Look at
        records and leases whose look was put off."""
        self._vouching.tick(now=now)
        self._entering.tick(now=now)
        self._settle(self._leaving.tick(now=now))

    def time_stood_still(self, seconds: float, *, now: float) -> None:
        """The registry was away for this long. No lost member could come back meanwhile, so its
        time did not run."""
        if len(self._absent):
            self._absent.stand_still(seconds, now=now)

    def release(self, ids: Iterable[str]) -> None:
        """Remove these held members after all."""
        self._settle(self._leaving.release(ids))

    def let_pass(self, ids: Collection[str]) -> None:
        """These lost members may go: those that are held now, the others when their time is over,
        without asking the guard. A member that returns, and is lost again, is like any other."""
        self._settle(self._leaving.let_pass(ids))

    def retire(self, ids: frozenset[str]) -> None:
        """Operators took these hosts, and no others, out of the fleet: see ``Leaving.retire``."""
        self._settle(self._leaving.retire(ids))

    # --- within ---

    def _ask_about_all(self) -> None:
        for name, claim in self._roster.claims.items():
            if self._asking.holds_lease(claim) is None:
                self._asking.want_lease(claim.overlay)
                if claim.extended and name in self._roster:
                    self._asking.want_data((name,))

    def _id_of(self, name: str) -> str:
        return self._roster.claims[name].id

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
