"""``neti plan``: what the agent would change in the kernel. Changes nothing anywhere."""

from collections.abc import Iterable
from pathlib import Path

import click

from neti.cli.common import config_option, json_option, settings_in_force
from neti.cli.output import hand_over, print_json, say


@click.command()
@config_option
@json_option
@click.option("--full", is_flag=True, help="The whole ruleset, as a file that nft -f takes.")
def plan(config: Path, as_json: bool, full: bool) -> None:
    """Show what the agent would change in this host's kernel.

    That is the difference between what the kernel holds and what it should hold. The registry is
    only read: this host is not registered and takes no lease. If the registry does not answer, the
    members that this host knew last count, as for a running agent.

    \b
    Examples:
      neti plan
      neti plan --full > neti.nft && nft -c -f neti.nft
    """
    from neti.oneshot.plan import difference, ruleset

    settings = settings_in_force(config)
    if full:
        text, notes = ruleset(settings)
        _say_notes(notes)
        print_json({"ruleset": text}) if as_json else hand_over(text)
        return
    found = difference(settings)
    _say_notes(found.notes)
    if as_json:
        document = {"structure": found.structure, "changes": list(found.changes)}
        print_json({**document, "notes": list(found.notes)})
    else:
        say(*(found.changes or ["nothing to change: the kernel holds what it should"]))


def _say_notes(notes: Iterable[str]) -> None:
    for note in notes:
        say(f"neti: {note}", err=True)
