"""Operators ask every host to say anew how it is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.agents import World, world
from tests.unit.oneshot.test_registered import settings

from neti.fleet.pace import asked_within
from neti.oneshot.asking_anew import ask_anew
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


def test_a_hundred_answer_in_half_a_minute_and_16000_in_ten() -> None:
    """That is under 30 writes a second."""
    assert asked_within(100) <= 30
    assert asked_within(16_000) <= 600
    assert 16_000 / asked_within(16_000) < 30
