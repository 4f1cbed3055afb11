"""One screen of ``neti top``: everything that is known, in so many lines and columns. Pure.

Must never do: show what is old without the word that it is, or draw outside of the window.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from neti.cli.top_pages import page_lines, then_of
from neti.cli.top_sites import named, sites, tiers
from neti.cli.top_spans import (
    BAD,
    BOLD,
    CHOSEN,
    COMMAND,
    DIM,
    DOUBTFUL,
    OF_LEVEL,
    PLAIN,
    Line,
    Span,
    bare,
    chosen,
    cut,
    fitted,
    flowed,
    folded,
    letter_of,
    line,
    padded,
    safe,
    span,
    style_of,
    width_of,
)
from neti.cli.top_view import PANES, Known, Pane, Shown, View, place
from neti.fleet.attendance import lasting
from neti.fleet.needs import Need
from neti.fleet.picture import LEVELS, SHADES, Cell, Event, Picture, Shade
from neti.words import counted

LEAST: Final = (60, 18)  # columns and lines: less is no page
_LATE: Final = 15.0  # seconds: a picture that is older is named as such
_LEAST_PANE: Final = 6
_MOST_ALERT: Final = 3
_TWO_LISTS: Final = 20  # lines: then what has happened is seen beside what is needed
# Of whom something is wrong as long as they look like that: so their letters are capital.
_NEVER_CALM: Final = frozenset({"down", "silent", "lost", "held"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """``page``: how many lines of the list or page are seen at once; ``most``: the first line of
    the open page, when its end is seen."""

    lines: tuple[Line, ...]
    page: int = 1
    most: int = 0


def drawn(known: Known, shown: Shown, view: View, width: int, height: int, now: float) -> Frame:
    """Exactly ``height`` lines, none wider than ``width``. ``now``: Unix seconds."""
    if width < LEAST[0] or height < LEAST[1]:
        return _too_small(width, height)
    top = [_title(known, now, width), *_alert(known, now, width)]
    foot = _foot(view)
    room = height - len(top) - 1
    if view.pages:
        body, most = page_lines(view.pages[-1], known, shown, width, room - 1, now)
        return _framed([*top, (), *body], foot, width, height, page=room - 1, most=most)
    if known.picture is None:
        text = "asking the registry..." if known.failed is None else "asking it again..."
        return _framed([*top, (), line(text)], foot, width, height)
    body, page = _board(known, known.picture, shown, view, width, room)
    return _framed([*top, *body], foot, width, height, page=page)


def _framed(
    lines: Sequence[Line], foot: Line, width: int, height: int, *, page: int = 1, most: int = 0
) -> Frame:
    kept = [fitted(one, width) for one in lines[: height - 1]]
    kept += [()] * (height - 1 - len(kept))
    return Frame(lines=(*kept, fitted(foot, width)), page=max(1, page), most=most)


def _too_small(width: int, height: int) -> Frame:
    said = (
        "The window is too small:",
        f"it has {width} x {height},",
        f"and this needs {LEAST[0]} x {LEAST[1]}.",
        "q ends it.",
    )
    lines = [fitted(line(text), width) for text in said][:height]
    return Frame(lines=(*lines, *[()] * (height - len(lines))))


# --- above and below ---


def _title(known: Known, now: float, width: int) -> Line:
    picture = known.picture
    parts: list[Span] = [span("neti top", BOLD)]
    if picture is None:
        return line(*parts)
    there = sum(1 for cell in picture.cells.values() if cell.state == "registered")
    parts.append(span(f"  {counted(len(picture.cells), 'host')}, {there} registered"))
    if known.only:
        parts.append(span(f"  only {known.only}", DOUBTFUL))
    age = max(0.0, now - picture.at)
    late = BAD if picture.unanswered is not None else DOUBTFUL if age > _LATE else PLAIN
    when = span(f"{_clock(picture.at)} UTC, {lasting(age)} ago", late)
    # How old it is stands at the end, and is never what is cut off.
    room = width - len(when.text) - 2
    if width_of(tuple(parts)) > room:
        parts[:2] = [span(parts[1].text.strip())]  # numbers before the name
    before = fitted(tuple(parts), room)
    return (*before, Span(" " * (width - len(when.text) - width_of(before)), PLAIN), when)


def _alert(known: Known, now: float, width: int) -> Iterator[Line]:
    picture = known.picture
    if picture is None:
        if known.failed is not None:
            yield from folded(f"NO ANSWER: {known.failed}", width, BAD)[:_MOST_ALERT]
        return
    if picture.unanswered is not None:
        age = lasting(now - picture.at)
        said = f"NO ANSWER since {_clock(picture.at)} UTC, so all of this is {age} old: "
        lines = folded(f"{said}{picture.unanswered}", width, BAD)
        yield from lines[:_MOST_ALERT]
    if known.note:
        yield from folded(known.note, width, DOUBTFUL)[:_MOST_ALERT]
    if known.unsaid:
        hosts = counted(known.unsaid, "host says", "hosts say")
        yield from folded(f"{hosts} no labels: left out here, see 'neti fleet'", width, DOUBTFUL)


def _foot(view: View) -> Line:
    if view.typing is not None:
        return line(
            span("filter: ", BOLD), view.filter, span("_", BOLD), "   Enter keeps it, Esc drops it"
        )
    if view.pages:
        keys = "q quit   ? help   Esc back   arrows move   Enter open   r look now"
    else:
        keys = "q quit   ? help   Tab next list   Enter open   / filter   r look now"
        if view.filter:
            return line(span("filter: ", BOLD), view.filter, span("   Esc ends it   ? help", DIM))
    return line(span(keys, DIM))


def _clock(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "?"


# --- the sites, the tiers and one list ---


def _board(
    known: Known, picture: Picture, shown: Shown, view: View, width: int, height: int
) -> tuple[list[Line], int]:
    """And how many entries of the list are seen."""
    legend = _legend(shown, 2, width)
    pane = max(_LEAST_PANE, height * 2 // 5)
    room = height - len(legend) - 1 - pane
    table = min(len(shown.tiers) + 1, max(3, room // 2)) if room >= 5 else 0
    blocks, each = sites(shown.by_site, width, max(2, room - table))
    legend = _legend(shown, each, width)
    table = room - len(blocks)  # and what the sites do not need
    rows = tiers(shown.tiers, picture.key, list(shown.by_site), width, table)
    titles = _titles(known, shown, view, picture)
    lines = [*legend, *blocks, *rows, _tabs(titles, view.pane)]
    left = height - len(lines)
    if left < _TWO_LISTS:
        made, page = _list(shown, view, view.pane, width, left)
        return [*lines, *made], page
    made, page = _list(shown, view, view.pane, width, left * 3 // 5)
    made += [()] * (left * 3 // 5 - len(made))
    other: Pane = "needs" if view.pane == "events" else "events"
    beside, _ = _list(shown, view, other, width, left - len(made) - 1)
    return [*lines, *made, line(span(titles[other], DIM)), *beside], page


def _list(shown: Shown, view: View, pane: Pane, width: int, height: int) -> tuple[list[Line], int]:
    """And how many entries of it are seen. Only in the list that has the keys one is selected."""
    if pane != "needs" and view.filter and not shown.names[pane]:
        return [line("The filter lets nothing through.")], height
    at = place(view, shown, pane) if pane == view.pane else -1
    return {"needs": _needs, "hosts": _hosts, "events": _events}[pane](shown, at, width, height)


def _legend(shown: Shown, each: int, width: int) -> list[Line]:
    """How many hosts look like what, with the letter that each of them has."""
    items: list[Line] = [_looks(shade, shown.totals.get(shade, 0)) for shade in SHADES]
    items += [line(span("CAPITAL", BOLD), " warning"), line(span("REVERSED", CHOSEN), " critical")]
    if each > 1:
        several = f"one letter: the worst of {each} hosts"
        items.append(line(span(several, BOLD)))
    return flowed(items, width)


def _looks(shade: Shade, count: int) -> Line:
    level = LEVELS.index("warning") if shade in _NEVER_CALM else 0
    style = style_of(shade, level)
    return line(
        span(letter_of(shade, level), style), span(f" {shade} {count}", PLAIN if count else DIM)
    )


def _titles(known: Known, shown: Shown, view: View, picture: Picture) -> dict[Pane, str]:
    hosts, events = len(shown.hosts), len(shown.events)
    of_hosts = f"{hosts} of {len(picture.cells)}" if view.filter else f"{hosts}"
    of_events = f"{events} of {len(known.events)}" if view.filter else f"{events}"
    since = f", since {_clock(known.since)}" if known.since is not None else ""
    return {
        "needs": f" What needs attention {len(shown.needs)} ",
        "hosts": f" Hosts {of_hosts} ",
        "events": f" Last hour {of_events}{'+' if known.cut else ''}{since} ",
    }


def _tabs(titles: Mapping[Pane, str], open_: Pane) -> Line:
    return tuple(
        span(titles[pane], CHOSEN._replace(bold=True) if pane == open_ else DIM) for pane in PANES
    )


def _seen(count: int, at: int, room: int) -> range:
    """Of so many entries those that are seen, with the selected one among them."""
    first = max(0, min(at - room // 2, count - room))
    return range(first, min(count, first + room))


def _needs(shown: Shown, at: int, width: int, height: int) -> tuple[list[Line], int]:
    """Two lines each: what it is, and the first command."""
    room = max(1, height // 2)
    if not shown.needs:
        return [line("Nothing needs attention.")], room
    lines: list[Line] = []
    for number in _seen(len(shown.needs), at, room):
        lines += _one_need(shown.needs[number], number == at, width)
    return lines[:height], room


def _one_need(need: Need, selected: bool, width: int) -> Iterator[Line]:
    level = need.severity.rank + 1
    made = line(padded(need.severity, 9, OF_LEVEL[level]), need.what)
    yield chosen(made, width) if selected else made
    first = then_of(need.then[0], need) if need.then else need.remedy
    yield line(" " * 9, span(first, COMMAND if need.then else PLAIN))


def _hosts(shown: Shown, at: int, width: int, height: int) -> tuple[list[Line], int]:
    if not shown.hosts:
        return [line("No host is known.")], height
    rows = [(number, _row(shown.hosts[number])) for number in _seen(len(shown.hosts), at, height)]
    widths = [max(len(row[column]) for _, row in rows) for column in range(len(_WIDEST))]
    widths = [min(pair) for pair in zip(widths, _WIDEST, strict=True)]
    lines = []
    for number, row in rows:
        cell = shown.hosts[number]
        style = style_of(cell.shade, cell.level)
        level = OF_LEVEL[cell.level]
        texts = (f"{cut(text, wide):<{wide}}" for text, wide in zip(row, widths, strict=False))
        front = "  ".join(text for text in texts if text)
        mark = span(letter_of(cell.shade, cell.level), style)
        made = line(mark, f" {front}  ", span(row[-1], level))
        lines.append(chosen(made, width) if number == at else made)
    return lines, height


_WIDEST: Final = (24, 16, 16, 12, 8)  # of id, name, site, tier, shade; behind them what is wrong


def _row(cell: Cell) -> tuple[str, ...]:
    name = safe(bare(cell.name)) if cell.name != cell.id else ""
    tier = safe(bare(cell.tier)) if cell.tier not in ("", "?") else ""
    level = LEVELS[cell.level]
    wrong = ", ".join(cell.problems) or (cell.state if cell.state != "registered" else "")
    last = ": ".join(word for word in (level, safe(wrong)) if word)
    return (safe(cell.id), name, safe(named(cell.site)), tier, cell.shade, last)


def _events(shown: Shown, at: int, width: int, height: int) -> tuple[list[Line], int]:
    if not shown.events:
        return [line("Nothing has happened since this began to look at it.")], height
    seen = _seen(len(shown.events), at, height)
    return [_event(shown.events[number], number == at, width) for number in seen], height


def _event(event: Event, selected: bool, width: int) -> Line:
    level = LEVELS[event.level]
    made = line(
        f"{_clock(event.at)}  ",
        padded(level, 9, OF_LEVEL[event.level]),
        span(event.id, BOLD),
        f"  {event.what}",
    )
    return chosen(made, width) if selected else made
