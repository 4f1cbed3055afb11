"""The contract of a WireGuard device: the same in memory, by wireguard-go, by the kernel's module.

The module is not in every kernel: make kernel-test runs this where it is.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from tests.support.wireguard_pair import PORT, Pair, kinds, module_there, pair

from neti.dataplane.wireguard import FWMARK, WireGuard, netlink
from neti.dataplane.wireguard.keys import new_key, public_half
from neti.errors import DeviceMissing, DeviceRefused
from neti.model.wireguard_key import PublicKey
from neti.ruleset.peers import (
    Device,
    Endpoint,
    Peer,
    PeerState,
    RemovePeer,
    SetPeer,
    UpdatePeer,
    difference,
)

HERE = Endpoint(IPv4Address("10.9.0.77"), 51820)
THERE = Endpoint(IPv6Address("2001:db8::77"), 51821)
MANY = 4000


@pytest.fixture(params=kinds())
def ends(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with pair(request.param) as made:
        yield made


@pytest.fixture(params=kinds()[1:])
def real(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """For what a memory does not have: ports, and sessions that go on."""
    with pair(request.param) as made:
        yield made


@pytest.fixture
def door(ends: Pair) -> WireGuard:
    return ends.ends[0].door


def some_key() -> PublicKey:
    return PublicKey(os.urandom(32))


def peer(number: int, endpoint: Endpoint | None = HERE) -> Peer:
    address = IPv4Address("192.168.1.0") + number
    return Peer(some_key(), frozenset({IPv4Network(address)}), endpoint)


def held(door: WireGuard) -> Device:
    device = door.device()
    assert device is not None
    return device


def peers(door: WireGuard) -> dict[PublicKey, Peer]:
    return {key: state.peer for key, state in held(door).peers.items()}


def acquainted(ends: Pair) -> None:
    first, second = ends.ends
    first.door.apply([SetPeer(second.as_peer())])
    second.door.apply([SetPeer(first.as_peer())])
    ends.meant_to(first, second)
    ends.meant_to(second, first)


def test_a_device_that_is_not_there(ends: Pair) -> None:
    """Looking says so; whoever would change it is told what to do."""
    assert ends.missing.device() is None
    with pytest.raises(DeviceMissing):
        ends.missing.configure(new_key(), PORT)
    with pytest.raises(DeviceMissing):
        ends.missing.apply([SetPeer(peer(1))])


def test_key_and_port_are_read_back(ends: Pair) -> None:
    end, _ = ends.ends
    assert held(end.door) == Device(end.key, PORT, fwmark=FWMARK)
    another = new_key()
    end.door.configure(another, PORT + 1)
    assert held(end.door) == Device(public_half(another), PORT + 1, fwmark=FWMARK)


def test_no_private_key_is_shown(ends: Pair) -> None:
    end, _ = ends.ends
    for text in (repr(held(end.door)), repr(end.private), str(end.private), f"{end.private}"):
        assert end.private.text() not in text
        assert end.private.raw.hex() not in text
        assert repr(end.private.raw) not in text


def test_peers_are_read_back(door: WireGuard) -> None:
    """Of either family, with all that was said, and nobody has shaken hands."""
    both = Peer(
        some_key(),
        frozenset(
            {IPv4Network("192.168.2.1/32"), IPv6Network("fd00::/64"), IPv4Network("10.8.0.0/16")}
        ),
        THERE,
        keepalive=25,
    )
    given = [peer(1), both, peer(2, endpoint=None)]
    door.apply([SetPeer(one) for one in given])
    assert held(door).peers == {one.key: PeerState(one) for one in given if one.keepalive == 0} | {
        both.key: held(door).peers[both.key]
    }
    assert peers(door)[both.key] == both


def test_setting_a_peer_again_says_all_of_it(door: WireGuard) -> None:
    """But for an endpoint that is not said: nothing can take one away."""
    first = replace(peer(1), keepalive=25)
    later = Peer(first.key, frozenset({IPv4Network("192.168.3.3/32")}))
    door.apply([SetPeer(first)])
    door.apply([SetPeer(later)])
    assert peers(door) == {first.key: replace(later, endpoint=HERE)}


def test_an_update_leaves_the_rest(door: WireGuard) -> None:
    first, other = peer(1), peer(2)
    door.apply([SetPeer(first), SetPeer(other)])
    door.apply([UpdatePeer(first.key, endpoint=THERE)])
    assert peers(door)[first.key] == replace(first, endpoint=THERE)
    door.apply([UpdatePeer(first.key, keepalive=7)])
    assert peers(door)[first.key] == replace(first, endpoint=THERE, keepalive=7)
    assert peers(door)[other.key] == other


def test_what_is_not_there_is_neither_updated_nor_removed(door: WireGuard) -> None:
    door.apply([UpdatePeer(some_key(), endpoint=HERE, keepalive=1), RemovePeer(some_key())])
    assert peers(door) == {}


def test_an_allowed_address_leaves_its_former_peer(door: WireGuard) -> None:
    """In one step, and the former peer stays with what else it has."""
    former = replace(
        peer(1), allowed=frozenset({IPv4Network("192.168.1.1/32"), IPv4Network("192.168.1.2/32")})
    )
    heir = Peer(some_key(), frozenset({IPv4Network("192.168.1.1/32")}), HERE)
    door.apply([SetPeer(former)])
    door.apply([SetPeer(heir)])
    left = replace(former, allowed=frozenset({IPv4Network("192.168.1.2/32")}))
    assert peers(door) == {former.key: left, heir.key: heir}


def test_a_peer_is_removed_and_comes_back_anew(door: WireGuard) -> None:
    gone, stays = peer(1), peer(2)
    door.apply([SetPeer(gone), SetPeer(stays)])
    door.apply([RemovePeer(gone.key), RemovePeer(gone.key)])
    assert peers(door) == {stays.key: stays}
    door.apply([SetPeer(replace(gone, endpoint=None))])
    assert peers(door)[gone.key] == replace(gone, endpoint=None)


def test_changes_come_in_the_order_in_which_they_are_given(door: WireGuard) -> None:
    one = peer(1)
    door.apply([SetPeer(one), RemovePeer(one.key)])
    assert peers(door) == {}
    door.apply([RemovePeer(one.key), SetPeer(one), UpdatePeer(one.key, keepalive=3)])
    assert peers(door) == {one.key: replace(one, keepalive=3)}


def test_a_peer_with_the_device_s_own_key_is_ignored(ends: Pair) -> None:
    end, _ = ends.ends
    end.door.apply([SetPeer(end.as_peer()), SetPeer(peer(1))])
    assert end.key not in peers(end.door)
    one = new_key()
    end.door.apply([SetPeer(replace(peer(2), key=public_half(one)))])
    end.door.configure(one, PORT)
    assert public_half(one) not in peers(end.door)
    assert len(peers(end.door)) == 1


def test_thousands_of_peers(door: WireGuard) -> None:
    """In as many messages as it takes, each way."""
    given = {one.key: one for one in map(peer, range(MANY))}
    door.apply([SetPeer(one) for one in given.values()])
    assert peers(door) == given
    assert difference(held(door), given, time.time()) == ()
    door.apply([RemovePeer(key) for key in given])
    assert peers(door) == {}


def test_a_peer_with_more_addresses_than_a_message_holds(door: WireGuard) -> None:
    """The kernel tells of it in several parts."""
    many = frozenset(IPv4Network(IPv4Address("192.168.16.0") + n) for n in range(900))
    given = [peer(1), replace(peer(2), allowed=many), peer(3)]
    door.apply([SetPeer(one) for one in given])
    assert peers(door) == {one.key: one for one in given}


def test_a_port_that_is_taken(real: Pair) -> None:
    """It says which, and goes with another one."""
    end, _ = real.ends
    real.take_port(end, 4444)
    with pytest.raises(DeviceRefused, match="UDP port 4444: another program uses"):
        end.door.configure(end.private, 4444)
    assert held(end.door).port != 4444
    end.door.configure(end.private, PORT)
    assert held(end.door) == Device(end.key, PORT, fwmark=FWMARK)


# --- packets ---


def test_two_ends_shake_hands_and_talk(ends: Pair) -> None:
    """The time of the handshake is the clock's on the wall."""
    first, second = ends.ends
    before = time.time()
    acquainted(ends)
    for end, other in ((first, second), (second, first)):
        state = held(end.door).peers[other.key]
        assert state.handshake is not None
        assert before - 1 < state.handshake
        assert state.received > 0
        assert state.sent > 0
        assert state.peer == other.as_peer()


