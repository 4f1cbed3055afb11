"""What enforcing would break in a whole fleet, tier by tier, and the lines that keep it. Pure.

(what each host says of its ports) -> for each port the hosts, and one line for ``open_ports``.

Must never do: count a host that does not say among those where nothing would break.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import Final

from neti.model.settings import IPNetwork
from neti.registry.hurts import Hurt, Hurts
from neti.stage.preview import open_line
from neti.stage.shadow import parse_port

MOST_IN_A_LINE: Final = 8  # networks, as ``neti preview`` names them
_STEPS: Final[tuple[tuple[int, int], ...]] = ((24, 64), (16, 48), (8, 32))  # of IPv4, of IPv6


@dataclass(frozen=True, slots=True, kw_only=True)
class PortLost:
    """``hosts``: where it is in use, and would be shut; ``sources``: of all of them together, where
    the same one counts for each; ``line``: for open_ports; None: open_ports cannot let in all of
    it. ``wider``: the line lets in more than came: whole networks, or everybody."""

    port: str
    hosts: tuple[str, ...]
    sources: int
    line: str | None
    wider: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """``ports``: those on most hosts come first; ``silent``: hosts that do not say, or did not for
    long; ``young``: hosts that have not watched for ``long_enough``; ``cut``: by host, how many
    more ports it has than it had room to name."""

    hosts: int
    ports: tuple[PortLost, ...]
    silent: tuple[str, ...]
    young: tuple[str, ...]
    cut: Mapping[str, int]


def lost(told: Mapping[str, Hurts | None], now: float, long_enough: float) -> Lost:
    """Of these hosts, by id. ``now``: Unix seconds; ``long_enough``: seconds within which whatever
    comes regularly has come."""
    by_port: dict[str, list[tuple[str, Hurt]]] = {}
    for host_id, hurts in sorted(told.items()):
        for one in hurts.at if hurts is not None else ():
            by_port.setdefault(one.port, []).append((host_id, one))
    ports = [_port(port, held) for port, held in by_port.items()]
    said = {host_id: hurts for host_id, hurts in told.items() if hurts is not None}
    return Lost(
        hosts=len(told),
        ports=tuple(sorted(ports, key=lambda p: (-len(p.hosts), -p.sources, p.port))),
        silent=tuple(sorted(told.keys() - said.keys())),
        young=tuple(
            i
            for i, h in sorted(said.items())
            if h.since is not None and now - h.since < long_enough
        ),
        cut={i: more for i, h in sorted(said.items()) if (more := h.ports - len(h.at)) > 0},
    )


def _port(port: str, held: list[tuple[str, Hurt]]) -> PortLost:
    networks = [one.networks for _, one in held]
    line, wider = _line(port, [each for each in networks if each is not None])
    return PortLost(
        port=port,
        hosts=tuple(host_id for host_id, _ in held),
        sources=sum(one.sources for _, one in held),
        line=line if None not in networks else None,
        wider=wider,
    )


def _line(port: str, networks: Collection[Collection[str]]) -> tuple[str | None, bool]:
    parsed = parse_port(port)
    if parsed[0] not in ("tcp", "udp") or not parsed[1]:
        return None, False
    if not all(networks):
        return open_line(parsed, ()), True
    named = {ip_network(one) for each in networks for one in each}
    wide = wide_enough(named, MOST_IN_A_LINE)
    return open_line(parsed, wide), any(one.prefixlen < one.max_prefixlen for one in wide)


def wide_enough(networks: Iterable[IPNetwork], most: int) -> tuple[IPNetwork, ...]:
    """These, merged, and made wider until they are ``most`` at most; none: everybody."""
    found = _merged(networks)
    for of_four, of_six in _STEPS:
        if len(found) <= most:
            break
        found = _merged(
            one.supernet(new_prefix=least) if one.prefixlen > least else one
            for one in found
            for least in [of_four if one.version == 4 else of_six]
        )
    return tuple(found) if len(found) <= most else ()


def _merged(networks: Iterable[IPNetwork]) -> list[IPNetwork]:
    every = list(networks)
    v4 = collapse_addresses(one for one in every if isinstance(one, IPv4Network))
    v6 = collapse_addresses(one for one in every if isinstance(one, IPv6Network))
    return [*v4, *v6]
