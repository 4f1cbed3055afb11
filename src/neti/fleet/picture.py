"""The fleet at one moment, for people who look at all of it: the dashboard and ``neti top``. Pure.

Must never do: show as well what nobody has said, or tell of a change that it has not seen.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any, Final, Literal

from neti.fleet.listing import Row, shown_stage
from neti.fleet.needs import Need
from neti.fleet.selecting import off_by, value_of
from neti.model.problem_codes import KINDS, Severity
from neti.registry.detail import Document

Shade = Literal["enforced", "trial", "shadow", "relaxed", "down", "silent", "lost", "held", "away"]
# From the best to the worst, as legends and totals have it.
SHADES: Final[tuple[Shade, ...]] = (
    *("enforced", "trial", "shadow", "relaxed", "down"),
    *("silent", "lost", "held", "away"),
)
# Of a host: 0, all is well; then as ``Severity`` has it.
LEVELS: Final = ("", *(str(one) for one in Severity))
_STAGES: Final[Mapping[str, Shade]] = {
    "enforced": "enforced",
    "trial": "trial",
    "shadow": "shadow",
    "relaxed": "relaxed",
    "down": "down",
}
_KEEPS_OUT: Final = frozenset({"enforced", "trial"})
_IN_WORDS: Final[Mapping[str, str]] = {
    **{shade: shade for shade in SHADES},
    "trial": "on trial",
    "shadow": "in shadow",
}
NO_SITE: Final = "?"  # of a host that is away, and of which nobody knows where it was
_USUAL: Final = ("tier", "role")
EVENTS: Final = 500  # so many are kept
_OF_ONE: Final = 20  # of these, of one host


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One host. ``shade``: what it looks like; ``level``: see ``LEVELS``; ``tier``: the value of
    the label that the picture is divided by, or "?"; ``hurts``: ports that enforcing would shut,
    and that are in use; ``left``: how many members it calls by real addresses; ``reached`` of
    ``tried`` members at its last verification; ``was``: the stage that it said last, where it says
    none now, empty where nobody heard one. None: it does not say. Times are Unix seconds."""

    id: str
    name: str
    site: str
    shade: Shade
    level: int
    tier: str
    overlay: str | None
    private: str | None
    public: str | None
    version: str | None
    labels: Mapping[str, str]
    problems: tuple[str, ...]
    state: str
    since: float | None = None
    written: float | None = None
    hurts: int | None = None
    left: int | None = None
    reached: int | None = None
    tried: int | None = None
    was: str = ""

    @property
    def heard(self) -> bool:
        """Whether it says how it is."""
        return self.shade in _STAGES


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """``agents``: of its ``hosts``, how many are registered; ``reach``: of the ``verified`` ones,
    how many reached every member that they tried; ``clean``: of those who have ``told`` of it, how
    many call nobody by a real address; ``sites``: how many are in each."""

    value: str
    hosts: int
    agents: int
    verified: int
    reach: int
    told: int
    clean: int
    enforced: int
    sites: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """``at``: Unix seconds at which it was seen; ``level``: see ``LEVELS``."""

    at: float
    id: str
    name: str
    site: str
    what: str
    level: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """``at``: Unix seconds of what it shows; ``unanswered``: why that is not now; None: it is;
    ``unheard``: why nobody could hear what hosts say, so that all look silent; empty: they were
    heard; ``key``: the label by which tiers are told apart; ``to``: the site that the fleet moves
    to; empty: nobody said."""

    at: float
    sites: tuple[str, ...]
    cells: Mapping[str, Cell]
    needs: tuple[Need, ...] = ()
    key: str = ""
    to: str = ""
    unanswered: str | None = None
    unheard: str = ""

    def shades(self) -> dict[str, dict[str, int]]:
        """By site, how many hosts look like what."""
        made = {site: dict[str, int]() for site in self.sites}
        for cell in self.cells.values():
            of = made.setdefault(cell.site, {})
            of[cell.shade] = of.get(cell.shade, 0) + 1
        return made

    def tiers(self) -> list[Tier]:
        by: dict[str, list[Cell]] = {}
        for cell in self.cells.values():
            by.setdefault(cell.tier, []).append(cell)
        return [_tier(value, those) for value, those in sorted(by.items())]


