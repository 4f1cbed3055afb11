"""Nobody's time runs faster or slower because somebody sets the clock."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.agents import Box, World, world

from neti import durable
from neti.clock import ManualClock, SteadyClock

DAY = 86_400.0
LINGER = 600.0


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        made.clock.now = 1_800_000_000.0
        yield made


def members(box: Box) -> set[str]:
    return {member["id"] for member in box.ask("members")["result"]}


def lost_one(fleet: World) -> Box:
    """Of four hosts the second is lost without a word; the first one looks on."""
    boxes = fleet.crowd((1, 2, 3, 4))
    fleet.pass_time(1)
    session = boxes[1].registry._session
    assert session is not None
    boxes[1].stop()
    fleet.server.expire(session)
    fleet.settle()
    fleet.pass_time(20)
    assert "ec2-2" in members(boxes[0])
    return boxes[0]


def times_out_rightly(fleet: World, box: Box, *, still: float = LINGER - 20) -> None:
    fleet.pass_time(still - 5)
    assert "ec2-2" in members(box)
    fleet.pass_time(10)
    assert "ec2-2" not in members(box)


@pytest.mark.parametrize("step", [900.0, -DAY, 30 * DAY, -1_800_000_000.0])
def test_a_lost_member_lingers_as_long_as_it_does(fleet: World, step: float) -> None:
    box = lost_one(fleet)
    fleet.clock.set += step
    fleet.settle()
    assert box.status()["lost"][0]["seconds"] == pytest.approx(20, abs=1)
    times_out_rightly(fleet, box)


@pytest.mark.parametrize("step", [900.0, -DAY])
def test_a_restart_changes_nothing_about_it(fleet: World, step: float) -> None:
    box = lost_one(fleet)
    fleet.clock.set += step
    box.stop()
    box.start()
    fleet.settle()
    times_out_rightly(fleet, box)


@pytest.mark.parametrize("step", [900.0, -DAY])
def test_nor_does_a_step_while_the_agent_is_away(fleet: World, step: float) -> None:
    box = lost_one(fleet)
    box.stop()
    fleet.clock.set += step
    box.start()
    fleet.settle()
    times_out_rightly(fleet, box)


@pytest.mark.parametrize("what", ["gone", "torn", "of a newer version"])
@pytest.mark.parametrize("step", [900.0, -DAY])
def test_who_cannot_know_what_clock_a_time_was_written_by_begins_anew(
    fleet: World, step: float, what: str
) -> None:
    """Rather too late than at once: the wall clock may have been set meanwhile."""
    box = lost_one(fleet)
    box.stop()
    note = box.settings.table_files_path / "clock.json"
    if what == "gone":
        note.unlink()
    elif what == "torn":
        note.write_bytes(note.read_bytes()[:20])
    else:
        document = durable.checked(note.read_bytes())
        note.write_bytes(durable.line({**document, "format": 99}))
    fleet.clock.set += step
    box.start()
    fleet.settle()
    times_out_rightly(fleet, box, still=LINGER)


def reboot(fleet: World, box: Box, *, set_to: float) -> None:
    """A minute passes, and the machine's clock shows this afterwards; boottime begins anew."""
    box.stop()
    fleet.boot = f"{fleet.boot}+"
    fleet.clock.now = fleet.clock.now + 60
    fleet.clock.set = set_to
    box.start()
    fleet.settle()


def test_across_a_reboot_the_wall_clock_says_how_long_it_was(fleet: World) -> None:
    box = lost_one(fleet)
    reboot(fleet, box, set_to=0)
    times_out_rightly(fleet, box, still=LINGER - 80)


def test_a_clock_that_lags_behind_after_a_reboot_says_nothing(fleet: World) -> None:
    """1970, until NTP has answered; then it is right. Nobody knows how long the machine was off, so
    the time begins anew."""
    box = lost_one(fleet)
    reboot(fleet, box, set_to=-1_799_999_000.0)
    fleet.pass_time(10)
    fleet.clock.set = 0
    times_out_rightly(fleet, box, still=LINGER - 10)


def test_what_was_written_in_1970_is_not_fifty_years_old(fleet: World) -> None:
    fleet.clock.set = -1_799_999_000.0
    box = lost_one(fleet)
    reboot(fleet, box, set_to=0)
    times_out_rightly(fleet, box, still=LINGER)


def test_a_step_before_the_reboot_is_taken_out(fleet: World) -> None:
    """The clock was an hour behind and was set right; steady time still lags when the machine
    stops."""
    fleet.clock.set = -3_600.0
    box = lost_one(fleet)
    fleet.clock.set = 0.0
    fleet.pass_time(61)
    reboot(fleet, box, set_to=0)
    times_out_rightly(fleet, box, still=LINGER - 20 - 61 - 60)


def test_a_start_after_a_reboot_that_was_killed_moves_no_time_twice(fleet: World) -> None:
    """The clock was set while the agent ran; then the members go to disk, and the note does not."""
    box = lost_one(fleet)
    fleet.clock.set = -DAY
    fleet.pass_time(61)
    note = box.settings.table_files_path / "clock.json"
    before = note.read_bytes()
    reboot(fleet, box, set_to=-DAY)
    box.stop()
    note.write_bytes(before)
    box.start()
    fleet.settle()
    times_out_rightly(fleet, box, still=LINGER - 20 - 61 - 60)


@pytest.mark.parametrize("step", [4_000.0, -DAY])
def test_a_hold_lasts_as_long_as_it_does(fleet: World, step: float) -> None:
    boxes = fleet.crowd(range(1, 9))
    fleet.pass_time(1)
    for box in boxes[1:3]:
        session = box.registry._session
        assert session is not None
        box.stop()
        fleet.server.expire(session)
    fleet.settle()
    one = boxes[0].running
    one.core.guard.allow(1)
    fleet.pass_time(LINGER + 1)
    assert len(boxes[0].status()["holds"]) == 2
    fleet.clock.set += step
    fleet.pass_time(3_500)
    assert len(boxes[0].status()["holds"]) == 2
    fleet.pass_time(200)
    assert boxes[0].status()["holds"] == []


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(-1e9, 1e9)), max_size=20))
def test_steady_time_passes_as_time_does(steps: list[tuple[float, float]]) -> None:
    clock = ManualClock(now=1_800_000_000.0)
    steady = SteadyClock(clock, "boot")
    began = steady.now()
    for seconds, step in steps:
        clock.advance(seconds)
        clock.set += step
        again = SteadyClock(clock, "boot", steady.mark())
        assert again.now() == pytest.approx(steady.now())
    assert steady.now() - began == pytest.approx(sum(seconds for seconds, _ in steps), abs=1e-3)


@given(st.floats(0, 4e9), st.floats(0, 4e9), st.floats(0, 4e9))
def test_nothing_that_was_written_lies_in_the_future(wall: float, later: float, at: float) -> None:
    clock = ManualClock(now=wall)
    before = SteadyClock(clock, "boot-1").mark()
    clock.now = later
    steady = SteadyClock(clock, "boot-2", before)
    assert at + steady.shift(at) <= steady.now() + 1e-3
