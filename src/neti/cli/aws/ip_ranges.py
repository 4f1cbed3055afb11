"""``neti aws ip-ranges``: AWS's ranges, or the fleet's own addresses, in security groups."""

from pathlib import Path

import click
from click.core import ParameterSource

from neti.aws import ip_ranges as ranges
from neti.aws import published
from neti.aws.access import open_places
from neti.aws.ip_ranges import Protocol, Shape
from neti.aws.ranges_plan import MEMORY, SITE_TAG, Request, make_plan
from neti.cli.aws.common import (
    Words,
    carry_out,
    change_options,
    follow_it,
    place_options,
    waiting,
)
from neti.cli.common import config_option, json_option, registry_of
from neti.cli.output import say
from neti.config import load
from neti.model.gateways import PORTS

_PORTS = "0-65535"


@click.command("ip-ranges")
@config_option
@place_options
@change_options
@json_option
@click.option(
    "--group", "groups", multiple=True, metavar="GROUP", help="sg-… or tag:KEY=VALUE; repeatable."
)
@click.option(
    "--site", help=f"The groups of this site: those tagged {SITE_TAG}=SITE (in its vpc_ids)."
)
@click.option(
    "--fleet", is_flag=True, help="The fleet's own public addresses instead of AWS's ranges."
)
@click.option(
    "--encrypted",
    is_flag=True,
    help="Only UDP to tunnel_port, from sites that encrypt with the group's.",
)
@click.option(
    "--gateways",
    is_flag=True,
    help="With --fleet: only UDP to the gateways' ports, for the group of a site's gateways.",
)
@click.option(
    "--follow",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="With --fleet: keep running and look again this often; implies --yes.",
)
@click.option(
    "--file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Use a local ip-ranges.json.",
)
@click.option("--url", default=published.URL, show_default=True, help="Where AWS's file is.")
@click.option("--service", "services", multiple=True, default=["EC2"], show_default=True)
@click.option(
    "--range-region", "range_regions", multiple=True, help="Only ranges of this region, or 'all'."
)
@click.option(
    "--border-group", "border_groups", multiple=True, help="Only ranges of this border group."
)
@click.option("--ipv6", is_flag=True, help="IPv6 ranges too.")
@click.option(
    "--protocol",
    "protocols",
    type=click.Choice(["tcp", "udp", "all"]),
    multiple=True,
    default=["tcp", "udp"],
    show_default=True,
)
@click.option("--ports", default=_PORTS, show_default=True, metavar="FIRST-LAST")
@click.option(
    "--as",
    "kind",
    type=click.Choice(["rules", "prefix-list"]),
    default="rules",
    show_default=True,
)
@click.option(
    "--max-rules",
    type=click.IntRange(min=1),
    metavar="N",
    help="Widen prefixes, as little as possible, until they count as at most N rules.",
)
@click.option(
    "--quota",
    type=click.IntRange(min=1),
    metavar="N",
    help="Rules that a group may have. Default: ask AWS.",
)
@click.option("--revert", is_flag=True, help="Remove exactly what this command added.")
@click.option("--remove-first", is_flag=True, help="Remove stale rules before adding new ones.")
@click.option(
    "--allow-removals", is_flag=True, help="With --fleet: allow removing more than half at once."
)
@click.option(
    "--memory",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"With --fleet: file that remembers the hosts' addresses between runs. Default: {MEMORY} "
    "in table_files_path.",
)
def ip_ranges(
    config: Path,
    profile: tuple[str, ...],
    role_arn: tuple[str, ...],
    region: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    sleep: float,
    as_json: bool,
    groups: tuple[str, ...],
    site: str | None,
    fleet: bool,
    encrypted: bool,
    gateways: bool,
    follow: float | None,
    file: Path | None,
    url: str,
    services: tuple[str, ...],
    range_regions: tuple[str, ...],
    border_groups: tuple[str, ...],
    ipv6: bool,
    protocols: tuple[Protocol, ...],
    ports: str,
    kind: str,
    max_rules: int | None,
    quota: int | None,
    revert: bool,
    remove_first: bool,
    allow_removals: bool,
    memory: Path | None,
) -> None:
    """Let AWS's address ranges into security groups, or take them out.

    For the cut-over. From then on Neti alone decides who gets in. The groups' quotas are checked
    before the first call. ICMP 'fragmentation needed' is let in from anywhere, because without it
    bulk transfers between sites hang. --fleet is narrower: it lets in only the fleet's own public
    addresses, and --follow keeps them up to date.

    Between sites that encrypt, one UDP port is enough: --encrypted lets in that, beside what is
    there. During the move both are needed. --revert without --encrypted takes the rest out. The
    group of a site's gateways needs --gateways as well, beside --encrypted.

    \b
    Examples:
      neti aws ip-ranges --group sg-0aa1 --range-region us-east-1 --dry-run
      neti aws ip-ranges --site vpc --max-rules 60 --as prefix-list
      neti aws ip-ranges --site vpc --fleet --follow 60
      neti aws ip-ranges --site vpc --fleet --encrypted --follow 60
      neti aws ip-ranges --site vpc --group sg-0gw1 --fleet --gateways --follow 60
      neti aws ip-ranges --site vpc --revert
    """
    first, last = _ports(ports)
    if encrypted or gateways:
        _refuse_beside_one(fleet=fleet, encrypted=encrypted, gateways=gateways)
        port = load(config).tunnel_port
        first, last = (PORTS.first, PORTS.last) if gateways else (port, port)
        protocols = ("udp",)
    request = Request(
        config=config,
        groups=groups,
        site=site,
        fleet=fleet,
        file=file,
        url=url,
        choice=published.Choice(
            services=services,
            regions=() if "all" in range_regions else range_regions,
            border_groups=border_groups,
        ),
        ipv6=ipv6,
        shape=Shape(
            mark=_mark(fleet=fleet, encrypted=encrypted, gateways=gateways),
            protocols=("all",) if "all" in protocols else tuple(dict.fromkeys(protocols)),
            first_port=first,
            last_port=last,
            as_list=kind == "prefix-list",
            max_rules=max_rules,
        ),
        quota=quota,
        revert=revert,
        remove_first=remove_first,
        allow_removals=allow_removals,
        as_json=as_json,
        memory=memory,
        encrypted=encrypted,
        gateways=gateways,
    )
    _refuse_nonsense(request, follow, any_region=bool(range_regions or border_groups))
    _refuse_ignored(request)
    places = open_places(profiles=profile, roles=role_arn, regions=region, waiting=waiting)

    words = Words(held=follow is not None)

    def once() -> None:
        made = None
        try:
            made = make_plan(request, places, words, registry_of)
            if not dry_run:
                made.remember(words)
        finally:
            words.turn(anyway=made is not None and bool(made.plan.changes))
        carry_out(
            made.plan.changes,
            places,
            dry_run=dry_run,
            yes=yes or follow is not None,
            pause=sleep,
            as_json=as_json,
            document=made.document,
            quiet=follow is not None,
        )

    if follow is None:
        once()
    else:
        say(f"following the fleet, every {follow:g} s; prints only what changes")
        follow_it(once, follow)


