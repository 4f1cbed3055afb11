"""Whom a host asks, and what it believes: by questions, answers and a clock."""

import itertools
from collections.abc import Collection
from ipaddress import IPv4Address
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from neti.ruleset.gateway_probes import GatewayProbes, Question

PLACES: Final = {f"gw-{n}": IPv4Address(f"10.0.0.{n}") for n in (1, 2, 3)}


class Road:
    """Gateways that answer, or do not, at once."""

    def __init__(self, used: Collection[str] = ("gw-1",)) -> None:
        words = itertools.count()
        self.probes = GatewayProbes(lambda: b"%d" % next(words))
        self.probes.follow(PLACES, used)
        self.silent: set[str] = set()
        self.asked: list[tuple[float, str]] = []
        self.now = 1000.0
        self._answers: list[Question] = []

    def run(self, seconds: float) -> None:
        """Each time that something is due."""
        until = self.now + seconds
        while (due := self.probes.due()) is not None and max(due, self.now) <= until:
            self.now = max(due, self.now)
            self.turn()
        self.now = until

    def turn(self) -> None:
        for answer in self._answers:
            self.probes.hear(answer.word, answer.to)
        self.probes.judge(self.now)
        asked = self.probes.questions(self.now)
        self.asked += [(self.now, one.gateway) for one in asked]
        self._answers = [one for one in asked if one.gateway not in self.silent]

    def until_dead(self, which: str) -> float:
        begun = self.now
        while which not in self.probes.belief.dead:
            self.run(0.01)
        return self.now - begun

    def count(self, which: str) -> int:
        return sum(one == which for _, one in self.asked)


def test_the_one_in_use_is_asked_each_second_and_others_every_ten() -> None:
    road = Road()
    road.run(100)
    assert [road.count(one) for one in PLACES] == [101, 11, 11]
    assert road.probes.belief.answering == PLACES.keys()
    assert not road.probes.belief.dead


def test_one_that_is_silent_is_dead_within_four_seconds_whenever_it_died() -> None:
    for after in (0.0, 0.01, 0.3, 0.99):
        road = Road()
        road.run(20 + after)
        road.silent = {"gw-1"}
        assert 2.5 <= road.until_dead("gw-1") <= 3.6
        assert road.probes.belief.answering == {"gw-2", "gw-3"}


def test_two_that_die_together_are_known_to_be_dead_within_five_seconds() -> None:
    """The other one is asked as soon as the first one is in doubt."""
    road = Road()
    road.run(20.5)
    road.silent = {"gw-1", "gw-2"}
    assert road.until_dead("gw-1") + road.until_dead("gw-2") <= 4.6


def test_an_unused_one_that_is_dead_is_noticed_without_the_other_failing() -> None:
    road = Road()
    road.run(20.5)
    road.silent = {"gw-2"}
    assert road.until_dead("gw-2") <= 14


def test_a_few_that_are_lost_on_the_road_prove_nothing() -> None:
    road = Road()
    road.run(20)
    for _ in range(20):
        road.silent = {"gw-1"}
        road.run(1.9)
        road.silent = set()
        road.run(1.1)
        assert not road.probes.belief.dead


def test_one_that_has_answered_is_taken_as_answering_until_it_is_dead() -> None:
    road = Road()
    road.run(20)
    road.silent = {"gw-1"}
    while "gw-1" not in road.probes.belief.dead:
        assert "gw-1" in road.probes.belief.answering
        road.run(0.01)
    road.silent = set()
    road.run(0.6)
    assert "gw-1" not in road.probes.belief.answering


def test_it_comes_back_with_three_answers_in_a_row_and_not_with_two() -> None:
    road = Road()
    road.silent = {"gw-1"}
    road.run(10)
    for _ in range(5):
        road.silent = set()
        while not (heard := road.probes._probed["gw-1"].heard):
            road.run(0.01)
        assert heard == 1
        road.silent = {"gw-1"}
        road.run(5)
        assert road.probes.belief.dead == {"gw-1"}
    road.silent = set()
    road.run(3.1)
    assert not road.probes.belief.dead


def test_who_stood_still_believes_what_it_believed() -> None:
    """It asked nothing meanwhile; and what was answered before is heard before anything is
    judged."""
    road = Road()
    road.run(20)
    for _ in range(10):
        road.now += 3600
        road.turn()
        assert not road.probes.belief.dead
    road._answers.clear()  # a machine that slept
    road.now += 3600
    road.turn()
    assert not road.probes.belief.dead


def test_an_answer_that_was_not_asked_for_or_from_elsewhere_is_none() -> None:
    road = Road()
    road.turn()
    asked = {one.gateway: one for one in road._answers}
    road._answers.clear()
    for _ in range(3):
        road.probes.hear(b"guessed", PLACES["gw-1"])
        road.probes.hear(asked["gw-1"].word, PLACES["gw-2"])
    assert not road.probes.belief.answering
    road.probes.hear(asked["gw-1"].word, PLACES["gw-1"])
    road.probes.hear(asked["gw-1"].word, PLACES["gw-1"])  # repeated by somebody
    assert road.probes._probed["gw-1"].heard == 1


def test_what_is_believed_of_a_gateway_stays_while_it_is_where_it_was() -> None:
    road = Road()
    road.silent = {"gw-1"}
    road.run(10)
    road.probes.follow(PLACES, ["gw-2"])
    assert road.probes.belief.dead == {"gw-1"}
    road.probes.follow({**PLACES, "gw-1": IPv4Address("10.0.0.9")}, ["gw-2"])
    assert not road.probes.belief.dead
    road.probes.follow({}, [])
    assert road.probes.due() is None


def test_one_that_is_presumed_dead_is_asked_at_once_and_is_alive_within_two_seconds() -> None:
    road = Road()
    road.probes.presume(["gw-1", "gw-9"])
    assert road.probes.belief.answering == {"gw-1"}
    assert road.probes.belief.dead == {"gw-2", "gw-3"}
    road.silent = {"gw-3"}
    road.run(2)
    assert road.probes.belief.dead == {"gw-3"}
    road.run(30)
    assert road.count("gw-3") < 8
    road.probes.presume([])  # they have answered, or not: this comes too late
    assert road.probes.belief.dead == {"gw-3"}


@given(st.floats(0, 1e6, allow_nan=False))
def test_what_was_done_when_it_was_due_is_not_due_again_at_once(begun: float) -> None:
    """Whatever sums and differences of times round to."""
    road = Road()
    road.silent = set(PLACES)
    road.now = begun
    for _ in range(8):
        due = road.probes.due()
        assert due is not None
        road.now = max(due, road.now)
        road.turn()
        after = road.probes.due()
        assert after is not None
        assert after > road.now
