"""The encrypted road to members of other sites: who has a WireGuard peer here, and who is reached
through it.

A member that gets a peer: the device first, then the kernel's table. One that loses it: the table,
then the device. So no element leads to a peer that is not there. While there is no device, members
are reached as if they had no key: in the clear, or not at all.

Must never do: touch the device while Neti is down, or before it is known who is a member; let a
member have the peer of another one, whatever its record says.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Final

from neti import log
from neti.agent.core import Core
from neti.agent.journal import Journal
from neti.dataplane.wireguard import DEVICE
from neti.dataplane.wireguard.tunnel import ANOTHER_KEY, Kind, WholeTunnel
from neti.errors import DataplaneError, DeviceMissing
from neti.model import Encrypt, Member, Road
from neti.model.wireguard_key import PrivateKey, PublicKey
from neti.ruleset.desired import Membership
from neti.ruleset.held_peers import HeldPeers, overlay_of
from neti.ruleset.peers import (
    Change,
    Device,
    Peer,
    PeerState,
    RemovePeer,
    UpdatePeer,
)
from neti.ruleset.roads import (
    KEEPALIVE,
    THREE_ATTEMPTS,
    Heard,
    asked_between,
    peer_of,
    road_of,
    tunnel_for,
)
from neti.ruleset.surroundings import Surroundings, Tunnel
from neti.ruleset.turns import Turns
from neti.words import counted, some

_EVERY: Final = 60.0  # seconds between two looks at the device, if nobody is waited for
# Seconds until the first look at somebody who is waited for; each pause is twice as long. Until a
# handshake is seen, which takes one round trip, a new member is reached in the clear.
_FIRST: Final = 0.05
_COST: Final = 20.0  # a pause is at least so many times as long as a look takes
_NO_PROGRAM: Final = "this agent has no door to a WireGuard device"


class Roads:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(self, core: Core, journal: Journal) -> None:
        self._core = core
        self._journal = journal
        self._tunnel: Tunnel | None = None
        self._awaited: IPv4Address | None = None  # the own overlay address for which to look anew
        self._up = False  # whether the device is there, and as it should be
        self._of: Membership | None = None  # whose roads these are
        self._held = HeldPeers()
        self._turns = Turns(seconds=THREE_ATTEMPTS)
        self._heard: dict[PublicKey, Heard] = {}
        self._states: Mapping[PublicKey, PeerState] = {}
        self._pause = _EVERY
        self._cost = 0.0
        self._private: PrivateKey | None = None  # which the device was given last
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
        if not core.own_key.wanted or core.down.asked:
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
        return rekeyed

    # --- the device ---

    def prepare(
        self, around: Surroundings, uplink: int | None, *, cheaply: bool = False
    ) -> tuple[Surroundings, str]:
        """Before the transaction of a full look: the device as it should be. Returns what the
        table's rules have to know, and what was not as it was left; empty: all was.

        A device that was right at the last look, and to which link, rule and route still lead, is
        asked only afterwards, by the timer "roads": it may hang, and the table does not wait for
        it. ``cheaply``: not even then."""
        core = self._core
        tunnel = tunnel_for(core.settings, core.host, core.members.overlay, uplink)
        if tunnel is None:
            self._tunnel = None
            self._let_go()
            self.follow()
            return around, ""
        same, self._tunnel = tunnel == self._tunnel, tunnel
        self.follow()
        if not (same and self._up and self._stands(tunnel)):
            return replace(around, tunnel=tunnel), self.put_right()
        if not cheaply:
            core.soon("roads")
        return replace(around, tunnel=tunnel), ""

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
        before, self._private = self._private, private
        if was_up and before not in (None, private):
            said = tuple(one for one in said if one != ANOTHER_KEY)
            self._shake_hands()
            if not self._up:
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
            if str(overlay_of(peer)) not in led or overlay_of(peer) in held.at
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
        self._held = HeldPeers()
        for code in ("encryption_missing", "encryption_device", "encryption_silent"):
            core.problems.clear(code)

    def take_out(self) -> None:
        """``neti down``: nothing of ours stays in the kernel. Raises DataplaneError."""
        if self._core.out.tunnel is not None and (self._core.own_key.wanted or self._in_the_way):
            self._core.out.tunnel.remove()
        self._up, self._held = False, HeldPeers()

    # --- what it knows ---

    @property
    def tunnel(self) -> Tunnel | None:
        """This host's end; None: there is none to be."""
        return self._tunnel

    @property
    def kind(self) -> Kind | None:
        """Of the device; None: there is none, or it is not as it should be."""
        door = self._core.out.tunnel
        return door.kind if door is not None and self._up else None

    @property
    def states(self) -> Mapping[PublicKey, PeerState]:
        """What the device had at the last look."""
        return self._states

    def last_handshake(self, host_id: str) -> float | None:
        """Unix seconds."""
        peer = self._held.peers.get(host_id)
        state = self._states.get(peer.key) if peer is not None else None
        return state.handshake if state is not None else None

    def silent(self) -> list[str]:
        """Members that must be reached through the tunnel, and do not answer there."""
        members = self._core.members
        if not members.requires:
            return []
        return [i for i, road in members.roads.items() if self._is_silent(i, road)]

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

    def _shake_hands(self) -> None:
        """All sessions ended with the former key. A peer that has read of the new one before the
        device had it would try again after five seconds only, so this end begins: a peer that is
        given a keepalive is sent one."""
        self._apply(
            [
                UpdatePeer(key, keepalive=seconds)
                for key, peer in self._held.wished().items()
                if not self._turns.waits(self._held.owners.get(key, ""))
                for seconds in (0, KEEPALIVE, peer.keepalive)
            ]
        )

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
        self._held, self._heard, self._states = HeldPeers(), {}, {}
        self._turns = Turns(seconds=THREE_ATTEMPTS)
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
                self._turns.end(host_id)
                held.take(host_id)
            elif wish != before:
                if before is not None and before.key != wish.key:
                    self._heard.pop(wish.key, None)
                loser = held.owners.get(wish.key)
                if loser is not None and loser != host_id:
                    held.take(loser, but=wish.key)
                    waiting.append(loser)
                changes.append(held.give(host_id, wish))
                if wish.keepalive:
                    again = self._turns.tries_again(host_id)
                    self._pause = min(self._pause, THREE_ATTEMPTS) if again else _FIRST
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
            return None
        if not self._asked_of(member).encrypts or key == core.own_key.public():
            return None
        return peer_of(
            member,
            key,
            host=core.host,
            sites=core.settings.sites,
            port=tunnel.port,
            tried=self._tries(host_id, key),
        )

    def _tries(self, host_id: str, key: PublicKey) -> bool:
        if self._answers(key):
            self._turns.end(host_id)
            return False
        return self._turns.begin(host_id, now=self._core.now())

    def _answers(self, key: PublicKey) -> bool:
        heard = self._heard.get(key)
        return heard is not None and heard.answers(self._core.now())

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
        answering = [self._answers(peer.key) for peer in held.peers.values()]
        self._pause = _EVERY if all(answering) else min(2 * self._pause, _EVERY)
        now = self._core.now()
        if any(one.doubted is not None and one.answers(now) for one in self._heard.values()):
            self._pause = min(self._pause, THREE_ATTEMPTS)
        self._look_soon()
        self._name_silent()
        self._turns.pass_on(now=now)
        other = [i for i, p in held.peers.items() if self._has_changed(i, p)]
        changes, roads = self._reckon(other)
        if not changes or self._apply(changes):
            self._go(roads)

    def _has_changed(self, host_id: str, peer: Peer) -> bool:
        """Whether it has answered, does not any more, or has its turn, and the peer is not so."""
        turns = self._turns
        if self._answers(peer.key):
            return bool(peer.keepalive) or host_id in turns
        return host_id not in turns or turns.tries(host_id) != bool(peer.keepalive)

    def _look_soon(self) -> None:
        self._core.soon("roads", max(self._pause, _COST * self._cost))

    def _name_silent(self) -> None:
        """Those who must be reached through the tunnel, and do not answer there."""
        core, silent = self._core, self.silent()
        core.problems.clear("encryption_silent")
        if silent:
            core.problems.set(
                "encryption_silent",
                f"{counted(len(silent), 'member')} that must be reached by the encrypted road "
                f"{'does' if len(silent) == 1 else 'do'} not answer there ({some(silent)}): "
                f"open UDP port {core.settings.tunnel_port} between the sites, both ways; "
                "neti verify ID",
            )

    def _is_silent(self, host_id: str, road: Road) -> bool:
        peer = self._held.peers.get(host_id)
        if road is not Road.REQUIRED or peer is None:
            return False
        heard, now = self._heard.get(peer.key), self._core.now()
        if heard is None or heard.answers(now) or self._turns.untried(host_id):
            return False
        return now - heard.since >= THREE_ATTEMPTS
