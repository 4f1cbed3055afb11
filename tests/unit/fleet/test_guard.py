"""Removals: who is let go, who is held, and what ends a hold."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.agents import Box, World, world
from tests.unit.agent.test_agent import overlay, session_of

from neti.cli.status import _status_lines
from neti.fleet.guard import WINDOW_SECONDS, Guard, ends_by_itself
from neti.fleet.lost import Absences, Hold, Lost
from neti.model import Member


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def ids(*numbers: int) -> list[str]:
    return [f"h{number}" for number in numbers]


def crowd_of(count: int) -> list[str]:
    return ids(*range(1, count + 1))


# --- the rule ---


def test_a_few_may_go() -> None:
    guard = Guard(maxchange=3)
    assert guard.objection(ids(1, 2, 3), (), crowd_of(100), now=0) is None


def test_more_than_maxchange_may_not() -> None:
    guard = Guard(maxchange=3)
    assert "maxchange (3)" in (guard.objection(ids(1, 2, 3, 4), (), crowd_of(100), now=0) or "")


def test_slices_below_the_threshold_add_up_within_the_window() -> None:
    """And a host that flaps counts once."""
    guard = Guard(maxchange=3)
    for number in (1, 2, 3, 3, 3):
        assert guard.objection(ids(number), (), crowd_of(100), now=number) is None
        guard.let_go(ids(number), now=number)
    assert guard.objection(ids(4), (), crowd_of(97), now=10) is not None
    assert guard.objection(ids(4), (), crowd_of(97), now=3 + WINDOW_SECONDS) is None


def test_more_than_half_of_a_fleet_of_four_may_not() -> None:
    guard = Guard(maxchange=20)
    assert guard.objection(ids(1, 2), (), crowd_of(4), now=0) is None
    assert "half" in (guard.objection(ids(1, 2, 3), (), crowd_of(4), now=0) or "")
    assert guard.objection(ids(1, 2, 3), (), crowd_of(3), now=0) is None


def test_half_is_of_the_fleet_as_it_was_before_the_window() -> None:
    """Two of five went; two more would leave one: three fifths and more are held."""
    guard = Guard(maxchange=20)
    guard.let_go(ids(4, 5), now=0)
    assert guard.objection(ids(3), (), crowd_of(3), now=1) is not None


def test_one_who_came_back_is_counted_once() -> None:
    """As a member, not as one of those that were let go as well."""
    guard = Guard(maxchange=20)
    guard.let_go(ids(1), now=0)
    assert guard.objection(ids(2), (), crowd_of(3), now=1) is None


def test_thousands_who_leave_one_by_one_cost_the_same_each() -> None:
    """A look at all who are held already would make it a look at each for each."""

    class Counted(list[str]):
        looks = 0

        def __iter__(self) -> Iterator[str]:
            Counted.looks += 1
            return super().__iter__()

    absent = Counted(crowd_of(5000))
    guard = Guard(maxchange=20)
    assert "maxchange" in (guard.objection(ids(5001), absent, crowd_of(9000), now=0) or "")
    assert Counted.looks == 0


def test_how_many_are_absent_is_known_without_a_look_at_each() -> None:
    """As the guard is really asked: lost ones and held ones together, as they stand."""

    class Counted(dict[str, Lost]):
        looks = 0

        def __iter__(self) -> Iterator[str]:
            Counted.looks += 1
            return super().__iter__()

    absences = Absences()
    absences._waiting, absences._kept = Counted(), Counted()
    for number, host_id in enumerate(crowd_of(3000)):
        member = Member(
            id=host_id,
            site="ec2",
            private=IPv4Address("10.0.0.1"),
            public=None,
            overlay=IPv4Address("192.168.0.1"),
        )
        absences.add(Lost(member, number))
    absences.hold(crowd_of(2000), Hold(0, "many"))
    Counted.looks = 0
    absent = absences.lost.keys()
    assert len(absent) == len(absences) == 3000
    assert "3000 hosts or more" in (
        Guard(maxchange=20).objection(ids(1), absent, crowd_of(9000), now=0) or ""
    )
    assert Counted.looks == 0
    assert set(absent) == set(crowd_of(3000))


def test_who_is_lost_already_counts() -> None:
    """The first of many whose time is over is judged with the others behind it."""
    guard = Guard(maxchange=3)
    assert guard.objection(ids(1), ids(1, 2, 3, 4), crowd_of(100), now=0) is not None


@given(st.integers(1, 50), st.integers(0, 200), st.integers(1, 200))
def test_the_rule_as_a_sentence(maxchange: int, gone: int, members: int) -> None:
    gone = min(gone, members)
    due = ids(*range(1, gone + 1))
    held = Guard(maxchange=maxchange).objection(due, (), crowd_of(members), now=0)
    expected = gone > maxchange or (members >= 4 and 2 * gone > members)
    assert (held is not None) == expected


def test_a_hold_ends_by_itself_up_to_a_quarter_of_the_fleet() -> None:
    assert ends_by_itself(25, 100)
    assert not ends_by_itself(26, 100)


# --- in the agent ---


def crowd(fleet: World, count: int) -> tuple[Box, list[Box]]:
    one, *others = fleet.crowd(range(1, count + 1))
    fleet.pass_time(1)
    return one, others


def vanish(fleet: World, boxes: list[Box]) -> None:
    for box in boxes:
        session = session_of(box)
        box.stop()
        fleet.server.expire(session)
    fleet.settle()


def held(box: Box) -> set[str]:
    return {hold["id"] for hold in box.status()["holds"]}


def test_mass_loss_is_held_and_additions_go_through(fleet: World) -> None:
    """60 % vanish: all of them stay in the kernel, for ever; a joiner is let in meanwhile."""
    one, others = crowd(fleet, 10)
    before = one.elements("peers4")
    vanish(fleet, others[:6])
    fleet.pass_time(601)
    assert one.elements("peers4") == before
    assert held(one) == {box.host.id for box in others[:6]}
    assert one.status()["members"]["held"] == 6
    joiner = fleet.started(20)
    fleet.pass_time(1)
    assert str(joiner.host.private) in one.elements("peers4")
    fleet.pass_time(30 * 86400)
    assert held(one) == {box.host.id for box in others[:6]}
    assert set(before) <= set(one.elements("peers4"))


def test_release_lets_go(fleet: World) -> None:
    """One by name, then all; what the operator let go does not count towards the next hold."""
    one, others = crowd(fleet, 10)
    vanish(fleet, others[:6])
    fleet.pass_time(601)
    assert "error" in one.ask("release", ids=["ec2-99"])
    one.ask("release", ids=[others[0].host.id])
    fleet.pass_time(1)
    assert str(others[0].host.private) not in one.elements("peers4")
    assert len(held(one)) == 5
    one.ask("release", ids=None)
    fleet.pass_time(1)
    assert held(one) == set()
    assert set(one.elements("revoked4")) >= {str(box.host.private) for box in others[:6]}


def test_the_log_names_who_was_held_and_let_go(
    fleet: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Also days later: a hold that has ended stands nowhere else."""
    one, others = crowd(fleet, 30)
    ids = sorted(box.host.id for box in others[:25])
    vanish(fleet, others[:25])
    fleet.pass_time(601)
    one.ask("release", ids=[ids[0]])
    one.ask("release", ids=None)
    fleet.pass_time(1)
    said = [
        (record.message, record.__dict__["fields"]["ids"])
        for record in caplog.records
        if record.message in ("removals_held", "released", "holds_ended")
    ]
    rest = f"{', '.join(ids[1:21])} and 4 more"
    kept = [named for message, named in said if message == "removals_held"]
    assert all(any(host_id in named for named in kept) for host_id in ids[:20])
    assert said[len(kept) :] == [
        ("released", ids[0]),
        ("holds_ended", ids[0]),
        ("released", rest),
        ("holds_ended", rest),
    ]


