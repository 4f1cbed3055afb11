"""What ``neti report`` and ``neti aws report`` have in common: their options and their output."""

import csv
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import click

from neti.cli.common import refuse_no_version, refuse_unknown_site, registry_of
from neti.cli.output import hand_over, print_json, say
from neti.fleet.selecting import older
from neti.model import Member
from neti.model.addresses import is_address
from neti.model.machine import Machine
from neti.model.settings import Settings
from neti.oneshot import coverage, registered
from neti.oneshot.coverage import Row, Total
from neti.text import csv_cell, plain_name, printable

_COLUMNS: Final = ("name", "id", "public", "private", "overlay", "version", "site", "stage", "why")
_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS: Final = (
    click.option("--csv", "as_csv", is_flag=True, help="Print CSV."),
    click.option("--not-in-neti", is_flag=True, help="Only machines that are not in Neti."),
    click.option("--in-neti", is_flag=True, help="Only machines that are in Neti."),
    click.option(
        "--below-version",
        "--version-below",
        "below_version",
        metavar="VERSION",
        help="Only agents older than this, or of unknown version.",
    ),
    click.option("--site", help="Only this site, in totals too; '?' for machines without a site."),
    click.option(
        "--tag",
        multiple=True,
        metavar="KEY[=VALUE]",
        help="Only machines with this tag, in totals too; all of them, if there are several.",
    ),
    click.option("--names-only", is_flag=True, help="Print names, one per line."),
    click.option("--ids-only", is_flag=True, help="Print ids, one per line."),
    click.option("--overlays-only", is_flag=True, help="Print overlay addresses, one per line."),
    click.option(
        "--exclude",
        multiple=True,
        metavar="PATTERN",
        help="Names that need no Neti, such as 'neti-z*': listed but not counted.",
    ),
    click.option(
        "--fail-below",
        type=click.FloatRange(0, 100),
        metavar="PERCENT",
        help="Exit code 1 if in any site (or that of --site) a smaller share is in Neti.",
    ),
)


