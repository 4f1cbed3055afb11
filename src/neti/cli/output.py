"""The one way from a command to its reader: terminal, pipe or file.

Lines are made printable here, so that no command can forget it. Text for a program (JSON, CSV, a
ruleset) is made by the function in ``neti.text`` for its target, and handed over as it is.

Must never: print foreign text without one of these.
"""

from typing import Any

import click

from neti.text import json_document, printable


def say(*lines: object, err: bool = False) -> None:
    """Each on a line of its own, whatever it holds."""
    for line in lines:
        click.echo(printable(line, None), err=err)


def hand_over(document: str | bytes) -> None:
    """Text for a program, of which the caller knows that each value in it is inert there."""
    click.echo(document, nl=False)


def print_json(document: Any, *, indent: int | None = 2) -> None:
    hand_over(json_document(document, indent=indent) + "\n")


def progress(text: str = "") -> None:
    """In place of the last one, on a terminal's last line; without text that line is cleared."""
    click.echo(f"\r\033[K{printable(text)}", nl=False, err=True)
