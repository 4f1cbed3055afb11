"""``neti plan``: what the agent would change in the kernel. Changes nothing anywhere."""

from pathlib import Path

import click

from neti.cli.common import config_option, json_option
from neti.cli.output import hand_over, print_json, say
from neti.config import load


@click.command()
@config_option
@json_option
@click.option("--full", is_flag=True, help="The whole ruleset, as a file that nft -f takes.")
def plan(config: Path, as_json: bool, full: bool) -> None:
    """Print the difference between what the kernel holds and what it should hold.

    The registry is only read: this host is not registered and takes no lease.

    \b
    Examples:
      neti plan
      neti plan --full > neti.nft && nft -c -f neti.nft
    """
    from neti.oneshot.plan import difference, ruleset

    settings = load(config)
    if full:
        text = ruleset(settings)
        print_json({"ruleset": text}) if as_json else hand_over(text)
        return
    found = difference(settings)
    for note in found.notes:
        say(f"neti: {note}", err=True)
    if as_json:
        print_json({"structure": found.structure, "changes": list(found.changes)})
    else:
        say(*(found.changes or ["nothing to change: the kernel holds what it should"]))
