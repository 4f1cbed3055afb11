"""Who is a member: registry names in, accepted members and their changes out. Pure and incremental.

Every fact (names present, departures seen, leases read, data read, members lost) is kept as it
was told, and ``_settle`` decides from the facts alone which member, if any, an id stands for. So
the outcome depends on what is known and not on the order in which it came, except where order is
the meaning: of two equal claims the one that was accepted stays.

Must never do: ask the registry or the clock itself (``questions`` and ``now`` are for that), or
let one entry's fault touch another member.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from types import MappingProxyType
from typing import Any, Final

from neti.admission import Admission
from neti.errors import EntryError
from neti.model import Departure, IPAddress, Member
from neti.registry import entry

# Whoever fills the registry with junk shall not fill our memory or the status page with it.
MAX_NAMED: Final = 100


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one host: ``before`` and ``after`` are never equal, and never both None."""

    id: str
    before: Member | None
    after: Member | None


@dataclass(frozen=True, slots=True)
class Lost:
    """A member whose session ended without a word; ``since`` in Unix seconds."""

    member: Member
    since: float
    shared_public: bool  # others stood behind the same public address then: it is a NAT's


@dataclass(frozen=True, slots=True)
class Questions:
    """What must be read from the registry before everything can be decided."""

    leases: frozenset[IPv4Address]
    data: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.leases or self.data)


