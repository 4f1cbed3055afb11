"""The WireGuard peers that members have here, and those that are about to go. Pure.

Must never do: let two members have one key, or one overlay address.
"""

from dataclasses import dataclass, field
from ipaddress import IPv4Address

from neti.model.wireguard_key import PublicKey
from neti.ruleset.peers import Change, Endpoint, Peer, SetPeer, UpdatePeer


@dataclass(slots=True)
class HeldPeers:
    """``peers``: by member; ``owners``: whose each key is; ``at``: which key has an overlay
    address; ``leaving``: peers that are to go, once the kernel's table does not lead to them any
    more."""

    peers: dict[str, Peer] = field(default_factory=dict)
    owners: dict[PublicKey, str] = field(default_factory=dict)
    at: dict[IPv4Address, PublicKey] = field(default_factory=dict)
    leaving: dict[PublicKey, Peer] = field(default_factory=dict)

    def give(self, host_id: str, peer: Peer) -> Change:
        """Returns what that is to the device. Its allowed address is not touched if it stays: for a
        moment it would have none."""
        before = self.peers.get(host_id)
        self.take(host_id, but=peer.key)
        self.leaving.pop(peer.key, None)
        self.peers[host_id], self.owners[peer.key] = peer, host_id
        self.at[overlay_of(peer)] = peer.key
        if before is None or before.key != peer.key or before.allowed != peer.allowed:
            return SetPeer(peer)
        endpoint: Endpoint | None = peer.endpoint if peer.endpoint != before.endpoint else None
        return UpdatePeer(peer.key, endpoint, peer.keepalive)

    def take(self, host_id: str, *, but: PublicKey | None = None) -> None:
        """``but``: the peer with this key changes, and does not go."""
        peer = self.peers.pop(host_id, None)
        if peer is None:
            return
        if self.at.get(overlay_of(peer)) == peer.key:
            del self.at[overlay_of(peer)]
        if self.owners.get(peer.key) == host_id:
            del self.owners[peer.key]
            if peer.key != but:
                self.leaving[peer.key] = peer

    def wished(self) -> dict[PublicKey, Peer]:
        """What the device should hold. Those that leave are among it, but for an address that
        somebody else has now."""
        going = {key: peer for key, peer in self.leaving.items() if overlay_of(peer) not in self.at}
        return going | {peer.key: peer for peer in self.peers.values()}


def overlay_of(peer: Peer) -> IPv4Address:
    # By number: of an address the constructor makes a text first, and reads that.
    return IPv4Address(int(next(iter(peer.allowed)).network_address))
