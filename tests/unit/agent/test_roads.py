"""The encrypted road between two sites, by agents with devices in memory."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from tests.support.agents import Box, World, world

from neti.dataplane.wireguard.keys import new_key, public_half
from neti.errors import DataplaneError, DeviceSilent
from neti.model import Encrypt, Road
from neti.model.wireguard_key import PublicKey
from neti.registry import Fresh, Session
from neti.registry.memory import MemoryRegistry
from neti.ruleset import turns
from neti.ruleset.peers import RemovePeer
from neti.state.folder import StateFolder


@pytest.fixture(name="there")
def _there(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def asked(there: World, encrypt: Encrypt) -> None:
    there.sites = {
        name: replace(site, encrypt=encrypt if name == "vpc" else Encrypt.OFF)
        for name, site in there.sites.items()
    }


def pair(there: World, encrypt: Encrypt = Encrypt.PREFER) -> tuple[Box, Box]:
    asked(there, encrypt)
    boxes = there.started(1), there.started(2, "vpc")
    there.pass_time(1.0)
    return boxes


def overlay(box: Box) -> str:
    return str(box.running.core.members.overlay)


def key(box: Box) -> PublicKey:
    found = box.running.core.own_key.public()
    assert found is not None
    return found


def peers(box: Box) -> dict[PublicKey, tuple[str, ...]]:
    device = box.tunnel.wireguard.device()
    held = device.peers if device is not None else {}
    return {k: tuple(str(n.network_address) for n in s.peer.allowed) for k, s in held.items()}


def shake(there: World, *boxes: Box) -> None:
    """Whoever has the other as a peer shakes hands; then everybody has looked."""
    for box in boxes:
        for one in peers(box):
            box.tunnel.wireguard.shake_hands(one, there.clock.wall())
    there.pass_time(1.0)


def road(box: Box, to: Box) -> Road | None:
    return box.running.core.members.roads.get(to.host.id)


def kernel(box: Box, to: Box) -> set[str]:
    return {w for w in ("overlay", "tunneled", "tunnel_peers") if overlay(to) in box.elements(w)}


def test_two_hosts_of_sites_that_encrypt_have_each_other_as_peers(there: World) -> None:
    first, second = pair(there)
    assert peers(first) == {key(second): (overlay(second),)}
    assert peers(second) == {key(first): (overlay(first),)}
    assert road(first, second) is Road.TRYING
    assert kernel(first, second) == {"overlay", "tunnel_peers"}


def test_a_handshake_sends_new_connections_through_the_tunnel(there: World) -> None:
    first, second = pair(there)
    shake(there, first, second)
    assert road(first, second) is Road.PREFERRED
    assert kernel(first, second) == {"overlay", "tunneled", "tunnel_peers"}
    device = first.tunnel.wireguard.device()
    assert device is not None
    assert device.peers[key(second)].peer.keepalive == 0


def test_a_new_members_handshake_is_seen_soon(there: World) -> None:
    """Until then it is reached in the clear, also where somebody else is waited for in vain."""
    first, silent = pair(there)
    there.pass_time(100)
    third = there.started(3, "vpc")
    first.tunnel.wireguard.shake_hands(key(third), there.clock.wall())
    there.pass_time(0.1)
    assert road(first, third) is Road.PREFERRED
    assert road(first, silent) is Road.TRYING


def test_of_many_that_do_not_answer_only_some_are_tried_at_a_time(
    there: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """wireguard-go keeps 64 KiB for each. Whoever has waited is tried all the same, and who has not
    been tried yet is not called silent."""
    monkeypatch.setattr(turns, "MOST_TRIED", 2)
    first, second = pair(there, Encrypt.PREFER)
    others = [second, *(there.started(number, "vpc") for number in (3, 4, 5))]
    there.pass_time(1.0)

    def tried() -> set[str]:
        device = first.tunnel.wireguard.device()
        assert device is not None
        return {b.host.id for b in others if device.peers[key(b)].peer.keepalive}

    seen = tried()
    assert len(seen) == 2
    for _ in range(6):
        there.pass_time(20)
        assert len(tried()) == 2
        seen |= tried()
    assert seen == {box.host.id for box in others}
    waiting = next(box for box in others if box.host.id not in tried())
    first.tunnel.wireguard.shake_hands(key(waiting), there.clock.wall())
    there.pass_time(20)
    assert road(first, waiting) is Road.PREFERRED


@pytest.mark.parametrize("how", ["removed", "another", "emptied"])
def test_a_key_that_somebody_takes_from_the_disk_is_written_again_and_named(
    there: World, how: str
) -> None:
    """The next start would otherwise make another, and every peer would have to learn it."""
    first, _ = pair(there)
    folder, before = first.settings.table_files_path, key(first)
    if how == "removed":
        (folder / "wireguard.key").unlink()
    elif how == "another":
        (folder / "wireguard.key").write_text(new_key().text())
    else:
        for path in folder.iterdir():
            path.unlink()
    there.pass_time(40)
    if how != "emptied":
        assert "wireguard.key in " in first.problems()["state_emptied"]
    written = StateFolder(folder)
    written.load("this machine")
    held = written.private_key()
    assert held is not None
    assert public_half(held) == key(first) == before


def test_members_of_the_own_site_and_of_sites_that_do_not_encrypt_get_no_peer(
    there: World,
) -> None:
    first, second = pair(there)
    third = there.started(3)
    assert key(third) not in peers(first)
    assert set(peers(second)) == {key(first), key(third)}


def test_who_sends_and_hears_nothing_for_long_is_tried_again(there: World) -> None:
    first, second = pair(there)
    shake(there, first, second)
    there.pass_time(600)
    assert road(first, second) is Road.PREFERRED  # nothing was sent
    held = first.tunnel.wireguard._peers[key(second)]
    first.tunnel.wireguard._peers[key(second)] = replace(held, sent=held.sent + 148)
    there.pass_time(60)
    assert road(first, second) is Road.PREFERRED  # not three attempts yet
    there.pass_time(15)
    there.pass_time(15)
    assert road(first, second) is Road.TRYING
    assert kernel(first, second) == {"overlay", "tunnel_peers"}
    shake(there, first)
    there.pass_time(60)
    assert road(first, second) is Road.PREFERRED


def carry(box: Box, to: PublicKey, seconds: int, there: World, **count: int) -> None:
    """Each second so many bytes."""
    for _ in range(seconds):
        box.tunnel.wireguard.carry(to, **count)
        there.pass_time(1.0)


def test_who_is_sent_something_and_says_nothing_is_reached_in_the_clear_soon(there: World) -> None:
    """Not only when the session is over. Whoever is heard again is preferred again."""
    first, second = pair(there)
    shake(there, first, second)
    carry(first, key(second), 60, there, sent=96, received=32)
    carry(first, key(second), 18, there, sent=96)
    assert road(first, second) is Road.PREFERRED
    carry(first, key(second), 13, there, sent=96)
    assert road(first, second) is Road.TRYING
    assert kernel(first, second) == {"overlay", "tunnel_peers"}
    carry(first, key(second), 60, there, sent=96)
    assert road(first, second) is Road.TRYING
    shake(there, first)
    there.pass_time(60)
    assert road(first, second) is Road.PREFERRED


def test_attempts_of_who_does_not_hear_this_host_are_no_answer(there: World) -> None:
    """What this host sends is lost; what the other end sends arrives. What is in a session counts,
    and so does more than can be told from it."""
    first, second = pair(there)
    shake(there, first, second)
    to = key(second)
    for _ in range(8):
        carry(first, to, 4, there, sent=96)
        carry(first, to, 1, there, sent=96, received=148)
    assert road(first, second) is Road.TRYING
    carry(first, to, 10, there, sent=96, received=32)
    assert road(first, second) is Road.PREFERRED
    for _ in range(8):
        carry(first, to, 4, there, sent=96)
        carry(first, to, 1, there, sent=96, received=148 + 32)
    assert road(first, second) is Road.PREFERRED


def test_a_member_that_comes_anew_between_two_looks_keeps_its_road(there: World) -> None:
    """What was sent just before the last look has been answered since, as the next one will see."""
    first, second = pair(there)
    shake(there, first, second)
    timers, to = first.running.core.timers, key(second)
    there.pass_time(10.0)
    first.tunnel.wireguard.carry(to, sent=300)
    first.running.kernel.look_at_roads()
    timers.due["roads"] = there.clock.monotonic() + 60.0  # as where a look takes 0.6 s
    first.tunnel.wireguard.carry(to, received=32)
    there.pass_time(25.0)
    second.stop()
    second.host = replace(second.host, public=IPv4Address("203.0.113.77"))
    second.start()
    there.settle()
    member = first.running.core.members.fleet.members[second.host.id]
    assert member.public == second.host.public
    assert road(first, second) is Road.PREFERRED
    assert timers.due["roads"] > there.clock.monotonic() + 30.0  # nobody has looked
    there.pass_time(60.0)
    assert road(first, second) is Road.PREFERRED


@pytest.mark.parametrize("seconds", [90, 400], ids=["in its session", "after it"])
def test_who_is_lost_keeps_its_road_and_has_time_when_it_is_back(
    there: World, seconds: int
) -> None:
    """Otherwise what dials a host that was booted would go in the clear for as long as it lasts."""
    first, second = pair(there)
    shake(there, first, second)
    session = StateFolder(second.settings.table_files_path).load("this machine").session
    to = key(second)
    assert session is not None
    second.stop()
    there.server.expire(session)
    carry(first, to, seconds, there, sent=96)
    assert second.host.id in first.running.core.members.fleet.lost
    assert road(first, second) is Road.PREFERRED
    second.start()
    carry(first, to, 10, there, sent=96)
    assert second.host.id not in first.running.core.members.fleet.lost
    assert road(first, second) is Road.PREFERRED
    carry(first, to, 25, there, sent=96)
    assert road(first, second) is Road.TRYING


def test_who_leaves_is_in_the_table_no_longer_when_its_peer_goes(there: World) -> None:
    first, second = pair(there)
    shake(there, first, second)
    seen = []
    real = first.tunnel.apply

    def applied(changes: object) -> None:
        seen.append(kernel(first, second))
        real(changes)  # type: ignore[arg-type]  # as it came

    first.tunnel.apply = applied  # type: ignore[method-assign]
    second.ask("leave")
    there.pass_time(1.0)
    assert peers(first) == {}
    assert seen == [set()]


def test_who_comes_has_its_peer_before_it_is_in_the_table(there: World) -> None:
    asked(there, Encrypt.PREFER)
    first = there.started(1)
    there.pass_time(60)
    seen = []
    real = first.tunnel.apply

    def applied(changes: object) -> None:
        seen.append(first.elements("tunnel_peers"))
        real(changes)  # type: ignore[arg-type]  # as it came

    first.tunnel.apply = applied  # type: ignore[method-assign]
    second = there.started(2, "vpc")
    assert seen[0] == {}
    assert first.elements("tunnel_peers") == {overlay(second): ""}


def test_a_device_that_is_deleted_is_made_again_with_its_peers(there: World) -> None:
    first, second = pair(there)
    shake(there, first, second)
    first.tunnel.road.vanish()
    first.running.kernel.look_at_network()
    there.settle()
    assert peers(first) == {key(second): (overlay(second),)}
    shake(there, first, second)
    assert road(first, second) is Road.PREFERRED


def test_a_repair_of_the_table_does_not_wait_for_a_device_that_hangs(
    there: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is believed is written at once. That the device hangs is found afterwards, and then
    nobody is led to it."""
    first, second = pair(there)
    shake(there, first, second)
    known = dict(first.elements("tunnel_peers"))
    found: list[dict[str, str]] = []

    def hangs() -> None:
        found.append(dict(first.elements("tunnel_peers")))
        raise DeviceSilent("wireguard-go does not answer: restart it")

    monkeypatch.setattr(first.tunnel.wireguard, "device", hangs)
    assert first.dataplane.table is not None
    first.dataplane.table.elements["tunnel_peers"].clear()
    assert first.elements("tunnel_peers") == {}
    first.running.kernel.look_for_drift()
    assert first.elements("tunnel_peers") == known
    assert found == []
    there.settle()
    there.pass_time(0.5)
    assert found == [known]
    assert first.elements("tunnel_peers") == {}
    assert "encryption_device" in first.problems()


