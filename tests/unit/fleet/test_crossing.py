"""Whom each host tries when the fleet verifies itself, and what comes of all their rows."""

from collections import Counter
from collections.abc import Iterator

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


def test_who_tried_nearly_nobody_gave_no_whole_row() -> None:
    """Such as a host that had just begun to listen to the registry."""
    members = FLEET[:40]
    rows = dict.fromkeys(members, row(tried=39))
    assert matrix(rows, members).whole
    assert not matrix(dict.fromkeys(members, row(tried=0)), members).whole
    found = matrix({**rows, "h-7": row(tried=1)}, members)
    assert (found.few, found.whole) == (("h-7",), False)
    assert matrix({**rows, "h-7": row(tried=38)}, members).whole, "one has come meanwhile"
    assert not matrix({"a": row(tried=0), "b": row(tried=1)}, ["a", "b"]).whole
    assert matrix({"a": row(tried=0)}, ["a"]).whole


def test_in_a_large_fleet_or_beside_other_sites_a_row_should_have_its_share() -> None:
    rows = dict.fromkeys(FLEET, row(tried=MOST))
    assert matrix(rows, FLEET).whole
    found = matrix({**rows, "h-7": row(tried=MOST - 11)}, FLEET)
    assert found.few == ("h-7",)
    near = dict.fromkeys(FLEET[:3], row(tried=2))
    assert matrix(near, FLEET[:3], FLEET[3:40]).few == ("h-0", "h-1", "h-2")


class Counted(tuple[str, ...]):
    """Says how often somebody goes through it."""

    times = 0

    def __iter__(self) -> Iterator[str]:
        self.times += 1
        return super().__iter__()


def test_members_of_other_sites_are_gone_through_once_and_not_for_each_row() -> None:
    others = Counted(FLEET[500:])
    matrix(dict.fromkeys(FLEET[:500], row("h-1", tried=MOST, more=1)), FLEET[:500], others)
    assert others.times == 1
