"""Which overlay address a host tries first, and what to say when there is none. Pure.

Must never do: prefer the same free address for two hosts that start at the same moment.
"""

import hashlib
from collections.abc import Container, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from math import gcd

from neti.errors import IdentityHeld, LeaseConflict, OverlayExhausted, RegistryError
from neti.model.entry import HOST_ID
from neti.text import command


@dataclass(frozen=True, slots=True)
class DamagedLease:
    """Half a lease: ``says`` is its text, which is no address, or that of another host."""

    says: str


def usable(subnet: IPv4Network) -> range:
    """The subnet's addresses as integers, without the network and the broadcast address."""
    first = int(subnet.network_address)
    if subnet.num_addresses <= 2:
        return range(first, first + subnet.num_addresses)
    return range(first + 1, first + subnet.num_addresses - 1)


def candidates(
    host_id: str,
    subnet: IPv4Network,
    taken: Container[IPv4Address],
    *,
    prefer: IPv4Address | None = None,
) -> Iterator[IPv4Address]:
    """Every address of the subnet that is not in ``taken``, in this host's own order, after the
    preferred one (which may come twice).

    Start and stride come from a hash of the id, so ten thousand hosts that begin with the same list
    try different addresses instead of queueing for one.
    """
    addresses = usable(subnet)
    if prefer is not None and int(prefer) in addresses and prefer not in taken:
        yield prefer
    digest = hashlib.sha256(host_id.encode()).digest()
    position = int.from_bytes(digest[:8], "big") % len(addresses)
    stride = int.from_bytes(digest[8:16], "big") % len(addresses) or 1
    while gcd(stride, len(addresses)) != 1:
        stride += 1
    for _ in addresses:
        address = IPv4Address(addresses[position])
        if address not in taken:
            yield address
        position = (position + stride) % len(addresses)


def exhausted(host_id: str, subnet: IPv4Network) -> OverlayExhausted:
    return OverlayExhausted(
        f"no overlay address is free for {host_id} in {subnet}: all {len(usable(subnet))} are "
        "leased; release those of retired hosts (neti lease list, neti lease release ID) "
        "or configure a larger overlay_subnet"
    )


def check_inside(host_id: str, overlay: IPv4Address, subnet: IPv4Network) -> IPv4Address:
    """``overlay`` again, or LeaseConflict when a host of ``subnet`` cannot use it."""
    if int(overlay) in usable(subnet):
        return overlay
    raise LeaseConflict(
        f"{host_id} holds the lease {overlay}, which is not a host address of overlay_subnet "
        f"{subnet}: configure the subnet that the fleet uses, "
        f"or give the address up ({command('neti lease release', host_id)})"
    )


def check_move(old: str, new: str) -> None:
    if old == new:
        raise RegistryError(f"{old} holds its lease already: name the host that replaces it")
    if not HOST_ID.fullmatch(new):
        raise RegistryError(
            f"{new!r} is no host id: expected 1 to 40 of letters, digits, '.', '_', '-'"
        )


def moved_from_nobody(old: str) -> RegistryError:
    return RegistryError(f"{old} holds no lease: 'neti lease list' shows who does")


def moved_while_registered(old: str) -> IdentityHeld:
    return IdentityHeld(
        f"{old} is registered: let it leave first ('neti leave' there), or say --force to take "
        "the address away from it; it then gets another one"
    )
