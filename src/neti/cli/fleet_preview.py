"""``neti fleet preview``: what enforcing would break, in every host at once."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from neti.cli.common import (
    config_option,
    fleet_told,
    nothing_collected,
    refuse_unknown_site,
    settings_in_force,
)
from neti.cli.fleet_asked import for_operators, key_asked, site_option, where_option
from neti.cli.fleet_fresh import say_anew
from neti.cli.output import explain, json_option, print_json, say
from neti.fleet.selecting import Choice, nobody_like
from neti.model.document import plain
from neti.oneshot.fleet_preview import Tier, tiers
from neti.words import counted, some

_FEW: Final = 5
_MOST_CUT: Final = 10
_PLAIN: Final = re.compile(r"[\w.:/@+-]+")


@click.command()
@config_option
@json_option
@click.option(
    "--by",
    metavar="LABEL",
    callback=key_asked,
    help="One part for each value of a label; or by site, stage or version.",
)
@site_option
@where_option
@click.option("--fresh", is_flag=True, help="First ask every host to say anew. See neti fleet.")
def preview(
    config: Path,
    as_json: bool,
    by: str | None,
    site: str | None,
    where: tuple[tuple[str, str], ...],
    fresh: bool,
) -> None:
    """Show what enforcing would break in the whole fleet.

    For each port that is in use and that no rule lets in: on which hosts, and from how many
    sources; and one open_ports that keeps all of it, to be added to what these hosts have. Each
    host names the twelve ports that matter most, as it last wrote them, within ten minutes; 'neti
    preview' there shows who comes. A host that does not say, is away, or has watched for less than
    a day is named.

    \b
    Examples:
      neti fleet preview --by tier
      neti fleet preview --where tier=db --fresh
    """
    settings = settings_in_force(config)
    click.get_current_context().with_resource(nothing_collected())
    if fresh:
        say_anew(settings)
    seen = fleet_told(settings, "what hosts say of themselves", "neti preview")
    rows = seen.rows()
    refuse_unknown_site(site, [*settings.sites, *(row["site"] for row in rows)])
    choice = Choice(site=site, where=where)
    found = tiers(seen, rows, choice, by)
    away = [row["id"] for row in seen.away if row["state"] != "never seen"]
    if (said := for_operators(rows, in_part=seen.in_part)) is not None:
        explain(said)
    if not found and not choice.everybody:
        explain(nobody_like(choice, rows, seen.away))
    if as_json:
        print_json({"by": by, "parts": plain(found), "away": away})
        return
    for one in found:
        say(*_lines(one, by))
    if not found:
        say("nobody is registered of whom this is asked")
    if away:
        say(f"not registered, so nothing is known of: {some(away, _FEW)}")


def _value(value: str) -> str:
    """One that has spaces could pose as the counts behind it."""
    if not value:
        return "(none)"
    return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)


def _lines(tier: Tier, by: str | None) -> Iterator[str]:
    found = tier.lost
    stages = ", ".join(f"{count} {stage}" for stage, count in tier.stages.items())
    name = f"{by}={_value(tier.value)}  " if by is not None else ""
    yield f"{name}{counted(found.hosts, 'host')}: {stages}"
    for port in found.ports:
        on, sources = counted(len(port.hosts), "host"), counted(port.sources, "source")
        yield f"  {port.port:<11} on {on}, from {sources}: {some(port.hosts, _FEW)}"
    lines = [port.line for port in found.ports if port.line is not None]
    if lines:
        yield "  open_ports:"
        yield from (f"    - {line}" for line in lines)
    if wider := [port.port for port in found.ports if port.line is not None and port.wider]:
        yield f"  more than came is let in by the lines for {some(wider)}"
    if none := [port.port for port in found.ports if port.line is None]:
        yield f"  not for open_ports: {some(none)}: 'neti preview' there says why"
    worst = sorted(found.cut.items(), key=lambda cut: (-cut[1], cut[0]))
    for host_id, more in worst[:_MOST_CUT]:
        yield f"  {counted(more, 'more port')} on {host_id}: 'neti preview' there"
    if len(worst) > _MOST_CUT:
        hosts = counted(len(worst) - _MOST_CUT, "more host")
        yield f"  more ports on {hosts}: --json has all of them"
    if found.silent:
        silent = counted(len(found.silent), "host does", "hosts do")
        yield f"  {silent} not say: {some(found.silent)}"
    elif not found.ports and not found.cut:
        yield "  nothing that is in use would be shut"
    if found.young:
        young = counted(len(found.young), "host has", "hosts have")
        yield f"  {young} watched for less than a day: {some(found.young, _FEW)}"