def _mark(*, fleet: bool, encrypted: bool, gateways: bool) -> str:
    if gateways:
        return ranges.GATEWAYS
    if encrypted:
        return ranges.TUNNEL_FLEET if fleet else ranges.TUNNEL_RANGES
    return ranges.FLEET if fleet else ranges.RANGES


def _refuse_beside_one(*, fleet: bool, encrypted: bool, gateways: bool) -> None:
    if gateways and (encrypted or not fleet):
        raise click.UsageError(
            "--gateways goes with --fleet, and not with --encrypted: give one after the other"
        )
    if ignored := _given("protocols", "ports"):
        what = f"--gateways: that is UDP to {PORTS}"
        if encrypted:
            what = "--encrypted: that is UDP to tunnel_port of neti.yml"
        raise click.UsageError(f"{ignored} cannot be used with {what}")


def _refuse_nonsense(request: Request, follow: float | None, *, any_region: bool) -> None:
    if not request.groups and request.site is None:
        raise click.UsageError("which groups? give --group sg-… or --site SITE")
    if follow is not None and (not request.fleet or request.revert or request.as_json):
        raise click.UsageError("--follow goes with --fleet, and not with --revert or --json")
    if not (request.fleet or request.revert or any_region):
        raise click.UsageError(
            "which of AWS's ranges? give --range-region REGION (or 'all'), or --border-group"
        )


def _refuse_ignored(request: Request) -> None:
    """Refuses an option that would have no effect: it was meant to have one."""
    shape = request.shape
    if "all" in shape.protocols and (shape.first_port, shape.last_port) != (0, 65535):
        raise click.UsageError("--ports has no effect with --protocol all: give tcp or udp")
    if request.fleet:
        ignored = _given("ipv6", "range_regions", "border_groups", "services", "file", "url")
        if ignored:
            raise click.UsageError(
                f"{ignored} chooses among AWS's ranges and cannot be used with --fleet"
            )
    elif ignored := _given("allow_removals", "memory"):
        raise click.UsageError(f"{ignored} needs --fleet")
    if request.revert:
        ignored = _given("remove_first", "kind", "max_rules", "memory")
        if ignored:
            raise click.UsageError(
                f"{ignored} says how rules are made and cannot be used with --revert"
            )


def _given(*names: str) -> str:
    """The first of these options that was given, as it is typed; None if none was."""
    context = click.get_current_context()
    options = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    typed = (n for n in names if context.get_parameter_source(n) is ParameterSource.COMMANDLINE)
    return next((options[name] for name in typed), "")


def _ports(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if first.isdecimal() and (last.isdecimal() or not dash):
        span = int(first), int(last or first)
        if 0 <= span[0] <= span[1] <= 65535:
            return span
    raise click.UsageError(f"--ports {text!r}: expected FIRST-LAST within {_PORTS}")
