"""``--watch``: what a command shows, drawn again and again until Ctrl-C. One for all that look.

Must never do: end because what is looked at is away for a while, or scroll the top away.
"""

import io
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import partial, wraps
from itertools import accumulate
from typing import Any, Final, TypeVar

import click

from neti.cli import looks, streams
from neti.cli.output import explain, hand_over, is_terminal, wants_json
from neti.errors import NetiError

_CLEAR, _HOME, _REST_OF_LINE, _REST = "\033[2J", "\033[H", "\033[K", "\033[J"
_WIDENS: Final = "\ufe0f"  # asks for the picture of the letter before it, which may be wider
_LEAST: Final = 1.0  # seconds: most of them ask the registry

F = TypeVar("F", bound=Callable[..., Any])


def watch_option(every: float) -> Callable[[F], F]:
    """For a command that calls ``again`` itself."""
    return click.option(
        "--watch",
        is_flag=False,
        flag_value=every,
        type=click.FloatRange(min=_LEAST),
        metavar="[SECONDS]",
        help=f"Draw it again every {every:.0f} seconds, or as often as said, until Ctrl-C.",
    )


def watchable(every: float) -> Callable[[F], Callable[..., None]]:
    """For a command of which all can be done again."""

    def decorate(command: F) -> Callable[..., None]:
        @watch_option(every)
        @wraps(command)
        def watched(*args: Any, watch: float | None, **options: Any) -> None:
            draw = partial(command, *args, **options)
            if watch is None:
                draw()
            else:
                again(draw, watch)

        return watched

    return decorate


def again(draw: Callable[[], object], every: float) -> None:
    """Show what ``draw`` prints every so many seconds, until Ctrl-C. An error is shown instead,
    because the next time may be better; a wrong command line is raised."""
    context = click.get_current_context()
    refuse_where_nobody_watches(not wants_json(context))
    looks.draw_for(sys.stdout, context)
    begin = _CLEAR
    with suppress(KeyboardInterrupt):
        while True:
            drawn = _drawn(draw)
            clock = time.strftime("%H:%M:%S")
            title = f"{context.command_path}, {clock}, every {every:g} s; Ctrl-C ends"
            lines = _as_many_as_fit([title, "", *drawn.splitlines()])
            shown = "".join(f"{line}{_REST_OF_LINE}\n" for line in lines)
            hand_over(f"{begin}{_HOME}{shown}{_REST}", moves=True)
            if streams.lost():  # the terminal is gone
                return
            begin = ""
            time.sleep(every)


def refuse_where_nobody_watches(as_text: bool) -> None:
    if not as_text or not is_terminal(sys.stdout):
        raise NetiError("--watch needs a terminal and text: leave it out, or the other options")


def _drawn(draw: Callable[[], object]) -> str:
    """What it says on either stream."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        try:
            draw()
        except (SystemExit, click.exceptions.Exit):
            pass  # its exit code says what the text does
        except NetiError as error:
            explain(error)
    return said.getvalue()


def _as_many_as_fit(lines: list[str]) -> list[str]:
    """From the top, where the gravest stands."""
    size = shutil.get_terminal_size()
    room = size.lines - 1  # the cursor has a line of its own
    taken = [_rows(click.unstyle(line), size.columns) for line in lines]
    if sum(taken) <= room:
        return lines
    room -= _rows(_more(len(lines)), size.columns)
    fitting = sum(1 for end in accumulate(taken) if end <= room)
    kept = lines[: max(1, fitting)]
    return [*kept, _more(len(lines) - len(kept))]


def _more(count: int) -> str:
    return f"and {count} more lines: they need a higher window"


def _rows(line: str, columns: int) -> int:
    """How many of the terminal's lines it takes. A wide letter is never broken in two."""
    rows, at = 1, 0
    for wide in map(_columns, line):
        if at + wide > columns:
            rows, at = rows + 1, 0
        at += wide
    return rows


def _columns(letter: str) -> int:
    """Rather one too many: then a line less is shown, and none is lost above."""
    if letter.isascii() or letter == _WIDENS:
        return 1
    if unicodedata.category(letter) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
