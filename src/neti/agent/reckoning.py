"""Which WireGuard peer each member has here, and by which road it is reached.

Must never do: touch the device or the kernel's elements; let a member have the peer of another one,
whatever its record says.
"""

from collections.abc import Iterable

from neti.agent.core import Core
from neti.agent.handshakes import Handshakes
from neti.model import Encrypt, Member, Road
from neti.ruleset.held_peers import HeldPeers
from neti.ruleset.peers import Change, Device, Peer, RemovePeer, SetPeer, UpdatePeer
from neti.ruleset.roads import KEEPALIVE, asked_between, encrypted_only, peer_of, road_of


class Reckoning:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.held = HeldPeers()
        self.handshakes = Handshakes(core.now)

    def let_go(self) -> None:
        """There is no device any more."""
        self.held = HeldPeers()
        self.handshakes.forget_all()

    def note(self, device: Device | None, at: float | None = None) -> None:
        """What it says, and when it was asked, if not now. Who is lost answers nowhere, so that
        nothing comes from there is no reason to leave the tunnel."""
        self.handshakes.note(device, at)
        for host_id in self._core.members.fleet.lost:
            peer = self.held.peers.get(host_id)
            if peer is not None:
                self.handshakes.excuse(peer.key)

    def everybody(self) -> list[str]:
        members = self._core.members
        return list({**members.fleet.members, **members.roads, **self.held.peers})

    def changed(self) -> list[str]:
        """Those who have answered, do not any more, or have their turn."""
        has_changed = self.handshakes.has_changed
        return [host_id for host_id, peer in self.held.peers.items() if has_changed(host_id, peer)]

    def shake_hands(self) -> list[Change]:
        """With everybody whose turn to be tried is not still to come: a peer that is given a
        keepalive is sent one."""
        changes = list[Change]()
        for key, peer in self.held.wished().items():
            if not self.handshakes.waits(self.held.owners.get(key, "")):
                changes += _tried(peer)
                self.handshakes.begin(key)
        return changes

    def shake_hands_anew(self) -> list[Change]:
        """With those who have not answered for a while. If both ends begin at one moment, each
        answers the other and neither heeds the answer, and both try again after five seconds. The
        end with the smaller key does not wait for that: without a peer nothing is remembered of
        the handshake. The other end leaves it to that one, or they would meet again; and does it a
        second later where nothing came of that, because the first end knows of no handshake: this
        host has just booted, and that one has a session."""
        changes = list[Change]()
        own = self._core.own_key.public()
        late = self.handshakes.take_unanswered(own) if own is not None else []
        peers = self.held.wished() if late else {}
        for key in late:
            peer = peers.get(key)
            if peer is not None:
                self.handshakes.made_anew(key)
                changes += [RemovePeer(key), SetPeer(peer), *_tried(peer)]
        return changes

    def silent(self) -> list[str]:
        """Members that must be reached through the tunnel, and do not answer there. Who is lost
        does not answer anywhere."""
        members = self._core.members
        if not members.only_encrypted:
            return []
        return [
            host_id
            for host_id, road in members.roads.items()
            if road is Road.REQUIRED
            and host_id not in members.fleet.lost
            and (peer := self.held.peers.get(host_id)) is not None
            and self.handshakes.is_silent(host_id, peer.key)
        ]

    def reckon(self, ids: Iterable[str]) -> tuple[list[Change], dict[str, Road | None]]:
        """What changes on the device for these, and the road of each of them then."""
        held, changes = self.held, list[Change]()
        roads: dict[str, Road | None] = {}
        waiting = list(ids)
        for host_id in waiting:
            before, wish = held.peers.get(host_id), self._wish(host_id)
            if wish is None:
                self.handshakes.end(host_id)
                held.take(host_id)
            elif wish != before:
                if before is not None and before.key != wish.key:
                    self.handshakes.forget(wish.key)
                loser = held.owners.get(wish.key)
                if loser is not None and loser != host_id:
                    held.take(loser, but=wish.key)
                    waiting.append(loser)
                changes.append(held.give(host_id, wish))
                if wish.keepalive:
                    self.handshakes.await_answer(host_id, wish.key)
                    self._core.soon("roads", self.handshakes.pause)
            roads[host_id] = self._road(host_id, wish)
        return changes, roads

    def _asked_of(self, member: Member) -> Encrypt:
        core = self._core
        return asked_between(member, host=core.host, sites=core.settings.sites)

    def _encrypted_only(self, member: Member) -> bool:
        core = self._core
        return encrypted_only(
            member,
            host=core.host,
            sites=core.settings.sites,
            requires=core.members.requires,
        )

    def _wish(self, host_id: str) -> Peer | None:
        core, fleet = self._core, self._core.members.fleet
        member, key = fleet.members.get(host_id), fleet.keys.get(host_id)
        if member is None or key is None or host_id == core.host.id:
            return None
        if not self._asked_of(member).encrypts or key == core.own_key.public():
            return None
        return peer_of(
            member,
            key,
            host=core.host,
            sites=core.settings.sites,
            port=core.settings.tunnel_port,
            tried=self.handshakes.tries(host_id, key),
            gateways=core.members.gateways,
        )

    def _road(self, host_id: str, peer: Peer | None) -> Road | None:
        """None: as of a member without a key."""
        members = self._core.members
        member = members.fleet.members.get(host_id)
        if member is None or peer is None:
            return None
        return road_of(
            self._asked_of(member),
            encrypted_only=self._encrypted_only(member),
            peer=True,
            shaken=self.handshakes.answers(peer.key),
        )


def _tried(peer: Peer) -> list[Change]:
    """What has the device send it something now, and leaves it as it is."""
    return [UpdatePeer(peer.key, keepalive=each) for each in (0, KEEPALIVE, peer.keepalive)]
