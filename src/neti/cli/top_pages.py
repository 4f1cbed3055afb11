"""The pages of ``neti top``: one need, one host, and the keys. Pure.

Must never do: name a command that changes something as if it only looked.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from neti.cli.top_sites import named
from neti.cli.top_spans import (
    BOLD,
    COMMAND,
    DIM,
    OF_LEVEL,
    Line,
    Style,
    bare,
    chosen,
    fitted,
    folded,
    letter_of,
    line,
    span,
    style_of,
)
from neti.cli.top_view import Known, Page, Shown, need_of
from neti.fleet.attendance import lasting, moment
from neti.fleet.needs import Need
from neti.fleet.picture import LEVELS, NO_SITE, Cell
from neti.model.problem_codes import KINDS
from neti.text import command
from neti.words import and_more, counted

_THERE: Final = "there: "
_KEYS: Final = (
    ("Tab", "the next list: what needs attention, hosts, last hour"),
    ("arrows, j k", "up and down; also PageUp, PageDown, Home, End"),
    ("Enter", "open what is selected"),
    ("Esc", "back; from the lists: end the filter"),
    ("/", "filter hosts and events by id, name, site, tier, state, or problem"),
    ("r", "look now, and not at the next of every two seconds"),
    ("?", "this page"),
    ("q, Ctrl-C", "end"),
)
_ABOUT: Final = """\
Each letter is a host, as the second line says. A capital one has a warning or worse, a reversed \
one is critical. Where there are more hosts than letters fit, one letter stands for several of \
them and is that of the worst.
In the table: AGENTS are registered; REACHED reached each member that they tried at their last \
verification; NO LEFTOVERS call nobody by a real address; ENFORCED are. A green number is all of \
them.
It shows what hosts say in the registry, and changes nothing. Of the last hour it knows what it \
has seen since it began. Times are UTC.
"""


def then_of(words: str, need: Need) -> str:
    """A need's command, and where to type it."""
    if not words.startswith(_THERE):
        return words
    on = f"on {need.hosts[0]}" if need.count == 1 and need.hosts else "on each of them"
    return f"{on}: {words.removeprefix(_THERE)}"


def page_lines(
    page: Page, known: Known, shown: Shown, width: int, height: int, now: float
) -> tuple[list[Line], int]:
    """At most ``height`` lines, and the first line when the end is seen. ``now``: Unix seconds."""
    match page.kind:
        case "help":
            lines = [*_help(width)]
        case "host":
            cell = known.picture.cells.get(page.of) if known.picture is not None else None
            lines = [*(_gone(page.of) if cell is None else _host(cell, width, now))]
        case "need":
            need = need_of(shown, page.of)
            if need is not None:
                return _need(need, known, page.at, width, height), 0
            lines = [line(f"{page.of}: nothing needs you there any more")]
    most = max(0, len(lines) - height)
    at = min(page.at, most)
    kept = lines[at : at + height]
    if most and at < most:
        kept[-1] = line(span(f"and {len(lines) - at - height + 1} more lines: arrow down", DIM))
    return [fitted(one, width) for one in kept], most


def _help(width: int) -> Iterator[Line]:
    yield line(span("Keys", BOLD))
    for key, what in _KEYS:
        yield line(span(f"  {key:<12} ", BOLD), what)
    for text in _ABOUT.splitlines():
        yield ()
        yield from folded(text, width)


def _gone(host_id: str) -> Iterator[Line]:
    yield line(span(host_id, BOLD))
    yield line("It is not in the fleet, or not in the part of it that is shown: its lease is gone.")


# --- a need ---


