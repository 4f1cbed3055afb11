"""How text looks on a terminal: colours, and lines that are broken between words only.

Must never do: change what a pipe or a file gets.
"""

import os
import re
import shutil
from collections.abc import Callable
from typing import Any, Final, Literal, TextIO, TypeVar

import click

Tone = Literal["bad", "doubtful", "good", "heading"]

_STYLES: Final[dict[Tone, dict[str, Any]]] = {
    "bad": {"fg": "red", "bold": True},
    "doubtful": {"fg": "yellow"},
    "good": {"fg": "green"},
    "heading": {"bold": True},
}
_COLUMNS: Final = "neti.columns"  # in click's meta: of the terminal that is drawn for
_NARROWEST: Final = 40  # below that a window is no page
# A command in quotes is for pasting: it stays in one piece.
_PIECE: Final = re.compile(r"(?:(?<!\w)'[^']*'|\S)+| +")
_LABEL: Final = re.compile(r"neti: |\s*(?:\S+(?: \S+)?  +)?")
_FOR_PASTING: Final = ("→ ", "# ", "$ ")

F = TypeVar("F", bound=Callable[..., Any])


class Tinted(str):
    """A line that has a colour where there are colours."""

    __slots__ = ("tone",)

    def __new__(cls, text: str, tone: Tone | None) -> "Tinted":
        made = super().__new__(cls, text)
        made.tone = tone
        return made

    tone: Tone | None


def is_terminal(stream: TextIO | None) -> bool:
    """A stream that the caller has closed is None."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def _renounce(ctx: click.Context, _option: click.Parameter, asked: bool) -> None:
    above: click.Context | None = ctx
    while asked and above is not None:
        above.color, above = False, above.parent


def no_color_option(*, hidden: bool) -> Callable[[F], F]:
    return click.option(
        "--no-color",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        hidden=hidden,
        callback=_renounce,
        help="No colours (or NO_COLOR=1).",
    )


def has_colour(stream: TextIO | None) -> bool:
    """By --no-color, NO_COLOR (no-color.org) and the terminal."""
    context = click.get_current_context(silent=True)
    if context is not None and context.color is not None:
        return context.color
    refused = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return not refused and is_terminal(stream)


def columns(stream: TextIO | None) -> int | None:
    """Of the window that shows it; None: no terminal does."""
    context = click.get_current_context(silent=True)
    if context is not None and (drawn := context.meta.get(_COLUMNS)) is not None:
        return int(drawn)
    return shutil.get_terminal_size().columns if is_terminal(stream) else None


def draw_for(stream: TextIO, context: click.Context) -> None:
    """What is collected from now on is for that terminal."""
    context.color = has_colour(stream)
    context.meta[_COLUMNS] = columns(stream)


def dyed(line: str, tone: Tone | None) -> str:
    """Next steps have a colour of their own."""
    if tone is not None:
        return click.style(line, **_STYLES[tone])
    return click.style(line, fg="cyan") if line.lstrip().startswith("→ ") else line


def folded(line: str, width: int | None) -> str:
    """In lines that fit, the later ones below the first one's text. What is to be pasted is not
    broken, nor is a word that is too long."""
    if width is None or len(line) <= width or width < _NARROWEST:
        return line
    if line.lstrip().startswith(_FOR_PASTING):
        return line
    label = _LABEL.match(line)
    indent = " " * (label.end() if label is not None and label.end() <= width // 3 else 0)
    lines, current = [], ""
    for piece in _PIECE.findall(line):
        if len(current) + len(piece) > width and not piece.isspace() and current.strip():
            lines.append(current.rstrip())
            current = indent
        current += piece
    return "\n".join([*lines, current.rstrip()])
