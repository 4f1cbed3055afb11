"""A member's public key: what its record says when its entry is proved, and nothing else."""

import pytest
from tests.unit.fleet.test_vouching import LINGER, World

from neti.fleet.vouching import Mode
from neti.model.wireguard_key import PublicKey
from neti.registry import KeyRead

KEY = PublicKey(bytes(range(32)))
OTHER = PublicKey(bytes(range(1, 33)))


@pytest.mark.parametrize("mode", ["report", "strict"])
def test_a_host_that_registers_with_a_key_has_it(mode: Mode) -> None:
    world = World(mode)
    world.register(1, key=str(KEY))
    world.register(2)
    assert dict(world.fleet.keys) == {"h1": KEY}
    assert world.fleet.take_rekeyed() == {"h1"}
    assert world.fleet.take_rekeyed() == set()


@pytest.mark.parametrize("mode", ["report", "strict"])
def test_the_key_of_a_host_in_a_list_is_read(mode: Mode) -> None:
    before = World(mode)
    before.register(1, key=str(KEY))
    world = World(mode)
    world.made, world.records, world.leases = before.made, before.records, before.leases
    world.listed()
    assert dict(world.fleet.keys) == {"h1": KEY}


def test_without_records_nothing_is_read_and_nobody_has_a_key() -> None:
    world = World("off")
    world.register(1, key=str(KEY))
    assert not world.fleet.keys
    assert not world.asked_hosts


@pytest.mark.parametrize("told_of_records", [True, False])
def test_where_records_decide_nothing_they_are_read_for_their_keys(told_of_records: bool) -> None:
    world = World("off", keys=True)
    if not told_of_records:
        world.fleet.host_changed = lambda *_args, **_named: None  # type: ignore[method-assign]
    world.register(1, key=str(KEY))
    assert dict(world.fleet.keys) == {"h1": KEY}
    assert world.fleet.records == "off"
    world.forge(2, 0)
    world.lease(2)
    assert not world.fleet.unvouched
    world.listed()
    assert dict(world.fleet.keys) == {"h1": KEY}


def test_a_record_written_without_its_entry_changes_no_key() -> None:
    world = World()
    name = world.register(1, key=str(KEY))
    world.write("h1", name, str(OTHER))
    world.answer()
    assert dict(world.fleet.keys) == {"h1": KEY}


def test_a_new_entry_brings_a_new_key_or_none() -> None:
    world = World()
    world.register(1, key=str(KEY))
    world.register(1, 1, key=str(OTHER))
    assert dict(world.fleet.keys) == {"h1": OTHER}
    world.register(1, 2)
    assert not world.fleet.keys


def test_a_lost_member_keeps_its_key_and_one_that_is_gone_has_none() -> None:
    world = World()
    world.vanish(world.register(1, key=str(KEY)))
    assert "h1" in world.fleet.lost
    assert dict(world.fleet.keys) == {"h1": KEY}
    world.fleet.take_rekeyed()
    world.fleet.tick(now=LINGER + 1)
    assert "h1" not in world.fleet.members
    assert not world.fleet.keys
    assert world.fleet.take_rekeyed() == {"h1"}


def test_a_remembered_key_counts_until_the_record_is_read() -> None:
    before = World()
    name = before.register(1, key=str(KEY))
    world = World()
    world.leases, world.made = before.leases, before.made
    world.fleet.remember({name: ()}, lost={}, owners={}, keys={"h1": KEY})
    world.listed()
    assert dict(world.fleet.keys) == {"h1": KEY}
    world.step = before.step
    world.write("h1", "-", str(OTHER))
    world.fleet.doubt_what_was_proved()
    world.fleet.prove_again(["h1"])
    world.answer()
    assert not world.fleet.keys


