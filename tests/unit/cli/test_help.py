"""What '--help' prints."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from neti.cli import cli


def _groups(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield words
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from _groups(command, (*words, name))


@pytest.mark.parametrize("words", [*_groups(cli)], ids=" ".join)
def test_each_command_is_told_whole_on_one_line(words: tuple[str, ...]) -> None:
    """On a terminal of 80 columns. What ends in dots tells half of it."""
    said = CliRunner().invoke(cli, [*words, "--help"], terminal_width=80).output
    listed = said[said.index("Commands:") :].splitlines()[1:]
    assert listed
    assert [line for line in listed if line.endswith("...")] == []
