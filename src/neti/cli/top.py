"""``neti top``: the whole fleet on one screen, looked at again and again.

Must never do: change anything, or write to the terminal beside the screen.
"""

import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from neti.cli import looks
from neti.cli.common import config_option, refuse_unknown_site, registry_of, settings_in_force
from neti.cli.fleet_asked import key_asked, site_option, where_option
from neti.cli.output import is_terminal, say
from neti.cli.top_lines import Frame, drawn
from neti.cli.top_looks import Looker
from neti.cli.top_view import Known, Shown, View, pressed, shown_of
from neti.control import client
from neti.errors import NetiError
from neti.fleet.selecting import Choice
from neti.oneshot.watched import Watched

if TYPE_CHECKING:
    from neti.cli.top_screen import Screen

_TICK: Final = 0.2  # seconds: after so long a new picture is drawn
_PATIENCE: Final = 1.0  # seconds that the end waits for a look that is on its way
_MOST_WORDS: Final = 20
_ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NO_TERMINAL: Final = frozenset({"", "dumb", "unknown"})


@click.command()
@config_option
@click.option(
    "--by",
    metavar="LABEL",
    callback=key_asked,
    help="The label that tells tiers apart; or site, stage, state or version. [default: the label "
    "that most hosts have]",
)
@site_option
@where_option
def top(config: Path, by: str | None, site: str | None, where: tuple[tuple[str, str], ...]) -> None:
    """Watch the whole fleet on one screen.

    Each host is a letter in its site, with a table of tiers, what needs somebody now and what to
    type, and what has happened. Looks every two seconds, and goes on where the registry does not
    answer, with the word that what it shows is old. The arrows, Tab, Enter and / lead to each host;
    ? lists the keys, q ends it. It changes nothing. For operators: with a host's certificate, what
    hosts say of themselves cannot be read.

    Needs a terminal of at least 60 columns and 18 lines; elsewhere use 'neti fleet'.

    \b
    Examples:
      neti top
      neti top --by tier
      neti top --site vpc --where tier=db
    """
    _refuse_without_terminal()
    settings = settings_in_force(config)
    refuse_unknown_site(site, settings.sites)
    watched = Watched(settings, registry_of, client.call, key=by or "")
    only = " ".join(
        [*([f"site={site}"] if site is not None else []), *(f"{k}={v}" for k, v in where)]
    )
    looker = Looker(watched, Choice(site=site, where=where), only=only)
    colours = looks.has_colour(sys.stdout)
    from neti.cli.top_screen import screen

    with _kept_off_the_screen(), _until_ended() as ended, screen(colours=colours) as terminal:
        looker.begin()
        try:
            _run(terminal, looker, ended)
        finally:
            looker.end(_PATIENCE)


def _refuse_without_terminal() -> None:
    if not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        raise NetiError(
            "neti top needs a terminal for keys and screen\n"
            "→ 'neti fleet' prints the members, 'neti fleet --json' does so for a program"
        )
    if os.environ.get("TERM", "") in _NO_TERMINAL:
        raise NetiError(
            f"neti top cannot draw on this terminal (TERM={os.environ.get('TERM', '')})\n"
            "→ 'neti fleet' prints the members, 'neti fleet --by LABEL' totals"
        )


def _run(terminal: "Screen", looker: Looker, ended: Callable[[], bool]) -> None:
    view, shown, of = View(), Shown(), (Known(), "")
    frame = Frame(lines=())
    last: tuple[int, View, tuple[int, int], int] | None = None
    while not ended():
        if looker.failure is not None:
            raise looker.failure
        known = looker.known
        if of[0] is not known or of[1] != view.filter:
            shown, of = shown_of(known, view.filter), (known, view.filter)
        now, size = time.time(), terminal.size()
        if (state := (id(known), view, size, int(now))) != last:
            frame, last = drawn(known, shown, view, *size, now), state
            terminal.show(frame.lines)
        for key in terminal.keys(_TICK):
            if key == "ctrl-l":
                last = None
                continue
            if of[1] != view.filter:  # typed since it was drawn
                shown, of = shown_of(known, view.filter), (known, view.filter)
            view, action = pressed(view, key, shown, page=frame.page, most=frame.most)
            if action == "quit":
                return
            if action == "look":
                looker.now()


@contextmanager
def _until_ended() -> Iterator[Callable[[], bool]]:
    """Whether somebody wants it to end: by Ctrl-C, by a signal, or because the terminal is gone.
    The signals only leave a mark, so that none comes between a terminal and its being put back."""
    seen: list[int] = []
    before = {one: signal.signal(one, lambda number, _: seen.append(number)) for one in _ENDS}
    try:
        yield lambda: bool(seen) or not is_terminal(sys.stdin)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


class _Words(io.TextIOBase):
    """What is said while the screen is on, each line once. Thread-safe."""

    def __init__(self) -> None:
        self.lines: dict[str, None] = {}

    def write(self, text: str | bytes) -> int:
        """click writes bytes where it can."""
        said = text.decode(errors="replace") if isinstance(text, bytes) else text
        for line in said.splitlines():
            if line.strip() and len(self.lines) < _MOST_WORDS:
                self.lines[line] = None
        return len(text)


@contextmanager
def _kept_off_the_screen() -> Iterator[None]:
    """What anybody says on stderr comes after the screen, when it can be read."""
    words = _Words()
    try:
        with redirect_stderr(words):
            yield
    finally:
        say(*words.lines, err=True)
