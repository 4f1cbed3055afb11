"""``neti fleet``: every member, read from the registry itself, so that it works on any machine."""

import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import click

from neti.cli.common import (
    ONLY_AS_THE_AGENT_KNEW,
    config_option,
    fleet_seen,
    json_option,
    nothing_collected,
    refuse_no_version,
    refuse_unknown_site,
    registry_of,
    settings_in_force,
)
from neti.cli.fleet_asked import (
    Requirements,
    for_operators,
    key_asked,
    not_their_own,
    of_the_choice,
    refuse_before,
    refuse_what_is_not_heeded,
    sentences,
    site_option,
    totals_lines,
    where_option,
)
from neti.cli.fleet_fresh import say_anew
from neti.cli.fleet_leftovers import leftovers
from neti.cli.fleet_preview import preview
from neti.cli.fleet_shown import metrics_port, print_fleet, print_skipped, print_used
from neti.cli.fleet_verify import verify
from neti.cli.menu import Group
from neti.cli.naming import name_option, note_contests, note_withheld, pinned_names
from neti.cli.output import explain, print_json, say
from neti.cli.watching import again, refuse_where_nobody_watches, watch_option
from neti.errors import NetiError
from neti.fleet import attendance, listing
from neti.fleet.attendance import Required
from neti.fleet.listing import Row
from neti.fleet.selecting import Choice, nobody_like, totals
from neti.model.settings import Settings
from neti.oneshot.seen import Seen
from neti.words import counted, some


