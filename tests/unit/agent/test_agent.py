"""The agent's loop, turn by turn: what the kernel holds after what happened."""

import errno
import shutil
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from tests.support.agents import Box, World, world

from neti import durable, log
from neti.agent import own_entry
from neti.agent.conditions import own_codes
from neti.agent.shadow_log import read_alone
from neti.agent.told import Reload, Stop
from neti.agent.worker import Job, outcome
from neti.control.server import Request
from neti.dataplane.monitor import NetworkChanged, RulesChanged
from neti.errors import RegistryUnavailable
from neti.model import Host, Member, Site, entry
from neti.monitoring.check import judge
from neti.monitoring.situation import Limits, Situation
from neti.registry import Session, Stale
from neti.registry.memory import MemoryRegistry
from neti.ruleset.objects import DeleteElements
from neti.state.folder import StateFolder


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def overlay(box: Box) -> str:
    text = box.status()["overlay"]
    assert isinstance(text, str)
    return text


def removals(box: Box) -> list[str]:
    """Commands that took a peer out, in all transactions but full replacements."""
    return [
        str(command)
        for transaction in box.dataplane.transactions
        for command in transaction.commands
        if isinstance(command, DeleteElements) and command.where == "peers4"
    ]


def test_members_reach_each_other(fleet: World) -> None:
    """In-site by private and cross-site by public address, and a host reaches itself."""
    one, two, far = fleet.started(1), fleet.started(2), fleet.started(1, "vpc")
    fleet.pass_time(1)
    assert one.elements("overlay") == {
        overlay(one): "10.0.0.1",
        overlay(two): "10.0.0.2",
        overlay(far): "203.0.113.1",
    }
    assert set(one.elements("peers4")) == {"10.0.0.2", "198.51.100.2", "203.0.113.1"}
    assert set(far.elements("peers4")) == {"198.51.100.1", "198.51.100.2"}
    assert one.machine.network(one.settings.overlay_subnet).own_route() is not None


def test_a_host_that_leaves_is_gone_at_once(fleet: World) -> None:
    """Leaving on purpose: no peer waits, its sources count as removed, its connections end."""
    one, two = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    gone = overlay(two)
    two.ask("leave")
    fleet.pass_time(1)
    assert set(one.elements("overlay")) == {overlay(one)}
    assert set(one.elements("revoked4")) == {"10.0.0.2", "198.51.100.2"}
    fleet.pass_time(1)  # its connections are ended together with others', a moment later
    assert one.connections.ended == [IPv4Address(gone)]


def test_who_left_comes_back_as_the_next_generation(fleet: World) -> None:
    """While its goodbye still stands there: the next one has to be another word."""
    one, two = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    for generation in (0, 1, 2):
        entry = two.status()["entry"]
        assert f".{generation}." in entry
        two.ask("leave")
        two.agent = None
        fleet.pass_time(1)
        assert set(one.elements("overlay")) == {overlay(one)}
        two.start()
        fleet.pass_time(1)
        fleet.pass_time(1)
        assert len(one.elements("overlay")) == 2


def test_a_host_that_vanishes_stays_for_a_while(fleet: World) -> None:
    """A session that ended without a word: reachable and admitted until linger_seconds are over."""
    one, two = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    before = one.elements("peers4")
    two.stop()
    fleet.server.expire(session_of(two))
    fleet.settle()
    fleet.pass_time(599)
    assert one.elements("peers4") == before
    assert [lost["id"] for lost in one.status()["lost"]] == ["ec2-2"]
    fleet.pass_time(2)
    assert one.elements("peers4") == {}


def session_of(box: Box) -> Session:
    session = StateFolder(box.settings.table_files_path).load("this machine").session
    assert session is not None
    return session


def test_a_restart_is_seen_by_nobody(fleet: World) -> None:
    """Agent stopped and started: no change in its own kernel, none in its peers', same entry."""
    one, two = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    entry, counts = two.status()["entry"], [len(b.dataplane.transactions) for b in (one, two)]
    two.stop()
    fleet.pass_time(1)
    two.start()
    fleet.pass_time(1)
    assert two.status()["entry"] == entry
    assert [len(b.dataplane.transactions) for b in (one, two)] == counts


def test_starting_without_a_registry_keeps_what_the_kernel_has(fleet: World) -> None:
    """No registry and no state on disk: members in the kernel stay until something is known."""
    one, _two = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    held = {where: one.elements(where) for where in ("overlay", "peers4")}
    one.stop()
    fleet.server.stop()
    reborn = fleet.box(1)  # another state folder: nothing is remembered
    reborn.dataplane = one.dataplane
    reborn.start()
    fleet.pass_time(1)
    assert {where: reborn.elements(where) for where in held} == held
    fleet.server.start()
    fleet.pass_time(120)
    assert set(reborn.elements("peers4")) == {"10.0.0.2", "198.51.100.2"}


def test_last_good_state_survives_kernel_and_registry(fleet: World) -> None:
    """An empty kernel and no registry, as after a reboot: members come from disk."""
    one, _two = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    held = one.elements("peers4")
    one.stop()
    fleet.server.stop()
    one.dataplane.table = None
    one.start()
    fleet.pass_time(1)
    assert one.elements("peers4") == held


