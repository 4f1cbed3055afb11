"""Gateways that answer probes, or do not: by agents with a door in memory."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import NoReturn

import pytest
from tests.support.agents import Box, World, world
from tests.unit.agent.test_agent import session_of
from tests.unit.agent.test_gateways import endpoints, gateway, hidden, port, two_sites

from neti.agent.shadow_evidence import ShadowEvidence
from neti.errors import NetiError, RegistryUnavailable
from neti.model.settings import Settings
from neti.oneshot.seen import seen
from neti.registry.drained import encode
from neti.registry.memory import MemoryRegistry


@dataclass
class Answers:
    """Gateways that answer at once, but for these."""

    silent: set[IPv4Address] = field(default_factory=set)
    opened: int | None = None
    refused: str = ""
    asked: int = 0
    _back: list[tuple[bytes, IPv4Address]] = field(default_factory=list)

    def open(self, port: int) -> None:
        if self.refused:
            raise NetiError(self.refused)
        self.opened = port

    def ask(self, to: IPv4Address, word: bytes) -> None:
        self.asked += 1
        if to not in self.silent:
            self._back.append((word, to))

    def answers(self) -> Iterator[tuple[bytes, IPv4Address]]:
        while self._back:
            yield self._back.pop()

    def close(self) -> None:
        self.opened = None


@pytest.fixture(name="there")
def _there(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        made.sites = two_sites()
        yield made


@dataclass
class Five:
    there: World
    boxes: dict[str, Box]
    doors: dict[str, Answers]

    def near(self) -> str:
        return self.boxes["a"].elements("gateway_near")["17"]

    def using(self) -> tuple[Box, Box]:
        """The gateway of a, and the other one of its site."""
        gw, gw2 = self.boxes["gw"], self.boxes["gw2"]
        return (gw, gw2) if self.near() == "10.0.0.1" else (gw2, gw)

    def silence(self, *gateways: Box) -> None:
        """Others answer. Sites have the same private addresses."""
        for name, door in self.doors.items():
            site = self.boxes[name].host.site
            door.silent = {one.host.private for one in gateways if one.host.site == site}
            door.silent |= {one.host.public for one in gateways if one.host.public}

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds * 10)):
            self.there.pass_time(0.1)


@pytest.fixture(name="five")
def _five(there: World) -> Five:
    """Two gateways in ec2, one in vpc, one host behind them in each."""
    boxes = {
        "gw": gateway(there, 1, "ec2")[0],
        "gw2": gateway(there, 2, "ec2")[0],
        "far": gateway(there, 1, "vpc")[0],
        "a": hidden(there, 11, "ec2"),
        "b": hidden(there, 11, "vpc"),
    }
    doors = {}
    for name, box in boxes.items():
        box.probes = doors[name] = Answers()
        box.start()
    made = Five(there, boxes, doors)
    made.run(3)
    return made


def test_a_silent_gateway_is_left_within_five_seconds_and_its_session_lives(five: Five) -> None:
    a, b, far = (five.boxes[name] for name in ("a", "b", "far"))
    dead, stays = five.using()
    before = [endpoints(one) for one in (a, b, far)]
    five.silence(dead)
    five.run(4.5)
    assert five.near() == str(stays.host.private)
    assert far.elements("gateway_far")[port(a)] == str(stays.host.public)
    assert not a.running.core.members.fleet.lost
    assert [endpoints(one) for one in (a, b, far)] == before
    note = f"{dead.host.id} is named as a gateway and cannot be used: it does not answer"
    assert note in a.status()["notes"]
    assert note in far.status()["notes"]
    five.silence()
    five.run(4.5)
    assert five.near() == str(dead.host.private)
    assert far.elements("gateway_far")[port(a)] == str(dead.host.public)


def test_changes_that_are_gathered_for_a_minute_do_not_hold_it_up(five: Five) -> None:
    MemoryRegistry(five.there.server).change_setting("interval", b"60")
    five.run(1)
    hidden(five.there, 41, "ec2").start()
    five.run(1)
    dead, stays = five.using()
    five.silence(dead)
    five.run(4.5)
    assert five.near() == str(stays.host.private)


def test_if_none_answers_nobody_moves_onto_one_that_was_given_up_before(five: Five) -> None:
    """The first one is dead. That the other one is too may be a wrong belief."""
    a, far = five.boxes["a"], five.boxes["far"]
    dead, used = five.using()
    five.silence(dead)
    five.run(4.5)
    five.silence(dead, used)
    five.run(15)
    assert five.near() == str(used.host.private)
    assert far.elements("gateway_far")[port(a)] == str(used.host.public)
    a.new_settings = replace(a.settings, linger_seconds=7)
    a.ask("reload")
    five.run(0.5)
    assert five.near() == str(used.host.private)
    note = f"{used.host.id} is named as a gateway and cannot be used: it does not answer"
    assert note in a.status()["notes"]
    for one in (a, far):
        said = one.problems()["gateways_gone"]
        assert "site ec2 has no gateway that is known to work" in said
        assert "ec2-1 does not answer, ec2-2 does not answer" in said
    assert "or other sites' gateways are gone" in a.problems()["gateways_gone"]
    assert "or this host alone is" in far.problems()["gateways_gone"]
    five.silence()
    five.run(5)
    assert "gateways_gone" not in a.problems()
    assert "gateways_gone" not in far.problems()


def test_an_agent_that_died_takes_no_gateway_out_where_no_other_works(five: Five) -> None:
    """Its kernel passes on. Where another one is registered, that one knows of more members."""
    a = five.boxes["a"]
    died, stays = five.using()
    died.stop()
    five.there.server.expire(session_of(died))
    five.run(1)
    assert five.near() == str(stays.host.private)
    five.silence(stays)
    five.run(4.5)
    assert five.near() == str(died.host.private)
    assert "gateways_gone" not in a.problems()
    five.silence(stays, died)
    five.run(4.5)
    said = a.problems()["gateways_gone"]
    assert "ec2-1 does not answer, ec2-2 does not answer" in said


def test_one_that_is_lost_and_passes_on_is_not_left_for_one_lost_probe(five: Five) -> None:
    a, far = five.boxes["a"], five.boxes["far"]
    dead, passes = five.using()
    for one in (dead, passes):
        one.stop()
        five.there.server.expire(session_of(one))
    five.silence(dead)
    five.run(15)
    five.silence(dead, passes)
    five.run(1.1)
    five.silence(dead)
    for _ in range(30):
        assert five.near() == str(passes.host.private)
        assert far.elements("gateway_far")[port(a)] == str(passes.host.public)
        assert "gateways_gone" not in {**a.problems(), **far.problems()}
        five.run(0.1)


def test_down_asks_nobody_and_up_begins_again(five: Five) -> None:
    a, door = five.boxes["a"], five.doors["a"]
    assert door.opened == 16384
    a.ask("down")
    five.run(1)
    asked = door.asked
    five.run(20)
    assert door.asked == asked
    assert door.opened is None
    a.ask("up")
    five.run(3)
    assert door.asked > asked


def test_a_port_that_cannot_be_had_is_a_problem_and_tried_again(there: World) -> None:
    gw, _ = gateway(there, 1, "ec2")
    gw.start()
    box = hidden(there, 11, "ec2")
    box.probes = door = Answers(refused="UDP port 16384 cannot be used (Address already in use)")
    box.start()
    there.pass_time(1)
    assert box.problems()["gateway_probes"].startswith("UDP port 16384 cannot be used (Address")
    door.refused = ""
    there.pass_time(31)
    assert "gateway_probes" not in box.problems()
    assert door.asked


def test_a_scan_of_the_port_keeps_no_host_from_being_enforced(five: Five) -> None:
    """It is the agent's own, and strangers are meant to be refused there."""
    agent = five.boxes["a"].running
    assert ("udp", 16384) in ShadowEvidence(agent.core, agent.shadow).meant()


