"""What may be asked of a fleet: members and their entries, who is lost or held, what is in dispute.

Must never do: change anything.
"""

from collections.abc import Collection, Mapping, Set
from ipaddress import IPv4Address
from itertools import islice
from types import MappingProxyType
from typing import Final

from neti.fleet.admission import Admission
from neti.fleet.dispute import Judge
from neti.fleet.entries import MAX_JUDGED, Roster
from neti.fleet.guard import Guard
from neti.fleet.lost import Absences, Hold, Lost
from neti.fleet.members import Standing
from neti.fleet.moves import Moves
from neti.fleet.pace import Pace
from neti.fleet.reads import Asking
from neti.fleet.removal import Leaving
from neti.fleet.vouching import Mode, Vouching
from neti.model import Member
from neti.model.wireguard_key import PublicKey

# Junk in the registry must not fill the status page.
MAX_NAMED: Final = 100
MAX_CROWDS_NAMED: Final = 20


class Known:
    """Not thread-safe: the agent's loop owns it. ``now`` is always in Unix seconds.

    Every member that would be removed passes the ``guard``; without one nothing is ever held.
    """

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
        """``keys``: records are read for hosts' public keys even where they are used for nothing
        else. ``share``: any text that differs from agent to agent."""
        self._roster = Roster(admission)
        self._asking = Asking()
        self._standing = Standing()
        self._absent = Absences()
        pace = Pace(share, lambda: len(self._standing.members))
        self._vouching = Vouching(records, self._asking, self._roster.__contains__, pace, keys=keys)
        self._moves = Moves(Pace(share, lambda: len(self._standing.members)))
        known = (self._roster, self._asking, self._standing, self._absent)
        self._judge = Judge(*known, self._vouching)
        self._leaving = Leaving(
            *known, linger_seconds=linger_seconds, guard=guard, hold_seconds=hold_seconds
        )

    # --- members ---

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
        """The same as ``lost.get``, and cheaper."""
        return self._absent.get(host_id)

    @property
    def holds(self) -> Mapping[str, Hold]:
        return self._absent.holds

    @property
    def passing(self) -> Collection[str]:
        """Lost members that an operator let pass."""
        return self._absent.passing

    @property
    def gone(self) -> Mapping[str, int]:
        """Hosts that were removed, and the generation of each one's last entry: the latest last,
        and not more than ``removal.MAX_GONE``."""
        return MappingProxyType(self._leaving.gone)

    def next_tick(self) -> float | None:
        """When ``tick`` next has something to do, in Unix seconds."""
        each = (self._leaving, self._vouching, self._moves)
        return min((at for one in each if (at := one.next_tick()) is not None), default=None)

    def shared_private(self) -> list[tuple[str, IPv4Address, tuple[str, ...]]]:
        """Private addresses that several members of one site claim, and these members' ids. All of
        them are let in."""
        return self._standing.shared_private()

    # --- entries ---

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
        """The generation that said goodbye, if no entry of this id has come since."""
        return self._roster.departed(host_id)

    @property
    def owners(self) -> Mapping[IPv4Address, str | None]:
        """Leases as they were read, of addresses that a host claims."""
        return self._asking.owners

    @property
    def unleased(self) -> bool:
        """Whether a host claims an address that nobody held when its lease was read."""
        return self._asking.unleased

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

    # --- hosts' records ---

    @property
    def records(self) -> Mode:
        """What hosts' records are used for, besides for their keys."""
        return self._vouching.mode

    @property
    def reads_records(self) -> bool:
        """Whether they are read, if only for their keys."""
        return self._vouching.reads

    def key_of_entry(self, host_id: str) -> PublicKey | None:
        """The member's key, if it is that of the entry that speaks for it: a new one may be
        believed before its record has been read. None: it has none, or it is to be read."""
        proved, speaks = self._vouching.proved.get(host_id), self.speaks.get(host_id)
        known = proved == speaks or host_id in self._absent
        return self.keys.get(host_id) if known else None

    @property
    def keys(self) -> Mapping[str, PublicKey]:
        """By host id, the public key that the host's record said when its entry was proved: no two
        have one. Without TLS anybody could have written it."""
        return self._vouching.keys.believed

    @property
    def key_disputes(self) -> Mapping[PublicKey, tuple[str | None, Set[str]]]:
        """As ``MemberKeys.disputes``."""
        return self._vouching.keys.disputes

    def owner_of_key(self, key: PublicKey) -> str | None:
        return self._vouching.keys.owner(key)

    @property
    def unvouched(self) -> Collection[str]:
        """Entries that speak, or would speak, for hosts whose records do not name them. None where
        records are not read."""
        return self._judge.unvouched

    @property
    def unproved(self) -> Set[str]:
        """Members that are believed by what was proved before a gap, or before this agent ran."""
        return self._vouching.trusted

    def has_proved(self, host_id: str, name: str) -> bool:
        """Whether the host's record named this entry when it was read, with no gap since."""
        vouching = self._vouching
        return vouching.proved.get(host_id) == name and host_id not in vouching.trusted

    @property
    def proved_words(self) -> dict[str, str]:
        """By id, entries that records named when they were read, with no gap since."""
        trusted = self._vouching.trusted
        return {i: name for i, name in self._vouching.proved.items() if i not in trusted}

    @property
    def trusted_words(self) -> dict[str, str]:
        """By id, the entries of ``unproved``."""
        return {host_id: self._vouching.proved[host_id] for host_id in self._vouching.trusted}
