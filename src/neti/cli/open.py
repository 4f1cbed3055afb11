"""``neti open``: open a port of this host to somebody, for a time."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from neti.cli.asking import ask
from neti.cli.common import config_option, json_option, settings_in_force
from neti.cli.ending import if_interrupted
from neti.cli.output import explain, print_json, say
from neti.control.client import AgentUnreachable
from neti.errors import NetiError
from neti.fleet.attendance import moment
from neti.model.document import plain
from neti.model.openings import LONGEST, SHORTEST
from neti.model.settings import Settings
from neti.monitoring.opened import Answer, answer_of, duration

_UNITS: Final = {"m": 60, "h": 3600, "d": 86_400}
_SPAN: Final = re.compile(r"([1-9][0-9]{0,3})([mhd])", re.ASCII)
_PORT: Final = re.compile(
    r"(?P<first>[1-9][0-9]{0,4})(-(?P<last>[1-9][0-9]{0,4}))?(/(?P<proto>tcp|udp))?", re.ASCII
)
_HIGHEST: Final = 65_535
_NOT_KNOWN: Final = "it may or may not be so by now\n→ 'neti open' shows what is open"


def _seconds(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    span = _SPAN.fullmatch(text)
    seconds = int(span[1]) * _UNITS[span[2]] if span is not None else 0
    if not SHORTEST <= seconds <= LONGEST:
        raise click.BadParameter(
            f"{text!r}: expected minutes, hours or days, such as 30m, 2h or 1d, from 1m to 7d",
            ctx,
            param,
        )
    return seconds


def _port(ctx: click.Context, param: click.Parameter, text: str | None) -> dict[str, Any]:
    """As the agent takes it; empty: none was said."""
    if text is None:
        return {}
    found = _PORT.fullmatch(text)
    first = int(found["first"]) if found is not None else 0
    last = int(found["last"] or first) if found is not None else 0
    if found is None or not 0 < first <= last <= _HIGHEST:
        raise click.BadParameter(
            f"{text!r}: expected a port from 1 to {_HIGHEST}, such as 5432, 53/udp or "
            "8000-8100/tcp",
            ctx,
            param,
        )
    return {"first": first, "last": last, "proto": found["proto"] or "tcp"}


@click.command(name="open")
@config_option
@json_option
@click.argument("port", required=False, callback=_port, metavar="[PORT]")
@click.option(
    "--from",
    "sources",
    multiple=True,
    metavar="WHO",
    help="Who gets in: an address, a CIDR, a member's id or a group. Required to open. Repeatable.",
)
@click.option(
    "--for",
    "seconds",
    callback=_seconds,
    metavar="TIME",
    help="For how long: 30m, 2h, 1d; at least 1m and at most 7d. Required to open.",
)
@click.option("--close", is_flag=True, help="End it now: of PORT, or of all; perhaps only --from.")
@click.option("--list", "show", is_flag=True, help="Show what is open (as without a PORT).")
def open_(
    config: Path,
    as_json: bool,
    port: dict[str, Any],
    sources: tuple[str, ...],
    seconds: int | None,
    close: bool,
    show: bool,
) -> None:
    """Open a port of this host to somebody, for a time.

    The kernel ends it by its own clock, with or without the agent. It lasts across a reload, a
    restart and a reboot, never longer than was said. PORT is 5432, 53/udp or 8000-8100; TCP, if
    nothing is said. Said again, the new time counts from now.

    A member's id, or a group, means the addresses from which they come to this host as it is now:
    who gets another address, or joins the group later, is not meant. 0.0.0.0/0 and ::/0 mean
    everybody. What is written as an address is one, whatever ids members have; a name that is both
    a member's id and a group's is refused.

    When it ends, new connections are refused, where this host is enforced; those that are
    established go on, as for open_ports. What encryption requires stays required.

    Without a PORT it shows what is open, to whom, for how much longer, and who said so; where the
    agent does not answer, as the kernel and the disk have it.

    \b
    Examples:
      neti open 5432 --from 203.0.113.9 --for 2h
      neti open 8000-8010 --from web-3 --from 2001:db8:7::/64 --for 1d
      neti open
      neti open 5432 --close
      neti open --close
    """
    if close:
        _refuse(seconds is not None or show, "--close ends it now: leave out --for and --list")
        folder = settings_in_force(config).table_files_path
        with if_interrupted(_NOT_KNOWN):
            answer = ask(folder, "close", sources=list(sources) or None, **port)
        _say(answer_of(answer), as_json, "closed")
    elif port and not show:
        _refuse(not sources, "--from is missing: to whom? 0.0.0.0/0 and ::/0 mean everybody")
        _refuse(seconds is None, "--for is missing: how long? What is open for good is open_ports")
        folder = settings_in_force(config).table_files_path
        with if_interrupted(_NOT_KNOWN):
            answer = ask(folder, "open", sources=list(sources), seconds=seconds, **port)
        _say(answer_of(answer), as_json, "open")
    else:
        _refuse(bool(sources or seconds or port), "a PORT, --from and --for open one; --list shows")
        _list(_opened(settings_in_force(config)), as_json)


def _opened(settings: Settings) -> Answer:
    """Where no agent answers, as kernel and disk have it, for whoever may read them."""
    try:
        return answer_of(ask(settings.table_files_path, "opened"))
    except AgentUnreachable as away:
        # What takes time is imported where it is needed.
        from neti.identity.machine import fingerprint
        from neti.oneshot.openings_alone import opened

        if isinstance(away.__cause__, PermissionError) or not settings.table_files_path.is_dir():
            raise
        return opened(settings, fingerprint())


def _refuse(wrong: object, why: str) -> None:
    if wrong:
        raise click.UsageError(why)


def _say(answer: Answer, as_json: bool, word: str) -> None:
    if as_json:
        print_json(plain(answer))
    else:
        for one in answer.opened:
            until = f" until {moment(one.until)} ({duration(one.seconds_left)})"
            say(f"{word}: {one.port} to {one.to}{until if word == 'open' else ''}")
        for note in answer.notes:
            explain(note)
        if word == "open":
            again = "" if len(answer.opened) != 1 else f" {answer.opened[0].port}"
            say(f"→ 'neti open' shows what is open, 'neti open{again} --close' ends it at once")
        else:
            say("what is established goes on")
    if answer.unsaved is not None:
        then = {"open": "it ends with", "closed": "it is open again after"}[word]
        raise NetiError(
            f"THIS IS NOT ON DISK, so {then} a restart of the agent: {answer.unsaved}\n"
            "→ make the state folder writable; the agent then writes by itself"
        )


def _list(answer: Answer, as_json: bool) -> None:
    if as_json:
        print_json(plain(answer))
        return
    say(*_lines(answer))
    for note in answer.notes:
        explain(note)


def _lines(answer: Answer) -> Iterator[str]:
    if not answer.opened:
        yield "nothing is open for a time"
        return
    for one in answer.opened:
        since = f"since {moment(one.at)}, " if one.at else ""  # 0: nobody knows
        yield f"{one} ({since}until {moment(one.until)})"
    nobody = ", so nobody is kept out now" if answer.stage in ("shadow", "down") else ""
    yield f"stage: {answer.stage}{nobody}"