def test_what_another_program_loses_at_the_port_of_probes_is_lost_by_a_trial(there: World) -> None:
    """The agent holds it neither where somebody else has it, nor where it probes nobody."""
    gw, _ = gateway(there, 1, "ec2")
    taken, unasked = hidden(there, 11, "ec2"), hidden(there, 12, "ec2")
    taken.probes = Answers(refused="UDP port 16384 cannot be used (Address already in use)")
    for box in (gw, taken, unasked):
        box.start()
    there.pass_time(1)
    for box in (taken, unasked):
        agent = box.running
        assert agent.core.members.gateways.ports is not None
        assert ("udp", 16384) not in ShadowEvidence(agent.core, agent.shadow).meant()


CUT_OFF = "no gateway of another site answers this gateway"


def sends_back(gateway: Box) -> bool:
    """Whether it answers probes of its own site."""
    table = gateway.dataplane.table
    return table is not None and "probes" in str(table.chains["gateway_outward"])


def test_a_gateway_that_hears_no_other_site_answers_none_of_its_own(five: Five) -> None:
    """Its hosts go by another one then. What they send meanwhile is passed on all the same."""
    gw, gw2, far = (five.boxes[name] for name in ("gw", "gw2", "far"))
    held = gw.elements("gateway_far")
    five.doors["gw"].silent = {far.host.public} if far.host.public else set()
    five.run(4.5)
    assert not sends_back(gw)
    assert gw.elements("gateway_far") == held
    assert sends_back(gw2)
    assert any(CUT_OFF in note for note in gw.status()["notes"])
    assert not any(CUT_OFF in note for note in gw2.status()["notes"])
    five.silence()
    five.run(4.5)
    assert sends_back(gw)
    assert not any(CUT_OFF in note for note in gw.status()["notes"])


