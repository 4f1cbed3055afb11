"""Commands about this host: overlay-ip, up, leave. They ask the agent and print."""

import json
import time
from pathlib import Path
from typing import Final

import click

from neti.cli.asking import ask
from neti.cli.common import (
    config_option,
    json_option,
    settings_in_force,
)
from neti.cli.ending import if_interrupted
from neti.cli.output import explain, print_json, say
from neti.control import client
from neti.control.client import AgentForbidden, AgentSilent, AgentUnreachable
from neti.errors import ConfigError, NetiError, RegistryError
from neti.host import ssh_session
from neti.model.settings import Settings
from neti.monitoring.status import status_of
from neti.state.location import in_force, is_guessed, state_folder

_TAG_PAUSE: Final = 2.0  # seconds between questions to AWS, which answers all hosts of an account
_WAKES: Final = (
    "the agent hangs. It will write to the kernel when it wakes\n→ systemctl restart neti"
)
_STARTS: Final = (
    "the agent is not running. It will write to the kernel when it starts\n→ systemctl start neti"
)
_PATIENCE: Final = 2.0  # seconds for an agent that is only asked for its overlay address


@click.command("overlay-ip")
@config_option
@json_option
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Wait up to this long for the agent to get one.",
)
@click.option(
    "--from-tag",
    is_flag=True,
    help="If the agent has none, read this instance's tag overlay_ip.",
)
def overlay_ip(config: Path, as_json: bool, wait: float, from_tag: bool) -> None:
    """Print this host's own overlay address.

    For scripts and configuration management. Works for every user of this machine; only --from-tag
    needs the configuration. For another host's address use 'neti lookup'.

    \b
    Examples:
      redis-server --replica-announce-ip "$(neti overlay-ip --wait 30)"
      neti overlay-ip --from-tag
    """
    folder = _readable_folder(config)
    deadline = time.monotonic() + wait
    while (overlay := _overlay(folder)) is None:
        if from_tag and (overlay := _overlay_by_tag(settings_in_force(config))) is not None:
            break
        if time.monotonic() >= deadline:
            if is_guessed(config):
                raise NetiError(
                    f"no overlay address is known in {folder}, and {config} cannot be read to see "
                    "whether its agent keeps it elsewhere\n→ run this as root"
                )
            raise NetiError(
                "this host has no overlay address yet"
                + (" and no tag overlay_ip" if from_tag else "")
                + "\n→ 'neti status' says why, --wait SECONDS waits for it"
            )
        time.sleep(_TAG_PAUSE if from_tag else 0.05)
    say(json.dumps({"overlay": overlay}) if as_json else overlay)


def _overlay(folder: Path) -> str | None:
    """From the agent, otherwise from what it kept on disk: a lease outlives the agent.

    Who templates a file by this must not hang on an agent that does: it has two seconds.
    """
    try:
        return status_of(client.call(folder, "status", within=_PATIENCE)).overlay
    except AgentUnreachable:
        from neti.oneshot.known import overlay_on_disk

        return overlay_on_disk(folder)


def _readable_folder(config: Path) -> Path:
    """Where the state is. Who may not read the configuration finds it where it usually is."""
    if (folder := in_force(config)) is not None:
        return folder
    try:
        return settings_in_force(config).table_files_path
    except ConfigError as error:
        if isinstance(error.__context__, PermissionError):
            return state_folder(config)
        raise


def _overlay_by_tag(settings: Settings) -> str | None:
    from neti.aws import tags

    overlay = tags.read_overlay(settings)
    return None if overlay is None else str(overlay)


