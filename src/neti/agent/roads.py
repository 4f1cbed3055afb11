"""The encrypted road to members of other sites: the device and what leads to it, in which order.
``neti.agent.reckoning`` says who has a peer there, and who is reached through it.

A member that gets a peer: the device first, then the kernel's table. One that loses it: the table,
then the device. So no element leads to a peer that is not there. While there is no device, members
are reached as if they had no key: in the clear, or not at all.

Must never do: touch the device while Neti is down, or before it is known who is a member.
"""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from neti import log
from neti.agent.core import Core
from neti.agent.handshakes import EVERY
from neti.agent.in_the_clear import contested
from neti.agent.journal import Journal
from neti.agent.passing import Passing
from neti.agent.reckoning import Reckoning
from neti.dataplane.wireguard import DEVICE
from neti.dataplane.wireguard.tunnel import Kind, WholeTunnel
from neti.errors import DataplaneError, DeviceMissing
from neti.model import Road
from neti.model.gateways import PORTS
from neti.model.wireguard_key import PrivateKey, PublicKey
from neti.ruleset.desired import Membership
from neti.ruleset.held_peers import overlay_of
from neti.ruleset.peers import (
    Change,
    PeerState,
    RemovePeer,
)
from neti.ruleset.roads import (
    tunnel_for,
)
from neti.ruleset.surroundings import Surroundings, Tunnel
from neti.text import printable
from neti.words import counted, some

