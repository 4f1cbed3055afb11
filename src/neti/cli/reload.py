"""``neti reload``: the agent reads its configuration again, and says what came of it.

Must never do: judge the configuration itself. What counts is what the agent makes of it.
"""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from neti.cli.asking import ask
from neti.cli.common import config_option, json_option
from neti.cli.output import explain, print_json, say
from neti.control.client import AgentForbidden, AgentStarting, AgentUnreachable
from neti.errors import NetiError
from neti.host import ssh_session
from neti.stage.stages import DOWN, PORTS_WAIT
from neti.state.location import is_guessed, state_folder
from neti.words import some


@click.command()
@config_option
@json_option
@click.option(
    "--anyway",
    is_flag=True,
    help="Even if an open SSH session would not be let in again, or encryption that is required "
    "here would begin towards one more site without a trial, or end.",
)
@click.option(
    "--or-signal",
    "process",
    type=click.IntRange(min=2),
    metavar="PID",
    help="If the agent does not answer, send SIGHUP to this process. For service managers.",
)
def reload(config: Path, as_json: bool, anyway: bool, process: int | None) -> None:
    """Make the agent read its configuration again.

    Changes are in force when this returns, except to keys that need a restart, which are named.
    What the kernel refuses is named as not in force, and the exit code is 1.

    A file that is not valid is refused, and the old configuration stays in force. So are three more
    kinds, unless --anyway is given:

    \b
    - On a host that drops or would begin to: one that would not let in again an
      SSH session that is open here.
    - On a host on which encryption is in force as required: one that requires it
      towards one more site, because it would count there at once, without a
      trial.
    - On the same: one that ends it, because hosts that require it refuse this
      one then.

    \b
    Example:
      neti reload
    """
    if is_guessed(config):
        _signal(process)  # for the agent, too, to say so among its problems
        raise NetiError(
            f"{config} cannot be read, so it is not known where its agent is\n"
            "→ run this as root, or name the agent's configuration with -c"
        )
    session = ssh_session.find()
    try:
        answer = ask(
            state_folder(config),
            "reload",
            anyway=anyway,
            session=session.document() if session is not None else None,
        )
    except AgentForbidden:
        raise
    except AgentUnreachable as away:
        if not _signal(process):
            raise
        later = "It was sent SIGHUP, so it reads its configuration again as soon as it can"
        if not isinstance(away, AgentStarting):
            raise NetiError(f"{str(away).splitlines()[0]}. {later}\n→ neti status") from away
        explain(f"{str(away).splitlines()[0]}. {later}")
        return
    if as_json:
        print_json(answer)
    else:
        _say(answer)
    if answer.get("refused"):
        sys.exit(1)


def _signal(process: int | None) -> bool:
    """Whether the agent's process was sent SIGHUP, which it keeps until it can read."""
    if process is None:
        return False
    with suppress(OSError):
        os.kill(process, signal.SIGHUP)
        return True
    return False


def _say(answer: dict[str, Any]) -> None:
    changed, restart, refused = answer["changed"], answer["restart"], answer.get("refused")
    ports_wait = bool(answer.get("ports_wait"))
    at_once = [key for key in changed if not (ports_wait and key == "member_ports")]
    if changed and answer["stage"] == DOWN:
        say(f"taken in: {', '.join(changed)}", "→ in force in the kernel after 'neti up'")
    elif at_once:
        say(f"in force now: {', '.join(at_once)}")
    elif not changed and not restart and not refused:
        say("read again: nothing has changed")
    if waiting := answer.get("require_waits"):
        say(
            f"but encryption is not required yet towards {some(waiting)}: encrypt: require acts as "
            "prefer until it is put in force on this host",
            "→ neti preview, then neti enforce",
        )
    if ports_wait:
        say(PORTS_WAIT, "→ neti preview, then neti enforce")
    if "reject_all" in changed and answer["reject_all"] and answer["stage"] == "trial":
        say(
            f"reject_all is true now, so a trial of {answer['trial_seconds']} s begins: what no "
            "rule lets in is dropped, for good once the agent's evidence confirms it",
            *_lost(answer.get("would_be_lost") or ()),
            "→ 'neti status' shows how it goes, 'neti relax' ends it at once",
        )
    if answer.get("encryption_ended"):
        say(
            "encryption between sites is off on this host now: what went through the tunnel was "
            "ended, and new connections go in the clear",
            "→ 'neti check' on the other hosts says whether any of them still requires encryption; "
            "such a host refuses this one",
        )
    if restart:
        say(
            f"changed, but in force only after a restart: {', '.join(restart)}",
            "→ systemctl restart neti",
        )
    if refused:
        waiting = ", ".join(answer["waiting"]) or "what the configuration asks for"
        explain(
            f"NOT in force: {waiting}: {refused}\n"
            "→ the agent tries again by itself; 'neti status' shows the cause, and when it is over"
        )


def _lost(ports: Sequence[str]) -> tuple[str, ...]:
    """What an operator would have been asked by ``neti enforce``."""
    if not ports:
        return ()
    return (
        f"Ports in use that it shuts: {', '.join(ports)}. It will end unconfirmed because of them",
        "→ 'neti preview' says what to write for each",
    )
