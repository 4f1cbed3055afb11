"""What is an address, and which are never one host's own, whoever names them. Pure.

Must never hold what depends on a fleet: its ranges are in ``sites``.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

# RFC 1122 3.2.1.3 and RFC 6890: these are never one host's address on a network.
NEVER_A_HOST4: Final = tuple(
    IPv4Network(text)
    for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4")
)
# Behind each of these addresses is an IPv4 address, or a relay that speaks for all of IPv4: who
# names one has more let in than one host.
_EMBEDS_IPV4: Final = {
    IPv6Network("::ffff:0:0/96"): "IPv4 written as IPv6",  # RFC 4291 2.5.5.2
    IPv6Network("::/96"): "IPv4 written as IPv6",  # RFC 4291 2.5.5.1, deprecated
    IPv6Network("64:ff9b::/96"): "NAT64",  # RFC 6052
    IPv6Network("64:ff9b:1::/48"): "NAT64",  # RFC 8215
    IPv6Network("2001::/32"): "Teredo",  # RFC 4380
    IPv6Network("2002::/16"): "6to4",  # RFC 3056
}


def embeds_ipv4(found: IPv6Address | IPv6Network) -> str | None:
    """The scheme by which this address, or all of this range, stands for IPv4; None: by none."""
    inside = IPv6Network(found)
    for network, name in _EMBEDS_IPV4.items():
        if inside.subnet_of(network):
            return f"{name} ({network})"
    return None


def is_address(text: str) -> bool:
    """Whether the text is an IPv4 or IPv6 address, and nothing else: no scope behind it, which to
    Python may be any text."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def is_network(text: str) -> bool:
    """Whether it is a network as Python writes it, such as 10.0.0.0/24: one spelling for each, and
    without a scope, as ``is_address``."""
    try:
        return "%" not in text and str(ip_network(text)) == text
    except ValueError:
        return False


def dotted(address: IPv4Address) -> str:
    """``str(address)``, in a third of the time: whoever starts in a fleet of thousands writes
    down five for each member."""
    value = int(address)
    return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"
