"""``neti leftovers``: who on this host still calls members by their real addresses."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from neti.cli.asking import ask
from neti.cli.common import agent_folder, config_option, json_option, unknown_member
from neti.cli.output import print_json, say
from neti.cli.preview_words import count, span
from neti.cli.watching import watchable
from neti.host.cgroups import unit_of
from neti.model.document import plain
from neti.monitoring.leftovers import Leftover, Leftovers, leftovers_of
from neti.oneshot.leftovers import seen
from neti.stage.leftovers import GROUP_ENDED

_ACROSS: Final = "  → "


@click.command()
@config_option
@json_option
@click.option("--to", metavar="ID", help="Only who calls this member, by its id or address.")
@watchable(5)
def leftovers(config: Path, as_json: bool, to: str | None) -> None:
    """Show programs here that still use members' real addresses.

    Such a program breaks when the member moves. Each line says who calls (the unit or container,
    the user, and while a connection is open the process, if root asks), whom, by which address, how
    often and when last; and the overlay address to use instead. The kernel notes each new
    connection, so a client that lives for a moment is named too. Entries are kept for 14 days.

    Without the agent it shows what the agent last wrote to disk.

    'neti fleet leftovers' shows from which hosts members are called, from one place.

    \b
    Examples:
      neti leftovers
      neti leftovers --to db-1
    """
    found = seen(
        agent_folder(config),
        lambda folder: leftovers_of(
            ask(folder, "leftovers", then="'neti leftovers' shows what is on disk", to=to)
        ),
    )
    if found.unknown:
        raise unknown_member(to)
    if to is not None:
        rows = tuple(row for row in found.rows if to in (row.member, row.address, row.overlay))
        found = replace(found, rows=rows)
    if as_json:
        print_json(plain(found))
    else:
        say(*lines(found, to))


def lines(found: Leftovers, to: str | None = None) -> Iterator[str]:
    whom = "members" if to is None else to
    recorded = f"recorded for {span(found.now - found.since)}"
    if found.rows:
        yield f"{count(len(found.rows), 'use')} of real addresses of {whom} ({recorded})"
    else:
        yield f"Nothing here uses a real address of {whom} ({recorded})"
    callers: dict[str, list[Leftover]] = {}
    for row in found.rows:
        callers.setdefault(_caller(row), []).append(row)
    for caller, rows in callers.items():
        yield ""
        yield caller
        yield from (_ACROSS + _called(row, found.now) for row in rows)
    if not found.agent:
        yield ""
        yield "The agent does not answer: this is what it last wrote to disk."
    if found.missed:
        missed = count(found.missed, "connection")
        yield f"{missed} found no room in the kernel's record: there may be more programs."
    yield from found.faults
    if to is None and found.now - found.since < 86_400:
        yield "Less than a day is recorded: a daily job may not have run yet."


def _caller(row: Leftover) -> str:
    if row.container is not None:
        return f"container {row.container}"
    user = row.user if row.user is not None else f"number {row.uid}"
    if row.group == GROUP_ENDED:
        return f"a unit or session that has ended, of user {user}"
    unit = unit_of(row.group)
    return f"{unit}, of user {user}" if unit else f"a program of user {user}"


def _called(row: Leftover, now: float) -> str:
    who = f" by {', '.join(row.processes)}" if row.processes else ""
    ago = f"last {span(max(0.0, now - row.last))} ago"
    instead = f"use {row.overlay}" if row.overlay is not None else "it is no member now"
    return (
        f"{row.member} at {row.address}, {row.port}/{row.protocol}: "
        f"{count(row.calls, 'connection')}{who}, {ago}: {instead}"
    )
