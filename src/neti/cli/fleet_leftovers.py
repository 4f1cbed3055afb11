"""``neti fleet leftovers``: which hosts still call members by their real addresses."""

import time
from collections.abc import Collection
from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import click

from neti.cli.common import (
    config_option,
    fleet_told,
    refuse_unknown_site,
    settings_in_force,
)
from neti.cli.fleet_asked import for_operators, site_option, where_option
from neti.cli.fleet_fresh import say_anew
from neti.cli.output import explain, json_option, print_json, say
from neti.cli.preview_words import count, span
from neti.cli.watching import again, watch_option
from neti.fleet.selecting import Choice, nobody_like, off_by
from neti.model.settings import Settings
from neti.oneshot.seen import Seen
from neti.registry.detail import Document
from neti.words import counted, some


@click.command()
@config_option
@json_option
@click.option("--to", metavar="ID", help="Only who calls this member, by its id or address.")
@site_option
@where_option
@click.option("--fresh", is_flag=True, help="First ask every host to say anew. See neti fleet.")
@watch_option(5)
def leftovers(
    config: Path,
    as_json: bool,
    to: str | None,
    site: str | None,
    where: tuple[tuple[str, str], ...],
    fresh: bool,
    watch: float | None,
) -> None:
    """Show which hosts still call members by real addresses.

    For each member that is called so: from which hosts, on which port, how often and when last.
    Each host names the twelve members and ports that were called last from it: a new one soon,
    counts and times within ten minutes. 'neti leftovers' there says which program it is. A host
    that does not say is named. --site and --where choose the hosts that call. For operators.

    \b
    Examples:
      neti fleet leftovers --to db-1
      neti fleet leftovers --where tier=web --fresh
    """
    settings = settings_in_force(config)
    choice = Choice(site=site, where=where)
    if fresh:
        say_anew(settings)
    if watch is None:
        _show(settings, choice, to, as_json)
    else:
        again(lambda: _show(settings, choice, to, as_json), watch)


def _show(settings: Settings, choice: Choice, to: str | None, as_json: bool) -> None:
    seen = fleet_told(settings, "what hosts call", "neti leftovers")
    rows = seen.rows()
    refuse_unknown_site(choice.site, [*settings.sites, *(row["site"] for row in rows)])
    now = time.time()
    hosts = {row["id"] for row in rows if choice.may_concern(row, now)}
    old = {row["id"] for row in rows if off_by(row, now) is not None}
    if not hosts and not choice.everybody:
        explain(nobody_like(choice, rows, seen.away))
    if (said := for_operators(rows, in_part=seen.in_part)) is not None:
        explain(said)
    _print(seen, hosts, old, _id_of(seen, to) if to is not None else None, as_json)


def _print(
    seen: Seen, hosts: Collection[str], old: Collection[str], to: str | None, as_json: bool
) -> None:
    """By whom of these ``hosts`` each member is called, the latest first. ``old``: those that have
    said nothing for long."""
    told = {host_id: seen.told.get(host_id, Document()) for host_id in sorted(hosts)}
    calls = [
        {"from": host_id, **asdict(one)}
        for host_id, each in told.items()
        for one in (each.left or ())
        if to in (None, one.to)
    ]
    calls.sort(key=lambda call: (call["to"], -call["last"], call["from"]))
    silent = [host_id for host_id, each in told.items() if each.left is None or host_id in old]
    cut = {host_id: each.left_more for host_id, each in told.items() if each.left_more}
    if as_json:
        print_json({"calls": calls, "silent": silent, "cut": cut})
        return
    whom = "members" if to is None else to
    if not calls:
        who = "no host" if len(told) == len(seen.members) else "none of these hosts"
        say(f"{who} says that it calls a real address of {whom}")
    for called, its in groupby(calls, key=itemgetter("to")):
        say(f"{called} is called by its real address")
        say(*(_from(call, time.time()) for call in its))
    if cut:
        more = some([f"{host_id} ({number} more)" for host_id, number in cut.items()])
        say(f"more than they have room to say is called from: {more}", "→ 'neti leftovers' there")
    if silent:
        say(f"{counted(len(silent), 'host does', 'hosts do')} not say: {some(silent)}")


def _id_of(seen: Seen, to: str) -> str:
    """Of a member by its id or one of its addresses; an id that was one counts too."""
    return seen.id_of(to, {one.to for told in seen.told.values() for one in told.left or ()})


def _from(call: dict[str, Any], now: float) -> str:
    ago = span(max(0.0, now - call["last"]))
    calls = count(call["calls"], "connection")
    return f"  from {call['from']}, {call['port']}: {calls}, last {ago} ago"
