"""Something was read: notes what that means. Pure.

Methods return the ids that must be decided anew by the caller.

Must never do: decide who is a member.
"""

from collections.abc import Set
from ipaddress import IPv4Address
from typing import Final

from neti.fleet.entering import Entering
from neti.fleet.entries import Roster
from neti.fleet.members import Standing
from neti.fleet.reads import Asking
from neti.fleet.vouching import Vouching
from neti.model.wireguard_key import PublicKey
from neti.registry import HostRead, KeyRead

_NOBODY: Final[Set[str]] = frozenset()


class Answering:
    """Not thread-safe: the fleet owns it."""

    def __init__(
        self,
        roster: Roster,
        asking: Asking,
        standing: Standing,
        vouching: Vouching,
        entering: Entering,
    ) -> None:
        self._roster = roster
        self._asking = asking
        self._standing = standing
        self._vouching = vouching
        self._entering = entering
        self._now_leased: set[str] = set()  # members whose lease was read after they were let in

    def take_now_leased(self) -> set[str]:
        """Members whose lease was read since the last call, and who were members before that."""
        leased, self._now_leased = self._now_leased & self._standing.members.keys(), set()
        return leased

    def host_read(self, read: HostRead, *, now: float) -> Set[str]:
        decided = self._vouching.host_read(read)
        self._want_put_off(read.host_id)
        heeded = self._entering.heed_goodbye(read.host_id, now=now)
        return {read.host_id} | heeded if decided or heeded else _NOBODY

    def _want_put_off(self, host_id: str) -> None:
        """The further addresses of its word, if they were not asked for while its record waited."""
        name = self._vouching.proved.get(host_id)
        claim = self._roster.claims.get(name) if name is not None else None
        if name is None or claim is None or not claim.extended or self._asking.asks_data(name):
            return
        if self._vouching.decides and not self._roster.member(name).more:
            self._asking.want_data((name,))

    def lease_read(self, overlay: IPv4Address, host_id: str | None) -> Set[str]:
        claimants = self._roster.ids_at(overlay)
        if not claimants:
            return _NOBODY  # nobody claims this address any more: the answer no longer matters
        known = overlay in self._asking.owners
        before = self._asking.owners[overlay] if known else None
        self._asking.lease_read(overlay, host_id)
        if not known:
            member = self._standing.members.get(host_id) if host_id is not None else None
            if member is not None and member.overlay == overlay:
                self._now_leased.add(member.id)
            self._roster.lease_read(overlay)
            return {i for i in claimants if not self.waits(i)}
        if before != host_id:
            # For all others it was another host's before, and is now.
            return {i for i in (before, host_id) if i} & claimants
        return _NOBODY

    def key_read(self, read: KeyRead) -> Set[str]:
        """Whose a key is concerns no member's being one."""
        try:
            key = PublicKey.parse(read.key)
        except ValueError:
            return _NOBODY
        self._asking.key_read(key)
        self._vouching.keys.owner_read(key, read.host_id)
        return _NOBODY

    def data_read(self, name: str, data: bytes | None, made: int) -> Set[str]:
        self._asking.data_read(name)
        claim = self._roster.data_read(name, data) if data is not None else None
        known = self._roster.claims.get(name)
        if known is not None:
            self._vouching.data_read(known.id, name, made)
            claim = known if self._vouching.decides else claim
        return {claim.id} if claim is not None and not self.waits(claim.id) else _NOBODY

    def waits(self, host_id: str) -> bool:
        """Whether it is decided in any case once its record has been read, and nobody stands for it
        until then: at a start with thousands of hosts it would be looked at twice for nothing."""
        return host_id not in self._standing.members and self._vouching.is_next(host_id)
