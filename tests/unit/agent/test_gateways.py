"""Hosts behind gateways, by agents with kernels and devices in memory."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from tests.support.agents import Box, World, world
from tests.unit.agent.test_agent import session_of
from tests.unit.agent.test_roads import kernel, key, overlay, road, shake

from neti.dataplane.foreign import Dropping
from neti.dataplane.forwarding import Forwarding
from neti.errors import DataplaneError
from neti.model import Encrypt, Reach, Road, Site
from neti.model.wireguard_key import PublicKey
from neti.monitoring.check import judge
from neti.monitoring.situation import Limits, Situation
from neti.oneshot.plan import _read_fleet
from neti.registry.memory import MemoryRegistry
from neti.ruleset.desired import Membership
from neti.ruleset.objects import GATEWAY_SETS, OPTIONAL
from neti.ruleset.peers import Endpoint

FIRST = 16384
GATEWAYS = ("gateway_inside", "gateway_own", "gateway_direct", "gateway_public")


class FakeInterfaces:
    def __init__(self) -> None:
        self.on: dict[str, bool] = {"eth0": False}
        self.refused = ""

    def forwards(self, name: str) -> bool | None:
        return self.on.get(name)

    def forward(self, name: str, on: bool) -> None:
        if self.refused:
            raise DataplaneError(self.refused)
        self.on[name] = on


def two_sites() -> dict[str, Site]:
    return {
        name: Site(
            name=name,
            private=(IPv4Network("10.0.0.0/16"),),
            reached_by=Reach.GATEWAY,
            gateways=(f"{name}-1", f"{name}-2"),
            encrypt=Encrypt.PREFER,
        )
        for name in ("ec2", "vpc")
    }


@pytest.fixture(name="there")
def _there(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        made.sites = two_sites()
        yield made


def hidden(there: World, number: int, site: str) -> Box:
    """One without a public address."""
    box = there.box(number, site)
    box.host = replace(box.host, public=None)
    return box


def gateway(there: World, number: int, site: str) -> tuple[Box, FakeInterfaces]:
    box, interfaces = there.box(number, site), FakeInterfaces()
    box.forwarding = Forwarding(there.folder / box.host.id, interfaces)
    (there.folder / box.host.id).mkdir(exist_ok=True)
    return box, interfaces


@pytest.fixture(name="boxes")
def _boxes(there: World) -> dict[str, Box]:
    """Two gateways in ec2, one in vpc, one host behind them in each, and an open one."""
    made = {
        "gw": gateway(there, 1, "ec2")[0],
        "gw2": gateway(there, 2, "ec2")[0],
        "far": gateway(there, 1, "vpc")[0],
        "a": hidden(there, 11, "ec2"),
        "b": hidden(there, 11, "vpc"),
        "open": there.box(21, "vpc"),
    }
    for box in made.values():
        box.start()
    there.settle()
    there.pass_time(1.0)
    return made


def port(box: Box) -> str:
    return str(FIRST + int(IPv4Address(overlay(box))) - int(IPv4Address("192.168.0.0")))


def endpoint(box: Box, to: Box) -> str | None:
    device = box.tunnel.wireguard.device()
    assert device is not None
    found = device.peers[key(to)].peer.endpoint
    return str(found) if found is not None else None


def endpoints(box: Box) -> dict[PublicKey, Endpoint | None]:
    device = box.tunnel.wireguard.device()
    assert device is not None
    return {one: state.peer.endpoint for one, state in device.peers.items()}


def chains(box: Box) -> set[str]:
    return {name for name in box.dataplane.read().chain_names if name.startswith("gateway_")}


def test_a_host_behind_holds_one_gateway_and_a_gateway_holds_the_fleet(
    boxes: dict[str, Box],
) -> None:
    a, b, gw, gw2, far = (boxes[name] for name in ("a", "b", "gw", "gw2", "far"))
    assert a.elements("gateways") == {"10.0.0.1": "", "10.0.0.2": ""}
    assert a.elements("gateway_near").keys() == {"17"}
    assert a.elements("gateway_near")["17"] in ("10.0.0.1", "10.0.0.2")
    assert not any(a.elements(where) for where in GATEWAYS)
    for one in (gw, gw2):
        assert one.elements("gateways") == {str(far.host.public): ""}
        assert one.elements("gateway_inside") == {port(a): "10.0.0.11"}
        assert one.elements("gateway_own") == {"10.0.0.11": port(a)}
        assert one.elements("gateway_far") == {port(b): str(far.host.public)}
        outside = {port(far): "203.0.113.1", port(boxes["open"]): "203.0.113.21"}
        assert one.elements("gateway_direct") == outside
        assert one.elements("gateway_public") == {to: by for by, to in outside.items()}
    assert chains(a) == chains(boxes["open"]) == {"gateway_to", "gateway_in", "gateway_probed"}
    assert "gateway_relayed" in chains(gw)


def test_each_host_says_where_it_sends_first_and_by_whom(boxes: dict[str, Box]) -> None:
    def told(box: Box) -> dict[str, tuple[str | None, list[str]]]:
        members = box.ask("members")["result"]
        return {one["id"]: (one["reached_at"], one["gateways"]) for one in members}

    a, gw2 = told(boxes["a"]), told(boxes["gw2"])
    (near,) = boxes["a"].elements("gateway_near").values()
    mine = {"10.0.0.1": "ec2-1", "10.0.0.2": "ec2-2"}[near]
    assert a["vpc-11"] == (near, [mine, "vpc-1"])
    assert a["vpc-21"] == (near, [mine])
    assert a["ec2-1"] == ("10.0.0.1", [])
    assert gw2["vpc-11"] == (str(boxes["far"].host.public), ["vpc-1"])
    assert gw2["vpc-21"] == (str(boxes["open"].host.public), [])
    assert gw2["ec2-11"] == ("10.0.0.11", [])


def test_peers_are_at_one_address_each_by_its_port(boxes: dict[str, Box]) -> None:
    a, b, far, opened = (boxes[name] for name in ("a", "b", "far", "open"))
    for to in (b, far, opened):
        assert endpoint(a, to) == f"10.0.0.1:{port(to)}"
    assert endpoint(opened, a) == f"198.51.100.1:{port(a)}"
    assert endpoint(opened, boxes["gw"]) == "198.51.100.1:51820"


def test_nothing_goes_in_the_clear_not_even_before_the_first_handshake(
    there: World, boxes: dict[str, Box]
) -> None:
    a, b = boxes["a"], boxes["b"]
    assert not a.running.core.members.requires
    assert road(a, b) is Road.REQUIRED
    assert kernel(a, b) == {"tunneled", "tunnel_peers"}
    shake(there, a, b)
    assert kernel(a, b) == {"tunneled", "tunnel_peers"}
    b.tunnel.road.vanish()
    b.tunnel.wireguard.failing = DataplaneError("no more devices")
    b.running.kernel.resync("test")
    there.pass_time(1.0)
    assert kernel(b, a) == set()


def test_who_has_no_key_is_cut_off_and_named_by_status_and_check_alike(
    there: World, boxes: dict[str, Box]
) -> None:
    """Nobody requires encryption, but gateways pass on nothing else."""
    sites = {name: replace(site, encrypt=Encrypt.OFF) for name, site in there.sites.items()}
    plain = there.box(31, "vpc", sites=sites)
    plain.start()
    there.pass_time(1.0)
    a = boxes["a"]
    assert kernel(a, plain) == set()
    said = a.problems()["encryption_keyless"]
    assert "1 member without a WireGuard key cannot be reached (vpc-31)" in said
    assert said in [one.text for one in judge(Situation(status=a.told()), Limits()).findings]
    a.ask("down")
    assert "encryption_keyless" not in a.problems()


def test_who_has_no_key_and_is_reached_in_the_clear_is_not_said_to_be_cut_off(there: World) -> None:
    """A site with a link prefers encryption, and another is behind gateways."""
    there.sites["lab"] = replace(there.sites["vpc"], name="lab", reached_by=Reach.PRIVATE)
    off = {name: replace(site, encrypt=Encrypt.OFF) for name, site in there.sites.items()}
    a = hidden(there, 11, "ec2")
    boxes = (
        gateway(there, 1, "ec2")[0],
        a,
        *(there.box(30 + number, site, sites=off) for number, site in enumerate(("vpc", "lab"))),
    )
    for box in boxes:
        box.start()
    there.pass_time(1.0)
    shown = a.told().encryption
    assert shown is not None
    assert (shown.keyless, shown.keyless_cut_off) == (2, 1)
    said = a.problems()["encryption_keyless"]
    assert "1 member without a WireGuard key cannot be reached (vpc-30)" in said
    assert said in [one.text for one in judge(Situation(status=a.told()), Limits()).findings]


def test_a_gateway_that_is_lost_is_no_ones_choice_and_no_peer_changes(
    there: World, boxes: dict[str, Box]
) -> None:
    a, b, gw, gw2, far = (boxes[name] for name in ("a", "b", "gw", "gw2", "far"))
    near = a.elements("gateway_near")["17"]
    dies, stays = (gw, gw2) if near == "10.0.0.1" else (gw2, gw)
    before = [endpoints(one) for one in (a, b, far)]
    dies.stop()
    there.server.expire(session_of(dies))
    there.pass_time(1.0)
    assert a.elements("gateway_near") == {"17": str(stays.host.private)}
    assert far.elements("gateway_far")[port(a)] == str(stays.host.public)
    assert [endpoints(one) for one in (a, b, far)] == before
    note = f"{dies.host.id} is named as a gateway and cannot be used: it is lost"
    assert note in a.status()["notes"]
    assert "gateways_gone" not in a.problems()


def test_via_stays_when_the_first_gateway_goes_for_good(
    there: World, boxes: dict[str, Box]
) -> None:
    a, b, gw = boxes["a"], boxes["b"], boxes["gw"]
    gw.ask("leave")
    there.pass_time(1.0)
    assert "ec2-1" not in a.running.core.members.fleet.members
    assert a.elements("gateways") == {"10.0.0.2": ""}
    assert a.elements("gateway_near") == {"17": "10.0.0.2"}
    assert endpoint(a, b) == f"10.0.0.1:{port(b)}"
    before = a.dataplane.read().structure
    a.running.kernel.resync("test")
    assert a.dataplane.read().structure == before


def test_two_gateways_that_say_one_public_address_are_named_and_used(there: World) -> None:
    b, (one, _), (other, _) = hidden(there, 11, "vpc"), *(gateway(there, n, "vpc") for n in (1, 2))
    gw, _ = gateway(there, 1, "ec2")
    other.host = replace(other.host, public=one.host.public)
    for box in (gw, b, one, other):
        box.start()
    there.settle()
    there.pass_time(1.0)
    assert gw.elements("gateway_far") == {port(b): str(one.host.public)}
    said = "of the gateways vpc-1, vpc-2 some say the same public address"
    assert any(note.startswith(said) for note in gw.ask("status")["result"]["notes"])
    one.ask("leave")
    there.pass_time(1.0)
    assert not any(note.startswith(said) for note in gw.ask("status")["result"]["notes"])


def test_who_claims_an_address_later_does_not_get_its_port_by_a_restart_or_a_reload(
    there: World, boxes: dict[str, Box]
) -> None:
    """Though it is first by id."""
    gw, held = boxes["gw"], {"10.0.0.11": port(boxes["a"])}
    liar = hidden(there, 10, "ec2")
    liar.host = replace(liar.host, private=boxes["a"].host.private)
    liar.start()
    there.settle()
    there.pass_time(10.0)
    assert gw.elements("gateway_inside")[port(liar)] == "10.0.0.11"
    assert gw.elements("gateway_own") == held
    gw.stop()
    gw.start()
    there.settle()
    there.pass_time(10.0)
    assert gw.elements("gateway_own") == held
    gw.new_settings = replace(gw.settings, open_ports=())
    assert "error" not in gw.ask("reload")
    there.pass_time(10.0)
    assert gw.elements("gateway_own") == held


def test_after_a_restart_peers_are_where_the_new_rules_have_them(
    there: World, boxes: dict[str, Box]
) -> None:
    """A session would otherwise keep the former address for three minutes."""
    a, b, gw = boxes["a"], boxes["b"], boxes["gw"]
    shake(there, a, b)
    gw.ask("leave")
    there.pass_time(1.0)
    a.stop()
    a.start()
    there.pass_time(1.0)
    assert endpoint(a, b) == f"10.0.0.2:{port(b)}"
    held = a.dataplane.read().structure
    assert held is not None
    assert "ip daddr 10.0.0.2 udp sport 51820" in held


def test_a_start_that_knows_nobody_leaves_the_way_to_gateways_as_it_is(
    there: World, boxes: dict[str, Box]
) -> None:
    """Without a registry and without members on disk. Of an open host that shares its address with
    others, only they tell that it is behind."""
    shares = there.box(31, "ec2")
    shares.host = replace(shares.host, public=boxes["open"].host.public)
    shares.start()
    there.pass_time(1.0)
    for box in (boxes["a"], boxes["open"], boxes["gw"], shares):
        held = box.dataplane.read()
        box.stop()
        (box.settings.table_files_path / "members.jsonl").unlink()
        there.server.stop()
        box.start()
        box.running.kernel.resync("test")
        assert not box.running.core.members.known
        now = box.dataplane.read()
        assert now.structure == held.structure
        assert {one: now.elements.get(one) for one in GATEWAY_SETS} == {
            one: held.elements.get(one) for one in GATEWAY_SETS
        }


def test_without_a_gateway_it_is_said_on_both_sides(there: World, boxes: dict[str, Box]) -> None:
    a, b, far = boxes["a"], boxes["b"], boxes["far"]
    far.ask("leave")
    there.pass_time(1.0)
    for one in (a, b, boxes["gw"]):
        said = one.problems()["gateways_gone"]
        assert "site vpc has no gateway that is known to work" in said
        assert "vpc-1 is not a member" in said
    assert a.status()["members"]["unreachable"] == 1
    assert a.told().gateway in ("ec2-1", "ec2-2")
    assert "critical" in {one.severity.value for one in a.told().problems}
    back, _ = gateway(there, 1, "vpc")
    back.start()
    there.pass_time(1.0)
    assert "gateways_gone" not in a.problems()
    assert "gateways_gone" not in b.problems()


def test_what_another_program_takes_out_comes_back(there: World, boxes: dict[str, Box]) -> None:
    gw = boxes["gw"]
    held = {where: gw.elements(where) for where in GATEWAY_SETS}
    assert gw.dataplane.table is not None
    for where in GATEWAY_SETS:
        gw.dataplane.table.elements.get(where, {}).clear()
    gw.running.kernel.resync("test")
    assert {where: gw.elements(where) for where in GATEWAY_SETS} == held


def test_only_a_gateway_forwards_and_down_takes_it_back(there: World) -> None:
    box, interfaces = gateway(there, 1, "ec2")
    other = there.box(3, "ec2")
    others = FakeInterfaces()
    other.forwarding = Forwarding(there.folder, others)
    for one in (box, other):
        one.start()
    there.settle()
    assert interfaces.on["eth0"]
    assert not others.on["eth0"]
    interfaces.on["eth0"] = False
    box.running.kernel.look_at_network()
    assert interfaces.on["eth0"]
    assert box.status()["drift"]["repairs"] == 1
    box.ask("down")
    assert not interfaces.on["eth0"]
    box.running.kernel.audit()
    assert not interfaces.on["eth0"]
    box.ask("up")
    assert interfaces.on["eth0"]
    interfaces.refused = "Operation not permitted"
    interfaces.on["eth0"] = False
    box.running.kernel.look_at_network()
    assert "Operation not permitted" in box.problems()["forwarding"]
    interfaces.refused = ""
    box.running.kernel.look_at_network()
    assert "forwarding" not in box.problems()


def test_a_gateway_with_a_full_disk_forwards_and_says_so(
    there: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    box, interfaces = gateway(there, 1, "ec2")

    def full(*_: object) -> None:
        raise DataplaneError("forwarding.json: cannot be written: No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("neti.dataplane.boot_note.BootNote.write", full)
        box.start()
        there.settle()
        box.running.kernel.look_at_network()
        assert interfaces.on["eth0"]
        assert "No space left" in box.problems()["forwarding_not_noted"]
        assert "forwarding" not in box.problems()
        box.ask("down")
        assert not interfaces.on["eth0"]
        assert "forwarding_not_noted" not in box.problems()
        box.ask("up")
        assert "forwarding_not_noted" in box.problems()
    box.running.kernel.look_at_network()
    assert interfaces.on["eth0"]
    assert "forwarding_not_noted" not in box.problems()


def test_a_gateway_no_more_with_a_torn_note_says_that_it_may_forward_still(there: World) -> None:
    box, interfaces = gateway(there, 1, "ec2")
    box.start()
    there.settle()
    note = there.folder / box.host.id / "forwarding.json"
    held = note.read_bytes()
    note.write_bytes(held[:-4])
    sites = {name: replace(site, gateways=("other",)) for name, site in there.sites.items()}
    box.new_settings = replace(box.settings, sites=sites)
    box.ask("reload")
    there.pass_time(20.0)
    assert interfaces.on["eth0"]
    assert "forwarding.json" in box.problems()["forwarding_not_noted"]
    assert "forwarding" not in box.problems()
    note.write_bytes(held)
    box.running.kernel.look_at_network()
    assert not interfaces.on["eth0"]
    assert "forwarding_not_noted" not in box.problems()


def test_a_gateway_says_who_drops_what_it_passes_on(there: World) -> None:
    """Until the first packet gets through, or it is a gateway no more."""
    box, _ = gateway(there, 1, "ec2")
    box.machine.dropping = (
        Dropping("table ip filter", "FORWARD", "forward", "all", 4, "a", relaying="iptables -I …"),
    )
    box.start()
    there.pass_time(20.0)
    assert "gateway_kept_out" not in box.problems()
    box.dataplane.counted = {"relayed": 9, "relayed_out": 3}
    there.pass_time(20.0)
    assert "gateway_kept_out" not in box.problems()
    box.dataplane.counted = {"relayed": 20, "relayed_out": 3}
    there.pass_time(20.0)
    said = box.problems()["gateway_kept_out"]
    assert "of 11 packets none got through" in said
    assert said.endswith("table ip filter (chain FORWARD): iptables -I …")
    box.dataplane.counted = {"relayed": 40, "relayed_out": 4}
    there.pass_time(20.0)
    assert "gateway_kept_out" not in box.problems()
    box.dataplane.counted = {"relayed": 60, "relayed_out": 4}
    there.pass_time(20.0)
    assert "gateway_kept_out" in box.problems()
    sites = {name: replace(site, gateways=("other",)) for name, site in there.sites.items()}
    box.new_settings = replace(box.settings, sites=sites)
    box.ask("reload")
    there.pass_time(20.0)
    assert "gateway_kept_out" not in box.problems()


def test_a_reload_turns_gateways_on_and_off(there: World) -> None:
    gateways = dict(there.sites)
    there.sites = {
        name: replace(site, reached_by=Reach.PUBLIC, gateways=()) for name, site in gateways.items()
    }
    box, interfaces = gateway(there, 1, "ec2")
    box.start()
    far = there.started(2, "vpc")
    shake(there, box, far)
    assert road(box, far) is Road.PREFERRED
    assert box.dataplane.read().missing == GATEWAY_SETS
    assert not chains(box)
    before = box.settings
    for settings, on in ((replace(before, sites=gateways), True), (before, False)):
        box.new_settings = settings
        assert "error" not in box.ask("reload")
        there.pass_time(1.0)
        assert bool(chains(box)) is on
        assert box.dataplane.read().missing == (frozenset() if on else GATEWAY_SETS)
        assert interfaces.on["eth0"] is on
    assert not box.dataplane.read().missing & (OPTIONAL - GATEWAY_SETS)


def test_a_link_needs_no_gateway_whichever_side_says_it(there: World) -> None:
    there.sites["vpc"] = replace(there.sites["vpc"], reached_by=Reach.PRIVATE, gateways=())
    a, b = hidden(there, 11, "ec2"), hidden(there, 11, "vpc")
    b.host = replace(b.host, private=IPv4Address("10.0.0.12"))
    for one in (a, b):
        one.start()
    there.pass_time(1.0)
    assert endpoint(a, b) == "10.0.0.12:51820"
    assert endpoint(b, a) == "10.0.0.11:51820"
    assert b.elements("overlay")[overlay(a)] == "10.0.0.11"
    assert "gateways_gone" not in a.problems()


def test_who_shares_a_public_address_goes_behind_the_gateway(
    there: World, boxes: dict[str, Box]
) -> None:
    """It and everybody who has it as a peer, at once."""
    gw, opened = boxes["gw"], boxes["open"]
    assert endpoint(gw, opened) == "203.0.113.21:51820"
    rules = opened.dataplane.read().structure or ""
    assert "@gateway_far" in rules
    other = there.box(22, "vpc")
    other.host = replace(other.host, public=opened.host.public)
    other.start()
    there.pass_time(1.0)
    assert endpoint(gw, opened) == f"203.0.113.1:{port(opened)}"
    assert endpoint(opened, gw) == f"10.0.0.1:{port(gw)}"
    rules = opened.dataplane.read().structure or ""
    assert "@gateway_near" in rules
    assert "@gateway_far" not in rules.partition("chain ")[2]
    assert boxes["far"].elements("gateway_inside").keys() >= {port(opened), port(other)}


def test_down_that_cannot_end_forwarding_says_so(there: World) -> None:
    box, interfaces = gateway(there, 1, "ec2")
    box.start()
    there.settle()
    interfaces.refused = "Operation not permitted"
    request = box.ask("down")
    assert "Operation not permitted" in str(request)
    assert box.dataplane.read().structure is None
    interfaces.refused = ""
    box.ask("down")
    assert not interfaces.on["eth0"]


def test_reckoning_takes_a_twentieth_of_the_time_at_most(
    there: World, boxes: dict[str, Box], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a large fleet it takes long, and somebody always comes or goes. Not so where a gateway
    is gone."""
    gw, far = boxes["gw"], boxes["far"]
    real, cost = Membership.pass_on, 0.5

    def slow(members: Membership) -> None:
        version = members.gateways.version
        real(members)
        if members.gateways.version > version and members is gw.running.core.members:
            there.clock.advance(cost)

    monkeypatch.setattr(Membership, "pass_on", slow)
    first, second = hidden(there, 31, "ec2"), hidden(there, 32, "ec2")
    first.start()
    there.pass_time(0.3)
    assert port(first) in gw.elements("gateway_inside")
    second.start()
    there.pass_time(1.0)
    assert port(second) not in gw.elements("gateway_inside")
    assert port(second) in boxes["gw2"].elements("gateway_inside")
    far.stop()
    there.server.expire(session_of(far))
    there.pass_time(0.3)
    assert "vpc-1 is lost" in gw.problems()["gateways_gone"]
    third = hidden(there, 33, "ec2")
    third.start()
    there.pass_time(1.0)
    assert port(third) not in gw.elements("gateway_inside")
    there.pass_time(19 * cost)
    assert port(third) in gw.elements("gateway_inside")


