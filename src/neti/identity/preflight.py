"""What must be true before Neti may touch a host. Pure, except for looking up the registry's
names."""

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from neti.errors import ConfigError
from neti.model import IPAddress
from neti.model.settings import Settings

Resolve = Callable[[str], Iterable[IPAddress]]

# Ranges that every network may use for itself (RFC 1918, RFC 6598).
_REUSED: Final = tuple(
    IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
)
_PATIENCE: Final = 5.0
_RESOLV_CONF: Final = Path("/etc/resolv.conf")


def registry_addresses(
    settings: Settings,
    site: str | None = None,
    *,
    resolve: Resolve | None = None,
    patience: float = _PATIENCE,
) -> dict[IPAddress, str]:
    """Address -> the entry of zk_hosts that means it, this host's own site first. Names that do not
    resolve are left out, and so are those that do not within ``patience`` seconds for all of them.

    If this host's ``site`` is known, only globally unique addresses of another site's list count:
    where private ranges overlap, its 10.0.0.5 is not this site's.
    """
    if settings.embedded is not None:
        return {}
    own_site = site or settings.site
    own_first = sorted(settings.zk_hosts.items(), key=lambda item: item[0] != own_site)
    names = dict.fromkeys(_name(place) for _, listed in own_first for place in listed)
    known = _resolved(names, resolve or _addresses, patience)
    found: dict[IPAddress, str] = {}
    for listing_site, listed in own_first:
        elsewhere = own_site is not None and listing_site != own_site
        for place in listed:
            for address in known.get(_name(place), ()):
                if not (elsewhere and _inside_any(address, _REUSED)):
                    found.setdefault(address, place)
    return found


def _name(place: str) -> str:
    return place.rpartition(":")[0].strip("[]")


def _resolved(
    names: Iterable[str], resolve: Resolve, patience: float
) -> dict[str, list[IPAddress]]:
    """All at once, because with a dead resolver each would take its own time to fail. A look-up
    cannot be called off, so one that takes longer ends in a thread that nobody waits for."""
    found: dict[str, list[IPAddress]] = {}

    def look_up(name: str) -> None:
        found[name] = list(resolve(name))

    threads = [
        threading.Thread(target=look_up, args=(name,), name="neti-resolver", daemon=True)
        for name in names
    ]
    until = time.monotonic() + patience
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return dict(found)


def _addresses(name: str) -> list[IPAddress]:
    try:
        return [ipaddress.ip_address(name)]
    except ValueError:
        pass
    try:
        answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # UnicodeError: not a valid name for a resolver
        return []
    return [ipaddress.ip_address(str(answer[4][0]).partition("%")[0]) for answer in answers]


def refuse_on_registry_host(
    registry: dict[IPAddress, str], own_addresses: Iterable[IPAddress]
) -> None:
    """The ensemble and its proxies must not run Neti: they must stay reachable when Neti fails."""
    for address in own_addresses:
        place = registry.get(address)
        if place is not None and not address.is_loopback:
            raise ConfigError(
                f"this host has the address {address}, which zk_hosts lists ({place}): "
                "ZooKeeper's servers and proxies must not run Neti"
            )


def overlay_conflicts(
    overlay_subnet: IPv4Network,
    *,
    routes: Iterable[tuple[IPv4Network, str]],
    addresses: Iterable[IPAddress],
    resolvers: Iterable[IPAddress] | None = None,
) -> tuple[str, ...]:
    """What on this host lies inside the overlay, in words. ``routes``: not Neti's (network,
    device).

    ``resolvers`` None: those of /etc/resolv.conf.
    """
    conflicts = [f"route {n} dev {d}" for n, d in routes if n.subnet_of(overlay_subnet)]
    conflicts += [f"address {a}" for a in addresses if _inside(a, overlay_subnet)]
    listed = resolvers_of_this_host() if resolvers is None else resolvers
    conflicts += [f"resolver {a}" for a in listed if _inside(a, overlay_subnet)]
    return tuple(dict.fromkeys(conflicts))


def refuse_overlay_conflicts(
    overlay_subnet: IPv4Network,
    *,
    routes: Iterable[tuple[IPv4Network, str]],
    addresses: Iterable[IPAddress],
    resolvers: Iterable[IPAddress] | None = None,
) -> None:
    """Raises ConfigError that names what on this host lies inside the overlay, if anything."""
    conflicts = overlay_conflicts(
        overlay_subnet, routes=routes, addresses=addresses, resolvers=resolvers
    )
    if conflicts:
        raise ConfigError(
            f"overlay_subnet {overlay_subnet} contains this host's own {'; '.join(conflicts)}. "
            "Choose another overlay_subnet for the fleet, or move what is there (Docker: "
            "default-address-pools)"
        )


def _inside_any(address: IPAddress, networks: Iterable[IPv4Network]) -> bool:
    return any(_inside(address, network) for network in networks)


def _inside(address: IPAddress, subnet: IPv4Network) -> bool:
    return isinstance(address, IPv4Address) and address in subnet


def resolvers_of_this_host() -> list[IPAddress]:
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
