"""``neti enforce, confirm, relax, release``: the operator's word on what is kept out and who."""

import sys
import time
from pathlib import Path
from typing import Any

import click

from neti.cli.common import config_option, json_option, settings_in_force
from neti.cli.output import print_json, progress, say
from neti.config import load
from neti.control import client
from neti.errors import NetiError
from neti.host import ssh_session
from neti.model.settings import Settings
from neti.stage.stages import MAX_TRIAL_SECONDS, MIN_TRIAL_SECONDS


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
    help="Only 'neti confirm' makes it permanent, not the agent's evidence.",
)
@click.option(
    "--anyway",
    is_flag=True,
    help="Arm although 'neti preview' lists ports in use: they may be lost.",
)
@click.option("--no-follow", is_flag=True, help="Return at once, do not wait for the trial's end.")
def enforce(
    config: Path,
    as_json: bool,
    seconds: int | None,
    wait_for_confirm: bool,
    anyway: bool,
    no_follow: bool,
) -> None:
    """Keep out what no rule lets in, at first on trial.

    The kernel itself goes back to shadow at the trial's end, agent or no agent, unless it was
    confirmed: by the agent, when all its evidence holds, or with --wait-for-confirm by you.
    Refused when the SSH session in which it is typed would not be let in any more. Keep that
    session open, and open a second one to see that you still get in. Refused too while 'neti
    preview' lists ports in use: open them, or accept losing them.

    \b
    Examples:
      neti enforce
      neti enforce --trial 300 --wait-for-confirm
    """
    settings = load(config)
    session = ssh_session.find()
    answer = client.call(
        settings.table_files_path,
        "enforce",
        seconds=seconds,
        wait=wait_for_confirm,
        anyway=anyway,
        session=session.document() if session is not None else None,
    )
    if answer["stage"] == "enforced":
        _said(answer, as_json)
        return
    if wait_for_confirm:
        _said(answer, as_json, "open a second session, look, and type 'neti confirm'")
    elif no_follow:
        _said(answer, as_json, "'neti status' shows how it goes")
    else:
        _follow(settings, answer, as_json)


def _said(answer: dict[str, Any], as_json: bool, then: str = "") -> None:
    if as_json:
        print_json(answer)
    elif answer["stage"] == "trial":
        say(f"trial: in {answer['seconds']} s the kernel goes back to shadow; {then}")
    else:
        say(answer.get("said") or answer["stage"])


def _follow(settings: Settings, begun: dict[str, Any], as_json: bool) -> None:
    """Until the trial is over; exit code 1 when it was not confirmed."""
    if not as_json:
        say(
            f"trial of {begun['seconds']} s; the kernel goes back to shadow by itself unless it is "
            "confirmed (Ctrl-C leaves the trial running)"
        )
    status = _watched(settings, quiet=as_json)
    confirmed = status["stage"] == "enforced"
    if as_json:
        print_json({key: status[key] for key in ("stage", "trial", "evidence")})
    else:
        for line in _evidence(status["evidence"]):
            say(line)
        say(
            "confirmed: reject_all is enforced"
            if confirmed
            else f"NOT confirmed, this host is in shadow again: {_why(status)}"
        )
    if not confirmed:
        sys.exit(1)


def _watched(settings: Settings, *, quiet: bool) -> dict[str, Any]:
    """The status when the trial is over."""
    terminal = sys.stderr.isatty() and not quiet
    while True:
        status: dict[str, Any] = client.call(settings.table_files_path, "status")
        trial = status["trial"]
        if status["stage"] != "trial" or trial is None:
            if terminal:
                progress()
            return status
        if terminal:
            progress(f"{trial['seconds_left']:.0f} s left")
        time.sleep(min(1.0, max(0.1, trial["seconds_left"])))


def _evidence(findings: list[dict[str, Any]]) -> list[str]:
    return [
        f"  {'ok' if found['holds'] else 'MISSING':<7}  {found['what']}: {found['sentence']}"
        for found in findings
    ]


def _why(status: dict[str, Any]) -> str:
    trial = status["trial"]
    return "; ".join(trial["why"]) if trial is not None else "it was relaxed"


@click.command()
@config_option
@json_option
def confirm(config: Path, as_json: bool) -> None:
    """Make a running trial permanent. Type it in a session that you opened after it began."""
    _said(client.call(settings_in_force(config).table_files_path, "confirm"), as_json)


@click.command()
@config_option
@json_option
@click.option("--all", "everybody", is_flag=True, help="Everybody who is held.")
@click.argument("ids", nargs=-1, metavar="[ID]...")
def release(config: Path, as_json: bool, everybody: bool, ids: tuple[str, ...]) -> None:
    """Let go of members whose removal is held, on this host.

    Members are held when many vanish together, or when the registry is not the one it was.
    'neti status' shows who, since when and why. Look before you release: they lose access at once.

    \b
    Examples:
      neti release i-0abc i-0def
      neti release --all
    """
    if everybody == bool(ids):
        raise NetiError("name the members to release, or say --all")
    answer = client.call(
        settings_in_force(config).table_files_path, "release", ids=None if everybody else list(ids)
    )
    if as_json:
        print_json(answer)
    else:
        say(f"released {len(answer['released'])}, still held {answer['still_held']}")
