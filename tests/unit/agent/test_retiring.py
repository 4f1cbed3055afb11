"""Hosts that operators take out of the fleet by a word in the registry."""

from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from tests.support.agents import Box, World

from neti.registry import SettingRead
from neti.registry.memory import MemoryRegistry
from neti.registry.memory.server import Copy
from neti.registry.retired import Retired, added, encode, without
from neti.state.folder import StateFolder


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.clock.now = 1_750_000_000.0  # words have dates
    return made


def retire(world: World, *boxes: Box) -> None:
    words = {box.host.id: Retired(at=1_700_000_000, by="chief") for box in boxes}
    registry = MemoryRegistry(world.server)
    registry.change_setting("retired", encode(words) if words else None)
    registry.close()
    world.settle()


def take_back(world: World, *boxes: Box) -> None:
    now, ids = int(world.clock.wall()), [box.host.id for box in boxes]
    registry = MemoryRegistry(world.server)
    registry.edit_setting("retired", lambda raw: without(raw, ids, now=now))
    registry.close()
    world.settle()


def moved(world: World, old: Box, new: Box) -> str:
    """As ``neti lease move OLD NEW --take-out`` does. The address."""
    registry = MemoryRegistry(world.server)
    overlay = registry.lease_of(old.host.id)
    word = Retired(at=int(world.clock.wall()), by="", to=new.host.id, overlay=overlay)
    registry.edit_setting("retired", lambda raw: added(raw, {old.host.id: word}))
    registry.move(old.host.id, new.host.id, force=True)
    registry.close()
    world.settle()
    return str(overlay)


def anew(world: World, copy: Copy | None) -> None:
    """The registry is that copy of it now; None: it was wiped."""
    world.server.stop()
    if copy is None:
        world.server.wipe()
    else:
        world.server.restore_copy(copy)
    world.server.start()
    world.server.expire_orphans()
    world.settle()


def restarted(world: World, box: Box) -> None:
    box.stop()
    box.start()
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


def test_an_address_that_was_given_away_leads_to_its_former_host_no_more(world: World) -> None:
    """A job there that still runs would write into the database that has moved away."""
    old, new = world.started(1), world.started(2)
    overlay = moved(world, old, new)
    assert has_stopped(old)
    assert overlay not in old.dataplane.read().elements["overlay"]
    old.stop()
    old.start()  # it stays out, and follows the fleet
    world.settle()
    assert old.dataplane.read().elements["overlay"][overlay] == str(new.host.private)
    # An answer that was under way when the word came.
    old.running.registration.lease_held(IPv4Address(overlay))
    assert old.running.core.members.overlay is None
    new.ask("leave")
    world.pass_time(5)
    assert overlay not in old.dataplane.read().elements["overlay"]


def test_what_the_version_before_remembered_leads_nowhere_either(world: World) -> None:
    """It kept its address beside the word."""
    old, new = world.started(1), world.started(2)
    overlay = moved(world, old, new)
    old.stop()
    folder = StateFolder(old.settings.table_files_path)
    itself = folder.load("this machine").itself
    folder.save_self(replace(itself, overlay=overlay))
    old.start()
    world.settle()
    assert old.running.core.members.overlay is None
    assert old.dataplane.read().elements["overlay"][overlay] == str(new.host.private)


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
    take_back(world, goes)
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


@pytest.mark.parametrize("wiped", [True, False])
@pytest.mark.parametrize("stopped", [True, False])
def test_no_registry_that_forgot_it_brings_a_retired_host_back(
    world: World, wiped: bool, stopped: bool
) -> None:
    """Nor leads its former address to it: that is another host's."""
    copy = None if wiped else world.server.copied()
    peer, old, new = world.crowd([1, 2, 3])
    if not wiped:
        copy = world.server.copied()
    overlay = moved(world, old, new)
    assert has_stopped(old)
    if not stopped:
        restarted(world, old)
    anew(world, copy)
    restarted(world, old)
    world.pass_time(300)
    assert "ec2-2" not in {
        i for i in members(peer) if i not in peer.running.core.members.fleet.lost
    }
    assert old.running.registration.entry is None
    assert "does not say so any more" in old.problems()["registration"]
    restarted(world, old)  # the doubt is over, or was not seen
    assert old.running.registration.entry is None
    take_back(world, old)
    assert old.running.registration.entry is not None
    again = old.running.core.members.overlay
    assert wiped == (str(again) != overlay)
    assert not {"registration", "lease_changed"} & old.problems().keys()


