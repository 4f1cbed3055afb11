"""``neti registry admit``: hosts' records and leases, each for its own certificate."""

import time
from collections.abc import Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from neti.cli.aws.common import follow_it, place_options
from neti.cli.aws.common import waiting as aws_waiting
from neti.cli.common import config_option, json_option, waiting_for, zookeeper_opened
from neti.cli.ending import if_interrupted
from neti.cli.output import consent, explain, print_json, say
from neti.config import load
from neti.errors import NetiError
from neti.host import caller
from neti.oneshot import group_admission
from neti.oneshot.admission import read
from neti.registry import admitted
from neti.registry.admitted import Asked
from neti.registry.groups import GroupsUnreadable
from neti.text import printable
from neti.words import and_more, counted, some

if TYPE_CHECKING:
    from neti.model.settings import Settings
    from neti.registry.zookeeper.admission import Admit, Refused
    from neti.registry.zookeeper.registry import ZooKeeperRegistry

_SHOWN: Final = 20


@click.command()
@click.argument("words", metavar="[ID [SUBJECT]]…", nargs=-1)
@config_option
@json_option
@click.option(
    "--from",
    "source",
    metavar="FILE",
    help="Ids, or id,subject, one on each line. '-' reads standard input.",
)
@click.option(
    "--subject",
    "pattern",
    metavar="PATTERN",
    help="The subject of ids without one, such as 'CN={id},OU=hosts', as dev-ca makes them.",
)
@click.option(
    "--aws", "from_aws", is_flag=True, help="All instances in EC2 that are in one of the sites."
)
@place_options
@click.option(
    "--follow",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="With --aws: look again so often, and admit who is new.",
)
@click.option("--replace", is_flag=True, help="Even if the id belongs to another certificate.")
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@if_interrupted("whether all of them are admitted is not known\n→ the same command again")
def admit(
    words: tuple[str, ...],
    config: Path,
    as_json: bool,
    source: str | None,
    pattern: str | None,
    from_aws: bool,
    profile: tuple[str, ...],
    role_arn: tuple[str, ...],
    region: tuple[str, ...],
    follow: float | None,
    replace: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Make hosts' records and leases, each for its own certificate.

    Only the certificate with that SUBJECT can register under the ID then, and it has its overlay
    address before it comes, so nobody can keep it out. Without a SUBJECT it is
    the one that holds the id's lease, or follows --subject. Where both are known and differ, you
    have to name it, because anybody could have taken that lease. An id that belongs to another
    certificate stays as it is, unless you say --replace: after a host got a certificate with
    another subject, for example. You can run it again at any time. Groups with a subject that fits
    have the host in them from then on, and those in which the id still is by another subject let
    it go first.

    \b
    Examples, with an operator's certificate in the configuration:
      neti registry admit web-3 CN=web-3,OU=hosts
      neti registry admit web-3 web-4 --subject 'CN={id},OU=hosts'
      neti registry admit --from hosts.csv --dry-run
      neti registry admit --aws --subject 'CN={id},OU=hosts' --follow 30
    """
    if pattern is not None:
        admitted.checked_pattern(pattern)
    if follow is not None and (not from_aws or dry_run or as_json or replace):
        raise click.UsageError(
            "--follow goes with --aws, and not with --dry-run, --json, --replace"
        )
    if not from_aws and (profile or role_arn or region):
        raise click.UsageError("--profile, --role-arn and --region go with --aws")
    if from_aws and pattern is None:
        raise click.UsageError("--aws needs --subject, such as --subject 'CN={id},OU=hosts'")
    settings = load(config)
    asked = _asked(words, source, from_aws=from_aws)

    def once() -> None:
        found = asked
        if from_aws:
            found = admitted.once([*asked, *_instances(settings, profile, role_arn, region)], "")
        _admit(
            settings,
            found,
            pattern,
            replace=replace,
            dry_run=dry_run,
            yes=yes,
            as_json=as_json,
            quiet=follow is not None,
        )

    if follow is None:
        once()
    else:
        say(f"following EC2, every {follow:g} s; prints only what changes")
        follow_it(once, follow)


def _instances(
    settings: "Settings", profiles: Sequence[str], roles: Sequence[str], regions: Sequence[str]
) -> list[Asked]:
    from neti.aws import admit as of_instances
    from neti.aws import instances
    from neti.aws.access import open_places

    places = open_places(profiles=profiles, roles=roles, regions=regions, waiting=aws_waiting)
    return of_instances.asked(instances.read(places, states=of_instances.STATES), settings)


def _admit(
    settings: "Settings",
    asked: Sequence[Asked],
    pattern: str | None,
    *,
    replace: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    from neti.registry.zookeeper import admission

    with zookeeper_opened(settings) as registry:
        with waiting_for(registry):
            steps, refused = registry.operate(
                lambda attempt, layout: admission.plan(
                    attempt,
                    layout,
                    asked,
                    subnet=settings.overlay_subnet,
                    pattern=pattern,
                    replace=replace,
                )
            )
            replaced = [one for one in steps if one.former and not one.nothing]
            owned = (
                registry.inspect(
                    lambda attempt, layout: admission.owned_already(attempt, layout, replaced)
                )
                if replaced
                else {}
            )
        changes = [one for one in steps if not one.nothing]
        if any(one.lease for one in changes):
            _warn_of_subnet(registry, settings.overlay_subnet)
        for subject, ids in list(owned.items())[:_SHOWN]:
            explain(
                f"warning: {printable(subject)} is the certificate of {some(ids)} already, and "
                "hosts that share a certificate can speak for each other"
            )
        if not dry_run:
            _ask_about_replaced(replaced, yes=yes)
            _say_groups(_take_out(settings, registry, steps), "not in group {} any more")
        if not dry_run and changes:
            failed = registry.operate(
                lambda attempt, layout: admission.carry_out(
                    attempt, layout, changes, settings.overlay_subnet
                )
            )
            refused += failed
            gone = {one.id for one in failed}
            changes = [one for one in changes if one.id not in gone]
            if changes:
                caller.note("registry admit", hosts=len(changes), first=changes[0].id)
        without = {one.id for one in refused}
        admitted_now = [] if dry_run else [one for one in steps if one.id not in without]
        trouble = _put_in(registry, admitted_now) if admitted_now else ""
    if as_json:
        _print_document(steps, changes, refused, dry_run=dry_run)
    elif changes or not quiet:
        _print(steps, changes, dry_run=dry_run)
        _name_shared(steps)
    if refused:
        lines = [f"{one.id} was not admitted: {one.why}" for one in refused[:_SHOWN]]
        if len(refused) > _SHOWN:
            lines.append(f"{len(refused) - _SHOWN} more were not admitted: --json names them all")
        raise NetiError("\n".join([*lines, trouble] if trouble else lines))
    if trouble:
        raise NetiError(trouble)


def _take_out(
    settings: "Settings", registry: "ZooKeeperRegistry", steps: "Sequence[Admit]"
) -> "group_admission.Ids":
    owners = {one.id: one.subject for one in steps}
    try:
        return group_admission.take_out(settings, registry, owners, time.time())
    except NetiError as error:
        if isinstance(error, GroupsUnreadable) and not any(one.former for one in steps):
            return {}  # new hosts come all the same, and ``_put_in`` says what is wrong
        why = str(error).partition("\n")[0]  # its next step is another command's
        raise NetiError(
            "nobody was admitted, because ids that get another certificate have to leave the "
            f"groups that the former one put them into first: {why}\n"
            "→ neti group remove GROUP SUBJECT --shrink, then this again, and then "
            "neti group add GROUP SUBJECT"
        ) from error


def _put_in(registry: "ZooKeeperRegistry", steps: "Sequence[Admit]") -> str:
    """What is wrong, and the step; empty: nothing."""
    owners = {one.id: one.subject for one in steps}
    try:
        _say_groups(group_admission.put_in(registry, owners, time.time()), "in group {} now")
    except NetiError as error:
        return (
            f"who is admitted is in no group by a subject yet: {error}\n"
            "→ once that is mended, the same command again"
        )
    return ""


def _say_groups(every: "group_admission.Ids", how: str) -> None:
    for name, ids in every.items():
        explain(f"{some(ids)}: {how.format(name)}")


def _warn_of_subnet(registry: "ZooKeeperRegistry", subnet: IPv4Network) -> None:
    from neti.registry.zookeeper.admitted_leases import foreign_to

    leases = registry.inspect(lambda attempt, layout: foreign_to(attempt, layout, subnet))
    if leases:
        explain(
            f"warning: overlay_subnet is {subnet} here, and none of the registry's leases "
            f"({leases}) is of it. If that is not the fleet's, hosts refuse these addresses\n"
            "→ configure the fleet's overlay_subnet here, and type this again: they get others"
        )


def _asked(words: tuple[str, ...], source: str | None, *, from_aws: bool) -> list[Asked]:
    asked = admitted.typed(words)
    if source is not None:
        asked += read(source)
    if not asked and not from_aws:
        raise click.UsageError("name at least one ID, or give --from FILE or --aws")
    return admitted.once(asked, "")


def _ask_about_replaced(replaced: "Sequence[Admit]", *, yes: bool) -> None:
    if not replaced:
        return
    for one in replaced[:_SHOWN]:
        say(f"{one.id}: {', '.join(one.former)} -> {one.subject}", err=True)
    if len(replaced) > _SHOWN:
        say(f"and {len(replaced) - _SHOWN} more", err=True)
    consent(
        f"Give {counted(len(replaced), 'host id')} to another certificate? The certificate that "
        "has it now cannot register under it any more.",
        yes=yes,
    )


def _print(steps: "Sequence[Admit]", changes: "Sequence[Admit]", *, dry_run: bool) -> None:
    for one in changes[:_SHOWN]:
        word = "make  " if one.make else "lease " if one.lease else "rights"
        cleared = "  instead of what was in its place" if one.clears else ""
        say(f"{word} {one.id}  {one.subject}{cleared}")
    if len(changes) > _SHOWN:
        say(and_more(len(changes) - _SHOWN).strip())
    word = "would be admitted" if dry_run else "admitted"
    already = sum(one.nothing for one in steps)
    say(
        f"{counted(len(changes), 'host')} {word}"
        + (f", {already} already {'was' if already == 1 else 'were'}" if already else "")
    )


def _name_shared(steps: "Sequence[Admit]") -> None:
    """A certificate that two hosts share is nobody's identity."""
    by_subject: dict[str, list[str]] = {}
    for one in steps:
        by_subject.setdefault(one.subject, []).append(one.id)
    shared = {subject: ids for subject, ids in by_subject.items() if len(ids) > 1}
    for subject, ids in list(shared.items())[:_SHOWN]:
        explain(
            f"warning: {printable(subject)} is the certificate of {len(ids)} hosts ({some(ids)}), "
            "so each of them can speak for the others"
        )


def _print_document(
    steps: "Sequence[Admit]",
    changes: "Sequence[Admit]",
    refused: "Sequence[Refused]",
    *,
    dry_run: bool,
) -> None:
    print_json(
        {
            "dry_run": dry_run,
            "admitted": [{"id": one.id, "subject": one.subject} for one in changes],
            "already": [one.id for one in steps if one.nothing],
            "refused": [{"id": one.id, "why": one.why} for one in refused],
        }
    )
