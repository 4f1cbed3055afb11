"""``neti check``: asks the agent, looks into the kernel itself, prints one line, exits 0 to 3."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import click

from neti.cli.asking import waiting
from neti.cli.common import F, config_option
from neti.cli.looks import Tone
from neti.cli.output import Tinted, is_terminal, say
from neti.control import client
from neti.errors import NetiError
from neti.monitoring.check import judge
from neti.monitoring.situation import Level, Limits, Situation, Stage
from neti.monitoring.status import Status, status_of
from neti.words import why

_TONES: Final[dict[Level, Tone]] = {
    Level.OK: "good",
    Level.WARNING: "doubtful",
    Level.CRITICAL: "bad",
    Level.UNKNOWN: "doubtful",
}


class _Plugin(click.Command):
    """A wrong option is UNKNOWN: click's own 2 would be CRITICAL."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.show()
            ctx.exit(int(Level.UNKNOWN))


def _seconds(name: str, default: float, words: str) -> Callable[[F], F]:
    kind = click.FloatRange(min=0)
    return click.option(
        name, type=kind, default=default, show_default=True, metavar="SECONDS", help=words
    )


def _count(name: str, default: int, words: str) -> Callable[[F], F]:
    kind = click.IntRange(min=0)
    return click.option(
        name, type=kind, default=default, show_default=True, metavar="N", help=words
    )


@click.command(cls=_Plugin)
@config_option
@_seconds("--stale-warning", 60, "Warn when this host has not followed the registry for this long.")
@_seconds("--stale-critical", 3600, "The same, but critical.")
@_count("--lost-warning", 0, "Warn when more members than this are lost.")
@_count("--skipped-warning", 10, "Warn when more entries than this are not believed.")
@click.option(
    "--expect",
    type=click.Choice(["enforced", "shadow", "down"]),
    help="Critical when this host is in another stage.",
)
@click.pass_context
def check(
    ctx: click.Context,
    config: Path,
    stale_warning: float,
    stale_critical: float,
    lost_warning: int,
    skipped_warning: int,
    expect: Stage | None,
) -> None:
    """Check this host, for Nagios, Sensu and the like.

    Prints one line, and exits with 0 to 3. It looks into the kernel itself, so it must run as root.
    0 is OK, 1 WARNING, 2 CRITICAL, and 3 UNKNOWN: it could not look. The worst finding sets the
    exit code. All findings are named, the worst first. Every finding, and what to do about it:
    docs/monitoring.md.

    \b
    Examples:
      sudo neti check --stale-critical 1800
      sudo neti check --expect enforced
    """
    limits = Limits(
        stale_warning=stale_warning,
        stale_critical=stale_critical,
        lost_warning=lost_warning,
        skipped_warning=skipped_warning,
    )
    try:
        from neti.oneshot.look import verdict

        found = verdict(config, limits, expect, _status)
    except NetiError as error:
        found = judge(Situation(blind=("; ".join(str(error).splitlines()),)), limits)
    except Exception as error:  # a plugin that ends in a traceback would be taken for a warning
        fault = f"neti check failed: {type(error).__name__}: {why(error)}"
        found = judge(Situation(blind=(fault,)), limits)
    say(Tinted(found.line, _TONES[found.level]))
    ctx.exit(int(found.level))


def _status(folder: Path) -> Status:
    """check_by_ssh and its kind take any word on stderr for a failure: only a person gets one."""
    person = is_terminal(sys.stderr)
    with waiting(client.PATIENCE, "'neti check' calls it hung") if person else nullcontext():
        return status_of(client.call(folder, "status", within=client.PATIENCE))