def test_a_keepalive_alone_shakes_hands(ends: Pair) -> None:
    """So a peer can be tried before anything is sent to it."""
    first, second = ends.ends
    second.door.apply([SetPeer(first.as_peer())])
    first.door.apply([SetPeer(second.as_peer(keepalive=1))])
    shaken(ends)
    assert peers(first.door)[second.key].keepalive == 1


def shaken(ends: Pair) -> None:
    first, second = ends.ends
    for _ in range(500):
        if first.namespace == "":
            assert ends.arrives(first, second)
        if held(first.door).peers[second.key].handshake is not None:
            return
        time.sleep(0.02)
    raise AssertionError("no handshake")


def test_where_a_peer_calls_from_is_learned(real: Pair) -> None:
    first, second = real.ends
    first.door.apply([SetPeer(replace(second.as_peer(), endpoint=None))])
    second.door.apply([SetPeer(first.as_peer())])
    real.meant_to(second, first)
    assert peers(first.door)[second.key] == second.as_peer()


def test_a_peer_sends_from_its_own_address_only(ends: Pair) -> None:
    first, second = ends.ends
    acquainted(ends)
    other = first.overlay + 100
    assert not ends.arrives(first, second, source=other)
    known = replace(first.as_peer(), allowed=frozenset(map(IPv4Network, (first.overlay, other))))
    second.door.apply([SetPeer(known)])
    ends.meant_to(first, second, source=other)


