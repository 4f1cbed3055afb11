"""Who had an address until when: for people who ask whom a packet came from. Pure.

Remembered while the agent runs, and no longer. Must never do: grow with what members do, or say
that somebody has an address that it may not have any more.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from neti.fleet.members import Change
from neti.model import IPAddress, Member

MAX_FORMER: Final = 5000  # addresses


@dataclass(frozen=True, slots=True)
class Had:
    """``until``: when it was a member by this address for the last time, steady seconds."""

    member: Member
    until: float
    private: bool


class FormerAddresses:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(self) -> None:
        self._had: dict[bytes, Had] = {}  # the latest last
        # Addresses that were looked for, and that nobody had: until somebody gets one.
        self.nobodys: set[bytes] = set()

    def note(self, changes: Iterable[Change], *, now: float) -> None:
        for change in changes:
            if self.nobodys:
                self.nobodys.difference_update(one.packed for one in _addresses(change.after))
            if change.before is None and not self._had:
                continue  # a first start: thousands join, and nobody had an address before
            after = set(_addresses(change.after))
            if change.before is not None:
                for address in _addresses(change.before):
                    if address not in after:
                        self._had.pop(address.packed, None)
                        private = address == change.before.private
                        self._had[address.packed] = Had(change.before, now, private)
            for address in after:
                self._had.pop(address.packed, None)
        while len(self._had) > MAX_FORMER:
            del self._had[next(iter(self._had))]

    def of(self, packed: bytes, seen_here: Callable[[Member], bool]) -> Had | None:
        """``seen_here``: whether a packet from a member's private address is that member's."""
        had = self._had.get(packed)
        return None if had is None or (had.private and not seen_here(had.member)) else had


def _addresses(member: Member | None) -> Iterator[IPAddress]:
    if member is not None:
        yield from (member.private, member.overlay, *member.more)
        if member.public is not None:
            yield member.public
