"""``neti registry strict``: whether agents believe only what a host's own record names."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from neti.cli.common import config_option, json_option, waiting_for, zookeeper_opened
from neti.cli.ending import if_interrupted
from neti.cli.output import consent, explain, print_json, say
from neti.config import load
from neti.errors import NetiError
from neti.host import caller
from neti.oneshot import strict as work
from neti.oneshot.strict import Standing
from neti.text import printable
from neti.words import and_more, counted, some

if TYPE_CHECKING:
    from neti.fleet.unvouched import Unvouched
    from neti.registry.zookeeper.layout import Layout

_SHOWN: Final = 20
_OFF_MEANS: Final = (
    "Turn strict off for the whole fleet? Then the certificate of any one host is enough again to "
    "speak for every other host: to take its overlay address, to give it another WireGuard key, or "
    "to say that it has left. Where encryption is in force it stays so, between hosts that could "
    "then be any host's; 'neti enforce' does not begin to require it until strict is on again."
)


@click.command()
@click.argument("word", metavar="[on|off]", type=click.Choice(["on", "off"]), required=False)
@config_option
@json_option
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@click.option(
    "--anyway",
    is_flag=True,
    help="On even if hosts are not vouched for; off even if hosts require encryption.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@if_interrupted("if it was to change, whether it has is not known\n→ neti registry strict")
def strict(
    word: str | None, config: Path, as_json: bool, dry_run: bool, anyway: bool, yes: bool
) -> None:
    """Say that only a host's own record speaks for it.

    Without an argument it shows what is the case. Turned on, agents believe an entry or a goodbye
    only if the host's own record names it. In a tree with access rights only the host's certificate
    can write that record. Agents keep this on their disks, so a registry that was wiped, or
    restored from an older copy, does not end it.

    It is not turned on while a registered host would not be believed any more: one with an agent of
    version 0.1.0, for example. Nor is it turned off while a registered host requires encryption,
    which relies on it. Such hosts are named.

    \b
    Examples, with an operator's certificate in the configuration:
      neti registry strict
      neti registry strict on -c operator.yml --dry-run
      neti registry strict on -c operator.yml
    """
    if anyway and word is None:
        raise click.UsageError("--anyway belongs to 'strict on' and 'strict off'")
    settings = load(config)
    with zookeeper_opened(settings) as registry:
        with waiting_for(registry):
            from neti.registry.zookeeper.admission import has_rights

            closed, layout = registry.inspect(
                lambda attempt, layout: (has_rights(attempt, layout), layout)
            )
            standing = work.look(settings, registry)
        changes = word == "off" or (word == "on" and not standing.on)
        if word == "on" and changes:
            _refuse_without_rights(closed)
            if standing.unvouched and not anyway:
                raise NetiError(_in_the_way(standing.unvouched, layout))
        if word == "off" and standing.on and standing.requiring and not anyway:
            raise NetiError(_relies_on_it(standing.requiring))
        if word == "off" and not dry_run:
            consent(_OFF_MEANS, yes=yes)
        said = standing.said
        if changes and not dry_run:
            said = work.say(registry, on=word == "on", clock=time.time)
            caller.note("registry strict", word=word, anyway=anyway)
    done = changes and not dry_run
    now = replace(standing, said=said)
    if as_json:
        print_json({**_document(now, closed=closed), "changed": done, "dry_run": dry_run})
        return
    if changes and dry_run:
        say(f"strict would be turned {word}; nothing was changed")
    elif word is not None and not changes:
        say("nothing to change")
    for line in _what_is(now, closed=closed):
        say(line)
    if now.unvouched and word is None:
        explain(_in_the_way(now.unvouched, layout))


def _what_is(now: Standing, *, closed: bool) -> list[str]:
    """Two sentences: what is the case, and what follows."""
    of = f"{len(now.unvouched)} of {counted(now.members, 'registered host')}"
    if now.on:
        since = now.said.since if now.said is not None else ""
        follows = (
            f"{of} {'is' if len(now.unvouched) == 1 else 'are'} not believed, because no record "
            "names their entries."
            if now.unvouched
            else f"The records of all {counted(now.members, 'registered host')} name their entries."
        )
        return [
            f"strict is on since {since}: agents believe only what a host's own record names.",
            follows,
        ]
    since = f" since {now.said.since}" if now.said is not None else ""
    first = f"strict is off{since}: agents believe entries and goodbyes whoever wrote them."
    if not closed:
        then = "anybody could write them, so strict cannot be turned on."
        return [first, f"This tree has no access rights for records: {then}"]
    if now.requiring:
        require = "requires" if len(now.requiring) == 1 else "require"
        hosts = f"{counted(len(now.requiring), 'host')} {require} encryption"
        first = f"{first} {hosts}, with keys that may be another's."
    if now.unvouched:
        return [first, f"{of} would not be believed if it were on."]
    return [
        first,
        f"All {counted(now.members, 'registered host')} would still be believed if it were on.",
    ]


def _refuse_without_rights(closed: bool) -> None:
    if not closed:
        raise NetiError(
            "strict was not turned on, because this tree has no access rights for hosts' records: "
            "anybody could write them, so they prove nothing\n"
            "→ configure registry_tls, on all hosts and here\n"
            "→ neti registry init, with an operator's certificate"
        )


def _relies_on_it(requiring: tuple[str, ...]) -> str:
    hosts = counted(len(requiring), "registered host")
    require = "requires" if len(requiring) == 1 else "require"
    return (
        f"strict was not turned off, because {hosts} {require} encryption "
        f"({some(tuple(map(printable, requiring)), _SHOWN)}): without strict the certificate of "
        "any one host is enough to give a member another key, and to be taken for it\n"
        "→ encrypt: prefer in neti.yml on all hosts and 'neti reload' first\n"
        "→ 'neti registry strict off --anyway', if that is meant"
    )


def _in_the_way(found: "tuple[Unvouched, ...]", layout: "Layout") -> str:
    from neti.registry.zookeeper.layout import spelled

    lines = [
        f"  {printable(one.id)}: {spelled(layout.name(one.name))} "
        + ("is not the entry that its record names" if one.recorded else "has no record")
        for one in found[:_SHOWN]
    ]
    more = f"\n {and_more(len(found) - _SHOWN)}" if len(found) > _SHOWN else ""
    hosts = counted(len(found), "registered host")
    return (
        f"strict is not for this fleet yet: no record vouches for {hosts}, which agents would not "
        "believe any more:\n" + "\n".join(lines) + more + "\n"
        "→ upgrade the agents of version 0.1.0 ('neti fleet' shows versions); each registers with "
        "a record when it starts\n"
        "→ restart the agent of a host that runs a later version already\n"
        "→ neti registry remove NODE, if an entry is forged"
    )


def _document(now: Standing, *, closed: bool) -> dict[str, Any]:
    return {
        "strict": now.on,
        "since": now.said.since if now.said is not None else None,
        "rights": closed,
        "hosts": now.members,
        "requiring_encryption": list(now.requiring),
        "not_vouched": [
            {"id": one.id, "entry": one.name, "record": one.recorded} for one in now.unvouched
        ],
    }
