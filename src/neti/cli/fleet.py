"""``neti fleet``: every member, read from the registry itself, so that it works on any machine."""

import csv
import io
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Final

import click

from neti.cli.common import (
    config_option,
    fleet_seen,
    json_option,
    refuse_no_version,
    refuse_unknown_site,
    registry_of,
    settings_in_force,
)
from neti.cli.naming import name_option, note_contests, note_withheld, pinned_names
from neti.cli.output import hand_over, print_json, say
from neti.fleet import attendance, listing
from neti.fleet.attendance import Required
from neti.fleet.listing import Row
from neti.model.settings import Settings
from neti.oneshot.registered import Seen
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


@click.command()
@config_option
@json_option
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "json", "csv", "hosts", "ansible", "prometheus"]),
    default="table",
    show_default=True,
    help="hosts: /etc/hosts lines; ansible: an inventory; prometheus: file_sd.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="With --format prometheus: the port of the targets. [default: that of metrics_listen]",
)
@click.option("--site", help="Only members of this site.")
@click.option(
    "--below-version",
    "--version-below",
    "version_below",
    metavar="VERSION",
    help="Only agents older than this, or of no known version.",
)
@click.option(
    "--stage",
    type=click.Choice(["down", "shadow", "trial", "enforced"]),
    help="Only members in this stage.",
)
@click.option(
    "--require",
    "required",
    type=click.Choice(attendance.REQUIRED),
    multiple=True,
    help="List the hosts that are not, lost ones too; exit code 1 if there are any. Repeatable.",
)
@click.option(
    "--except",
    "excepted",
    multiple=True,
    metavar="ID",
    help="With --require: leave out this host. Repeatable.",
)
@name_option
@click.option(
    "--registered-only",
    is_flag=True,
    help="With csv, hosts, ansible, prometheus: leave out hosts that are lost or held.",
)
@click.option("--skipped", is_flag=True, help="Show the entries that no agent believes, and why.")
@click.option("--used", is_flag=True, help="Count overlay addresses: leased, free, all.")
def fleet(
    config: Path,
    as_json: bool,
    style: str,
    port: int | None,
    site: str | None,
    version_below: str | None,
    stage: str | None,
    required: tuple[Required, ...],
    excepted: tuple[str, ...],
    used: bool,
    skipped: bool,
    registered_only: bool,
    names: tuple[str, ...],
) -> None:
    """List the members of the fleet, by the same rules as the agents.

    Entries that no agent believes are not listed; they are counted on stderr. Hosts that hold a
    lease but are not registered come last: lost or held, and since when, if this host's agent knows
    it. If the registry does not answer, this host's agent is asked instead.

    Formats for programs contain hosts that are lost or held, too, because those are the ones to
    alarm about; they are called by their ids, and only this host's agent can tell who they are.

    For scripts there is --require: exit code 0 only if there are members and all of them meet it.

    \b
    Examples:
      neti fleet
      neti fleet --site vpc --format csv
      neti fleet --require enforced && echo all are
      neti fleet --skipped
      neti fleet --used
    """
    settings = settings_in_force(config)
    if port is not None and (style != "prometheus" or as_json):
        raise click.UsageError("--port: expected beside --format prometheus")
    refuse_no_version("--below-version", version_below)
    pinned = pinned_names(names)
    if used:
        with registry_of(settings) as registry:
            leased = len(registry.leases())
        total = settings.overlay_subnet.num_addresses - 2
        _print_used({"leased": leased, "free": total - leased, "addresses": total}, as_json)
        return
    seen = fleet_seen(settings)
    if skipped:
        _print_skipped(seen, as_json)
        return
    words = seen.words(pinned)
    rows = seen.rows(words)
    refuse_unknown_site(site, [*settings.sites, *(row["site"] for row in rows)])
    away = [row for row in seen.away if site is None or row["site"] in (site, None)]
    if required or excepted:
        if not required:
            raise click.UsageError("--except works only with --require")
        _gate(
            [row for row in rows if site is None or row["site"] == site],
            away,
            required,
            excepted,
            attendance.unmet_by_the_fleet(rows, seen.strict, required),
            as_json=as_json,
        )
        return
    chosen = [
        row
        for row in rows
        if (site is None or row["site"] == site)
        and (stage is None or row["stage"] == stage)
        and (version_below is None or older(row["version"], version_below))
    ]
    note_contests(rows, words)
    if style == "hosts" and not as_json:
        note_withheld(chosen, words)
    filtered = stage is not None or version_below is not None
    if registered_only and (as_json or style in ("table", "json")):
        raise click.UsageError(
            "--registered-only: expected beside --format csv, hosts, ansible or prometheus"
        )
    lost = [] if filtered or registered_only else listing.surely_lost(away)
    if style == "prometheus" and not as_json:
        print_json(listing.targets([*chosen, *lost], port or _metrics_port(settings)))
    else:
        shown_away = [] if filtered else away if as_json or style in ("table", "json") else lost
        _print(chosen, "json" if as_json else style, seen.skipped_count, shown_away, pinned)
    missing = None if filtered else attendance.summary(len(chosen), away)
    drained = sorted(seen.drained & {row["id"] for row in chosen})
    unused = f"gateways that are drained: {some(drained)}" if drained else None
    for said in (missing, attendance.other_ports(rows), attendance.other_gateways(rows), unused):
        if said is not None:
            say(f"neti: {said}", err=True)
    if seen.skipped_count:
        entries = counted(seen.skipped_count, "registry entry is", "registry entries are")
        say(f"neti: {entries} not believed: 'neti fleet --skipped' says why", err=True)