def test_a_new_entry_that_is_on_its_way_does_not_take_the_key_away_for_a_moment() -> None:
    before = World("report")
    name = before.register(1, key=str(KEY))
    world = World("report")
    world.leases, world.made = before.leases, before.made
    world.fleet.remember({name: ()}, lost={}, owners={}, keys={"h1": KEY})
    world.listed()
    world.step = before.step
    world.write("h1", world.name(1, 1), str(KEY))  # its entry has not been told yet
    world.fleet.prove_again(["h1"])
    world.answer()
    assert dict(world.fleet.keys) == {"h1": KEY}


def test_a_key_is_remembered_only_with_the_entry_that_it_came_with() -> None:
    world = World("report")
    world.register(1, key=str(KEY))
    assert world.fleet.key_of_entry("h1") == KEY
    world.lease(1)
    name = world.name(1, 1)  # believed while its record is read
    world.write("h1", name, str(OTHER))
    world.made[name] = world.step
    world.fleet.appeared(name)
    assert world.fleet.speaks["h1"] == name
    assert world.fleet.keys["h1"] == KEY
    assert world.fleet.key_of_entry("h1") is None
    world.answer()
    assert world.fleet.key_of_entry("h1") == OTHER


def test_a_new_entry_with_the_same_key_is_told_because_it_is_to_be_remembered() -> None:
    world = World()
    world.register(1, key=str(KEY))
    world.fleet.take_rekeyed()
    world.register(1, 1, key=str(KEY))
    assert world.fleet.take_rekeyed() == {"h1"}


def asked_whose(world: World) -> set[PublicKey]:
    return set(world.fleet.questions().keys)


def test_a_key_that_two_say_stays_with_who_had_it_until_it_is_told() -> None:
    world = World()
    world.register(1, key=str(KEY))
    world.register(2, key=str(KEY))
    assert dict(world.fleet.keys) == {"h1": KEY}
    assert world.fleet.key_of_entry("h2") is None  # nor is it remembered as h2's
    assert dict(world.fleet.key_disputes) == {KEY: ("h1", {"h2"})}
    world.fleet.answers([KeyRead(str(KEY), None)], now=0.0)
    assert dict(world.fleet.keys) == {"h1": KEY}
    world.fleet.answers([KeyRead(str(KEY), "h2")], now=0.0)
    assert dict(world.fleet.keys) == {"h2": KEY}
    assert dict(world.fleet.key_disputes) == {KEY: ("h2", {"h1"})}
    world.register(1, 1, key=str(OTHER))
    assert dict(world.fleet.keys) == {"h1": OTHER, "h2": KEY}
    assert not world.fleet.key_disputes


def test_a_key_of_somebody_else_stays_refused_when_its_owner_says_another() -> None:
    world = World()
    world.register(1, key=str(KEY))
    world.register(2, key=str(KEY))
    world.fleet.answers([KeyRead(str(KEY), "h1")], now=0.0)
    world.register(1, 1, key=str(OTHER))
    assert dict(world.fleet.keys) == {"h1": OTHER}
    assert dict(world.fleet.key_disputes) == {KEY: (None, {"h2"})}


def test_two_that_are_remembered_by_one_key_have_none_until_it_is_told() -> None:
    """As an earlier version kept it."""
    before = World()
    names = [before.register(number, key=str(KEY)) for number in (2, 1)]
    world = World()
    world.fleet.remember(dict.fromkeys(names, ()), lost={}, owners={}, keys={"h2": KEY, "h1": KEY})
    assert not world.fleet.keys
    assert asked_whose(world) == {KEY}
    world.fleet.gap_is_over()
    world.fleet.ask_again()
    assert asked_whose(world) == {KEY}
    world.fleet.answers([KeyRead(str(KEY), "h1")], now=0.0)
    assert dict(world.fleet.keys) == {"h1": KEY}


def test_keys_go_over_to_the_fleet_that_follows() -> None:
    before = World()
    name = before.register(1, key=str(KEY))
    after = World()
    after.fleet.succeed(before.fleet)
    after.fleet.remember({name: ()}, lost={}, owners={})
    assert dict(after.fleet.keys) == {"h1": KEY}
    empty = World()
    empty.fleet.succeed(before.fleet)
    empty.fleet.remember({}, lost={}, owners={})
    assert not empty.fleet.keys
