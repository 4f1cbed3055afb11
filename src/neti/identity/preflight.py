"""What must be so before Neti may touch a host. Pure but for looking up the registry's names."""

import ipaddress
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from neti.errors import ConfigError
from neti.model import IPAddress
from neti.settings import Settings

_RESOLV_CONF: Final = Path("/etc/resolv.conf")


def registry_addresses(settings: Settings) -> dict[IPAddress, str]:
    """Address -> the entry of zk_hosts that means it. Names that do not resolve are left out."""
    if settings.embedded is not None:
        return {}
    found: dict[IPAddress, str] = {}
    for listed in settings.zk_hosts.values():
        for place in listed:
            for address in _addresses(place.rpartition(":")[0].strip("[]")):
                found[address] = place
    return found


def _addresses(name: str) -> list[IPAddress]:
    try:
        return [ipaddress.ip_address(name)]
    except ValueError:
        pass
    try:
        answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [ipaddress.ip_address(str(answer[4][0]).partition("%")[0]) for answer in answers]


def refuse_on_registry_host(
    registry: dict[IPAddress, str], own_addresses: Iterable[IPAddress]
) -> None:
    """The ensemble and its proxies must not run Neti: they must be reachable when it is not."""
    for address in own_addresses:
        place = registry.get(address)
        if place is not None and not address.is_loopback:
            raise ConfigError(
                f"this host has the address {address}, which zk_hosts lists ({place}): "
                "ZooKeeper's servers and proxies must not run Neti"
            )


def refuse_overlay_conflicts(
    overlay_subnet: IPv4Network,
    *,
    routes: Iterable[tuple[IPv4Network, str]],
    addresses: Iterable[IPAddress],
    resolvers: Iterable[IPAddress] | None = None,
) -> None:
    """Nothing of this host may lie inside the overlay. ``routes``: others' (network, device)."""
    conflicts = [f"route {n} dev {d}" for n, d in routes if n.subnet_of(overlay_subnet)]
    conflicts += [f"address {a}" for a in addresses if _inside(a, overlay_subnet)]
    listed = _resolvers() if resolvers is None else resolvers
    conflicts += [f"resolver {a}" for a in listed if _inside(a, overlay_subnet)]
    if conflicts:
        raise ConfigError(
            f"overlay_subnet {overlay_subnet} contains this host's own {'; '.join(conflicts)}: "
            "choose another overlay_subnet for the fleet, or move what is there "
            "(Docker: default-address-pools)"
        )


def _inside(address: IPAddress, subnet: IPv4Network) -> bool:
    return isinstance(address, IPv4Address) and address in subnet


def _resolvers() -> list[IPAddress]:
    try:
        lines = _RESOLV_CONF.read_text(errors="replace").splitlines()
    except OSError:
        return []
    found: list[IPAddress] = []
    for line in lines:
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                found.append(ipaddress.ip_address(words[1].partition("%")[0]))
            except ValueError:
                continue
    return found
