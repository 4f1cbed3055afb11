"""``neti report``: the machines of an inventory's file against the registry."""

from pathlib import Path
from typing import Any

import click

from neti.cli.common import config_option, json_option
from neti.cli.coverage import Wanted, coverage_options, show
from neti.cli.output import say
from neti.config import load
from neti.oneshot.inventory import read


@click.command()
@config_option
@json_option
@click.option(
    "--inventory",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="What lists the machines: of gcloud, az, Terraform, Ansible, or a CSV.",
)
@coverage_options
def report(config: Path, inventory: Path, **options: Any) -> None:
    """Show which machines of a list are in Neti, and which not.

    The file is the output of 'gcloud compute instances list --format=json', of 'az vm list -d -o
    json' or of 'ansible-inventory --list', a Terraform state, or a CSV with the columns id or name,
    and private. Machines that do not run are left out. On EC2, 'neti aws report' asks AWS itself.

    \b
    Examples:
      gcloud compute instances list --format=json > machines.json
      neti report --inventory machines.json
      neti report --inventory machines.json --tag tier=db --fail-below 100
    """
    wanted = Wanted(**options)
    settings = load(config)
    wanted.check(settings)
    show(wanted, settings, read(inventory, lambda text: say(f"neti: {text}", err=True)))
