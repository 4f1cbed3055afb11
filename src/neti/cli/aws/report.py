"""``neti aws report``: EC2's running instances against the registry."""

from pathlib import Path
from typing import Any

import click

from neti.aws import instances
from neti.aws.access import open_places
from neti.cli.aws.common import Progress, place_options, waiting
from neti.cli.common import config_option, json_option
from neti.cli.coverage import Wanted, coverage_options, show
from neti.config import load


@click.command()
@config_option
@place_options
@json_option
@click.option(
    "--vpc", multiple=True, metavar="ID", help="Only instances in this VPC, in totals too."
)
@coverage_options
def report(
    config: Path,
    vpc: tuple[str, ...],
    profile: tuple[str, ...],
    role_arn: tuple[str, ...],
    region: tuple[str, ...],
    **options: Any,
) -> None:
    """Show which instances are in Neti, and why the others are not.

    An instance is in Neti when its peers in every site reach it at its overlay address. An account
    or region that cannot be read is an error, because half a report would look like a whole one.

    \b
    Examples:
      neti aws report --profile old --profile new --region us-east-1
      neti aws report --not-in-neti --names-only
      neti aws report --exclude 'neti-z*' --fail-below 100 && echo ready
    """
    wanted = Wanted(**options)
    settings = load(config)
    wanted.check(settings)
    places = open_places(profiles=profile, roles=role_arn, regions=region, waiting=waiting)
    progress = Progress("instances read")
    try:
        running = instances.read(places, states=["running"], progress=progress)
    finally:
        progress.end()
    machines = [instances.machine(one) for one in running]
    show(wanted, settings, machines, within=lambda one: not vpc or one.vpc_id in vpc)
