"""A fleet that begins from the last good state on disk. Pure.

Must never do: believe a lost member's entry before the live ones are settled.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass
from ipaddress import IPv4Address

from neti.fleet.entering import Entering
from neti.fleet.entries import Roster
from neti.fleet.lost import Absences, Hold
from neti.fleet.members import Standing
from neti.fleet.reads import Asking
from neti.fleet.removal import Leaving
from neti.fleet.vouching import Vouching
from neti.model import IPAddress
from neti.model.wireguard_key import PublicKey


@dataclass(frozen=True, slots=True)
class Beginning:
    """Not thread-safe: the fleet owns it."""

    _roster: Roster
    _asking: Asking
    _standing: Standing
    _absent: Absences
    _vouching: Vouching
    _leaving: Leaving
    _entering: Entering
    _settle: Callable[[Iterable[str]], None]

    def remember(
        self,
        names: Mapping[str, tuple[IPAddress, ...]],
        *,
        lost: Mapping[str, tuple[str, float]],
        owners: Mapping[IPv4Address, str],
        holds: Mapping[str, Hold],
        passing: Collection[str],
        gone: Mapping[str, int],
        keys: Mapping[str, PublicKey],
    ) -> None:
        """As ``Fleet.remember``."""
        self._leaving.remember_gone(gone)
        self._asking.remember_leases(owners)
        were_lost = dict(lost.values())
        words = {m.id: n for n in names if (m := self._roster.admissible(n)) is not None}
        self._vouching.trust(words, keys)
        self._let_in(names.keys() - were_lost.keys(), names)
        self._lose_again(were_lost, names)
        self._vouching.keep_only(self._standing.members)
        for host_id, hold in holds.items():
            if host_id in self._absent:
                self._absent.hold((host_id,), hold)
        self._absent.let_pass(host_id for host_id in passing if host_id in self._absent)
        for overlay in owners:
            if not self._roster.claimed(overlay):
                self._asking.forget_lease(overlay)

    def _let_in(self, live: Set[str], more: Mapping[str, tuple[IPAddress, ...]]) -> None:
        touched: set[str] = set()
        for name in live:
            touched |= self._entering.enter(name, bulk=True)
            self._know_more(name, more[name])
        self._settle(touched)

    def _lose_again(
        self, since: Mapping[str, float], more: Mapping[str, tuple[IPAddress, ...]]
    ) -> None:
        lost: set[str] = set()
        for name in sorted(since):
            member = self._roster.admissible(name)
            if member is not None and member.id not in self._standing.members:
                self._roster.keep(name, member)
                self._know_more(name, more.get(name, ()))
                self._standing.accept(name, self._roster.member(name))
                self._leaving.lose(member.id, since=since[name])
                lost.add(member.id)
        self._settle(lost)

    def _know_more(self, name: str, more: tuple[IPAddress, ...]) -> None:
        if self._roster.remember_more(name, more):
            self._asking.forget_data(name)
