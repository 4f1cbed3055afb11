"""Elements that end by the kernel's clock, put back or taken out when another program did it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.agents import Box, World, world

from neti.clock import ManualClock
from neti.dataplane.monitor import RulesChanged
from neti.ruleset.delta import Changes
from neti.ruleset.objects import KernelState
from neti.ruleset.timed import TimedElements


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def host(fleet: World) -> Box:
    """A host in whose kernel one peer's addresses are among the removed sources."""
    one, two = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    two.ask("leave")
    fleet.pass_time(1)
    assert set(one.elements("revoked4")) == {"10.0.0.2", "198.51.100.2"}
    return one


def drift(fleet: World, box: Box, program: str = "nft", pid: int = 4711) -> None:
    box.running.tell(RulesChanged(pid, program))
    fleet.settle()
    fleet.pass_time(1)


def test_removed_sources_outlive_a_flush(fleet: World, host: Box) -> None:
    """Somebody flushes everything: who was removed stays removed."""
    host.dataplane.table = None
    drift(fleet, host)
    assert set(host.elements("revoked4")) == {"10.0.0.2", "198.51.100.2"}


def test_single_elements_are_put_right(fleet: World, host: Box) -> None:
    """One that was deleted is back, one that was added is gone."""
    assert host.dataplane.table is not None
    del host.dataplane.table.timed["revoked4"]["10.0.0.2"]
    host.dataplane.table.timed["revoked4"]["203.0.113.1"] = 3600
    del host.dataplane.table.timed["grace"]["ipv4"]
    drift(fleet, host)
    assert set(host.elements("revoked4")) == {"10.0.0.2", "198.51.100.2"}
    assert set(host.elements("grace")) == {"ipv4", "ipv6"}


def test_what_was_put_right_is_said_and_counted(
    fleet: World, host: Box, caplog: pytest.LogCaptureFixture
) -> None:
    """An undone element is drift like any other: in the log, by whom, and a fight when repeated."""
    assert host.dataplane.table is not None
    for _ in range(4):
        host.dataplane.table.timed["revoked4"]["203.0.113.1"] = 3600
        drift(fleet, host)
        fleet.pass_time(10)
    said = [record.__dict__["fields"] for record in caplog.records if "repaired" in record.message]
    assert said == [{"what": "1 in revoked4", "by": "nft (pid 4711)"}] * 4
    assert host.status()["drift"]["repairs"] == 4
    assert "nft" in host.problems()["fight"]


def test_own_commands_are_put_right_and_are_no_fight(fleet: World, host: Box) -> None:
    """Each is a process of its own. One that goes on is a second agent."""
    for pid in (1043, 1051, 1077, 1090, 1090, 1090, 1090):
        assert "fight" not in host.problems()
        assert host.dataplane.table is not None
        host.dataplane.table.timed["revoked4"]["203.0.113.1"] = 3600
        drift(fleet, host, "neti", pid)
        assert "203.0.113.1" not in host.elements("revoked4")
    assert "neti (pid 1090)" in host.problems()["fight"]


def test_sources_that_end_or_return_by_themselves_are_no_drift(fleet: World, host: Box) -> None:
    """Time, a sweep and a peer's return change these sets too, and nobody is blamed."""
    drift(fleet, host)
    fleet.boxes[1].start()
    drift(fleet, host)
    fleet.pass_time(700)
    drift(fleet, host)
    assert host.status()["drift"]["repairs"] == 0


def test_who_came_back_is_not_revoked_again(fleet: World, host: Box) -> None:
    """A flush while a removed member returns: it is a peer, and not among the removed."""
    host.dataplane.table = None
    fleet.boxes[1].start()
    drift(fleet, host)
    assert "10.0.0.2" in host.elements("peers4")
    assert "10.0.0.2" not in host.elements("revoked4")


def test_pardoned_sources_stay_forgotten(fleet: World, host: Box) -> None:
    """Sources without connections are swept out; a flush does not bring them back."""
    fleet.pass_time(61)
    assert host.elements("revoked4") == {}
    host.dataplane.table = None
    drift(fleet, host)
    assert host.elements("revoked4") == {}


def test_time_goes_on_and_ends_by_itself() -> None:
    """What is put back has the time that was left; what has ended is not put back."""
    clock = ManualClock()
    timed = TimedElements(clock)
    kernel = KernelState(structure="table")
    assert list(timed.mend(kernel, lambda where, key: False)) == []
    timed.seen({"grace": {"ipv4": 100}}, clock.monotonic())
    timed.applied(Changes(revoked={"revoked4": {"192.0.2.1": 1000}}), clock.monotonic())
    clock.advance(40)
    assert list(timed.mend(kernel, lambda where, key: False)) == [
        ("revoked4", {"192.0.2.1": 960}, []),
        ("grace", {"ipv4": 60}, []),
    ]
    clock.advance(70)
    assert [where for where, _, _ in timed.mend(kernel, lambda where, key: False)] == ["revoked4"]


def test_what_ends_by_the_kernels_clock_is_nobodys_doing_however_long_a_look_took() -> None:
    """The process may be stopped for a while between asking the kernel and taking note of it."""
    clock = ManualClock()
    timed = TimedElements(clock)
    began = clock.monotonic()
    clock.advance(30)
    timed.seen({"grace": {"ipv4": 100}}, began)
    timed.applied(Changes(revoked={"revoked4": {"192.0.2.1": 100}}), began)
    clock.advance(71)  # to the kernel that is 101
    assert list(timed.mend(KernelState(structure="table"), lambda where, key: False)) == []


def test_a_new_table_begins_its_own_grace_time() -> None:
    """With the table gone, connections came about that no rule saw: grace is not cut short."""
    clock = ManualClock()
    timed = TimedElements(clock)
    timed.seen({"grace": {"ipv4": 100}}, clock.monotonic())
    assert list(timed.mend(KernelState(structure=None), lambda where, key: False)) == []