def test_without_a_device_members_are_reached_in_the_clear_until_it_is_back(there: World) -> None:
    asked(there, Encrypt.PREFER)
    first = there.box(1)
    second = there.started(2, "vpc")
    first.tunnel.road.module = False
    first.start()
    there.settle()
    assert kernel(first, second) == {"overlay"}
    assert "encryption_missing" in first.problems()
    first.tunnel.road.start()
    there.pass_time(30)
    assert road(first, second) is Road.TRYING
    assert "encryption_missing" not in first.problems()
    shake(there, first)
    first.tunnel.road.vanish()
    first.running.kernel.look_at_network()
    there.pass_time(1.0)
    assert kernel(first, second) == {"overlay"}


def test_a_device_that_refuses_leaves_nobody_waiting_at_it(there: World) -> None:
    asked(there, Encrypt.PREFER)
    first = there.started(1)
    first.tunnel.wireguard.failing = DataplaneError("no more peers")
    second = there.started(2, "vpc")
    there.pass_time(1.0)
    assert kernel(first, second) == {"overlay"}
    assert "encryption_device" in first.problems()
    first.tunnel.wireguard.failing = None
    there.pass_time(30)
    assert road(first, second) is Road.TRYING


def test_a_restart_keeps_the_road(there: World) -> None:
    first, second = pair(there)
    shake(there, first, second)
    before = first.tunnel
    first.stop()
    assert kernel(first, second) == {"overlay", "tunneled", "tunnel_peers"}
    first.start()
    assert first.tunnel is before
    assert road(first, second) is Road.PREFERRED
    there.settle()
    assert kernel(first, second) == {"overlay", "tunneled", "tunnel_peers"}
    assert list(peers(first)) == [key(second)]