def test_one_that_starts_is_not_cut_off_by_what_it_does_not_know_yet(five: Five) -> None:
    gw, far = five.boxes["gw"], five.boxes["far"]
    gw.stop()
    five.doors["gw"].silent = {far.host.public} if far.host.public else set()
    gw.start()
    five.run(1)
    assert sends_back(gw)


def test_an_address_is_gone_at_once_where_no_other_site_answers_either(five: Five) -> None:
    """Half a minute before the agent would have looked."""
    gw, far = five.boxes["gw"], five.boxes["far"]
    host = gw.host
    five.run(16)
    gw.host = replace(host, public=None)
    five.doors["gw"].silent = {far.host.public} if far.host.public else set()
    five.run(5)
    assert gw.status()["public"] is None
    assert five.near() == str(five.boxes["gw2"].host.private)


def test_a_gateway_whose_address_comes_back_is_one_again_soon(five: Five) -> None:
    gw, host = five.boxes["gw"], five.boxes["gw"].host
    five.run(16)
    gw.host = replace(host, public=None)
    gw.new_settings = gw.settings
    assert "error" not in gw.ask("reload")
    five.run(11)
    assert gw.status()["public"] is None
    five.run(4)
    gw.host = host
    five.run(10)
    assert gw.status()["public"] == str(host.public)


def test_no_answer_alone_takes_no_address_away(five: Five) -> None:
    """Nor does one odd answer of the metadata service while other sites answer."""
    gw, far = five.boxes["gw"], five.boxes["far"]
    five.doors["gw"].silent = {far.host.public} if far.host.public else set()
    five.run(15)
    assert gw.status()["public"] == str(gw.host.public)
    five.silence()
    five.run(5)
    host = gw.host
    gw.host = replace(host, public=None)
    gw.new_settings = gw.settings
    assert "error" not in gw.ask("reload")
    five.run(5)
    assert gw.status()["public"] == str(host.public)


def drain(five: Five, *gateways: Box) -> None:
    registry = MemoryRegistry(five.there.server)
    registry.change_setting("drained", encode(one.host.id for one in gateways))
    five.run(0.5)


def test_a_drained_gateway_is_not_sent_to_and_goes_on_passing(five: Five) -> None:
    a, far = five.boxes["a"], five.boxes["far"]
    drained, stays = five.using()
    held = drained.elements("gateway_inside"), drained.elements("gateway_far")
    drain(five, drained)
    assert five.near() == str(stays.host.private)
    assert far.elements("gateway_far")[port(a)] == str(stays.host.public)
    assert (drained.elements("gateway_inside"), drained.elements("gateway_far")) == held
    note = f"{drained.host.id} is drained by an operator: other gateways of its site are used"
    for one in (a, far, drained):
        assert note in one.status()["notes"]
    role = "this host is a drained gateway of its site: it passes on what still comes to it"
    assert role in drained.status()["notes"]
    assert not any(
        "this host is a" in note and "drained" in note for note in stays.status()["notes"]
    )
    assert not any("cannot be used" in note for note in a.status()["notes"] if "ec2" in note)
    new = replace(a.settings, linger_seconds=7)
    a.new_settings = new
    a.ask("reload")
    five.run(0.5)
    assert five.near() == str(stays.host.private)
    drain(five)
    assert five.near() == str(drained.host.private)


def test_an_agent_tells_of_drained_gateways_where_the_registry_does_not_answer(five: Five) -> None:
    a = five.boxes["a"]
    drained, stays = five.using()
    drain(five, drained)

    def away(_: Settings) -> NoReturn:
        raise RegistryUnavailable("no answer")

    found = seen(a.settings, away, lambda _, command: a.ask(command)["result"])
    assert found.drained == {drained.host.id}
    assert found.gateways[a.host.id] == stays.host.id
    # An agent of an earlier version does not say it.
    told = a.ask("members")["result"]
    older = [{k: v for k, v in one.items() if k != "drained"} for one in told]
    assert not seen(a.settings, away, lambda *_: older).drained


@pytest.mark.parametrize("who", [("far", "b"), ("gw", "gw2", "a")])
def test_one_that_is_drained_may_be_named_by_some_and_not_by_others(
    five: Five, who: tuple[str, ...]
) -> None:
    """Everybody goes by the other one, and takes what comes from it."""
    a, far = five.boxes["a"], five.boxes["far"]
    goes, stays = five.using()
    drain(five, goes)
    for name in who:
        box = five.boxes[name]
        ec2 = replace(box.settings.sites["ec2"], gateways=(stays.host.id,))
        box.new_settings = replace(box.settings, sites={**box.settings.sites, "ec2": ec2})
        assert "error" not in box.ask("reload")
    five.run(3)
    assert five.near() == str(stays.host.private)
    assert far.elements("gateway_far")[port(a)] == str(stays.host.public)
    assert str(stays.host.public) in far.elements("gateways")
    drain(five)
    still = "ec2" in (five.boxes[name].host.site for name in who)
    assert five.near() == str(stays.host.private if still else goes.host.private)


