"""Drills that play at once: ``python -m drills --lanes N``."""

import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from drills.runner import Outcome

import drills
from drills import lanes, leftovers, runner

ROOT = Path(__file__).parents[2]
# A lane that knows the drills of this test too.
PROGRAM = """
import sys
from pathlib import Path
import drills
from drills import lanes
drills.__path__.append({folder!r})
name, scale, seed, told = sys.argv[1:]
sys.exit(lanes.main(name, scale, int(seed), Path(told)))
"""
DRILL = """
import os, signal, time
from pathlib import Path
from drills.drill import Row
TITLE = "a drill"
def until(name):
    while not Path({folder!r}, name).exists():
        time.sleep(0.01)
def run(drill):
    here = Path({folder!r}, drill.name)
    here.write_text(str(os.getpid()))
    try:
        {body}
        yield Row("played", f"{{drill.scale}}, {{drill.seed}}", True)
    finally:
        here.with_suffix(".ended").touch()
"""
# In a drill: no end of it comes to its end.
NEVER_DOWN = """from drills import lanes
        lanes._TEARDOWN = 0.5
        try:
            until('never')
        finally:
            until('never')
"""


@pytest.fixture(name="drill")
def _drill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Makes a drill of this name, which does this between its beginning and its row."""
    program = tmp_path / "lane.py"
    program.write_text(PROGRAM.format(folder=str(tmp_path)))
    monkeypatch.setattr(lanes, "COMMAND", (sys.executable, str(program)))
    monkeypatch.setattr(drills, "__path__", [*drills.__path__, str(tmp_path)])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def make(name: str, body: str) -> None:
        (tmp_path / f"{name}.py").write_text(DRILL.format(folder=str(tmp_path), body=body))

    return make


def play(*names: str, count: int = 2) -> Generator[Outcome, None, None]:
    return lanes.play(names, count, scale="short", seed=7)


def test_drills_play_at_once_and_each_tells_all(drill: Callable[[str, str], None]) -> None:
    drill("d91_first", "until('d92_second')")
    drill("d92_second", "until('d91_first')")
    told = {outcome.name: outcome for outcome in play("d91_first", "d92_second")}
    assert told.keys() == {"d91_first", "d92_second"}
    for outcome in told.values():
        assert outcome.title == "a drill"
        assert (outcome.rows[0].what, outcome.rows[0].figure) == ("played", "short, 7")


def test_no_more_than_there_are_lanes(drill: Callable[[str, str], None], tmp_path: Path) -> None:
    for number in range(3):
        drill(
            f"d9{number}_x",
            f"assert len(list(Path({str(tmp_path)!r}).glob('*.ended'))) >= {number}",
        )
    told = [*play("d90_x", "d91_x", "d92_x", count=1)]
    assert [outcome.rows[0].what for outcome in told] == ["played"] * 3


def test_one_that_must_be_alone_is(
    drill: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "ALONE", {"d91_alone"})
    ended = f"len(list(Path({str(tmp_path)!r}).glob('*.ended')))"
    drill("d91_alone", f"assert {ended} == 2")
    drill("d92_first", "until('d93_second')")
    drill("d93_second", "until('d92_first')")
    told = [*play("d91_alone", "d92_first", "d93_second")]
    assert [outcome.rows[0].what for outcome in told] == ["played"] * 3


def test_the_longest_begin_first_and_are_drills() -> None:
    assert {*lanes.LONGEST, *lanes.ALONE} <= {*runner.names()}
    first = sorted(runner.names(), key=lanes.rank)[: len(lanes.LONGEST)]
    assert first == [*lanes.LONGEST]


def test_a_lane_that_was_killed_is_a_drill_that_did_not_finish(
    drill: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    cleared: list[bool] = []
    monkeypatch.setattr(leftovers, "clear", lambda: cleared.append(True))
    drill("d91_dies", "os.kill(os.getpid(), signal.SIGKILL)")
    drill("d92_goes_on", "until('d91_dies')")
    told = {outcome.name: outcome for outcome in play("d91_dies", "d92_goes_on")}
    assert not told["d91_dies"].ok
    assert told["d91_dies"].rows[0].what == "the drill did not finish"
    assert "-9" in told["d91_dies"].rows[0].figure
    assert told["d92_goes_on"].rows[0].ok
    assert cleared == [True]


def test_whoever_stops_in_the_middle_ends_those_that_play(
    drill: Callable[[str, str], None], tmp_path: Path
) -> None:
    drill("d91_ends", "until('d92_hangs')")
    drill("d92_hangs", "until('never')")
    playing = play("d91_ends", "d92_hangs")
    assert next(playing).name == "d91_ends"
    playing.close()
    assert (tmp_path / "d92_hangs.ended").exists()  # it took down what it had built
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "d92_hangs").read_text()), 0)


def test_a_lane_that_hangs_in_its_teardown_is_killed(
    drill: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleared: list[bool] = []
    monkeypatch.setattr(leftovers, "clear", lambda: cleared.append(True))
    monkeypatch.setattr(lanes, "_TEARDOWN", 0.5)
    drill("d91_ends", "until('d92_hangs')")
    drill("d92_hangs", NEVER_DOWN)
    playing = play("d91_ends", "d92_hangs")
    assert next(playing).name == "d91_ends"
    playing.close()
    assert not (tmp_path / "d92_hangs.ended").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "d92_hangs").read_text()), 0)
    assert cleared == [True]


@pytest.mark.parametrize("body", ["until('never')", NEVER_DOWN])
def test_a_lane_ends_with_whoever_started_it(
    drill: Callable[[str, str], None], tmp_path: Path, body: str
) -> None:
    """However that one ends: nobody is left to tell it to."""
    drill("d91_hangs", body)
    program = textwrap.dedent(
        f"""
        from drills import lanes
        lanes.COMMAND = {lanes.COMMAND!r}
        list(lanes.play(["d91_hangs"], 1, scale="short", seed=7))
        """
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}  # whoever is killed leaves a folder
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, env=environment) as parent:
        while not (begun := tmp_path / "d91_hangs").exists() or not begun.read_text():
            assert parent.poll() is None
        lane = os.pidfd_open(int(begun.read_text()))
        parent.send_signal(signal.SIGKILL)
    with os.fdopen(lane):
        assert select.select([lane], [], [], 60.0)[0]  # readable when it has ended
    assert (tmp_path / "d91_hangs.ended").exists() == (body != NEVER_DOWN)