def test_the_registry_being_away_changes_nothing(fleet: World) -> None:
    """Silence proves nothing: sets stay the same, and status says since when and why."""
    one, _two = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    before = one.elements("overlay")
    fleet.server.stop()
    fleet.pass_time(3600)
    assert one.elements("overlay") == before
    assert not one.status()["registry"]["fresh"]
    assert "registry" in one.problems()


def test_a_kernel_that_refuses_is_tried_again(fleet: World) -> None:
    """A failed transaction changes nothing, is named, and is made up for."""
    one = fleet.started(1)
    one.dataplane.failing = "Device or resource busy"
    fleet.started(2)
    fleet.pass_time(1)
    assert one.elements("peers4") == {}
    assert one.problems()["kernel"] == "Device or resource busy"
    one.dataplane.failing = None
    fleet.pass_time(60)
    assert set(one.elements("peers4")) == {"10.0.0.2", "198.51.100.2"}
    assert "kernel" not in one.problems()


def test_steady_change_does_not_put_off_the_look_at_a_kernel_that_refuses(fleet: World) -> None:
    """Only reading back mends a wrong belief; joins that keep coming must not postpone it."""
    one, two = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    assert one.dataplane.table is not None
    one.dataplane.table.elements["peers4"].clear()  # and nobody tells the agent
    two.ask("leave")  # its removal is refused now: no such element
    for number in range(3, 43):
        fleet.started(number)
        fleet.pass_time(0.5)
    assert len(one.elements("peers4")) == 80


def test_a_reload_takes_no_member_out(fleet: World) -> None:
    """reject_all on and off by reload: members stay in the kernel at every moment."""
    one, _two = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    for wanted in (True, False, True):
        one.new_settings = replace(one.settings, reject_all=wanted)
        one.running.tell(Reload())
        fleet.pass_time(1)
        assert one.status()["stage"] == ("trial" if wanted else "shadow")
        fleet.pass_time(100)
        assert one.elements("enforce") == ({"ipv4": "drop", "ipv6": "drop"} if wanted else {})
        assert one.status()["stage"] == ("enforced" if wanted else "shadow")
    assert removals(one) == []


def test_an_invalid_reload_is_refused(fleet: World) -> None:
    """The old configuration stays in force, and the fault is named in the status."""
    one = fleet.started(1)
    one.running.tell(Reload())
    fleet.pass_time(1)
    assert "reject_all: expected true" in one.problems()["reload"]
    assert one.status()["stage"] == "shadow"


def test_a_reload_that_would_take_out_half_the_fleet_is_refused(fleet: World) -> None:
    """A typing error in a site's range: the old configuration stays, and all of the members."""
    one = fleet.started(1)
    for number in range(2, 8):
        fleet.started(number)
    fleet.pass_time(1)
    before = one.elements("peers4")
    typo = Site(name="ec2", private=(IPv4Network("10.9.0.0/16"),))
    one.new_settings = replace(one.settings, sites={**one.settings.sites, "ec2": typo})
    one.running.tell(Reload())
    fleet.pass_time(1)
    fleet.pass_time(700)
    assert one.elements("peers4") == before
    assert "would not be believed" in one.problems()["reload"]
    assert removals(one) == []


def test_a_reload_lets_in_what_the_sites_refused_before(fleet: World) -> None:
    """A member's further address was outside the ranges, and it does not register again."""
    further = "192.0.2.9"
    narrow = {
        **fleet.sites,
        "ec2": replace(fleet.sites["ec2"], public=(IPv4Network("198.51.100.0/24"),)),
    }
    one = fleet.started(1, sites=narrow)
    two = fleet.box(2)
    two.host = replace(two.host, more=(IPv4Address(further),))
    two.start()
    fleet.settle()
    fleet.pass_time(1)
    assert "10.0.0.2" in one.elements("peers4")
    assert further not in one.elements("peers4")
    one.new_settings = replace(one.settings, sites=fleet.sites)
    one.running.tell(Reload())
    fleet.settle()
    fleet.pass_time(1)
    assert further in one.elements("peers4")


