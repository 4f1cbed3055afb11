"""``neti fleet``: every member, read from the registry itself, so that it works on any machine."""

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any, Final

import click

from neti.cli.common import (
    config_option,
    json_option,
    refuse_no_version,
    refuse_unknown_site,
    registry_of,
)
from neti.cli.output import hand_over, print_json, say
from neti.config import load
from neti.errors import EntryError
from neti.model import Member
from neti.registry import Detail, entry
from neti.text import printable
from neti.words import counted

_COLUMNS: Final = (
    "name",
    "id",
    "site",
    "private",
    "public",
    "overlay",
    "version",
    "stage",
)
Row = dict[str, Any]


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
@click.option("--site", help="Only members of this site.")
@click.option(
    "--below-version",
    "--version-below",
    "version_below",
    metavar="VERSION",
    help="Only agents older than this, or of no known version.",
)
@click.option("--stage", type=click.Choice(["shadow", "trial", "enforced"]), help="Only these.")
@click.option("--used", is_flag=True, help="Count overlay addresses: leased, free, all.")
def fleet(
    config: Path,
    as_json: bool,
    style: str,
    site: str | None,
    version_below: str | None,
    stage: str | None,
    used: bool,
) -> None:
    """Every member of the fleet, as the registry has them.

    \b
    Examples:
      neti fleet
      neti fleet --site vpc --format csv
      neti fleet --format hosts >> /etc/hosts
      neti fleet --used
    """
    settings = load(config)
    refuse_no_version("--below-version", version_below)
    with registry_of(settings) as registry:
        if used:
            total = settings.overlay_subnet.num_addresses - 2
            leased = len(registry.leases())
            _print_used({"leased": leased, "free": total - leased, "addresses": total}, as_json)
            return
        rows = rows_of(registry.names(), registry.details())
    refuse_unknown_site(site, [*settings.sites, *(row["site"] for row in rows)])
    chosen = [
        row
        for row in rows
        if (site is None or row["site"] == site)
        and (stage is None or row["stage"] == stage)
        and (version_below is None or older(row["version"], version_below))
    ]
    _print(chosen, "json" if as_json else style)


def rows_of(names: frozenset[str], details: list[Detail]) -> list[Row]:
    """One row per well-formed entry, sorted by site and name."""
    told = {detail.host_id: told_of(detail.document) for detail in details}
    rows = []
    for name in names:
        try:
            member = entry.parse(name)
        except EntryError:
            continue  # neti status names these
        if isinstance(member, Member):
            rows.append(_row(member, told.get(member.id, {})))
    return sorted(rows, key=lambda row: (row["site"], row["name"], row["id"]))


def _row(member: Member, told: dict[str, Any]) -> Row:
    return {
        "name": str(told.get("name") or member.id),
        "id": member.id,
        "site": member.site,
        "private": str(member.private),
        "public": str(member.public) if member.public else None,
        "overlay": str(member.overlay),
        "version": str(told.get("version") or "?"),
        "stage": str(told.get("stage") or "?"),
        "state": "registered",
    }


def told_of(document: bytes) -> dict[str, Any]:
    """What a host says of itself. Untrusted: kept printable, so that no terminal obeys it."""
    try:
        told = json.loads(document)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(told, dict):
        return {}
    return {
        key: printable(value, 64)
        for key, value in told.items()
        if key in ("name", "version", "stage")
    }


def _print(rows: list[Row], style: str) -> None:
    match style:
        case "json":
            print_json({"members": rows, "total": len(rows), "sites": _sites(rows)})
        case "csv":
            text = io.StringIO()
            writer = csv.DictWriter(text, _COLUMNS, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            hand_over(text.getvalue())
        case "hosts":
            for row in rows:
                say(f"{row['overlay']}\t{row['name']}")
        case "ansible":
            print_json(_inventory(rows))
        case "prometheus":
            print_json(
                [
                    {
                        "targets": [row["overlay"]],
                        "labels": {"host": row["name"], "id": row["id"], "site": row["site"]},
                    }
                    for row in rows
                ]
            )
        case _:
            _print_table(rows)


def _inventory(rows: list[Row]) -> dict[str, Any]:
    return {
        "_meta": {
            "hostvars": {
                row["name"]: {
                    "ansible_host": row["overlay"],
                    **{f"neti_{key}": row[key] for key in ("id", "private", "public", "site")},
                }
                for row in rows
            }
        },
        "all": {"children": sorted({row["site"] for row in rows})},
        **{
            site: {"hosts": [row["name"] for row in rows if row["site"] == site]}
            for site in sorted({row["site"] for row in rows})
        },
    }


def _print_table(rows: list[Row]) -> None:
    shown = [[str(row[column] or "-") for column in _COLUMNS] for row in rows]
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *shown, strict=True)]
    for cells in ([column.upper() for column in _COLUMNS], *shown):
        say("  ".join(f"{c:<{w}}" for c, w in zip(cells, widths, strict=True)).rstrip())
    sites = ", ".join(f"{count} in {site}" for site, count in sorted(_sites(rows).items()))
    say(counted(len(rows), "member") + (f": {sites}" if sites else ""))


def _print_used(counts: dict[str, int], as_json: bool) -> None:
    if as_json:
        print_json(counts)
    else:
        say(", ".join(f"{count} {word}" for word, count in counts.items()))


def _sites(rows: list[Row]) -> dict[str, int]:
    return dict(Counter(row["site"] for row in rows))


def older(version: str, than: str) -> bool:
    return _numbers(version) < _numbers(than)


def _numbers(version: str) -> list[int]:
    return [int(part) if part.isascii() and part.isdigit() else -1 for part in version.split(".")]
