"""Which groups a member is in, by operators' lines."""

import fnmatch
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any
from unittest.mock import Mock, patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.fleet.groups import GroupIndex
from neti.fleet.id_patterns import IdPatterns, matching
from neti.model import Member
from neti.model.groups import EVERY_MEMBER, GroupLine, Groups


def member(host_id: str, site: str = "dc") -> Member:
    there = IPv4Address("10.0.0.1")
    return Member(id=host_id, site=site, private=there, public=None, overlay=there)


def index(now: float = 0.0, /, **lines: tuple[GroupLine, ...]) -> GroupIndex:
    return GroupIndex(Groups(lines), [*lines, EVERY_MEMBER], now)


def test_an_id_and_a_pattern_take_in_whom_they_name() -> None:
    groups = index(db=(GroupLine("db-?"), GroupLine("i-0abc")), all=(GroupLine("*"),))
    assert groups.of(member("db-1")) == ("all", "db")
    assert groups.of(member("i-0abc")) == ("all", "db")
    for other in ("db-", "db-12", "xdb-1", "i-0abcd", "DB-1"):
        assert groups.of(member(other)) == ("all",)


def test_a_line_of_a_site_takes_in_only_members_of_it() -> None:
    groups = index(db=(GroupLine("db-*", site="vpc"), GroupLine("db-9")))
    assert groups.of(member("db-1", "vpc")) == ("db",)
    assert groups.of(member("db-1", "dc")) == ()
    assert groups.of(member("db-9", "dc")) == ("db",)


def test_a_line_ends_when_it_says_so() -> None:
    lines = (GroupLine("db-1", until=100.0), GroupLine("db-2", until=200.0))
    before, then, after = index(99.0, db=lines), index(100.0, db=lines), index(200.0, db=lines)
    assert [before.next_end, then.next_end, after.next_end] == [100.0, 200.0, None]
    assert [after.is_as_at(now) for now in (99.0, 199.0, 200.0, 999.0)] == [
        False,
        False,
        True,
        True,
    ]
    assert before.of(member("db-1")) == ("db",)
    assert then.of(member("db-1")) == after.of(member("db-2")) == ()
    members = [member("db-1"), member("db-2"), member("db-3")]
    assert before.moved(then, members) == members[:1]
    assert then.moved(before, members) == members[:1]


def test_only_groups_that_are_needed_count_and_unknown_ones_are_named() -> None:
    groups = GroupIndex(Groups({"db": (GroupLine("*"),), "web": (GroupLine("*"),)}), ["web", "x"])
    assert groups.of(member("db-1")) == ("web",)
    assert groups.undefined == ("x",)
    nobody = GroupIndex(None, ["web"])
    assert not nobody.known
    assert nobody.undefined == ("web",)
    assert nobody.of(member("db-1")) == ()
    assert nobody.moved(groups, [member("db-1")]) == [member("db-1")]


def test_who_has_another_line_and_is_in_the_same_groups_has_not_moved() -> None:
    before, after = index(db=(GroupLine("db-*"),)), index(db=(GroupLine("db-1"),))
    assert before.moved(after, [member("db-1"), member("db-2")]) == [member("db-2")]


def test_every_member_is_no_group_of_the_index() -> None:
    groups = GroupIndex(Groups({EVERY_MEMBER: (GroupLine("*"),)}), [EVERY_MEMBER])
    assert groups.of(member("db-1")) == ()
    assert groups.undefined == ()


TEXT = st.text("ab.-", max_size=8)


@given(pattern=st.text("ab.-*?", min_size=1, max_size=10), host_id=TEXT)
def test_a_pattern_means_what_a_shell_means_by_it(pattern: str, host_id: str) -> None:
    expression = matching([pattern])
    assert expression is not None
    assert bool(expression.fullmatch(host_id)) == fnmatch.fnmatchcase(host_id, pattern)


@pytest.mark.parametrize("stars", [2, 20])
def test_no_pattern_takes_long(stars: int) -> None:
    """With as many ways to fit it as a plain expression would try, it would not end today."""
    expression = matching(["*a" * stars + "b"])
    assert expression is not None
    assert expression.fullmatch("a" * 40) is None


PATTERN = st.text("ab.-*?", min_size=1, max_size=10)


@given(patterns=st.lists(PATTERN, max_size=12, unique=True), host_id=TEXT)
def test_many_patterns_mean_what_each_of_them_does(patterns: list[str], host_id: str) -> None:
    """Also where several stand for the same."""
    many = IdPatterns({one: len(one) for one in patterns})
    fits = {len(one) for one in patterns if fnmatch.fnmatchcase(host_id, one)}
    assert set(many.of(host_id)) == fits


class Looked(dict[Any, Any]):
    """How often something was looked for in it."""

    count = 0

    def get(self, key: Any, default: Any = None) -> Any:
        Looked.count += 1
        return super().get(key, default)


class Tried(list[Any]):
    """Expressions: how many are tried."""

    def __iter__(self) -> Iterator[Any]:
        Looked.count += len(self)
        return super().__iter__()


def costs(patterns: dict[str, Any]) -> int:
    """Looks and tries for 50 ids."""
    made = IdPatterns(patterns)
    made._ends = Looked({head: Looked(held) for head, held in made._ends.items()})
    made._others = Looked({head: Tried(held) for head, held in made._others.items()})
    Looked.count = 0
    for one in range(50):
        list(made.of(f"i-{one:017x}"))
    return Looked.count


@pytest.mark.parametrize(
    "kind",
    [
        "i-{:05x}*",
        "*{:05x}",
        "i-0*{:05x}",
        "i-{0:05x}*{0:05x}",
        "i-{:05x}?*",
        "i-{:05x}????????????",
        "i-{:05x}*a*",
    ],
)
def test_what_an_id_costs_does_not_grow_with_the_patterns(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent of 16,000 members looks for all of them in all ids."""
    monkeypatch.setattr(Looked, "count", 0)
    few, many, more = (
        costs({kind.format(one): one for one in range(number)}) for number in (10, 1000, 3500)
    )
    assert 0 < few <= many <= 3 * 50
    assert many == more


@pytest.mark.parametrize("kind", ["?{:05x}", "?{:05x}*", "*{:05x}*", "*a*{:05x}"])
def test_those_that_have_no_beginning_are_tried_once_for_each_group(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many they are, is bounded where they are written."""
    monkeypatch.setattr(Looked, "count", 0)
    for groups in (["db"], ["db", "web", "mail"]):
        few, many = (
            costs({kind.format(one): groups[one % len(groups)] for one in range(number)})
            for number in (10, 256)
        )
        assert few == many <= (2 + len(groups)) * 50


def test_what_a_member_costs_does_not_grow_with_the_groups() -> None:
    """Each group with a pattern of its own: they were looked at one by one, for each member."""
    asked = Mock(wraps=IdPatterns.of)
    made = [
        index(**{f"g{n}": (GroupLine(f"i-{n}*"),) for n in range(number)}) for number in (1, 500)
    ]
    for one in made:
        with patch.object(IdPatterns, "of", autospec=True, side_effect=asked):
            one.of(member("i-0"))
    assert asked.call_count == 2


def test_who_is_taken_out_is_counted_by_group() -> None:
    some = [member(f"db-{n}") for n in range(6)]
    before = index(db=(GroupLine("db-*"),), web=(GroupLine("db-1"),), same=(GroupLine("*"),))
    after = index(db=(GroupLine("db-1"),), same=(GroupLine("*"),))
    assert [(one.group, one.gone, one.before) for one in before.taken_out(after, iter(some))] == [
        ("db", 5, 6),
        ("web", 1, 1),
    ]
