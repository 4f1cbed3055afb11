"""``neti conntrack-max``: the units' first step, as root."""

from pathlib import Path

import click

from neti.cli.common import config_option
from neti.cli.output import say


@click.command("conntrack-max", hidden=True)
@config_option
def conntrack_max(config: Path) -> None:
    """Raise the limit of connection tracking as the configuration's conntrack_max says.

    The units call this as root before the agent, which may not. Never lowers it, and exit code 0
    whatever happens: no limit is a reason to go without rules.
    """
    from neti.oneshot.conntrack_max import before_start

    for sentence in before_start(config):
        say(f"neti: {sentence}", err=True)
