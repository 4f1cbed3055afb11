"""What ``neti top`` knows, what of it is being looked at, and what a key does. Pure.

Must never do: leave a need out by a filter, or move what is selected because something else came.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Literal

from neti.fleet.needs import Need
from neti.fleet.picture import LEVELS, SHADES, Cell, Event, Picture, Shade, Tier
from neti.model.problem_codes import Severity
from neti.text import printable

Pane = Literal["needs", "hosts", "events"]
Kind = Literal["help", "need", "host"]
Action = Literal["", "quit", "look"]
PANES: Final[tuple[Pane, ...]] = ("needs", "hosts", "events")
_LONGEST: Final = 60  # letters of a filter
_RANK: Final = {shade: number for number, shade in enumerate(SHADES)}
_WARNING: Final = LEVELS.index(Severity.WARNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What looks came to. ``picture``: None before the first that came to something; ``events``:
    of the last hour, the newest first; ``since``: Unix seconds from when on they are seen;
    ``failed``: why there is no picture; ``only``: which part of the fleet is asked for, in words;
    ``unsaid``: how many hosts are left out of it because they say no labels; ``note``:
    what else has to be known of the picture; ``cut``: whether there
    were more events than are kept."""

    picture: Picture | None = None
    events: tuple[Event, ...] = ()
    since: float | None = None
    failed: str | None = None
    only: str = ""
    unsaid: int = 0
    note: str = ""
    cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """``of``: a need's code, or a host's id; ``at``: the first line that is shown, or of a need the
    selected host."""

    kind: Kind
    of: str = ""
    at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """``chosen``: what is selected in each pane, as its place and its name; none: the first.
    ``typing``: the filter as it was before somebody began to type another; None: nobody types."""

    pane: Pane = "needs"
    chosen: Mapping[Pane, tuple[int, str]] = field(default_factory=lambda: MappingProxyType({}))
    pages: tuple[Page, ...] = ()
    filter: str = ""
    typing: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Of what is known, what the filter lets through. ``hosts``: the worst first; ``by_site``: all
    of them, by id; ``totals``: by shade, of all; ``names``: of each pane's lines."""

    needs: tuple[Need, ...] = ()
    hosts: tuple[Cell, ...] = ()
    events: tuple[Event, ...] = ()
    by_site: Mapping[str, Sequence[Cell]] = field(default_factory=dict)
    tiers: Sequence[Tier] = ()
    totals: Mapping[Shade, int] = field(default_factory=dict)
    names: Mapping[Pane, Sequence[str]] = field(default_factory=dict)


def worst(cell: Cell) -> tuple[int, int, int]:
    """Greater is worse. A note is no reason to look before a host that is relaxed."""
    return (cell.level if cell.level >= _WARNING else 0, _RANK[cell.shade], cell.level)


def shown_of(known: Known, words: str) -> Shown:
    """``words``: the filter, of which each word must be found."""
    picture = known.picture
    if picture is None:
        return Shown()
    wanted = words.lower().split()
    by_site: dict[str, list[Cell]] = {site: [] for site in picture.sites}
    totals: dict[Shade, int] = dict.fromkeys(SHADES, 0)
    for cell in sorted(picture.cells.values(), key=lambda one: one.id):
        by_site.setdefault(cell.site, []).append(cell)
        totals[cell.shade] += 1
    hosts = [cell for cell in picture.cells.values() if _takes(wanted, cell)]
    hosts.sort(key=lambda cell: (*(-each for each in worst(cell)), cell.id))
    events = tuple(
        one for one in known.events if _takes_event(wanted, one, picture.cells.get(one.id))
    )
    return Shown(
        needs=picture.needs,
        hosts=tuple(hosts),
        events=events,
        by_site=by_site,
        tiers=picture.tiers(),
        totals=totals,
        names={
            "needs": [one.code for one in picture.needs],
            "hosts": [cell.id for cell in hosts],
            "events": [f"{one.at} {one.id} {one.what}" for one in events],
        },
    )


def _takes(wanted: Sequence[str], cell: Cell) -> bool:
    if not wanted:
        return True
    said = (cell.id, cell.name, cell.site, cell.tier, cell.shade, cell.state)
    text = "\n".join((*said, LEVELS[cell.level], *cell.problems)).lower()
    return all(word in text for word in wanted)


def _takes_event(wanted: Sequence[str], event: Event, cell: Cell | None) -> bool:
    if not wanted or (cell is not None and _takes(wanted, cell)):
        return True
    text = "\n".join((event.id, event.name, event.site, event.what)).lower()
    return all(word in text for word in wanted)


