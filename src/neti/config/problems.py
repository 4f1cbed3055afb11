"""Errors in a file, as values that render to one line each. Never shows a secret."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neti.errors import ConfigError

# Where in the file: ("sites", "vpc", "private", 0) is sites.vpc.private[0].
Place = tuple[str | int, ...]

# aws_key and aws_secret_key, their names in other programs, and misspellings. What follows one of
# them is never shown, wherever it is in the file.
_SECRET_KEY: Final = re.compile(r"(?i:aws_(?:secret|access|key))[a-z_]{0,12}", re.ASCII)
_LONGEST_SHOWN: Final = 60
_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_./:-]{1,64}", re.ASCII)


class Unfit(ValueError):
    """A value that a key cannot take. ``write`` is the value that was probably meant, as YAML."""

    def __init__(self, found: object, expected: str, *, write: str | None = None) -> None:
        super().__init__(expected)
        self.found = found if isinstance(found, Said) else Said(describe(found))
        self.expected = expected
        self.write = write


class Said(str):
    """What was found, already in words."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake. ``found`` must already be free of secrets (see ``at``)."""

    line: int
    place: Place
    found: str
    expected: str
    hint: str = ""

    def render(self, path: Path) -> str:
        where = f"{path}:{self.line}: " if self.line else f"{path}: "
        return f"{where}{self.sentence()}"

    def sentence(self) -> str:
        """Without the file and the line."""
        key = f"{key_path(self.place)}: " if self.place else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{key}{self.found}: expected {self.expected}{hint}"


def at(place: Place, line: int, unfit: Unfit) -> Problem:
    """The problem of an unfit value at a place, without the value if it may be a secret."""
    if is_secret(place):
        return Problem(
            line=line,
            place=place,
            found="a value that is not shown",
            expected=unfit.expected,
        )
    hint = f"write: {_yaml_line(place, unfit.write)}" if unfit.write is not None else ""
    return Problem(line=line, place=place, found=unfit.found, expected=unfit.expected, hint=hint)


def refuse(path: Path, problems: Iterable[Problem]) -> ConfigError:
    """The error that lists all problems, one per line, in the order of the file."""
    ordered = sorted(problems, key=lambda problem: problem.line)
    return ConfigError("\n".join(dict.fromkeys(problem.render(path) for problem in ordered)))


def is_secret(place: Place) -> bool:
    """Whether the value may be an AWS key, even with wrong indentation or a misspelt key."""
    return any(isinstance(part, str) and _SECRET_KEY.match(part) for part in place)


def key_path(place: Place) -> str:
    """The place as a dotted path; it stops at a secret's key, because a mistake may make the rest
    secret."""
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        public = _public(part)
        shown = public if _PLAIN_KEY.fullmatch(public) else shorten(public)
        text += f".{shown}" if text else shown
        if _SECRET_KEY.match(part):
            break
    return text


def describe(value: object) -> str:
    """A value in the words of an error line."""
    match value:
        case None:
            return "nothing (null)"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text {shorten(value)}"
        case list():
            return "a list"
        case dict():
            return "a mapping"
    return shorten(str(value))


def shorten(text: str) -> str:
    """The text in quotes, shortened, on one line."""
    public = _public(text)
    cut = public if len(public) <= _LONGEST_SHOWN else f"{public[: _LONGEST_SHOWN - 3]}..."
    return repr(cut)


def _public(text: str) -> str:
    """The text up to a secret's name: ``aws_secret_key=...`` is one text in YAML."""
    name = _SECRET_KEY.search(text)
    return text if name is None or name.end() == len(text) else f"{text[: name.end()]}..."


def nearest(word: str, known: Iterable[str]) -> str:
    """'did you mean X?' or ''."""
    close = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else ""


def _yaml_line(place: Place, value: str) -> str:
    last = place[-1] if place else ""
    return f"- {value}" if isinstance(last, int) else f"{last}: {value}"