def test_status_says_how_many_it_does_not_name(fleet: World) -> None:
    """Twenty lines of each, and then a number: of the lost, and of the held."""
    one, others = crowd(fleet, 30)
    vanish(fleet, others[:25])
    fleet.pass_time(1)
    lost = _status_lines(one.told())
    assert sum(line.startswith("lost ") for line in lost) == 20
    assert "          and 5 more" in lost
    fleet.pass_time(601)
    kept = _status_lines(one.told())
    assert any(line.startswith("held      25 members are kept: ") for line in kept)
    assert "            and 5 more" in kept
    one.ask("release", ids=sorted(held(one))[:24])
    alone = _status_lines(one.told())
    assert any(line.startswith("held      1 member is kept: ") for line in alone)
    assert not any(line.strip().startswith("and ") for line in alone)


def test_the_hosts_return_ends_it(fleet: World) -> None:
    one, others = crowd(fleet, 8)
    vanish(fleet, others[:5])
    fleet.pass_time(601)
    assert len(held(one)) == 5
    for box in others[:5]:
        box.start()
    fleet.pass_time(1)
    fleet.pass_time(1)
    assert held(one) == set()
    assert one.status()["members"]["total"] == 8


def test_it_survives_a_restart_and_a_reload(fleet: World) -> None:
    from neti.agent.told import Reload

    one, others = crowd(fleet, 8)
    vanish(fleet, others[:5])
    fleet.pass_time(601)
    expected = held(one)
    assert len(expected) == 5
    since = {hold["id"]: hold["since"] for hold in one.status()["holds"]}
    one.stop()
    fleet.pass_time(60)
    one.start()
    fleet.pass_time(1)
    one.new_settings = one.settings
    one.running.tell(Reload())
    fleet.pass_time(1)
    assert held(one) == expected
    assert {hold["id"]: hold["since"] for hold in one.status()["holds"]} == since


