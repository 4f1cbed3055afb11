"""Operators ask every host to say anew how it is."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.agents import World, world
from tests.unit.oneshot.test_registered import settings

from neti.fleet.pace import asked_within
from neti.oneshot.asking_anew import Answered, ask_anew
from neti.registry.memory import MemoryRegistry


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def test_it_ends_when_all_have_answered_and_names_who_has_not(
    fleet: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = fleet.started(1)
    two = fleet.started(2)
    fleet.pass_time(80)
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        fleet.pass_time(seconds)

    registry = MemoryRegistry(fleet.server)
    asking = settings(tmp_path)
    *_, last = ask_anew(asking, registry, sleep=sleep, clock=lambda: now[0])
    assert (last.asked, last.silent) == (2, frozenset())
    assert now[0] <= 15
    monkeypatch.setattr(two.registry, "describe", lambda *_: None)
    fleet.pass_time(5)
    *_, last = ask_anew(asking, registry, sleep=sleep, clock=lambda: now[0])
    assert last.silent == {two.host.id}
    assert one.host.id not in last.silent


class Asking:
    """Each look, on the clock of the fleet. ``meanwhile``: what happens while it waits, by how
    often it has waited."""

    def __init__(self, fleet: World, folder: Path) -> None:
        self.fleet, self.folder = fleet, folder
        self.registry = MemoryRegistry(fleet.server)
        self.seconds, self.waits = 0.0, 0
        self.meanwhile: dict[int, Callable[[], object]] = {}

    def __call__(self) -> Answered:
        looks = ask_anew(
            settings(self.folder), self.registry, sleep=self._sleep, clock=lambda: self.seconds
        )
        *_, last = looks
        return last

    def _sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.fleet.pass_time(seconds)
        self.waits += 1
        self.meanwhile.get(self.waits, lambda: None)()


def test_a_host_that_vanishes_after_the_question_has_not_answered(
    fleet: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.started(1)
    two = fleet.started(2)
    fleet.pass_time(80)
    asking = Asking(fleet, tmp_path)
    monkeypatch.setattr(two.registry, "describe", lambda *_: None)
    asking.meanwhile[2] = two.registry.close
    last = asking()
    assert two.host.id not in {one.host_id for one in asking.registry.details()}
    assert (last.asked, last.silent) == (2, frozenset({two.host.id}))


def test_an_answer_in_the_second_of_the_question_counts(
    fleet: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents say to the second when they were written."""
    one = fleet.started(1)
    fleet.pass_time(80)
    describe = one.running.registration.describing.describe
    describe()
    fleet.settle()
    asking = Asking(fleet, tmp_path)

    def heard_at_once(_name: str, _value: bytes) -> None:
        describe()
        fleet.settle()

    monkeypatch.setattr(asking.registry, "change_setting", heard_at_once)
    last = asking()
    assert (last.asked, last.silent) == (1, frozenset())


def test_hosts_that_do_not_say_when_they_wrote_are_named(fleet: World, tmp_path: Path) -> None:
    """Also where there are no others; nobody waits for them."""
    one = fleet.started(1)
    fleet.pass_time(80)
    one.registry.describe(one.host.id, b'{"name": "one", "stage": "shadow"}')
    asking = Asking(fleet, tmp_path)
    last = asking()
    assert (last.asked, last.silent, last.unseen) == (0, frozenset(), frozenset({one.host.id}))
    assert asking.seconds <= 1
    two = fleet.started(2)
    fleet.pass_time(80)
    one.registry.describe(one.host.id, b'{"name": "one", "stage": "shadow"}')
    last = asking()
    assert (last.asked, last.silent, last.unseen) == (1, frozenset(), frozenset({one.host.id}))
    assert last.within == asked_within(2)
    assert two.host.id not in last.unseen


def test_a_look_reads_the_documents_of_those_who_are_awaited_and_nothing_else(
    fleet: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are some twenty of them, and perhaps 16,000 hosts."""
    fleet.started(1)
    two = fleet.started(2)
    fleet.pass_time(80)
    monkeypatch.setattr(two.registry, "describe", lambda *_: None)
    asking, counted = Asking(fleet, tmp_path), Counter[str]()
    read_of = list[int]()
    registry = asking.registry
    for what in ("names", "leases", "records", "details"):
        before = getattr(registry, what)

        def counting(*ids: Any, what: str = what, before: Callable[..., Any] = before) -> Any:
            counted[what] += 1
            if what == "details":
                read_of.append(len(*ids))
            return before(*ids)

        monkeypatch.setattr(registry, what, counting)
    last = asking()
    assert last.silent == {two.host.id}
    assert counted["names"] == counted["leases"] == 1
    assert counted["records"] <= 1
    assert counted["details"] > 5
    assert read_of[-1] == 1


def test_a_hundred_answer_in_half_a_minute_and_16000_in_ten() -> None:
    """That is under 30 writes a second."""
    assert asked_within(100) <= 30
    assert asked_within(16_000) <= 600
    assert 16_000 / asked_within(16_000) < 30
