"""The one way from a command to its reader: terminal, pipe or file; and back, where one is asked.

Lines are made printable here, so that no command can forget it. Text for a program (JSON, CSV, a
ruleset) is made by the function in ``neti.text`` for its target, and handed over as it is.

That nobody takes the words is no error here: ``neti.cli.streams``.

Must never: print foreign text without one of these.
"""

import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from neti.cli import looks
from neti.cli.looks import Tinted, Tone, is_terminal
from neti.errors import NetiError
from neti.text import json_document, printable

__all__ = ["Tinted", "is_terminal"]  # beside its own

F = TypeVar("F", bound=Callable[..., Any])

_JSON: Final = "neti.json"  # in click's meta: so it was asked


def _remember(ctx: click.Context, _option: click.Parameter, asked: bool) -> bool:
    ctx.meta[_JSON] = asked
    return asked


# Eager: what is wrong with another option is told as JSON, too.
_as_json: Callable[[F], F] = click.option(
    "--json", "as_json", is_flag=True, is_eager=True, callback=_remember, help="Print JSON."
)


def json_option(command: F) -> F:
    return _as_json(command)


def wants_json(ctx: click.Context) -> bool:
    return bool(ctx.meta.get(_JSON))


def say(*lines: object, err: bool = False) -> None:
    """Each on a line of its own, whatever it holds. On a terminal it is broken between words."""
    stream = sys.stderr if err else sys.stdout
    columns = looks.columns(stream)
    for line in lines:
        tone = line.tone if isinstance(line, Tinted) else None
        text = looks.folded(printable(line, None), columns)
        _write(looks.dyed(text, tone) if looks.has_colour(stream) else text, err=err)


def explain(error: object, tone: Tone | None = None) -> None:
    """Why a command ends: what is the case, and below it each next step."""
    for line in str(error).splitlines():
        step = line.startswith("→ ")
        say(f"      {line}" if step else Tinted(f"neti: {line}", tone), err=True)


def hand_over(document: str | bytes, *, moves: bool = False) -> None:
    """Text for a program, of which the caller knows that each value in it is inert there.
    ``moves``: it moves a terminal's cursor, which has nothing to do with colours."""
    _write(document, end=False, color=True if moves else None)


def print_json(document: Any, *, indent: int | None = 2, err: bool = False) -> None:
    _write(json_document(document, indent=indent), err=err)


def progress(text: str = "") -> None:
    """In place of the last one, on a terminal's last line; without text that line is cleared."""
    _write(f"\r\033[K{printable(text)}", end=False, err=True, color=True)


def consent(question: str, *, yes: bool) -> None:
    """Ask before something grave. ``yes``: that was answered by an option.

    Raises NetiError where nobody can be asked; click.Abort when the answer is no.
    """
    if yes:
        return
    if not is_terminal(sys.stdin):
        raise NetiError(
            f"not done, because there is no terminal on which to ask: {question}\n"
            "→ in a script, add --yes"
        )
    click.confirm(question, abort=True, err=True)


def _write(
    text: str | bytes, *, end: bool = True, err: bool = False, color: bool | None = None
) -> None:
    try:
        click.echo(text, nl=end, err=err, color=color)
    except UnicodeEncodeError:
        raw = text.encode("ascii", "backslashreplace") if isinstance(text, str) else text
        click.echo(raw.decode("ascii"), nl=end, err=err)