def test_a_session_outlives_changes_of_its_peer(real: Pair) -> None:
    """Set anew, updated, or beside thousands of others: no new handshake is needed."""
    first, second = real.ends
    acquainted(real)
    then = held(first.door).peers[second.key].handshake
    first.door.apply([SetPeer(second.as_peer()), *(SetPeer(peer(n)) for n in range(100))])
    first.door.apply([UpdatePeer(second.key, endpoint=second.endpoint)])
    first.door.configure(first.private, PORT)
    real.meant_to(first, second)
    real.meant_to(second, first)
    assert held(first.door).peers[second.key].handshake == then


def test_a_removed_peer_s_session_ends_at_once(ends: Pair) -> None:
    first, second = ends.ends
    acquainted(ends)
    first.door.apply([RemovePeer(second.key)])
    assert not ends.arrives(second, first)
    assert not ends.arrives(first, second)


def test_a_new_key_takes_the_address_over(ends: Pair) -> None:
    """In the order of ``difference``: the heir first, then the former key goes."""
    first, second = ends.ends
    acquainted(ends)
    former, second.private = second.key, new_key()
    changes = difference(held(first.door), {second.key: second.as_peer()}, time.time())
    assert changes == (SetPeer(second.as_peer()), RemovePeer(former))
    first.door.apply(changes)
    assert not ends.arrives(second, first)  # it still has the former key
    second.door.configure(second.private, PORT)
    assert peers(second.door) == {first.key: first.as_peer()}
    ends.meant_to(second, first)
    ends.meant_to(first, second)


@pytest.mark.kernel
def test_the_kernel_is_known_to_have_the_module() -> None:
    """scripts/kernel-test promises it; elsewhere it is as the kernel says."""
    assert netlink.module_there() is module_there()
