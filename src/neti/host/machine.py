"""What the agent sees and touches of this machine beside nftables: links, routes, who judges input.

A Protocol so that the loop is tested without a kernel; ``RealMachine`` is thin on purpose.
"""

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final, Protocol

from neti.dataplane import capabilities, interfaces
from neti.dataplane.foreign import Dropping, legacy
from neti.dataplane.foreign.look import ForeignTables
from neti.dataplane.foreign.read import RulesReader
from neti.dataplane.interfaces import Interface
from neti.dataplane.listing import name
from neti.host import network
from neti.host.listeners import listeners
from neti.host.network import Network
from neti.stage.shadow import Listener

DISABLED_FILE: Final = Path("/etc/neti/disabled")
_KERNEL_COMMAND_LINE: Final = Path("/proc/cmdline")
_HOOKS_THAT_MATTER: Final = frozenset({"input", "prerouting", "output"})
_FAMILIES: Final = frozenset({"ip", "ip6", "inet"})


class Machine(Protocol):
    """Raises DataplaneError."""

    def network(self, overlay_subnet: IPv4Network) -> Network: ...

    def interfaces(self) -> tuple[Interface, ...]: ...

    def listeners(self) -> list[Listener]: ...

    def local_ports(self) -> tuple[int, int]:
        """The range from which this machine takes ports for what it opens itself."""

    def set_overlay_route(
        self, overlay_subnet: IPv4Network, private: IPv4Address, mtu: int | None, *, anew: bool
    ) -> None: ...

    def remove_overlay_route(self, overlay_subnet: IPv4Network) -> None: ...

    def others_judging_input(self) -> tuple[str, ...]:
        """Names of other tables that see packets before or beside our input chain."""

    def control_groups(self) -> bool:
        """Whether rules can tell by which control group (version 2) a packet was sent."""

    def foreign_drops(self) -> tuple[tuple[Dropping, ...], tuple[str, ...]]:
        """Other tables that drop what we let in; sentences about what cannot be told."""


class RealMachine:
    """Works in the network namespace of the thread that made it."""

    def __init__(self) -> None:
        self._reader = RulesReader()
        self._foreign = ForeignTables(self._reader)

    def network(self, overlay_subnet: IPv4Network) -> Network:
        return network.read_network(overlay_subnet)

    def interfaces(self) -> tuple[Interface, ...]:
        return interfaces.interfaces()

    def listeners(self) -> list[Listener]:
        return listeners()

    def local_ports(self) -> tuple[int, int]:
        return interfaces.local_ports()

    def set_overlay_route(
        self, overlay_subnet: IPv4Network, private: IPv4Address, mtu: int | None, *, anew: bool
    ) -> None:
        network.set_overlay_route(overlay_subnet, private, mtu, anew=anew)

    def remove_overlay_route(self, overlay_subnet: IPv4Network) -> None:
        network.remove_overlay_route(overlay_subnet)

    def others_judging_input(self) -> tuple[str, ...]:
        found = {
            f"table {chain.family} {name(chain.table)}"
            for chain in self._reader.base_chains()
            if chain.hook in _HOOKS_THAT_MATTER and chain.family in _FAMILIES
        }
        if legacy.in_use():
            found.add("iptables-legacy")
        return tuple(sorted(found))

    def control_groups(self) -> bool:
        return capabilities.control_groups()

    def foreign_drops(self) -> tuple[tuple[Dropping, ...], tuple[str, ...]]:
        return self._foreign.look(), self._foreign.untold


def switched_off() -> str | None:
    """The console's way in: why nothing may be loaded on this machine, or None."""
    if DISABLED_FILE.exists():
        return f"{DISABLED_FILE} exists"
    try:
        words = _KERNEL_COMMAND_LINE.read_text().split()
    except OSError:
        return None
    return "neti=off stands on the kernel's command line" if "neti=off" in words else None
