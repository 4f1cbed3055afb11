"""``--watch``: one loop for all commands that look."""

import os
import re
from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner, Result
from tests.unit.cli.test_help import ALL

from neti.cli import cli, watching
from neti.cli.output import json_option, say
from neti.errors import NetiError

WATCHED = {
    "neti status",
    "neti fleet",
    "neti preview",
    "neti leftovers",
    "neti group list",
    "neti lease list",
}
Draw = Callable[[], None]


class Screen:
    """A terminal of ``lines`` by 20, on which so many pictures are drawn until Ctrl-C."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lines: int = 24) -> None:
        self.pauses: list[float] = []
        self.pictures = 3
        size = os.terminal_size((20, lines))
        monkeypatch.setattr("shutil.get_terminal_size", lambda: size)
        monkeypatch.setattr(watching, "is_terminal", lambda _stream: True)
        monkeypatch.setattr("time.sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if len(self.pauses) == self.pictures:
            raise KeyboardInterrupt

    def shows(self, draw: Draw, *words: str) -> Result:
        command = click.command("look")(json_option(watching.watchable(5)(_of(draw))))
        return CliRunner().invoke(command, words, color=True)

    def picture(self, draw: Draw) -> list[str]:
        """The lines of the last one, without its title."""
        done = self.shows(draw, "--watch")
        assert done.exit_code == 0, done.output
        title, empty, *lines = click.unstyle(done.stdout.split("\033[H")[-1]).splitlines()
        assert re.fullmatch(r"look, \d\d:\d\d:\d\d, every 5 s; Ctrl-C ends", title)
        assert empty == ""
        return lines


def _of(draw: Draw) -> Callable[..., None]:
    def look(as_json: bool) -> None:
        del as_json
        draw()

    return look


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    return Screen(monkeypatch)


def test_whatever_looks_at_what_changes_has_it() -> None:
    found = {
        one.command_path
        for one in ALL
        if any("--watch" in option.opts for option in one.command.params)
    }
    assert found >= WATCHED


@pytest.mark.parametrize("words", ["status", "fleet", "leftovers", "group list", "lease list"])
def test_it_needs_a_terminal(words: str) -> None:
    done = CliRunner().invoke(cli, [*words.split(), "--watch", "-c", "/nowhere"])
    assert done.exit_code == 1
    assert "--watch needs a terminal" in done.stderr


def test_it_draws_until_ctrl_c(screen: Screen) -> None:
    count = iter(range(9))
    assert screen.picture(lambda: say(f"picture {next(count)}")) == ["picture 2"]
    assert screen.pauses == [5, 5, 5]


def test_it_draws_as_often_as_it_is_told(screen: Screen) -> None:
    assert screen.shows(lambda: None, "--watch", "2").exit_code == 0
    assert screen.pauses == [2, 2, 2]
    assert screen.shows(lambda: None, "--watch", "0.1").exit_code == 2


def test_what_stands_on_stderr_is_drawn_too(screen: Screen) -> None:
    assert screen.picture(lambda: say("a note", err=True)) == ["a note"]


def test_an_error_is_shown_and_looked_at_again(screen: Screen) -> None:
    outcomes = iter([NetiError("it is away"), SystemExit(1), NetiError("away again\n→ wait")])

    def draw() -> None:
        raise next(outcomes)

    assert screen.picture(draw) == ["neti: away again", "      → wait"]


def test_a_wrong_line_ends_it(screen: Screen) -> None:
    def draw() -> None:
        raise click.UsageError("no such site")

    assert screen.shows(draw, "--watch").exit_code == 2
    assert screen.pauses == []


def test_no_json_is_drawn(screen: Screen) -> None:
    done = screen.shows(lambda: say("{}"), "--watch", "--json")
    assert isinstance(done.exception, NetiError)
    assert screen.pauses == []


def test_the_top_stays_where_the_window_is_low(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a line that the terminal breaks each part needs room."""
    lines = [f"line {number}" for number in range(9)]
    # Nine lines of text: of 12 the cursor has one, and the title two and an empty one.
    assert Screen(monkeypatch, 13).picture(lambda: say(*lines)) == lines
    shown = Screen(monkeypatch, 10).picture(lambda: say(*lines))
    assert shown[:-1] == lines[: len(shown) - 1]
    assert shown[-1] == f"and {9 - len(shown) + 1} more lines: they need a higher window"
    wide = ["x" * 50, *lines]
    assert len(Screen(monkeypatch, 10).picture(lambda: say(*wide))) == len(shown) - 2


def height(picture: list[str]) -> int:
    """On a terminal of 20 columns that breaks no wide letter: ten of them fill a line."""
    return sum(max(1, -(-sum(2 if ord(c) > 0x3000 else 1 for c in one) // 20)) for one in picture)


@pytest.mark.parametrize("high", range(7, 16))
def test_wide_letters_scroll_nothing_away(monkeypatch: pytest.MonkeyPatch, high: int) -> None:
    """A host's labels may be of any letters, and some take two columns."""
    lines = ["\u6f22" * 15 + str(number) for number in range(9)]
    shown = Screen(monkeypatch, high).picture(lambda: say(*lines))
    assert shown[-1].startswith("and ")
    # The title takes two of the lines, behind it is an empty one, and the cursor has the last.
    assert 2 + 1 + height(shown) + 1 <= high
    assert 2 + 1 + height(shown) + 1 > high - 2  # and no more is left free than one needs


@pytest.mark.parametrize(
    ("line", "rows"),
    [
        ("", 1),
        ("a" * 5, 1),
        ("a" * 6, 2),
        ("\u6f22" * 2 + "a", 1),
        ("\u6f22" * 3, 2),
        ("\u6f22" * 5, 3),  # two in each line of five columns
        ("e\u0301" * 5, 1),  # an accent by itself takes no column
        ("\U0001f600" * 3, 2),
    ],
)
def test_a_line_takes_as_many_as_the_terminal_breaks_it_into(line: str, rows: int) -> None:
    assert watching._rows(line, 5) == rows
