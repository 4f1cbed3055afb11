"""WireGuard peers as inert data: wished for, held by the device, and the changes between.

Must never do: let two peers have one allowed address. The device would give it to the last one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from typing import Final

from neti.model import IPAddress
from neti.model.wireguard_key import PublicKey

Allowed = IPv4Network | IPv6Network

# WireGuard's REJECT_AFTER_TIME: a session ends that long after its handshake.
SESSION_SECONDS: Final = 180


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a peer's UDP comes from and goes to."""

    address: IPAddress
    port: int

    def __str__(self) -> str:
        if isinstance(self.address, IPv6Address):
            return f"[{self.address}]:{self.port}"
        return f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Peer:
    """``allowed``: what it may send from, and what is sent to it. ``endpoint`` None: whatever the
    device learned, if it did. ``keepalive``: seconds between packets that say nothing, 0: none.
    ``fixed``: of a wish; no other endpoint is right, whatever the device learned."""

    key: PublicKey
    allowed: frozenset[Allowed]
    endpoint: Endpoint | None = None
    keepalive: int = 0
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class PeerState:
    """``handshake``: when the last one ended, in seconds of CLOCK_REALTIME; None: there was none.
    ``received`` and ``sent`` count bytes on the wire since the peer was added."""

    peer: Peer
    handshake: float | None = None
    received: int = 0
    sent: int = 0


@dataclass(frozen=True, slots=True)
class Device:
    """``public_key``: of the private key that it holds; None: it holds none. ``port`` 0: it
    listens nowhere. ``fwmark``: on the packets that it sends; 0: none."""

    public_key: PublicKey | None
    port: int
    peers: Mapping[PublicKey, PeerState] = field(default_factory=dict)
    fwmark: int = 0


@dataclass(frozen=True, slots=True)
class SetPeer:
    """The peer is all that is said here, whether or not it was there before. Its session goes on.
    Its allowed addresses leave whoever had them."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class UpdatePeer:
    """What is not None changes; its allowed addresses are not touched, not even for a moment.
    Nothing if the peer is not there."""

    key: PublicKey
    endpoint: Endpoint | None = None
    keepalive: int | None = None


@dataclass(frozen=True, slots=True)
class RemovePeer:
    """Its session ends at once. Nothing if the peer is not there."""

    key: PublicKey


Change = SetPeer | UpdatePeer | RemovePeer


def difference(held: Device, wished: Mapping[PublicKey, Peer], now: float) -> tuple[Change, ...]:
    """What makes the device hold exactly ``wished``; ``now`` by CLOCK_REALTIME.

    Removals come last, so that a new key takes an address over before the former one goes. An
    endpoint that the device learned is believed while the session lasts in which it learned it.
    """
    changes: list[Change] = []
    for key, peer in wished.items():
        state = held.peers.get(key)
        if state is None or state.peer.allowed != peer.allowed:
            changes.append(SetPeer(peer))
            continue
        endpoint = peer.endpoint if _astray(state, peer, now) else None
        keepalive = peer.keepalive if state.peer.keepalive != peer.keepalive else None
        if endpoint is not None or keepalive is not None:
            changes.append(UpdatePeer(key, endpoint, keepalive))
    changes += [RemovePeer(key) for key in held.peers if key not in wished]
    return tuple(changes)


def _astray(state: PeerState, peer: Peer, now: float) -> bool:
    if state.peer.endpoint == peer.endpoint:
        return False
    if peer.fixed:
        return True
    return state.handshake is None or not 0 <= now - state.handshake < SESSION_SECONDS
