"""What the command line says to the agent is what the agent takes: none of it is refused."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import neti.cli
from neti.control import requests

# What concerns the asking, not the command.
_OF_THE_CALL = {"within", "then", "guessed"}


def said() -> Iterator[tuple[str, str]]:
    """(command, argument) of every call of the command line whose command is written out."""
    for path in sorted(Path(neti.cli.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or len(node.args) < 2:
                continue
            name = ast.unparse(node.func)
            command = node.args[1]
            if name not in ("client.call", "ask", "_ask") or not isinstance(command, ast.Constant):
                continue
            for keyword in node.keywords:
                if keyword.arg is not None and keyword.arg not in _OF_THE_CALL:
                    yield str(command.value), keyword.arg


def test_every_argument_of_the_command_line_is_declared() -> None:
    found = set(said())
    assert {("enforce", "anyway"), ("relax", "until"), ("preview", "all")} <= found
    assert [each for each in found if each[1] not in requests.ARGUMENTS[each[0]]] == []


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("enforce", {"seconds": 30, "wait": True, "anyway": True, "session": {}}),
        ("relax", {"until": 1_800_000_000.5}),
        ("relax", {"until": 1_800_000_000}),
        ("reload", {"anyway": True, "session": {}}),
        ("preview", {"all": False}),
        ("release", {"ids": ["i-0"]}),
        (
            "open",
            {"sources": ["a"], "first": 1, "last": 65_535, "proto": "udp", "seconds": 604_800},
        ),
        ("close", {"sources": ["a"], "first": 1, "last": 1, "proto": "tcp"}),
    ],
)
def test_what_is_said_arrives(command: str, arguments: dict[str, object]) -> None:
    """What is not said is left out."""
    assert requests.checked(command, arguments) == arguments
    assert requests.checked(command, dict.fromkeys(arguments)) == {}