def test_nothing_forwards_before_the_rules_are_in_the_kernel(there: World) -> None:
    """Whatever looks at the network meanwhile."""
    box, interfaces = gateway(there, 1, "ec2")
    box.dataplane.failing = "Operation not permitted"
    box.start()
    there.settle()
    box.running.kernel.look_at_network()
    there.pass_time(61)
    assert not interfaces.on["eth0"]
    box.dataplane.failing = None
    there.pass_time(61)
    assert interfaces.on["eth0"]


def test_a_gateway_whose_table_is_gone_and_refused_does_not_forward(there: World) -> None:
    """Nothing would say what it may pass on."""
    box, interfaces = gateway(there, 1, "ec2")
    box.start()
    there.settle()
    box.dataplane.failing = "Device or resource busy"
    box.running.kernel.resync("a test")  # refused, and the rules that are there stand
    assert interfaces.on["eth0"]
    box.dataplane.remove()
    box.running.kernel.look_for_drift()
    assert "Device or resource busy" in box.problems()["kernel"]
    assert not interfaces.on["eth0"]
    box.running.kernel.look_at_network()
    assert not interfaces.on["eth0"]
    box.dataplane.failing = None
    there.pass_time(61)
    assert interfaces.on["eth0"]
    assert "kernel" not in box.problems()


