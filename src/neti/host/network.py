"""This machine's links, addresses and routes, as far as they matter; and our one route.

The overlay's route leads to lo, so that nothing leaks to the wire should the rules be gone, and
carries what the uplink would have said: the source address, the MTU and the MSS. Must never touch
a route that does not bear our protocol number.
"""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from neti.dataplane import rtnetlink
from neti.errors import DataplaneError, DataplaneUnavailable, KernelRefused
from neti.model import IPAddress

ROUTE_PROTOCOL: Final = 78  # marks the route as ours
_TCP_IP_HEADERS: Final = 40  # IPv4 and TCP without options, RFC 879
_HINTS: Final = {
    errno.EEXIST: ": another program has a route to the very subnet, which is not touched",
    errno.EINVAL: ": is the private address on an interface, and is lo up?",
    errno.ENETDOWN: ": is lo up?",
}


@dataclass(frozen=True, slots=True)
class Link:
    name: str
    mtu: int
    addresses: tuple[IPAddress, ...]


@dataclass(frozen=True, slots=True)
class Route:
    destination: IPv4Network
    device: str
    protocol: str
    source: IPv4Address | None
    mtu: int | None

    @property
    def ours(self) -> bool:
        return self.protocol == str(ROUTE_PROTOCOL)

    def __str__(self) -> str:
        return f"{self.destination} dev {self.device}"


@dataclass(frozen=True, slots=True)
class Network:
    """What was read at one moment. ``overlapping``: routes inside the overlay or around it, but
    for the default route."""

    links: tuple[Link, ...]
    default_devices: tuple[str, ...]
    overlapping: tuple[Route, ...]
    gateways: tuple[IPAddress, ...] = ()
    temporary: tuple[IPAddress, ...] = ()  # of IPv6: what this host sends from, unless told else

    def addresses(self) -> frozenset[IPAddress]:
        return frozenset(address for link in self.links for address in link.addresses)

    def had_connections(self) -> bool:
        """Whether somebody may have connected from or to this machine: not before it has an address
        that leads out of it."""
        return any(not (a.is_loopback or a.is_link_local) for a in self.addresses())

    def uplinks(self, private: IPv4Address) -> tuple[str, ...]:
        """Interfaces with a default route or the private address; never lo."""
        holders = {link.name for link in self.links if private in link.addresses}
        return tuple(sorted((holders | set(self.default_devices)) - {"lo"}))

    def mtu(self, devices: tuple[str, ...]) -> int | None:
        return min((link.mtu for link in self.links if link.name in devices), default=None)

    def own_route(self) -> Route | None:
        return next((route for route in self.overlapping if route.ours), None)


def read_network(overlay_subnet: IPv4Network) -> Network:
    """Of routes only those that rules lead to: defaults, and what overlaps the overlay."""
    with rtnetlink.opened() as kernel:
        interfaces = kernel.interfaces()
        addresses = kernel.addresses()
        found = kernel.routes(rtnetlink.IPV4, kernel.tables_in_use(rtnetlink.IPV4), overlay_subnet)
        defaults = [r for r in found if r.prefix == 0 and r.table == rtnetlink.MAIN]
        defaults += kernel.routes(rtnetlink.IPV6, [rtnetlink.MAIN])
    names = {one.index: one.name for one in interfaces}
    devices = {names[index] for route in defaults for index in route.devices if index in names}
    return Network(
        links=tuple(_link(one, addresses) for one in interfaces),
        default_devices=tuple(sorted(devices)),
        overlapping=tuple(
            dict.fromkeys(
                _route(r, names)
                for r in found
                if r.prefix and r.network().overlaps(overlay_subnet) and not _to_device(r)
            )
        ),
        gateways=tuple(dict.fromkeys(g for route in defaults for g in route.gateways)),
        temporary=tuple(dict.fromkeys(a.address for a in addresses if a.temporary)),
    )


def set_overlay_route(
    overlay_subnet: IPv4Network, private: IPv4Address, mtu: int | None, *, anew: bool
) -> None:
    """Add our route (``anew``), or correct the one that is there. Raises DataplaneError while
    ``private`` is not this host's, or where somebody else has a route to the very subnet:
    "replace" would take that one's place."""
    what = f"the route to {overlay_subnet} by lo from {private}"
    with rtnetlink.opened() as kernel, _in_words(what):
        kernel.write_route(
            overlay_subnet,
            device=socket.if_nametoindex("lo"),
            source=private,
            protocol=ROUTE_PROTOCOL,
            mtu=mtu,
            advmss=None if mtu is None else mtu - _TCP_IP_HEADERS,
            anew=anew,
        )


def remove_overlay_route(overlay_subnet: IPv4Network) -> None:
    with rtnetlink.opened() as kernel, _in_words(f"the route to {overlay_subnet}"):
        kernel.delete_routes(overlay_subnet, protocol=ROUTE_PROTOCOL)


@contextmanager
def _in_words(what: str) -> Iterator[None]:
    try:
        yield
    except KernelRefused as error:
        if error.number == errno.EPERM:
            raise DataplaneUnavailable(
                "the kernel does not let this process change routes: "
                "run it as root or with CAP_NET_ADMIN"
            ) from error
        hint = _HINTS.get(error.number, "")
        raise DataplaneError(f"{what}: the kernel says {error}{hint}") from error
    except OSError as error:
        raise DataplaneError(f"{what}: {error.strerror}") from error


def _to_device(route: rtnetlink.KernelRoute) -> bool:
    """Ours, but not the overlay's own: where marked packets go, see dataplane.wireguard.road."""
    return route.protocol == ROUTE_PROTOCOL and route.table != rtnetlink.MAIN


def _link(one: rtnetlink.Interface, addresses: list[rtnetlink.Address]) -> Link:
    own = tuple(each.address for each in addresses if each.index == one.index)
    return Link(one.name, one.mtu, own)


def _route(route: rtnetlink.KernelRoute, names: dict[int, str]) -> Route:
    devices = [names.get(index, f"number {index}") for index in route.devices]
    return Route(
        destination=route.network(),
        device=", ".join(devices) or route.kind_name,
        protocol=str(route.protocol),
        source=route.source,
        mtu=route.mtu,
    )