def test_a_reload_turns_it_on_and_off(there: World) -> None:
    first, second = there.started(1), there.started(2, "vpc")
    without = {box.host.id: box.settings for box in (first, second)}
    asked(there, Encrypt.PREFER)
    for box in (first, second):
        box.new_settings = replace(box.settings, sites=there.sites)
        box.ask("reload")
    there.pass_time(2.0)
    shake(there, first, second)
    assert road(first, second) is road(second, first) is Road.PREFERRED
    for box in (first, second):
        box.new_settings = without[box.host.id]
        box.ask("reload")
    assert first.tunnel.wireguard.device() is None
    assert kernel(first, second) == {"overlay"}
    assert first.running.core.members.roads == {}


def test_a_reload_of_something_else_keeps_the_road(there: World) -> None:
    first, second = pair(there)
    shake(there, first, second)
    first.new_settings = replace(first.settings, linger_seconds=1000)
    first.ask("reload")
    assert kernel(first, second) == {"overlay", "tunneled", "tunnel_peers"}
    assert road(first, second) is Road.PREFERRED


def test_down_takes_the_device_out_and_up_brings_it_back(there: World) -> None:
    first, second = pair(there)
    shake(there, first, second)
    first.ask("down")
    assert first.tunnel.wireguard.device() is None
    there.pass_time(120)
    assert first.tunnel.wireguard.device() is None
    first.ask("up")
    assert list(peers(first)) == [key(second)]
    shake(there, first)
    assert kernel(first, second) == {"overlay", "tunneled", "tunnel_peers"}


