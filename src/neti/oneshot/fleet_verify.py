"""The rows of a fleet that verifies itself: as they stand, or after operators asked for new ones.

Must never do: wait for ever, or reach for anybody from here: what counts is what members see.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from neti.errors import NetiError
from neti.fleet.crossing import MOST
from neti.fleet.pace import asked_within
from neti.model import Member, entry
from neti.model.settings import Settings
from neti.oneshot.asking_anew import awaited
from neti.oneshot.documents import Told, told_by
from neti.oneshot.registered import members_and_away
from neti.registry import OperatorRegistry, asked
from neti.registry.detail import Document, Verified

# Beyond the agents' own time: what one takes at most when nobody answers it, a pause of its own
# before it begins, and the way.
_FOR_ONE: Final = 3.0 / 8  # seconds; see neti.agent.verifying
_LONGER: Final = 35.0
_LOOKS: Final = 30
_LEAST: Final = 1.0


class NotForMembers(NetiError):
    """Only operators read what hosts say of each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """``sites``: that of each member, empty where it is not known by which entry it is one;
    ``away``: who holds a lease, has been here and is no member: so nobody asks it, or tries it;
    ``waiting``: who may still answer; ``within``: seconds that it takes at most, 0: nobody was
    asked."""

    sites: Mapping[str, str]
    by: Mapping[str, Verified]
    away: frozenset[str] = frozenset()
    waiting: frozenset[str] = frozenset()
    within: float = 0.0

    def elsewhere(self, site: str) -> frozenset[str]:
        return frozenset(i for i, one in self.sites.items() if one not in (site, ""))


def rows(settings: Settings, registry: OperatorRegistry) -> Rows:
    """As hosts said last. Raises NotForMembers."""
    believed, away = members_and_away(settings, registry)
    told = _told(registry, believed)
    return Rows(sites=_sites(believed), by=_of(told.by), away=away)


def ask(
    settings: Settings,
    registry: OperatorRegistry,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Rows]:
    """Rows that answer this word, at once and after each look; ends when all have answered that
    can, or when time is up. A host that is down answers without a row. Raises NotForMembers."""
    believed, away = members_and_away(settings, registry)
    told = _told(registry, believed)
    said, reported = dict(told.by), told.reported
    number = time.time_ns()
    registry.change_setting("asked", asked.encode(number, verify=True))
    sites, members = _sites(believed), len(believed)
    within = asked_within(members) + min(MOST, members) * _FOR_ONE + _LONGER
    word, found = str(number), dict[str, Verified]()

    def waiting() -> set[str]:
        """An agent of an earlier version answers the word, and knows of no row. It makes no report,
        as nobody does in a tree that such a version laid out."""
        able = reported or said.keys()
        return {i for i in able - found.keys() if _may_answer(said.get(i))}

    def look(_: object) -> set[str]:
        """At all without a row: who registers again has no report for a moment."""
        nonlocal reported
        now = _told(registry, {i: name for i, name in believed.items() if i not in found})
        said.update(now.by)
        reported |= now.reported
        found.update({i: row for i, row in _of(now.by).items() if row.word == word})
        return waiting()

    pause = max(_LEAST, within / _LOOKS)
    for left in awaited(waiting(), look, within, pause, sleep=sleep, clock=clock):
        yield Rows(sites=sites, by=dict(found), away=away, waiting=left, within=within)


def _sites(believed: Mapping[str, str | None]) -> dict[str, str]:
    parsed = {i: entry.parse(name) for i, name in believed.items() if name is not None}
    return {i: one.site if isinstance(one := parsed.get(i), Member) else "" for i in believed}


def _may_answer(said: Document | None) -> bool:
    return said is not None and said.stage not in ("", "down")


def _told(registry: OperatorRegistry, believed: Mapping[str, str | None]) -> Told:
    told = told_by(registry, believed)
    if told.in_part:
        raise NotForMembers(
            "whom hosts reach is for operators only\n→ an operator's certificate in registry_tls"
        )
    return told


def _of(told: Mapping[str, Document]) -> dict[str, Verified]:
    """What a host found before it was taken down says nothing of now."""
    return {
        i: said.verified
        for i, said in told.items()
        if said.verified is not None and said.stage != "down"
    }
