"""How ``neti fleet`` prints what it found: a table, or a format for programs."""

import csv
import io
import sys
from collections.abc import Collection
from typing import Final

from neti.cli import looks
from neti.cli.looks import Tinted, Tone
from neti.cli.output import hand_over, print_json, say
from neti.fleet import listing
from neti.fleet.listing import Row
from neti.model.settings import Settings
from neti.oneshot.seen import Seen
from neti.text import printable
from neti.words import and_more, counted, some

_MOST_IDLE: Final = 50
_COLUMNS: Final = (
    "name",
    "id",
    "site",
    "private",
    "public",
    "overlay",
    "version",
    "stage",
    "encryption",
)
# What a narrow window does without, the first first.
_DISPENSABLE: Final = (
    "version",
    "public",
    "private",
    "labels",
    "openings",
    "gateway",
    "encryption",
    "member_ports",
    "name",
)
_BETWEEN: Final = "  "
_CSV: Final = (*_COLUMNS, "labels", "problems")


def print_skipped(seen: Seen, as_json: bool) -> None:
    named = sorted(seen.skipped.items())
    if as_json:
        entries = [{"entry": name, "why": why} for name, why in named]
        print_json({"skipped": entries, "count": seen.skipped_count})
        return
    for name, why in named:
        say(f"{printable(name)}  {printable(why)}")
    word = counted(seen.skipped_count, "entry is", "entries are")
    say(f"{word} not believed{and_more(seen.skipped_count - len(named))}")


def print_fleet(
    rows: list[Row], style: str, skipped: int, away: list[Row], pinned: Collection[str]
) -> None:
    match style:
        case "json":
            sites = listing.by_site(rows)
            document = {
                "members": rows,
                "total": len(rows),
                "sites": sites,
                "skipped": skipped,
                "away": away,
            }
            print_json(document)
        case "csv":
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(_CSV)
            writer.writerows(listing.csv_row(row, _CSV) for row in (*rows, *away))
            hand_over(text.getvalue())
        case "hosts":
            lines, left_out = listing.hosts_lines([*rows, *away], allowed=pinned)
            hand_over("".join(f"{line}\n" for line in lines))
            note_left_out(left_out, "a hosts file")
        case "ansible":
            document, left_out = listing.inventory([*rows, *away])
            print_json(document)
            note_left_out(left_out, "an inventory")
        case _:
            _print_table(rows, away)


def metrics_port(settings: Settings) -> int | None:
    """That of this host's agent: the fleet's, where all have one configuration."""
    listen = settings.metrics_listen
    return int(listen.rpartition(":")[2]) if listen is not None else None


def note_left_out(ids: list[str], where: str) -> None:
    if ids:
        them = counted(len(ids), "member is", "members are")
        say(
            f"neti: {them} left out, because {where} cannot hold their names: {some(ids)}",
            err=True,
        )


def _print_table(rows: list[Row], away: list[Row]) -> None:
    """Who is away has no stage: the last column says what became of it instead."""
    # Anybody with a certificate can take leases by the thousand.
    idle = [row for row in away if row["state"] in ("gone", "missing", "never seen")]
    cut = {row["id"] for row in idle[_MOST_IDLE:]}
    shown_rows = [*rows, *(row for row in away if row["id"] not in cut)]
    columns = _COLUMNS if _encrypts(rows) else _COLUMNS[:-1]
    # Where nobody has any, the column is only in the way.
    if any(row.get("member_ports") not in (None, "?", "none") for row in rows):
        columns = (*columns, "member_ports")
    if any(row.get("openings") for row in rows):
        columns = (*columns, "openings")
    if any(row["gateway"] for row in rows):
        columns = (*columns, "gateway")
    for column in ("labels", "problems"):
        if any(row.get(column) for row in rows):
            columns = (*columns, column)
    cells = {
        c: [c.upper(), *(printable(listing.text_of(row, c) or "-") for row in shown_rows)]
        for c in columns
    }
    left_out = _too_many(cells, looks.columns(sys.stdout))
    widths = {c: max(map(len, cells[c])) for c in cells if c not in left_out}
    tones: list[Tone | None] = ["heading", *map(_tone, shown_rows)]
    for number, tone in enumerate(tones):
        line = _BETWEEN.join(f"{cells[c][number]:<{width}}" for c, width in widths.items())
        say(Tinted(line.rstrip(), tone))
    if left_out:
        say(f"no room for: {', '.join(left_out)} (a wider window has it, and '--format csv')")
    if cut:
        say(
            f"{counted(len(cut), 'more lease')} of hosts that are not registered: "
            "'neti lease list' has them all"
        )
    sites = ", ".join(f"{count} in {site}" for site, count in sorted(listing.by_site(rows).items()))
    say(counted(len(rows), "member") + (f": {sites}" if sites else ""))


def _too_many(cells: dict[str, list[str]], room: int | None) -> list[str]:
    """The columns that do without, in a window of so many characters."""
    width = sum(max(map(len, texts)) + len(_BETWEEN) for texts in cells.values()) - len(_BETWEEN)
    left_out: list[str] = []
    for column in _DISPENSABLE:
        if room is None or width <= room:
            break
        if column in cells:
            width -= max(map(len, cells[column])) + len(_BETWEEN)
            left_out.append(column)
    return left_out


def _tone(row: Row) -> Tone | None:
    return "doubtful" if row.get("problems") or row.get("state") in ("lost", "held") else None


def _encrypts(rows: list[Row]) -> bool:
    """Where nobody does, a column that says so is only in the way."""
    return any(row["encryption"] not in (None, "?", "off") for row in rows)


def print_used(counts: dict[str, int], as_json: bool) -> None:
    if as_json:
        print_json(counts)
    else:
        say(", ".join(f"{count} {word}" for word, count in counts.items()))