def test_a_drained_gateway_is_used_where_no_other_works(five: Five) -> None:
    a = five.boxes["a"]
    drained, stays = five.using()
    drain(five, drained)
    five.silence(stays)
    five.run(4.5)
    assert five.near() == str(drained.host.private)
    assert "gateways_gone" not in a.problems()
    name = f"{drained.host.id} is drained by an operator"
    used = f"{name}: it is used even so, as no other one of its site works"
    assert [note for note in a.status()["notes"] if note.startswith(name)] == [used]
    five.silence()
    five.run(4.5)
    assert five.near() == str(stays.host.private)
    assert used not in a.status()["notes"]
    drain(five, drained, stays)
    assert five.near() == str(drained.host.private)
    assert "gateways_gone" not in a.problems()


def test_one_that_was_drained_and_switched_off_is_not_sent_to_for_a_wrong_belief(
    five: Five,
) -> None:
    off, used = five.using()
    drain(five, off)
    five.silence(off)
    five.run(15)
    five.silence(off, used)
    five.run(15)
    assert five.near() == str(used.host.private)
    assert "gateways_gone" in five.boxes["a"].problems()


def test_a_list_of_drained_gateways_that_cannot_be_read_changes_nothing(five: Five) -> None:
    drained, stays = five.using()
    drain(five, drained)
    MemoryRegistry(five.there.server).change_setting("drained", b"2 x")
    five.run(0.5)
    assert five.near() == str(stays.host.private)
    assert "neti gateway drain" in five.boxes["a"].problems()["live_setting"]


def test_a_restart_does_not_send_to_a_gateway_that_was_dead(five: Five) -> None:
    """The registry says that it lives. It has to answer first."""
    a, far = five.boxes["a"], five.boxes["far"]
    dead, stays = five.using()
    five.silence(dead)
    five.run(4.5)
    seen = []
    for one in (a, far):
        one.stop()
        one.start()
    for _ in range(60):
        seen.append((five.near(), far.elements("gateway_far")[port(a)]))
        five.run(0.1)
    assert set(seen) == {(str(stays.host.private), str(stays.host.public))}
    five.silence()
    five.run(4.5)
    assert five.near() == str(dead.host.private)
    assert far.elements("gateway_far")[port(a)] == str(dead.host.public)


def test_a_restart_stays_with_a_lost_gateway_that_passes_on(five: Five) -> None:
    """Rather than send to one that is registered and dead."""
    a, far = five.boxes["a"], five.boxes["far"]
    dead, passes = five.using()
    five.silence(dead)
    passes.stop()
    five.there.server.expire(session_of(passes))
    five.run(15)
    for one in (a, far):
        one.stop()
        one.start()
    for _ in range(60):
        assert five.near() == str(passes.host.private)
        assert far.elements("gateway_far")[port(a)] == str(passes.host.public)
        five.run(0.1)


def test_after_a_restart_the_others_are_alive_when_they_have_answered(five: Five) -> None:
    a = five.boxes["a"]
    used, other = five.using()
    a.stop()
    a.start()
    five.run(2.5)
    assert five.near() == str(used.host.private)
    assert not [note for note in a.status()["notes"] if "ec2" in note and "cannot be used" in note]
    five.silence(used)
    five.run(4.5)
    assert five.near() == str(other.host.private)


def test_after_a_restart_a_site_is_not_said_to_be_cut_off_before_its_gateways_were_asked(
    five: Five,
) -> None:
    """The one that this host sent to has left meanwhile."""
    far = five.boxes["far"]
    used, other = five.using()
    for silent in (False, True):
        far.stop()
        if not silent:
            used.ask("leave")
            five.run(1)
        far.start()
        five.silence(*([other] if silent else []))
        said = []
        for _ in range(45):
            five.run(0.1)
            said.append("gateways_gone" in far.problems())
            assert silent or not any(other.host.id in note for note in far.status()["notes"])
        assert not any(said[:15])
        assert said[-1] == silent


def test_without_the_port_nobody_stays_dead_for_what_was_there_before(five: Five) -> None:
    a, door = five.boxes["a"], five.doors["a"]
    dead, stays = five.using()
    five.silence(dead)
    five.run(4.5)
    a.stop()
    door.refused = "UDP port 16384 cannot be used (Address already in use)"
    a.start()
    five.run(1)
    assert "gateway_probes" in a.problems()
    assert five.near() == str(dead.host.private)
    door.refused = ""
    five.run(36)
    assert five.near() == str(stays.host.private)