def test_a_member_with_a_new_key_has_one_peer(there: World) -> None:
    first, second = pair(there)
    shake(there, first, second)
    former = key(second)
    second.running.core.own_key.another()
    second.running.core.soon("register")
    there.settle()
    assert key(second) != former
    assert peers(first) == {key(second): (overlay(second),)}
    device = second.tunnel.wireguard.device()
    assert device is not None
    assert device.public_key == key(second)


def test_a_host_that_had_another_ones_key_reaches_it_with_its_own(there: World) -> None:
    """As with a state folder that was copied: it makes another key, and then that one is a peer."""
    first, second = pair(there)
    private = second.running.core.own_key.private()
    assert private is not None
    folder = first.running.core.out.folder
    first.stop()
    folder.keep_private_key(private)
    first.start()
    for _ in range(5):
        there.pass_time(1.0)
    assert key(first) != key(second)
    assert peers(first) == {key(second): (overlay(second),)}
    assert peers(second) == {key(first): (overlay(first),)}


def test_a_key_that_two_records_say_stays_with_whom_the_registry_names(there: World) -> None:
    first, second = pair(there)
    first.stop()
    third = there.started(3, "vpc")
    held = there.server._records[third.host.id]
    record = replace(held.record, key=str(key(second)))  # which no agent writes
    there.server._records[third.host.id] = replace(held, record=record)
    first.start()
    there.pass_time(1.0)
    assert peers(first) == {key(second): (overlay(second),)}
    assert road(first, third) is None
    assert first.problems()["key_of_another"]


