"""``neti leftovers``: who on this host still calls members by their real addresses."""

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from neti.cli.asking import ask
from neti.cli.common import agent_folder, config_option, fleet_seen, json_option, settings_in_force
from neti.cli.output import print_json, say
from neti.cli.preview_words import count, span
from neti.cli.watching import watchable
from neti.errors import NetiError
from neti.host.cgroups import unit_of
from neti.model.document import plain
from neti.monitoring.leftovers import Leftover, Leftovers, leftovers_of
from neti.oneshot.leftovers import seen
from neti.registry.detail import Document
from neti.stage.leftovers import GROUP_ENDED
from neti.words import counted, some

if TYPE_CHECKING:
    from neti.oneshot.registered import Seen

_ACROSS: Final = "  → "


@click.command()
@config_option
@json_option
@click.option("--to", metavar="ID", help="Only who calls this member, by its id or address.")
@click.option("--fleet", "everywhere", is_flag=True, help="Of all hosts, as they last said.")
@watchable(5)
def leftovers(config: Path, as_json: bool, to: str | None, everywhere: bool) -> None:
    """Show programs here that still use members' real addresses.

    Such a program breaks when the member moves. Each line says who calls (the unit or container,
    the user, and while a connection is open the process, if root asks), whom, by which address, how
    often and when last; and the overlay address to use instead. The kernel notes each new
    connection, so a client that lives for a moment is named too. Entries are kept for 14 days.

    Without the agent it shows what the agent last wrote to disk.

    With --fleet it shows from which hosts members are called, as each host wrote it into the
    registry within the last ten minutes; on such a host, 'neti leftovers' says which program it is.

    \b
    Examples:
      neti leftovers
      neti leftovers --fleet --to db-1
    """
    if everywhere:
        _of_fleet(fleet_seen(settings_in_force(config)), to, as_json)
        return
    found = seen(
        agent_folder(config),
        lambda folder: leftovers_of(
            ask(folder, "leftovers", then="'neti leftovers' shows what is on disk", to=to)
        ),
    )
    if found.unknown:
        raise _unknown(to)
    if to is not None:
        rows = tuple(row for row in found.rows if to in (row.member, row.address, row.overlay))
        found = replace(found, rows=rows)
    if as_json:
        print_json(plain(found))
    else:
        say(*lines(found, to))


def _of_fleet(seen: "Seen", to: str | None, as_json: bool) -> None:
    """By whom each member is called, the latest first. Raises NetiError where nobody was heard:
    that nobody says it calls a member would pass for an answer."""
    if seen.unanswered is not None:
        raise NetiError(
            "what hosts call stands in the registry, which does not answer\n"
            "→ 'neti leftovers' on each host shows its own part"
        )
    if to is not None:
        to = _id_of(seen, to)
    calls = [
        {"from": host_id, **asdict(one)}
        for host_id, told in seen.told.items()
        for one in (told.left or ())
        if to in (None, one.to)
    ]
    calls.sort(key=lambda call: (call["to"], -call["last"], call["from"]))
    silent = sorted(host for host in seen.members if seen.told.get(host, Document()).left is None)
    cut = {host: told.left_more for host, told in seen.told.items() if told.left_more}
    if as_json:
        print_json({"calls": calls, "silent": silent, "cut": cut})
        return
    whom = "members" if to is None else to
    if not calls:
        say(f"No host says that it calls a real address of {whom}")
    for called in dict.fromkeys(call["to"] for call in calls):
        say(f"{called} is called by its real address")
        say(*(_from(call, time.time()) for call in calls if call["to"] == called))
    if cut:
        hosts = some([f"{host} ({more} more)" for host, more in sorted(cut.items())])
        say(f"More than they have room to say is called from: {hosts}", "→ 'neti leftovers' there")
    if silent:
        say(f"{counted(len(silent), 'host does', 'hosts do')} not say: {some(silent)}")
    if seen.in_part:
        say("What reports say is for operators only", "→ an operator's certificate in registry_tls")


def _id_of(seen: "Seen", to: str) -> str:
    """Of a member by its id or one of its addresses; an id that was one counts too."""
    called = {one.to for told in seen.told.values() for one in told.left or ()}
    if to in {*seen.members, *seen.leases.values(), *called}:
        return to
    for member in seen.members.values():
        if to in map(str, (member.private, member.public, member.overlay, *member.more)):
            return member.id
    raise _unknown(to)


def _unknown(to: str | None) -> NetiError:
    return NetiError(
        f"no member has the id or the address {to}\n→ 'neti fleet' lists them with their addresses"
    )


def _from(call: dict[str, Any], now: float) -> str:
    ago = span(max(0.0, now - call["last"]))
    calls = count(call["calls"], "connection")
    return f"  from {call['from']}, {call['port']}: {calls}, last {ago} ago"


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
