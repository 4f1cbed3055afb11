"""``neti key rotate``: peers take the new key over, and the former one lets nobody in any more."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.agents import Box, World, world
from tests.unit.agent.test_roads import carry, kernel, key, overlay, pair, peers, road, shake

from neti.model import Road
from neti.model.wireguard_key import PrivateKey
from neti.registry.memory import MemoryRegistry
from neti.registry.revoked import RevokedKey
from neti.ruleset.peers import RemovePeer, UpdatePeer
from neti.ruleset.roads import KEEPALIVE
from neti.state.folder import StateFolder
from neti.state.loaded import StateError


@pytest.fixture(name="there")
def _there(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def device_key(box: Box) -> object:
    device = box.tunnel.wireguard.device()
    return device.public_key if device is not None else None


def test_a_new_key_is_taken_over_by_peers_and_then_by_the_own_device(there: World) -> None:
    """The answer comes when peers can read it; the former peer is gone, with its session."""
    first, second = pair(there)
    shake(there, first, second)
    before = key(first)
    told = first.ask("rotate")
    now = key(first)
    assert told == {"result": {"public_key": str(now), "former": str(before)}}
    assert now != before
    there.pass_time(1.0)
    assert peers(second) == {now: (overlay(first),)}
    assert device_key(first) == now
    assert peers(first) == {key(second): (overlay(second),)}
    assert first.running.core.out.folder.private_key() is not None
    shake(there, first, second)
    assert road(second, first) is Road.PREFERRED
    assert kernel(first, second) == {"overlay", "tunneled", "tunnel_peers"}


def test_this_end_shakes_hands_when_its_device_has_the_new_key(there: World) -> None:
    """A peer that was earlier would wait for five seconds; afterwards all is as it was."""
    first, second = pair(there)
    shake(there, first, second)
    first.tunnel.wireguard.changes.clear()
    first.ask("rotate")
    there.pass_time(1.0)
    assert UpdatePeer(key(second), keepalive=KEEPALIVE) in first.tunnel.wireguard.changes
    device = first.tunnel.wireguard.device()
    assert device is not None
    assert device.peers[key(second)].peer.keepalive == 0


def test_a_new_key_of_its_own_is_not_what_another_program_did(there: World) -> None:
    """Some of them within a minute would be a fight."""
    first, second = pair(there)
    shake(there, first, second)
    for _ in range(3):
        first.ask("rotate")
        there.pass_time(1.0)
    assert device_key(first) == key(first)
    assert first.status()["drift"]["repairs"] == 0
    assert "fight" not in first.problems()


def test_while_peers_cannot_be_told_the_key_stays(there: World) -> None:
    first, _second = pair(there)
    before = key(first)
    there.server.stop()
    there.pass_time(60)
    told = first.ask("rotate")
    assert "peers cannot be told of a new key now" in told["error"]
    assert f"neti key revoke {first.host.id}" in told["error"]
    assert key(first) == before


def test_a_key_that_cannot_be_kept_is_not_made(
    there: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next start would publish the former one again, which somebody may know."""
    first, second = pair(there)
    before = key(first)

    def full(*_: object) -> None:
        raise StateError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(StateFolder, "keep_private_key", full)
        told = first.ask("rotate")
    assert "the disk is full" in told["error"]
    assert key(first) == before
    there.pass_time(60)
    assert "disk" not in first.problems()  # the present one is written again
    assert "error" not in first.ask("rotate")
    assert key(first) != before
    there.pass_time(1.0)
    assert set(peers(second)) == {key(first)}


