"""Links, routes, sockets and other programs of one machine. ``neti.host.machine.Machine``."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from neti.dataplane.foreign import Dropping
from neti.dataplane.interfaces import DEFAULT_LOCAL_PORTS, Interface
from neti.host.network import Link, Network, Route
from neti.model import IPAddress
from neti.stage.shadow import Listener
from simulation.gate import Gate

SERVED = 8080  # the port at which each host serves somebody who is no member
GATEWAY = IPv4Address("10.0.255.1")


@dataclass(slots=True)
class SimulatedMachine:
    gate: Gate
    private: IPv4Address
    routes: list[Route] = field(default_factory=list)
    others: tuple[str, ...] = ()
    gateways: tuple[IPAddress, ...] = (GATEWAY,)

    def network(self, overlay_subnet: IPv4Network) -> Network:
        links = (Link("eth0", 1500, (self.private,)),)
        return Network(links, ("eth0",), tuple(self.routes), self.gateways)

    def set_overlay_route(
        self, overlay_subnet: IPv4Network, private: IPv4Address, mtu: int | None, *, anew: bool
    ) -> None:
        self.gate.effect("route.set")
        self.remove_overlay_route(overlay_subnet)
        self.routes.append(Route(overlay_subnet, "lo", "78", private, mtu))

    def remove_overlay_route(self, overlay_subnet: IPv4Network) -> None:
        self.routes = [route for route in self.routes if not route.ours]

    def interfaces(self) -> tuple[Interface, ...]:
        return (Interface(1, "lo"), Interface(2, "eth0"))

    def listeners(self) -> list[Listener]:
        return [Listener("tcp", SERVED, IPv4Address("0.0.0.0"))]

    def local_ports(self) -> tuple[int, int]:
        return DEFAULT_LOCAL_PORTS

    def others_judging_input(self) -> tuple[str, ...]:
        return self.others

    def foreign_drops(self) -> tuple[tuple[Dropping, ...], tuple[str, ...]]:
        return (), ()