@click.command()
@config_option
@json_option
@if_interrupted("Neti's rules may or may not be in the kernel again\n→ run 'neti up' again")
@click.option("--anyway", is_flag=True, help="Even if this SSH session would no longer be let in.")
def up(config: Path, as_json: bool, anyway: bool) -> None:
    """End 'neti down': the agent writes to the kernel again.

    The stage is as it was before: a host that was enforced is enforced again. Refused if that
    would shut out the SSH session in which you type this.
    """
    from neti.oneshot.down import is_down
    from neti.oneshot.up import raise_limit_first, up_alone

    settings = settings_in_force(config)
    raise_limit_first(settings)
    folder = settings.table_files_path
    was_up, session = not is_down(folder), ssh_session.find()
    try:
        answer = ask(
            folder,
            "up",
            then="'neti up' goes on without it",
            anyway=anyway,
            session=session.document() if session is not None else None,
        )
    except AgentForbidden:
        raise
    except AgentUnreachable as away:
        hangs = isinstance(away, AgentSilent)
        up_alone(settings, hangs=hangs)
        explain(_WAKES if hangs else _STARTS)
        sentence = "'neti down' is over. Neti's rules come back when the agent writes them"
        answer = {"state": "up", "unsaved": None}
    else:
        sentence = "Neti's rules are in this host's kernel again, in the stage that it had before"
        if was_up:
            sentence = "this host was not down, and Neti's rules are in its kernel"
    unsaved = answer.get("unsaved") if isinstance(answer, dict) else None
    if as_json:
        print_json({"state": "up", "saved": unsaved is None})
    else:
        say(f"up: {sentence}.", "→ 'neti status' shows the stage, 'neti down' takes all out again")
    if unsaved is not None:
        raise NetiError(
            f"THIS IS NOT ON DISK, so after a restart this host is down again: {unsaved}\n"
            "→ make the state folder writable, then run 'neti up' again"
        )


@click.command()
@config_option
@json_option
@if_interrupted("this host may or may not have left the fleet\n→ run 'neti leave' again")
def leave(config: Path, as_json: bool) -> None:
    """Take this host out of the fleet: its peers drop it at once. The agent stops.

    The lease is kept: the host gets the same overlay address when it comes back. Back:
    'systemctl start neti'.
    """
    settings = settings_in_force(config)
    folder = settings.table_files_path
    try:
        ask(folder, "leave", then="'neti leave' goes on without it")
    except AgentForbidden:
        raise
    except AgentSilent as silent:
        if _answers(folder):
            raise NetiError(
                "the agent is still waiting for the registry to let this host leave"
                "\n→ 'neti status' shows what came of it"
            ) from silent
        _leave_alone(settings, silent)
        raise NetiError(
            "this host is out of the fleet for now, but its agent hangs and will register it again "
            "when it wakes\n→ systemctl stop neti, then run 'neti leave' again"
        ) from silent
    except AgentUnreachable as unreachable:
        _leave_alone(settings, unreachable)
    if as_json:
        print_json({"state": "left"})
    else:
        say(
            "left: this host is out of the fleet, so its peers no longer let it in, and no agent "
            "runs here. Its rules stay in the kernel, and its lease is kept.",
            "→ 'systemctl start neti' brings it back, with the same overlay address",
        )


def _answers(folder: Path) -> bool:
    try:
        client.call(folder, "status", within=_PATIENCE)
    except NetiError:
        return False
    return True


def _leave_alone(settings: Settings, unreachable: AgentUnreachable) -> None:
    from neti.oneshot.leave import Outcome, leave_alone

    ends = (
        f"Its registration ends by itself {settings.session_seconds:.0f} s after an agent last ran "
        f"here, and peers drop it {settings.linger_seconds} s later"
    )
    try:
        outcome = leave_alone(settings)
    except RegistryError as error:
        raise NetiError(
            f"NOT left: {error}. {ends}\n→ run 'neti leave' again when the registry answers"
        ) from error
    match outcome:
        case Outcome.HAD_LEFT:
            raise NetiError(
                "this host has left already: its peers do not let it in, and no agent runs here"
            ) from unreachable
        case Outcome.NO_SESSION:
            raise NetiError(
                f"NOT left: {str(unreachable).splitlines()[0]}, and nothing on disk says by which "
                f"session this host is registered, if it is. {ends}\n"
                "→ 'neti fleet' shows whether it is registered"
            ) from unreachable
