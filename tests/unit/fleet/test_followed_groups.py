"""Whether what the registry says of groups is followed, or the last good ones stay."""

from collections.abc import Collection
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.fleet.followed_groups import FollowedGroups, objection
from neti.fleet.group_edits import next_edition
from neti.model import Member
from neti.model.groups import GroupLine, Groups

THERE = IPv4Address("10.0.0.1")
MEMBERS = [
    Member(id=f"db-{n}", site="dc", private=THERE, public=None, overlay=THERE) for n in range(8)
]


def groups(edition: int, *ids: str, shrunk: int = 0) -> Groups:
    return Groups({"db": tuple(map(GroupLine, ids))}, edition, shrunk)


FOLLOWED = FollowedGroups(groups(7, "db-*"), "f")


def judged(
    said: Groups | None,
    fleet: str = "f",
    followed: FollowedGroups | None = FOLLOWED,
    needed: Collection[str] = ("db",),
) -> str | None:
    return objection(followed, said, fleet, members=MEMBERS, needed=needed, now=0.0)


def test_whoever_followed_nothing_follows_what_there_is() -> None:
    assert judged(groups(1), "f", None) is None
    assert judged(None, "f", None) is None
    assert judged(None, "f", FollowedGroups(Groups({}), "f")) is None


def test_a_later_edition_is_followed_and_the_same_one_in_any_registry() -> None:
    assert judged(groups(8, "db-*", "x")) is None
    assert judged(FOLLOWED.groups, "another") is None


@pytest.mark.parametrize(
    ("said", "fleet", "why"),
    [
        (None, "f", "has no groups any more"),
        (None, "another", "has no groups any more"),
        (groups(6, "db-*"), "f", "are older than edition 7"),
        (groups(6, "db-*"), "another", "are older than edition 7"),
        (groups(7, "*"), "f", "are another than the edition 7"),
        (groups(8, "db-*", "x"), "another", "are of another registry"),
        (groups(8, "db-0", "db-1"), "f", "takes 6 of the 8 members of group db out"),
        (Groups({}, 8), "f", "takes 8 of the 8 members of group db out"),
    ],
)
def test_what_is_doubtful_is_held_and_says_what_to_do(
    said: Groups | None, fleet: str, why: str
) -> None:
    held = judged(said, fleet)
    assert held is not None
    assert why in held
    assert "--shrink" in held.partition("\n→ ")[2]


@pytest.mark.parametrize("fleet", ["f", "another"])
def test_what_an_operator_says_later_and_with_shrink_is_followed(fleet: str) -> None:
    """Whatever was lost in between: an agent that was away did not see that edition."""
    assert judged(groups(8, "db-0", shrunk=8), fleet) is None
    assert judged(groups(9, "db-0", shrunk=8), fleet) is None
    assert judged(groups(9, "db-0", shrunk=7), fleet) is not None
    assert judged(groups(6, "db-*", shrunk=6), fleet) is not None


def test_steps_that_were_judged_one_by_one_are_followed_together() -> None:
    """Of 8 to 5 and of 5 to 3 are not much; a host that was away sees 8 to 3."""
    few = groups(9, "db-0", "db-1", "db-2")
    assert judged(few) is not None
    assert judged(replace(few, judged=(7, 8, 9))) is None
    assert judged(replace(few, judged=(8, 9))) is not None  # began in an older copy, or elsewhere
    assert judged(replace(few, judged=(7, 8, 9)), "another") is not None


def test_what_no_command_wrote_is_judged_by_each_host() -> None:
    """By hand: the edition is another, and the steps are those of the document before."""
    assert judged(groups(9, "db-0"), followed=FOLLOWED) is not None
    by_hand = replace(groups(9, "db-0"), judged=(6, 7))
    assert judged(by_hand) is not None
    after = next_edition(by_hand, {"db": (GroupLine("db-1"),)}, shrink=False, now=0.0)
    assert after is not None
    assert after.judged == (9, 10)
    assert judged(after) is not None


def test_a_host_may_be_behind_by_some_editions() -> None:
    now = groups(7, *(f"db-{n}" for n in range(8)))
    for number in range(100):
        after = next_edition(now, {"db": (GroupLine(f"x{number}"),)}, shrink=False, now=0.0)
        assert after is not None
        now = after
    assert now.judged == tuple(range(76, 108))


def test_half_is_not_much_nor_are_most_of_four() -> None:
    assert judged(groups(8, "db-0", "db-1", "db-2", "db-3")) is None
    of_four = FollowedGroups(groups(7, "db-0", "db-1", "db-2", "db-3"), "f")
    assert judged(groups(8), "f", of_four) is None


def test_a_group_that_this_host_does_not_name_is_none_of_its_business() -> None:
    assert judged(groups(8), needed=["web"]) is None


WHO = st.sets(st.sampled_from([member.id for member in MEMBERS]))


@given(before=WHO, after=WHO)
def test_the_rule_as_a_sentence(before: set[str], after: set[str]) -> None:
    held = judged(groups(8, *after), "f", FollowedGroups(groups(7, *before), "f"))
    assert (held is not None) == (len(before) >= 5 and 2 * len(before - after) > len(before))
