"""``neti registry admission``: whether a new host needs an operator's word."""

from collections.abc import Sequence
from pathlib import Path

import click

from neti.cli.common import config_option, json_option, waiting_for, zookeeper_opened
from neti.cli.ending import if_interrupted
from neti.cli.output import explain, print_json, say
from neti.config import load
from neti.errors import NetiError
from neti.host import caller
from neti.oneshot.admission import anybodys, without_record
from neti.registry import OperatorRegistry
from neti.registry.groups import GroupsUnreadable
from neti.words import counted, some


@click.command()
@click.argument("word", metavar="[on|off]", type=click.Choice(["on", "off"]), required=False)
@config_option
@json_option
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@click.option(
    "--anyway",
    is_flag=True,
    help="Turn it on even if hosts would be kept out, or off even if anybody could be in a group.",
)
@if_interrupted("if it was to change, whether it has is not known\n→ neti registry admission")
def admission(word: str | None, config: Path, as_json: bool, dry_run: bool, anyway: bool) -> None:
    """Say whether a new host needs an operator's word.

    Without an argument it shows what is the case. Turned on, only ids that have a record can
    register, and only operators make records ('neti registry admit'). Turned off, the first
    certificate that registers under a new id has it from then on.

    It is not turned on while a host holds a lease and has no record, because that host could not
    register any more. Such hosts are named. It is not turned off while a group has patterns, or
    ids without an owner, because whoever has a certificate could begin such a host; nor while the
    groups cannot be read.

    \b
    Example, with an operator's certificate in the configuration:
      neti registry admission on -c operator.yml
    """
    if anyway and word is None:
        raise click.UsageError("--anyway belongs to 'admission on' and 'admission off'")
    from neti.registry.zookeeper import admission as work

    with zookeeper_opened(load(config)) as registry:
        with waiting_for(registry):
            before, interrupted = registry.inspect(
                lambda attempt, layout: (
                    work.needs_admission(attempt, layout),
                    work.unfinished(attempt, layout),
                )
            )
            missing = without_record(registry)
            asked = word == "off" and before and not anyway
            free = _anybodys(registry) if asked else {}
        changes = word is not None and before != (word == "on")
        if word == "off" and interrupted:
            raise NetiError(work.INTERRUPTED)
        if free:
            listed = (f"{name}: {some(words)}" for name, words in free.items())
            raise NetiError(
                "admission was not turned off, because groups have patterns, or ids without an "
                f"owner ({'; '.join(listed)}): whoever has a certificate could begin a host of "
                "such an id, and be in the group\n"
                "→ neti group remove GROUP PATTERN…, and name ids in its place\n"
                "→ neti registry admit ID SUBJECT, or neti group remove GROUP ID…\n"
                "→ neti registry admission off --anyway"
            )
        if word == "on" and changes and missing and not anyway:
            raise NetiError(
                f"admission was not turned on, because {_hold(missing)} and could not register any "
                f"more: {some(missing)}\n"
                "→ neti registry init makes the record of each, for its lease's owner\n"
                "→ neti registry admit ID SUBJECT\n"
                "→ neti lease release ID, if a host is gone for good"
            )
        if changes and not dry_run:
            registry.operate(lambda attempt, layout: work.change(attempt, layout, on=word == "on"))
            caller.note("registry admission", word=word, without_record=len(missing))
    now = before != (changes and not dry_run)
    if as_json:
        print_json(
            {
                "admission": now,
                "interrupted": interrupted and not now,
                "changed": changes and not dry_run,
                "dry_run": dry_run,
                "without_record": missing,
            }
        )
        return
    if changes and dry_run:
        say(f"admission would be turned {word}; nothing was changed")
    elif word is not None and not changes:
        say("nothing to change")
    if now:
        say("admission is on: only ids that an operator has admitted can register.")
        kept_out = f"{_hold(missing)} and cannot register: {some(missing)}."
        say(kept_out if missing else "Everybody who holds a lease is admitted.")
    elif interrupted:
        say("admission is off, and only operators can begin a host all the same for now.")
        explain(work.INTERRUPTED)
    else:
        say(
            "admission is off: the first certificate that registers under a new id has it.",
            "An id that has a record can be registered only by the certificate that it belongs to.",
        )


def _anybodys(registry: OperatorRegistry) -> dict[str, list[str]]:
    try:
        return anybodys(registry)
    except GroupsUnreadable as error:
        raise NetiError(
            f"admission was not turned off, because who could be in a group then is not known: "
            f"{error}\n→ neti registry admission off --anyway"
        ) from error


def _hold(missing: Sequence[str]) -> str:
    hold = "holds a lease and has" if len(missing) == 1 else "hold a lease and have"
    return f"{counted(len(missing), 'host')} {hold} no record"
