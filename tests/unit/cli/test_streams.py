"""Output that nobody takes: a reader that has seen enough, a full disk, a closed stream."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.cli.test_ending import CONFIG

FULL = "No space left on device"
CLOSED = "standard output is closed"
NOBODY_READS = ""  # a pipe whose other end is closed, as after 'head'
# How a shell says it, the exit code, and what stderr says.
WAYS = {
    ">/dev/full": (1, FULL),
    ">&-": (1, CLOSED),
    "<&- >&-": (1, CLOSED),
    NOBODY_READS: (141, ""),
}
# A command that says something before, between and after what it changes.
WORKS = """
import pathlib, sys, time
from neti import cli
from neti.cli.output import say

@cli.cli.command()
def work():
    folder = pathlib.Path({folder!r})
    for number in range(3):
        say("x" * 100_000)
        (folder / str(number)).write_text("done")
    sys.exit({code})

cli._COMMANDS["work"] = ("__main__", "work")
cli.main()
"""


@pytest.fixture(name="config")
def _config(tmp_path: Path) -> str:
    (tmp_path / "neti.yml").write_text(CONFIG.format(folder=tmp_path))
    return str(tmp_path / "neti.yml")


def shell(line: str, way: str) -> tuple[int, str]:
    """Exit code, and stderr."""
    reads, writes = os.pipe()
    os.close(reads)
    try:
        done = subprocess.run(
            ["sh", "-c", f"exec {line} {way}"],
            stdout=writes,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writes)
    return done.returncode, done.stderr


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("words", ["config check -c {}", "config schema", "--help", "--version"])
def test_every_command_says_what_became_of_its_words(words: str, way: str, config: str) -> None:
    code, said = WAYS[way]
    sentence = f"neti: the output could not be written: {said}\n" if said else ""
    assert shell(f"{sys.executable} -m neti {words.format(config)}", way) == (code, sentence)


def test_as_json_where_that_is_asked_for(config: str) -> None:
    code, said = shell(f"{sys.executable} -m neti config check --json -c {config}", ">/dev/full")
    assert code == 1
    error = {"code": "output", "message": f"the output could not be written: {FULL}", "hint": None}
    assert json.loads(said) == {"error": error}


@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize("way", WAYS)
def test_what_a_command_changes_is_never_left_half_done(
    way: str, code: int, tmp_path: Path
) -> None:
    """A command's own failure is told by its exit code, whatever became of its words."""
    (tmp_path / "it.py").write_text(WORKS.format(folder=str(tmp_path), code=code))
    found, said = shell(f"{sys.executable} {tmp_path}/it.py work", way)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["0", "1", "2", "it.py"]
    assert found == (code or WAYS[way][0])
    assert "Traceback" not in said
    assert said.count("could not be written") == (WAYS[way][1] != "")


@pytest.mark.parametrize(
    "way", [">/dev/null 2>&-", ">/dev/null 2>/dev/full", "<&- >/dev/null 2>&-"]
)
def test_words_on_stderr_that_nobody_takes_end_nothing(way: str, tmp_path: Path) -> None:
    work = WORKS.format(folder=str(tmp_path), code=0).replace("100_000)", "9, err=True)")
    (tmp_path / "it.py").write_text(work)
    assert shell(f"{sys.executable} {tmp_path}/it.py work", way)[0] == 0
    assert (tmp_path / "2").exists()


def test_no_file_of_a_command_becomes_its_output(tmp_path: Path) -> None:
    """A closed stream's number would be that of the next file, and words would stand in there."""
    opened = tmp_path / "state"
    look = (
        "from neti.cli import streams; streams.heed(); "
        f"print(open({str(opened)!r}, 'w').fileno() > 2 or 1 / 0)"
    )
    code, _ = shell(f'{sys.executable} -c "{look}"', "<&- >&- 2>&-")
    assert code == 0
    assert opened.read_text() == ""