_PROBLEMS: Final = (
    *("address_contested", "encryption_missing", "encryption_device", "encryption_silent"),
)
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
        self._beside: PublicKey | None = None  # this host's key then: nobody has a peer by that one
        self._reckoning = Reckoning(core)
        self.passing = Passing(core)
        # What the device was to be at the last look: its key, this host's end, the subnet.
        self._asked: tuple[PrivateKey, Tunnel, IPv4Network] | None = None
        self._in_the_way = True  # whether an earlier run may have left a device here

    # --- what is told ---

    def follow(self) -> None:
        """Members, keys and the stage as they are now. Changes of members must have been taken:
        after ``Journal.take_changes``, and before anything is committed."""
        core, members = self._core, self._core.members
        self.passing.follow()
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
            self._of = None  # who has changed until then is reckoned with everybody
            return
        if not self._up or not members.known:
            return
        anew = self._of is not members or self._beside != core.own_key.public()
        changes, roads = self._reckoning.reckon(self._reckoning.everybody() if anew else touched)
        self._of, self._beside = members, core.own_key.public()
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
        core, around = self._core, self.passing.prepare(around)
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
                self._reckoning.note(door.device())
                self._of, self._beside, self._up = core.members, core.own_key.public(), True
                _, roads = self._reckoning.reckon(self._reckoning.everybody())
            subnet = core.settings.overlay_subnet
            said = door.put_right(
                private, tunnel.port, tunnel.mtu, subnet, self._reckoning.held.wished()
            )
        except DataplaneError as error:
            self._lost(error)
            return ""
        before, self._asked = self._asked, (private, tunnel, subnet)
        self._reckoning.note(door.seen, started)
        if was_up and before is not None and before[0] != private:
            # All sessions ended with the former key. A peer that has read of the new one before the
            # device had it would try again after five seconds only, so this end begins.
            self._apply(self._reckoning.shake_hands())
            if not self._up:
                return ""
        cost = core.now() - started
        core.problems.clear("encryption_missing")
        core.problems.clear("encryption_device")
        core.timers.worked("roads")
        if not was_up:
            log.info("road_up", device=door.kind, port=tunnel.port, mtu=tunnel.mtu)
            self._go(roads)
        self._reckoning.handshakes.looked(self._reckoning.held.peers.values(), cost)
        self._look_soon()
        self._heed()
        # What is asked for now and was not at the last look is nobody else's doing.
        left = was_up and before in (None, self._asked)
        return f"{DEVICE}: {', '.join(said)}" if said and left else ""

    def _stands(self, tunnel: Tunnel) -> bool:
        try:
            return self._door().stands(tunnel.mtu, self._core.settings.overlay_subnet)
        except DataplaneError:
            return False

    def look(self) -> str:
        """The timer "roads": who has shaken hands, who does not answer any more, and whether the
        device is as it was left. Returns what it was not."""
        self._core.soon("roads", EVERY)
        self._journal.take_changes()
        self.follow()
        self._name_contested()
        return self.put_right()

    def settled(self) -> None:
        """After each transaction: peers go to which the kernel's table does not lead any more."""
        core, held = self._core, self._reckoning.held
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
            self._reckoning.handshakes.forget(key)

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
        self._reckoning.let_go()
        for code in _PROBLEMS:
            core.problems.clear(code)

    def take_out(self) -> None:
        """``neti down``: nothing of ours stays in the kernel. Raises DataplaneError."""
        if self._core.out.tunnel is not None and (self._core.own_key.wanted or self._in_the_way):
            self._core.out.tunnel.remove()
        self._up = False
        self._reckoning.let_go()

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
        return self._reckoning.handshakes.states

    def last_handshake(self, host_id: str) -> float | None:
        """Unix seconds."""
        peer = self._reckoning.held.peers.get(host_id)
        state = self.states.get(peer.key) if peer is not None else None
        return state.handshake if state is not None else None

    def silent(self) -> list[str]:
        """Members that must be reached through the tunnel, and do not answer there."""
        return self._reckoning.silent()

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
        # Where encryption is required nobody is reached in the clear instead: that is critical.
        mild = isinstance(error, DeviceMissing) and not core.members.only_encrypted
        code = "encryption_missing" if mild else "encryption_device"
        other = {"encryption_missing": "encryption_device"}.get(code, "encryption_missing")
        if code not in core.problems:
            log.error("no_road", what=str(error))
        core.problems.clear(other)
        core.problems.set(code, str(error))
        core.timers.retry("roads", core.now())
        self._let_go()

    def _let_go(self) -> None:
        self._up, self._of = False, None
        self._reckoning.let_go()
        members = self._core.members
        for host_id in list(members.roads):
            members.goes_by(host_id, None)

    # --- within: who goes by which road ---

    def _go(self, roads: Mapping[str, Road | None]) -> None:
        members = self._core.members
        for host_id, road in roads.items():
            if members.roads.get(host_id) != road:
                members.goes_by(host_id, road)

    # --- within: handshakes ---

    def _heed(self) -> None:
        """Those who have answered, those who do not any more, and whose turn it is."""
        self._name_silent()
        self._reckoning.handshakes.pass_on()
        anew = self._reckoning.shake_hands_anew()
        changes, roads = self._reckoning.reckon(self._reckoning.changed())
        changes = anew + changes
        if not changes or self._apply(changes):
            self._go(roads)

    def _look_soon(self) -> None:
        self._core.soon("roads", self._reckoning.handshakes.pause)

    def _name_silent(self) -> None:
        """Those who must be reached through the tunnel, and do not answer there."""
        core, silent = self._core, self.silent()
        core.problems.clear("encryption_silent")
        if silent:
            more = f", and ports {PORTS} to gateways" if core.members.gateways.used else ""
            core.problems.set(
                "encryption_silent",
                f"{counted(len(silent), 'member')} that must be reached by the encrypted road "
                f"{'does' if len(silent) == 1 else 'do'} not answer there ({some(silent)}): "
                f"open UDP port {core.settings.tunnel_port} between the sites, both ways{more}; "
                "neti fleet says who has another tunnel_port; neti verify ID",
            )

    def _name_contested(self) -> None:
        core = self._core
        found = contested(core)
        core.problems.clear("address_contested")
        if found:
            said = [f"{printable(a)} of {one}, by {other}" for a, (one, other) in found.items()]
            core.problems.set(
                "address_contested",
                "nothing goes in the clear to addresses of this site that members of a site which "
                f"requires encryption claim as well: {some(said)} → ranges in sites that do not "
                "overlap, public and ipv6",
            )
