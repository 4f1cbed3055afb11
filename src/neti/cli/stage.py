"""``neti enforce, confirm, release``: the operator's word on what is kept out, and who.

Must never do: end while a trial runs without saying when it ends and how to end it at once.
"""

import sys
import time
from pathlib import Path
from typing import Any, Final

import click

from neti.cli.asking import ask
from neti.cli.common import (
    config_option,
    json_option,
    refuse_unknown_site,
    registry_of,
    settings_in_force,
)
from neti.cli.ending import if_interrupted
from neti.cli.output import explain, is_terminal, print_json, progress, say
from neti.config import load
from neti.control.client import AgentUnreachable
from neti.errors import NetiError
from neti.host import caller, ssh_session
from neti.model.document import plain
from neti.model.settings import Settings
from neti.monitoring.status import Status, status_of
from neti.oneshot.fleet_release import tell_everybody, unheard_of
from neti.stage.evidence import Finding
from neti.stage.stages import MAX_TRIAL_SECONDS, MIN_TRIAL_SECONDS
from neti.words import counted, some

_PORTS: Final = "What member_ports take away from members"
_CLEAR: Final = "What goes in the clear to and from members that must be encrypted"


class _Seconds(click.IntRange):
    """click's own words are "not a valid integer range"."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return int(super().convert(value, param, ctx))
        except click.BadParameter:
            self.fail(f"{value!r}: expected whole seconds, {self.min} to {self.max}", param, ctx)


@click.command()
@config_option
@json_option
@click.option(
    "--trial",
    "seconds",
    type=_Seconds(MIN_TRIAL_SECONDS, MAX_TRIAL_SECONDS),
    metavar="SECONDS",
    help="How long the trial lasts (default: trial_seconds of the configuration).",
)
@click.option(
    "--wait-for-confirm",
    is_flag=True,
    help="Only 'neti confirm' makes it permanent, not the agent's evidence; wait for it.",
)
@click.option(
    "--anyway",
    is_flag=True,
    help="Begin even if something is missing, or 'neti preview' lists traffic in the clear, or "
    "ports in use, which count as accepted as lost from then on.",
)
@click.option("--no-follow", is_flag=True, help="Return as soon as the trial has begun.")
def enforce(
    config: Path,
    as_json: bool,
    seconds: int | None,
    wait_for_confirm: bool,
    anyway: bool,
    no_follow: bool,
) -> None:
    """Drop what no rule lets in, on trial at first.

    Where a site says encrypt: require, also refuse what goes in the clear to and from its members.
    Where neti.yml has member_ports, also keep members out of the ports that these take away. On a
    host that is enforced already, that alone is on trial.

    When the trial ends, the kernel itself goes back to shadow, with or without the agent, unless
    the trial was confirmed: by the agent, when all its evidence holds, or with --wait-for-confirm
    by you. Keep this session open, and open a second one to see that you still get in. Ctrl-C
    leaves the trial running; 'neti relax' ends it at once.

    Refused if the SSH session in which you type it would no longer be let in, and while 'neti
    preview' lists ports in use: open them, or say that they may be shut. Required encryption is
    refused without registry_tls and 'neti registry strict', and while 'neti preview' lists what
    still goes in the clear; member_ports, while it lists members that use what they would shut.

    Exit code 0: confirmed, or begun with --no-follow. 1: refused, or the trial was not confirmed.
    130: you stopped watching, and the trial goes on.

    \b
    Examples:
      neti enforce
      neti enforce --trial 300 --wait-for-confirm
    """
    settings = load(config)
    session = ssh_session.find()
    with if_interrupted(
        "a trial may have begun\n→ neti status\n→ 'neti relax' ends a trial at once"
    ):
        answer = ask(
            settings.table_files_path,
            "enforce",
            seconds=seconds,
            wait=wait_for_confirm,
            anyway=anyway,
            session=session.document() if session is not None else None,
        )
    if unread := answer.get("unread"):
        explain(unread)
    if answer["stage"] == "enforced":
        _say_enforced(answer, as_json)
    elif no_follow:
        _say_begun(answer, as_json, operator=wait_for_confirm)
    else:
        _follow(settings, answer, as_json, operator=wait_for_confirm)


def _say_enforced(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    first = f"{answer['said']}. W" if answer.get("said") else "enforced: w"
    requires = answer.get("requires")
    but = "but for SSH, ICMP, and what trusted and open_ports let through"
    more = [f"{_CLEAR} is refused too, {but}."] if requires else []
    more += [f"{_PORTS} is shut to them too."] if answer.get("member_ports") else []
    and_clear = ", and encryption is not required any more" if requires else ""
    say(
        f"{first}hat no rule lets in is dropped on this host, also after a reboot.",
        *more,
        f"→ 'neti relax' goes back to shadow: nothing is dropped{and_clear}",
    )


def _say_begun(answer: dict[str, Any], as_json: bool, *, operator: bool) -> None:
    if as_json:
        print_json(answer)
        return
    by = "you type 'neti confirm'" if operator else "the agent's evidence confirms it"
    of = answer.get("of", ["reject_all"])
    does, back = _trial_of(of)
    say(
        f"trial of {answer['seconds']} s: {does} now. At "
        f"{_clock(answer['seconds'])} the kernel goes back to {back}, unless {by} before.",
        *(["→ open a second session, look, and type 'neti confirm'"] if operator else []),
        "→ 'neti status' shows how it goes, 'neti relax' ends it at once",
    )


def _trial_of(of: list[str]) -> tuple[str, str]:
    """What the kernel does during such a trial, and to what it goes back."""
    words = {
        "reject_all": "what no rule lets in is dropped",
        "encryption": f"{_CLEAR[0].lower()}{_CLEAR[1:]} is refused",
        "member_ports": f"{_PORTS[0].lower()}{_PORTS[1:]} is shut to them",
    }
    does = ", and ".join(words.get(one, one) for one in of)
    return does, "shadow" if "reject_all" in of else "what it did before (enforced)"


def _clock(seconds: float) -> str:
    """So many seconds from now."""
    return time.strftime("%H:%M:%S", time.localtime(time.time() + seconds))


def _follow(settings: Settings, begun: dict[str, Any], as_json: bool, *, operator: bool) -> None:
    """Until the trial is over; exit code 1 when it was not confirmed."""
    if not as_json:
        _say_begun(begun, as_json, operator=operator)
    end = _clock(begun["seconds"])
    by = "you type 'neti confirm'" if operator else "the agent's evidence confirms it"
    of = begun.get("of", ["reject_all"])
    left = (
        f"the trial goes on. At {end} the kernel goes back to {_trial_of(of)[1]}, unless {by} "
        "before\n→ 'neti relax' ends it at once"
    )
    with if_interrupted(left):
        status = _watched(settings, end, operator=operator, quiet=as_json)
    confirmed = status.stage == "enforced" and status.trial is None
    if as_json:
        print_json({key: plain(getattr(status, key)) for key in ("stage", "trial", "evidence")})
    else:
        for line in _evidence(status.evidence):
            say(line)
        if confirmed:
            parts = {"requires": "encryption" in of, "member_ports": "member_ports" in of}
            _say_enforced(parts, as_json)
        elif status.stage == "enforced":
            now = f"This host is enforced, as it was before{_clear(of)}"
            say(f"NOT confirmed: {_why(status)}. {now}.")
        else:
            now = f"This host is in shadow again: nothing is dropped{_clear(of)}"
            say(f"NOT confirmed: {_why(status)}. {now}.")
    if not confirmed:
        sys.exit(1)


def _clear(of: list[str]) -> str:
    clear = ", and encryption is not required" if "encryption" in of else ""
    return f"{clear}, and member_ports wait" if "member_ports" in of else clear


def _watched(settings: Settings, end: str, *, operator: bool, quiet: bool) -> Status:
    """The status when the trial is over."""
    terminal = is_terminal(sys.stderr) and not quiet
    word = ", waiting for 'neti confirm' in a second session" if operator else ""
    try:
        while True:
            status = status_of(ask(settings.table_files_path, "status"))
            trial = status.trial
            if trial is None or trial.state != "running":
                return status
            if terminal:
                progress(f"{trial.seconds_left:.0f} s left{word}")
            time.sleep(min(1.0, max(0.1, trial.seconds_left)))
    except AgentUnreachable as away:
        raise NetiError(
            f"the agent has stopped answering, so the trial cannot be followed. At {end} the "
            f"kernel goes back to shadow by itself, unless the trial was confirmed\n{away}"
        ) from away
    finally:
        if terminal:
            progress()


def _evidence(findings: tuple[Finding, ...]) -> list[str]:
    return [
        f"  {'ok' if found.holds else 'MISSING':<7}  {found.what}: {found.sentence}"
        for found in findings
    ]


def _why(status: Status) -> str:
    return "; ".join(status.trial.why) if status.trial is not None else "'neti relax' was run"


@click.command()
@config_option
@json_option
def confirm(config: Path, as_json: bool) -> None:
    """Make a running trial permanent. Type it in a session that you opened after it began.

    Back: 'neti relax'.
    """
    settings = settings_in_force(config)
    with if_interrupted("the trial may be permanent by now\n→ neti status"):
        answer = ask(settings.table_files_path, "confirm")
    _say_enforced(answer, as_json)
    if isinstance(answer.get("unsaved"), str):
        raise NetiError(
            f"THIS IS NOT ON DISK and will not outlast a reboot: {answer['unsaved']}\n"
            "→ make the state folder writable, then run 'neti confirm' once more"
        )


@click.command()
@config_option
@json_option
@click.option("--all", "everybody", is_flag=True, help="Every member that is held here.")
@click.option(
    "--fleet", "whole_fleet", is_flag=True, help="On every host, through the registry (operators)."
)
@click.option("--site", help="With --fleet: only members of this site.")
@click.argument("ids", nargs=-1, metavar="[ID]...")
def release(
    config: Path,
    as_json: bool,
    everybody: bool,
    whole_fleet: bool,
    site: str | None,
    ids: tuple[str, ...],
) -> None:
    """Remove members whose removal is held.

    On this host or, with --fleet, on every host. Members are held when many vanish together, or
    when the registry is not the one from before. 'neti status' shows who, since when and why. Look
    before you release: they lose access at once. They get it back when their agents register.

    --fleet tells every agent to remove the hosts that are not registered at this moment, or only
    those named. Each agent does it once, even one that is offline now. A host that comes back and
    is lost again is held as before.

    \b
    Examples:
      neti release i-0abc i-0def
      neti release --all
      neti release --fleet --site vpc
    """
    if whole_fleet:
        if everybody:
            raise NetiError("--fleet already means everybody who is gone: leave out --all")
        _release_everywhere(load(config), site, ids, as_json)
        return
    if site is not None:
        raise NetiError("--site works only with --fleet; on one host, name the members")
    if everybody == bool(ids):
        raise NetiError("name the members to release, or give --all, or --fleet for every host")
    folder = settings_in_force(config).table_files_path
    with if_interrupted("some of them may be released by now\n→ neti status"):
        answer = ask(folder, "release", ids=None if everybody else list(ids))
    if as_json:
        print_json(answer)
        return
    released = counted(len(answer["released"]), "member")
    say(
        f"released {released}, {answer['still_held']} still held. A released member has no access "
        "to this host until it registers again."
    )


def _release_everywhere(
    settings: Settings, site: str | None, ids: tuple[str, ...], as_json: bool
) -> None:
    refuse_unknown_site(site, settings.sites)
    with registry_of(settings) as registry:
        told = tell_everybody(settings, registry, ids, site=site)
        unknown = unheard_of(settings, registry, ids) if ids else []
    if unknown:
        explain(
            f"no lease, no entry and no loss on this host is of {some(unknown)}: misspelt?\n"
            "→ neti lease list"
        )
    here = sorted(set(ids) - set(told))
    if here:
        raise NetiError(
            f"not released, because they are registered: {some(here)}"
            + (f"; the others are released: {some(told)}" if told else "")
        )
    if not told:
        raise NetiError("every host that has been here is registered: there is nobody to release")
    caller.note("release --fleet", site=site or "all", hosts=len(told), ids=some(told))
    if as_json:
        print_json({"told": told, "site": site})
        return
    where = f" and in site {site}" if site is not None else ""
    say(
        f"every agent is told to remove {counted(len(told), 'host')}, if not registered{where}: "
        f"{some(told)}",
        "→ 'neti status' on any host shows that it no longer holds them",
    )