def _tier(value: str, cells: Sequence[Cell]) -> Tier:
    sites: dict[str, int] = {}
    for cell in cells:
        sites[cell.site] = sites.get(cell.site, 0) + 1
    there = [cell for cell in cells if cell.state == "registered"]
    # What a silent one said long ago is not known to be so still.
    heard = [cell for cell in there if cell.shade != "silent"]
    return Tier(
        value=value,
        hosts=len(cells),
        agents=len(there),
        verified=sum(1 for one in heard if one.tried),
        reach=sum(1 for one in heard if one.tried and one.reached == one.tried),
        told=sum(1 for one in heard if one.left is not None),
        clean=sum(1 for one in heard if one.left == 0),
        enforced=sum(1 for one in heard if one.shade == "enforced"),
        sites=dict(sorted(sites.items())),
    )


def key_of(rows: Iterable[Row]) -> str:
    """The label that tells tiers apart where nobody says which: the one that most hosts have; of
    several ``tier`` or ``role``, or else the first by name. Empty: no host has any."""
    count: dict[str, int] = {}
    for row in rows:
        for key in row.get("labels") or ():
            count[key] = count.get(key, 0) + 1
    return min(count, key=lambda key: (-count[key], key not in _USUAL, key), default="")


def cells(
    rows: Collection[Row],
    away: Collection[Row],
    told: Mapping[str, Document],
    *,
    key: str,
    now: float,
    before: Mapping[str, Cell] = MappingProxyType({}),
) -> dict[str, Cell]:
    """By id. ``rows``: of members; ``away``: of who holds a lease and is none; ``before``: how each
    looked last; ``now``: Unix seconds."""
    there = (_cell(row, told.get(row["id"]), key, now) for row in rows)
    gone = (_remembered(_cell(row, None, key, now), before.get(row["id"])) for row in away)
    return {cell.id: _with_stage(cell, before.get(cell.id)) for cell in (*there, *gone)}


def _with_stage(cell: Cell, before: Cell | None) -> Cell:
    """A stage that is lost while nobody hears of the host is seen when it speaks again."""
    if before is None or cell.heard:
        return cell
    return replace(cell, was=before.shade if before.heard else before.was)


def _remembered(cell: Cell, before: Cell | None) -> Cell:
    """Who is away says nothing. Of which tier it was, it said before, and where nobody else knows
    it, in which site."""
    if before is None or not before.labels:
        return cell
    site = before.site if cell.site == NO_SITE else cell.site
    return replace(cell, labels=before.labels, tier=before.tier, site=site)


def _cell(row: Row, told: Document | None, key: str, now: float) -> Cell:
    problems = tuple(row.get("problems") or ())
    verified = told.verified if told is not None else None
    left = row.get("left")
    more = told.left_more if told is not None else None
    hurts = row.get("hurts")
    return Cell(
        id=row["id"],
        name=row["name"],
        site=row["site"] or NO_SITE,
        shade=shade(row, now),
        level=_level(row, problems, now),
        tier=value_of(row, key) if key else "",
        overlay=row["overlay"],
        private=row["private"],
        public=row["public"],
        version=row["version"],
        labels=row.get("labels") or {},
        problems=problems,
        state=row["state"],
        since=row.get("since"),
        written=row.get("written"),
        hurts=hurts["ports"] if hurts is not None else None,
        left=len({one["to"] for one in left}) + (more or 0) if left is not None else None,
        reached=verified.reached if verified is not None else None,
        tried=verified.tried if verified is not None else None,
    )


def shade(row: Row, now: float) -> Shade:
    """What a host looks like. Whoever says nothing, or has not for long, is silent: its last stage
    is not known to be so still."""
    match row["state"]:
        case "lost":
            return "lost"
        case "held":
            return "held"
        case "registered":
            pass
        case _:
            return "away"
    if off_by(row, now) is not None:
        return "silent"
    return _STAGES.get(shown_stage(row), "silent")


def _level(row: Row, problems: Iterable[str], now: float) -> int:
    """That of the worst of its problems. A code of a later version counts as a warning."""
    worst = max((_rank(code) for code in problems), default=0)
    if row["state"] in _SAD:
        worst = max(worst, _CRITICAL if row["state"] in _DECIDE else _WARNING)
    if shade(row, now) in ("silent", "down"):  # of who says nothing nobody knows that all is well
        worst = max(worst, _WARNING)
    return worst


_WARNING: Final = Severity.WARNING.rank + 1
_CRITICAL: Final = Severity.CRITICAL.rank + 1


