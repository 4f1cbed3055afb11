"""``neti conntrack-max``: the units' first step, as root."""

from pathlib import Path

import click

from neti.cli.common import config_option
from neti.cli.output import say


@click.command("conntrack-max", hidden=True)
@config_option
def conntrack_max(config: Path) -> None:
    """Raise the limit of connection tracking as the configuration's conntrack_max says.

    The units run this as root before the agent, which may not do it. It never lowers the limit.
    Always exits 0: failing to raise the limit is no reason to run without rules.
    """
    from neti.oneshot.conntrack_max import before_start

    for sentence in before_start(config):
        say(f"neti: {sentence}", err=True)
