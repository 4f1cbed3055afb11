"""``neti registry``: ZooKeeper's tree and its rights, a look for holes, certificates."""

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from neti.cli.asking import waiting
from neti.cli.common import (
    OPERATORS_SECONDS,
    THE_REGISTRY,
    config_option,
    json_option,
    site_of,
    waiting_for,
    zookeeper_opened,
)
from neti.cli.menu import Group
from neti.cli.output import print_json, say
from neti.cli.registry_admission import admission
from neti.cli.registry_admit import admit
from neti.cli.registry_dev_ca import dev_ca
from neti.cli.registry_export import export, import_
from neti.cli.registry_remove import remove
from neti.cli.registry_strict import strict
from neti.config import load
from neti.errors import NetiError
from neti.host import caller
from neti.registry.opening import open_zookeeper, servers
from neti.text import printable
from neti.words import counted, some

if TYPE_CHECKING:
    from neti.registry.zookeeper.finding import Finding

_OPEN = (
    "without registry_tls ZooKeeper cannot tell who is who: anybody who reaches it can write and "
    "delete everything. Keep it on a private network; see docs/security.md"
)


@click.group("registry", cls=Group)
def registry_group() -> None:
    """Set up the registry in ZooKeeper, check it, make certificates."""


for _command in (remove, strict, admit, admission, export, import_, dev_ca):
    registry_group.add_command(_command)


@registry_group.command()
@config_option
@json_option
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@click.option(
    "--operator",
    "operators",
    multiple=True,
    metavar="SUBJECT",
    help="A further operator's certificate subject, such as 'CN=ann,OU=operators'. Repeatable.",
)
@click.option(
    "--close-root",
    is_flag=True,
    help="Close '/' and ZooKeeper's quotas too. Only where no other program uses these servers.",
)
def init(
    config: Path, as_json: bool, dry_run: bool, operators: tuple[str, ...], close_root: bool
) -> None:
    """Create the tree and set its access rights. Whoever runs this becomes an operator.

    With registry_tls, members can read everything but hosts' reports, and add what is theirs; only
    operators can change or delete. Nodes from a time when everything was open are closed, and
    reports are opened to operators who were added since, and closed to former ones. Each host that
    has a lease gets its record, which only its own certificate can write. Without registry_tls
    everything is open. You can run it again at any time; it says what it changes.

    \b
    Example, with an operator's certificate in the configuration:
      neti registry init -c operator.yml --dry-run
    """
    settings = load(config)
    secure = settings.registry_tls is not None
    if (operators or close_root) and not secure:
        raise NetiError(
            f"{'--operator' if operators else '--close-root'} needs registry_tls in the "
            "configuration, because access rights are given to certificate subjects"
        )
    with zookeeper_opened(settings) as registry:
        with waiting_for(registry):
            planned = registry.plan_init(operators, close_root=close_root)
        refused = [] if dry_run else registry.init(planned)
        if not planned.nothing and not dry_run:
            operators_now = ", ".join(planned.subjects) or "none"
            caller.note(
                "registry init",
                changes=len(planned.steps),
                records=len(planned.records),
                operators=operators_now,
            )
    steps = [str(step) for step in planned.steps]
    if as_json:
        print_json(
            {
                "operators": planned.subjects,
                "changes": steps,
                "records": len(planned.records),
                "without_owner": planned.without_owner,
                "done": not dry_run,
                "refused": refused,
            }
        )
        if refused:
            sys.exit(1)
        return
    for line in steps:
        say(line)
    say(f"operators: {', '.join(planned.subjects) or 'none'}")
    word = "would be made" if dry_run else "made"
    number = len(steps) - len(refused)
    if planned.records:
        say(f"{counted(len(planned.records), 'record')} of hosts with a lease {word}")
    say("nothing to change" if planned.nothing else f"{counted(number, 'change')} {word}")
    if planned.lays_out:
        say(
            "warning: this is a new tree, in which an id belongs to the first certificate that "
            "registers under it. If there was a tree before, that is not what you want",
            "      → neti registry import FILE, which gives every id to its owner",
            err=True,
        )
    if planned.without_owner:
        say(
            f"warning: no certificate owns the lease of {some(planned.without_owner)}, so the "
            "first host to register under such an id gets it",
            "      → neti registry admit ID SUBJECT",
            err=True,
        )
    if not secure:
        say(f"warning: {_OPEN}", err=True)
    if refused:
        raise NetiError(
            f"{counted(len(refused), 'node')} could not be closed, because no operator may change "
            f"the rights of it: {some(refused)}\n→ neti registry check"
        )