def test_a_claim_on_a_held_address_ends_no_hold(fleet: World) -> None:
    """A new host with the same private address: any member can say that it is there."""
    one, others = crowd(fleet, 8)
    vanish(fleet, others[:5])
    fleet.pass_time(601)
    newcomer = fleet.box(2)
    newcomer.host = type(one.host)(
        id="ec2-new", site="ec2", private=IPv4Address("10.0.0.2"), public=None
    )
    newcomer.start()
    fleet.pass_time(1)
    fleet.pass_time(1)
    assert held(one) == {box.host.id for box in others[:5]}


def test_a_small_hold_ends_by_itself(fleet: World) -> None:
    """Two of eight, with maxchange 1: after hold_seconds they go."""
    one, others = crowd(fleet, 8)
    operator = one.registry
    operator.change_setting("maxchange", b"1")
    fleet.pass_time(1)
    vanish(fleet, others[:2])
    fleet.pass_time(601)
    assert len(held(one)) == 2
    fleet.pass_time(3590)
    assert len(held(one)) == 2
    fleet.pass_time(11)
    fleet.pass_time(1)
    assert held(one) == set()
    assert one.status()["members"]["total"] == 6


def test_many_who_leave_on_purpose_are_held_too(fleet: World) -> None:
    """Mass removal is mass removal, whoever says it."""
    one, others = crowd(fleet, 10)
    for box in others[:7]:
        box.ask("leave")
        box.agent = None
    fleet.pass_time(1)
    assert len(held(one)) >= 2
    assert one.status()["members"]["total"] >= 5


# --- a registry that is doubted ---


def test_a_wiped_registry_removes_nobody_and_is_filled_again(fleet: World) -> None:
    """Every host takes its old address again; meanwhile sets stay as they are."""
    one, _ = crowd(fleet, 3)
    before = {where: one.elements(where) for where in ("overlay", "peers4")}
    fleet.server.stop()
    fleet.settle()
    fleet.server.wipe()
    for box in fleet.boxes[1:]:
        box.running.tell  # noqa: B018 -- they run on, and come back by themselves
    fleet.server.start()
    fleet.settle()
    fleet.pass_time(1)
    fleet.pass_time(1)
    assert {where: one.elements(where) for where in before} == before
    assert held(one) == set()
    assert one.status()["members"]["lost"] == 0


def test_a_wiped_registry_to_which_the_others_do_not_come_back(fleet: World) -> None:
    """Those who do not return are held for as long as it takes, in a fleet of any size."""
    one, others = crowd(fleet, 2)
    before = {where: one.elements(where) for where in ("overlay", "peers4")}
    others[0].stop()
    fleet.server.stop()
    fleet.settle()
    fleet.server.wipe()
    fleet.server.start()
    fleet.pass_time(1)
    fleet.pass_time(10 * 86400)
    assert {where: one.elements(where) for where in before} == before
    assert held(one) == {"ec2-2"}
    assert "another one than before" in one.problems()["origin"]
    one.ask("release", ids=None)
    fleet.pass_time(1)
    assert set(one.elements("overlay")) == {overlay(one)}
    assert "origin" not in one.problems()


