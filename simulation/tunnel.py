"""The encrypted road of one machine: link, device, rule and route of
``neti.dataplane.wireguard.memory``, with each change an effect of its own; and the keys that this
machine makes.

Must never do: shake hands by itself. Whether two ends reach each other is the world's to know.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from ipaddress import IPv4Network

from neti.dataplane.wireguard.keys import public_half
from neti.dataplane.wireguard.memory import MemoryRoad, MemoryWireGuard
from neti.dataplane.wireguard.road import Road
from neti.dataplane.wireguard.tunnel import WholeTunnel
from neti.model.wireguard_key import PrivateKey, PublicKey
from neti.ruleset.peers import Change, Endpoint
from simulation.gate import Gate

_PACKET = 148  # bytes


@dataclass(slots=True)
class Keys:
    """``made``: how many so far. The same machine makes the same ones in each run."""

    label: str
    made: int = 0

    def new_key(self) -> PrivateKey:
        self.made += 1
        return self._number(self.made)

    def following(self) -> PublicKey:
        """The public half of the one that it makes next."""
        return public_half(self._number(self.made + 1))

    def texts(self) -> list[str]:
        """The private halves of all so far, as a file holds them."""
        return [self._number(number + 1).text() for number in range(self.made)]

    def publics(self) -> set[PublicKey | None]:
        return {public_half(self._number(number + 1)) for number in range(self.made)}

    def _number(self, number: int) -> PrivateKey:
        return PrivateKey(sha256(f"{self.label} {number}".encode()).digest())


class _Device(MemoryWireGuard):
    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    def configure(self, private: PrivateKey, port: int) -> None:
        self._gate.effect("tunnel.key")
        super().configure(private, port)

    def _change(self, change: Change) -> None:
        self._gate.effect("tunnel.peer")
        super()._change(change)

    # --- what the world does ---

    @property
    def public(self) -> PublicKey | None:
        return self._public if self.there else None

    def peers(self) -> list[PublicKey]:
        return list(self._peers)

    def has(self, key: PublicKey) -> bool:
        return key in self._peers

    def endpoint(self, key: PublicKey) -> Endpoint | None:
        state = self._peers.get(key)
        return state.peer.endpoint if state is not None else None

    def unanswered(self, key: PublicKey) -> None:
        """Something was sent to this peer."""
        state = self._peers[key]
        self._peers[key] = replace(state, sent=state.sent + _PACKET)

    def lose(self, number: int) -> None:
        """Another program takes a peer out."""
        if self._peers:
            self._remove(sorted(self._peers)[number % len(self._peers)])


class _Links(MemoryRoad):
    def __init__(self, device: _Device, gate: Gate, *, module: bool) -> None:
        super().__init__(device, module=module)
        self.listens = not module
        self._gate = gate

    def make_link(self) -> None:
        self._gate.effect("tunnel.link")
        super().make_link()

    def set_link(self, mtu: int) -> None:
        self._gate.effect("tunnel.link up")
        super().set_link(mtu)

    def delete_link(self) -> bool:
        if self.held.link is not None:
            self._gate.effect("tunnel.link away")
        return super().delete_link()

    def set_rule(self) -> None:
        self._gate.effect("tunnel.rule")
        super().set_rule()

    def delete_rules(self) -> int:
        if self.held.rules:
            self._gate.effect("tunnel.rule away")
        return super().delete_rules()

    def set_route(self, subnet: IPv4Network) -> None:
        self._gate.effect("tunnel.route")
        super().set_route(subnet)

    def delete_routes(self) -> int:
        if self.held.routes:
            self._gate.effect("tunnel.route away")
        return super().delete_routes()


class SimulatedTunnel(WholeTunnel):
    """What outlives an agent. ``at_hand`` gives each process a door of its own to it."""

    def __init__(self, gate: Gate, wall: Callable[[], float], *, module: bool) -> None:
        self.device_ = _Device(gate)
        self.device_.vanish()
        self.links = _Links(self.device_, gate, module=module)
        super().__init__(self.links, self.links, wall)

    def at_hand(self) -> WholeTunnel:
        return WholeTunnel(self.links, self.links, self._wall)

    def boot(self) -> None:
        self.links.vanish()
        self.links.held = Road(None)

    def remove_by_hand(self) -> bool:
        self.links.delete_rules()
        self.links.delete_routes()
        return self.links.delete_link()

    def works_again(self) -> None:
        """wireguard-go can be started, where this kernel has no module."""
        self.links.listens = not self.links.module