def coverage_options(command: _Command) -> _Command:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The options, by their names."""

    as_json: bool
    as_csv: bool
    not_in_neti: bool
    in_neti: bool
    below_version: str | None
    site: str | None
    tag: tuple[str, ...]
    names_only: bool
    ids_only: bool
    overlays_only: bool
    exclude: tuple[str, ...]
    fail_below: float | None

    def check(self, settings: Settings) -> None:
        """Refuses what does not fit together, before anybody is asked."""
        _refuse_both({"--in-neti": self.in_neti, "--not-in-neti": self.not_in_neti})
        _refuse_both(
            {
                "--json": self.as_json,
                "--csv": self.as_csv,
                "--names-only": self.names_only,
                "--ids-only": self.ids_only,
                "--overlays-only": self.overlays_only,
            }
        )
        refuse_no_version("--below-version", self.below_version)
        refuse_unknown_site(self.site, [*settings.sites, coverage.UNKNOWN_SITE])

    def has_tags(self, machine: Machine) -> bool:
        pairs = (one.partition("=") for one in self.tag)
        return all(
            key in machine.tags and (not equals or machine.tags[key] == value)
            for key, equals, value in pairs
        )


def show(
    wanted: Wanted,
    settings: Settings,
    machines: Sequence[Machine],
    *,
    within: Callable[[Machine], bool] = lambda _: True,
) -> None:
    """``within``: whether the report is about a machine. Ends with exit code 1 where
    ``--fail-below`` says so."""
    with registry_of(settings) as registry:
        told = registered.read(settings, registry)
    counted = [one for one in machines if wanted.has_tags(one) and within(one)]
    every = coverage.rows(counted, told, settings, exclude=wanted.exclude)
    chosen = [row for row in every if _is_chosen(row, wanted)]
    totals = coverage.totals(every, wanted.site)
    # Of all machines: who is left out here is no stranger.
    strangers = coverage.strangers(machines, told, settings)
    elsewhere = [one for one in strangers if wanted.site is None or one.site == wanted.site]
    if wanted.names_only or wanted.ids_only or wanted.overlays_only:
        _print_lines(chosen, wanted)
    elif wanted.as_json:
        print_json(_document(chosen, totals, elsewhere))
    elif wanted.as_csv:
        _print_csv(chosen)
    else:
        _print_table(chosen, totals, elsewhere)
    least = wanted.fail_below
    short = coverage.below(every, least, wanted.site) if least is not None else []
    for total in short:
        say(f"neti: {_total(total)}, but --fail-below wants {least:g} %", err=True)
    if short:
        sys.exit(1)


def _is_chosen(row: Row, wanted: Wanted) -> bool:
    return (
        (wanted.site is None or row.site == wanted.site)
        and not (wanted.not_in_neti and (row.in_neti or row.excluded))
        and not (wanted.in_neti and not row.in_neti)
        and (wanted.below_version is None or _is_older(row, wanted.below_version))
    )


def _print_lines(chosen: Sequence[Row], wanted: Wanted) -> None:
    if wanted.overlays_only:
        lines = [row.overlay for row in chosen if row.overlay]
    else:
        found = [
            _in_a_pipe(*((row.id,) if wanted.ids_only else (row.name, row.id))) for row in chosen
        ]
        lines = [name for name in found if name is not None]
        if len(lines) < len(found):
            unfit = f"{len(found) - len(lines)} of {len(found)} machines"
            say(
                f"neti: {unfit} have no name or id that is safe in a pipe; --json has all", err=True
            )
    for line in lines:
        say(line)


def _refuse_both(options: Mapping[str, bool]) -> None:
    """Refuses two options of which one would be ignored."""
    given = [option for option, is_given in options.items() if is_given]
    if len(given) > 1:
        raise click.UsageError(f"{given[0]} and {given[1]} cannot be used together: give one")


def _is_older(row: Row, than: str) -> bool:
    """An agent that does not report its version counts as older."""
    return row.registered and older(row.version or "?", than)


def _document(
    chosen: Sequence[Row], totals: Sequence[Total], elsewhere: Sequence[Member]
) -> dict[str, object]:
    return {
        "instances": [coverage.document(row) for row in chosen],
        "totals": {
            total.site: {
                "instances": total.machines,
                "in_neti": total.in_neti,
                "excluded": total.excluded,
                "percent": None if total.percent is None else round(total.percent, 2),
            }
            for total in totals
        },
        "registered_elsewhere": [
            {"id": m.id, "site": m.site, "overlay": str(m.overlay)} for m in elsewhere
        ],
    }


def _in_a_pipe(*names: str) -> str | None:
    """The first that cannot be read as an option, a second word or a second line; None: none of
    them. Anybody can choose a name, and a file also the id."""
    return next((name for name in names if plain_name(name) or is_address(name)), None)


def _print_csv(chosen: Sequence[Row]) -> None:
    text = io.StringIO()
    account = ("account", "account_number", "region")
    columns = ("name", "id", *account, *_COLUMNS[2:8], "in_neti", "excluded", "why")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: csv_cell(value) for key, value in coverage.document(row).items()} for row in chosen
    )
    hand_over(text.getvalue())


def _print_table(
    chosen: Sequence[Row], totals: Sequence[Total], elsewhere: Sequence[Member]
) -> None:
    documents = [coverage.document(row) for row in chosen]
    shown = [[printable(d[column] or "-") for column in _COLUMNS] for d in documents]
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *shown, strict=True)]
    for cells in ([column.upper() for column in _COLUMNS], *shown):
        say("  ".join(f"{c:<{w}}" for c, w in zip(cells, widths, strict=True)).rstrip())
    for total in totals:
        say(_total(total))
    if elsewhere:
        some = ", ".join(member.id for member in elsewhere[:10])
        more = f" and {len(elsewhere) - 10} more" if len(elsewhere) > 10 else ""
        say(f"{len(elsewhere)} members are not among these machines: {some}{more}")


def _total(total: Total) -> str:
    percent = "no machines to count" if total.percent is None else f"{_floor(total.percent):.1f} %"
    excluded = f", {total.excluded} excluded" if total.excluded else ""
    return f"{total.site}: {total.in_neti} of {total.machines} in Neti ({percent}){excluded}"


def _floor(percent: float) -> float:
    """Rounds down: 4,999 of 5,000 is not 100 %."""
    return int(percent * 10) / 10