def _gate(
    rows: list[Row],
    away: list[Row],
    required: tuple[Required, ...],
    excepted: tuple[str, ...],
    whole: list[str],
    *,
    as_json: bool,
) -> None:
    """Exits with 1 unless everybody meets all of it. ``whole``: what is missing of no one host."""
    everybody = {row["id"] for row in (*rows, *away)}
    unknown = set(excepted) - everybody
    if unknown:
        raise click.UsageError(f"--except: no host that has been here is {some(unknown)}")
    total = len(everybody - set(excepted))
    found = attendance.unmet(rows, away, required)
    found = [(host_id, why) for host_id, why in found if host_id not in excepted]
    if as_json:
        unmet = [{"id": host_id, "why": why} for host_id, why in found]
        told = {"required": list(required), "known": total, "unmet": unmet, "fleet": whole}
        print_json(told)
    else:
        say(*(f"{host_id}  {why}" for host_id, why in found), *whole)
        said = attendance.verdict(total, len(found), required, sure=not whole)
        say(*said.splitlines())
    if found or whole or not total:
        sys.exit(1)


def _print_skipped(seen: Seen, as_json: bool) -> None:
    named = sorted(seen.skipped.items())
    if as_json:
        entries = [{"entry": name, "why": why} for name, why in named]
        print_json({"skipped": entries, "count": seen.skipped_count})
        return
    for name, why in named:
        say(f"{printable(name)}  {printable(why)}")
    word = counted(seen.skipped_count, "entry is", "entries are")
    say(f"{word} not believed{and_more(seen.skipped_count - len(named))}")


def _print(
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
            writer.writerow(_COLUMNS)
            writer.writerows(
                listing.csv_row({**row, "stage": row["stage"] or row["state"]}, _COLUMNS)
                for row in (*rows, *away)
            )
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


def _metrics_port(settings: Settings) -> int | None:
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
    idle = [row for row in away if row["state"] in ("gone", "missing")]
    cut = {row["id"] for row in idle[_MOST_IDLE:]}
    shown_rows = [*rows, *(row for row in away if row["id"] not in cut)]
    here = [{**row, "stage": row["stage"] or row["state"]} for row in shown_rows]
    columns = _COLUMNS if _encrypts(rows) else _COLUMNS[:-1]
    # Where nobody has any, the column is only in the way.
    if any(row.get("member_ports") not in (None, "?", "none") for row in rows):
        columns = (*columns, "member_ports")
    if any(row.get("openings") for row in rows):
        columns = (*columns, "openings")
    if any(row["gateway"] for row in rows):
        columns = (*columns, "gateway")
    shown = [[printable(row.get(column) or "-") for column in columns] for row in here]
    widths = [max(map(len, column)) for column in zip(columns, *shown, strict=True)]
    for cells in ([column.upper() for column in columns], *shown):
        say("  ".join(f"{c:<{w}}" for c, w in zip(cells, widths, strict=True)).rstrip())
    if cut:
        say(
            f"{counted(len(cut), 'more lease')} of hosts that are not registered: "
            "'neti lease list' has them all"
        )
    sites = ", ".join(f"{count} in {site}" for site, count in sorted(listing.by_site(rows).items()))
    say(counted(len(rows), "member") + (f": {sites}" if sites else ""))


def _encrypts(rows: list[Row]) -> bool:
    """Where nobody does, a column that says so is only in the way."""
    return any(row["encryption"] not in (None, "?", "off") for row in rows)


def _print_used(counts: dict[str, int], as_json: bool) -> None:
    if as_json:
        print_json(counts)
    else:
        say(", ".join(f"{count} {word}" for word, count in counts.items()))


def older(version: str, than: str) -> bool:
    return _numbers(version) < _numbers(than)


def _numbers(version: str) -> list[int]:
    return [int(part) if part.isascii() and part.isdigit() else -1 for part in version.split(".")]
