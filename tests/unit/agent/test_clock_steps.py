"""Who sets the clock neither ends nor prolongs what lasts so long: relax --for, a trial's retry."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.agents import Box, World, world

from neti import durable
from neti.model.said import Said
from neti.stage import stages
from neti.stage.stages import RETRY_PAUSES, Record
from neti.state import marks

HOUR, DAY = 3_600.0, 86_400.0


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        made.clock.now = 1_800_000_000.0
        yield made


def relaxed(fleet: World, *, hours: float) -> Box:
    box = fleet.started(1, reject_all=True)
    answer = box.ask("relax", until=fleet.clock.wall() + hours * HOUR)
    assert answer["result"]["stage"] == "shadow"
    return box


def ends_in(fleet: World, box: Box, seconds: float) -> None:
    fleet.pass_time(seconds - 60)
    assert box.status()["wished"]["reject_all"] is False
    shown = box.status()["wished"]["relaxed_until"]
    assert shown == pytest.approx(fleet.clock.wall() + 60)
    fleet.pass_time(61)
    assert box.status()["stage"] == "trial"


def reboot(fleet: World, box: Box, *, off: float, step: float = 0.0) -> None:
    box.stop()
    fleet.boot += "+"
    fleet.clock.now += off
    fleet.clock.set += step
    box.start()
    fleet.settle()


@pytest.mark.parametrize("step", [DAY, -DAY])
def test_relax_for_two_hours_is_two_hours(fleet: World, step: float) -> None:
    box = relaxed(fleet, hours=2)
    fleet.clock.set += step
    ends_in(fleet, box, 2 * HOUR)


@pytest.mark.parametrize("step", [DAY, -DAY])
def test_so_it_is_when_the_agent_is_restarted(fleet: World, step: float) -> None:
    box = relaxed(fleet, hours=2)
    box.stop()
    fleet.clock.set += step
    box.start()
    fleet.settle()
    ends_in(fleet, box, 2 * HOUR)


def test_across_a_reboot_the_wall_clock_says_what_is_left(fleet: World) -> None:
    box = relaxed(fleet, hours=2)
    fleet.clock.set += DAY
    fleet.pass_time(61)  # the step is noted on disk
    reboot(fleet, box, off=HOUR)
    ends_in(fleet, box, HOUR - 61)


def test_a_clock_that_went_back_makes_nothing_longer(fleet: World) -> None:
    box = relaxed(fleet, hours=2)
    reboot(fleet, box, off=60, step=-30 * DAY)
    ends_in(fleet, box, 2 * HOUR)


@pytest.mark.parametrize("step", [DAY, -DAY])
def test_relax_for_said_without_an_agent_is_as_long(fleet: World, step: float) -> None:
    """The mark says it by both clocks; this one is of a boot that the agent knows."""
    box = fleet.started(1, reject_all=True)
    box.stop()
    wall = fleet.clock.wall()
    folder = box.settings.table_files_path
    said = Said(wall, "alice", wall + 2 * HOUR, fleet.boot, fleet.clock.boottime() + 2 * HOUR)
    document = {key: getattr(said, key) for key in ("at", "by", "until", "boot", "ends")}
    durable.replace(folder / marks.RELAXED, durable.line(document), 0o644)
    assert marks.read(folder, marks.RELAXED) == said
    fleet.clock.set += step
    box.start()
    fleet.settle()
    ends_in(fleet, box, 2 * HOUR)


def test_after_a_reboot_the_wall_clock_shortens_what_was_said_without_an_agent() -> None:
    said = Said(1_000.0, "alice", 8_200.0, "boot-1", 7_300.0)
    assert said.left(boot="boot-1", boottime=300.0, wall=9e9) == 7_000.0
    assert said.left(boot="boot-2", boottime=300.0, wall=0.0) == 7_200.0
    assert said.left(boot="boot-2", boottime=300.0, wall=4_600.0) == 3_600.0
    assert said.left(boot="boot-2", boottime=300.0, wall=9e9) == 0.0
    assert Said(1_000.0, "alice").left(boot="boot-1", boottime=0.0, wall=0.0) is None


def test_the_mark_tells_when_it_ends_by_a_clock_that_nobody_can_set(tmp_path: Path) -> None:
    marks.leave(tmp_path, marks.RELAXED, Said(1000.0, "alice", 1060.0))
    read = marks.read(tmp_path, marks.RELAXED)
    assert read.boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert read.ends is not None
    marks.leave(tmp_path, marks.RELAXED, Said(1000.0, "alice"))
    assert marks.read(tmp_path, marks.RELAXED) == Said(1000.0, "alice")


@pytest.mark.parametrize("step", [DAY, -DAY])
def test_a_trial_is_tried_again_after_its_pause(fleet: World, step: float) -> None:
    box = fleet.started(1, reject_all=True, trial_seconds=60)
    box.shadow.uses = ("8080/tcp",)
    fleet.pass_time(50)
    fleet.pass_time(11)
    assert box.status()["trial"]["state"] == "expired"
    fleet.clock.set += step
    fleet.pass_time(RETRY_PAUSES[0] - 30)
    assert box.status()["trial"]["state"] == "expired"
    fleet.pass_time(31)
    assert box.status()["trial"]["state"] == "running"


def test_what_is_yet_to_come_is_never_further_away_than_it_was() -> None:
    record = Record(failures=1, retry_at=5_000.0, relaxed_until=9_000.0, relaxed_for=7_200.0)
    assert stages.moved(record, 0.0, 4_900.0) == record
    later = stages.moved(record, 1e9, 100.0)
    assert later.retry_at == 100.0 + RETRY_PAUSES[0]
    assert later.relaxed_until == 7_300.0
    assert stages.moved(record, -1e9, 100.0).retry_at == 5_000.0 - 1e9
