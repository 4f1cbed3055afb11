"""Members that have not answered take turns at being tried."""

from hypothesis import given
from hypothesis import strategies as st

from neti.ruleset.turns import Turns


def test_while_there_is_room_everybody_is_tried() -> None:
    turns = Turns(seconds=15, most=2)
    assert turns.begin("a", now=0)
    assert turns.begin("b", now=0)
    assert not turns.begin("c", now=0)
    assert turns.untried("c")
    turns.end("a")
    turns.pass_on(now=1)
    assert turns.tries("c")
    assert not turns.untried("c")
    assert not turns.tries_again("c")


def test_a_turn_lasts_as_long_as_nobody_else_waits() -> None:
    turns = Turns(seconds=15, most=2)
    for one in "ab":
        turns.begin(one, now=0)
    turns.pass_on(now=1000)
    assert turns.tries("a")
    assert turns.tries("b")


def test_no_more_turns_end_than_others_wait_for_and_the_oldest_first() -> None:
    turns = Turns(seconds=15, most=3)
    for number, one in enumerate("abcd"):
        turns.begin(one, now=number)
    turns.pass_on(now=14)
    assert turns.waits("d")
    turns.pass_on(now=100)
    assert [one for one in "abcd" if turns.tries(one)] == ["b", "c", "d"]
    assert turns.waits("a")
    assert not turns.untried("a")
    turns.pass_on(now=200)
    assert turns.tries_again("a")


@given(st.integers(1, 5), st.integers(1, 20), st.integers(1, 60))
def test_everybody_has_a_turn_and_never_too_many(most: int, members: int, looks: int) -> None:
    turns, tried = Turns(seconds=15, most=most), set[int]()
    for one in range(members):
        turns.begin(str(one), now=0)
    for look in range(looks):
        tried |= {one for one in range(members) if turns.tries(str(one))}
        now = sum(turns.tries(str(one)) for one in range(members))
        assert now == min(most, members)
        turns.pass_on(now=15.0 * (look + 1))
    assert len(tried) >= min(members, most * looks)
