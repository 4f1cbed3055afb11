"""Policies of member_ports, by hand and against a reckoning port by port."""

from itertools import pairwise
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from neti.model.groups import EVERY_MEMBER, MemberPort, MemberPorts
from neti.ruleset.member_ports import (
    Loss,
    Segment,
    admits,
    admits_everybody,
    covers,
    losses,
    needed,
    reached_by,
    segments,
)

_GROUPS = ("app", "db", "web", EVERY_MEMBER)
_groups = st.lists(st.sampled_from(_GROUPS), min_size=1, max_size=3, unique=True).map(tuple)
_proto: st.SearchStrategy[Literal["tcp", "udp"]] = st.sampled_from(("tcp", "udp"))


@st.composite
def _line(draw: st.DrawFn) -> MemberPort:
    if draw(st.integers(0, 5)) == 0:
        return MemberPort(draw(_groups))
    first = draw(st.integers(1, 12) | st.integers(65530, 65535))
    last = min(65535, first + draw(st.integers(0, 6)))
    return MemberPort(draw(_groups), draw(_proto), first, last)


_policy: st.SearchStrategy[MemberPorts] = st.none() | st.lists(_line(), max_size=5).map(tuple)
_PORTS = [
    (proto, port) for proto in ("tcp", "udp") for port in (*range(1, 20), *range(65528, 65536))
]


def test_overlaps_are_united_and_the_groups_that_reach_all_are_in_each() -> None:
    ports = (
        MemberPort(("app",), "tcp", 8000, 8100),
        MemberPort(("web",), "tcp", 8050, 8200),
        MemberPort(("app",), "udp", 53, 53),
        MemberPort(("ops",)),
    )
    assert segments(ports) == (
        Segment("tcp", 8000, 8049, frozenset({"app", "ops"})),
        Segment("tcp", 8050, 8100, frozenset({"app", "ops", "web"})),
        Segment("tcp", 8101, 8200, frozenset({"ops", "web"})),
        Segment("udp", 53, 53, frozenset({"app", "ops"})),
    )


def test_neighbours_with_the_same_groups_are_one_segment() -> None:
    ports = (MemberPort(("app",), "tcp", 80, 81), MemberPort(("app",), "tcp", 82, 82))
    assert segments(ports) == (Segment("tcp", 80, 82, frozenset({"app"})),)


def test_nothing_listed_is_everything_for_everybody() -> None:
    for nothing in (None, ()):
        assert segments(nothing) == ()
        assert admits_everybody(nothing)
        assert admits(nothing, (), "tcp", 22)
        assert admits(nothing, (), None, 0)
        assert needed(nothing) == frozenset()


def test_the_first_policy_of_a_host_takes_something_from_every_member() -> None:
    file = (MemberPort(("app",), "tcp", 5432, 5432),)
    everybody = frozenset({EVERY_MEMBER})
    assert list(losses(file, None)) == [
        Loss(everybody, "tcp", 1, 5431),
        Loss(everybody, "tcp", 5432, 5432),
        Loss(everybody, "tcp", 5433, 65535),
        Loss(everybody, "udp", 1, 65535),
        Loss(everybody),
    ]


def test_what_has_no_ports_is_for_the_groups_that_reach_all() -> None:
    every_port = tuple(MemberPort((EVERY_MEMBER,), proto, 1, 65535) for proto in ("tcp", "udp"))
    assert list(losses(every_port, None)) == [Loss(frozenset({EVERY_MEMBER}))]
    assert not covers(every_port, (MemberPort(("ops",)),))
    assert not admits(every_port, ("ops",), "gre", 0)


def test_needed_are_the_groups_of_both_policies_but_for_the_one_that_exists_by_itself() -> None:
    file = (MemberPort(("app", EVERY_MEMBER), "tcp", 80, 80), MemberPort(("ops",)))
    assert needed(file, (MemberPort(("db",), "udp", 1, 9),)) == {"app", "db", "ops"}


@given(_policy)
def test_segments_say_what_the_lines_say(ports: MemberPorts) -> None:
    held = segments(ports)
    for one, after in pairwise(held):
        assert one.proto != after.proto or one.last < after.first
        joined = one.proto == after.proto and one.last + 1 == after.first
        assert not (joined and one.groups == after.groups)
    for proto, port in _PORTS:
        here = [one for one in held if one.proto == proto and one.first <= port <= one.last]
        assert [one.groups for one in here] in ([], [reached_by(ports, proto, port)])
        if not here:
            assert reached_by(ports, proto, port) == reached_by(ports, None, 0)


@given(_policy, _policy)
def test_one_covers_another_if_and_only_if_nobody_loses_a_port(
    file: MemberPorts, in_force: MemberPorts
) -> None:
    lost = {
        (proto, port, group)
        for proto, port in [*_PORTS, *((p, 30000) for p in ("tcp", "udp")), (None, 0)]
        # Somebody in no group, and somebody in one.
        for group in ("", *_GROUPS[:-1])
        if admits(in_force, (group,), proto, port) and not admits(file, (group,), proto, port)
    }
    assert covers(file, in_force) == (not lost)
    said = list(losses(file, in_force))
    for proto, port, group in lost:
        assert any(
            one.proto == proto
            and (proto is None or one.first <= port <= one.last)
            and (group in one.groups or EVERY_MEMBER in one.groups)
            for one in said
        )


@given(_policy, _policy, _policy)
def test_covering_is_an_order(one: MemberPorts, two: MemberPorts, three: MemberPorts) -> None:
    assert covers(one, one)
    if covers(one, two) and covers(two, three):
        assert covers(one, three)
