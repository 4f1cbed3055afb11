"""Operators define groups: what agents make of it, and when they do not follow."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.agents import Box, World, world

from neti.model import Member
from neti.model.groups import GroupLine, Groups, MemberPort
from neti.registry.groups import encode
from neti.registry.memory import MemoryRegistry

PORTS = (
    MemberPort(("db",), "tcp", 5432, 5432),
    MemberPort(("ops", "members"), "tcp", 80, 80),
    MemberPort(("ops",)),
)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def boxes(fleet: World) -> list[Box]:
    return [fleet.started(number, member_ports=PORTS) for number in (1, 2, 3)]


def say(fleet: World, value: bytes | Groups | None) -> None:
    raw = encode(value) if isinstance(value, Groups) else value
    MemoryRegistry(fleet.server).change_setting("groups", raw)
    fleet.settle()


def lines(edition: int, *every: GroupLine | str, shrunk: int = 0) -> Groups:
    db = tuple(GroupLine(one) if isinstance(one, str) else one for one in every)
    return Groups({"db": db}, edition, shrunk)


def who(box: Box, group: str = "db") -> set[str]:
    members = box.running.core.members
    every = members.fleet.members.values()
    return {member.id for member in every if group in members.groups.of(member)}


def codes(box: Box) -> dict[str, str]:
    return box.problems()


def test_all_agents_follow_at_once_and_name_what_nobody_defined(
    fleet: World, boxes: list[Box]
) -> None:
    one, two, three = boxes
    assert who(one) == set()
    assert "group_unknown" in codes(one)
    say(fleet, lines(1, one.host.id, two.host.id))
    for box in boxes:
        assert who(box) == {one.host.id, two.host.id}
        named = [p for p in box.status()["problems"] if p["code"] == "group_unknown"]
        assert [p["subject"] for p in named] == ["ops"]
    say(fleet, lines(2, "*"))
    assert who(one) == {one.host.id, two.host.id, three.host.id}


def test_a_host_that_comes_is_in_its_groups_at_once(fleet: World, boxes: list[Box]) -> None:
    say(fleet, lines(1, "*"))
    four = fleet.started(4)
    assert four.host.id in who(boxes[0])


def test_a_line_ends_by_the_wall_clock(fleet: World, boxes: list[Box]) -> None:
    one, two, _ = boxes
    end = one.running.core.wall() + 100
    say(fleet, lines(1, GroupLine(one.host.id, until=end), two.host.id))
    fleet.pass_time(90)
    assert who(one) == {one.host.id, two.host.id}
    every = one.running.core.grouping.every()  # each look at a session asks, and none builds it
    assert one.running.core.grouping.every() is every
    fleet.pass_time(11)
    assert who(one) == {two.host.id}
    assert one.running.core.grouping.every().of(as_member(one)) == ()
    say(fleet, lines(2, one.host.id))
    assert one.running.core.grouping.every().of(as_member(one)) == ("db",)


def as_member(box: Box) -> Member:
    return box.running.core.members.fleet.members[box.host.id]


def test_a_line_that_ended_by_a_clock_that_ran_ahead_is_back_once_it_is_right(
    fleet: World, boxes: list[Box]
) -> None:
    one, two, _ = boxes
    end = one.running.core.wall() + 10_000
    say(fleet, lines(1, GroupLine(one.host.id, until=end)))
    fleet.clock.set = 20_000.0
    fleet.pass_time(11)
    assert who(two) == set()
    fleet.pass_time(600)
    fleet.clock.set = 0.0
    fleet.pass_time(11)
    assert who(two) == {one.host.id}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (None, "has no groups any more"),
        (lines(6), "are older than edition 7"),
        (b"{", "is not JSON"),
    ],
)
def test_what_is_doubtful_is_named_and_the_last_good_groups_stay(
    fleet: World, boxes: list[Box], said: bytes | Groups | None, why: str
) -> None:
    one, two, _ = boxes
    say(fleet, lines(7, one.host.id))
    say(fleet, said)
    assert who(two) == {one.host.id}
    assert why in codes(two)["groups_held"]
    two.stop()
    two.start()
    fleet.settle()
    assert who(two) == {one.host.id}  # by the disk
    assert why in codes(two)["groups_held"]
    say(fleet, lines(8, two.host.id, shrunk=8))
    assert who(two) == {two.host.id}
    assert "groups_held" not in codes(two)


def test_in_a_registry_that_was_wiped_an_operator_says_it_anew(
    fleet: World, boxes: list[Box]
) -> None:
    one, two, _ = boxes
    say(fleet, lines(7, one.host.id))
    two.stop()
    fleet.server.wipe()
    two.start()
    say(fleet, lines(8, two.host.id))
    assert who(two) == {one.host.id}
    assert "another registry" in codes(two)["groups_held"]
    say(fleet, lines(9, two.host.id, shrunk=9))
    assert who(two) == {two.host.id}
    say(fleet, lines(10, one.host.id, shrunk=9))
    assert who(two) == {one.host.id}
    assert "groups_held" not in codes(two)


def test_after_a_wipe_and_an_import_the_next_ordinary_edition_is_followed(
    fleet: World, boxes: list[Box]
) -> None:
    """The same document was in both registries, and is the new one's from then on."""
    one, two, _ = boxes
    say(fleet, lines(7, one.host.id))
    fleet.server.stop()
    fleet.server.restore_copy(replace(fleet.server.copied(), fleet="another"))
    fleet.server.start()
    fleet.settle()
    say(fleet, lines(8, two.host.id))
    assert who(two) == {two.host.id}
    assert "groups_held" not in codes(two)


def test_an_agent_that_starts_without_the_registry_goes_by_the_disk(
    fleet: World, boxes: list[Box]
) -> None:
    one, two, _ = boxes
    say(fleet, lines(7, one.host.id))
    two.stop()
    fleet.server.stop()
    two.start()
    assert who(two) == {one.host.id}


def test_before_the_registry_is_read_no_group_is_known(fleet: World) -> None:
    say(fleet, lines(7, "*"))
    fleet.server.stop()
    box = fleet.box(1, member_ports=PORTS)
    box.start()
    assert not box.running.core.members.groups.known
    assert "group_unknown" not in codes(box)


def test_a_folder_that_was_emptied_has_the_groups_again(fleet: World, boxes: list[Box]) -> None:
    one, _, _ = boxes
    say(fleet, lines(7, one.host.id))
    file = one.settings.table_files_path / "groups.json"
    file.unlink()
    one.running._footing._write_all()
    assert file.exists()
