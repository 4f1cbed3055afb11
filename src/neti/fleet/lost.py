"""Members that are no longer registered and still count: lost ones and held ones. Pure.

*Lost*: the session ended without a goodbye, and the member's time is running. *Held*: it would be
removed now, but the guard keeps it; no time is running. Both end when the host returns or loses its
lease.
"""

from collections import ChainMap, Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from neti.fleet.guard import WINDOW_SECONDS, Guard
from neti.model import Member

Batch = tuple[str, bool, float]  # a site, whether they said goodbye, since when the first is held


@dataclass(frozen=True, slots=True)
class Lost:
    """A member without a registration; ``since`` in Unix seconds."""

    member: Member
    since: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Why and since when (Unix seconds) a member is kept that would otherwise be removed.

    ``doubt``: because it may be another registry, or an older copy; such a hold does not end by
    itself. ``said``: the member said goodbye. ``older``: what the registry lists may be from an
    older copy. Not so in a registry of another fleet: all that it lists was made in it.
    """

    since: float
    reason: str
    doubt: bool = False
    said: bool = False
    older: bool = False


class _Everybody(ChainMap[str, Lost]):
    """Of maps that share no id. A ChainMap's own length walks all of them, and the guard asks for
    it at every goodbye."""

    def __len__(self) -> int:
        return sum(map(len, self.maps))


class Absences:
    """Not thread-safe: the fleet owns it."""

    def __init__(self) -> None:
        self._touched: set[str] = set()
        self._waiting: dict[str, Lost] = {}  # in the order of ``since``
        self._kept: dict[str, Lost] = {}  # in the order in which they were held
        self._holds: dict[str, Hold] = {}
        self._batch_of: dict[str, Batch] = {}
        self._batches: dict[Batch, dict[str, float]] = {}  # since when each is held
        self._passing: set[str] = set()

    def __contains__(self, host_id: str) -> bool:
        return host_id in self._waiting or host_id in self._kept

    def __len__(self) -> int:
        return len(self._waiting) + len(self._kept)

    @property
    def lost(self) -> Mapping[str, Lost]:
        """All of them, the held included."""
        return MappingProxyType(_Everybody(self._waiting, self._kept))

    def get(self, host_id: str) -> Lost | None:
        return self._waiting.get(host_id) or self._kept.get(host_id)

    @property
    def holds(self) -> Mapping[str, Hold]:
        return MappingProxyType(self._holds)

    @property
    def passing(self) -> Collection[str]:
        """Lost ones that go when their time is over, because an operator has said so."""
        return self._passing

    def let_pass(self, ids: Iterable[str]) -> None:
        for host_id in ids:
            self._touched.add(host_id)
            self._passing.add(host_id)

    def floor(self, host_id: str) -> int:
        """Entries of this id below this generation come from an older copy of the registry: while
        we believe that it may be one, no host comes back by an older entry."""
        hold = self._holds.get(host_id)
        return self._kept[host_id].member.generation if hold is not None and hold.older else 0

    def take_touched(self) -> set[str]:
        """Ids whose absence has changed since the last call."""
        touched, self._touched = self._touched, set()
        return touched

    def add(self, lost: Lost) -> None:
        host_id = lost.member.id
        self._touched.add(host_id)
        in_order = not self._waiting or next(reversed(self._waiting.values())).since <= lost.since
        self._waiting[host_id] = lost
        if not in_order:  # the clock was set back
            self._waiting = dict(sorted(self._waiting.items(), key=lambda item: item[1].since))

    def hold(self, ids: Iterable[str], hold: Hold) -> None:
        for host_id in ids:
            self._touched.add(host_id)
            if host_id in self._waiting:
                self._kept[host_id] = self._waiting.pop(host_id)
            self._unhold(host_id)
            self._holds[host_id] = hold
            batch = self._batch(self._kept[host_id].member.site, hold)
            self._batch_of[host_id] = batch
            self._batches.setdefault(batch, {})[host_id] = hold.since

    def _batch(self, site: str, hold: Hold) -> Batch:
        """The batch that it belongs to, or a new one. A batch is of one site and of ten minutes;
        members that said goodbye and those that did not are in different ones."""
        for known in self._batches:
            together = abs(hold.since - known[2]) <= WINDOW_SECONDS
            if known[:2] == (site, hold.said) and together:
                return known
        return site, hold.said, hold.since

    def _unhold(self, host_id: str) -> None:
        self._holds.pop(host_id, None)
        batch = self._batch_of.pop(host_id, None)
        if batch is not None:
            del self._batches[batch][host_id]
            if not self._batches[batch]:
                del self._batches[batch]

    def batches(self) -> list[tuple[Batch, int]]:
        """With the number of members held in each."""
        return [(batch, len(held)) for batch, held in self._batches.items()]

    def held_before(self, now: float, guard: Guard) -> set[str]:
        """Those that have been held for so long that they are no part of what is happening now."""
        return {
            host_id
            for held in self._batches.values()
            for host_id, since in held.items()
            if not guard.recent(since, now=now)
        }

    def worst_site_but(self, site: str, old: Collection[str]) -> str | None:
        """The other site with the most members here, the ``old`` ones not counted."""
        counts = Counter(lost.member.site for i, lost in self.lost.items() if i not in old)
        counts.pop(site, None)
        return max(sorted(counts), key=counts.__getitem__, default=None)

    def end(self, host_id: str) -> Lost:
        self._touched.add(host_id)
        self._passing.discard(host_id)
        self._unhold(host_id)
        return self._waiting.pop(host_id, None) or self._kept.pop(host_id)

    def over(self, *, now: float, linger: float) -> list[str]:
        """Lost ones whose time is over."""
        ids = []
        for host_id, lost in self._waiting.items():
            if lost.since + linger > now:
                break
            ids.append(host_id)
        return ids

    def held_until(self, since: float, batch: Batch) -> list[str]:
        """Those of a batch that have been held since this moment or longer, and whose hold may end
        by itself."""
        held = self._batches.get(batch, {})
        return [i for i, at in held.items() if at <= since and not self._holds[i].doubt]

    def first_lost(self) -> float | None:
        """Since when the member is lost whose time is over first."""
        return next(iter(self._waiting.values())).since if self._waiting else None

    def first_held(self, batch: Batch) -> float | None:
        """Since when the member of a batch is held whose hold may end first by itself."""
        held = self._batches.get(batch, {})
        return min((at for i, at in held.items() if not self._holds[i].doubt), default=None)

    def stand_still(self, seconds: float, *, now: float) -> None:
        """Nobody's time ran for this long, until now. It never begins later than now, also for a
        member that was lost meanwhile."""
        self._touched.update(self._waiting)
        for host_id, lost in self._waiting.items():
            self._waiting[host_id] = replace(lost, since=min(now, lost.since + seconds))

    def set_back(self, now: float) -> None:
        """The clock was set back: nobody must wait longer because of that."""
        for host_id in reversed(self._waiting):
            if self._waiting[host_id].since <= now:
                break
            self._waiting[host_id] = replace(self._waiting[host_id], since=now)
