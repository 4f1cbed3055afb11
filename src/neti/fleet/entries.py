"""What the registry holds, as we were told: names, and whose claims they are. Pure and incremental.

It promises that what it knows does not depend on the order in which it was told, that a look-up
costs the same with ten entries and with sixteen thousand, and that an entry that is gone takes no
memory.

Besides the names in the registry it keeps the claims of lost members, which are no longer there,
until it is told to ``drop`` them.

Only a handful of entries of one id is looked at. The rest is a *crowd*: only their names are kept.
Which ones are put aside is not decided here.

Must never do: weigh one claim against another, or take an inadmissible name for more than a name.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from types import MappingProxyType
from typing import Final

from neti.errors import EntryError
from neti.fleet.admission import Admission
from neti.fleet.index import Claims
from neti.model import Departure, IPAddress, Member, Moved, entry

# Entries of one id that are looked at. An honest host has one, or two for a moment.
MAX_JUDGED: Final = 16
# Further addresses that each entry may always have, and how many more all together may have.
MORE_FOR_EACH: Final = 4
MAX_MORE_BEYOND: Final = 16_384


def _beyond(more: tuple[IPAddress, ...]) -> int:
    return max(0, len(more) - MORE_FOR_EACH)


@dataclass(slots=True)
class _Crowd:
    """The other entries of one id, newest last: not looked at yet, and looked at before."""

    new: dict[str, None] = field(default_factory=dict)
    seen: dict[str, None] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.new) + len(self.seen)


class Roster:
    """Not thread-safe: the fleet owns it. ``claims``: by name, without further addresses. ``junk``:
    names of entries that are not admissible. ``bad_data``: what is wrong with an entry's further
    addresses."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._names: set[str] = set()
        self._junk: dict[str, None] = {}
        self._ghosts: dict[str, str] = {}  # of the junk: entries of hosts that are gone, and why
        self._departures: dict[str, int] = {}  # id -> highest generation that said goodbye
        self._listed: set[str] = set()  # names from a whole list whose leases were not read yet
        self._claims: dict[str, Member] = {}
        self._more: dict[str, tuple[IPAddress, ...]] = {}  # further addresses, once read
        self._beyond = 0  # how many of these are beyond what each entry may have in any case
        self._bad_data: dict[str, str] = {}
        self._by_id: Claims[str] = Claims()
        self._by_overlay: Claims[IPv4Address] = Claims()  # ids, not names
        self._crowds: dict[str, _Crowd] = {}
        self._crowded: dict[str, str] = {}  # names in crowds -> their id
        self._given_up: set[IPv4Address] = set()  # perhaps claimed by nobody any more
        self.claims: Mapping[str, Member] = MappingProxyType(self._claims)
        self.junk: Set[str] = self._junk.keys()
        self.ghosts: Mapping[str, str] = MappingProxyType(self._ghosts)
        self.bad_data: Mapping[str, str] = MappingProxyType(self._bad_data)

    # --- what is known ---

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._names)

    def __contains__(self, name: str) -> bool:
        """Whether the registry holds this name."""
        return name in self._names

    def difference(self, listed: frozenset[str]) -> tuple[frozenset[str], set[str]]:
        """Names that are new in a complete list, and known names that are missing from it."""
        return listed - self._names, self._names - listed

    def entries_of(self, host_id: str) -> list[str]:
        """The id's admissible entries that the registry holds."""
        return [name for name in self._by_id.of(host_id) if name in self._names]

    def extended(self) -> Iterable[str]:
        """Entries with further addresses that can be read."""
        return (
            name for name, claim in self._claims.items() if claim.extended and name in self._names
        )

    def member(self, name: str) -> Member:
        """The claim, with those of its further addresses that are known and believed."""
        claim, more = self._claims[name], self._more.get(name, ())
        return replace(claim, more=more) if more else claim

    def claimed(self, overlay: IPv4Address) -> bool:
        return bool(self._by_overlay.of(overlay))

    def ids_at(self, overlay: IPv4Address) -> set[str]:
        """Ids that claim this overlay address."""
        return set(self._by_overlay.of(overlay))

    def count_at(self, overlay: IPv4Address) -> int:
        """How many ids claim this overlay address."""
        return len(self._by_overlay.of(overlay))

    def crowds(self) -> Iterable[tuple[str, int]]:
        """For each id with too many entries: the newest one that is not looked at, and how many of
        them there are."""
        for crowd in self._crowds.values():
            yield next(reversed(crowd.new or crowd.seen)), len(crowd)

    @property
    def crowded(self) -> int:
        """How many entries are not looked at, because their ids have too many."""
        return len(self._crowded)

    def has_unseen(self, host_id: str) -> bool:
        """Whether some entries of this id were never looked at."""
        crowd = self._crowds.get(host_id)
        return crowd is not None and bool(crowd.new)

    def overcrowded(self, host_id: str) -> bool:
        return len(self._by_id.of(host_id)) > MAX_JUDGED

    def listed(self, name: str) -> bool:
        """Whether it was in a complete list, and its lease has not been read since."""
        return name in self._listed

    def departed(self, host_id: str) -> int | None:
        """The generation that said goodbye, if no entry of this id has come since."""
        return self._departures.get(host_id)

    def said_goodbye(self, name: str) -> bool:
        """Whether there is a goodbye for this entry, or for a later one of its host."""
        claim = self._claims.get(name)
        return claim is not None and self._departures.get(claim.id, -1) >= claim.generation

    def admissible(self, name: str) -> Member | None:
        """The member that an entry of this name would claim to be."""
        try:
            parsed = self._parse(name)
        except EntryError:
            return None
        return parsed if isinstance(parsed, Member) else None

    def fault(self, name: str) -> str:
        """Why it is junk; empty if it is not."""
        if name in self._ghosts:
            return self._ghosts[name]
        try:
            self._parse(name)
        except EntryError as error:
            return str(error)
        return ""

    def _parse(self, name: str) -> Member | Departure | Moved:
        parsed = entry.parse(name)
        if isinstance(parsed, Member) and (objection := self._admission.objection(parsed)):
            raise EntryError(objection)
        return parsed

    # --- what is told ---

    def enter(self, name: str, *, bulk: bool = False) -> Member | Departure | Moved | None:
        """The registry has it. Returns what it says, or None if it is junk or was known. ``bulk``:
        it was in a complete list."""
        if name in self._names:
            return None
        self._names.add(name)
        try:
            parsed = self._parse(name)
        except EntryError:
            self._junk[name] = None
            return None
        if isinstance(parsed, Departure):
            known = self._departures.get(parsed.id, -1)
            self._departures[parsed.id] = max(known, parsed.generation)
        elif isinstance(parsed, Member):
            self._departures.pop(parsed.id, None)  # it is back, so its goodbye no longer counts
            if name not in self._claims:  # otherwise it was lost, and we know it already
                self.keep(name, parsed)
            if bulk:
                self._listed.add(name)
        return parsed

    def refuse(self, name: str, why: str) -> None:
        """The registry has it, but its host is gone: it counts for nothing until it has vanished
        and come back."""
        if name not in self._names:
            self._names.add(name)
            self._junk[name] = None
            self._ghosts[name] = why

    def remove(self, name: str) -> Member | None:
        """The registry no longer has it. Its claim, if it was one, stays until it is dropped."""
        if name not in self._names:
            return None
        self._names.discard(name)
        if name in self._crowded:
            self._uncrowd(name)
            return None
        if name in self._junk:
            del self._junk[name]
            self._ghosts.pop(name, None)
            return None
        claim = self._claims.get(name)
        if claim is None:
            self._end_departure(entry.parse(name))
        else:
            self._listed.discard(name)
        return claim

    def _end_departure(self, parsed: Member | Departure | Moved) -> None:
        if isinstance(parsed, Departure) and self._departures.get(parsed.id) == parsed.generation:
            del self._departures[parsed.id]

    def end_answered_departures(self) -> None:
        """Leaving is one step. So if a departure is listed beside an entry of the same host, the
        host came back after it."""
        for host_id in [i for i in self._departures if self.entries_of(i)]:
            del self._departures[host_id]

    def lease_read(self, overlay: IPv4Address) -> None:
        """Whether a claim was in a list matters only until its lease is known."""
        if not self._listed:
            return
        for host_id in self._by_overlay.of(overlay):
            for name in self._by_id.of(host_id):
                if self._claims[name].overlay == overlay:
                    self._listed.discard(name)
        if not self._listed:
            self._listed.clear()  # a Python set keeps its large table otherwise

    def data_read(self, name: str, data: bytes) -> Member | None:
        """The claim that these further addresses belong to, if there is one."""
        claim = self._claims.get(name)
        if claim is None or not claim.extended:
            return None
        self._bad_data.pop(name, None)
        try:
            told = entry.parse_data(data)
            believed = self._admission.believed(claim, told)
            kept = self._keep_more(name, believed)
            if refused := [str(a) for a in told if a not in believed]:
                shown = ", ".join(refused[:3]) + (", …" if len(refused) > 3 else "")
                self._bad_data[name] = f"further addresses are not let in: {shown}"
            elif kept < len(believed):
                self._bad_data[name] = (
                    f"{len(believed) - kept} further addresses are not let in: all hosts together "
                    f"have {MAX_MORE_BEYOND} beyond the first {MORE_FOR_EACH} of each"
                )
        except EntryError as error:
            self._keep_more(name, ())
            self._bad_data[name] = f"further addresses are not let in: {error}"
        return claim

    def remember_more(self, name: str, more: tuple[IPAddress, ...]) -> bool:
        """The further addresses as they were read before a restart. Returns whether they count
        until they are read again. An extended entry has some, so if none are remembered, they were
        not read yet."""
        claim = self._claims.get(name)
        if claim is None or not claim.extended or not more:
            return False
        self._keep_more(name, self._admission.believed(claim, more))
        return True

    def _keep_more(self, name: str, more: tuple[IPAddress, ...]) -> int:
        """Each entry may have a few. Any more come out of an allowance that all entries share, so
        that many members with many addresses cannot fill every host's memory and kernel."""
        self._beyond -= _beyond(self._more.pop(name, ()))
        allowed = MORE_FOR_EACH + max(0, MAX_MORE_BEYOND - self._beyond)
        kept = self._more[name] = more[:allowed]
        self._beyond += _beyond(kept)
        return len(kept)

    # --- claims ---

    def keep(self, name: str, claim: Member) -> None:
        """Note the claim, whether or not the registry holds the name."""
        self._claims[name] = claim
        self._by_id.add(claim.id, name)
        self._by_overlay.add(claim.overlay, claim.id)

    def drop(self, name: str) -> None:
        """Forget the claim, and everything that was read for it."""
        claim = self._claims.pop(name)
        self._beyond -= _beyond(self._more.pop(name, ()))
        self._bad_data.pop(name, None)
        self._by_id.discard(claim.id, name)
        # At most a handful: the others of a crowd claim nothing.
        if all(self._claims[n].overlay != claim.overlay for n in self._by_id.of(claim.id)):
            self._by_overlay.discard(claim.overlay, claim.id)
        self._given_up.add(claim.overlay)

    def put_aside(self, name: str, *, seen: bool) -> None:
        """Put it into the crowd of its id, and forget what was read for it. The registry still
        holds it. ``seen``: it was judged, and not believed."""
        host_id = self._claims[name].id
        self._listed.discard(name)
        self.drop(name)
        crowd = self._crowds.setdefault(host_id, _Crowd())
        (crowd.seen if seen else crowd.new)[name] = None
        self._crowded[name] = host_id

    def next_of_crowd(self, host_id: str, *, unseen: bool) -> str | None:
        """Take the newest entry out of the id's crowd, preferably one that was not looked at yet;
        with ``unseen``, only one of those. From now on its claim counts again."""
        crowd = self._crowds.get(host_id)
        if crowd is None or (unseen and not crowd.new):
            return None
        name = next(reversed(crowd.new or crowd.seen))
        self._uncrowd(name)
        claim = self._parse(name)
        assert isinstance(claim, Member)  # it was one when it came, and rules do not change
        self.keep(name, claim)
        return name

    def _uncrowd(self, name: str) -> None:
        host_id = self._crowded.pop(name)
        crowd = self._crowds[host_id]
        crowd.new.pop(name, None)
        crowd.seen.pop(name, None)
        if not crowd:
            del self._crowds[host_id]

    def take_unclaimed(self) -> list[IPv4Address]:
        """Overlay addresses whose last claim was dropped since the last call."""
        if not self._given_up:
            return []
        unclaimed = [overlay for overlay in self._given_up if not self.claimed(overlay)]
        self._given_up.clear()
        return unclaimed