class Fleet:
    """Not thread-safe: the agent's loop owns it. ``now`` is Unix seconds everywhere."""

    def __init__(self, admission: Admission, *, linger_seconds: float) -> None:
        self._admission = admission
        self._linger = linger_seconds
        self._names: set[str] = set()
        self._entries: dict[str, dict[str, Member]] = {}  # id -> name -> claim, admissible ones
        self._more: dict[str, tuple[IPAddress, ...]] = {}  # name -> further addresses, once read
        self._departures: dict[str, int] = {}  # id -> highest generation that said goodbye
        self._lost: dict[str, Lost] = {}
        self._owners: dict[IPv4Address, str | None] = {}  # leases as read
        self._listed: set[str] = set()  # names from a snapshot: their leases are checked behind
        self._by_overlay: dict[IPv4Address, set[str]] = {}
        self._by_private: dict[tuple[str, IPv4Address], set[str]] = {}
        self._by_public: dict[IPv4Address, set[str]] = {}
        self._accepted: dict[str, Member] = {}
        self._before: dict[str, Member | None] = {}
        self._faults: dict[str, str] = {}  # entry name -> why it is skipped
        self._unnamed_faults = 0
        self._ask_leases: set[IPv4Address] = set()
        self._ask_data: set[str] = set()
        self._waiting_leases: set[IPv4Address] = set()
        self._waiting_data: set[str] = set()

    # --- what is known ---

    @property
    def members(self) -> Mapping[str, Member]:
        """Accepted members, live and lost, by id."""
        return MappingProxyType(self._accepted)

    @property
    def lost(self) -> Mapping[str, Lost]:
        return MappingProxyType(self._lost)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._names)

    def names_of(self, host_id: str) -> tuple[str, ...]:
        """Names of the admissible entries that claim this id."""
        return tuple(self._entries.get(host_id, ()))

    @property
    def owners(self) -> Mapping[IPv4Address, str | None]:
        return MappingProxyType(self._owners)

    def skipped(self) -> dict[str, str]:
        """Entries that are not believed, each with the reason; the first hundred."""
        named = dict(self._faults)
        for host_id, claims in self._entries.items():
            accepted = self._accepted.get(host_id)
            for name, claim in claims.items():
                if accepted is None or not _same_claim(accepted, claim):
                    reason = self._claim_fault(host_id, name, claim)
                    if reason is not None and len(named) < MAX_NAMED:
                        named[name] = reason
        return named

    def skipped_count(self) -> int:
        return len(self.skipped()) + self._unnamed_faults

    def shared_private(self) -> list[tuple[str, IPv4Address, tuple[str, ...]]]:
        """Private addresses that several members of one site claim: all are let in, and named."""
        return [
            (site, address, tuple(sorted(ids)))
            for (site, address), ids in self._by_private.items()
            if len(ids) > 1
        ]

    def questions(self) -> Questions:
        """What is to be asked now; each is handed out once."""
        asked = Questions(frozenset(self._ask_leases), frozenset(self._ask_data))
        self._waiting_leases |= self._ask_leases
        self._waiting_data |= self._ask_data
        self._ask_leases.clear()
        self._ask_data.clear()
        return asked

    def ask_again(self) -> None:
        """Answers may have been lost with a connection: ask whatever is still open."""
        self._ask_leases |= self._waiting_leases
        self._ask_data |= self._waiting_data

    def take_changes(self) -> list[Change]:
        """Differences since the last call, one per id at most."""
        changes = [
            Change(host_id, before, after)
            for host_id, before in self._before.items()
            if (after := self._accepted.get(host_id)) != before
        ]
        self._before.clear()
        return changes

    # --- what is told ---

    def remember(
        self,
        names: Mapping[str, tuple[IPAddress, ...]],
        *,
        lost: Mapping[str, tuple[str, float]],
        owners: Mapping[IPv4Address, str],
    ) -> None:
        """Begin from the last good state: ``names`` with their further addresses, ``lost`` as
        id -> (name, since). They stand until the registry says otherwise."""
        self._owners.update(owners)
        for name, more in names.items():
            self._more[name] = more
            self.appeared(name, bulk=True)
        for name, since in sorted(lost.values(), key=lambda pair: pair[1]):
            member = self._parse(name)
            if isinstance(member, Member):
                self._lost[member.id] = Lost(member, since, shared_public=False)
                self._index(member)
                self._settle(member.id)

    def snapshot(self, names: Iterable[str], *, now: float) -> None:
        """The registry's complete list. What is not in it has vanished while nobody looked."""
        listed = frozenset(names)
        for name in listed - self._names:
            if name.startswith("left."):
                self.appeared(name)
        for name in listed - self._names:
            self.appeared(name, bulk=True)
        for name in self._names - listed:
            self.vanished(name, now=now)

    def appeared(self, name: str, *, bulk: bool = False) -> None:
        if name in self._names:
            return
        self._names.add(name)
        parsed = self._parse(name)
        if parsed is None:
            return
        if isinstance(parsed, Departure):
            known = self._departures.get(parsed.id, -1)
            self._departures[parsed.id] = max(known, parsed.generation)
            lost = self._lost.get(parsed.id)
            if lost is not None and lost.member.generation <= parsed.generation:
                self._forget_lost(parsed.id)
            return
        self._departures.pop(parsed.id, None)  # it is back: what it said before is over
        self._entries.setdefault(parsed.id, {})[name] = parsed
        if parsed.extended and name not in self._more:
            self._ask_data.add(name)
        self._index(parsed)
        owner = self._owners.get(parsed.overlay)
        if owner != parsed.id:
            # First sight, or the lease has changed hands since it was read: look.
            self._ask_leases.add(parsed.overlay)
        if bulk:
            self._listed.add(name)
        self._settle(parsed.id)
        self._settle_neighbours(parsed)

    def vanished(self, name: str, *, now: float) -> None:
        if name not in self._names:
            return
        self._names.discard(name)
        if name in self._faults:
            del self._faults[name]
            return
        parsed = self._reparse(name)
        if isinstance(parsed, Departure):
            self._departures.pop(parsed.id, None)
            return
        if parsed is None:
            self._unnamed_faults = max(0, self._unnamed_faults - 1)
            return
        claims = self._entries.get(parsed.id, {})
        claim = claims.pop(name, None)
        if claim is None:
            return
        if not claims:
            self._entries.pop(parsed.id, None)
        accepted = self._accepted.get(parsed.id)
        departed = self._departures.get(parsed.id, -1) >= parsed.generation
        if accepted is not None and _same_claim(accepted, claim) and not claims and not departed:
            shared = claim.public is not None and len(self._by_public[claim.public]) > 1
            self._lost[claim.id] = Lost(accepted, now, shared)
        else:
            self._unindex(parsed)
        self._more.pop(name, None)
        self._listed.discard(name)
        self._waiting_data.discard(name)
        self._settle(parsed.id)
        self._settle_neighbours(parsed)

    def lease_read(self, overlay: IPv4Address, host_id: str | None) -> None:
        self._owners[overlay] = host_id
        self._waiting_leases.discard(overlay)
        self._ask_leases.discard(overlay)
        claimants = tuple(self._by_overlay.get(overlay, ()))
        for claimant in claimants:
            self._settle(claimant)
        for claimant in claimants:
            for claim in self._entries.get(claimant, {}).values():
                self._settle_neighbours(claim)

    def data_read(self, name: str, data: bytes | None) -> None:
        self._waiting_data.discard(name)
        if data is None:
            return
        parsed = self._reparse(name)
        if not isinstance(parsed, Member) or name not in self._entries.get(parsed.id, {}):
            return
        try:
            more = self._admission.believed(parsed, entry.parse_data(data))
        except EntryError:
            more = ()
        self._more[name] = more
        self._settle(parsed.id)

    def tick(self, *, now: float) -> None:
        """Let go of lost members whose time is over."""
        while self._lost:  # in the order in which they were lost
            host_id, lost = next(iter(self._lost.items()))
            if now < lost.since + self._linger:
                return
            self._forget_lost(host_id)

    def next_tick(self) -> float | None:
        """When ``tick`` next has something to do, in Unix seconds."""
        if not self._lost:
            return None
        return next(iter(self._lost.values())).since + self._linger

    # --- deciding ---

    def _settle(self, host_id: str) -> None:
        claims = self._entries.get(host_id, {})
        chosen: Member | None = None
        if claims:
            name = self._current(host_id, claims)
            claim = claims[name]
            if host_id in self._lost:
                self._end_lost(host_id, claim)
            if self._claim_fault(host_id, name, claim) is None and self._may_enter(name, claim):
                more = self._more.get(name, ())
                chosen = replace(claim, more=more) if more else claim
        elif host_id in self._lost and not self._displaced(self._lost[host_id]):
            chosen = self._lost[host_id].member
        elif host_id in self._lost:
            lost = self._lost.pop(host_id)
            self._unindex(lost.member)
        self._accept(host_id, chosen)

    def _accept(self, host_id: str, chosen: Member | None) -> None:
        accepted = self._accepted.get(host_id)
        if chosen == accepted:
            return
        self._before.setdefault(host_id, accepted)
        if chosen is None:
            del self._accepted[host_id]
        else:
            self._accepted[host_id] = chosen

    def _current(self, host_id: str, claims: Mapping[str, Member]) -> str:
        """The name that speaks for the id: highest generation; of equals, the accepted one."""
        if len(claims) == 1:
            return next(iter(claims))
        accepted = self._accepted.get(host_id)
        return min(
            claims,
            key=lambda name: (
                -claims[name].generation,
                accepted is None or not _same_claim(accepted, claims[name]),
                name,
            ),
        )

    def _claim_fault(self, host_id: str, name: str, claim: Member) -> str | None:
        claims = self._entries.get(host_id, {})
        current = self._current(host_id, claims) if claims else name
        if name != current:
            if claims[current].generation == claim.generation:
                return f"host id {host_id} is claimed twice, also by {current}"
            return None  # an older generation, about to be removed: no fault
        if claim.overlay in self._owners and self._owners[claim.overlay] != host_id:
            owner = self._owners[claim.overlay]
            whose = f"leased to {owner}" if owner is not None else "leased to nobody"
            return f"overlay address {claim.overlay} is {whose}"
        return None

    def _may_enter(self, name: str, claim: Member) -> bool:
        if self._owners.get(claim.overlay) == claim.id:
            return True
        # Not read yet. One that stood in a snapshot enters at once, unless somebody else claims
        # the same address; one that has just appeared waits for the read, a millisecond away.
        rivals = self._by_overlay.get(claim.overlay, set()) - {claim.id}
        return name in self._listed and not rivals

    def _displaced(self, lost: Lost) -> bool:
        """A live member claims what the lost one had: its address, or its lease."""
        member = lost.member
        for other in self._by_private.get((member.site, member.private), set()) - {member.id}:
            if other in self._accepted and other not in self._lost:
                return True
        if member.public is not None and not lost.shared_public:
            for other in self._by_public.get(member.public, set()) - {member.id}:
                if other in self._accepted and other not in self._lost:
                    return True
        owner = self._owners.get(member.overlay, member.id)
        return owner != member.id

    def _settle_neighbours(self, claim: Member) -> None:
        """Whoever shares an address with ``claim`` may stand differently now."""
        neighbours = (
            self._by_overlay.get(claim.overlay, set())
            | self._by_private.get((claim.site, claim.private), set())
            | (self._by_public.get(claim.public, set()) if claim.public is not None else set())
        )
        if len(neighbours) > 1:
            for host_id in neighbours - {claim.id}:
                if host_id in self._lost or claim.overlay in self._overlays_of(host_id):
                    self._settle(host_id)

    def _overlays_of(self, host_id: str) -> set[IPv4Address]:
        return {claim.overlay for claim in self._entries.get(host_id, {}).values()}

    # --- book-keeping ---

    def _parse(self, name: str) -> Member | Departure | None:
        try:
            parsed = entry.parse(name)
            if isinstance(parsed, Member) and (objection := self._admission.objection(parsed)):
                raise EntryError(objection)
        except EntryError as error:
            if len(self._faults) < MAX_NAMED:
                self._faults[name] = str(error)
            else:
                self._unnamed_faults += 1
            return None
        return parsed

    def _reparse(self, name: str) -> Member | Departure | None:
        try:
            parsed = entry.parse(name)
        except EntryError:
            return None
        if isinstance(parsed, Member) and self._admission.objection(parsed):
            return None
        return parsed

    def _index(self, member: Member) -> None:
        self._by_overlay.setdefault(member.overlay, set()).add(member.id)
        self._by_private.setdefault((member.site, member.private), set()).add(member.id)
        if member.public is not None:
            self._by_public.setdefault(member.public, set()).add(member.id)

    def _unindex(self, member: Member) -> None:
        """Take the member's addresses out, but for those that another claim of its id still has."""
        remaining = list(self._entries.get(member.id, {}).values())
        if member.id in self._lost:
            remaining.append(self._lost[member.id].member)
        if all(other.overlay != member.overlay for other in remaining):
            _drop(self._by_overlay, member.overlay, member.id)
        place = (member.site, member.private)
        if all((other.site, other.private) != place for other in remaining):
            _drop(self._by_private, place, member.id)
        if member.public is not None and all(o.public != member.public for o in remaining):
            _drop(self._by_public, member.public, member.id)

    def _end_lost(self, host_id: str, claim: Member) -> None:
        lost = self._lost.pop(host_id)
        if not _same_claim(lost.member, claim):
            self._unindex(lost.member)

    def _forget_lost(self, host_id: str) -> None:
        lost = self._lost.pop(host_id)
        if host_id not in self._entries:
            self._unindex(lost.member)
        self._settle(host_id)


def _same_claim(one: Member, other: Member) -> bool:
    """The same entry, whatever its further addresses."""
    return one is other or replace(one, more=()) == replace(other, more=())


def _drop(index: dict[Any, set[str]], key: object, host_id: str) -> None:
    ids = index.get(key)
    if ids is not None:
        ids.discard(host_id)
        if not ids:
            del index[key]
