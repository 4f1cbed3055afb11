"""``neti lease gc``: releases the leases of instances that EC2 says are terminated."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from neti.aws import instances, terminated
from neti.aws.access import open_places
from neti.aws.instances import Instance
from neti.aws.lease_gc import present, release
from neti.aws.terminated import Lease, Verdict
from neti.cli.aws.common import Progress, place_options, waiting
from neti.cli.common import config_option, json_option, registry_of
from neti.cli.output import explain, print_json, say
from neti.config import load
from neti.errors import NetiError
from neti.words import counted

_MEMORY: Final = "terminated.json"
_HOUR: Final = 3600.0


@click.command()
@config_option
@place_options
@json_option
@click.option(
    "--quarantine",
    type=click.FloatRange(min=0),
    default=24.0,
    show_default=True,
    metavar="HOURS",
    help="Release only what has been terminated for this long.",
)
@click.option(
    "--memory",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"File that remembers what was seen terminated. Default: {_MEMORY} in table_files_path.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be released and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask on a terminal.")
def gc(
    config: Path,
    profile: tuple[str, ...],
    role_arn: tuple[str, ...],
    region: tuple[str, ...],
    as_json: bool,
    quarantine: float,
    memory: Path | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Release the leases of instances that were terminated.

    After a quarantine, and only where EC2 itself reported it. Name every account and region that
    the fleet uses. EC2 forgets a terminated instance within about an hour, and an unknown instance
    proves nothing, so a file remembers what was seen: run this at least every half hour, from the
    same machine. If any account answers with an error or with nothing, nothing is released. Where
    admission is off, an id that a group names is not released, and none while the groups cannot be
    read. There is no way back: another host may get the address. Without a terminal it needs --yes.

    \b
    Examples:
      neti lease gc --profile old --profile new --region us-east-1 --dry-run
      neti lease gc --profile old --profile new --region us-east-1 --yes
    """
    settings = load(config)
    path = memory or settings.table_files_path / _MEMORY
    remembered = terminated.load(path)
    every, now = _instances(profile, role_arn, region)
    with registry_of(settings) as registry:
        leases = registry.leases()
        verdict = terminated.judge(
            leases,
            every,
            remembered,
            present=present(registry),
            quarantine=quarantine * _HOUR,
            now=now,
        )
        if not as_json:
            _print(verdict, now, quarantine)
        if not dry_run:
            terminated.save(path, terminated.remember(leases, every, remembered, now))
            if verdict.release and sys.stdin.isatty() and not yes:
                question = f"Release {counted(len(verdict.release), 'lease')}?"
                click.confirm(question, abort=True, err=True)
        done, refused = ([], []) if dry_run else release(settings, registry, verdict.release, now)
    if as_json:
        print_json(_document(verdict, done, refused, dry_run=dry_run))
    elif dry_run:
        say(f"dry run: {len(verdict.release)} would be released, nothing was changed")
    else:
        say(f"{len(done)} released")
    for lease, error in refused:
        explain(f"{lease.overlay} of {lease.host_id} was not released: {error}")
    if refused:
        sys.exit(1)


def _instances(
    profiles: Sequence[str], roles: Sequence[str], regions: Sequence[str]
) -> tuple[list[Instance], float]:
    """And now, by AWS's clock."""
    places = open_places(profiles=profiles, roles=roles, regions=regions, waiting=waiting)
    progress = Progress("instances read")
    try:
        every = instances.read(places, refuse_empty=True, progress=progress)
        return every, terminated.time_of(places)
    finally:
        progress.end()


def _print(verdict: Verdict, now: float, quarantine: float) -> None:
    for word, leases in (
        ("release", verdict.release),
        (f"waiting ({quarantine:g} h)", verdict.waiting),
        ("but still registered", verdict.registered),
    ):
        for lease in leases:
            since = 0.0 if lease.since is None else (now - lease.since) / _HOUR
            say(f"{lease.overlay!s:<15}  {lease.host_id:<20}  terminated {since:.1f} h ago: {word}")
    if verdict.unknown:
        some = ", ".join(lease.host_id for lease in verdict.unknown[:10])
        say(
            f"{counted(len(verdict.unknown), 'lease')} kept, because EC2 does not know the "
            f"instances: {some}{', …' if len(verdict.unknown) > 10 else ''}",
            "→ are they in another account or region? Name it with --profile or --region",
            "→ 'neti lease release ID' releases one that you know to be gone",
        )
    say(f"{counted(verdict.others, 'lease')} kept: in use, or not of an EC2 instance")


def _document(
    verdict: Verdict,
    done: Sequence[Lease],
    refused: Sequence[tuple[Lease, NetiError]],
    *,
    dry_run: bool,
) -> dict[str, Any]:
    def plain(leases: Sequence[Lease]) -> list[dict[str, Any]]:
        return [{"id": a.host_id, "overlay": str(a.overlay), "since": a.since} for a in leases]

    return {
        "dry_run": dry_run,
        "release": plain(verdict.release),
        "waiting": plain(verdict.waiting),
        "registered": plain(verdict.registered),
        "unknown": plain(verdict.unknown),
        "kept": verdict.others,
        "released": plain(done),
        "refused": [{"id": a.host_id, "error": str(error)} for a, error in refused],
    }
