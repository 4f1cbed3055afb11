"""Whom each host tries when the fleet verifies itself, and what comes of all their rows."""

from collections import Counter

import pytest

from neti.fleet.crossing import MOST, Target, matrix, order, tried_by
from neti.registry.detail import Verified

FLEET = [f"h-{number}" for number in range(1000)]


def row(
    *missed: str, tried: int = 4, word: str = "7", more: int = 0, reached: int | None = None
) -> Verified:
    there = tried - len(missed) - more if reached is None else reached
    return Verified(at=1, tried=tried, reached=there, missed=missed, missed_more=more, word=word)


@pytest.mark.parametrize("size", [1, 2, MOST, MOST + 1])
def test_a_small_fleets_host_tries_every_other(size: int) -> None:
    ids = FLEET[:size]
    for own in ids:
        assert set(tried_by(own, ids, "7")) == set(ids) - {own}
        assert len(tried_by(own, ids, "7")) == size - 1


def test_in_a_large_one_each_is_tried_by_as_many_as_every_other() -> None:
    tried = {own: tried_by(own, FLEET, "7") for own in FLEET}
    assert all(own not in targets for own, targets in tried.items())
    assert set(Counter(i for targets in tried.values() for i in targets).values()) == {MOST}
    assert all(len(set(targets)) == MOST for targets in tried.values())


def test_each_word_makes_another_order_which_all_agents_have() -> None:
    assert order(FLEET, "7") == order(reversed(FLEET), "7")
    assert order(FLEET, "7") != order(FLEET, "8")
    assert tried_by("h-1", FLEET, "7") == tried_by("h-1", {*FLEET}, "7")


def test_a_host_that_does_not_know_itself_as_a_member_tries_all_the_same() -> None:
    assert set(tried_by("new", FLEET[:3], "7")) == set(FLEET[:3])


def test_who_is_not_reached_and_by_whom() -> None:
    members = {"a", "b", "c", "d", "e"}
    rows = {"a": row("d"), "b": row("d", "e"), "c": row(), "d": row(), "gone": row("a")}
    found = matrix(rows, members)
    assert found.targets == (
        Target(id="d", by=("a", "b"), of=3),
        Target(id="e", by=("b",), of=4),
    )
    assert found.silent == ("e",)
    assert not found.whole


def test_a_row_of_somebody_who_typed_it_counts_as_one_that_tried_all() -> None:
    members = FLEET[: 3 * MOST]
    rows = {i: row(members[1], tried=len(members) - 1, word="") for i in members[2:4]}
    (target,) = matrix({**rows, members[0]: row(word="")}, members).targets
    assert (target.by, target.of) == (("h-2", "h-3"), 3)


def test_in_a_large_fleet_a_member_is_counted_against_those_that_tried_it() -> None:
    rows = {own: row(word="7", tried=MOST) for own in FLEET}
    target = tried_by("h-5", FLEET, "7")[0]
    rows["h-5"] = row(target, word="7", tried=MOST)
    (found,) = matrix(rows, FLEET).targets
    assert (found.id, found.by, found.of) == (target, ("h-5",), MOST)
    for own in [own for own in FLEET if target in tried_by(own, FLEET, "7")][:50]:
        if own != "h-5":
            del rows[own]
    (found,) = matrix(rows, FLEET).targets
    assert found.of in (MOST - 49, MOST - 50)


def test_the_fleet_is_whole_only_if_every_member_gave_a_row_and_missed_nobody() -> None:
    members = ["a", "b"]
    assert matrix({"a": row(), "b": row()}, members).whole
    assert not matrix({"a": row()}, members).whole
    assert not matrix({"a": row(), "b": row(more=1)}, members).whole
    assert not matrix({"a": row(), "b": row("a")}, members).whole
    assert not matrix({}, []).whole
    assert matrix({"a": row("gone"), "b": row()}, members).whole, "who left is nobody's loss"