@registry_group.command()
@config_option
@json_option
@click.option(
    "--plain-port",
    type=click.IntRange(1, 65535),
    default=2181,
    show_default=True,
    help="Look for a plain port that was left open beside TLS.",
)
@click.option(
    "--accept",
    "accept",
    multiple=True,
    metavar="CODE",
    help="Treat this warning as a note, by its code, because you know of it. Repeatable.",
)
def check(config: Path, as_json: bool, plain_port: int, accept: tuple[str, ...]) -> None:
    """Look for what is open, incomplete, wrong, too old or too small. Changes nothing.

    Asks every server of this host's site, and reads the whole tree. Exit code 1 if there is a fault
    or a warning; notes do not count. Use --accept CODE for a warning that you live with, so that
    you notice the next one.

    \b
    Examples:
      neti registry check
      neti registry check --accept request-length --accept junk-names
    """
    from neti.oneshot.naming import leading_nowhere
    from neti.oneshot.registered import contested_names
    from neti.registry.legible import illegible
    from neti.registry.zookeeper import check_servers, check_tree
    from neti.registry.zookeeper import finding as look
    from neti.registry.zookeeper.check_judge import judge_tree
    from neti.registry.zookeeper.probe import Place

    for code in accept:
        if code not in look.CODES:
            raise click.UsageError(
                f"--accept {code!r}: expected one of {', '.join(look.CODES)} (faults cannot be "
                "accepted)"
            )
    settings = load(config)
    files, site = settings.registry_tls, site_of(settings)
    places = [Place.of(text) for text in servers(settings, site)]
    found: list[Finding] = []
    if files is None:
        found.append(
            look.Finding("warning", "registry_tls", f"is not configured: {_OPEN}", "no-tls")
        )
    else:
        from neti.registry.zookeeper.expiry import expiry_problems

        found += [
            look.Finding("warning", "this host", sentence, "certificate")
            for sentence in expiry_problems(files, time.time())
        ]
    members, layout = 0, None
    seconds = OPERATORS_SECONDS if files else 20.0
    registry = open_zookeeper(settings, site, timeout=seconds)
    try:
        with waiting(seconds, "this command says so", who=THE_REGISTRY, why=registry.in_the_way):
            tree = registry.inspect(
                lambda attempt, layout: check_tree.look_at_tree(attempt, layout, time.time)
            )
        members, layout = len(tree.by_id), tree.layout
        found += judge_tree(tree, secure=files is not None)
        for setting, why in illegible(registry.setting):
            what, _, then = why.partition("\n→ ")
            where = tree.layout.setting(setting)
            found.append(look.Finding("fault", where, what, "setting", then=then))
        with suppress(NetiError):  # of a tree that is missing, or that nobody may read
            found += [
                look.Finding("warning", "names", sentence, "contested-name")
                for sentence in contested_names(settings, registry)
            ]
            found += [
                look.Finding("warning", "names", sentence, "name-of-nobody", then=then)
                for sentence, then in leading_nowhere(registry)
            ]
    except NetiError as error:
        what, _, then = str(error).partition("\n→ ")
        found.append(look.Finding("fault", "registry", what, "unanswered", then=then))
    finally:
        registry.close()
    for place in places:
        found += check_servers.look_at_server(
            place,
            files,
            plain_port=plain_port,
            members=members,
            now=time.time(),
            layout=layout,
        )
    found = look.joined(look.accepted(found, accept))
    _print_findings(found, as_json)
    if any(one.severity != "note" for one in found):
        sys.exit(1)


def _print_findings(found: "list[Finding]", as_json: bool) -> None:
    from neti.registry.zookeeper import finding
    from neti.registry.zookeeper.layout import spelled

    if as_json:
        findings = [
            {
                "severity": one.severity,
                "where": one.where,
                "what": one.sentence,
                "code": one.code or None,
                "then": one.command() or None,
                "nodes": [spelled(path) for path in one.nodes],
            }
            for one in found
        ]
        numbers = {f"{word}s": number for word, number in finding.counts(found).items()}
        print_json({"findings": findings, **numbers})
        return
    for one, more in finding.shown(found):
        code = f"  [{one.code}]" if one.code and one.severity == "warning" else ""
        say(f"{one.severity:<8} {printable(one.where)}: {one.sentence}{code}")
        if command := one.command():
            say(f"         → {command}")
        if more:
            say(f"         and {more} more like this: --json lists them all")
    say(finding.summary(found))