def _rank(code: str) -> int:
    kind = KINDS.get(code)
    return _WARNING if kind is None else kind.severity.rank + 1


# --- what happens from one picture to the next ---


def happened(before: Picture, after: Picture) -> Iterator[Event]:
    """What is otherwise, host by host. Of two pictures of which one is old nothing is told: what a
    registry that did not answer could not say is no news."""
    if before.unanswered is not None or after.unanswered is not None:
        return
    for host_id, cell in after.cells.items():
        former = before.cells.get(host_id)
        if former is not cell:
            yield from _of_one(former, cell, after.at)
    for host_id, former in before.cells.items():
        if host_id not in after.cells:
            yield _event(former, after.at, "is in the registry no more, with its lease")


def fair(held: Iterable[Event], new: Iterable[Event]) -> list[Event]:
    """Of the ``new`` ones those that belong among ``held``, which are everybody's: no host alone
    pushes out what happened to others."""
    had, kept = Counter(one.id for one in held), list[Event]()
    for event in new:
        had[event.id] += 1
        if had[event.id] <= _OF_ONE:
            kept.append(event)
        elif had[event.id] == _OF_ONE + 1:
            kept.append(replace(event, what="has more events than are listed here"))
    return kept


def _of_one(before: Cell | None, after: Cell, at: float) -> Iterator[Event]:
    if before is None:
        what = "joined" if after.state == "registered" else f"is known: {after.state}"
        yield _event(after, at, f"{what}, in {after.site}")
        return
    if after.state == "missing" and before.state in ("lost", "held"):
        return  # nobody can be asked any more which of the two it is: that is no news
    fell = _fell(before, after)
    if before.state != after.state:
        was = f" (was {_IN_WORDS[before.was]})" if fell else ""
        yield _event(
            after, at, f"{_became(after)}{was}", _WARNING if after.state in _SAD or fell else 0
        )
        return
    if before.shade != after.shade:
        was = _IN_WORDS[before.shade]
        if fell and not before.heard:
            was += f", and {_IN_WORDS[before.was]} before that"
        worse = fell or after.shade in ("down", "relaxed", "silent")
        what = f"is {_IN_WORDS[after.shade]} (was {was})"
        yield _event(after, at, what, _WARNING if worse else 0)
    if before.site != after.site:
        yield _event(after, at, f"is in {after.site} now (was in {before.site})")
    if not after.heard:
        return  # what it does not say any more is not solved
    for code in sorted({*after.problems} - {*before.problems}):
        yield _event(after, at, f"has a problem: {code}", _rank(code))
    for code in sorted({*before.problems} - {*after.problems}):
        yield _event(after, at, f"problem solved: {code}")


def _fell(before: Cell, after: Cell) -> bool:
    """Whether a host that kept strangers out when it was last heard of does not any more."""
    was = before.shade if before.heard else before.was
    return was in _KEEPS_OUT and after.heard and after.shade not in _KEEPS_OUT


# Where no agent can be asked, a host that is lost is only known to be missing.
_DECIDE: Final = frozenset({"held", "not believed"})  # only an operator ends it
_SAD: Final = frozenset({"lost", "held", "not believed", "missing"})


def _became(cell: Cell) -> str:
    match cell.state:
        case "registered":
            return f"is back: {_IN_WORDS[cell.shade]}"
        case "left":
            return "left the fleet"
        case "lost":
            return "is lost: its session with the registry ended"
        case "held":
            return "is lost, and its removal is held"
    return f"is {cell.state}"


def _event(cell: Cell, at: float, what: str, level: int = 0) -> Event:
    return Event(at=at, id=cell.id, name=cell.name, site=cell.site, what=what, level=level)


# --- as text that programs read ---

COLUMNS: Final = tuple(Cell.__slots__)


def values(cell: Cell) -> list[Any]:
    """In the order of ``COLUMNS``: names of keys would be half of what a large fleet takes."""
    made = [getattr(cell, name) for name in COLUMNS]
    made[COLUMNS.index("labels")] = dict(cell.labels)
    return made


def plain(picture: Picture) -> dict[str, Any]:
    """All of it but the hosts."""
    return {
        "at": picture.at,
        "sites": list(picture.sites),
        "key": picture.key,
        "to": picture.to,
        "unanswered": picture.unanswered,
        "unheard": picture.unheard,
        "needs": [asdict(one) for one in picture.needs],
        "tiers": [asdict(one) for one in picture.tiers()],
    }
