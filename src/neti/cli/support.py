"""``neti support``: one file for a bug report."""

import sys
from pathlib import Path

import click

from neti.cli.common import config_option
from neti.cli.output import hand_over, is_terminal, say
from neti.errors import NetiError
from neti.words import counted


@click.command()
@config_option
@click.option(
    "--output",
    metavar="FILE",
    help="Write it there; - is stdout. [default: neti-support-NAME-TIME.tar.gz, in this folder]",
)
def support(config: Path, output: str | None) -> None:
    """Write one file for a bug report, without secrets.

    In it: versions, the configuration in force, what the agent and the kernel say, the plan, the
    last lines of the log, and a MANIFEST that says of each what it is, or why it is not there. Keys
    and passwords are cut out; addresses, names and ids of hosts are not. Look into it before you
    send it. It works without an agent, and with a neti.yml that is not valid.

    \b
    Examples:
      sudo neti support
      sudo neti support --output - | ssh elsewhere 'cat > neti-support.tar.gz'
    """
    from neti.oneshot.support import archive, named, parts, refuse_what_is_there, write

    if output == "-" and is_terminal(sys.stdout):
        raise NetiError("a file like that does not belong on a terminal: --output FILE")
    name = named()
    if output != "-":
        refuse_what_is_there(Path(output or f"{name}.tar.gz"))
    found = parts(config)
    packed = archive(found, name)
    if output == "-":
        hand_over(packed)
    else:
        path = Path(output or f"{name}.tar.gz")
        write(path, packed)
        say(f"{path}: {counted(sum(not one.missing for one in found), 'file')} in it")
    for one in found:
        if one.missing:
            say(f"neti: without {one.name}: {one.missing}", err=True)
