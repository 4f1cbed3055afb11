"""``neti aws zk-groups``: keeps the ensemble's and the proxies' security groups in step."""

from pathlib import Path

import click

from neti.aws import groups
from neti.aws import zk_groups as pairs
from neti.aws.access import open_places
from neti.aws.calls import Calls
from neti.cli.aws.common import carry_out, change_options, place_options, waiting, warn
from neti.cli.common import config_option, json_option
from neti.cli.output import say
from neti.config import load
from neti.errors import NetiError
from neti.words import counted


@click.command("zk-groups")
@config_option
@place_options
@change_options
@json_option
@click.option("--ensemble", metavar="GROUP", help="sg-… or tag:KEY=VALUE.")
@click.option("--proxies", metavar="GROUP", help="sg-… or tag:KEY=VALUE.")
@click.option(
    "--gone",
    multiple=True,
    metavar="sg-…",
    help="A group that was deleted: remove the rules that still let it in. Repeatable.",
)
@click.option(
    "--port",
    "ports",
    type=click.IntRange(1, 65535),
    multiple=True,
    help="The ZooKeeper port. Default: the port of zk_hosts in the configuration.",
)
@click.option(
    "--allow-empty", is_flag=True, help="Remove even the last address that a side lets in."
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
    ensemble: str | None,
    proxies: str | None,
    gone: tuple[str, ...],
    ports: tuple[int, ...],
    allow_empty: bool,
) -> None:
    """Let the ZooKeeper ensemble and its proxies reach each other.

    And nobody else, by these rules. Each group lets in the other's members by their Elastic and
    plain public addresses. Missing rules are added on both sides before stale ones go; rules that
    this command did not make are left alone. The groups are looked up in all the accounts and
    regions given.

    \b
    Examples:
      neti aws zk-groups --ensemble sg-0aa1 --proxies sg-0bb2 --dry-run
      neti aws zk-groups --profile old --profile new --region us-east-1 \\
          --ensemble tag:Name=neti-zookeeper --proxies tag:Name=neti-zk-proxy
      neti aws zk-groups --ensemble sg-0aa1 --proxies sg-0bb9 --gone sg-0bb2
    """
    _refuse_nonsense(ensemble, proxies, gone)
    both = ensemble is not None and proxies is not None
    wanted = (list(ports) or pairs.ports_of(load(config))) if both else list(ports)
    places = open_places(profiles=profile, roles=role_arn, regions=region, waiting=waiting)
    sides = [
        _side(places, role, group)
        for role, group in (("ensemble", ensemble), ("proxies", proxies))
        if group is not None
    ]
    if both and sides[0].group.id == sides[1].group.id:
        raise NetiError(
            f"--ensemble and --proxies are the same group, {sides[0].group.id}: each side needs "
            "its own"
        )
    left = _leftovers(places, sides, gone)
    if both:
        plan = pairs.plan(sides[0], sides[1], wanted, allow_empty=allow_empty, gone=gone)
    else:
        plan = pairs.plan_gone(sides[0], gone, allow_empty=allow_empty)
    warnings = (*plan.warnings, *left)
    warn(warnings)
    if not as_json:
        for side, differs in plan.differences:
            for rule in differs.foreign:
                say(f"= {side.group.id}: {rule}  [{rule.description or 'not by Neti'}]")
    document = {
        **{side.role: _document(side) for side in sides},
        "ports": wanted,
        "warnings": list(warnings),
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


def _refuse_nonsense(ensemble: str | None, proxies: str | None, gone: tuple[str, ...]) -> None:
    if ensemble is None and proxies is None:
        raise click.UsageError("which groups? give --ensemble GROUP and --proxies GROUP")
    if (ensemble is None or proxies is None) and not gone:
        lacking = "--ensemble" if ensemble is None else "--proxies"
        raise click.UsageError(
            f"{lacking} GROUP is missing: both groups are needed, except with --gone"
        )
    for group in gone:
        if groups.GROUP_ID.fullmatch(group) is None:
            raise click.UsageError(f"--gone {group!r}: expected the id of a former group, sg-…")


def _leftovers(places: list[Calls], sides: list[pairs.Side], gone: tuple[str, ...]) -> list[str]:
    """Warnings about rules that let in deleted groups. NetiError for a --gone group that still
    exists."""
    named = {side.group.id for side in sides}
    marked = {pairs.former_of(rule) for side in sides for rule in side.group.rules} - {None}
    there = named | groups.existing(places, {*gone, *filter(None, marked)} - named)
    if alive := [group for group in gone if group in there]:
        raise NetiError(
            f"--gone {alive[0]}: this group still exists. Name it with --ensemble or --proxies, "
            "or delete it first"
        )
    looked = ", ".join(str(calls.place) for calls in places)
    sentences = []
    for side in sides:
        for group, count in pairs.leftovers(side, {*there, *gone}).items():
            sentences.append(
                f"{side.role} {side.group} has {counted(count, 'rule')} of this command for "
                f"{group}, but there is no such group in {looked}. Any machine that has these "
                "addresses now reaches ZooKeeper's port. If the group was deleted, remove the "
                f"rules with --gone {group}"
            )
        if unused := [group for group in gone if group not in marked]:
            sentences.append(f"no rule is for {', '.join(unused)}: there is nothing to remove")
            gone = tuple(group for group in gone if group in marked)
    return sentences


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
