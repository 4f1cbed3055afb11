"""The sites of ``neti top``, a letter for each host or for several, and its table of tiers. Pure.

Must never do: show several hosts as better than the worst of them, or leave any out unsaid.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

from neti.cli.top_spans import (
    BAD,
    BOLD,
    DOUBTFUL,
    GOOD,
    PLAIN,
    Line,
    Span,
    Style,
    bare,
    fitted,
    letter_of,
    padded,
    safe,
    span,
    style_of,
    width_of,
)
from neti.cli.top_view import worst
from neti.fleet.picture import LEVELS, NO_SITE, Cell, Tier
from neti.words import counted

BySite = Mapping[str, Sequence[Cell]]

_NARROWEST: Final = 22  # columns of a site that stands beside another
_BETWEEN: Final = 2
_CRITICAL: Final = len(LEVELS) - 1


def sites(by_site: BySite, width: int, height: int) -> tuple[list[Line], int]:
    """In at most so many lines; and how many hosts one letter stands for. Each site has a line with
    its name, and its hosts below, by id. Where not all sites fit, the worst do."""
    names = list(by_site)
    if not names:
        return [], 1
    plan = _planned([len(each) for each in by_site.values()], width, height)
    if plan is not None:
        columns, each = plan
        return _drawn(by_site, width, columns, each), each
    columns = max(1, (width + _BETWEEN) // (_NARROWEST + _BETWEEN))
    fitting = min(len(names) - 1, columns * ((height - 1) // 2))
    names.sort(key=lambda name: (*(-count for count in _bad(by_site[name])), name))
    first = {name: by_site[name] for name in names[:fitting]}
    rest = [cell for name in names[fitting:] for cell in by_site[name]]
    lines, each = sites(first, width, height - 1)
    left_out = counted(len(names) - fitting, "more site")
    return [*lines, fitted(_headed(f"and {left_out}:", rest), width)], each


def named(site: str) -> str:
    return "(unknown)" if site == NO_SITE else site


def _planned(counts: Sequence[int], width: int, height: int) -> tuple[int, int] | None:
    """How many sites stand side by side, and for how many hosts a letter stands: as few as can be,
    then in as few lines as can be, then side by side. None: not all sites fit."""
    found: tuple[int, int, int] | None = None
    for columns in range(1, len(counts) + 1):
        wide = _wide(width, columns)
        if columns > 1 and wide < _NARROWEST:
            break
        bands = -(-len(counts) // columns)
        high = height // bands - 1
        if high < 1:
            continue
        each = max(1, *(-(-count // (wide * high)) for count in counts))
        used = sum(
            1 + max(-(-count // (each * wide)) for count in counts[at : at + columns])
            for at in range(0, len(counts), columns)
        )
        found = min(found or (each, used, -columns), (each, used, -columns))
    return (-found[2], found[0]) if found is not None else None


def _wide(width: int, columns: int) -> int:
    return (width - _BETWEEN * (columns - 1)) // columns


def _drawn(by_site: BySite, width: int, columns: int, each: int) -> list[Line]:
    wide, names, lines = _wide(width, columns), list(by_site), list[Line]()
    for at in range(0, len(names), columns):
        blocks = [_block(name, by_site[name], wide, each) for name in names[at : at + columns]]
        for row in range(max(map(len, blocks))):
            made: list[Span] = []
            before = 0
            for block in blocks:
                one = block[row] if row < len(block) else ()
                room = wide - sum(len(part.text) for part in one)
                made += [Span(" " * before, PLAIN), *one]
                before = room + _BETWEEN
            lines.append(tuple(made))
    return lines


def _block(name: str, cells: Sequence[Cell], wide: int, each: int) -> list[Line]:
    marks = [_mark(cells[at : at + each]) for at in range(0, len(cells), each)]
    rows = (marks[at : at + wide] for at in range(0, len(marks), wide))
    head = _headed(name, cells)
    if width_of(head) > wide:
        head = _headed(name, cells, short=True)
    return [fitted(head, wide), *map(_row, rows)]


def _mark(cells: Sequence[Cell]) -> tuple[str, Style]:
    shown = max(cells, key=worst)
    return letter_of(shown.shade, shown.level), style_of(shown.shade, shown.level)


def _row(marks: Sequence[tuple[str, Style]]) -> Line:
    return tuple(
        Span("".join(letter for letter, _ in run), style)
        for style, run in groupby(marks, key=lambda mark: mark[1])
    )


def _headed(name: str, cells: Sequence[Cell], *, short: bool = False) -> Line:
    """``name`` and what is wrong below it, in numbers, for whoever cannot tell by the letters."""
    critical, warning = _bad(cells)
    hosts = counted(len(cells), "host") if cells else "no hosts"
    made = [span(named(name), BOLD), span(f" {len(cells) if short else hosts}")]
    for count, style, word in (
        (critical, BAD, "critical"),
        (warning, DOUBTFUL, "warning"),
    ):
        if count:
            made += [span(": " if len(made) == 2 else ", "), span(f"{count} {word}", style)]
    return tuple(made)


def _bad(cells: Sequence[Cell]) -> tuple[int, int]:
    """How many have what is critical, and how many others a warning."""
    levels = [cell.level for cell in cells]
    return levels.count(_CRITICAL), levels.count(_CRITICAL - 1)


# --- tiers ---

_HEADS: Final = ("HOSTS", "AGENTS", "REACHED", "NO LEFTOVERS", "ENFORCED")
_WIDEST: Final = 16  # columns of a value, and of a site's name
_NUMBER: Final = 5
_REST: Final = "(the rest)"


def tiers(
    found: Sequence[Tier], key: str, names: Sequence[str], width: int, height: int
) -> list[Line]:
    """A heading and a line for each, in at most ``height`` lines: the last is for the rest.
    ``names``: of the sites, which have a column each while there is room, and one for the rest."""
    if height < 2 or not found:
        return []
    if len(found) > height - 1:
        found = [*found[: height - 2], _joined(found[height - 2 :])]
    values = [(key or "all").upper(), *(_value(one.value, key) for one in found)]
    wide = min(_WIDEST, max(len(safe(value)) for value in values))
    room = width - wide - sum(len(head) + _BETWEEN for head in _HEADS)
    apart, others = _columns_of(names, room)
    heads = [*_HEADS, *apart]
    if others:
        heads.append(_others(others))
    lines = [_cells(values[0], heads, heads, [BOLD] * len(heads), wide)]
    for value, one in zip(values[1:], found, strict=True):
        numbers = [one.hosts, one.agents, one.reach, one.clean, one.enforced]
        styles = [PLAIN, *(GOOD if number == one.hosts else PLAIN for number in numbers[1:])]
        numbers += [one.sites.get(name, 0) for name in apart]
        if others:
            numbers.append(sum(one.sites.get(name, 0) for name in others))
        styles += [PLAIN] * (len(numbers) - len(styles))
        lines.append(_cells(value, heads, numbers, styles, wide))
    return [fitted(one, width) for one in lines]


def _columns_of(names: Sequence[str], room: int) -> tuple[Sequence[str], Sequence[str]]:
    """The sites that have a column, and those that share the last one."""
    for fitting in range(len(names), -1, -1):
        apart, others = names[:fitting], names[fitting:]
        heads = [*apart, *([_others(others)] if others else ())]
        if sum(_width(head) + _BETWEEN for head in heads) <= room:
            return apart, others
    return (), ()


def _others(names: Sequence[str]) -> str:
    return f"+{counted(len(names), 'site')}".upper()


def _width(head: str) -> int:
    return max(_NUMBER, min(_WIDEST, len(head)))


def _cells(
    value: str, heads: Sequence[str], texts: Sequence[object], styles: Sequence[Style], wide: int
) -> Line:
    made = [padded(value, wide, BOLD if texts is heads else PLAIN)]
    for head, text, style in zip(heads, texts, styles, strict=True):
        made += [Span(" " * _BETWEEN, PLAIN), padded(text, _width(head), style, right=True)]
    return tuple(made)


def _value(value: str, key: str) -> str:
    if value in ("?", _REST):
        return "(not reported)" if value == "?" else value
    if not value:
        return "(none)" if key else "(no labels)"
    return bare(value)


def _joined(those: Sequence[Tier]) -> Tier:
    sites_of: dict[str, int] = {}
    for one in those:
        for name, count in one.sites.items():
            sites_of[name] = sites_of.get(name, 0) + count
    return Tier(
        value=_REST,
        hosts=sum(one.hosts for one in those),
        agents=sum(one.agents for one in those),
        verified=sum(one.verified for one in those),
        reach=sum(one.reach for one in those),
        told=sum(one.told for one in those),
        clean=sum(one.clean for one in those),
        enforced=sum(one.enforced for one in those),
        sites=sites_of,
    )