@pytest.fixture(name="said")
def _said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What is logged about members that came, went, or are others now."""
    said: list[tuple[str, dict[str, Any]]] = []
    for level in ("info", "warning", "error"):
        monkeypatch.setattr(
            log,
            level,
            lambda name, **more: said.append((name, more)) if "member" in name else None,
        )
    return said


@pytest.mark.parametrize("others", [3, 30])
def test_a_reload_says_only_what_it_changes(
    fleet: World, said: list[tuple[str, dict[str, Any]]], others: int
) -> None:
    """Nobody joins by it who was there before, and who came or went beside it is said."""
    one = fleet.started(1)
    for number in range(2, 2 + others):
        fleet.started(number)
    fleet.pass_time(1)
    one.new_settings = one.settings
    for box in fleet.boxes[1:]:
        box.stop()  # one log shows what this agent alone says
    said.clear()
    one.running.tell(Reload())
    fleet.pass_time(1)
    one.running.tell(Reload())
    one.running.tell(Reload())
    fleet.pass_time(1)
    assert said == []
    assert len(one.running.core.members.fleet.members) == 1 + others
    two = fleet.boxes[1]
    fleet.server.expire(session_of(two))
    one.running.tell(Reload())
    fleet.pass_time(1)
    assert [(name, more["id"]) for name, more in said] == [("member_lost", two.host.id)]
    said.clear()
    one.running.tell(Reload())
    fleet.pass_time(1)
    assert said == []


def test_who_is_not_believed_after_a_reload_is_gone_in_the_log_and_on_disk(
    fleet: World, said: list[tuple[str, dict[str, Any]]]
) -> None:
    """A site's range became narrower; the others stay as they are noted."""
    one = fleet.started(1)
    for number in range(2, 9):
        fleet.started(number)
    fleet.pass_time(1)
    for box in fleet.boxes[1:]:
        box.stop()
    narrow = Site(
        name="ec2", private=tuple(IPv4Network(f"10.0.0.{number}/32") for number in range(1, 8))
    )
    one.new_settings = replace(one.settings, sites={**one.settings.sites, "ec2": narrow})
    said.clear()
    one.running.tell(Reload())
    fleet.pass_time(1)
    assert [(name, more["id"]) for name, more in said] == [("member_gone", "ec2-8")]
    kept = StateFolder(one.settings.table_files_path).load("this machine").members
    assert kept.keys() == one.running.core.members.fleet.members.keys()
    assert kept == dict(one.running.core.members.everybody())
    said.clear()
    typo = Site(name="ec2", private=(IPv4Network("10.9.0.0/16"),))
    one.new_settings = replace(one.settings, sites={**one.settings.sites, "ec2": typo})
    one.running.tell(Reload())
    fleet.pass_time(1)
    assert said == []


def test_nothing_is_enforced_before_the_members_are_known(fleet: World) -> None:
    """reject_all with a registry that never answered would keep the whole fleet out: it waits."""
    fleet.server.stop()
    one = fleet.started(1, reject_all=True)
    assert one.elements("enforce") == {}
    fleet.server.start()
    fleet.pass_time(1)
    assert one.elements("enforce") == {"ipv4": "drop 120", "ipv6": "drop 120"}


def test_reject_all_is_refused_without_a_way_in(fleet: World) -> None:
    """An empty ssh_whitelist would lock the operator out: named, and not in force; unless asked."""
    one = fleet.started(1, reject_all=True, ssh_whitelist=())
    fleet.pass_time(1)
    assert one.elements("enforce") == {}
    assert "ssh_whitelist is empty" in one.problems()["arming"]
    two = fleet.started(2, reject_all=True, ssh_whitelist=(), allow_empty_ssh_whitelist=True)
    fleet.pass_time(1)
    assert two.status()["stage"] == "trial"


def test_nobodys_time_runs_while_the_registry_is_away(fleet: World) -> None:
    """One was lost just before: it is not removed in the silence, and has the rest of its time."""
    one, two = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    two.stop()
    fleet.server.expire(session_of(two))
    fleet.settle()
    fleet.pass_time(100)
    fleet.server.stop()
    fleet.settle()
    fleet.pass_time(100_000)
    assert "10.0.0.2" in one.elements("peers4")
    fleet.server.start()
    fleet.settle()
    fleet.pass_time(490)
    assert "10.0.0.2" in one.elements("peers4")
    fleet.pass_time(15)
    assert "10.0.0.2" not in one.elements("peers4")


def test_lost_is_remembered_across_a_restart(fleet: World) -> None:
    """Lingering does not begin anew when the agent restarts meanwhile."""
    one, two = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    two.stop()
    fleet.server.expire(session_of(two))
    fleet.settle()
    fleet.pass_time(500)
    one.stop()
    one.start()
    fleet.settle()
    fleet.pass_time(50)
    assert set(one.elements("peers4")) == {"10.0.0.2", "198.51.100.2"}
    fleet.pass_time(60)
    fleet.pass_time(1)
    assert one.elements("peers4") == {}


def test_the_second_of_one_identity_says_who_holds_it(fleet: World) -> None:
    """Two agents with one identity: the second is not registered and names the first."""
    first, second = fleet.started(1), fleet.started(1)
    fleet.pass_time(1)
    assert first.status()["registered"]
    assert not second.status()["registered"]
    said = second.problems()["registration"]
    assert "ec2-1" in said
    assert "pid" in said


def test_a_full_subnet_hurts_only_the_one_that_gets_none(fleet: World) -> None:
    """One clear sentence on the host without an address; nobody else is touched."""
    small = IPv4Network("192.168.0.0/30")
    one = fleet.started(1, overlay_subnet=small)
    two = fleet.started(2, overlay_subnet=small)
    late = fleet.started(3, overlay_subnet=small)
    fleet.pass_time(1)
    assert late.status()["overlay"] is None
    assert "192.168.0.0/30" in late.problems()["registration"]
    assert set(one.elements("overlay")) == {overlay(one), overlay(two)}