def test_an_older_copy_of_the_registry_brings_nobody_back_to_an_old_address(fleet: World) -> None:
    """Its old entry is in the copy, and disappears with its session: the new address stays."""
    one, others = crowd(fleet, 4)
    mover = others[0]
    copy = fleet.server.copied()
    mover.host = type(one.host)(
        id=mover.host.id, site="ec2", private=IPv4Address("10.0.0.99"), public=None
    )
    fleet.pass_time(61)
    fleet.pass_time(11)  # that its public address is gone is believed the second time
    fleet.pass_time(1)
    at = overlay(mover)
    assert one.elements("overlay")[at] == "10.0.0.99"
    before = one.elements("overlay")
    fleet.server.stop()
    fleet.settle()
    fleet.server.restore_copy(copy)
    fleet.server.start()
    fleet.settle()
    assert one.elements("overlay") == before
    fleet.server.expire_orphans()
    fleet.settle()
    for _ in range(6):
        fleet.pass_time(30)
    assert one.elements("overlay") == before
    assert one.status()["members"]["lost"] == 0
    assert held(one) == set()


@pytest.mark.parametrize("how", ["left", "stayed away"])
def test_an_older_copy_of_the_registry_lets_nobody_in_who_is_gone(fleet: World, how: str) -> None:
    """Its address may be another machine's by then. Until it registers again, whatever is reloaded
    meanwhile; and the doubt is named although it holds nobody."""
    one, others = crowd(fleet, 6)
    goer = others[0]
    copy = fleet.server.copied()
    if how == "left":
        goer.ask("leave")
        goer.agent = None
    else:
        vanish(fleet, [goer])
        fleet.pass_time(one.settings.linger_seconds + 1)
    fleet.pass_time(1)
    address = str(goer.host.private)
    assert address not in one.elements("peers4")
    fleet.server.stop()
    fleet.settle()
    fleet.server.restore_copy(copy)
    fleet.server.start()
    fleet.settle()
    fleet.pass_time(10)
    assert address not in one.elements("peers4")
    assert "the registry went back" in one.problems()["origin"]
    assert any(goer.host.id in name for name in one.told().skipped.entries)
    one.new_settings = replace(one.settings, linger_seconds=700)
    one.ask("reload")
    fleet.pass_time(10)
    assert address not in one.elements("peers4")
    fleet.server.expire_orphans()
    goer.start()
    for _ in range(6):
        fleet.pass_time(30)
    assert address in one.elements("peers4")
    fleet.pass_time(one.settings.hold_seconds)
    assert "origin" not in one.problems()


def test_an_older_copy_in_which_as_much_changed_since_is_not_the_same_registry(
    fleet: World,
) -> None:
    """Hosts that registered after it was made do so again, until it is as far along as before."""
    one, others = crowd(fleet, 4)
    goer = others[0]
    address = str(goer.host.private)
    copy = fleet.server.copied()
    at = fleet.server.changes
    goer.ask("leave")
    goer.agent = None
    fleet.pass_time(1)
    assert address not in one.elements("peers4")
    made = fleet.server.changes - at
    fleet.server.stop()
    fleet.settle()
    fleet.server.restore_copy(copy)
    with fleet.server._step():
        for number in range(made):
            fleet.server._add(f"junk-{number}", 0, b"")
    fleet.server.start()
    fleet.settle()
    assert "took another course" in one.problems()["origin"]
    assert address not in one.elements("peers4")


def test_an_older_entry_that_came_back_with_this_very_session_goes(fleet: World) -> None:
    """A copy may hold the session that the agent still has: nothing would end the old entry."""
    one, others = crowd(fleet, 4)
    mover = others[0]
    (old,) = names_of(fleet, mover)
    mover.host = replace(mover.host, private=IPv4Address("10.0.0.99"))
    fleet.pass_time(61)
    fleet.pass_time(1)
    (new,) = names_of(fleet, mover)
    assert new != old
    fleet.server.stop()
    fleet.settle()
    with fleet.server._step():
        fleet.server._add(old, session_of(mover).id, b"")
    fleet.server.start()
    fleet.settle()
    for _ in range(3):
        fleet.pass_time(10)
    assert names_of(fleet, mover) == [new]
    assert one.elements("overlay")[overlay(mover)] == "10.0.0.99"


def names_of(fleet: World, box: Box) -> list[str]:
    return [name for name in fleet.server._names if name.endswith(f".{box.host.id}")]


def test_the_doubt_outlives_a_restart(fleet: World) -> None:
    """The agent was down while the registry was wiped: it still knows which one it had."""
    one, others = crowd(fleet, 3)
    before = one.elements("peers4")
    for box in (one, *others):
        box.stop()
    fleet.server.stop()
    fleet.server.wipe()
    fleet.server.start()
    one.start()
    fleet.pass_time(1)
    fleet.pass_time(1)
    assert one.elements("peers4") == before
    assert held(one) == {box.host.id for box in others}
