"""``neti registry remove``: deletes nodes that no agent made, with what is below them."""

from pathlib import Path

import click

from neti.cli.common import config_option, json_option, waiting_for, zookeeper_opened
from neti.cli.ending import if_interrupted
from neti.cli.output import consent, print_json, say
from neti.config import load
from neti.errors import NetiError
from neti.host import caller
from neti.text import printable
from neti.words import counted

_SHOWN = 20


@click.command()
@click.argument("nodes", metavar="NODE…", nargs=-1, required=True)
@config_option
@json_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Even what a registered host made, or a whole lease.")
@if_interrupted("whether all of it is deleted is not known\n→ neti registry check")
def remove(nodes: tuple[str, ...], config: Path, as_json: bool, yes: bool, force: bool) -> None:
    """Delete nodes in ZooKeeper that no agent made.

    Everything below them goes too. NODE is a path as 'neti registry check' prints it: any character
    other than letters, digits, and "/+_.-~" is written as %XX. Shows what will be deleted, and
    asks. Refuses what a registered host made, and a lease that 'neti lease release' can give up.

    Whoever makes a node can shut operators out from what is below it. Then only ZooKeeper's super
    user can delete it, with its certificate in registry_tls.

    \b
    Example:
      neti registry remove /neti/agents/web-1
    """
    from neti.registry.zookeeper import remove as removing

    settings = load(config)
    with zookeeper_opened(settings) as registry:
        with waiting_for(registry):
            doomed = registry.operate(lambda attempt, layout: removing.plan(attempt, layout, nodes))
        if kept := [one for one in doomed if one.keeps is not None and not force]:
            raise NetiError(
                f"nothing was deleted: {printable(kept[0].path)} stays, because {kept[0].keeps}\n"
                "→ --force, if it has to go all the same"
            )
        if shut := [one for one in doomed if one.super_only]:
            raise removing.super_needed(shut)
        say(*doomed[:_SHOWN], err=True)
        if len(doomed) > _SHOWN:
            say(f"and {len(doomed) - _SHOWN} more", err=True)
        number = sum(1 + len(one.below) for one in doomed)
        consent(f"Delete {counted(number, 'node')}?", yes=yes)
        count = registry.operate(lambda attempt, _: removing.carry_out(attempt, doomed))
    caller.note("registry remove", nodes=count, first=doomed[0].path)
    if as_json:
        print_json({"deleted": count, "nodes": [one.path for one in doomed]})
        return
    say(
        f"{counted(count, 'node')} deleted. There is no undo: what an agent needs it makes anew by "
        "itself, and a lease or a record comes back from an export alone.",
        "→ 'neti registry check' shows what is left",
        "→ 'neti registry import FILE' makes what an export has and the registry has not",
    )
