"""Reasons why Neti must not run on this host at all. Plain values in; changes nothing.

The caller reads routes, addresses and resolvers; names are resolved by a function it may replace.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_address

from neti.errors import ConfigError
from neti.model import IPAddress
from neti.settings import Settings

Resolve = Callable[[str], Collection[IPAddress]]


@dataclass(frozen=True, slots=True)
class SeenRoute:
    """A route as ``ip -json route`` shows it; ``protocol`` is a name or a number in digits."""

    destination: IPv4Network
    device: str
    protocol: str


def resolve_name(name: str) -> frozenset[IPAddress]:
    """The name's addresses by this host's resolver; none when it knows none."""
    import socket

    try:
        found = socket.getaddrinfo(name, None, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):
        return frozenset()
    return frozenset(ip_address(str(entry[4][0]).partition("%")[0]) for entry in found)


def ensemble_of(settings: Settings, site: str) -> tuple[str, ...]:
    """The ZooKeeper hosts that this site's agents use. ConfigError when there are none."""
    hosts = settings.zk_hosts.get(site, ())
    if not hosts:
        listed = ", ".join(name for name, some in settings.zk_hosts.items() if some) or "no site"
        raise ConfigError(
            f"{settings.path}: zk_hosts: lists hosts for {listed}, none for this host's own site "
            f"{site!r}: expected {site}: [host:port] there"
        )
    return hosts


def refuse_on_registry_host(
    settings: Settings,
    own_addresses: Collection[IPAddress],
    *,
    site: str | None = None,
    resolve: Resolve = resolve_name,
) -> None:
    """ConfigError when ``zk_hosts`` lists this host: the ensemble must not depend on Neti.

    With ``site`` given, another site's list counts by public addresses only, because private
    ranges of two sites may overlap and the same private address be two hosts.
    """
    own = frozenset(own_addresses)
    for name, endpoints in settings.zk_hosts.items():
        for endpoint in endpoints:
            addresses = _addresses(endpoint, resolve)
            if site is not None and name != site:
                addresses = frozenset(found for found in addresses if not found.is_private)
            for address in sorted(map(str, addresses & own)):
                raise ConfigError(
                    f"{settings.path}: zk_hosts.{name}: {endpoint} is this host ({address}): "
                    "ZooKeeper and its proxies must not run Neti; stop it here, or correct zk_hosts"
                )


def overlay_conflicts(
    overlay_subnet: IPv4Network,
    *,
    routes: Iterable[SeenRoute],
    addresses: Iterable[tuple[IPAddress, str]],
    resolvers: Iterable[IPAddress],
    own_protocol: int,
) -> tuple[str, ...]:
    """Everything of this host inside the overlay subnet, named; but for Neti's own route.

    ``addresses`` are pairs of address and device.
    """
    found = [
        f"route {route.destination} dev {route.device}"
        for route in routes
        if route.protocol != str(own_protocol) and route.destination.subnet_of(overlay_subnet)
    ]
    found += [
        f"address {address} dev {device}"
        for address, device in addresses
        if isinstance(address, IPv4Address) and address in overlay_subnet
    ]
    found += [
        f"resolver {address}"
        for address in resolvers
        if isinstance(address, IPv4Address) and address in overlay_subnet
    ]
    return tuple(dict.fromkeys(found))


def refuse_overlay_conflicts(settings: Settings, conflicts: Collection[str]) -> None:
    """ConfigError that names the conflicts, when there are any."""
    if not conflicts:
        return
    verb = "lies" if len(conflicts) == 1 else "lie"
    raise ConfigError(
        f"{settings.path}: overlay_subnet: {', '.join(conflicts)} {verb} inside "
        f"{settings.overlay_subnet}: choose another overlay_subnet for the fleet, or move it "
        "(Docker: default-address-pools in daemon.json)"
    )


def _addresses(endpoint: str, resolve: Resolve) -> frozenset[IPAddress]:
    host = endpoint.rpartition(":")[0].strip("[]")
    try:
        return frozenset({ip_address(host)})
    except ValueError:
        return frozenset(resolve(host))
