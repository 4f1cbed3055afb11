"""Networks as nft takes them in an anonymous set. Pure.

Must never do: write two networks that overlap into one set.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, collapse_addresses

from neti.model.settings import IPNetwork


def by_family(networks: Iterable[IPNetwork]) -> Iterator[tuple[str, list[IPNetwork]]]:
    """``ip`` with the IPv4 networks, ``ip6`` with the IPv6 ones, each merged; empty ones left out.

    Merged because nft refuses overlapping intervals in one anonymous set.
    """
    every = list(networks)
    v4: list[IPNetwork] = list(collapse_addresses(n for n in every if isinstance(n, IPv4Network)))
    v6: list[IPNetwork] = list(collapse_addresses(n for n in every if isinstance(n, IPv6Network)))
    if v4:
        yield "ip", v4
    if v6:
        yield "ip6", v6


def listed(networks: Iterable[IPNetwork]) -> str:
    return "{ " + ", ".join(map(str, networks)) + " }"