def claims(there: World, who: Box, what: PublicKey) -> None:
    """Its record says this key, which no agent writes."""
    held = there.server._records[who.host.id]
    there.server._records[who.host.id] = replace(held, record=replace(held.record, key=str(what)))


@pytest.mark.parametrize("order", [(2, 3), (3, 2)])
def test_a_restart_believes_who_had_the_key_until_the_registry_has_told(
    there: World, order: tuple[int, int]
) -> None:
    """Also where the registry is away, and whichever of the two stands first on disk."""
    first, second = pair(there)
    third = there.started(3, "vpc")
    boxes = {2: second, 3: third}
    claims(there, third, key(second))
    there.server._keys.pop(str(key(second)))  # so it never tells
    first.running.core.members.fleet.prove_again([third.host.id])
    there.pass_time(1.0)
    first.running.journal.note([boxes[number].host.id for number in order])
    first.running.journal.write()
    first.stop()
    there.server.stop()
    first.start()
    there.settle()
    assert peers(first) == {key(second): (overlay(second),)}


def test_whose_a_key_is_is_asked_on_each_connection(there: World) -> None:
    first, second = pair(there)
    third = there.started(3, "vpc")
    claims(there, third, key(second))
    there.server._keys.pop(str(key(second)))
    first.running.core.members.fleet.prove_again([third.host.id])
    there.pass_time(1.0)
    there.server._keys[str(key(second))] = third.host.id
    first.running.following._became_fresh(Fresh(Session(1, b"")))
    there.pass_time(1.0)
    assert peers(first) == {key(second): (overlay(third),)}


def test_a_key_that_nobody_holds_in_the_registry_stays_with_whom_it_was(there: World) -> None:
    first, second = pair(there)
    third = there.started(3, "vpc")
    there.server._keys.pop(str(key(second)))
    held = there.server._records[third.host.id]
    there.server._records[third.host.id] = replace(
        held, record=replace(held.record, key=str(key(second)))
    )
    first.running.core.members.fleet.prove_again([third.host.id])
    there.pass_time(1.0)
    there.pass_time(1.0)
    assert peers(first) == {key(second): (overlay(second),)}
    assert "key_of_another" in first.problems()


def test_the_device_is_looked_at_every_five_seconds_where_somebody_answers(there: World) -> None:
    first, second = pair(there)
    shake(there, first, second)
    there.pass_time(60)
    due = first.running.core.timers.due["roads"] - there.clock.monotonic()
    assert 0 < due <= 5


def test_a_peer_that_another_program_took_out_is_back_within_a_minute(there: World) -> None:
    first, second = pair(there)
    shake(there, first, second)
    there.pass_time(60)
    first.tunnel.wireguard.apply([RemovePeer(key(second))])
    there.pass_time(60)
    assert peers(first) == {key(second): (overlay(second),)}
    assert first.status()["drift"]["repairs"] == 1


def test_what_the_agent_itself_asks_anew_is_no_repair(there: World) -> None:
    """As with another MTU of the uplink: some of them within a minute would be a fight."""
    first, second = pair(there)
    shake(there, first, second)
    for mtu in (1400, 1300, 1400):
        sites = {n: replace(each, mtu=mtu) for n, each in first.settings.sites.items()}
        first.new_settings = replace(first.settings, sites=sites)
        first.ask("reload")
        there.pass_time(1.0)
        link = first.tunnel.road.held.link
        assert link is not None
        assert link.mtu == mtu - 80
    assert first.status()["drift"]["repairs"] == 0
    assert "fight" not in first.problems()


def looks_by_rules(there: World, box: Box, ahead: int | None) -> tuple[int, ...]:
    """Another program's rules change so; the priorities of the own rule then."""
    box.tunnel.road.held = replace(box.tunnel.road.held, ahead=ahead)
    box.running.kernel.others.network_changed()
    there.pass_time(6.0)
    return tuple(rule.priority for rule in box.tunnel.road.held.rules)


def test_a_rule_of_others_that_comes_and_goes_is_no_repair(there: World) -> None:
    """As with wg-quick up, down and up within a minute, which would be a fight."""
    first, second = pair(there)
    shake(there, first, second)
    for _ in range(3):
        assert looks_by_rules(there, first, 76) == (75,)
        assert looks_by_rules(there, first, None) == (78,)
    assert first.status()["drift"]["repairs"] == 0
    assert "fight" not in first.problems()