def place(view: View, shown: Shown, pane: Pane) -> int:
    """Of what is selected there: where it has moved to, or where it stood."""
    names = shown.names.get(pane, ())
    if pane not in view.chosen or not names:
        return 0
    before, name = view.chosen[pane]
    if before < len(names) and names[before] == name:
        return before
    try:
        return names.index(name)
    except ValueError:
        return min(before, len(names) - 1)


def need_of(shown: Shown, code: str) -> Need | None:
    return next((one for one in shown.needs if one.code == code), None)


# --- keys ---


def pressed(
    view: View, key: str, shown: Shown, *, page: int = 10, most: int = 0
) -> tuple[View, Action]:
    """``key``: a letter, or a name: up, down, pageup, pagedown, home, end, enter, esc, tab,
    backtab, backspace, ctrl-u. ``page``: lines of a page; ``most``: the first line of the open
    page, when its end is seen."""
    if view.typing is not None:
        return _typed(view, key), ""
    match key:
        case "q" | "Q":
            return view, "quit"
        case "r":
            return view, "look"
        case "?":
            there = bool(view.pages) and view.pages[-1].kind == "help"
            return (view if there else _opened(view, Page(kind="help"))), ""
        case "/":
            # Needs are never filtered, so whoever looks for a host looks among the hosts.
            pane: Pane = "hosts" if view.pane == "needs" else view.pane
            return replace(view, pane=pane, pages=(), typing=view.filter), ""
        case "esc" | "backspace":
            if view.pages:
                return replace(view, pages=view.pages[:-1]), ""
            return replace(view, filter=""), ""
        case "tab" | "backtab":
            step = 1 if key == "tab" else -1
            after = PANES[(PANES.index(view.pane) + step) % len(PANES)]
            return replace(view, pane=after, pages=()), ""
        case "enter":
            return _entered(view, shown), ""
    step = _STEPS.get(key, 0) * (page if key.startswith("page") else 1)
    return (_moved(view, step, shown, most) if step else view), ""


_END: Final = 1 << 40
_STEPS: Final = {
    "up": -1,
    "k": -1,
    "down": 1,
    "j": 1,
    "pageup": -1,
    "pagedown": 1,
    "home": -_END,
    "g": -_END,
    "end": _END,
    "G": _END,
}


def _typed(view: View, key: str) -> View:
    match key:
        case "enter" | "tab" | "down":
            return replace(view, typing=None)
        case "esc":
            return replace(view, typing=None, filter=view.typing or "")
        case "backspace":
            return replace(view, filter=view.filter[:-1])
        case "ctrl-u":
            return replace(view, filter="")
    if len(key) == 1 and printable(key) == key and len(view.filter) < _LONGEST:
        return replace(view, filter=view.filter + key)
    return view


def _opened(view: View, page: Page) -> View:
    return replace(view, pages=(*view.pages, page))


def _entered(view: View, shown: Shown) -> View:
    if view.pages:
        top = view.pages[-1]
        need = need_of(shown, top.of) if top.kind == "need" else None
        if need is None or not need.hosts:
            return view
        return _opened(view, Page(kind="host", of=need.hosts[min(top.at, len(need.hosts) - 1)]))
    at = place(view, shown, view.pane)
    match view.pane:
        case "needs" if shown.needs:
            return _opened(view, Page(kind="need", of=shown.needs[at].code))
        case "hosts" if shown.hosts:
            return _opened(view, Page(kind="host", of=shown.hosts[at].id))
        case "events" if shown.events:
            return _opened(view, Page(kind="host", of=shown.events[at].id))
    return view


def _moved(view: View, step: int, shown: Shown, most: int) -> View:
    if view.pages:
        *below, top = view.pages
        need = need_of(shown, top.of) if top.kind == "need" else None
        end = most if need is None or not need.hosts else len(need.hosts) - 1
        at = max(0, min(min(top.at, end) + step, end))
        return replace(view, pages=(*below, replace(top, at=at)))
    names = shown.names.get(view.pane, ())
    if not names:
        return view
    at = max(0, min(place(view, shown, view.pane) + step, len(names) - 1))
    chosen = {**view.chosen, view.pane: (at, names[at])}
    if at == 0:  # whoever is at the top stays there, whatever comes
        del chosen[view.pane]
    return replace(view, chosen=chosen)
