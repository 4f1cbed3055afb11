"""Who is a member, by which entry, and what has changed about that. Pure.

It promises that of several changes to one host it tells only the difference between first and last,
and that finding who else has a member's address costs the same however many members there are.

Must never do: decide. It keeps whoever it was told to accept, until it is told otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import islice
from types import MappingProxyType
from typing import Final

from neti.fleet.index import Claims
from neti.model import Member

MAX_SHARING_NAMED: Final = 100


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one host: ``before`` and ``after`` are never equal, and never both None."""

    id: str
    before: Member | None
    after: Member | None


class Standing:
    """Not thread-safe: the fleet owns it. ``members``: by id, live and lost. ``speaks``: the
    accepted name of each id."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._speaks: dict[str, str] = {}
        self.members: Mapping[str, Member] = MappingProxyType(self._members)
        self.speaks: Mapping[str, str] = MappingProxyType(self._speaks)
        self._at_private: Claims[tuple[str, IPv4Address]] = Claims()
        self._before: dict[str, Member | None] = {}

    def accept(self, name: str, member: Member) -> None:
        """Accept it by this entry, or update it."""
        host_id = member.id
        self._speaks[host_id] = name
        before = self._members.get(host_id)
        if member == before:
            return
        self._before.setdefault(host_id, before)
        if before is not None:
            self._free_place_of(before)
        self._members[host_id] = member
        self._at_private.add((member.site, member.private), host_id)

    def drop(self, host_id: str) -> None:
        """It is no longer a member, if it was one."""
        before = self._members.get(host_id)
        if before is not None:
            self._before.setdefault(host_id, before)
            self._free_place_of(before)
            del self._members[host_id], self._speaks[host_id]

    def _free_place_of(self, member: Member) -> None:
        self._at_private.discard((member.site, member.private), member.id)

    def shared_private(self) -> list[tuple[str, IPv4Address, tuple[str, ...]]]:
        """Private addresses that several members of one site have, with these members; only the
        first of many."""
        return [
            (*place, tuple(sorted(islice(self._at_private.of(place), MAX_SHARING_NAMED))))
            for place in sorted(islice(self._at_private.shared, MAX_SHARING_NAMED))
        ]

    def take_changes(self) -> list[Change]:
        """Differences since the last call, one per id at most."""
        changes = [
            Change(host_id, before, after)
            for host_id, before in self._before.items()
            if (after := self._members.get(host_id)) != before
        ]
        self._before.clear()
        return changes
