"""What a program gets that asked for JSON, when a command cannot answer."""

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from tests.unit.cli.test_help import ALL

from neti.cli import cli
from neti.cli.ending import _CODES
from neti.errors import ConfigError, DataplaneError, NetiError, RegistryUnavailable

WITH_JSON = [one for one in ALL if any("--json" in each.opts for each in one.command.params)]
SAID = {"code": "no_registry", "message": "zk-1 is away\nso is zk-2", "hint": "look\nwait"}


WORDS = {
    "neti explain": ["10.0.0.1", "10.0.0.2", "22"],
    "neti report": ["--inventory", __file__],
}


def _line(context: click.Context) -> list[str]:
    if (words := WORDS.get(context.command_path)) is not None:
        return [*context.command_path.split()[1:], *words]
    needed = [
        "x"
        for one in context.command.params
        if isinstance(one, click.Argument) and one.required and one.nargs in (1, -1)
    ]
    return [*context.command_path.split()[1:], *needed]


def _refuse_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of any command is done."""
    real = click.Command.invoke

    def refuse(command: click.Command, context: click.Context) -> Any:
        # A group such as fleet does something itself where no command stands behind it.
        if isinstance(command, click.Group) and context.invoked_subcommand is not None:
            return real(command, context)
        raise error

    monkeypatch.setattr(click.Command, "invoke", refuse)


def _error_of(words: list[str]) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(cli, words)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    told = json.loads(line)
    assert told.keys() == {"error"}
    assert told["error"].keys() == {"code", "message", "hint"}
    return done.exit_code, told["error"]


def test_there_are_commands_to_try() -> None:
    assert len(WITH_JSON) > 45


@pytest.mark.parametrize("context", WITH_JSON, ids=lambda one: one.command_path)
def test_an_error_is_one_document_on_stderr(
    context: click.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    _refuse_with(RegistryUnavailable("zk-1 is away\nso is zk-2\n→ look\n→ wait"), monkeypatch)
    assert _error_of([*_line(context), "--json"]) == (1, SAID)


@pytest.mark.parametrize("context", WITH_JSON, ids=lambda one: one.command_path)
def test_so_is_a_line_that_cannot_be_read(context: click.Context) -> None:
    code, said = _error_of([*_line(context), "--json", "--no-such-option"])
    assert (code, said["code"]) == (2, "usage")
    assert said["message"].startswith("No such option '--no-such-option'")


@pytest.mark.parametrize(
    ("error", "code", "exit_code"),
    [
        (ConfigError("x"), "configuration", 2),
        (DataplaneError("x"), "kernel_refused", 1),
        (NetiError("x"), "refused", 1),
        (click.Abort(), "not_confirmed", 1),
        (KeyboardInterrupt(), "interrupted", 130),
        (click.UsageError("x"), "usage", 2),
        (OSError(28, "x"), "system", 1),
        (ZeroDivisionError("x"), "bug", 1),
    ],
)
def test_its_code_says_what_kind_it_is(
    error: BaseException, code: str, exit_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _refuse_with(error, monkeypatch)
    got, said = _error_of(["status", "--json"])
    assert (got, said["code"]) == (exit_code, code)


def test_without_the_option_it_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    _refuse_with(NetiError("it is away\n→ wait"), monkeypatch)
    done = CliRunner().invoke(cli, ["status"])
    assert done.stderr == "neti: it is away\n      → wait\n"


def test_the_word_of_a_command_behind_is_not_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """'neti lab exec' has no --json; what it runs may have."""
    _refuse_with(NetiError("it is away"), monkeypatch)
    done = CliRunner().invoke(cli, ["lab", "exec", "ec2-1", "neti", "status", "--json"])
    assert done.stderr == "neti: it is away\n"


def test_every_code_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[3] / "docs/operations.md").read_text()
    table = page.split("### Errors, for programs")[1].split("\n\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")][1:]
    assert {code for _, code in _CODES} == set(re.findall(r"`(\w+)`", " ".join(rows)))
