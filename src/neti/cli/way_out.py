"""``neti relax`` and ``neti down``: the way out, with the agent running, hung or gone.

They import nothing that is not needed for it: no configuration's schema, no registry, no
libnftables. What the agent answers is held against what the kernel then holds.

Must never do: end before the kernel was tried, or exit with 0 when what was asked for is not so or
will not last.
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from neti.cli.asking import ask
from neti.cli.ending import if_interrupted
from neti.cli.looks import no_color_option
from neti.cli.output import explain, json_option, print_json, say
from neti.control.client import AgentForbidden, AgentSilent, AgentUnreachable
from neti.errors import NetiError
from neti.host import caller
from neti.model.said import Said
from neti.oneshot.down import (
    down_alone,
    is_down,
    is_there,
    put_conntrack_max_back,
    put_forwarding_back,
)
from neti.oneshot.relax import is_recorded, keeps_out, relax_alone
from neti.state.location import is_guessed, state_folder

DEFAULT_CONFIG: Final = Path("/etc/neti/neti.yml")
_NOT_RUNNING: Final = "the agent is not running"
_UNITS: Final = {"m": 60, "h": 3600, "d": 86_400}

_config = click.option(
    "-c",
    "--config",
    "config",
    type=click.Path(path_type=Path, readable=False),
    default=DEFAULT_CONFIG,
    envvar="NETI_CONFIG",
    show_envvar=True,
    show_default=True,
    help="The configuration file.",
)


def _duration(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    number, unit = text[:-1], text[-1:]
    if number.isascii() and number.isdigit() and unit in _UNITS and 0 < int(number) < 10_000:
        return int(number) * _UNITS[unit]
    raise click.BadParameter(
        f"{text!r}: expected minutes, hours or days, such as 30m, 2h or 1d", ctx, param
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """``answer``: the agent's; None: it does not answer, or it refused (``why``)."""

    answer: dict[str, Any] | None
    why: str = ""
    hangs: bool = False


def _ask(folder: Path, command: str, *, guessed: bool, **arguments: Any) -> _Asked:
    """``guessed``: an agent that runs may have its state in another folder."""
    try:
        answer = ask(folder, command, then=f"'neti {command}' goes on without it", **arguments)
    except AgentForbidden as forbidden:
        if os.geteuid() != 0:
            raise
        return _Asked(None, str(forbidden))
    except AgentSilent:
        return _Asked(None, "the agent hangs", hangs=True)
    except AgentUnreachable:
        return _Asked(None, f"no agent answers in {folder}" if guessed else _NOT_RUNNING)
    except NetiError as refused:
        return _Asked(None, f"the agent refused: {refused}")
    # An agent of an older version answers 'down' with a word.
    return _Asked(answer if isinstance(answer, dict) else {})


@click.command()
@_config
@no_color_option(hidden=True)
@json_option
@click.option(
    "--for",
    "seconds",
    callback=_duration,
    metavar="TIME",
    help="Put this host on trial after this time, such as 30m or 2h.",
)
@if_interrupted("this host may or may not be relaxed\n→ run 'neti relax' again")
def relax(config: Path, as_json: bool, seconds: int | None) -> None:
    """Go back to shadow: nothing is kept out.

    Required encryption ends with it: encrypt: require acts as prefer until 'neti enforce'. To give
    up encryption alone, write prefer into the configuration, on all hosts. member_ports keep nobody
    out any more, and wait for 'neti enforce'.

    What would be refused is recorded. It lasts across restarts and reboots, until 'neti enforce' or
    until reject_all is changed in the configuration. Works with the agent running, hung or gone,
    and with a broken configuration. If the disk cannot be written, it works but says so and exits
    with 1.

    With --for, the agent begins a trial when the time is over, whatever reject_all says, and of
    required encryption and member_ports too, where the configuration has them.

    \b
    Examples:
      neti relax
      neti relax --for 2h
    """
    folder = state_folder(config)
    until = time.time() + seconds if seconds is not None else None
    asked = _ask(folder, "relax", guessed=is_guessed(config), until=until)
    if asked.answer is not None and not keeps_out():
        unsaved = asked.answer.get("unsaved")
        _report_relaxed(config, None if unsaved is None else str(unsaved), asked, until, as_json)
        return
    done = relax_alone(config, folder, Said(time.time(), caller.described(), until))
    caller.note("relax", agent=_who_did_it(asked))
    if done.kernel is not None:
        raise NetiError(_failed("relaxed", done.kernel, done.disk))
    explain(_without(asked))
    _report_relaxed(config, done.disk, asked, until, as_json)