def test_a_reload_that_does_not_fit_what_needs_a_restart_changes_nothing(there: World) -> None:
    box, _ = gateway(there, 1, "ec2")
    sites = {
        name: replace(one, gateways=(), reached_by=Reach.PUBLIC)
        for name, one in there.sites.items()
    }
    box.settings = replace(box.settings, sites=sites, overlay_subnet=IPv4Network("192.168.0.0/16"))
    box.start()
    there.settle()
    before = box.running.core.settings
    narrow = IPv4Network("192.168.0.0/18")
    box.new_settings = replace(box.settings, sites=there.sites, overlay_subnet=narrow)
    answer = box.ask("reload")
    assert "restart the agent" in answer["error"]
    assert box.running.core.settings == before
    assert box.ask("status")["result"]["id"] == box.host.id


def test_a_plan_without_an_agents_members_knows_the_gateways(there: World) -> None:
    """It is what 'neti plan' reads where no agent has ever run."""
    there.started(1, "vpc")
    box = there.started(1)
    there.settle()
    core = box.running.core
    plain = Membership.empty(core.settings, box.host, frozenset())
    plain.hold_lease(core.members.overlay)
    with closing(MemoryRegistry(there.server)) as registry:
        _read_fleet(plain, registry, there.clock.wall())
    plain.take_changes()
    plain.pass_on()
    assert plain.gateways.sent_to == core.members.gateways.sent_to
    assert plain.gateways.sent_to[1] == {"vpc-1"}
