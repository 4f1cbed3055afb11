"""A WireGuard device of dictionaries, and the whole tunnel around one, for tests of the code above.

It gives an allowed address to whoever was given it last, as the real ones do, and keeps a session
with a peer until that peer is removed. Handshakes happen when a test says so.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Network, ip_network

from neti.dataplane.wireguard import DEVICE, FWMARK, WireGuard
from neti.dataplane.wireguard.keys import public_half
from neti.dataplane.wireguard.road import MARK, Link, Road, our_rule
from neti.dataplane.wireguard.tunnel import Kind, WholeTunnel
from neti.errors import DataplaneError, DeviceMissing
from neti.model import IPAddress
from neti.model.wireguard_key import PrivateKey, PublicKey
from neti.ruleset.peers import (
    Allowed,
    Change,
    Device,
    Endpoint,
    Peer,
    PeerState,
    RemovePeer,
    SetPeer,
    UpdatePeer,
)


class MemoryWireGuard:
    """``there``: whether the device exists; ``vanish`` deletes it. ``failing``: with which every
    change is refused, ``failing_after`` changes later. ``changes``: what was applied."""

    def __init__(self) -> None:
        self.there = True
        self.failing: DataplaneError | None = None
        self.failing_after = 0
        self.changes: list[Change] = []
        self._public: PublicKey | None = None
        self._port = 0
        self.fwmark = 0
        self._peers: dict[PublicKey, PeerState] = {}
        self._owners: dict[Allowed, PublicKey] = {}

    def close(self) -> None: ...

    def device(self) -> Device | None:
        if not self.there:
            return None
        return Device(self._public, self._port, dict(self._peers), self.fwmark)

    def configure(self, private: PrivateKey, port: int) -> None:
        self._must_be_there()
        if self.failing is not None:
            raise self.failing
        public = public_half(private)
        if public != self._public:
            # Sessions end. When the last handshake was stays known, as with the real ones.
            self._remove(public)
        self._public, self._port, self.fwmark = public, port, FWMARK

    def apply(self, changes: Sequence[Change]) -> None:
        for number, change in enumerate(changes):
            self._must_be_there()
            if self.failing is not None and number >= self.failing_after:
                raise self.failing
            self._change(change)
            self.changes.append(change)

    def _change(self, change: Change) -> None:
        match change:
            case SetPeer(peer):
                if peer.key == self._public:
                    return
                before = self._peers.get(peer.key)
                for network in before.peer.allowed if before is not None else ():
                    del self._owners[network]
                self._give(peer)
                if before is None:
                    self._peers[peer.key] = PeerState(peer)
                    return
                endpoint = peer.endpoint or before.peer.endpoint
                self._peers[peer.key] = replace(before, peer=replace(peer, endpoint=endpoint))
            case UpdatePeer(key, endpoint, keepalive) if key in self._peers:
                state = self._peers[key]
                peer = state.peer
                if endpoint is not None:
                    peer = replace(peer, endpoint=endpoint)
                if keepalive is not None:
                    peer = replace(peer, keepalive=keepalive)
                self._peers[key] = replace(state, peer=peer)
            case RemovePeer(key):
                self._remove(key)

    def _give(self, peer: Peer) -> None:
        """Its allowed addresses, taken from whoever has them."""
        for network in peer.allowed:
            owner = self._owners.get(network)
            if owner is not None:
                state = self._peers[owner]
                left = state.peer.allowed - {network}
                self._peers[owner] = replace(state, peer=replace(state.peer, allowed=left))
        self._owners.update(dict.fromkeys(peer.allowed, peer.key))

    def _remove(self, key: PublicKey) -> None:
        gone = self._peers.pop(key, None)
        for network in gone.peer.allowed if gone is not None else ():
            del self._owners[network]

    # --- what a test does ---

    def make(self) -> None:
        self.there = True

    def vanish(self) -> None:
        """As 'ip link delete' or the end of wireguard-go: all of it is gone."""
        self.there, self._public, self._port, self._peers = False, None, 0, {}
        self._owners, self.fwmark = {}, 0

    def shake_hands(self, key: PublicKey, at: float, endpoint: Endpoint | None = None) -> None:
        """With a peer that is there, at a time of CLOCK_REALTIME; from another endpoint than was
        known, if given. Both ends must know each other: that is the test's business."""
        state = self._peers[key]
        peer = state.peer if endpoint is None else replace(state.peer, endpoint=endpoint)
        self._peers[key] = replace(
            state, peer=peer, handshake=at, received=state.received + 148, sent=state.sent + 92
        )

    def carry(self, key: PublicKey, *, sent: int = 0, received: int = 0) -> None:
        """So many bytes more, to and from a peer."""
        state = self._peers[key]
        self._peers[key] = replace(
            state, sent=state.sent + sent, received=state.received + received
        )

    def leads(self, address: IPAddress) -> PublicKey | None:
        """To which peer a packet for this address goes, and from which one such a source is
        taken."""
        host = ip_network(address)
        found = [
            (network.prefixlen, key)
            for key, state in self._peers.items()
            for network in state.peer.allowed
            if network.version == host.version and address in network
        ]
        return max(found)[1] if found else None

    def _must_be_there(self) -> None:
        if not self.there:
            raise DeviceMissing("there is no WireGuard device in this memory")


