"""Which worker of a test run gets which tests."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

LABS = [f"tests/lab/test_lab.py::test_{n}" for n in range(6)]
OTHERS = [f"tests/simulation/test_it.py::test_{n}" for n in range(6)]


class Worker:
    def __init__(self, number: int) -> None:
        self.gateway = SimpleNamespace(id=f"gw{number}")
        self.shutting_down = False
        self.waiting: list[int] = []
        self.ran: list[str] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        assert not self.shutting_down
        self.waiting += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def run(scheduler: Any, worker: Worker) -> None:
    """All that this one gets, while others are still busy."""
    while worker.waiting:
        index = worker.waiting.pop(0)
        worker.ran.append(scheduler.collection[index])
        scheduler.mark_test_complete(worker, index)


@pytest.fixture(name="conftest")
def _conftest(pytestconfig: pytest.Config) -> Any:
    return pytestconfig.pluginmanager.get_plugin(str(Path(__file__).parents[1] / "conftest.py"))


@pytest.fixture(name="begun")
def _begun(conftest: Any) -> Callable[[int], tuple[Any, list[Worker]]]:
    def begun(count: int) -> tuple[Any, list[Worker]]:
        config = SimpleNamespace(
            getvalue=lambda _: [f"{count}*popen"], option=SimpleNamespace(), stash={}
        )
        scheduler = conftest.pytest_xdist_make_scheduler(
            config, SimpleNamespace(loadscopesched=print)
        )
        workers = [Worker(number) for number in range(count)]
        for worker in workers:
            join(scheduler, worker)
        scheduler.schedule()
        return scheduler, workers

    return begun


def join(scheduler: Any, worker: Worker) -> None:
    scheduler.add_node(worker)
    scheduler.add_node_collection(worker, [*LABS, *OTHERS])


def test_who_computes_takes_no_lab_while_another_runs_them(begun: Any) -> None:
    scheduler, (front, computes) = begun(2)
    run(scheduler, computes)
    assert computes.ran == OTHERS[::-1]
    assert computes.shutting_down
    run(scheduler, front)
    assert front.ran == LABS
    assert scheduler.tests_finished


def test_two_at_the_front_run_no_labs_at_once(begun: Any) -> None:
    """The second one has what else waits, from the front, and ends where only labs are left."""
    scheduler, (labs, waits, computes) = begun(3)
    run(scheduler, waits)
    assert waits.ran[:2] == OTHERS[:2]
    run(scheduler, computes)
    assert {*waits.ran, *computes.ran} == {*OTHERS}
    assert waits.shutting_down
    assert computes.shutting_down
    run(scheduler, labs)
    assert labs.ran == LABS
    assert scheduler.tests_finished


def test_drills_begin_when_the_longest_lab_is_over(
    begun: Any, conftest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    labs: Any
    when: list[list[str]] = []
    monkeypatch.setattr(conftest, "LONGEST", "test_0")
    monkeypatch.setattr(conftest, "_begin_drills", lambda *_: when.append([*labs.ran]))
    scheduler, (labs, computes) = begun(2)
    run(scheduler, computes)
    assert not when
    run(scheduler, labs)
    assert when[0] == LABS[:1]


def test_one_worker_alone_runs_all(begun: Any) -> None:
    scheduler, (alone,) = begun(1)
    run(scheduler, alone)
    assert alone.ran == [*LABS, *OTHERS]


def test_where_the_one_with_the_labs_dies_another_takes_them(begun: Any) -> None:
    scheduler, (front, computes) = begun(2)
    assert scheduler.remove_node(front) == LABS[0]
    run(scheduler, computes)
    assert {*computes.ran} == {*LABS, *OTHERS}
