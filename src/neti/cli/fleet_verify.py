"""``neti fleet verify``: who reaches whom, from one place."""

import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from neti.cli.common import (
    config_option,
    json_option,
    refuse_unknown_site,
    registry_of,
    settings_in_force,
)
from neti.cli.output import is_terminal, print_json, progress, say
from neti.fleet.attendance import lasting
from neti.fleet.crossing import Matrix, Target, matrix
from neti.model.settings import Settings
from neti.oneshot import fleet_verify
from neti.oneshot.fleet_verify import Rows
from neti.words import and_more, counted, some

_MOST_LINES: Final = 50
_MOST_CUT: Final = 10
_FEW: Final = 5
_NOT_COUNTED: Final = (
    "that it does not reach are counted nowhere above: 'neti verify' there names them"
)


@click.command("verify")
@config_option
@json_option
@click.option(
    "--wait",
    is_flag=True,
    help="First ask every host to verify anew, and wait: two minutes at most for 100 hosts, twelve "
    "for thousands.",
)
@click.option("--site", help="Only what members of this site say of each other.")
def verify(config: Path, as_json: bool, wait: bool, site: str | None) -> None:
    """Show which members do not reach each other.

    By what every host found itself: nothing is reached from here. With --wait every host is asked
    to verify now, at a moment of its own: up to 201 members each host tries all others, in a larger
    fleet 200 of them, so that each is tried by 200. Without it, the rows are those of the last
    time, by this command or by 'neti verify' on a host.

    A line for each member that others do not reach, the worst first, and one for each host that
    gave no row: it is down, its agent hangs or is of an earlier version, or nobody has asked it.
    Exit code 0 only if every member gave a row, tried as many as it should (one in twenty may have
    come or gone meanwhile) and reached them all, and nobody who has been here is lost, held or
    gone. For operators.

    \b
    Examples:
      neti fleet verify --wait
      neti fleet verify --site vpc --json
    """
    settings = settings_in_force(config)
    refuse_unknown_site(site, settings.sites)
    rows = _asked(settings) if wait else _as_they_stand(settings)
    others = rows.elsewhere(site) if site is not None else frozenset[str]()
    found = matrix(rows.by, rows.sites.keys() - others, others)
    whole = found.whole and not rows.away
    if as_json:
        print_json(
            {
                "rows": {i: asdict(row) for i, row in sorted(found.rows.items())},
                "not_reached": [asdict(target) for target in found.targets],
                "not_named": dict(found.cut),
                "tried_few": list(found.few),
                "silent": list(found.silent),
                "away": sorted(rows.away),
                "whole": whole,
            }
        )
    else:
        _print(found, rows.away, between=site is None)
    if not whole:
        sys.exit(1)


def _as_they_stand(settings: Settings) -> Rows:
    with registry_of(settings) as registry:
        return fleet_verify.rows(settings, registry)


def _asked(settings: Settings) -> Rows:
    with registry_of(settings) as registry:
        for rows in fleet_verify.ask(settings, registry):
            if is_terminal(sys.stderr):
                progress(
                    f"{len(rows.by)} of {len(rows.sites)} hosts have verified "
                    f"(it takes {lasting(rows.within)} at most)"
                )
    if is_terminal(sys.stderr):
        progress()
    return rows


def _print(found: Matrix, away: Collection[str], *, between: bool) -> None:
    """``between``: what lies between sites counts too. Rows have no count of their own site's."""
    shown = found.targets[:_MOST_LINES]
    say(*map(_line, shown))
    if len(found.targets) > len(shown):
        say(f"{counted(len(found.targets) - len(shown), 'more member')}: --json has all of them")
    worst = sorted(found.cut.items(), key=lambda cut: (-cut[1], cut[0]))
    for host_id, more in worst[:_MOST_CUT]:
        row = found.rows[host_id]
        say(f"{host_id}: reaches {row.reached} of {row.tried}; {more} {_NOT_COUNTED}")
    if len(worst) > _MOST_CUT:
        say(f"{counted(len(worst) - _MOST_CUT, 'more such host')}: --json has all of them")
    if found.few:
        say(f"tried fewer than there are: {counted(len(found.few), 'host')}: {_tried_few(found)}")
    if found.silent:
        say(f"no row: {counted(len(found.silent), 'host')}: {some(found.silent, _FEW)}")
    if away:
        say(f"not registered: {counted(len(away), 'host')}: {some(away, _FEW)}: see 'neti fleet'")
    if found.rows:
        hosts = counted(len(found.rows) + len(found.silent), "host")
        oldest = max(0.0, time.time() - min(row.at for row in found.rows.values()))
        said = f"{len(found.rows)} of {hosts} verified, the first {lasting(oldest)} ago"
        say(f"{said}{_tries(found) if between else ''}")
    else:
        say("nobody has verified yet", "→ neti fleet verify --wait")


def _tried_few(found: Matrix) -> str:
    worst = sorted(found.few, key=lambda i: (found.rows[i].tried, i))[:_FEW]
    tried = ", ".join(f"{i} tried {found.rows[i].tried}" for i in worst)
    return f"{tried}{and_more(len(found.few) - len(worst))}"


def _tries(found: Matrix) -> str:
    tried = sum(row.tried for row in found.rows.values())
    reached = sum(row.reached for row in found.rows.values())
    return f": {reached} of {tried} tries reached their member"


def _line(target: Target) -> str:
    return f"{target.id}: not reached by {len(target.by)} of {target.of}: {_named(target.by)}"


def _named(ids: Sequence[str]) -> str:
    return f"{', '.join(ids[:_FEW])}{and_more(len(ids) - _FEW)}" if len(ids) > _FEW else some(ids)
