"""The roads and peers of a host whose agent has not watched them: at a boot, and for a plan. Pure.

Must never do: send in the clear what is required to be encrypted, or take one key for two hosts.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from neti.model import Member, Road
from neti.model.wireguard_key import PublicKey
from neti.ruleset.desired import Membership
from neti.ruleset.peers import SESSION_SECONDS, Device, Peer
from neti.ruleset.roads import asked_between, encrypted_only, peer_of, road_of
from neti.ruleset.turns import MOST_TRIED


@dataclass(frozen=True, slots=True)
class FirstRoads:
    """``roads``: by host id, of members that have a peer. ``peers``: what the device is to hold."""

    roads: Mapping[str, Road] = field(default_factory=dict)
    peers: Mapping[PublicKey, Peer] = field(default_factory=dict)

    def held_by(self, device: Device, keys: Mapping[str, PublicKey]) -> "FirstRoads":
        """Only of those whom the device has as they should be reached. ``keys``: by host id."""
        peers = {
            key: peer
            for key, peer in self.peers.items()
            if key in device.peers and device.peers[key].peer.allowed == peer.allowed
        }
        roads = {host_id: road for host_id, road in self.roads.items() if keys[host_id] in peers}
        return FirstRoads(roads, peers)


NOBODY: Final = FirstRoads()


def first_roads(
    members: Membership,
    own: PublicKey,
    *,
    device: Device | None = None,
    tunneled: Collection[str] = (),
    now: float = 0.0,
) -> FirstRoads:
    """``own``: this host's key, which is nobody else's. ``device``, and ``tunneled`` (what that
    set of the kernel's table holds): a road that works goes on. ``now``: CLOCK_REALTIME."""
    settings, host = members.settings, members.host
    roads: dict[str, Road] = {}
    peers: dict[PublicKey, Peer] = {}
    silent = 0
    for member, key in _with_keys(members):
        asked = asked_between(member, host=host, sites=settings.sites)
        if key == own or key in peers or not asked.encrypts:
            continue
        shaken = _works(device, key, str(member.overlay) in tunneled, now)
        only = encrypted_only(member, host=host, sites=settings.sites, requires=members.requires)
        roads[member.id] = road_of(asked, encrypted_only=only, peer=True, shaken=shaken)
        peers[key] = peer_of(
            member,
            key,
            host=host,
            sites=settings.sites,
            port=settings.tunnel_port,
            tried=not shaken and silent < MOST_TRIED,  # the agent will have them take turns
            gateways=members.gateways,
        )
        silent += not shaken
    return FirstRoads(roads, peers)


def _with_keys(members: Membership) -> Iterator[tuple[Member, PublicKey]]:
    for host_id, key in members.fleet.keys.items():
        member = members.fleet.members.get(host_id)
        if member is not None and host_id != members.host.id:
            yield member, key


def _works(device: Device | None, key: PublicKey, through: bool, now: float) -> bool:
    """It has answered, and lately: or the agent has not doubted it, as nothing was sent."""
    state = device.peers.get(key) if device is not None else None
    if state is None or state.handshake is None:
        return False
    return through or 0 <= now - state.handshake < SESSION_SECONDS