def test_what_nothing_can_be_before_is_not_repaired_for_ever(there: World) -> None:
    """Nor does the table wait for the device at each look."""
    first, second = pair(there)
    shake(there, first, second)
    for _ in range(10):
        assert looks_by_rules(there, first, 0) == (0,)
    held, subnet = first.tunnel.road.held, first.settings.overlay_subnet
    assert held.link is not None
    assert "priority 0" in held.faults(subnet, held.link.mtu)[0]
    assert first.tunnel.stands(held.link.mtu, subnet)
    assert first.status()["drift"]["repairs"] == 0
    assert "fight" not in first.problems()


@pytest.mark.parametrize("ahead", [None, 76, 0])
def test_a_rule_that_somebody_takes_out_or_alters_is_a_repair(
    there: World, ahead: int | None
) -> None:
    first, second = pair(there)
    shake(there, first, second)
    right = looks_by_rules(there, first, ahead)
    held = first.tunnel.road.held
    for repairs, rules in enumerate([(), (replace(held.rules[0], plain=False),)], 1):
        first.tunnel.road.held = replace(held, rules=rules)
        assert looks_by_rules(there, first, ahead) == right
        assert first.tunnel.road.held.rules == held.rules
        assert first.status()["drift"]["repairs"] == repairs


def test_one_that_never_answers_costs_a_look_a_minute(there: World) -> None:
    first, _ = pair(there)
    for _ in range(10):
        there.pass_time(60)
        for k, state in first.tunnel.wireguard._peers.items():
            first.tunnel.wireguard._peers[k] = replace(state, sent=state.sent + 148)
    there.pass_time(60)
    due = first.running.core.timers.due["roads"] - there.clock.monotonic()
    assert 30 < due <= 60


def test_nobody_gets_a_peer_by_this_hosts_own_key(there: World) -> None:
    first, _ = pair(there)
    private = new_key()
    third = there.box(3, "vpc")
    third.new_key = lambda: private
    third.start()
    there.settle()
    assert public_half(private) in peers(first)
    first.running.core.own_key._private, first.running.core.own_key._public = private, None
    first.running.roads._of = None
    there.settle()
    assert road(first, third) is None


def test_keys_outlive_a_restart_without_the_registry(there: World) -> None:
    first, second = pair(there)
    first.stop()
    first.tunnel.road.vanish()
    there.server.stop()
    first.start()
    assert peers(first) == {key(second): (overlay(second),)}


def test_the_status_says_how_much_is_encrypted(there: World) -> None:
    first, second = pair(there)
    shown = first.told().encryption
    assert shown is not None
    assert (shown.implementation, shown.mtu, shown.peers, shown.shaken) == ("module", 1420, 1, 0)
    assert shown.public_key == str(key(first))
    assert shown.sites["vpc"].trying == 1
    shake(there, first, second)
    shown = first.told().encryption
    assert shown is not None
    assert (shown.shaken, shown.sites["vpc"].preferred, shown.sites["vpc"].encrypted) == (1, 1, 1)
    assert shown.last_handshake is not None


def test_the_status_of_a_host_that_encrypts_nothing_says_nothing_of_it(there: World) -> None:
    assert there.started(1).told().encryption is None


def test_the_status_names_members_without_a_key(there: World) -> None:
    second = there.started(2, "vpc")
    asked(there, Encrypt.PREFER)
    first = there.started(1)
    shown = first.told().encryption
    assert shown is not None
    assert shown.keyless_ids == (second.host.id,)
    assert shown.sites["vpc"].plain == 1


def test_a_member_that_changes_with_this_hosts_own_address_has_its_new_one(there: World) -> None:
    """It takes over the address that this host had, and both hear of it at one moment: a member
    that has changed before the table has the own new address is not forgotten."""
    first, second = pair(there)
    before = overlay(first)
    MemoryRegistry(there.server).move(first.host.id, second.host.id, force=True)
    there.boxes.remove(first)  # it stands still meanwhile
    there.pass_time(1.0)
    assert overlay(second) == before
    there.boxes.append(first)
    there.pass_time(1.0)
    assert overlay(first) != before
    assert peers(first) == {key(second): (overlay(second),)}
    assert peers(second) == {key(first): (overlay(first),)}
