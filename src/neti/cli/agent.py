"""``neti agent``."""

from pathlib import Path
from typing import Literal

import click

from neti.agent import hangup
from neti.cli.common import config_option


@click.command()
@config_option
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How events are logged: key=value for people, or one JSON object a line.",
)
def agent(config: Path, log_format: Literal["text", "json"]) -> None:
    """Run the agent in the foreground. systemd starts it.

    It registers this host, keeps table 'inet neti' and the overlay's route in step with the fleet,
    and touches nothing else. SIGHUP reloads the configuration. SIGTERM stops the agent and leaves
    the rules and the registration as they are.

    \b
    Example:
      neti agent -c /etc/neti/neti.yml
    """
    hangup.heed()
    from neti.agent.main import run

    run(config, log_format)
