"""``neti aws report``: EC2's running instances against the registry."""

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from neti.aws import instances
from neti.aws import report as reports
from neti.aws.access import open_places
from neti.aws.report import Row, Total
from neti.cli.aws.common import Progress, place_options, waiting
from neti.cli.common import (
    config_option,
    json_option,
    refuse_no_version,
    refuse_unknown_site,
    registry_of,
)
from neti.cli.fleet import older
from neti.cli.output import hand_over, print_json, say
from neti.config import load
from neti.model import Member
from neti.oneshot import registered
from neti.text import csv_cell, printable

_COLUMNS: Final = ("name", "id", "public", "private", "overlay", "version", "site", "stage", "why")


@click.command()
@config_option
@place_options
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option("--not-in-neti", is_flag=True, help="Only instances that are not in Neti.")
@click.option("--in-neti", is_flag=True, help="Only instances that are in Neti.")
@click.option(
    "--below-version",
    "--version-below",
    "below_version",
    metavar="VERSION",
    help="Only agents older than this, or of unknown version.",
)
@click.option("--site", help="Only this site, in totals too; '?' for instances without a site.")
@click.option("--names-only", is_flag=True, help="Print names, one per line.")
@click.option("--overlays-only", is_flag=True, help="Print overlay addresses, one per line.")
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Names that need no Neti, such as 'neti-z*': listed but not counted.",
)
@click.option(
    "--fail-below",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="Exit code 1 if in any site (or that of --site) a smaller share of instances is in Neti.",
)
def report(
    config: Path,
    profile: tuple[str, ...],
    role_arn: tuple[str, ...],
    region: tuple[str, ...],
    as_json: bool,
    as_csv: bool,
    not_in_neti: bool,
    in_neti: bool,
    below_version: str | None,
    site: str | None,
    names_only: bool,
    overlays_only: bool,
    exclude: tuple[str, ...],
    fail_below: float | None,
) -> None:
    """Show which instances are in Neti, and why the others are not.

    An instance is in Neti when its peers in every site reach it at its overlay address. An account
    or region that cannot be read is an error, because half a report would look like a whole one.

    \b
    Examples:
      neti aws report --profile old --profile new --region us-east-1
      neti aws report --not-in-neti --names-only
      neti aws report --exclude 'neti-z*' --fail-below 100 && echo ready
    """
    _refuse_both({"--in-neti": in_neti, "--not-in-neti": not_in_neti})
    _refuse_both(
        {
            "--json": as_json,
            "--csv": as_csv,
            "--names-only": names_only,
            "--overlays-only": overlays_only,
        }
    )
    refuse_no_version("--below-version", below_version)
    settings = load(config)
    refuse_unknown_site(site, [*settings.sites, reports.UNKNOWN_SITE])
    places = open_places(profiles=profile, roles=role_arn, regions=region, waiting=waiting)
    progress = Progress("instances read")
    try:
        running = instances.read(places, states=["running"], progress=progress)
    finally:
        progress.end()
    with registry_of(settings) as registry:
        told = registered.read(settings, registry)
    every = reports.rows(running, told, settings, exclude=exclude)
    chosen = [
        row
        for row in every
        if (site is None or row.site == site)
        and not (not_in_neti and (row.in_neti or row.excluded))
        and not (in_neti and not row.in_neti)
        and (below_version is None or _is_older(row, below_version))
    ]
    totals = reports.totals(every, site)
    short = reports.below(every, fail_below, site) if fail_below is not None else []
    strangers = reports.strangers(running, told, settings)
    elsewhere = [member for member in strangers if site is None or member.site == site]
    if names_only or overlays_only:
        for row in chosen:
            text = _in_a_pipe(row) if names_only else row.overlay
            if text:
                say(text)
    elif as_json:
        print_json(_document(chosen, totals, elsewhere))
    elif as_csv:
        _print_csv(chosen)
    else:
        _print_table(chosen, totals, elsewhere)
    for total in short:
        say(f"neti: {_total(total)}, but --fail-below wants {fail_below:g} %", err=True)
    if short:
        sys.exit(1)


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
        "instances": [reports.document(row) for row in chosen],
        "totals": {
            total.site: {
                "instances": total.instances,
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


def _in_a_pipe(row: Row) -> str:
    """The name, or the id if the name could be read as an option or a second line: anybody can
    choose a name."""
    return row.id if row.name.startswith("-") or printable(row.name) != row.name else row.name


def _print_csv(chosen: Sequence[Row]) -> None:
    text = io.StringIO()
    columns = ("name", "id", "account", "region", *_COLUMNS[2:8], "in_neti", "excluded", "why")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: csv_cell(value) for key, value in reports.document(row).items()} for row in chosen
    )
    hand_over(text.getvalue())


def _print_table(
    chosen: Sequence[Row], totals: Sequence[Total], elsewhere: Sequence[Member]
) -> None:
    documents = [reports.document(row) for row in chosen]
    shown = [[printable(d[column] or "-") for column in _COLUMNS] for d in documents]
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *shown, strict=True)]
    for cells in ([column.upper() for column in _COLUMNS], *shown):
        say("  ".join(f"{c:<{w}}" for c, w in zip(cells, widths, strict=True)).rstrip())
    for total in totals:
        say(_total(total))
    if elsewhere:
        some = ", ".join(member.id for member in elsewhere[:10])
        more = f" and {len(elsewhere) - 10} more" if len(elsewhere) > 10 else ""
        say(f"{len(elsewhere)} members are not among these instances: {some}{more}")


def _total(total: Total) -> str:
    percent = "no instances to count" if total.percent is None else f"{_floor(total.percent):.1f} %"
    excluded = f", {total.excluded} excluded" if total.excluded else ""
    return f"{total.site}: {total.in_neti} of {total.instances} in Neti ({percent}){excluded}"


def _floor(percent: float) -> float:
    """Rounds down: 4,999 of 5,000 is not 100 %."""
    return int(percent * 10) / 10
