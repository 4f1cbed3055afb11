"""Links, routes, sockets and other programs' tables of one machine. ``neti.host.machine.Machine``.

It passes the machine's contract tests.
"""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from neti.dataplane.foreign import Chain, Dropping, Table, droppings
from neti.dataplane.interfaces import DEFAULT_LOCAL_PORTS, Interface
from neti.errors import DataplaneError
from neti.host.network import Link, Network, Route
from neti.model import IPAddress
from neti.stage.shadow import Listener
from simulation.gate import Gate
from simulation.gateways import SimulatedInterfaces

SERVED: Final = 8080  # the port at which each host serves somebody who is no member
GATEWAY: Final = IPv4Address("10.0.255.1")
MTU: Final = 1500
_INTERFACES: Final = (Interface(1, "lo"), Interface(2, "eth0"))
_LISTENER: Final = Listener("tcp", SERVED, IPv4Address("0.0.0.0"))


def judging(name: str, *, drops: bool) -> Table:
    """Another program's table with one chain at input; ``drops``: what that chain does at last."""
    return Table("inet", name, "nft", {"input": Chain("input", "input", drops)})


class SimulatedHostsFile:
    """In memory, as ``/run`` is, and so passing no gate: the agent makes all of it anew."""

    def __init__(self) -> None:
        self.content: bytes | None = None

    def keep(self, content: bytes) -> None:
        self.content = content

    def altered(self) -> bool:
        return False

    def lines(self) -> list[str]:
        return (self.content or b"").decode().splitlines()


@dataclass(slots=True)
class SimulatedMachine:
    """``tables``: other programs' ones that judge input, by name."""

    gate: Gate
    private: IPv4Address
    routes: list[Route] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    gateways: tuple[IPAddress, ...] = (GATEWAY,)
    interfaces_: SimulatedInterfaces = field(init=False)
    _network: tuple[object, Network] | None = None  # as it was when it was last asked for

    def __post_init__(self) -> None:
        self.interfaces_ = SimulatedInterfaces(self.gate)

    def network(self, overlay_subnet: IPv4Network) -> Network:
        held = self._network
        if held is None or held[0] != (self.private, self.routes, self.gateways):
            links = (Link("eth0", MTU, (self.private,)),)
            seen = Network(links, ("eth0",), tuple(self.routes), self.gateways)
            held = self._network = (self.private, list(self.routes), self.gateways), seen
        return held[1]

    def set_overlay_route(
        self, overlay_subnet: IPv4Network, private: IPv4Address, mtu: int | None, *, anew: bool
    ) -> None:
        self.gate.effect("route.set")
        if private != self.private:
            raise DataplaneError(f"no route from {private}: it is not this machine's address")
        held = [route for route in self.routes if route.destination == overlay_subnet]
        if anew and held:
            raise DataplaneError("another program has a route to the very subnet")
        self.routes = [route for route in self.routes if route not in held[:1]]
        self.routes.append(Route(overlay_subnet, "lo", "78", private, mtu))

    def remove_overlay_route(self, overlay_subnet: IPv4Network) -> None:
        if any(route.ours for route in self.routes):
            self.gate.effect("route.remove")
        self.routes = [route for route in self.routes if not route.ours]

    def interfaces(self) -> tuple[Interface, ...]:
        return _INTERFACES

    def listeners(self) -> list[Listener]:
        return [_LISTENER]

    def local_ports(self) -> tuple[int, int]:
        return DEFAULT_LOCAL_PORTS

    def others_judging_input(self) -> tuple[str, ...]:
        return tuple(sorted(map(str, self.tables.values())))

    def control_groups(self) -> bool:
        return True

    def foreign_drops(self) -> tuple[tuple[Dropping, ...], tuple[str, ...]]:
        return tuple(one for table in self.tables.values() for one in droppings(table)), ()

    # --- what others do ---

    def moves_to(self, private: IPv4Address) -> None:
        """The kernel takes away the routes that name an address that goes."""
        self.routes = [route for route in self.routes if route.source != self.private]
        self.private = private

    def boot(self) -> None:
        self.routes, self.tables = [], {}
        self.interfaces_.forwarded = False