def test_no_list_that_cannot_be_read_brings_it_back(world: World) -> None:
    stays, goes = world.started(1), world.started(2)
    retire(world, goes)
    registry = MemoryRegistry(world.server)
    registry.change_setting("retired", b'{"format":2,"words":[]}')
    restarted(world, goes)
    assert members(stays) == {"ec2-1"}
    assert "took this host out" in goes.problems()["registration"]


def test_an_older_copy_does_not_take_out_who_was_taken_back_since(world: World) -> None:
    stays, goes = world.started(1), world.started(2)
    retire(world, goes)
    copy = world.server.copied()
    world.pass_time(60)
    take_back(world, goes)
    restarted(world, goes)
    assert members(stays) == {"ec2-1", "ec2-2"}
    anew(world, copy)
    assert goes.running.registration.entry is not None
    assert not has_stopped(goes)
    assert "took that back later" in goes.running.core.live.faults["retired"]
    world.pass_time(60)
    moved(world, goes, stays)
    assert has_stopped(goes)


def test_no_time_in_a_word_makes_all_later_ones_void(world: World) -> None:
    """Where there are no rights anybody may write one."""
    goes = world.started(2)
    registry = MemoryRegistry(world.server)
    last = 253_402_300_799
    registry.change_setting("retired", encode({"ec2-2": Retired(at=last, by="")}))
    world.settle()
    registry.change_setting("retired", None)
    restarted(world, goes)
    world.pass_time(90_000)
    take_back(world, goes)
    assert goes.running.registration.entry is not None
    registry.change_setting("retired", encode({}, {"ec2-2": last}))
    world.settle()
    world.pass_time(90_000)
    registry.change_setting(
        "retired", encode({"ec2-2": Retired(at=int(world.clock.wall()), by="")})
    )
    world.settle()
    assert has_stopped(goes)


def test_a_job_that_ends_after_the_word_came_ends_nothing_of_it(world: World) -> None:
    goes = world.started(2)
    retire(world, goes)
    restarted(world, goes)
    overlay = goes.running.core.members.overlay
    assert overlay is not None
    goes.running.registration.lease_held(overlay)
    assert "took this host out" in goes.problems()["registration"]


def test_who_is_held_stays_while_the_registry_is_in_doubt_whatever_it_says(world: World) -> None:
    """The guard held them before; an older copy says that they are retired."""
    stays, *going = world.crowd(range(1, 31))
    fleet = stays.running.core.members.fleet
    for box in going:
        box.ask("leave")
    held = set(fleet.holds)
    assert held
    stays.running.core.problems.set("origin", "the registry went back")
    word = encode({host_id: Retired(at=1, by="") for host_id in held})
    stays.running.following.take_in(SettingRead("retired", word))
    assert set(fleet.holds) == held
    stays.running.core.problems.clear("origin")
    stays.running.following.take_in(SettingRead("retired", word))
    assert not fleet.holds


def test_a_doubt_that_comes_or_goes_is_seen(world: World) -> None:
    stays = world.started(1)
    copy = world.server.copied()
    dead, goes = world.started(2), world.started(3)
    fleet = stays.running.core.members.fleet
    retire(world, goes)
    assert fleet._leaving.retired == {"ec2-3"}
    dead.stop()
    anew(world, copy)
    retire(world, goes)
    assert "origin" in stays.problems()
    assert not fleet._leaving.retired
    stays.ask("release")
    world.pass_time(1)
    assert "origin" not in stays.problems()
    assert fleet._leaving.retired == {"ec2-3"}


def test_a_full_list_does_not_bring_back_an_address_that_was_given_away(world: World) -> None:
    old, new = world.crowd([2, 3])
    moved(world, old, new)
    short = {"ec2-2": Retired(at=int(world.clock.wall()) + 60, by="")}
    MemoryRegistry(world.server).change_setting("retired", encode(short))
    restarted(world, old)
    world.pass_time(120)
    take_back(world, old)
    assert old.running.registration.entry is not None
    assert "lease_changed" not in old.problems()