class MemoryRoad:
    """Link, rule and route. ``module``: this kernel has it; otherwise wireguard-go has to be
    started (``start``), or something ``listens`` that starts it. ``held``: what is there, which a
    test may replace."""

    def __init__(self, wireguard: MemoryWireGuard, *, module: bool) -> None:
        self.held = Road(None)
        self.module = module
        self.listens = False
        self._wireguard = wireguard
        self._indexes = 1

    # --- as ``tunnel.Links`` and ``tunnel.Doors`` ---

    def read(self) -> Road:
        return self.held

    def make_link(self) -> None:
        self._appear("wireguard")

    def set_link(self, mtu: int) -> None:
        link = replace(self._link(), mtu=mtu, up=True, src_valid_mark=True)
        self.held = replace(self.held, link=link)

    def delete_link(self) -> bool:
        if self.held.link is None or not self.held.link.usable:
            return False
        self.vanish()
        return True

    def set_rule(self) -> None:
        self.held = replace(self.held, rules=(our_rule(MARK, self.held.priority),))

    def delete_rules(self) -> int:
        count = len(self.held.rules)
        self.held = replace(self.held, rules=())
        return count

    def set_route(self, subnet: IPv4Network) -> None:
        link = self._link()
        if not link.up:
            raise DataplaneError(f"the route to {subnet} by {DEVICE}: set the link up")
        self.held = replace(self.held, routes=((subnet, link.index),))

    def delete_routes(self) -> int:
        count = len(self.held.routes)
        self.held = replace(self.held, routes=())
        return count

    def module_there(self) -> bool:
        return self.module

    def wake(self) -> bool:
        if self.listens and self.held.link is None:
            self.start()
        return self.held.link is not None

    def opened(self, kind: Kind) -> WireGuard:
        return self._wireguard

    # --- what a test does ---

    def start(self) -> None:
        """wireguard-go: it makes its own link."""
        self._appear("tun")

    def vanish(self) -> None:
        """As 'ip link delete' or the end of wireguard-go: its route goes with it, the rule does
        not."""
        self._wireguard.vanish()
        self.held = replace(self.held, link=None, routes=())

    def _appear(self, kind: str) -> None:
        self._indexes += 1
        self._wireguard.make()
        link = Link(self._indexes, DEVICE, kind, 1420, up=False, src_valid_mark=False)
        self.held = replace(self.held, link=link)

    def _link(self) -> Link:
        if self.held.link is None:
            raise DeviceMissing(f"there is no link {DEVICE}")
        return self.held.link


class MemoryTunnel(WholeTunnel):
    """``wireguard``: the device; ``road``: what leads to it. See there what a test can do to them.
    Without the module there is no device until ``road.start()``."""

    def __init__(self, wall: Callable[[], float], *, module: bool = True) -> None:
        self.wireguard = MemoryWireGuard()
        self.wireguard.vanish()
        self.road = MemoryRoad(self.wireguard, module=module)
        super().__init__(self.road, self.road, wall)