def test_an_address_change_is_one_step(fleet: World) -> None:
    """A new public address: next generation, same overlay address, never out of the peers' sets."""
    one, far = fleet.started(1), fleet.started(1, "vpc")
    fleet.pass_time(1)
    at = overlay(far)
    far.host = replace(far.host, public=IPv4Address("203.0.113.77"))
    fleet.pass_time(61)
    fleet.pass_time(1)
    assert one.elements("overlay")[at] == "203.0.113.77"
    assert one.elements("peers4") == {"203.0.113.77": ""}
    assert ".1.vpc." in far.status()["entry"]
    assert sum(name.endswith("vpc-1") for name in far.registry.names()) == 1


def test_a_moved_lease_is_followed_by_its_new_host_and_by_its_old_one(fleet: World) -> None:
    """By the registry's word, without a look by the clock; peers follow in the same moment."""
    one, two, peer = fleet.started(1), fleet.started(2), fleet.started(3)
    fleet.pass_time(1)
    address, freed = overlay(one), overlay(two)
    MemoryRegistry(fleet.server).move("ec2-1", "ec2-2", force=True)
    fleet.settle()
    fleet.pass_time(1)
    assert overlay(two) == address
    assert overlay(one) not in (address, freed)
    assert peer.elements("overlay")[address] == "10.0.0.2"
    assert peer.elements("overlay")[overlay(one)] == "10.0.0.1"
    assert freed not in peer.elements("overlay")
    assert all(box.status()["problems"] == [] for box in (one, two, peer))
    assert IPv4Address(address) in peer.connections.ended


def test_an_entry_that_speaks_for_a_live_host_is_named_and_loses_to_it(fleet: World) -> None:
    """Whoever may write entries can write another's; the host itself hears it and says more."""
    one, peer = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    address = overlay(one)
    forged = f"1.0a000063c6336363{int(IPv4Address(address)):08x}.5.ec2.ec2-1"
    fleet.server.put(forged)
    fleet.settle()
    fleet.pass_time(1)
    assert peer.elements("overlay")[address] == "10.0.0.1"
    for _ in range(3):  # for as long as it stands, whatever else is looked at meanwhile
        assert "impostor" in one.problems()
        fleet.pass_time(61)
    fleet.server.remove(forged)
    fleet.settle()
    fleet.pass_time(1)
    assert one.status()["problems"] == []
    assert peer.elements("overlay")[address] == "10.0.0.1"


def test_an_impostor_that_vanishes_unseen_is_named_no_more(fleet: World) -> None:
    """While the registry is away its entry goes; the list after it tells by not having it."""
    one, peer = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    forged = f"1.0a000063c6336363{int(IPv4Address(overlay(one))):08x}.5.ec2.ec2-1"
    fleet.server.put(forged)
    fleet.settle()
    assert "under this host's id" in str(one.status()["problems"])
    fleet.server.cut(one.registry)
    fleet.server.remove(forged)
    fleet.server.restore(one.registry)
    fleet.settle()
    fleet.pass_time(20)
    assert one.status()["problems"] == []
    assert peer.elements("overlay")[overlay(one)] == "10.0.0.1"


def test_an_impostor_that_came_unseen_is_named(fleet: World) -> None:
    """It comes while the registry is away, or while the agent is: no event tells of it."""
    one = fleet.started(1)
    fleet.pass_time(1)
    forged = f"1.0a000063c6336363{int(IPv4Address(overlay(one))):08x}.5.ec2.ec2-1"
    fleet.server.cut(one.registry)
    fleet.server.put(forged)
    fleet.server.restore(one.registry)
    fleet.settle()
    fleet.pass_time(20)
    assert "under this host's id" in str(one.status()["problems"])
    one.stop()
    one.start()
    fleet.settle()
    fleet.pass_time(20)
    assert "under this host's id" in str(one.status()["problems"])


def test_many_impostors_are_answered_at_a_pace(fleet: World) -> None:
    """Each answer is a change for every peer: thirty entries are no thirty answers."""
    one, peer = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    address, said = int(IPv4Address(overlay(one))), set()
    for generation in range(1, 31):
        fleet.server.put(f"1.0a000063c6336363{address:08x}.{generation:x}.ec2.ec2-1")
        fleet.settle()
        said.add(one.agent.registration.entry if one.agent is not None else None)
    assert len(said) <= 3
    assert "and 29 more" in str(one.status()["problems"])
    fleet.pass_time(2)
    fleet.pass_time(1)
    assert peer.elements("overlay")[overlay(one)] == "10.0.0.1"


def test_an_entry_that_nobody_believes_is_named_and_not_answered(fleet: World) -> None:
    """Its overlay address is not this host's. An answer would end the host's session for nothing,
    whenever any member writes such a name."""
    one = fleet.started(1)
    fleet.pass_time(1)
    assert one.agent is not None
    before = one.agent.registration.entry
    junk = "1.0a000063c6336363c0a8fefe.0.ec2.ec2-1"
    fleet.server.put(junk)
    fleet.settle()
    fleet.pass_time(61)
    assert one.agent.registration.entry == before
    assert "impostor" in one.problems()
    fleet.server.remove(junk)
    fleet.settle()
    assert one.status()["problems"] == []


