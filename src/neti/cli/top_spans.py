"""What ``neti top`` draws with: pieces of text of one column for each letter. Pure.

Must never do: let through a letter that moves the cursor, or that takes no column or two.
"""

import json
import re
import unicodedata
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from neti.cli import looks
from neti.fleet.picture import Shade
from neti.text import printable

Colour = Literal["", "green", "cyan", "yellow", "magenta", "red"]


class Style(NamedTuple):
    colour: Colour = ""
    bold: bool = False
    reverse: bool = False
    dim: bool = False


class Span(NamedTuple):
    """``text``: see ``span``, which makes one of any text."""

    text: str
    style: Style


Line = tuple[Span, ...]

PLAIN: Final = Style()
BOLD: Final = Style(bold=True)
DIM: Final = Style(dim=True)
GOOD: Final = Style("green")
DOUBTFUL: Final = Style("yellow")
BAD: Final = Style("red", bold=True)
COMMAND: Final = Style("cyan")
CHOSEN: Final = Style(reverse=True)
OF_LEVEL: Final = (PLAIN, PLAIN, DOUBTFUL, BAD)  # see ``neti.fleet.picture.LEVELS``

CALM: Final = 1  # up to this level a host has nothing that anybody should look at
# A letter and a colour each. Whoever sees no colours reads the letters.
LETTERS: Final[dict[Shade, str]] = {
    "enforced": "e",
    "trial": "t",
    "shadow": "s",
    "relaxed": "r",
    "down": "d",
    "silent": "?",
    "lost": "l",
    "held": "h",
    "away": "a",
}
COLOURS: Final[dict[Shade, Colour]] = {
    "enforced": "green",
    "trial": "cyan",
    "shadow": "",
    "relaxed": "yellow",
    "down": "magenta",
    "silent": "yellow",
    "lost": "red",
    "held": "red",
    "away": "",
}
_CUT: Final = "~"
_AS_ASCII: Final = str.maketrans(
    {
        "…": "...",
        "→": "->",
        "\u2013": "-",
        "\u2014": "-",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
    }
)
_BARE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*", re.ASCII)


# No column, or two, by the C library, whatever Unicode's tables say: Hangul's vowels and finals,
# numbers in circles on squares, hexagrams.
_ODD: Final = (
    ("\u1160", "\u11ff"),
    ("\ud7b0", "\ud7ff"),
    ("\u3248", "\u324f"),
    ("\u4dc0", "\u4dff"),
)


def safe(text: object) -> str:
    """One line, of which each letter takes one column on every terminal. What does not is shown as
    its number, ``\\u…``."""
    shown = printable(text)
    if shown.isascii():
        return shown
    return "".join(map(_narrow, shown.translate(_AS_ASCII)))


def _narrow(letter: str) -> str:
    if letter.isascii():
        return letter
    marks = unicodedata.category(letter)[0] in "MCZ"
    wide = unicodedata.east_asian_width(letter) in "WF"
    odd = any(first <= letter <= last for first, last in _ODD)
    return json.dumps(letter)[1:-1] if marks or wide or odd else letter


def bare(value: str) -> str:
    """A value as a word: one that has spaces could pose as the columns beside it."""
    return value if _BARE.fullmatch(value) else json.dumps(value, ensure_ascii=False)


def span(text: object, style: Style = PLAIN) -> Span:
    return Span(safe(text), style)


def line(*parts: object) -> Line:
    """Of texts and spans."""
    return tuple(part if isinstance(part, Span) else span(part) for part in parts)


def padded(text: object, width: int, style: Style = PLAIN, *, right: bool = False) -> Span:
    """In exactly so many columns."""
    shown = cut(safe(text), width)
    return Span(shown.rjust(width) if right else shown.ljust(width), style)


def cut(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    return f"{text[: width - 1]}{_CUT}" if width > 0 else ""


def width_of(made: Line) -> int:
    return sum(len(one.text) for one in made)


def fitted(made: Line, width: int) -> Line:
    """At most so many columns; what is cut off leaves a mark."""
    if width_of(made) <= width:
        return made
    kept: list[Span] = []
    room = width
    for one in made:
        if len(one.text) >= room:
            # There is more behind it, if not of this piece.
            kept.append(Span(cut(f"{one.text}{_CUT}", room), one.style))
            break
        kept.append(one)
        room -= len(one.text)
    return tuple(kept)


def chosen(made: Line, width: int) -> Line:
    """As the selected line of a list: over the whole width, so that it is seen without colours."""
    text = "".join(one.text for one in fitted(made, width))
    return (Span(text.ljust(width), CHOSEN),)


def folded(text: object, width: int, style: Style = PLAIN) -> list[Line]:
    """In as many lines as it takes, broken between words."""
    return [(Span(one, style),) for one in looks.folded(safe(text), width).split("\n")]


def flowed(items: Iterable[Line], width: int) -> list[Line]:
    """One behind the other, two spaces between, none of them broken."""
    lines: list[Line] = []
    current: Line = ()
    for item in items:
        more = (*current, Span("  ", PLAIN), *item) if current else item
        if current and width_of(more) > width:
            lines.append(current)
            more = item
        current = more
    return [*lines, current] if current else lines


def letter_of(shade: Shade, level: int) -> str:
    """Capital: somebody should look at it."""
    return LETTERS[shade].upper() if level > CALM else LETTERS[shade]


def style_of(shade: Shade, level: int) -> Style:
    critical = level >= len(OF_LEVEL) - 1
    return Style(COLOURS[shade], bold=level > CALM, reverse=critical)
