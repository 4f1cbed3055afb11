"""The encrypted road to members of other sites: who has a WireGuard peer here, and who is reached
through it.

A member that gets a peer: the device first, then the kernel's table. One that loses it: the table,
then the device. So no element leads to a peer that is not there. While there is no device, members
are reached as if they had no key: in the clear, or not at all.

Must never do: touch the device while Neti is down, or before it is known who is a member; let a
member have the peer of another one, whatever its record says.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Final

from neti import log
from neti.agent.core import Core
from neti.agent.journal import Journal
from neti.dataplane.wireguard import DEVICE
from neti.dataplane.wireguard.tunnel import WholeTunnel
from neti.errors import DataplaneError, DeviceMissing
from neti.model import Encrypt, Member, Road
from neti.model.wireguard_key import PublicKey
from neti.registry import KeyRead
from neti.registry.record import KeyName
from neti.ruleset.desired import Membership
from neti.ruleset.peers import (
    Change,
    Device,
    Endpoint,
    Peer,
    PeerState,
    RemovePeer,
    SetPeer,
    UpdatePeer,
)
from neti.ruleset.roads import (
    THREE_ATTEMPTS,
    Heard,
    asked_between,
    peer_of,
    road_of,
    tunnel_for,
)
from neti.ruleset.surroundings import Surroundings, Tunnel
from neti.text import printable
from neti.words import counted, some

_EVERY: Final = 60.0  # seconds between two looks at the device, if nobody is waited for
_FIRST: Final = 0.5  # seconds until the first look at somebody who is; each pause is twice as long
_COST: Final = 20.0  # a pause is at least so many times as long as a look takes
_NO_PROGRAM: Final = "this agent has no door to a WireGuard device"


@dataclass(slots=True)
class _Held:
    """What the device holds, as far as we put it there. ``peers``: by member; ``owners``: whose
    each key is; ``at``: which key has an overlay address; ``leaving``: peers that are to go, once
    the kernel's table does not lead to them any more."""

    peers: dict[str, Peer] = field(default_factory=dict)
    owners: dict[PublicKey, str] = field(default_factory=dict)
    at: dict[IPv4Address, PublicKey] = field(default_factory=dict)
    leaving: dict[PublicKey, Peer] = field(default_factory=dict)

    def give(self, host_id: str, peer: Peer) -> None:
        self.take(host_id, but=peer.key)
        self.leaving.pop(peer.key, None)
        self.peers[host_id], self.owners[peer.key] = peer, host_id
        self.at[_overlay(peer)] = peer.key

    def take(self, host_id: str, *, but: PublicKey | None = None) -> None:
        """``but``: its peer with this key changes, and does not go."""
        peer = self.peers.pop(host_id, None)
        if peer is None:
            return
        if self.at.get(_overlay(peer)) == peer.key:
            del self.at[_overlay(peer)]
        if self.owners.get(peer.key) == host_id:
            del self.owners[peer.key]
            if peer.key != but:
                self.leaving[peer.key] = peer

    def wished(self) -> dict[PublicKey, Peer]:
        """Those that leave are there still, but for an address that somebody else has now."""
        going = {key: peer for key, peer in self.leaving.items() if _overlay(peer) not in self.at}
        return going | {peer.key: peer for peer in self.peers.values()}