def _report_relaxed(
    config: Path, unsaved: str | None, asked: _Asked, until: float | None, as_json: bool
) -> None:
    recorded = is_recorded()
    lines = [
        "shadow: nothing is kept out on this host now, and what would be is recorded."
        if recorded is not False
        else "relaxed: nothing of Neti is in this host's kernel, so nothing is kept out and "
        "nothing is recorded."
    ]
    if recorded is False and is_down(state_folder(config)):
        lines.append("→ 'neti up' ends 'neti down'; this host is then in shadow")
    elif recorded is False:
        lines.append("→ is this the right host? 'neti status' says what is known of it")
    elif until is None:
        lines.append("→ 'neti enforce' keeps strangers out, on trial first")
    if recorded is not False and asked.answer is not None and asked.answer.get("requires"):
        lines.insert(
            1,
            "Encryption is not required on this host now. Members that require it still refuse "
            "what this host sends in the clear.",
        )
    if until is not None:
        lines += [
            f"At {_clock(until)} the agent puts this host on trial{_though(asked)}.",
            "→ 'neti relax' without --for keeps it in shadow; 'neti enforce' begins at once",
        ]
    _said({"stage": "shadow", "saved": unsaved is None}, tuple(lines), as_json)
    if unsaved is not None:
        _warn_unsaved(config, unsaved, "enforces this host again if it was enforced", "neti relax")


def _though(asked: _Asked) -> str:
    """What the configuration says does not count then: an operator has to know."""
    match asked.answer and asked.answer.get("reject_all"):
        case True:
            return ""
        case False:
            return ", although the configuration says reject_all: false"
    return ", whatever the configuration says of reject_all"


@click.command()
@_config
@no_color_option(hidden=True)
@json_option
@if_interrupted("Neti's rules may still be in the kernel\n→ run 'neti down' again")
def down(config: Path, as_json: bool) -> None:
    """Take everything of Neti's out of this host's kernel.

    It stays out until 'neti up'. Works with the agent running, hung or gone, and with a broken
    configuration. If the disk cannot be written, it works but says so and exits with 1. The host
    stays registered while its agent runs.
    """
    folder = state_folder(config)
    asked = _ask(folder, "down", guessed=is_guessed(config))
    notes: tuple[str, ...] = ()
    if asked.answer is not None and not is_there():
        unsaved = asked.answer.get("unsaved")
    else:
        done = down_alone(config, folder, Said(time.time(), caller.described()))
        caller.note("down", agent=_who_did_it(asked))
        if done.kernel is not None:
            raise NetiError(_failed("taken out", done.kernel, done.disk))
        unsaved, notes = done.disk, done.notes
        explain(_without(asked))
    if asked.answer is not None:
        notes = (*notes, *put_forwarding_back(folder))
    for sentence in (*notes, *put_conntrack_max_back(folder)):
        say(f"neti: {sentence}", err=True)
    _said(
        {"state": "down", "saved": unsaved is None},
        (
            "down: nothing of Neti is in this host's kernel now.",
            "Nobody is kept out, and overlay addresses lead nowhere from here.",
            "→ 'neti up' brings everything back as it was",
        ),
        as_json,
    )
    if unsaved is not None:
        _warn_unsaved(config, str(unsaved), "brings Neti's rules back", "neti down")


def _without(asked: _Asked) -> str:
    if asked.hangs:
        return (
            "the agent hangs, so this was done without it. The agent will follow when it wakes\n"
            "→ systemctl restart neti"
        )
    return (
        f"{asked.why}, so this was done without it"
        if asked.why
        else "the agent said that it was done, but the kernel said otherwise: done without it"
    )


def _failed(what: str, why: str, unsaved: str | None) -> str:
    if os.geteuid() != 0:
        return f"NOT {what}: {why}\n→ run this as root"
    disk = "" if unsaved is None else f"; and {unsaved}"
    return (
        f"NOT {what}: {why}{disk}\n"
        "→ stop the agent (systemctl stop neti), because it would put its rules back\n"
        "→ then 'nft delete table inet neti' takes all of Neti's rules out"
    )


def _warn_unsaved(config: Path, why: str, then: str, again: str) -> None:
    if is_guessed(config):
        step = f"→ {config} cannot be read: run '{again} -c FILE' with the agent's configuration"
    else:
        step = f"→ make the state folder writable, then run '{again}' again"
    explain(f"THIS IS NOT ON DISK and will not outlast a reboot, which {then}: {why}\n{step}")
    sys.exit(1)


def _said(document: dict[str, Any], sentences: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        print_json(document)
    else:
        say(*sentences)


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(at))


def _who_did_it(asked: _Asked) -> str:
    return "none answers" if asked.answer is None else "answered, and the kernel said otherwise"