@click.group(cls=Group, invoke_without_command=True, subcommand_metavar="[COMMAND]")
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
@site_option
@where_option
@click.option(
    "--below-version",
    "--version-below",
    "version_below",
    metavar="VERSION",
    help="Only agents older than this, or of no known version.",
)
@click.option(
    "--stage",
    type=click.Choice(["down", "relaxed", "shadow", "trial", "enforced"]),
    help="Only members in this stage.",
)
@click.option(
    "--state",
    type=click.Choice(["registered", *get_args(attendance.State)]),
    help="Only hosts of which this is the case.",
)
@click.option("--problem", metavar="CODE", help="Only members with this problem.")
@click.option("--version", metavar="VERSION", help="Only agents of this very version.")
@click.option(
    "--by",
    metavar="LABEL",
    callback=key_asked,
    help="Totals for each value of a label; or by site, stage, state or version.",
)
@click.option(
    "--require",
    "required",
    type=Requirements(),
    multiple=True,
    help="List the hosts that are not, lost ones too; exit code 1 if there are any. Of all hosts, "
    f"or of those by --site and --where. WHAT: {', '.join(attendance.REQUIRED)}.",
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
@click.option(
    "--fresh",
    is_flag=True,
    help="First ask every host to say anew how it is, and wait: 30 s for 100 hosts, ten minutes "
    "for thousands. For operators.",
)
@watch_option(5)
@click.pass_context
def fleet(
    context: click.Context,
    config: Path,
    as_json: bool,
    style: str,
    port: int | None,
    site: str | None,
    where: tuple[tuple[str, str], ...],
    version_below: str | None,
    stage: str | None,
    state: str | None,
    problem: str | None,
    version: str | None,
    by: str | None,
    required: tuple[tuple[Required, ...], ...],
    excepted: tuple[str, ...],
    used: bool,
    skipped: bool,
    registered_only: bool,
    names: tuple[str, ...],
    fresh: bool,
    watch: float | None,
) -> None:
    """List the members of the fleet, by the same rules as the agents.

    Entries that no agent believes are not listed; they are counted on stderr. Hosts that hold a
    lease but are not registered come last: lost or held, and since when, if this host's agent knows
    it. If the registry does not answer, this host's agent is asked instead: exit code 3.

    Formats for programs contain hosts that are lost or held, too, because those are the ones to
    alarm about; they are called by their ids, and only this host's agent can tell who they are.

    For scripts there is --require: exit code 0 only if there are members and all of them meet it.

    \b
    Examples:
      neti fleet
      neti fleet --site vpc --format csv
      neti fleet --where tier=db --by stage
      neti fleet --require enforced,in-step,no-problem && echo all are
      neti fleet preview --by tier
      neti fleet --skipped
      neti fleet --used
    """
    if context.invoked_subcommand is not None:
        refuse_before(context, context.invoked_subcommand)
        return
    if port is not None and (style != "prometheus" or as_json):
        raise click.UsageError("--port: expected beside --format prometheus")
    refuse_no_version("--below-version", version_below)
    refuse_no_version("--version", version)
    style = "json" if as_json else style
    if registered_only and style in ("table", "json"):
        raise click.UsageError(
            "--registered-only: expected beside --format csv, hosts, ansible or prometheus"
        )
    if excepted and not required:
        raise click.UsageError("--except works only with --require")
    refuse_what_is_not_heeded(context)
    if watch is not None:
        refuse_where_nobody_watches(style == "table")
    asked = _Asked(
        style=style,
        port=port,
        choice=Choice(
            site=site,
            stage=stage,
            state=state,
            problem=problem,
            version=version,
            version_below=version_below,
            where=where,
        ),
        by=by,
        required=tuple(dict.fromkeys(one for each in required for one in each)),
        excepted=excepted,
        registered_only=registered_only,
        pinned=pinned_names(names),
    )
    settings = settings_in_force(config)
    if watch is None:
        context.with_resource(nothing_collected())
    if used:
        with registry_of(settings) as registry:
            leased = len(registry.leases())
        total = settings.overlay_subnet.num_addresses - 2
        used_up = {"leased": leased, "free": total - leased, "addresses": total}
        print_used(used_up, style == "json")
        return
    if skipped:
        seen = fleet_seen(settings)
        if seen.unanswered is not None:
            raise NetiError("no agent tells which entries it does not believe: ask again later")
        print_skipped(seen, style == "json")
        return
    if fresh:
        say_anew(settings)
    if watch is not None:
        again(lambda: _show(settings, fleet_seen(settings), asked), watch)
        return
    seen = fleet_seen(settings)
    _show(settings, seen, asked)
    if seen.unanswered is not None:
        sys.exit(ONLY_AS_THE_AGENT_KNEW)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    style: str
    port: int | None
    choice: Choice
    by: str | None
    required: tuple[Required, ...]
    excepted: tuple[str, ...]
    registered_only: bool
    pinned: Mapping[str, str]


def _show(settings: Settings, seen: Seen, asked: _Asked) -> None:
    choice, style, pinned = asked.choice, asked.style, asked.pinned
    words = seen.words(pinned)
    rows = seen.rows(words)
    refuse_unknown_site(choice.site, [*settings.sites, *(row["site"] for row in rows)])
    now = time.time()
    if asked.required:
        _require(seen, rows, asked, now)
        return
    chosen = [row for row in rows if choice.takes(row)]
    away = [row for row in seen.away if choice.takes_away(row)]
    _explain(of_the_choice(choice, rows, seen.away, found=bool(chosen or away)))
    note_contests(rows, words)
    if style == "hosts":
        note_withheld(chosen, words)
    if asked.by is not None:
        _print_totals(asked.by, totals([*chosen, *away], asked.by), style)
        _explain([not_their_own(seen.not_own), *sentences(chosen, now)])
        return
    lost = [] if asked.registered_only else listing.surely_lost(away)
    if style == "prometheus":
        print_json(listing.targets([*chosen, *lost], asked.port or metrics_port(settings)))
    else:
        shown_away = away if style in ("table", "json") else lost
        print_fleet(chosen, style, seen.skipped_count, shown_away, pinned)
    filtered = choice.of_what_hosts_say or choice.state is not None
    awaited = [row for row in away if row["state"] != "never seen"]
    missing = None if filtered else attendance.summary(len(chosen), awaited)
    drained = sorted(seen.drained & {row["id"] for row in chosen})
    unused = f"gateways that are drained: {some(drained)}" if drained else None
    odd = (
        attendance.other_ports(rows),
        attendance.other_gateways(rows),
        unused,
        not_their_own(seen.not_own),
        for_operators(rows, in_part=seen.in_part),
    )
    _explain([missing, *odd, *sentences(chosen, now)])
    if seen.skipped_count:
        entries = counted(seen.skipped_count, "registry entry is", "registry entries are")
        say(f"neti: {entries} not believed: 'neti fleet --skipped' says why", err=True)


def _explain(found: Iterable[str | None]) -> None:
    for said in found:
        if said is not None:
            explain(said)


def _require(seen: Seen, rows: list[Row], asked: _Asked, now: float) -> None:
    choice = asked.choice
    awaited = [row for row in seen.away if row["state"] != "never seen"]
    concerned, gone = ([r for r in of if choice.may_concern(r, now)] for of in (rows, awaited))
    if not (concerned or gone or choice.everybody):
        explain(nobody_like(choice, rows, seen.away))
    _explain([not_their_own(seen.not_own), for_operators(rows, in_part=seen.in_part)])
    whole = attendance.unmet_by_the_fleet(rows, seen.strict, asked.required)
    _gate(concerned, gone, asked, whole, now)


def _print_totals(key: str, counted_by: list[dict[str, Any]], style: str) -> None:
    if style == "json":
        print_json({"by": key, "totals": counted_by})
    elif style == "table":
        say(*totals_lines(key, counted_by))
    else:
        raise click.UsageError("--by: expected with a table or JSON")


def _gate(
    rows: list[Row],
    away: list[Row],
    asked: _Asked,
    whole: list[str],
    now: float,
) -> None:
    """Exits with 1 unless everybody meets all of it. ``whole``: what is missing of no one host."""
    required, excepted = asked.required, asked.excepted
    everybody = {row["id"] for row in (*rows, *away)}
    unknown = set(excepted) - everybody
    if unknown:
        raise click.UsageError(f"--except: no host that has been here is {some(unknown)}")
    total = len(everybody - set(excepted))
    found = attendance.unmet(rows, away, required, now)
    found = [(host_id, why) for host_id, why in found if host_id not in excepted]
    if asked.style == "json":
        unmet = [{"id": host_id, "why": why} for host_id, why in found]
        told = {"required": list(required), "known": total, "unmet": unmet, "fleet": whole}
        print_json(told)
    else:
        say(*(f"{host_id}  {why}" for host_id, why in found), *whole)
        said = attendance.verdict(total, len(found), required, sure=not whole)
        say(*said.splitlines())
    if found or whole or not total:
        sys.exit(1)


fleet.add_command(leftovers)
fleet.add_command(preview)
fleet.add_command(verify)
