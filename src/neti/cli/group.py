"""``neti group``: which members are in which group, by operators' word."""

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from neti.cli.common import (
    config_option,
    json_option,
    refuse_unknown_site,
    registry_of,
    settings_in_force,
)
from neti.cli.ending import if_interrupted
from neti.cli.group_words import document, doubtful, of_line, of_stale, shown
from neti.cli.menu import Group
from neti.cli.output import explain, print_json, say
from neti.cli.watching import watchable
from neti.config import load
from neti.errors import NetiError
from neti.fleet import group_edits
from neti.host import caller
from neti.model.groups import EVERY_MEMBER
from neti.oneshot import grouping
from neti.oneshot.grouping import Changed, Edit, Seen
from neti.text import printable
from neti.words import counted, some

_UNKNOWN: Final = "whether it was changed is not known\n→ neti group list"
_UNITS: Final = {"m": 60, "h": 3600, "d": 86_400}
_SPAN: Final = re.compile(r"([1-9][0-9]{0,3})([mhd])", re.ASCII)


def _when(ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
    """Unix seconds."""
    if text is None:
        return None
    now = time.time()
    if span := _SPAN.fullmatch(text):
        return float(int(now) + int(span[1]) * _UNITS[span[2]])
    try:
        read = datetime.fromisoformat(text)
        until = (read if read.tzinfo is not None else read.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{printable(text)!r}: expected minutes, hours or days, such as 30m, 2h or 1d, or a "
            "time (UTC), such as 2026-12-01T18:00",
            ctx,
            param,
        ) from None
    if until <= now:
        raise click.BadParameter(f"{printable(text)!r}: is over already", ctx, param)
    return until


_words = click.argument("words", metavar="ID|PATTERN|SUBJECT...", nargs=-1, required=True)
_of_site = click.option("--site", metavar="SITE", help="Only members of this site.")
_until = click.option(
    "--until", callback=_when, metavar="WHEN", help="End then: 30m, 2h, 1d, or a time (UTC)."
)
_dry_run = click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
_shrink = click.option(
    "--shrink", is_flag=True, help="Take many out, or have every agent follow whatever it followed."
)


@click.group(cls=Group)
def group() -> None:
    """Say which members are in which group.

    Groups stand in the registry, where only operators may write, and every agent follows them at
    once. 'member_ports' in a host's neti.yml says which groups reach which of its ports.
    """


@group.command("set")
@click.argument("name", metavar="GROUP")
@click.argument("words", metavar="[ID|PATTERN|SUBJECT]...", nargs=-1)
@config_option
@json_option
@_of_site
@_until
@_dry_run
@_shrink
@if_interrupted(_UNKNOWN)
def set_group(
    name: str, words: tuple[str, ...], site: str | None, until: float | None, **common: Any
) -> None:
    """Define a group: these hosts are in it, and no others.

    A pattern is an id with '*' (any characters) or '?' (one) in it; quote it for the shell. It is
    refused where anybody with a certificate may begin a host under an id of their choice. Without
    any id nobody is in the group.

    A word with '=' is the subject of certificates, and may have '*' and '?' as well. It takes in
    the ids that operators admitted for such a one, now and later. 'neti group show' lists them.

    What takes more than half of a group of five or more out needs --shrink, because agents do not
    follow it otherwise. With it, they follow this even if what they followed was in another
    registry, or in a later copy of this one.

    'neti group show' prints the lines that it has now: keep them for the way back.

    \b
    Example:
      neti group set db 'db-*' i-0abc --site vpc
      neti group set db 'CN=*,OU=db'
    """
    lines = group_edits.checked_lines(words, site or "", until)
    _change(name, lambda groups: group_edits.with_set(groups, name, lines), site=site, **common)


@group.command()
@click.argument("name", metavar="GROUP")
@_words
@config_option
@json_option
@_of_site
@_until
@_dry_run
@_shrink
@if_interrupted(_UNKNOWN)
def add(
    name: str, words: tuple[str, ...], site: str | None, until: float | None, **common: Any
) -> None:
    """Add hosts to a group, perhaps until a certain time.

    One that is there already gets this end, or none.

    \b
    Example:
      neti group add db i-0def --until 2h
    """
    lines = group_edits.checked_lines(words, site or "", until)
    _change(name, lambda groups: group_edits.with_added(groups, name, lines), site=site, **common)


@group.command()
@click.argument("name", metavar="GROUP")
@_words
@config_option
@json_option
@click.option("--site", metavar="SITE", help="Only the line of this site.")
@_dry_run
@_shrink
@if_interrupted(_UNKNOWN)
def remove(name: str, words: tuple[str, ...], site: str | None, **common: Any) -> None:
    """Take ids, patterns or subjects out of a group.

    They are spelled as 'neti group show' lists them.

    \b
    Example:
      neti group remove db i-0def
    """
    _change(name, lambda groups: group_edits.with_removed(groups, name, words, site), **common)


@group.command()
@click.argument("name", metavar="GROUP")
@config_option
@json_option
@_dry_run
@_shrink
@if_interrupted(_UNKNOWN)
def delete(name: str, **common: Any) -> None:
    """Delete a group.

    A host whose 'member_ports' names it says so, and lets nobody in by it. 'neti group show' prints
    its lines: keep them for the way back.

    \b
    Example:
      neti group delete db
    """
    _change(name, lambda groups: group_edits.with_deleted(groups, name), **common)


def _change(
    name: str,
    edit: Edit,
    *,
    config: Path,
    as_json: bool,
    dry_run: bool,
    shrink: bool,
    site: str | None = None,
) -> None:
    group_edits.checked_name(name)
    settings = load(config)
    refuse_unknown_site(site, settings.sites)
    with registry_of(settings) as registry:
        done = grouping.change(
            settings, registry, name, edit, now=time.time(), shrink=shrink, dry_run=dry_run
        )
    edition = done.after.groups.edition
    if done.changed and not dry_run:
        caller.note(
            "group", group=name, edition=edition, joins=len(done.joins), leaves=len(done.leaves)
        )
    if as_json:
        print_json(
            {
                **document(done.after, name),
                "edition": edition,
                "changed": done.changed and not dry_run,
                "dry_run": dry_run,
                "joins": list(done.joins),
                "leaves": list(done.leaves),
                "unheard_of": list(done.unheard_of),
                "unsure": done.after.unsure or None,
            }
        )
        return
    _say_changed(name, done, dry_run)


def _say_changed(name: str, done: Changed, dry_run: bool) -> None:
    seen = done.after
    if not done.changed:
        say("nothing to change")
    elif dry_run:
        say("nothing was changed; this would be:")
    if name in seen.groups.lines:
        say(f"group {name}: {counted(len(seen.who[name]), 'member')} of those registered")
    else:
        say(f"no group is called {name} any more: where member_ports names it, it lets nobody in")
    if done.joins:
        say(f"in it from now on: {some(done.joins)}")
    if done.leaves:
        say(
            f"not in it any more: {some(done.leaves)}",
            "where member_ports admits the group, they can begin no connection by it any more; "
            "those that they have go on",
        )
    if done.unheard_of:
        explain(
            f"nobody is registered as {some(done.unheard_of)}, and no operator admitted one: a "
            "typo? Or its host is still to come, or gone for good"
        )
    if seen.unsure:
        explain(seen.unsure)


@group.command("list")
@config_option
@json_option
@watchable(5)
def list_groups(config: Path, as_json: bool) -> None:
    """List the groups, with how many registered members are in each.

    Ids that nobody has, and patterns that fit nobody, are counted: they may be typos.
    """
    seen = _seen(config)
    if as_json:
        every = [document(seen, name) for name in sorted(seen.groups.lines)]
        print_json({"edition": seen.groups.edition, "groups": every})
        return
    width = max(map(len, seen.groups.lines), default=0)
    for name, ids in seen.who.items():
        said = counted(len(ids), "member")
        lines = counted(len(shown(seen.groups.lines[name])), "line")
        say(f"{name:<{width}}  {said:<11}  {lines}{doubtful(seen, name)}")
    say(counted(len(seen.who), "group"))


@group.command()
@click.argument("name", metavar="GROUP")
@config_option
@json_option
def show(name: str, config: Path, as_json: bool) -> None:
    """Show the lines of a group, whom each takes in, and its members.

    An id that nobody has, because no host was ever registered under it or its lease was released,
    is named as that, and so is a pattern that fits nobody.
    """
    if name == EVERY_MEMBER:
        raise NetiError(f"group {name} is every member, and has no lines\n→ neti fleet")
    seen = _seen(config, name)
    if name not in seen.groups.lines:
        there = f"there are {some(seen.groups.lines.keys())}" if seen.who else "there are none"
        raise NetiError(f"no group is called {printable(name)}; {there}\n→ neti group list")
    if as_json:
        print_json({"edition": seen.groups.edition, **document(seen, name)})
        return
    for line, taken in zip(seen.groups.lines[name], seen.taken_in[name], strict=True):
        if not line.by:
            say(of_line(seen, line, taken))
    say(*of_stale(seen, name))
    ids = seen.who[name]
    say(f"{counted(len(ids), 'member')}: {some(ids)}" if ids else "0 members")


def _seen(config: Path, name: str | None = None) -> Seen:
    settings = settings_in_force(config)
    with registry_of(settings) as registry:
        return grouping.look(settings, registry, time.time(), name)
