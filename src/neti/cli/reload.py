"""``neti reload``: the agent reads its configuration again, and says what came of it.

Must never do: read the configuration itself. What counts is what the agent makes of it.
"""

from pathlib import Path

import click

from neti.cli.asking import ask
from neti.cli.common import config_option, json_option
from neti.cli.output import print_json, say
from neti.state.location import state_folder


@click.command()
@config_option
@json_option
def reload(config: Path, as_json: bool) -> None:
    """Make the agent read its configuration again.

    Changes are in force when this returns, except to keys that need a restart, which are named. A
    file that is not valid is refused, and the old configuration stays in force.

    \b
    Example:
      neti reload
    """
    answer = ask(state_folder(config), "reload")
    if as_json:
        print_json(answer)
        return
    changed, restart = answer["changed"], answer["restart"]
    if changed:
        say(f"in force now: {', '.join(changed)}")
    elif not restart:
        say("read again: nothing has changed")
    if restart:
        say(
            f"changed, but in force only after a restart: {', '.join(restart)}",
            "→ systemctl restart neti",
        )