def _need(need: Need, known: Known, at: int, width: int, height: int) -> list[Line]:
    """The hosts below are a list of which one is selected."""
    level = need.severity.rank + 1
    lines = folded(f"{need.severity}: {need.what}", width, _heavy(OF_LEVEL[level]))
    if need.remedy:
        lines += folded(f"What to do: {need.remedy}", width)
    lines += [line("  ", span(then_of(words, need), COMMAND)) for words in need.then]
    if need.hosts:
        more = and_more(need.count - len(need.hosts))
        lines += [(), line(span(f"{counted(len(need.hosts), 'host')}{more}", BOLD))]
    at, room = min(at, len(need.hosts) - 1), max(1, height - len(lines))
    lines = lines[: height - 1] if need.hosts else lines[:height]
    first = max(0, min(at - room // 2, len(need.hosts) - room))
    cells = known.picture.cells if known.picture is not None else {}
    for number, host_id in enumerate(need.hosts[first : first + room], first):
        cell = cells.get(host_id)
        made = _short(cell) if cell is not None else line("  ", host_id)
        lines.append(chosen(made, width) if number == at else made)
    return [fitted(one, width) for one in lines]


def _short(cell: Cell) -> Line:
    mark = span(letter_of(cell.shade, cell.level), style_of(cell.shade, cell.level))
    called = f" ({bare(cell.name)})" if cell.name != cell.id else ""
    problems = ", ".join(cell.problems)
    return line(mark, f" {cell.id}{called}  {named(cell.site)}  {cell.shade}  {problems}")


def _heavy(style: Style) -> Style:
    return style._replace(bold=True)


# --- a host ---


def _host(cell: Cell, width: int, now: float) -> Iterator[Line]:
    style = style_of(cell.shade, cell.level)
    level = LEVELS[cell.level]
    yield line(
        span(cell.id, BOLD),
        f"  {bare(cell.name)}" if cell.name != cell.id else "",
        f"  in {cell.site}  " if cell.site != NO_SITE else "  site not known  ",
        span(cell.shade, style),
        span(f"  {level}" if level else "", OF_LEVEL[cell.level]),
    )
    for title, text in _facts(cell, now):
        yield from _fact(title, text, width)
    yield ()
    if not cell.problems:
        nothing = "It names no problem." if cell.heard else "What is wrong there, nobody knows."
        yield line(nothing)
    for code in cell.problems:
        kind = KINDS.get(code)
        if kind is None:
            yield from folded(f"{code}: a problem of a later version", width, OF_LEVEL[2])
            continue
        meaning = kind.meaning.replace("`", "")
        level_of = OF_LEVEL[kind.severity.rank + 1]
        yield from folded(f"{code} ({kind.severity}): {meaning}", width, _heavy(level_of))
        yield from folded(f"  What to do: {kind.remedy.replace('`', '')}", width)
    yield ()
    yield line(span("What says more", BOLD))
    for typed, what in _commands(cell):
        yield line("  ", span(typed, COMMAND), span(f"  {what}", DIM))


def _fact(title: str, text: str, width: int) -> Iterator[Line]:
    head = f"{title:<14}"
    for number, made in enumerate(folded(text, width - len(head))):
        yield (span(head if number == 0 else " " * len(head), DIM), *made)


def _facts(cell: Cell, now: float) -> Iterator[tuple[str, str]]:
    since = f" since {moment(cell.since)}" if cell.since is not None else ""
    yield "State", f"{cell.state}{since}"
    yield "Said", _said(cell, now)
    yield "Addresses", _addresses(cell)
    yield "Version", cell.version or "not known"
    labels = " ".join(f"{key}={bare(value)}" for key, value in sorted(cell.labels.items()))
    yield "Labels", labels or "none"
    if cell.tried is None:
        yield "Verification", "none in this run of its agent"
    else:
        yield "Verification", f"reached {cell.reached} of {cell.tried} members that it tried"
    if cell.left is not None:
        calls = f"calls {counted(cell.left, 'member')} by real addresses"
        yield "Leftovers", calls if cell.left else "none: it calls nobody by a real address"
    else:
        yield "Leftovers", "not reported"
    if cell.hurts:
        yield "Enforcing", f"would shut {counted(cell.hurts, 'port')} in use"


def _said(cell: Cell, now: float) -> str:
    if cell.written is None:
        return "not reported when"
    age = now - cell.written
    # Its clock may differ from this machine's.
    return f"{lasting(age)} ago" if age >= 0 else f"its clock is {lasting(-age)} ahead"


def _addresses(cell: Cell) -> str:
    known = (("overlay", cell.overlay), ("private", cell.private), ("public", cell.public))
    return ", ".join(f"{word} {address}" for word, address in known if address) or "not known"


def _commands(cell: Cell) -> Sequence[tuple[str, str]]:
    found = [
        (command("neti ready", cell.id), "may it move, be enforced, be retired"),
        (command("neti lookup", cell.id), "who it is, with all its addresses"),
    ]
    if cell.state != "registered":
        found.append((command("neti fleet --state", cell.state), "all of which this is so"))
    found += [
        (command("neti fleet --problem", code), "who else has it") for code in cell.problems[:3]
    ]
    if cell.left:
        found.append(("neti fleet leftovers", "who calls whom by real addresses"))
    if cell.hurts:
        found.append(("neti fleet preview", "which ports enforcing would shut"))
    if cell.tried is not None and cell.reached != cell.tried:
        found.append(("neti fleet verify", "who does not reach whom"))
    return found
