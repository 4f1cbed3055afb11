"""``neti aws zk-groups``: keeps the ensemble's and the proxies' security groups in step."""

from pathlib import Path

import click

from neti.aws import groups
from neti.aws import zk_groups as pairs
from neti.aws.access import open_places
from neti.aws.calls import Calls
from neti.cli.aws_common import carry_out, change_options, place_options, warn
from neti.cli.common import config_option, json_option
from neti.cli.output import say
from neti.config import load
from neti.errors import NetiError


@click.command("zk-groups")
@config_option
@place_options
@change_options
@json_option
@click.option("--ensemble", required=True, metavar="GROUP", help="sg-… or tag:KEY=VALUE.")
@click.option("--proxies", required=True, metavar="GROUP", help="sg-… or tag:KEY=VALUE.")
@click.option(
    "--port",
    "ports",
    type=click.IntRange(1, 65535),
    multiple=True,
    help="The ZooKeeper port; else that of zk_hosts in the configuration.",
)
@click.option(
    "--allow-empty", is_flag=True, help="Take out even the last address that a side lets in."
)
def zk_groups(
    config: Path,
    profile: tuple[str, ...],
    role_arn: tuple[str, ...],
    region: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    sleep: float,
    as_json: bool,
    ensemble: str,
    proxies: str,
    ports: tuple[int, ...],
    allow_empty: bool,
) -> None:
    """Let the ZooKeeper ensemble and its proxies reach each other, and nobody else by these rules.

    Each group lets in the other's members by their Elastic and plain public addresses. Missing
    rules are added on both sides before stale ones go; rules that this command did not make are
    left alone. Where the groups are, in all the accounts and regions given, is found out.

    \b
    Examples:
      neti aws zk-groups --ensemble sg-0aa1 --proxies sg-0bb2 --dry-run
      neti aws zk-groups --profile old --profile new --region us-east-1 \\
          --ensemble tag:Name=neti-zookeeper --proxies tag:Name=neti-zk-proxy
    """
    wanted = list(ports) or pairs.ports_of(load(config))
    places = open_places(profiles=profile, roles=role_arn, regions=region)
    sides = [
        _side(places, role, group) for role, group in (("ensemble", ensemble), ("proxies", proxies))
    ]
    if sides[0].group.id == sides[1].group.id:
        raise NetiError(
            f"--ensemble and --proxies are the same group, {sides[0].group.id}: each side has one "
            "of its own"
        )
    plan = pairs.plan(sides[0], sides[1], wanted, allow_empty=allow_empty)
    warn(plan.warnings)
    if not as_json:
        for side, differs in plan.differences:
            for rule in differs.foreign:
                say(f"= {side.group.id}: {rule}  [{rule.description or 'not by Neti'}]")
    document = {
        "ensemble": _document(sides[0]),
        "proxies": _document(sides[1]),
        "ports": wanted,
        "warnings": list(plan.warnings),
    }
    carry_out(
        plan.changes,
        places,
        dry_run=dry_run,
        yes=yes,
        pause=sleep,
        as_json=as_json,
        document=document,
    )


def _side(places: list[Calls], role: str, wanted: str) -> pairs.Side:
    group = groups.find_one(places, wanted)
    calls = next(calls for calls in places if calls.place == group.place)
    return pairs.Side(role, group, pairs.members(calls, group))


def _document(side: pairs.Side) -> dict[str, object]:
    return {
        "group": side.group.id,
        "account": side.group.place.account,
        "region": side.group.place.region,
        "members": [
            {"id": m.id, "name": m.name, "public": [str(a) for a in m.publics]}
            for m in side.members
        ],
    }
