"""What the AWS commands share: where to look, showing a difference, carrying it out."""

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import click

from neti.aws.apply import Applier, Outcome, summary
from neti.aws.calls import Calls, Place
from neti.aws.changes import Change
from neti.cli import streams
from neti.cli.output import print_json, progress, say
from neti.errors import NetiError

F = TypeVar("F", bound=Callable[..., Any])
INTERRUPTED: Final = 130  # as a shell counts Ctrl-C
_AGAIN_SECONDS: Final = 600.0


def place_options(command: F) -> F:
    """``profile``, ``role_arn``, ``region``: each may be given several times."""
    for option in (
        click.option(
            "--region", multiple=True, help="A region, or all. Default: the profile's own."
        ),
        click.option(
            "--role-arn",
            multiple=True,
            metavar="ARN",
            help="An account, by a role to assume in it.",
        ),
        click.option("--profile", multiple=True, help="An account, by a profile of the AWS SDK."),
    ):
        command = option(command)
    return command


def change_options(command: F) -> F:
    """``dry_run``, ``yes``, ``sleep``."""
    for option in (
        click.option(
            "--sleep",
            type=click.FloatRange(min=0),
            default=0.0,
            metavar="SECONDS",
            help="How long to wait between calls that change something.",
        ),
        click.option("--yes", is_flag=True, help="Do not ask for confirmation."),
        click.option("--dry-run", is_flag=True, help="Show the difference, change nothing."),
    ):
        command = option(command)
    return command


def carry_out(
    changes: Sequence[Change],
    places: Sequence[Calls],
    *,
    dry_run: bool,
    yes: bool,
    pause: float,
    as_json: bool,
    document: Mapping[str, Any],
    quiet: bool = False,
) -> None:
    """Shows the changes, asks on a terminal, applies them. Exit code 1 when not everything was
    done. ``quiet``: say nothing when there is nothing to change."""
    if not as_json:
        for change in changes:
            for line in change.means:
                say(line)
    if quiet and not changes:
        return
    if not changes or dry_run:
        _nothing_done(changes, dry_run=dry_run, as_json=as_json, document=document)
        return
    if sys.stdin.isatty() and not yes:
        click.confirm(f"Make these {len(changes)} calls?", abort=True, err=True)
    outcome = _apply(changes, {calls.place: calls for calls in places}, pause)
    if as_json:
        print_json({**document, "dry_run": False, **_outcome(outcome)})
        if outcome.error is not None:
            say(*f"neti: {outcome.error}".splitlines(), err=True)
    else:
        for line in summary(outcome):
            say(line, err=outcome.failed is not None)
    if outcome.failed is not None:
        sys.exit(INTERRUPTED if outcome.interrupted else 1)


def warn(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        say(f"warning: {sentence}", err=True)


def follow_it(once: Callable[[], None], seconds: float) -> None:
    """Runs until it is interrupted. A failed turn is tried again at the next one. A failure that
    lasts is repeated now and then, and its end is reported."""
    failing, said_at = "", 0.0
    while True:
        failure = ""
        try:
            once()
        except NetiError as error:
            failure = f"{error}\nTrying again in {seconds:g} s"
        except SystemExit as stopped:  # carry_out has just printed what was done and what was not
            if stopped.code == INTERRUPTED:
                raise
            failure = f"Trying again in {seconds:g} s"
        now = time.monotonic()
        if failure and (failure != failing or now - said_at > _AGAIN_SECONDS):
            say(*f"neti: {failure}".splitlines(), err=True)
            said_at = now
        elif failing and not failure:
            say("neti: it works again", err=True)
        failing = failure
        if streams.lost():  # between two turns nothing is half done
            return
        time.sleep(seconds)


class Words:
    """Prints the lines of one turn at once. With ``held``, prints them when the turn is over, and
    only if they differ from those of the turn before."""

    def __init__(self, *, held: bool = False) -> None:
        self._held = held
        self._now: list[tuple[str, bool]] = []
        self._before: list[tuple[str, bool]] = []

    def say(self, line: str, *, err: bool = False) -> None:
        if self._held:
            self._now.append((line, err))
        else:
            say(line, err=err)

    def warn(self, sentence: str) -> None:
        self.say(f"warning: {sentence}", err=True)

    def turn(self, *, anyway: bool) -> None:
        if anyway or self._now != self._before:
            for line, err in self._now:
                say(line, err=err)
        self._now, self._before = [], self._now


def waiting(sentence: str) -> None:
    """Reports a slow call, because silence looks like a hang."""
    say(f"neti: {sentence}", err=True)


class Progress:
    """One line on stderr that rewrites itself, on a terminal only. Safe from any thread."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._counts: dict[Place, int] = {}
        self._lock = threading.Lock()
        self._shown = sys.stderr.isatty()

    def __call__(self, place: Place, count: int) -> None:
        with self._lock:
            self._counts[place] = count
            self._show(f"{sum(self._counts.values())} {self._what}")

    def step(self, done: int, of: int) -> None:
        self._show(f"{done} of {of} {self._what}")

    def end(self) -> None:
        if self._shown:
            progress()

    def _show(self, text: str) -> None:
        if self._shown:
            progress(text)


def _apply(changes: Sequence[Change], places: Mapping[Place, Calls], pause: float) -> Outcome:
    progress = Progress("calls made")
    told: list[Change] = []

    def hear(change: Change) -> None:
        told.append(change)
        progress.step(len(told), len(changes))

    outcome = Applier(places=places, pause=pause, told=hear).apply(changes)
    progress.end()
    return outcome


def _nothing_done(
    changes: Sequence[Change], *, dry_run: bool, as_json: bool, document: Mapping[str, Any]
) -> None:
    if as_json:
        calls = [change.document() for change in changes]
        print_json({**document, "dry_run": dry_run, "changes": calls})
    elif changes:
        say(f"dry run: {len(changes)} calls would be made, nothing was changed")
    else:
        say("nothing to change")


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "done": [change.document() for change in outcome.done],
        "already": [change.document() for change in outcome.already],
        "failed": None if outcome.failed is None else outcome.failed.document(),
        "perhaps_done": outcome.unknown,
        "error": None if outcome.error is None else str(outcome.error),
        "not_done": [change.document() for change in outcome.left],
    }
