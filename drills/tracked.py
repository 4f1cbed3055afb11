"""The tracked connections of a network namespace, as ctnetlink lists them. Reads only.

Constants: linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_common.h.
"""

import struct
from contextlib import closing
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from neti.dataplane.netlink import NETLINK_NETFILTER, NetlinkSocket, attributes

_CT_GET: Final = (1 << 8) | 1
_GENERIC_INET: Final = struct.pack("=BBH", 2, 0, 0)  # AF_INET, version 0, resource 0
_TUPLE_ORIG, _STATUS = 1, 3
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_IP_SRC, _IP_DST = 1, 2
_PROTO_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_NATED: Final = 0x10 | 0x20  # IPS_SRC_NAT, IPS_DST_NAT


@dataclass(frozen=True, slots=True)
class Tracked:
    """One connection, as it was opened. ``translated``: it has another source or destination
    than that."""

    protocol: int
    source: IPv4Address
    destination: IPv4Address
    ports: tuple[int, int]
    translated: bool


def tracked() -> list[Tracked]:
    """IPv4 ones of the calling thread's namespace."""
    with closing(NetlinkSocket(NETLINK_NETFILTER)) as netlink:
        return [_tracked(body) for body in netlink.dump(_CT_GET, _GENERIC_INET)]


def _tracked(body: bytes) -> Tracked:
    held = dict(attributes(body[len(_GENERIC_INET) :]))
    opened = dict(attributes(held[_TUPLE_ORIG]))
    addresses = dict(attributes(opened[_TUPLE_IP]))
    protocol = dict(attributes(opened[_TUPLE_PROTO]))
    ports = [
        int.from_bytes(protocol.get(kind, b"\0\0"), "big")
        for kind in (_SOURCE_PORT, _DESTINATION_PORT)
    ]
    status = int.from_bytes(held[_STATUS], "big")
    return Tracked(
        protocol=protocol[_PROTO_NUMBER][0],
        source=IPv4Address(addresses[_IP_SRC]),
        destination=IPv4Address(addresses[_IP_DST]),
        ports=(ports[0], ports[1]),
        translated=bool(status & _NATED),
    )
