"""Python's collector of cycles stands still for as long as a long list is taken in."""

import gc
from pathlib import Path

from tests.support.agents import world

from neti.agent.collector import MANY, PythonsCollector
from neti.registry import Snapshot


class Noted:
    def __init__(self) -> None:
        self.stands_still = False

    def pause(self) -> None:
        self.stands_still = True

    def go_on(self) -> None:
        self.stands_still = False


def test_it_stands_still_after_a_long_list_for_some_seconds(tmp_path: Path) -> None:
    with world(tmp_path) as fleet:
        one = fleet.started(1)
        noted = one.running.core.out.collector = Noted()
        one.running.tell(Snapshot(frozenset({"junk"})))
        fleet.settle()
        assert not noted.stands_still
        one.running.tell(Snapshot(frozenset(f"junk{number}" for number in range(MANY))))
        fleet.settle()
        assert noted.stands_still
        fleet.pass_time(6)
        assert not noted.stands_still


def test_pythons_own() -> None:
    collector = PythonsCollector()
    try:
        collector.pause()
        assert not gc.isenabled()
    finally:
        collector.go_on()
    assert gc.isenabled()
