"""Hosts that operators take out of the fleet by a word in the registry."""

from pathlib import Path

import pytest
from tests.support.agents import Box, World

from neti.registry import SettingRead
from neti.registry.memory import MemoryRegistry
from neti.registry.retired import Retired, encode


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def retire(world: World, *boxes: Box) -> None:
    words = {box.host.id: Retired(at=1_700_000_000, by="chief") for box in boxes}
    registry = MemoryRegistry(world.server)
    registry.change_setting("retired", encode(words) if words else None)
    registry.close()
    world.settle()


def members(box: Box) -> set[str]:
    return set(box.running.core.members.fleet.members)


def has_stopped(box: Box) -> bool:
    return box.running._stopping


def test_a_retired_host_leaves_and_its_agent_stops(world: World) -> None:
    stays, goes = world.started(1), world.started(2)
    assert members(stays) == {"ec2-1", "ec2-2"}
    retire(world, goes)
    assert has_stopped(goes)
    assert not has_stopped(stays)
    assert members(stays) == {"ec2-1"}
    assert not stays.running.core.members.fleet.lost


def test_more_than_the_guard_lets_go_at_once_are_not_held(world: World) -> None:
    """An operator said it: nobody has to say 'neti release' as well. Without the word they are."""
    many = world.crowd(range(1, 31))
    stays, *going = many
    retire(world, *going)
    assert members(stays) == {"ec2-1"}
    assert not stays.running.core.guard.window


def test_a_host_that_is_lost_as_well_is_still_held(world: World) -> None:
    """Who is retired does not count for others, neither for them nor against them."""
    many = world.crowd(range(1, 61))
    stays, *others = many
    retire(world, *others[:20])
    assert len(members(stays)) == 40
    for box in others[20:]:
        session = box.registry._session
        assert session is not None
        box.stop()
        world.server.expire(session)
    world.settle()
    world.pass_time(stays.settings.linger_seconds + 1)
    assert len(stays.running.core.members.fleet.holds) == 39


def test_it_stays_out_when_its_agent_starts_again_until_it_is_taken_back(world: World) -> None:
    stays, goes = world.started(1), world.started(2)
    retire(world, goes)
    goes.stop()
    goes.start()
    world.settle()
    assert members(stays) == {"ec2-1"}
    assert not has_stopped(goes)
    sentence = goes.problems()["registration"]
    assert "took this host out of the fleet at 2023-11-14" in sentence
    assert "neti retire --back ec2-2" in sentence
    assert "does not register it" in goes.ask("leave")["error"]
    retire(world)
    assert members(stays) == {"ec2-1", "ec2-2"}
    assert "registration" not in goes.problems()


def test_a_host_whose_agent_was_restarted_meanwhile_leaves_too(world: World) -> None:
    """Its session, and with it its entry, outlives the agent."""
    stays, goes = world.started(1), world.started(2)
    goes.stop()
    retire(world, goes)
    assert members(stays) == {"ec2-1", "ec2-2"}
    goes.start()
    world.settle()
    assert members(stays) == {"ec2-1"}
    assert has_stopped(goes)


def test_a_word_that_cannot_be_read_changes_nothing(world: World) -> None:
    stays, goes = world.started(1), world.started(2)
    registry = MemoryRegistry(world.server)
    registry.change_setting("retired", b'{"format":2,"words":[]}')
    world.settle()
    assert members(stays) == members(goes) == {"ec2-1", "ec2-2"}
    assert "list of retired hosts" in stays.running.core.live.faults["retired"]
    registry.change_setting("retired", None)
    world.settle()
    assert "retired" not in stays.running.core.live.faults


def test_who_was_held_before_the_word_came_goes_by_it(world: World) -> None:
    many = world.crowd(range(1, 31))
    stays, *going = many
    for box in going:
        box.ask("leave")
    held = set(stays.running.core.members.fleet.holds)
    assert held
    retire(world, *(box for box in going if box.host.id in held))
    assert not stays.running.core.members.fleet.holds


def test_hosts_that_are_held_because_the_registry_is_in_doubt_stay(world: World) -> None:
    """An older copy of the registry has an older word."""
    stays, goes = world.started(1), world.started(2)
    fleet = stays.running.core.members.fleet
    names = frozenset(name for name in fleet.names if "ec2-1" in name)
    fleet.snapshot(names, now=1.0, doubt="another registry")
    assert set(fleet.holds) == {"ec2-2"}
    word = encode({goes.host.id: Retired(at=1, by="")})
    stays.running.following.take_in(SettingRead("retired", word))
    assert set(fleet.holds) == {"ec2-2"}


def test_a_goodbye_that_fails_is_said_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from neti.errors import RegistryUnavailable

    stays, goes = world.started(1), world.started(2)
    leave, failed = goes.registry.leave, list[str]()

    def fails_once(**arguments: str) -> None:
        if not failed:
            failed.append(arguments["name"])
            raise RegistryUnavailable("no answer")
        leave(**arguments)

    monkeypatch.setattr(goes.registry, "leave", fails_once)
    retire(world, goes)
    assert failed
    assert not has_stopped(goes)
    world.pass_time(60)
    assert has_stopped(goes)
    assert members(stays) == {"ec2-1"}
