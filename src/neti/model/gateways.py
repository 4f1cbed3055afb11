"""Gateways of sites whose hosts have no public address, and the UDP port that stands for each
overlay address on them. Pure.

On a gateway the destination port says for whom a packet is, and the source port from whom. So each
overlay address of the fleet has one port, the same on every host.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final

_LEAST: Final = 1024  # below are ports that need a right to listen there
_MOST: Final = 65535


@dataclass(frozen=True, slots=True)
class PortRange:
    """UDP ports ``first`` to ``last`` (1024-65535, inclusive); ValueError for any other."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not _LEAST <= self.first <= self.last <= _MOST:
            raise ValueError(f"{self.first}-{self.last} is no range within {_LEAST}-{_MOST}")

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


# As many as a /18 has addresses, and below the local ports that Linux gives to callers (32768).
PORTS: Final = PortRange(16384, 32767)


@dataclass(frozen=True, slots=True)
class GatewayPorts:
    """The port of each address of ``subnet``: the first port for the first address, and so on.
    ``tunnel``: WireGuard's port, by which a packet is told that did not come through a gateway.

    ValueError where they do not fit together; it says by how many.
    """

    subnet: IPv4Network
    tunnel: int
    ports: PortRange = PORTS

    def __post_init__(self) -> None:
        addresses = self.subnet.num_addresses
        if addresses > len(self.ports):
            raise ValueError(
                f"{self.subnet} has {addresses} addresses, and {self.ports} are only "
                f"{len(self.ports)} ports: a gateway needs one for each"
            )
        if self.tunnel in self.ports:
            raise ValueError(f"port {self.tunnel} is WireGuard's, and within {self.ports}")

    @property
    def probe(self) -> int:
        """The first port, which stands for nobody, as no host has a subnet's own address: a gateway
        sends back what a member sends there."""
        return self.ports.first

    @property
    def hosts(self) -> PortRange:
        """All others."""
        return PortRange(self.ports.first + 1, self.ports.last)

    def port(self, overlay: IPv4Address) -> int:
        """ValueError for an address outside the subnet."""
        if overlay not in self.subnet:
            raise ValueError(f"{overlay} is not in {self.subnet}")
        return self.ports.first + int(overlay) - int(self.subnet.network_address)

    def overlay(self, port: int) -> IPv4Address | None:
        """None: the port stands for no address."""
        index = port - self.ports.first
        if not 0 <= index < self.subnet.num_addresses:
            return None
        return self.subnet.network_address + index


@dataclass(frozen=True, slots=True)
class Gateway:
    """A member that passes on what its site's hosts and other sites send each other. ``private``:
    where its own site finds it; ``public``: where others do, one to one and for itself alone."""

    id: str
    site: str
    private: IPv4Address
    public: IPv4Address
