"""What nobody expected, in the loop, in a job, in a thread: named, and the agent goes on."""

import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.agents import Box, World, world

from neti.agent.worker import JobDone, JobEvent, JobFailed, Running, Worker
from neti.control.trouble import Trouble
from neti.errors import Unexpected
from neti.registry import Appeared


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def started(fleet: World) -> Box:
    """One that does as in production: what is unexpected is not raised to the test."""
    box = fleet.box(1)
    box.brittle = False
    box.start()
    fleet.settle()
    return box


def breaks(*_arguments: object, **_more: object) -> Any:
    raise ZeroDivisionError("nobody\x1b[31m thought of this")


def problems(box: Box) -> dict[str, str]:
    return {one.code: one.sentence for one in box.running.core.problems}


def test_a_request_that_breaks_is_answered_and_the_loop_goes_on(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = started(fleet)
    with monkeypatch.context() as broken:
        broken.setattr(one.running.registration, "leave", breaks)
        assert "ZeroDivisionError" in one.ask("leave")["error"]
    assert "ZeroDivisionError" in problems(one)["unexpected"]
    assert problems(one)["unexpected"].isprintable()
    assert one.status()["registered"]
    fleet.pass_time(601)
    assert "unexpected" not in problems(one)


def test_an_event_that_breaks_leaves_nothing_half_applied(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may have less than was wished for: everything is read and compared anew."""
    one = started(fleet)
    with monkeypatch.context() as broken:
        broken.setattr(one.running.registration, "name_appeared", breaks)
        two = fleet.started(2)
        assert "unexpected" in problems(one)
    fleet.pass_time(2)
    assert str(two.host.private) in one.elements("peers4")
    assert one.running.core.timers.due.keys() >= {"audit", "identity", "sweep", "shadow"}


def test_an_event_that_breaks_before_it_was_noted_is_heard_again(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the agent knows has no trace of it then: the registry's own list has."""
    one = started(fleet)
    with monkeypatch.context() as broken:
        broken.setattr(one.running.core.members.fleet, "appeared", breaks)
        two = fleet.started(2)
        assert "unexpected" in problems(one)
    fleet.pass_time(2)
    assert str(two.host.private) in one.elements("peers4")


def test_an_answer_that_breaks_keeps_no_other_from_being_heard(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that come together are heard one by one then."""
    one = started(fleet)
    with monkeypatch.context() as broken:
        broken.setattr(one.running.core.members.fleet, "answers", breaks)
        two = fleet.started(2)
        assert "unexpected" in problems(one)
        assert two.host.id in one.running.core.members.fleet.members


def test_a_timer_that_breaks_is_due_again(fleet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one = started(fleet)
    with monkeypatch.context() as broken:
        broken.setattr(one.running.shadow, "tick", breaks)
        fleet.pass_time(70)
        assert "unexpected" in problems(one)
    assert "shadow" in one.running.core.timers.due


def test_what_breaks_each_turn_does_not_end_the_loop(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = started(fleet)
    with monkeypatch.context() as broken:
        broken.setattr(one.running.journal, "take_changes", breaks)
        for _ in range(50):
            fleet.pass_time(5)
    fleet.pass_time(60)
    fleet.started(2)
    fleet.pass_time(2)
    assert "10.0.0.2" in one.elements("peers4")


def test_a_job_may_raise_anything(fleet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has failed, is tried again, and what it was about goes on as before."""
    one = started(fleet)
    with monkeypatch.context() as broken:
        broken.setattr(one.running.core.out, "discover", breaks)
        fleet.pass_time(61)
        assert "ZeroDivisionError" in problems(one)["identity"]
    fleet.pass_time(61)
    assert "identity" not in problems(one)


def test_a_job_whose_end_breaks_has_failed(fleet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """For instance an answer of the wrong kind: the identity is asked for again."""
    one = started(fleet)
    one.running.tell(JobDone("identity", "no host"))
    fleet.settle()
    assert "AttributeError" in problems(one)["identity"]
    assert "identity" in one.running.core.timers.due


def test_a_lane_outlives_every_exception_and_does_not_wait_for_another() -> None:
    told: queue.SimpleQueue[JobEvent] = queue.SimpleQueue()
    clock = [0.0]
    worker = Worker(told.put, lambda: clock[0])
    worker.start()
    begun, release = threading.Event(), threading.Event()

    def hang() -> bool:
        begun.set()
        return release.wait()

    try:
        worker.submit("identity", hang)
        assert begun.wait(10)  # on a busy machine other threads may get their turn much earlier
        for raised in (ValueError, SystemExit, MemoryError, RecursionError):

            def job(raised: type[BaseException] = raised) -> None:
                raise raised

            worker.submit("register", job)
            failed = told.get(timeout=10)
            assert isinstance(failed, JobFailed)
            assert isinstance(failed.error, Unexpected)
        worker.submit("register", lambda: "done")
        assert told.get(timeout=10) == JobDone("register", "done")
        assert worker.running() == (Running("identity", 0.0),)
        release.set()
        assert told.get(timeout=10) == JobDone("identity", True)
    finally:
        release.set()
        worker.close(5)


def test_a_job_that_does_not_end_is_a_problem_and_then_a_missed_watchdog(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = started(fleet)
    core = one.running.core
    begun = Running("identity", core.now())
    monkeypatch.setattr(core.out.worker, "running", lambda: (begun,))
    fleet.pass_time(30)
    assert "job" not in problems(one)
    fleet.pass_time(45)
    assert "'identity' for 75 s" in problems(one)["job"]
    assert not one.running.faults.hanging
    fleet.pass_time(600)
    assert one.running.faults.hanging
    monkeypatch.setattr(core.out.worker, "running", lambda: ())
    fleet.pass_time(15)
    assert "job" not in problems(one)
    assert not one.running.faults.hanging


def test_troubles_of_threads_are_named_until_they_are_over(fleet: World) -> None:
    one = started(fleet)
    for where in ("a", "b"):
        one.running.tell(Trouble("descriptors", where, f"{where} has none left"))
    fleet.settle()
    assert one.running.core.problems.sentence("descriptors") == "a has none left; b has none left"
    one.running.tell(Trouble("descriptors", "a", None))
    fleet.settle()
    assert problems(one)["descriptors"] == "b has none left"
    one.running.tell(Trouble("thread", "monitor", "the monitor broke"))
    fleet.settle()
    assert "thread" in problems(one)
    fleet.pass_time(601)
    assert "thread" not in problems(one)


def test_an_unknown_event_is_survived(fleet: World) -> None:
    one = started(fleet)
    one.running.tell(Appeared(5))  # type: ignore[arg-type]  # on purpose
    fleet.settle()
    assert "unexpected" in problems(one)
    assert one.status()["registered"]