class Roads:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(self, core: Core, journal: Journal) -> None:
        self._core = core
        self._journal = journal
        self._tunnel: Tunnel | None = None
        self._awaited: IPv4Address | None = None  # the own overlay address for which to look anew
        self._up = False  # whether the device is there, and as it should be
        self._of: Membership | None = None  # whose roads these are
        self._held = _Held()
        self._heard: dict[PublicKey, Heard] = {}
        self._states: Mapping[PublicKey, PeerState] = {}
        self._holders: dict[PublicKey, str | None] = {}  # of keys that two records say, as read
        self._asked: set[PublicKey] = set()
        self._disputed: set[str] = set()
        self._pause = _EVERY
        self._cost = 0.0
        self._in_the_way = True  # whether an earlier run may have left a device here

    # --- what is told ---

    def follow(self) -> None:
        """Members, keys and the stage as they are now. Changes of members must have been taken:
        after ``Journal.take_changes``, and before anything is committed."""
        core, members = self._core, self._core.members
        touched = members.take_touched() | self._rekeyed(members)
        if core.stage.requires != members.requires:
            members.require(core.stage.requires)
            self._of = None
        if core.down.asked or not core.own_key.wanted:
            return
        if self._tunnel is None or self._tunnel.own != members.overlay:
            if members.overlay not in (None, self._awaited):
                core.soon("resync")  # the chains come with the own overlay address
            self._awaited = members.overlay
            return
        if not self._up or not members.known:
            return
        anew = self._of is not members
        changes, roads = self._reckon(self._everybody() if anew else touched)
        self._of = members
        if changes and not self._apply(changes):
            return
        self._go(roads)

    def _rekeyed(self, members: Membership) -> set[str]:
        rekeyed = members.fleet.take_rekeyed()
        if not rekeyed or not self._core.own_key.wanted:
            return set()
        self._journal.note(rekeyed)
        for host_id in rekeyed:
            key = members.fleet.keys.get(host_id)
            if key is not None:  # whose it is may have changed since it was asked
                self._holders.pop(key, None)
                self._asked.discard(key)
        return rekeyed | self._disputed

    def key_read(self, read: KeyRead) -> None:
        """Whose a key is that two records say."""
        try:
            key = PublicKey.parse(read.key)
        except ValueError:
            return
        self._holders[key] = read.host_id
        self._of = None

    # --- the device ---

    def prepare(
        self, around: Surroundings, uplink: int | None, *, cheaply: bool = False
    ) -> tuple[Surroundings, str]:
        """Before the transaction of a full look: the device as it should be. Returns what the
        table's rules have to know, and what was not as it was left; empty: all was. ``cheaply``:
        nothing is looked at but link, rule and route, if those are right."""
        core = self._core
        tunnel = tunnel_for(core.settings, core.host, core.members.overlay, uplink)
        if tunnel is None:
            self._tunnel = None
            self._let_go()
            self.follow()
            return around, ""
        self._tunnel = tunnel
        self.follow()
        said = "" if cheaply and self._up and self._stands(tunnel) else self.put_right()
        return replace(around, tunnel=tunnel), said

    def put_right(self) -> str:
        """Make the device what it should be. Returns what was not as it was left."""
        core, tunnel, private = self._core, self._tunnel, self._core.own_key.for_device()
        if tunnel is None or private is None or core.down.asked or not core.members.known:
            return ""
        was_up, started = self._up, core.now()
        try:
            door = self._door()
            if not was_up:
                self._note(door.device())
                self._of, self._up = core.members, True
                _, roads = self._reckon(self._everybody())
            subnet = core.settings.overlay_subnet
            said = door.put_right(private, tunnel.port, tunnel.mtu, subnet, self._held.wished())
        except DataplaneError as error:
            self._lost(error)
            return ""
        self._cost = core.now() - started
        self._note(door.seen)
        core.problems.clear("encryption_missing")
        core.problems.clear("encryption_device")
        core.timers.worked("roads")
        if not was_up:
            log.info("road_up", device=door.kind, port=tunnel.port, mtu=tunnel.mtu)
            self._go(roads)
        self._heed()
        return f"{DEVICE}: {', '.join(said)}" if said and was_up else ""

    def _stands(self, tunnel: Tunnel) -> bool:
        try:
            return self._door().stands(tunnel.mtu, self._core.settings.overlay_subnet)
        except DataplaneError:
            return False

    def look(self) -> str:
        """The timer "roads": who has shaken hands, who does not answer any more, and whether the
        device is as it was left. Returns what it was not."""
        self._core.soon("roads", _EVERY)
        self._journal.take_changes()
        self.follow()
        return self.put_right()

    def settled(self) -> None:
        """After each transaction: peers go to which the kernel's table does not lead any more."""
        core, held = self._core, self._held
        if not held.leaving or core.down.asked:
            return
        led = core.members.elements.kernel["tunnel_peers"]
        gone = [
            key
            for key, peer in held.leaving.items()
            if str(_overlay(peer)) not in led or _overlay(peer) in held.at
        ]
        if gone and self._up and not self._apply([RemovePeer(key) for key in gone]):
            return
        for key in gone:
            held.leaving.pop(key, None)
            self._heard.pop(key, None)

    def in_kernel(self) -> None:
        """The kernel has the whole table. Where nothing is encrypted it does not lead to a device,
        and one that is there is of an earlier run or earlier settings."""
        core = self._core
        if core.own_key.wanted or not self._in_the_way or core.out.tunnel is None:
            return
        try:
            if core.out.tunnel.remove():
                log.info("road_removed")
        except DataplaneError as error:
            log.warning("road_not_removed", what=str(error))
            return
        self._in_the_way = False
        self._held = _Held()
        for code in ("encryption_missing", "encryption_device", "encryption_silent"):
            core.problems.clear(code)

    def take_out(self) -> None:
        """``neti down``: nothing of ours stays in the kernel. Raises DataplaneError."""
        if self._core.out.tunnel is not None and (self._core.own_key.wanted or self._in_the_way):
            self._core.out.tunnel.remove()
        self._up, self._held = False, _Held()

    # --- within: the device ---

    def _door(self) -> WholeTunnel:
        door = self._core.out.tunnel
        if door is None:
            raise DeviceMissing(_NO_PROGRAM)
        self._in_the_way = True
        return door

    def _apply(self, changes: list[Change]) -> bool:
        """What the device refuses is put right as a whole, once."""
        try:
            self._door().apply(changes)
        except DataplaneError as error:
            log.warning("peers_refused", what=str(error))
            self.put_right()
        return self._up

    def _lost(self, error: DataplaneError) -> None:
        """There is no device, or it is not as it should be: nobody is reached by it."""
        core = self._core
        code = "encryption_missing" if isinstance(error, DeviceMissing) else "encryption_device"
        other = {"encryption_missing": "encryption_device"}.get(code, "encryption_missing")
        if code not in core.problems:
            log.error("no_road", what=str(error))
        core.problems.clear(other)
        core.problems.set(code, str(error))
        core.timers.retry("roads", core.now())
        self._let_go()

    def _let_go(self) -> None:
        self._up, self._of = False, None
        self._held, self._heard, self._states = _Held(), {}, {}
        members = self._core.members
        for host_id in list(members.roads):
            members.goes_by(host_id, None)

    # --- within: who goes by which road ---

    def _everybody(self) -> list[str]:
        members = self._core.members
        return list({**members.fleet.members, **members.roads, **self._held.peers})

    def _reckon(self, ids: Iterable[str]) -> tuple[list[Change], dict[str, Road | None]]:
        """What changes on the device for these, and the road of each of them then."""
        held, changes = self._held, list[Change]()
        roads: dict[str, Road | None] = {}
        waiting = list(ids)
        for host_id in waiting:
            before, wish = held.peers.get(host_id), self._wish(host_id)
            if wish is None:
                held.take(host_id)
            elif wish != before:
                if before is not None and before.key != wish.key:
                    self._heard.pop(wish.key, None)
                loser = held.owners.get(wish.key)
                if loser is not None and loser != host_id:
                    held.take(loser, but=wish.key)
                    waiting.append(loser)
                held.give(host_id, wish)
                changes.append(_change(before, wish))
                if wish.keepalive:
                    self._pause = _FIRST
                    self._look_soon()
            roads[host_id] = self._road(host_id, wish)
        return changes, roads

    def _asked_of(self, member: Member) -> Encrypt:
        core = self._core
        return asked_between(member, host=core.host, sites=core.settings.sites)

    def _wish(self, host_id: str) -> Peer | None:
        core, fleet, tunnel = self._core, self._core.members.fleet, self._tunnel
        member, key = fleet.members.get(host_id), fleet.keys.get(host_id)
        if tunnel is None or member is None or key is None or host_id == core.host.id:
            self._undisputed(host_id)
            return None
        if not self._asked_of(member).encrypts or not self._may_have(host_id, key):
            return None
        return peer_of(
            member,
            key,
            host=core.host,
            sites=core.settings.sites,
            port=tunnel.port,
            shaken=self._answers(key),
        )

    def _answers(self, key: PublicKey) -> bool:
        heard = self._heard.get(key)
        return heard is not None and heard.answers(self._core.now())

    def _may_have(self, host_id: str, key: PublicKey) -> bool:
        """Who had a key keeps it, until the registry has said whose it is."""
        owner = self._held.owners.get(key)
        claimed = owner is not None and self._core.members.fleet.keys.get(owner) == key
        own = key == self._core.own_key.public()
        if key in self._holders:
            mine = self._holders[key] == host_id and not own
        else:
            mine = not own and (owner == host_id or not claimed)
        if mine:
            self._undisputed(host_id)
            return True
        if key not in self._asked:
            self._asked.add(key)
            self._core.out.registry.ask([KeyName(str(key))])
        self._dispute(host_id, key)
        return False

    def _dispute(self, host_id: str, key: PublicKey) -> None:
        if host_id in self._disputed:
            return
        self._disputed.add(host_id)
        log.error("key_of_another", id=host_id, public=key)
        self._core.problems.set(
            "key_of_another",
            f"the record of {printable(host_id)} says the public key {key}, which another host "
            "has: it gets no road by that key → neti registry check",
            subject=host_id,
        )

    def _undisputed(self, host_id: str) -> None:
        if host_id in self._disputed:
            self._disputed.discard(host_id)
            self._core.problems.clear("key_of_another", subject=host_id)

    def _road(self, host_id: str, peer: Peer | None) -> Road | None:
        """None: as of a member without a key."""
        members = self._core.members
        member = members.fleet.members.get(host_id)
        if member is None or peer is None:
            return None
        return road_of(
            self._asked_of(member),
            requires=members.requires,
            peer=True,
            shaken=self._answers(peer.key),
        )

    def _go(self, roads: Mapping[str, Road | None]) -> None:
        members = self._core.members
        for host_id, road in roads.items():
            if members.roads.get(host_id) != road:
                members.goes_by(host_id, road)

    # --- within: handshakes ---

    def _note(self, device: Device | None) -> None:
        """What was heard of peers. Of one that the device did not have nothing was."""
        now, self._states = self._core.now(), device.peers if device is not None else {}
        before = self._heard
        self._heard = {
            key: before[key].then(state, now) if key in before else Heard.first(state, now)
            for key, state in self._states.items()
        }

    def _heed(self) -> None:
        """Those who have answered, and those who do not any more. The next look is soon as long as
        an answer is waited for, but less and less so."""
        held = self._held
        waiting = [p.key for p in held.peers.values() if not self._answers(p.key)]
        doubted = any(heard.doubted is not None for heard in self._heard.values())
        if waiting or doubted:
            self._pause = min(2 * self._pause, THREE_ATTEMPTS if doubted else _EVERY)
            self._look_soon()
        else:
            self._pause = _EVERY
        self._name_silent()
        other = [i for i, p in held.peers.items() if bool(p.keepalive) == self._answers(p.key)]
        changes, roads = self._reckon(other)
        if not changes or self._apply(changes):
            self._go(roads)

    def _look_soon(self) -> None:
        self._core.soon("roads", max(self._pause, _COST * self._cost))

    def _name_silent(self) -> None:
        """Those who must be reached through the tunnel, and do not answer there."""
        core, silent = self._core, list[str]()
        if core.members.requires:
            silent = [i for i, road in core.members.roads.items() if self._is_silent(i, road)]
        core.problems.clear("encryption_silent")
        if silent:
            core.problems.set(
                "encryption_silent",
                f"{counted(len(silent), 'member')} that must be reached by the encrypted road "
                f"{'does' if len(silent) == 1 else 'do'} not answer there ({some(silent)}): "
                "neti verify ID",
            )

    def _is_silent(self, host_id: str, road: Road) -> bool:
        peer = self._held.peers.get(host_id)
        if road is not Road.REQUIRED or peer is None:
            return False
        heard, now = self._heard.get(peer.key), self._core.now()
        if heard is None or heard.answers(now):
            return False
        return now - heard.since >= THREE_ATTEMPTS


def _overlay(peer: Peer) -> IPv4Address:
    return IPv4Address(next(iter(peer.allowed)).network_address)


def _change(before: Peer | None, wish: Peer) -> Change:
    """Without touching its allowed address if that stays: for a moment it would have none."""
    if before is None or before.key != wish.key or before.allowed != wish.allowed:
        return SetPeer(wish)
    endpoint: Endpoint | None = wish.endpoint if wish.endpoint != before.endpoint else None
    return UpdatePeer(wish.key, endpoint, wish.keepalive)
