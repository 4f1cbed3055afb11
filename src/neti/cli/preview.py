"""``neti preview``: what ``reject_all`` would refuse, the port that matters on top."""

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import click

from neti.cli import preview_members
from neti.cli.asking import ask
from neti.cli.common import agent_folder, config_option, json_option, settings_in_force
from neti.cli.output import print_json, say
from neti.cli.preview_words import count, sockets, span
from neti.cli.watching import watchable
from neti.errors import NetiError
from neti.model.document import plain
from neti.monitoring.preview import Preview, Source, Wanted, preview_of
from neti.oneshot.preview import accept, seen
from neti.stage import excepted
from neti.stage.in_the_clear import InTheClear
from neti.stage.shadow import Port, parse_port
from neti.stage.stages import GROUPS_MISSING

_NEAR: Final = {"site": "in this site", "private": "a private address", "internet": "the internet"}
_HEADINGS: Final = {
    "used": "In use: enforcing would break these",
    "heard": "A service listens, but only passers-by have tried it",
    "missed": "Nothing listens now, but somebody keeps trying",
    "noise": "Background noise",
}


def _ports(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> list[Port]:
    try:
        return [parse_port(text) for text in texts]
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@config_option
@json_option
@click.option("--all", "everything", is_flag=True, help="List the background noise too.")
@click.option(
    "--accept-losing",
    metavar="PORT/PROTO",
    multiple=True,
    callback=_ports,
    help="You accept losing this port: it no longer blocks a trial. Repeatable.",
)
@click.option(
    "--suggest",
    is_flag=True,
    help="Print only the smallest member_ports that fit what members have used.",
)
@click.option(
    "--take-back",
    metavar="PORT/PROTO",
    multiple=True,
    callback=_ports,
    help="Take --accept-losing of this port back. Repeatable.",
)
@click.option("--forget-accepted", is_flag=True, help="Take back every --accept-losing.")
@watchable(2)
def preview(
    config: Path,
    as_json: bool,
    everything: bool,
    accept_losing: list[Port],
    suggest: bool,
    take_back: list[Port],
    forget_accepted: bool,
) -> None:
    """Show who comes here that reject_all would refuse.

    For each port: what listens there, who uses it, and the line of open_ports that would let them
    in, with what is open already. The port that would hurt most comes first; the internet's
    background noise is one line at the end. Entries are kept for 14 days, across restarts. Without
    the agent it shows what the agent last wrote to disk.

    Where a site says encrypt: require, it also lists what still goes in the clear: members without
    a key or an answer through the tunnel, and connections that pass it by.

    Where neti.yml has member_ports, it also lists the members that they would keep out, or do: of
    which port, in which groups they are, and the line that would let them in.

    \b
    Examples:
      neti preview
      neti preview --watch
      neti preview --accept-losing 8080/tcp --accept-losing 53/udp
      neti preview --suggest
    """
    if accept_losing or take_back or forget_accepted:
        folder = agent_folder(config)
        names = accept(folder, accept_losing, back=take_back, forget=forget_accepted)
        print_accepted(names, as_json)
        return
    if suggest:
        _suggest(_seen(config, everything=False), as_json)
        return
    show(_seen(config, everything=everything), as_json)


def show(shown: Preview, as_json: bool) -> None:
    if as_json:
        print_json(plain(shown))
    else:
        say(*lines(shown))


def _seen(config: Path, *, everything: bool) -> Preview:
    return seen(
        agent_folder(config),
        partial(settings_in_force, config),
        lambda folder: preview_of(
            ask(folder, "preview", then="'neti preview' shows what is on disk", all=everything)
        ),
        everything=everything,
    )


def print_accepted(names: list[str], as_json: bool) -> None:
    if as_json:
        print_json({"accepted": names})
    else:
        say(f"accepted as lost: {', '.join(names) or 'nothing'}")


def _suggest(shown: Preview, as_json: bool) -> None:
    """What can be pasted. The commands are comments."""
    kept = shown.kept_out
    if kept is None:
        raise NetiError(
            "nothing is recorded of what members use"
            + (
                ", because neti.yml has no member_ports\n→ write 'member_ports: {all: [ops]}', "
                "'neti reload', and ask again after a week: until 'neti enforce' nobody is kept out"
                if shown.agent
                else " that could be looked at without the agent\n→ systemctl start neti"
            )
        )
    if not kept.groups_known:
        raise NetiError(f"nothing can be suggested: {GROUPS_MISSING}")
    if as_json:
        print_json({"member_ports": kept.suggestion, "commands": kept.commands})
    else:
        say(*(f"# {command}" for command in kept.commands), *kept.suggestion)


# --- text ---


def lines(shown: Preview) -> Iterator[str]:
    now = shown.now
    yield from _stage(shown)
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(shown.since))
    yield f"Recorded since {began} ({span(now - shown.since)}); each entry is kept 14 days."
    yield from (f"problem: {fault}" for fault in shown.faults)
    yield from (f"note: {note}" for note in shown.notes)
    if shown.clear is not None:
        yield from _clear(shown.clear)
    if shown.kept_out is not None:
        yield from preview_members.lines(shown.kept_out, now)
    if not shown.ports:
        what = "Nothing" if shown.kept_out is None else "Of strangers nothing"
        yield f"{what} is recorded" + (" except noise." if shown.noise.ports else ".")
    heading = ""
    for row in shown.ports:
        if _HEADINGS[row.rank] != heading:
            heading = _HEADINGS[row.rank]
            yield from ("", f"{heading}:")
        yield from _row(row, now, shown.open_ports)
    yield from _end(shown)


