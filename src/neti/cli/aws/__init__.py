"""``neti aws``: the operator's tools for a fleet in EC2. Only groups commands."""

import click

from neti.cli.aws.ip_ranges import ip_ranges
from neti.cli.aws.report import report
from neti.cli.aws.tag import tag
from neti.cli.aws.zk_groups import zk_groups
from neti.cli.menu import Group


@click.group("aws", cls=Group)
def aws_group() -> None:
    """Tools for a fleet in EC2.

    Who runs Neti, who may reach ZooKeeper, what the cut-over needs. Credentials come from the AWS
    SDK's usual chain; --profile, --role-arn and --region choose accounts and regions. Commands that
    change something show the exact difference first; with --dry-run they stop there.
    """


for _command in (report, zk_groups, ip_ranges, tag):
    aws_group.add_command(_command)
