"""The fleet, looked at again and again, for who watches all of it: the dashboard and ``neti top``.

Each look asks which entries there are, and what operators have set. Only when that is otherwise, or
after a while, everybody is judged anew; and what hosts say of themselves is read again in turns, a
new entry's at once. In a large fleet either takes as long as a look should not, so after each there
is a rest, in which a look costs next to nothing.

Must never do: change anything in the registry, or show as of now what is of before.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Set
from contextlib import AbstractContextManager
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any, Final

from neti.control.aside import ASIDES
from neti.errors import RegistryUnavailable
from neti.fleet import picture
from neti.fleet.needs import hangs, needs, unknown
from neti.fleet.picture import Picture
from neti.model.settings import Settings
from neti.oneshot.documents import Told, told_by
from neti.oneshot.seen import Judged, Seen, instead_of, judged_in
from neti.registry import OperatorRegistry, SettingName

# So many documents are read again in each turn: about a tenth of a second's work.
_SHARE: Final = 1600
_UNKNOWN: Final = "unknown"
_REST: Final = 2.0  # times as long as a turn took
_SETTINGS: Final[tuple[SettingName, ...]] = ("strict", "drained", "names")
_JUDGED_EVERY: Final = 30.0  # seconds: leases of hosts that are away change without an entry

RegistryOf = Callable[[Settings], AbstractContextManager[OperatorRegistry]]
Ask = Callable[[Path, str], Any]


class Watched:
    """Not thread-safe. Keeps one connection to the registry, and makes a new one after an error.
    ``key``: the label that tells tiers apart; empty: the one that most hosts have. ``to``: the site
    that the fleet moves to; empty: nobody said."""

    def __init__(
        self,
        settings: Settings,
        registry_of: RegistryOf,
        ask: Ask,
        *,
        key: str = "",
        to: str = "",
        wall: Callable[[], float] = time.time,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._registry_of = registry_of
        self._ask = ask
        self._key = key
        self._to = to
        self._wall = wall
        self._now = now
        self._open: tuple[AbstractContextManager[OperatorRegistry], OperatorRegistry] | None = None
        self._documents = Documents()
        self._last: Picture | None = None
        self._judged: Judged | None = None
        self._asked: tuple[object, ...] = ()  # what the last judgement was made of
        self._judged_at = self._judged_until = self._rests_until = -inf
        self.seen: Seen | None = None  # what the last look was made of

    def look(self) -> Picture:
        """What is so now; where the registry does not answer, what is known, with ``unanswered``.
        Raises RegistryUnavailable where nothing is known at all."""
        try:
            found = self._seen()
        except RegistryUnavailable as away:
            self.close()
            return self._without(away)
        if found is None and self._last is not None:
            self._last = replace(self._last, at=self._wall())
        elif found is not None:
            self.seen = found
            self._last = self._pictured(found)
        assert self._last is not None
        return self._last

    def close(self) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            with contextlib.suppress(Exception):  # it may be what does not answer
                opened[0].__exit__(None, None, None)

    def _seen(self) -> Seen | None:
        """None: it is as it was at the last look, as far as was looked."""
        if self._open is None:
            held = self._registry_of(self._settings)
            self._open = held, held.__enter__()
            self._judged = None
        registry, began = self._open[1], self._now()
        asked = (registry.names(), *(registry.setting(one) for one in _SETTINGS))
        old = began >= self._judged_at + _JUDGED_EVERY
        anew = self._judged is None or asked != self._asked or old
        if self._judged is None or (anew and began >= self._judged_until):
            self._judged, self._asked = judged_in(self._settings, registry), asked
            self._judged_at = self._now()
            # Where somebody comes or goes all the time, half of the time goes into it at most.
            self._judged_until = self._judged_at + (self._judged_at - began)
        elif began < self._rests_until:
            return None
        told = self._documents(registry, self._judged.entries)
        found = self._judged.seen(self._settings, told)
        ended = self._now()
        self._rests_until = ended + (ended - began) * _REST
        return found

    def _without(self, away: RegistryUnavailable) -> Picture:
        """What was seen last is more than what an agent knows."""
        if self._last is not None:
            known = (one for one in self._last.needs if one.code != _UNKNOWN)
            since = "the registry does not answer, and what follows is as old as the picture"
            self._last = replace(self._last, unanswered=str(away), needs=(unknown(since), *known))
            return self._last
        found = instead_of(self._settings, away, self._ask)
        self.seen = found
        return self._pictured(found, unanswered=str(away))

    def _pictured(self, found: Seen, unanswered: str | None = None) -> Picture:
        now, rows = self._wall(), found.rows()
        key = self._key or picture.key_of(rows)
        before = self._last.cells if self._last is not None else {}
        cells = picture.cells(rows, found.away, found.told, key=key, now=now, before=before)
        same = {i: held for i, one in cells.items() if (held := before.get(i)) == one}
        unheard = _unheard(found)
        hanging = ASIDES.in_vain(self._settings.table_files_path)
        there = {cell.site for cell in cells.values()}
        return Picture(
            at=now - (found.stale_seconds or 0.0),
            sites=(*sorted(self._settings.sites), *sorted(there - self._settings.sites.keys())),
            cells={**cells, **same},
            needs=(
                *([unknown(unheard)] if unheard else []),
                *([hangs(hanging)] if hanging is not None else []),
                *needs(
                    rows,
                    found.away,
                    found.told,
                    now=now,
                    not_own=found.not_own,
                    skipped=found.skipped_count,
                    in_part=found.in_part,
                ),
            ),
            key=key,
            to=self._to,
            unanswered=unanswered,
            unheard=unheard,
        )


def _unheard(found: Seen) -> str:
    if found.unanswered is not None:
        return "this host's agent knows no names, versions and stages of others"
    if found.in_part and all(said.stage == "" for said in found.told.values()):
        return "how hosts are is for operators only: use an operator's certificate in registry_tls"
    return ""


class Documents:
    """``neti.oneshot.seen.Documents``, which remembers. Not thread-safe."""

    def __init__(self, share: int = _SHARE) -> None:
        self._share = share
        self._of: dict[str, str | None] = {}  # by which entry each was read
        self._told = Told({}, frozenset(), in_part=False)
        self._turn: list[str] = []

    def __call__(self, registry: OperatorRegistry, entries: Mapping[str, str | None]) -> Told:
        if not self._turn:
            self._turn = sorted(self._of, reverse=True)
        due = {self._turn.pop() for _ in range(min(self._share, len(self._turn)))}
        new = {i for i, name in entries.items() if i not in self._of or self._of[i] != name}
        read = {i: entries[i] for i in (new | due) & entries.keys()}
        said = told_by(registry, read) if read or not entries else Told({}, frozenset(), False)
        self._of = dict(entries)
        self._told = _joined(self._told, said, read.keys(), entries.keys())
        return self._told


def _joined(before: Told, now: Told, read: Set[str], there: Set[str]) -> Told:
    """``read``: who was asked about now; ``there``: who is a member."""

    def of(former: frozenset[str], later: frozenset[str]) -> frozenset[str]:
        return ((former - read) | later) & there

    kept = {i: said for i, said in before.by.items() if i not in read and i in there}
    return Told(
        {**kept, **now.by},
        of(before.not_own, now.not_own),
        in_part=now.in_part if read else before.in_part,
        reported=of(before.reported, now.reported),
    )