def _stage(shown: Preview) -> Iterator[str]:
    if not shown.agent:
        since = ", and what the kernel has counted since" if shown.stage else ""
        yield f"The agent does not answer. This is what it last wrote to disk{since}."
    match shown.stage:
        case None:
            yield "Only root can see whether the kernel drops anything."
        case "shadow":
            yield "Stage shadow: nothing is dropped. This is what reject_all would refuse."
        case "down":
            yield "Nothing of Neti is in the kernel: nothing is dropped, and nothing is recorded."
        case stage:
            yield f"Stage {stage}: new connections like these are refused."


def _clear(clear: InTheClear) -> Iterator[str]:
    words = clear.words()
    yield ""
    by_the_file = [f"  {line}" for line in excepted.lines(clear.excepted)]
    if not words:
        but = ", but for what neti.yml lets through:" if by_the_file else "."
        yield f"In the clear: nothing, to or from members that must be encrypted{but}"
        yield from by_the_file
        return
    yield "In the clear, and refused while required encryption is in force:"
    yield from (f"  {part}" for part in words)
    for flow in clear.flows:
        yield f"    {flow.source} to {flow.to} port {flow.port}/{flow.protocol}: member {flow.id}"
    more = sum(clear.counts.values()) - len(clear.flows)
    if more > 0:
        yield f"    and {more:,} more"
    if clear.hint():
        yield f"  {clear.hint()}."
    yield from by_the_file
    yield ""


def _row(row: Wanted, now: float, opened: Sequence[str]) -> Iterator[str]:
    name = f"{row.port}/{row.protocol}"
    counts = f"{count(row.packets, 'packet')} from {count(row.sources, 'source')}"
    if row.rank == "noise":
        latest = row.top[0].address
        yield f"  {name:<11} {counts}, last {span(now - row.last)} ago: {latest}"
        return
    yield f"  {name:<11} {_who(row)}{'   (accepted as lost)' if row.accepted else ''}"
    times = f"first {span(now - row.first)} ago, last {span(now - row.last)} ago"
    yield f"              {counts}, {times}"
    for source in row.top:
        yield f"                {_source(source, now)}"
    if row.sources > len(row.top):
        yield f"                and {row.sources - len(row.top):,} more"
    if row.open_ports is not None:
        yield f"              open_ports: [{', '.join((*opened, row.open_ports))}]"


def _who(row: Wanted) -> str:
    words = sockets(row.listeners)
    if row.redirected is not None:
        words.append(f"redirected to port {row.redirected}")
    if row.forwarded:
        words.append("forwarded to a container")
    return ", ".join(words) or "nothing listens"


_REFUSED: Final[Mapping[str, str]] = {
    "clear": "in the clear, which required encryption refuses: use its overlay address",
    "outside": "from a public address, by which it is a stranger where encryption is required: use "
    "its private or overlay address",
}


def _source(source: Source, now: float) -> str:
    where = _NEAR[source.near] + (f", {source.name}" if source.name else "")
    text = f"{source.address:<15} {count(source.packets, 'packet')}, {where}"
    text += f", last {span(now - source.last)} ago"
    if source.member is None and source.former_member is not None:
        until = now - (source.former_until or now)
        return f"{text}: was member {source.former_member}'s address until {span(until)} ago"
    if source.member is None:
        return text
    if source.refused is not None:
        return f"{text}: member {source.member}, {_REFUSED[source.refused]}"
    said = {
        False: "but this address of it is not believed or not let in (see 'neti status')",
        None: "only the agent knows whether it is let in",
    }
    return f"{text}: member {source.member}, {said[source.admitted]}"


def _end(shown: Preview) -> Iterator[str]:
    noise = shown.noise
    if noise.ports and not shown.noise_listed:
        yield ""
        yield (
            f"Noise: {count(noise.packets, 'packet')} from "
            f"{count(noise.sources, 'source')} to {count(noise.ports, 'port')} where "
            "nothing listens. 'neti preview --all' lists them."
        )
    if shown.let_in:
        yield ""
        yield (
            f"Not listed: {', '.join(shown.let_in)}. Everybody who came there is let in by now: "
            "they are members, open_ports lets them in, or it is the tunnel's own port."
        )
    if shown.accepted:
        yield ""
        yield f"Accepted as lost: {', '.join(shown.accepted)}."
