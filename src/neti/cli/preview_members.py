"""The part of ``neti preview`` about members that ``member_ports`` keep out, or would, in words."""

from collections.abc import Iterator, Mapping
from typing import Final

from neti.cli.preview_words import count, sockets, span
from neti.monitoring.preview import KeptMember, KeptOut, KeptPort
from neti.stage.stages import GROUPS_MISSING

_WAITS: Final[Mapping[str, str]] = {
    "waiting": "Members that member_ports would keep out. Nobody is kept out yet: 'neti enforce' "
    "puts that on trial",
    "in force": "Members that member_ports would keep out",
    "trial": "Members that member_ports keep out, on trial",
}


def lines(kept: KeptOut, now: float) -> Iterator[str]:
    if not kept.groups_known:
        yield from ("", f"Members: {GROUPS_MISSING}.")
        return
    waiting = [row for row in kept.ports if row.waits]
    refused = [row for row in kept.ports if not row.waits]
    if waiting or kept.state != "in force":
        yield from ("", f"{_WAITS[kept.state]}:")
        yield from _rows(waiting, now)
    if refused or kept.state == "in force":
        yield from ("", "Members that member_ports keep out:")
        yield from _rows(refused, now)
    if kept.more:
        yield f"  and {kept.more:,} more, where nothing listens or fewer members came"
    if waiting:
        yield (
            "  Each line is the whole key of neti.yml, and lets in that port's members alone. "
            "'neti preview --suggest' prints the smallest member_ports that let all of them in."
        )


def _rows(rows: list[KeptPort], now: float) -> Iterator[str]:
    if not rows:
        yield "  nobody has been seen"
    for row in rows:
        yield from _row(row, now)


def _row(row: KeptPort, now: float) -> Iterator[str]:
    name = f"{row.port}/{row.protocol}" if row.port else row.protocol
    heard = ", ".join(sockets(row.listeners))
    listens = heard or ("forwarded to a container" if row.answered else "nothing listens")
    yield f"  {name:<11} {listens}{'   (accepted as lost)' if row.accepted else ''}"
    times = f"first {span(now - row.first)} ago, last {span(now - row.last)} ago"
    counts = f"{count(row.packets, 'packet')} from {count(row.members, 'member')}"
    yield f"              {counts}, {times}"
    for one in row.top:
        yield f"                {_member(one, now)}"
    if row.members > len({one.id for one in row.top}):
        yield f"                and {row.members - len({one.id for one in row.top}):,} more"
    yield from (f"              {command}" for command in row.commands)
    if row.line is not None:
        yield f"              {row.line}"
    else:
        yield "              only groups of 'all' reach what has no ports"


def _member(one: KeptMember, now: float) -> str:
    groups = f"in {', '.join(one.groups)}" if one.groups else "in no group"
    last = f"last {span(now - one.last)} ago"
    return f"{one.id} ({one.address}), {groups}: {count(one.packets, 'packet')}, {last}"
