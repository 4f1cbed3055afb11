"""Gateways: forwarding of one machine's uplink, probes, and the way of WireGuard's packets from one
machine to another by the maps that the kernels hold.

Must never do: judge by what an agent believes, or carry a packet that no map names.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Final

from neti.model.gateways import PORTS
from neti.ruleset.peers import Endpoint
from neti.ruleset.set_names import SetName
from simulation.gate import Gate

if TYPE_CHECKING:
    from simulation.host import SimulatedHost
    from simulation.world import World

UPLINK: Final = "eth0"
_RELAYS: Final = "gateway_arrived"  # the chain that only a gateway has
_SENDS: Final = ("gateway_to", "gateway_in")  # those that every host has that uses gateways


class SimulatedInterfaces:
    """``neti.dataplane.forwarding.Interfaces``: whether the uplink forwards, agent or not."""

    def __init__(self, gate: Gate) -> None:
        self.forwarded = False
        self.unplugged = False  # nothing goes in or out
        self._gate = gate

    def forwards(self, name: str) -> bool | None:
        return self.forwarded if name == UPLINK else None

    def forward(self, name: str, on: bool) -> None:
        self._gate.effect("forwarding on" if on else "forwarding off")
        if name == UPLINK:
            self.forwarded = on


class SimulatedProbes:
    """One process's. An answer is there at once. ``neti.agent.probe_socket.ProbeDoor``."""

    def __init__(self, host: "SimulatedHost") -> None:
        self.opened: int | None = None
        self._host = host
        self._heard: list[tuple[bytes, IPv4Address]] = []

    def open(self, port: int) -> None:
        self.opened = port

    def ask(self, to: IPv4Address, word: bytes) -> None:
        if self.opened == PORTS.first and sends_back(self._host, to):
            self._heard.append((word, to))

    def answers(self) -> Iterator[tuple[bytes, IPv4Address]]:
        heard, self._heard = self._heard, []
        yield from heard

    def close(self) -> None:
        self.opened, self._heard = None, []


def sends_back(host: "SimulatedHost", to: IPv4Address) -> bool:
    """Whether the gateway at this address passes on what this host sends there."""
    if not _has(host, *_SENDS):
        return False
    own = host.host
    for gateway in host.world.hosts:
        if gateway.host.site == own.site and gateway.host.private == to:
            return relays(gateway) and str(own.private) in _map(gateway, "gateway_own")
        if gateway.host.site != own.site and gateway.host.public == to:
            known = str(own.public) in _map(gateway, "gateway_public")
            known |= str(own.public) in _map(gateway, "gateways")
            return relays(gateway) and known and not host.world.udp_blocked
    return False


def arrives(sender: "SimulatedHost", to: Endpoint, receiver: "SimulatedHost") -> bool:
    """Whether what ``sender``'s WireGuard sends to this endpoint gets to ``receiver``'s."""
    world = sender.world
    if to.port not in PORTS:
        return receiver.host.public == to.address and not world.udp_blocked
    if not _has(sender, *_SENDS) or not _has(receiver, *_SENDS):
        return False
    port, own = str(to.port), sender.host
    if near := next(iter(_map(sender, "gateway_near").values()), None):
        first = _at_private(world, own.site, near)
        if first is None or not relays(first) or str(own.private) not in _map(first, "gateway_own"):
            return False
        if direct := _map(first, "gateway_direct").get(port):
            if world.udp_blocked or str(receiver.host.public) != direct:
                return False
            return str(first.host.public) in _map(receiver, "gateways")
        far = _map(first, "gateway_far").get(port)
        source = str(first.host.public)
    else:
        far, source = _map(sender, "gateway_far").get(port), str(own.public)
    last = _at_public(world, far)
    if last is None or world.udp_blocked or not relays(last):
        return False
    if source not in _map(last, "gateways") and source not in _map(last, "gateway_public"):
        return False
    if _map(last, "gateway_inside").get(port) != str(receiver.host.private):
        return False
    mine = last.host.site == receiver.host.site
    return mine and str(last.host.private) in _map(receiver, "gateways")


def relays(host: "SimulatedHost") -> bool:
    """Whether it forwards, and has the rules that say what."""
    interfaces = host.machine.interfaces_
    return interfaces.forwarded and not interfaces.unplugged and has_role(host)


def has_role(host: "SimulatedHost") -> bool:
    """Whether the rules of a gateway are in its kernel."""
    return _has(host, _RELAYS)


def _has(host: "SimulatedHost", *chains: str) -> bool:
    table = host.kernel.table
    return table is not None and all(chain in table.chains for chain in chains)


def _map(host: "SimulatedHost", where: SetName) -> dict[str, str]:
    table = host.kernel.table
    return {} if table is None else dict(table.elements.get(where, {}))


def _at_private(world: "World", site: str, address: str) -> "SimulatedHost | None":
    held = (h for h in world.hosts if h.host.site == site and str(h.host.private) == address)
    return next(held, None)


def _at_public(world: "World", address: str | None) -> "SimulatedHost | None":
    return next((h for h in world.hosts if str(h.host.public) == address), None)
