"""How text looks on a terminal, and that nothing else sees any of it."""

import os
import pty
import subprocess
import sys
from typing import Any

import click
import pytest
from click.testing import CliRunner

from neti.cli import cli, fleet_shown, looks
from neti.cli.looks import Tinted, Tone, folded

NOWHERE = [sys.executable, "-m", "neti", "metrics", "-c", "/nowhere/neti.yml"]
ESCAPE = "\033["


def on_a_terminal(*line: str, **environment: str) -> str:
    """What it shows there, in 80 columns."""
    master, slave = pty.openpty()
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")}
    done = subprocess.Popen(
        line,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**clean, "TERM": "xterm", "COLUMNS": "80", **environment},
    )
    os.close(slave)
    shown = b""
    try:
        while part := os.read(master, 65536):
            shown += part
    except OSError:  # its other end is closed
        pass
    done.wait()
    os.close(master)
    return shown.decode().replace("\r\n", "\n")


def test_an_error_has_a_colour_on_a_terminal_only() -> None:
    shown = on_a_terminal(*NOWHERE)
    assert shown.startswith(f"{ESCAPE}31m")
    for words, environment in (
        ([], {"NO_COLOR": "1"}),
        ([], {"TERM": "dumb"}),
        (["--no-color"], {}),
    ):
        assert ESCAPE not in on_a_terminal(*NOWHERE, *words, **environment)
    first = [*NOWHERE[:3], "--no-color", *NOWHERE[3:]]
    assert on_a_terminal(*first) == click.unstyle(shown)
    piped = subprocess.run(NOWHERE, capture_output=True, text=True, check=False).stderr
    assert ESCAPE not in piped
    assert piped.split() == click.unstyle(shown).split()


def test_no_line_is_wider_than_the_terminal_and_no_word_is_broken() -> None:
    lines = click.unstyle(on_a_terminal(*NOWHERE)).splitlines()
    assert len(lines) > 1
    assert all(len(line) <= 80 for line in lines)
    assert all(line.startswith(" " * 6) for line in lines[1:])


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("short", ["short"]),
        (
            f"problem   {'word ' * 9}end",
            [f"problem   {'word ' * 5}word", f"{' ' * 10}word word word end"],
        ),
        (f"    {'word ' * 9}end", [f"    {'word ' * 6}word", "    word word end"]),
        (
            f"{'word ' * 7}'neti lease release web-1' x",
            [f"{'word ' * 6}word", "'neti lease release web-1' x"],
        ),
        (f"→ neti {'word ' * 9}end", [f"→ neti {'word ' * 9}end"]),
        (f"# neti {'word ' * 9}end", [f"# neti {'word ' * 9}end"]),
        ("x" * 60, ["x" * 60]),
        (
            f"the members' {'word ' * 6}members' word",
            [f"the members' {'word ' * 5}", "word members' word"],
        ),
    ],
)
def test_lines_are_broken_between_words(line: str, shown: list[str]) -> None:
    assert folded(line, 40).splitlines() == [one.rstrip() for one in shown]
    assert folded(line, None) == line
    assert folded(line, 20) == line


@pytest.mark.parametrize("tone", ["bad", "doubtful", "good", "heading"])
def test_a_tone_changes_nothing_but_the_colour(tone: Tone) -> None:
    assert click.unstyle(looks.dyed(Tinted("a line", tone), tone)) == "a line"


LONG: dict[str, Any] = {
    "name": "ip-10-21-30-40.eu-central-1.compute.internal",
    "id": "i-0123456789abcdef0",
    "site": "frankfurt",
    "private": "255.255.255.255",
    "public": "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
    "overlay": "192.168.255.255",
    "version": "0.1.0+g1a2b3c4d5e",
    "stage": "enforced",
    "encryption": "required",
    "labels": {"tier": "db"},
    "member_ports": "in force",
    "gateway": "i-0fedcba9876543210",
    "openings": 1,
}


def test_the_fleet_fits_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[Any] = [LONG, {**LONG, "problems": ["disk"]}]
    fleet_shown.print_fleet(rows, "table", 0, [], [])
    whole = capsys.readouterr().out.splitlines()
    assert len(whole) == 4
    assert len(whole[1]) > 200
    monkeypatch.setattr(looks, "columns", lambda _stream: 80)
    fleet_shown.print_fleet(rows, "table", 0, [], [])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    for column in ("ID", "OVERLAY", "STAGE", "PROBLEMS"):
        assert column in lines[0]
    assert "no room for: version, public, private, labels" in "\n".join(lines)


def test_the_option_is_told_once() -> None:
    assert "--no-color" in CliRunner().invoke(cli, ["--help"]).output
    assert "--no-color" not in CliRunner().invoke(cli, ["status", "--help"]).output