def test_a_disk_that_is_full_just_then_keeps_the_present_key(
    there: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The present one could be written a moment ago, and nobody is told of a key that could not."""
    first, second = pair(there)
    before, folder = key(first), first.running.core.out.folder
    kept, write = folder.private_key(), StateFolder.keep_private_key

    def full_for_others(folder: StateFolder, private: PrivateKey) -> None:
        if private != kept:
            raise StateError("the disk is full")
        write(folder, private)

    monkeypatch.setattr(StateFolder, "keep_private_key", full_for_others)
    told = first.ask("rotate")
    assert "the disk is full" in told["error"]
    assert key(first) == before
    assert folder.private_key() == kept
    monkeypatch.undo()
    there.pass_time(60)  # nor is it written later
    assert set(peers(second)) == {before}
    assert "disk" not in first.problems()
    first.stop()
    first.start()
    there.settle()
    assert key(first) == before


def test_a_host_that_encrypts_nothing_has_no_key_to_rotate(there: World) -> None:
    box = there.started(1)
    assert "so this host has no key" in box.ask("rotate")["error"]


def test_the_former_key_stays_this_hosts(there: World) -> None:
    """Nobody else can publish it: whoever has the private half would be a member by it."""
    first, _second = pair(there)
    before = key(first)
    first.ask("rotate")
    assert there.server._keys[str(before)] == first.host.id
    assert there.server._keys[str(key(first))] == first.host.id


def test_a_key_that_an_operator_revokes_is_replaced_by_the_host_itself(there: World) -> None:
    """And dropped by its peers, without anybody on the host; it is no fault of the host's."""
    first, second = pair(there)
    shake(there, first, second)
    before, address = key(first), overlay(first)
    registry = MemoryRegistry(there.server)
    assert registry.revoke_key(first.host.id) == RevokedKey(str(before), said=str(before))
    registry.close()
    there.settle()
    there.pass_time(1.0)
    assert key(first) != before
    assert peers(second) == {key(first): (address,)}
    assert device_key(first) == key(first)
    assert "key_taken" not in first.problems()


def test_a_revoked_key_stays_ended_whatever_its_holder_writes(there: World) -> None:
    """It has the member's certificate, and publishes the key by hand. Also after a restart."""
    first, second = pair(there)
    shake(there, first, second)
    stolen, address = key(first), first.running.core.members.overlay
    name = first.running.registration.entry
    registry = MemoryRegistry(there.server)
    first.stop()
    assert registry.revoke_key(first.host.id) == RevokedKey(str(stolen), said=str(stolen))
    there.server._keys.pop(str(stolen))
    there.server._holders.pop(first.host.id)
    registry.register(
        host_id=first.host.id,
        name=name or "",
        data=b"",
        detail=b"{}",
        overlay=address,
        key=str(stolen),
    )
    there.settle()
    there.pass_time(4.0)
    assert peers(second) == {}
    second.stop()
    second.start()
    there.settle()
    there.pass_time(4.0)
    assert peers(second) == {}
    registry.close()


def test_a_host_that_the_registry_does_not_refuse_takes_another_key_too(there: World) -> None:
    """A member can keep operators from the node of its key."""
    first, _second = pair(there)
    before = key(first)
    registry = MemoryRegistry(there.server)
    registry.revoke_key(first.host.id)
    there.server._keys[str(before)] = first.host.id
    registry.close()
    there.settle()
    there.pass_time(4.0)
    assert key(first) != before


def smaller_and_greater(there: World) -> tuple[Box, Box]:
    """Two that have shaken hands; the key of the first one is smaller, which says who acts."""
    first, second = pair(there)
    shake(there, first, second)
    while key(second).raw < key(first).raw:
        assert "error" not in second.ask("rotate")
        there.pass_time(0.2)
    there.pass_time(5.0)
    shake(there, first, second)
    return first, second


@pytest.mark.parametrize("rotates", ["smaller", "greater"])
def test_handshakes_that_crossed_are_begun_anew_by_one_end(there: World, rotates: str) -> None:
    """Neither heeds the other's answer then, and WireGuard tries again after five seconds. The end
    with the smaller key forgets what it remembers of that; both at once would cross again, so the
    other one does it a second later."""
    first, second = smaller_and_greater(there)
    rotating, other = (first, second) if rotates == "smaller" else (second, first)
    for box in (first, second):
        box.tunnel.wireguard.changes.clear()
    assert "error" not in rotating.ask("rotate")
    there.pass_time(0.5)
    anew = [RemovePeer(key(one)) for one in (first, second)]
    for box in (first, second):
        assert not set(anew) & set(box.tunnel.wireguard.changes), "too early"
    there.pass_time(1.3)
    smaller, greater = sorted((first, second), key=lambda box: key(box).raw)
    assert smaller.tunnel.wireguard.changes.count(RemovePeer(key(greater))) == 1
    assert RemovePeer(key(smaller)) not in greater.tunnel.wireguard.changes
    there.pass_time(2.0)
    # The other one has a session, perhaps, and knows of no handshake.
    assert greater.tunnel.wireguard.changes.count(RemovePeer(key(smaller))) == 1
    # The other one has a peer with a key of which nothing was heard.
    assert road(rotating, other) is Road.PREFERRED
    for box in (rotating, other):
        assert peers(box) == {key(one): (overlay(one),) for one in (first, second) if one != box}
    there.pass_time(60.0)
    assert smaller.tunnel.wireguard.changes.count(RemovePeer(key(greater))) <= 2


def test_who_does_not_shake_hands_with_the_new_key_has_as_long_as_anybody(there: World) -> None:
    """Its read of the registry may be slow, or it is away for a moment."""
    first, second = smaller_and_greater(there)
    while True:
        first.tunnel.wireguard.changes.clear()
        assert "error" not in first.ask("rotate")
        if key(first).raw < key(second).raw:
            break
        there.pass_time(0.2)
        shake(there, first, second)
    there.pass_time(15.0)
    assert RemovePeer(key(second)) in first.tunnel.wireguard.changes
    assert road(first, second) is Road.PREFERRED
    there.pass_time(30.0)
    assert road(first, second) is Road.TRYING
    shake(there, first, second)
    assert road(first, second) is Road.PREFERRED


def test_a_handshake_that_ended_is_not_begun_anew(there: World) -> None:
    first, second = pair(there)
    shake(there, first, second)
    for one in (first, second):
        for box in (first, second):
            box.tunnel.wireguard.changes.clear()
        assert "error" not in one.ask("rotate")
        there.pass_time(0.3)
        shake(there, first, second)
        there.pass_time(10.0)
        for box, to in ((first, second), (second, first)):
            assert RemovePeer(key(to)) not in box.tunnel.wireguard.changes


def test_who_does_not_answer_any_more_keeps_its_peer(there: World) -> None:
    """What was heard of it would be forgotten, and it would not be named."""
    first, second = smaller_and_greater(there)
    first.tunnel.wireguard.changes.clear()
    carry(first, key(second), 60, there, sent=96)
    assert RemovePeer(key(second)) not in first.tunnel.wireguard.changes
