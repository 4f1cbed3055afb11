"""From what a WireGuard device holds to what it should hold."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from hypothesis import given
from hypothesis import strategies as some

from neti.dataplane.wireguard.memory import MemoryWireGuard
from neti.model.wireguard_key import PublicKey
from neti.ruleset.peers import (
    SESSION_SECONDS,
    Device,
    Endpoint,
    Peer,
    PeerState,
    RemovePeer,
    SetPeer,
    UpdatePeer,
    difference,
)

NOW = 1_800_000_000.0
ENDPOINTS = [Endpoint(IPv4Address(f"203.0.113.{n}"), 51871) for n in (1, 2)]
KEYS = [PublicKey(bytes((n,)) * 32) for n in range(1, 6)]
ADDRESSES = [IPv4Network(f"192.168.0.{n}") for n in range(1, 6)]


def peer(key: int, address: int, endpoint: int = 0, keepalive: int = 0) -> Peer:
    return Peer(KEYS[key], frozenset({ADDRESSES[address]}), ENDPOINTS[endpoint], keepalive)


def held(*states: PeerState) -> Device:
    return Device(None, 0, {state.peer.key: state for state in states})


@some.composite
def fleets(draw: some.DrawFn) -> dict[PublicKey, Peer]:
    """Each address is one peer's."""
    count = draw(some.integers(0, len(KEYS)))
    keys = draw(some.permutations(range(len(KEYS))))[:count]
    addresses = draw(some.permutations(range(len(ADDRESSES))))
    return {
        KEYS[key]: peer(key, addresses[at], draw(some.integers(0, 1)), draw(some.integers(0, 2)))
        for at, key in enumerate(keys)
    }


@given(fleets(), fleets())
def test_what_was_held_becomes_what_is_wished(
    before: dict[PublicKey, Peer], after: dict[PublicKey, Peer]
) -> None:
    """Whatever moves from whom to whom, and then nothing is left to do."""
    device = MemoryWireGuard()
    device.apply([SetPeer(one) for one in before.values()])
    now_held = device.device()
    assert now_held is not None
    device.apply(difference(now_held, after, NOW))
    now_held = device.device()
    assert now_held is not None
    assert {key: state.peer for key, state in now_held.peers.items()} == after
    assert difference(now_held, after, NOW) == ()


def test_an_heir_comes_before_the_former_key_goes() -> None:
    heir = peer(1, 0)
    changes = difference(held(PeerState(peer(0, 0))), {heir.key: heir}, NOW)
    assert changes == (SetPeer(heir), RemovePeer(KEYS[0]))


def test_a_learned_endpoint_is_believed_while_its_session_lasts() -> None:
    """Behind an address translation it may be another one than was registered."""
    wished = peer(0, 0)
    learned = replace(wished, endpoint=ENDPOINTS[1])
    mended = (UpdatePeer(wished.key, endpoint=ENDPOINTS[0]),)
    for handshake, changes in (
        (NOW - 1, ()),
        (NOW - SESSION_SECONDS, mended),
        (NOW + 3600, mended),  # the clock was set back
        (None, mended),
    ):
        state = PeerState(learned, handshake)
        assert difference(held(state), {wished.key: wished}, NOW) == changes


def test_a_peer_without_an_endpoint_of_its_own_keeps_what_was_learned() -> None:
    wished = replace(peer(0, 0), endpoint=None)
    state = PeerState(replace(wished, endpoint=ENDPOINTS[1]))
    assert difference(held(state), {wished.key: wished}, NOW) == ()


def test_a_keepalive_alone_leaves_addresses_alone() -> None:
    wished = peer(0, 0, keepalive=25)
    changes = difference(held(PeerState(peer(0, 0))), {wished.key: wished}, NOW)
    assert changes == (UpdatePeer(wished.key, keepalive=25),)
