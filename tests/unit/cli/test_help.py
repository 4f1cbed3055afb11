"""What '--help' prints, and what is said of a command that is not there."""

import re
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from neti.cli import cli
from neti.cli.menu import Formatter

COLUMNS = 80


def contexts(
    command: click.Command = cli, parent: click.Context | None = None, name: str = "neti"
) -> Iterator[click.Context]:
    """Of every command, groups too."""
    context = click.Context(command, parent, name, **command.context_settings)
    yield context
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            child = command.get_command(context, inner)
            assert child is not None
            yield from contexts(child, context, inner)


ALL = [*contexts()]
GROUPS = [one for one in ALL if isinstance(one.command, click.Group)]


def _path(context: click.Context) -> str:
    return context.command_path


def _help(context: click.Context, columns: int) -> str:
    formatter = Formatter(width=columns - 2)  # as click makes it
    context.command.format_help(context, formatter)
    return formatter.getvalue()


@pytest.mark.parametrize("context", GROUPS, ids=_path)
def test_each_command_is_told_whole_on_one_line(context: click.Context) -> None:
    """On a terminal of 80 columns. What ends in dots tells half of it."""
    group = context.command
    assert isinstance(group, click.Group)
    lines = _help(context, COLUMNS).splitlines()
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if not command.hidden:
            told = command.get_short_help_str(1000)
            assert not told.endswith(("...", "…"))
            assert [line for line in lines if re.fullmatch(rf"  {name} +{re.escape(told)}", line)]


@pytest.mark.parametrize("context", ALL, ids=_path)
def test_help_fits_the_terminal_and_breaks_no_word(context: click.Context) -> None:
    shown = _help(context, COLUMNS)
    assert [line for line in shown.splitlines() if len(line) > COLUMNS] == []
    assert set(shown.split()) <= set(_help(context, 10_000).split())


def test_every_command_stands_in_one_section() -> None:
    said = CliRunner().invoke(cli, ["--help"]).output
    for title in ("Look:", "Rules of this host:", "This host:", "The fleet:", "Set-up:"):
        assert f"\n{title}\n" in said
    for name in cli.list_commands(click.Context(cli)):
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        assert len(re.findall(rf"(?m)^  {name} ", said)) == (not command.hidden)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["staus"], "status"),
        (["lease", "lsit"], "list"),
        (["registry", "adimt"], "admit"),
        (["lab", "dmeo"], "demo"),
        (["status", "--jsn"], "--json"),
        (["fleet", "--sites", "vpc"], "--site"),
    ],
)
def test_what_was_meant_is_named(words: list[str], meant: str) -> None:
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 2
    assert re.search(rf"Did you mean (one of: )?.*'?{meant}", done.output), done.output


def test_what_is_like_nothing_gets_no_guess() -> None:
    said = CliRunner().invoke(cli, ["lease", "zzzzzz"]).output
    assert "No such command 'zzzzzz'" in said
    assert "Did you mean" not in said
