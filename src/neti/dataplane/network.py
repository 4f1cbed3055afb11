"""This machine's links, addresses and routes, by iproute2's JSON; and the one route that is ours.

The overlay's route leads to lo, so that nothing leaks to the wire should the rules be gone, and
carries what the uplink would have said: the source address, the MTU and the MSS. Must never touch
a route that does not bear our protocol number.
"""

import ipaddress
import json
import subprocess
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Final

from neti.errors import DataplaneError, DataplaneUnavailable
from neti.model import IPAddress

ROUTE_PROTOCOL: Final = 78  # not in iproute2's rt_protos; marks the route as ours
_IP_TIMEOUT: Final = 10.0
_TCP_IP_HEADERS: Final = 40  # IPv4 and TCP without options, RFC 879
_LEGACY_TABLES: Final = ("/proc/net/ip_tables_names", "/proc/net/ip6_tables_names")


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

    def addresses(self) -> frozenset[IPAddress]:
        return frozenset(address for link in self.links for address in link.addresses)

    def addresses_inside(self, subnet: IPv4Network) -> list[IPAddress]:
        return [a for a in self.addresses() if isinstance(a, IPv4Address) and a in subnet]

    def uplinks(self, private: IPv4Address) -> tuple[str, ...]:
        """Interfaces with a default route or the private address; never lo."""
        holders = {link.name for link in self.links if private in link.addresses}
        return tuple(sorted((holders | set(self.default_devices)) - {"lo"}))

    def mtu(self, devices: tuple[str, ...]) -> int | None:
        return min((link.mtu for link in self.links if link.name in devices), default=None)

    def own_route(self) -> Route | None:
        return next((route for route in self.overlapping if route.ours), None)


def read_network(overlay_subnet: IPv4Network) -> Network:
    routes = [
        *_ip("-4", "route", "show", "table", "all", "root", str(overlay_subnet)),
        *_ip("-4", "route", "show", "table", "all", "match", str(overlay_subnet)),
    ]
    overlapping = dict.fromkeys(route for item in routes if (route := _route(item)) is not None)
    routes = [r for family in ("-4", "-6") for r in _ip(family, "route", "show", "default")]
    defaults = {device for item in routes for device in _devices(item)}
    return Network(
        links=tuple(_link(item) for item in _ip("address", "show")),
        default_devices=tuple(sorted(defaults)),
        overlapping=tuple(overlapping),
        gateways=tuple(dict.fromkeys(gateway for item in routes for gateway in _gateways(item))),
    )


def set_overlay_route(
    overlay_subnet: IPv4Network, private: IPv4Address, mtu: int | None, *, anew: bool
) -> None:
    """Add our route (``anew``), or correct the one that is there. Raises DataplaneError while
    ``private`` is not this host's, or where somebody else has a route to the very subnet:
    "replace" would take that one's place."""
    words = [
        "route",
        "add" if anew else "replace",
        str(overlay_subnet),
        "dev",
        "lo",
        "src",
        str(private),
    ]
    words += ["protocol", str(ROUTE_PROTOCOL)]
    if mtu is not None:
        words += ["mtu", str(mtu), "advmss", str(mtu - _TCP_IP_HEADERS)]
    _run(["ip", "-4", *words])


def remove_overlay_route(overlay_subnet: IPv4Network) -> None:
    _run(
        [
            "ip",
            "-4",
            "route",
            "flush",
            "exact",
            str(overlay_subnet),
            "protocol",
            str(ROUTE_PROTOCOL),
        ]
    )


def legacy_iptables_in_use() -> bool:
    """Whether iptables-legacy has tables in this namespace; nftables' own events do not tell."""
    for path in _LEGACY_TABLES:
        try:
            if Path(path).read_text().strip():
                return True
        except OSError:
            continue
    return False


def _ip(*words: str) -> list[dict[str, Any]]:
    command = ["ip", "-json", *words]
    text = _run(command)
    try:
        items: list[dict[str, Any]] = json.loads(text) if text.strip() else []
    except ValueError as error:
        raise DataplaneError(f"the answer of {' '.join(command)!r} is no JSON: {error}") from error
    return items


def _run(words: list[str]) -> str:
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="surrogateescape",  # an interface may be named by nearly any bytes
            timeout=_IP_TIMEOUT,
            check=False,
        )
    except FileNotFoundError as error:
        raise DataplaneUnavailable("the program ip is missing: install iproute2") from error
    except subprocess.TimeoutExpired as error:
        raise DataplaneError(f"{' '.join(words)!r} did not end in {_IP_TIMEOUT:.0f} s") from error
    if done.returncode != 0:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        if "Operation not permitted" in said:
            raise DataplaneUnavailable(
                "the kernel does not let this process change routes: "
                "run it as root or with CAP_NET_ADMIN"
            )
        raise DataplaneError(f"{' '.join(words)!r}: {said}")
    return done.stdout


def _link(item: dict[str, Any]) -> Link:
    addresses = tuple(
        ipaddress.ip_address(entry["local"])
        for entry in item.get("addr_info", [])
        if "local" in entry
    )
    return Link(item.get("ifname", "?"), int(item.get("mtu", 0)), addresses)


def _devices(item: dict[str, Any]) -> list[str]:
    hops = item.get("nexthops") or [item]
    return [hop["dev"] for hop in hops if "dev" in hop]


def _gateways(item: dict[str, Any]) -> list[IPAddress]:
    """A gateway of the other family stands under "via" (RFC 5549)."""
    found = []
    for hop in item.get("nexthops") or [item]:
        said = hop.get("gateway") or (hop.get("via") or {}).get("host")
        if said:
            found.append(ipaddress.ip_address(said.partition("%")[0]))
    return found


def _route(item: dict[str, Any]) -> Route | None:
    text = item.get("dst", "default")
    if text == "default":
        return None
    metrics = (item.get("metrics") or [{}])[0]
    source = item.get("prefsrc")
    return Route(
        destination=IPv4Network(text),
        device=", ".join(_devices(item)) or item.get("type", "?"),
        protocol=str(item.get("protocol", "?")),
        source=IPv4Address(source) if source else None,
        mtu=metrics.get("mtu"),
    )