def test_a_generation_that_none_follows_is_named_and_ends_with_its_entry(fleet: World) -> None:
    """docs/security.md, what a member can still do: it is not answered, but seen, and no more is
    to be done than to delete it."""
    one, peer = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    address = overlay(one)
    forged = f"1.0a000063c6336363{int(IPv4Address(address)):08x}.1000.ec2.ec2-1"
    fleet.server.put(forged)
    fleet.settle()
    fleet.pass_time(61)
    assert peer.elements("overlay")[address] == "10.0.0.99"
    assert "impostor" in one.problems()
    fleet.server.remove(forged)
    fleet.settle()
    fleet.pass_time(1)
    assert peer.elements("overlay")[address] == "10.0.0.1"
    assert one.status()["problems"] == []


def test_junk_in_the_registry_is_named_and_harmless(fleet: World) -> None:
    """Malformed and hostile entries change nothing and stand in the status."""
    one, _two = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    before = one.elements("peers4")
    loopback = "1.7f000001c633640ac0a80a0a.0.ec2.evil"
    for name in ("junk", "../../etc", "1.zz", loopback):
        fleet.server.put(name)
    fleet.pass_time(1)
    assert one.elements("peers4") == before
    skipped = one.status()["skipped"]
    assert skipped["count"] == 4
    assert "127.0.0.0/8" in skipped["entries"][loopback]


def test_down_takes_everything_out_until_up(fleet: World) -> None:
    """down: no table and no route, through changes and a restart; up: all of it again."""
    one = fleet.started(1)
    one.ask("down")
    fleet.started(2)
    fleet.pass_time(1)
    assert one.dataplane.table is None
    assert one.machine.routes == []
    one.stop()
    one.start()
    fleet.pass_time(1)
    assert one.dataplane.table is None
    one.ask("up")
    fleet.pass_time(1)
    assert set(one.elements("peers4")) == {"10.0.0.2", "198.51.100.2"}


def test_down_said_on_disk_is_obeyed_before_anything_is_written(fleet: World) -> None:
    """By a command that an agent did not answer in time: it writes nothing when it wakes."""
    one = fleet.started(1)
    fleet.pass_time(1)
    folder = one.running.core.out.folder
    folder.set_down(True)
    one.dataplane.table = None
    one.machine.routes = []
    written = len(one.dataplane.transactions)
    one.running.tell(NetworkChanged())
    one.running.tell(RulesChanged(1, "nft"))
    fleet.pass_time(1000)
    assert one.dataplane.table is None
    assert one.machine.routes == []
    assert len(one.dataplane.transactions) == written
    assert one.status()["down"]
    folder.set_down(False)
    fleet.pass_time(1)
    assert one.dataplane.table is not None
    assert not one.status()["down"]


def test_down_said_on_disk_in_the_middle_of_a_turn_is_obeyed(fleet: World) -> None:
    """The process may stand still at any instruction."""
    one = fleet.started(1)
    fleet.pass_time(1)
    one.running.core.out.folder.set_down(True)
    one.dataplane.table = None
    one.machine.routes = []
    one.running.kernel.resync("woken")
    one.running.kernel.look_at_network()
    assert one.dataplane.table is None
    assert one.machine.routes == []


def test_a_stale_command_changes_nothing(fleet: World) -> None:
    """Its caller was told that it failed."""
    one = fleet.started(1)
    fleet.pass_time(1)
    for command in ("enforce", "down", "leave"):
        request = Request(command, {}, until=0)
        one.running.tell(request)
        fleet.settle()
        assert "given up" in request.wait()["error"]
    assert one.status()["stage"] == "shadow"
    assert one.elements("enforce") == {}
    assert not one.status()["down"]
    assert one.status()["registered"]


def test_down_ends_the_connections_that_were_translated(fleet: World) -> None:
    """The kernel would go on translating them without a rule: to peers, to itself, and to one
    who left just before; nobody else's."""
    one, two = fleet.started(1), fleet.started(2)
    three = fleet.started(3)
    fleet.pass_time(1)
    overlays = {box.status()["overlay"] for box in (one, two, three)}
    three.ask("leave")
    fleet.settle()
    assert one.connections.ended == []
    one.ask("down")
    assert {str(address) for address in one.connections.ended} == overlays


