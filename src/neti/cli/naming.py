"""Whose a name is, where several hosts want it: the operator's word, and what is said about it.

Must never do: let a host take over a name, or lose it, in silence.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click

from neti.cli.output import explain
from neti.fleet.listing import Row
from neti.fleet.naming import Words, contests, withheld
from neti.model.entry import HOST_ID
from neti.text import plain_name
from neti.words import and_more, counted

_MOST_CONTESTS: Final = 20

F = TypeVar("F", bound=Callable[..., Any])

_name: Callable[[F], F] = click.option(
    "--name",
    "names",
    multiple=True,
    metavar="NAME=ID",
    help="Call the host with this id so, and no other, whatever they say. Repeatable.",
)


def name_option(command: F) -> F:
    return _name(command)


def pinned_names(names: Sequence[str]) -> dict[str, str]:
    """By name, whose it is."""
    pinned: dict[str, str] = {}
    for given in names:
        name, _, host_id = given.partition("=")
        if plain_name(name) is None or HOST_ID.fullmatch(host_id) is None:
            raise click.UsageError(
                f"--name {given!r}: expected NAME=ID, such as db-1=i-0123456789abcdef0"
            )
        if name.lower() in (word.lower() for word in pinned) or host_id in pinned.values():
            raise click.UsageError(f"--name {given!r}: expected one name for each host")
        pinned[name] = host_id
    return pinned


def note_contests(rows: Sequence[Row], words: Words) -> None:
    """On stderr."""
    sentences = list(contests(rows, words))
    if sentences:
        shown = sentences[:_MOST_CONTESTS]
        shown[-1] += and_more(len(sentences) - len(shown))
        explain("\n".join([*shown, "→ --name NAME=ID says whose a name is"]))


def note_withheld(rows: Sequence[Row], words: Words) -> None:
    """On stderr."""
    sentences = list(withheld(rows, words))
    for sentence in sentences[:_MOST_CONTESTS]:
        explain(sentence)
    if (more := len(sentences) - _MOST_CONTESTS) > 0:
        explain(f"{counted(more, 'more name is', 'more names are')} not written either")
