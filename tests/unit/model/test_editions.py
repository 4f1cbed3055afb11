"""Editions of what operators say: the next one is later, whatever somebody wrote before."""

from hypothesis import given
from hypothesis import strategies as st

from neti.model.editions import after, is_later, is_of_no_command

NOW = 1_795_000_000.0
YEAR = 365 * 86_400
editions = st.one_of(
    st.just(0),
    st.integers(1, int(NOW) + YEAR),  # of commands, some of them with a clock that is ahead
    st.integers(int(NOW) + 2 * YEAR, 1 << 53),
)


@given(edition=editions)
def test_what_a_command_makes_is_later_than_what_it_replaces(edition: int) -> None:
    made = after(edition, NOW)
    assert is_later(made, edition, NOW)
    assert not is_of_no_command(made, NOW)
    # And it is not followed backwards.
    assert not is_later(edition, made, NOW) or is_of_no_command(edition, NOW)


@given(one=editions, other=editions)
def test_of_two_that_commands_made_the_greater_is_later(one: int, other: int) -> None:
    if not (is_of_no_command(one, NOW) or is_of_no_command(other, NOW)):
        assert is_later(one, other, NOW) is (one > other)


def test_a_clock_that_is_not_set_calls_no_edition_false() -> None:
    assert not is_of_no_command(int(NOW), 0.0)
    assert is_of_no_command(1 << 53, 0.0)
    later = int(NOW) + 100 * YEAR  # and this version is old
    assert not is_later(later - 1, later, 0.0)
    assert after(later, 0.0) == later + 1
    assert after(1 << 53, 0.0) > 0


def test_nothing_takes_the_place_of_something() -> None:
    """A registry that was wiped."""
    assert not is_later(0, 7, NOW)
    assert not is_later(0, 1 << 53, NOW)