def test_a_registry_that_stays_away_is_a_line_a_minute(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each server of an ensemble has a reason of its own; the status shows the last one."""
    lines: list[str] = []
    monkeypatch.setattr(log, "warning", lambda name, **more: lines.append(name))
    one = fleet.started(1)
    fleet.pass_time(1)
    for second in range(90):
        one.running.tell(Stale(f"server {second % 3} refuses"))
        fleet.pass_time(1)
    assert lines.count("registry_stale") == 2
    assert "server 2 refuses" in one.problems()["registry"]


def test_what_others_change_is_put_right(fleet: World) -> None:
    """A removed table and a removed route are back after the kernel's own event."""
    one, _two = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    one.dataplane.table = None
    one.machine.routes.clear()
    one.running.tell(RulesChanged(4711, "nft"))
    one.running.tell(NetworkChanged())
    fleet.settle()
    fleet.pass_time(1)
    assert set(one.elements("peers4")) == {"10.0.0.2", "198.51.100.2"}
    assert len(one.machine.routes) == 1


def test_the_first_change_goes_at_once_and_later_ones_are_gathered(fleet: World) -> None:
    """With an interval of 60 s: one transaction at once, one for all that came meanwhile."""
    one = fleet.started(1)
    fleet.pass_time(1)
    one.registry.change_setting("interval", b"60")
    fleet.pass_time(120)
    before = len(one.dataplane.transactions)
    for number in range(2, 12):
        fleet.started(number)
    assert len(one.dataplane.transactions) == before + 1
    assert len(one.elements("peers4")) == 2
    fleet.pass_time(61)
    assert len(one.dataplane.transactions) == before + 2
    assert len(one.elements("peers4")) == 20


def test_nonsense_in_a_live_setting_is_named(fleet: World) -> None:
    """An interval that is no number from 0 to 60 is ignored and named."""
    one = fleet.started(1)
    for nonsense in (b"soon", b"-1", b"61", b"nan", b"\xff"):
        one.registry.change_setting("interval", nonsense)
        fleet.pass_time(1)
        assert one.status()["settings"]["interval"] == 0.2
        assert "interval" in one.problems()["live_setting"]
        assert "live_setting" in own_codes(one.running.core)  # else no look at the fleet shows it


def test_an_expired_session_is_registered_anew(fleet: World) -> None:
    """After an expiry with the agent alive, the host is back under the same overlay address."""
    one, two = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    at = overlay(two)
    fleet.server.expire(session_of(two))
    fleet.pass_time(60)
    assert two.status()["registered"]
    assert one.elements("overlay")[at] == "10.0.0.2"


def test_sessions_that_somebody_ends_again_and_again_are_a_few_changes_for_peers(
    fleet: World,
) -> None:
    one, two = fleet.started(1), fleet.started(2)
    names = set[str | None]()
    for _ in range(300):
        fleet.server.expire(session_of(two))
        fleet.settle()
        fleet.pass_time(0.2)
        names.add(two.status()["entry"])
    assert len(names - {None}) < 25
    fleet.pass_time(6.0)
    assert two.status()["registered"]
    assert two.host.id in one.running.core.members.fleet.members


def test_a_torn_journal_is_named_and_the_rest_is_used(
    fleet: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A torn last line is refused and named, until a whole journal is written: at once. What
    stands before it still counts."""
    one, _two = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    one.stop()
    fleet.server.stop()
    journal = one.settings.table_files_path / "members.jsonl"
    journal.write_bytes(journal.read_bytes() + b'00000000 {"ec2-9":')
    one.dataplane.table = None
    one.start()
    fleet.pass_time(1)
    assert set(one.elements("peers4")) == {"10.0.0.2", "198.51.100.2"}
    told = [vars(record).get("fields", {}).get("what", "") for record in caplog.records]
    assert any("members.jsonl" in what for what in told)
    assert "state" not in one.problems()
    fleet.server.start()
    fleet.pass_time(120)
    fleet.started(3)
    fleet.pass_time(1)
    fleet.pass_time(1)
    one.stop()
    one.start()
    assert "state" not in one.problems()
    assert "10.0.0.3" in one.elements("peers4")


def test_another_machines_state_is_not_used(fleet: World) -> None:
    """A golden image does not boot with another machine's members, lease or session."""
    one, _two = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    one.stop()
    itself = one.settings.table_files_path / "self.json"
    document = durable.checked(itself.read_bytes())
    itself.write_bytes(durable.line({**document, "machine": "another machine"}))
    fleet.server.stop()
    one.dataplane.table = None
    one.start()
    fleet.pass_time(1)
    assert one.elements("peers4") == {}
    assert "another machine" in one.problems()["state"]


def test_stopping_changes_nothing(fleet: World) -> None:
    """SIGTERM ends the loop and leaves rules and registration as they are."""
    one, two = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    before = two.dataplane.read()
    two.running.tell(Stop())
    two.running.run()
    assert two.dataplane.read() == before
    assert len(one.registry.names()) == 2


def test_a_host_without_a_public_address_is_named(fleet: World) -> None:
    """It is reached inside its site only; from the other its overlay address is refused."""
    near, far = fleet.started(1), fleet.started(1, "vpc")
    hidden = fleet.box(9)
    hidden.host = Host(id="ec2-9", site="ec2", private=IPv4Address("10.0.0.9"), public=None)
    hidden.start()
    fleet.pass_time(1)
    fleet.pass_time(1)
    at = overlay(hidden)
    assert near.elements("overlay")[at] == "10.0.0.9"
    assert at not in far.elements("overlay")
    assert far.status()["members"]["unreachable"] == 1
    assert any("no public address" in note for note in hidden.status()["notes"])


def test_a_lease_that_was_read_behind_the_list_is_remembered_as_read(fleet: World) -> None:
    """A restart believes it without asking, and lets nobody else claim the address meanwhile."""
    two = fleet.started(2)
    one = fleet.started(1)
    fleet.pass_time(10)
    kept = StateFolder(one.settings.table_files_path).load("this machine").members
    assert kept[two.host.id].leased
    assert kept[one.host.id].leased


def test_an_emptied_state_folder_is_written_again_and_named(fleet: World) -> None:
    """A reboot would otherwise find a host that has never been a member, and open it."""
    one, _ = fleet.started(1), fleet.started(2)
    core = one.running.core
    one.ask("enforce", seconds=60)
    one.ask("confirm")
    gone = ["agent.lock", "agent.sock"]
    core.out.taken_away = lambda: gone
    core.out.make_again = gone.clear
    shutil.rmtree(one.settings.table_files_path)
    fleet.pass_time(40)
    loaded = StateFolder(one.settings.table_files_path).load("this machine")
    assert loaded.record is not None
    assert loaded.record.confirmed
    assert set(loaded.members) == {"ec2-1", "ec2-2"}
    assert loaded.session is not None
    assert loaded.itself.overlay == str(core.members.overlay)
    assert not loaded.faults
    folder = one.settings.table_files_path
    assert (folder / "shadow.jsonl").exists()
    assert read_alone(folder, "this machine", core.steady)[1] == []
    assert "state_emptied" in {one["code"] for one in one.status()["problems"]}
    assert not core.disk.behind


def test_the_addresses_of_who_left_are_named_in_the_status(fleet: World) -> None:
    """For as long as open connections of theirs may be left."""
    one, two = fleet.started(1), fleet.started(2)
    assert one.status()["removed"] == {"count": 0, "addresses": []}
    fleet.pass_time(1)
    two.ask("leave")
    fleet.pass_time(1)
    named = [str(two.host.private), str(two.host.public)]
    assert one.status()["removed"] == {"count": 2, "addresses": named}


def test_who_left_before_a_restart_is_not_let_in_by_an_older_copy_of_the_registry(
    fleet: World,
) -> None:
    """Its session in the copy is long over, and its address may be another machine's by now."""
    one, _, gone = fleet.started(1), fleet.started(2), fleet.started(3)
    fleet.pass_time(1)
    copy = fleet.server.copied()
    address = overlay(gone)
    gone.ask("leave")
    gone.stop()
    fleet.pass_time(1)
    assert address not in one.elements("overlay")
    one.stop()
    one.start()
    fleet.settle()
    fleet.server.stop()
    fleet.server.restore_copy(copy)
    fleet.server.start()
    fleet.settle()
    fleet.pass_time(1)
    assert "origin" in one.problems()
    assert address not in one.elements("overlay")
    assert one.status()["skipped"]["count"] == 1
    fleet.server.expire_orphans()
    gone.start()
    fleet.settle()
    fleet.pass_time(1)
    assert address in one.elements("overlay")


def test_a_lease_made_right_after_its_entry_is_seen_by_every_agent(fleet: World) -> None:
    """Who read it in between reads it once more, and not for ever."""
    one = fleet.started(1)
    fleet.pass_time(1)
    late = Member(
        id="late",
        site="ec2",
        private=IPv4Address("10.0.0.77"),
        public=None,
        overlay=IPv4Address("192.168.7.7"),
    )
    fleet.server.put(entry.encode(late))
    fleet.settle()
    assert "192.168.7.7" not in one.elements("overlay")
    other = MemoryRegistry(fleet.server)
    other.acquire("late", one.settings.overlay_subnet, prefer=late.overlay)
    fleet.pass_time(7)
    fleet.pass_time(1)
    assert one.elements("overlay")["192.168.7.7"] == "10.0.0.77"
    never = replace(late, id="never", overlay=IPv4Address("192.168.7.8"))
    fleet.server.put(entry.encode(never))
    fleet.pass_time(7)
    fleet.pass_time(7)
    assert "leases" not in one.running.core.timers.due


def test_a_full_disk_is_one_sentence(fleet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of the files cannot be written; one of them for another reason says which."""
    one = fleet.started(1)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(durable, "replace", full)
        one.ask("enforce", seconds=60)
        fleet.started(2)
        fleet.pass_time(61)
        said = [each for each in one.status()["problems"] if each["code"] == "disk"]
        assert len(said) > 1
        folder = one.settings.table_files_path
        assert {each["sentence"] for each in said} == {
            f"{folder}: cannot be written: No space left on device"
        }
        found = judge(Situation(status=one.told()), Limits())
        assert found.line.count("No space left on device") == 1


def test_own_addresses_that_no_peer_believes_are_named(fleet: World) -> None:
    """EC2 gives an IPv6 address outside the ranges that neti.yml has for the site."""
    outside = IPv6Address("2001:db8:1::1")
    fleet.sites["ec2"] = replace(fleet.sites["ec2"], ipv6=(IPv6Network("2001:db8:2::/48"),))
    box = fleet.box(1)
    box.host = replace(box.host, more=(outside,))
    box.start()
    fleet.settle()
    assert str(outside) in box.problems()["address_outside"]
    box.host = replace(box.host, more=(IPv6Address("2001:db8:2::1"),))
    fleet.pass_time(61)
    fleet.pass_time(61)
    assert "address_outside" not in box.problems()


def test_what_a_leave_that_failed_says_is_what_is_the_case(fleet: World) -> None:
    one = fleet.started(1)
    fleet.pass_time(1)
    fleet.server.stop()
    fleet.settle()
    said = one.ask("leave")["error"]
    assert said.startswith("NOT left: the registry cannot be told")
    assert "peers still let this host in" in said
    assert "→ run 'neti leave' again" in said


def test_a_host_whose_leave_came_about_though_it_failed_is_registered_again(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer was lost, or only the first of several steps was done."""
    one, two = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    leave = one.registry.leave

    def no_answer(*, host_id: str, name: str, departure: str) -> None:
        leave(host_id=host_id, name=name, departure=departure)
        raise RegistryUnavailable("ZooKeeper did not answer within 10 s")

    monkeypatch.setattr(one.registry, "leave", no_answer)
    said = one.ask("leave")["error"]
    assert said.startswith("this host may not have left")
    assert "its agent goes on" in said
    fleet.pass_time(5)
    assert one.status()["registered"]
    assert one.agent is not None
    assert one.agent.registration.entry in fleet.server._names
    assert two.agent is not None
    assert one.host.id in two.agent.core.members.fleet.members


@pytest.mark.parametrize("how", ["removed", "an older copy", "a folder"])
def test_a_stage_that_somebody_takes_from_the_disk_is_written_again_and_named(
    fleet: World, how: str
) -> None:
    """A reboot would otherwise open this host."""
    one, _ = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    one.ask("enforce", seconds=60)
    folder = one.settings.table_files_path
    both = [folder / "stage.json", folder / "stage.json.copy"]
    older = [path.read_bytes() for path in both]
    one.ask("confirm")
    fleet.pass_time(40)
    assert "state_emptied" not in one.problems()
    for path, content in zip(both, older, strict=True):
        path.unlink()
        if how == "an older copy":
            path.write_bytes(content)
    if how == "a folder":
        both[0].mkdir()  # the copy takes its place
    fleet.pass_time(40)
    assert "stage.json, stage.json.copy" in one.problems()["state_emptied"]
    assert ("stage_not_saved" in one.problems()) == (how == "a folder")
    loaded = StateFolder(folder).load("this machine")
    assert loaded.record is not None
    assert loaded.record.confirmed
    said = one.problems()["state_emptied"]
    fleet.pass_time(40)
    assert one.problems()["state_emptied"] == said


def test_a_host_that_stood_still_lets_nobody_go_before_it_can_have_heard_of_a_return(
    fleet: World,
) -> None:
    """Its loop may wake before the thread that reads from the registry."""
    one, two = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    one.running.core.soon("linger")  # so that it does not wait
    one.running.step(block=True)
    two.running.core.out.registry.close()
    fleet.settle()
    assert one.status()["members"]["lost"] == 1
    linger = one.settings.linger_seconds
    fleet.clock.advance(linger + 1)
    one.running.step(block=True)
    one.running.step()
    assert two.host.id in one.running.core.members.fleet.members
    fleet.clock.advance(one.settings.session_seconds)
    one.running.step()
    assert two.host.id not in one.running.core.members.fleet.members


def test_who_leaves_while_it_registers_anew_leaves_nothing_behind(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its addresses have changed a moment ago: the goodbye is for the entry that comes about."""
    one, two = fleet.started(1), fleet.started(2)
    fleet.pass_time(1)
    held: list[tuple[str, Job]] = []
    submit = one.running.core.out.worker.submit

    def hold(name: str, job: Job) -> None:
        if name in ("register", "leave"):
            held.append((name, job))
        else:
            submit(name, job)

    monkeypatch.setattr(one.running.core.out.worker, "submit", hold)
    one.host = replace(one.host, public=IPv4Address("198.51.100.99"))
    fleet.pass_time(61)
    fleet.pass_time(61)
    assert [name for name, _ in held] == ["register"]
    request = Request("leave", {})
    one.running.tell(request)
    fleet.settle()
    while held:
        name, job = held.pop(0)
        one.running.tell(outcome(name, job))
        fleet.settle()
    assert "result" in request.wait()
    assert not [name for name in fleet.server._names if own_entry.speaks_for(one.host.id, name)]
    assert one.host.id not in two.running.core.members.fleet.members


def test_a_host_that_is_back_after_its_session_ended_has_not_changed(
    fleet: World, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.started(1)
    two = fleet.started(2)
    fleet.pass_time(1)
    session = two.registry._session
    assert session is not None
    caplog.set_level("INFO")
    fleet.server.expire(session)
    fleet.settle()
    assert "member_lost" in caplog.text
    assert "member_returned" in caplog.text
    assert "member_changed" not in caplog.text
