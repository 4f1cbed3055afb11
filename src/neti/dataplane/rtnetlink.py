"""Links, addresses, rules and routes as the kernel lists them, and the one route that is written.

By rtnetlink(7) and not by running ip(8): its output depends on files that give numbers names
(/etc/iproute2/rt_protos), and it would list 200,000 routes to find five. Layouts and constants are
those of linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h and linux/fib_rules.h.

Must never do: judge what it reads, expect a name to be UTF-8, or raise because of an attribute that
it does not know.
"""

import errno
import ipaddress
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from neti.dataplane.netlink import (
    NETLINK_ROUTE,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NetlinkSocket,
    attribute,
    attributes,
    nested,
    u32,
)
from neti.errors import KernelRefused
from neti.model import IPAddress

IPV4: Final = int(socket.AF_INET)
IPV6: Final = int(socket.AF_INET6)
MAIN: Final = 254  # RT_TABLE_MAIN
LOCAL: Final = 255
TEMPORARY: Final = 0x01  # IFA_F_TEMPORARY, RFC 8981
_NOT_IN_USE: Final = 0x08 | 0x20 | 0x40  # a duplicate, deprecated, tentative

_NEW_ROUTE, _DELETE_ROUTE, _GET_ROUTE = 24, 25, 26
_GET_LINK, _GET_ADDRESS, _GET_RULE, _GET_NEXTHOP = 18, 22, 34, 106
_NLM_F_REPLACE: Final = 0x100
_IFINFO: Final = struct.Struct("=BxHiII")
_IFADDR: Final = struct.Struct("=BBBBI")
# Family, prefix, source's prefix, TOS, table, protocol, scope, type, flags; a rule's is the same.
_RTMSG: Final = struct.Struct("=BBBBBBBBI")
_RTNEXTHOP: Final = struct.Struct("=HBBi")
_NHMSG: Final = struct.Struct("=BBBBI")
_IFLA_IFNAME, _IFLA_MTU = 3, 4
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_DST, _OIF, _GATEWAY, _PREFSRC, _METRICS, _MULTIPATH = 1, 4, 5, 7, 8, 9
_TABLE, _VIA, _NH_ID = 15, 18, 30
_MTU, _ADVMSS = 2, 8
_FRA_TABLE: Final = 15
_NHA_ID, _NHA_GROUP, _NHA_OIF, _NHA_GATEWAY = 1, 2, 5, 6
_UNICAST: Final = 1
_NAMES: Final = {6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw", 2: "local"}
_NOT_ROUTES: Final = frozenset({3, 4, 5})  # broadcast, anycast, multicast
_SCOPE_LINK, _SCOPE_ANY = 253, 255
_MOST_DELETED: Final = 64


@dataclass(frozen=True, slots=True)
class Interface:
    index: int
    name: str
    mtu: int


@dataclass(frozen=True, slots=True)
class Address:
    index: int  # of its interface
    address: IPAddress
    flags: int = 0

    @property
    def temporary(self) -> bool:
        """Whether it is one of IPv6's temporary addresses, and in use."""
        return bool(self.flags & TEMPORARY) and not self.flags & _NOT_IN_USE


@dataclass(frozen=True, slots=True)
class KernelRoute:
    """``devices``: indexes; none if the route leads nowhere, as its ``kind`` says then."""

    table: int
    destination: bytes
    prefix: int
    protocol: int
    kind: int
    devices: tuple[int, ...]
    gateways: tuple[IPAddress, ...]
    source: IPv4Address | None
    mtu: int | None

    @property
    def kind_name(self) -> str:
        return _NAMES.get(self.kind, "?")

    def network(self) -> IPv4Network:
        """Of a route of IPv4."""
        return IPv4Network((int.from_bytes(self.destination or bytes(4), "big"), self.prefix))


Wanted = Callable[[bytes, int, int], bool]  # whether a route is worth taking apart


@contextmanager
def opened() -> Iterator["RouteSocket"]:
    """In the calling thread's network namespace. Raises DataplaneError."""
    with closing(NetlinkSocket(NETLINK_ROUTE)) as netlink:
        yield RouteSocket(netlink)


class RouteSocket:
    """Each method raises DataplaneError."""

    def __init__(self, netlink: NetlinkSocket) -> None:
        self._netlink = netlink
        self._strict = netlink.strict_checks()
        self._next_hops: dict[int, tuple[tuple[int, ...], tuple[IPAddress, ...]]] | None = None

    # --- reading ---

    def interfaces(self) -> list[Interface]:
        found = []
        for body in self._netlink.listed(_GET_LINK, _IFINFO.pack(0, 0, 0, 0, 0)):
            _, _, index, _, _ = _IFINFO.unpack_from(body)
            held = dict(attributes(body[_IFINFO.size :]))
            name = held.get(_IFLA_IFNAME, b"?").rstrip(b"\0").decode(errors="surrogateescape")
            found.append(Interface(index, name, u32(held.get(_IFLA_MTU))))
        return found

    def addresses(self) -> list[Address]:
        found = []
        for body in self._netlink.listed(_GET_ADDRESS, _IFADDR.pack(0, 0, 0, 0, 0)):
            family, _, flags, _, index = _IFADDR.unpack_from(body)
            held = dict(attributes(body[_IFADDR.size :]))
            address = _address(family, held.get(_IFA_LOCAL) or held.get(_IFA_ADDRESS))
            if address is not None:
                more = held.get(_IFA_FLAGS)
                found.append(Address(index, address, u32(more) if more else flags))
        return found

    def tables_in_use(self, family: int) -> list[int]:
        """Those that a rule leads to. No packet is ever routed by the others."""
        tables = []
        for body in self._netlink.listed(_GET_RULE, _RTMSG.pack(family, *[0] * 8)):
            held = dict(attributes(body[_RTMSG.size :]))
            table = u32(held.get(_FRA_TABLE)) or body[4]
            if table:
                tables.append(table)
        return list(dict.fromkeys(tables))

    def routes(
        self, family: int, tables: list[int], near: IPv4Network | None = None
    ) -> list[KernelRoute]:
        """Those of ``tables`` that are default routes, or IPv4 routes inside ``near`` or around it.

        If the kernel can do it, it is asked table by table, because a table that nobody uses may
        have a million routes."""
        wanted = near_or_default(near)
        if not self._strict:
            return [r for r in self._dumped(family, 0, wanted) if r.table in tables]
        return [route for table in tables for route in self._dumped(family, table, wanted)]

    def _dumped(self, family: int, table: int, wanted: Wanted) -> list[KernelRoute]:
        narrow = table if table < 256 else 0
        payload = _RTMSG.pack(family, 0, 0, 0, narrow, 0, 0, 0, 0)
        if table:
            payload += attribute(_TABLE, struct.pack("=I", table))
        gone = frozenset({errno.ENOENT})  # a rule may lead to a table that has no route
        return [
            self._route(body)
            for body in self._netlink.dump_some(_GET_ROUTE, payload, wanted, ignore=gone)
        ]

    def _route(self, body: bytes) -> KernelRoute:
        family, prefix, _, _, table, protocol, _, kind, _ = _RTMSG.unpack_from(body)
        held = dict(attributes(body[_RTMSG.size :]))
        devices, gateways = self._hops(family, held)
        metrics = dict(attributes(held.get(_METRICS, b"")))
        source = _address(family, held.get(_PREFSRC))
        return KernelRoute(
            table=u32(held.get(_TABLE)) or table,
            destination=held.get(_DST, b""),
            prefix=prefix,
            protocol=protocol,
            kind=kind,
            devices=devices,
            gateways=gateways,
            source=source if isinstance(source, IPv4Address) else None,
            mtu=u32(metrics.get(_MTU)) or None,
        )

    def _hops(
        self, family: int, held: dict[int, bytes]
    ) -> tuple[tuple[int, ...], tuple[IPAddress, ...]]:
        hops = [(u32(held.get(_OIF)), held)]
        hops += list(_multipath(held.get(_MULTIPATH, b"")))
        devices = tuple(dict.fromkeys(index for index, _ in hops if index))
        gateways = [_address(family, of.get(_GATEWAY)) or _via(of.get(_VIA)) for _, of in hops]
        if not devices and _NH_ID in held:
            return self._next_hop(u32(held[_NH_ID]))
        return devices, tuple(g for g in dict.fromkeys(gateways) if g is not None)

    def _next_hop(self, number: int) -> tuple[tuple[int, ...], tuple[IPAddress, ...]]:
        """If net.ipv4.nexthop_compat_mode is off, a route only has the number of its next hop."""
        if self._next_hops is None:
            self._next_hops = dict(_next_hops(self._netlink))
        return self._next_hops.get(number, ((), ()))

    # --- writing ---

    def write_route(
        self,
        destination: IPv4Network,
        *,
        device: int,
        source: IPv4Address,
        protocol: int,
        mtu: int | None,
        advmss: int | None,
        anew: bool,
    ) -> None:
        """Into the main table. ``anew``: refused if there is a route to exactly this
        destination."""
        header = _RTMSG.pack(
            IPV4, destination.prefixlen, 0, 0, MAIN, protocol, _SCOPE_LINK, _UNICAST, 0
        )
        payload = header + attribute(_DST, destination.network_address.packed)
        payload += attribute(_PREFSRC, source.packed) + attribute(_OIF, struct.pack("=I", device))
        metrics = [
            attribute(kind, struct.pack("=I", value))
            for kind, value in ((_MTU, mtu), (_ADVMSS, advmss))
            if value is not None
        ]
        if metrics:
            payload += nested(_METRICS, *metrics)
        flags = NLM_F_CREATE | (NLM_F_EXCL if anew else _NLM_F_REPLACE)
        self._netlink.request(_NEW_ROUTE, payload, flags=flags)

    def delete_routes(self, destination: IPv4Network, *, protocol: int) -> int:
        """All routes of the main table to exactly this destination with this ``protocol``. Returns
        how many."""
        header = _RTMSG.pack(IPV4, destination.prefixlen, 0, 0, MAIN, protocol, _SCOPE_ANY, 0, 0)
        payload = header + attribute(_DST, destination.network_address.packed)
        for count in range(_MOST_DELETED):
            try:
                self._netlink.request(_DELETE_ROUTE, payload)
            except KernelRefused as error:
                if error.number == errno.ESRCH:
                    return count
                raise
        return _MOST_DELETED


# In an IPv4 route the destination comes right behind the table's number, which is first.
_DST_AT: Final = _RTMSG.size + 8
_DST4_HEAD: Final = struct.pack("=HH", 8, _DST)
_CLONED_BYTE: Final = 0x200 >> 8  # RTM_F_CLONED, a cached one, in the second byte of the flags


def near_or_default(overlay: IPv4Network | None) -> Wanted:
    """Called for each of what may be 200,000 routes, so it looks at fixed places only."""
    length = overlay.prefixlen if overlay is not None else 0
    bits = int.from_bytes(overlay.network_address.packed, "big") if overlay is not None else 0
    # By prefix length: how many bits to ignore, and what the others must be.
    shifts = [32 - min(prefix, length) for prefix in range(33)]
    heads = [bits >> shift for shift in shifts]
    number = struct.Struct(">I").unpack_from

    def wanted(datagram: bytes, start: int, _end: int) -> bool:
        prefix = datagram[start + 1]
        if prefix:
            if overlay is None or prefix > 32:
                return False
            at = start + _DST_AT
            if datagram[at : at + 4] == _DST4_HEAD:
                (destination,) = number(datagram, at + 4)
                if destination >> shifts[prefix] != heads[prefix]:
                    return False
        return datagram[start + 7] not in _NOT_ROUTES and not datagram[start + 9] & _CLONED_BYTE

    return wanted


def _multipath(content: bytes) -> Iterator[tuple[int, dict[int, bytes]]]:
    offset = 0
    while offset + _RTNEXTHOP.size <= len(content):
        length, _, _, index = _RTNEXTHOP.unpack_from(content, offset)
        if length < _RTNEXTHOP.size:
            return
        yield index, dict(attributes(content[offset + _RTNEXTHOP.size : offset + length]))
        offset += (length + 3) & ~3


def _next_hops(
    netlink: NetlinkSocket,
) -> Iterator[tuple[int, tuple[tuple[int, ...], tuple[IPAddress, ...]]]]:
    single: dict[int, tuple[tuple[int, ...], tuple[IPAddress, ...]]] = {}
    groups: dict[int, list[int]] = {}
    for body in netlink.listed(_GET_NEXTHOP, _NHMSG.pack(0, 0, 0, 0, 0)):
        held = dict(attributes(body[_NHMSG.size :]))
        number = u32(held.get(_NHA_ID))
        group = held.get(_NHA_GROUP, b"")
        if group:
            groups[number] = [each[0] for each in struct.iter_unpack("=I4x", group)]
        else:
            index = u32(held.get(_NHA_OIF))
            gateway = _address(body[0], held.get(_NHA_GATEWAY))
            single[number] = ((index,) if index else (), (gateway,) if gateway else ())
    yield from single.items()
    for number, members in groups.items():
        found = [single[member] for member in members if member in single]
        yield (
            number,
            (
                tuple(dict.fromkeys(device for devices, _ in found for device in devices)),
                tuple(dict.fromkeys(gateway for _, gateways in found for gateway in gateways)),
            ),
        )


def _address(family: int, content: bytes | None) -> IPAddress | None:
    if content is None or len(content) != {IPV4: 4, IPV6: 16}.get(family):
        return None
    return ipaddress.ip_address(content)


def _via(content: bytes | None) -> IPAddress | None:
    """A gateway of the other family (RFC 5549)."""
    if content is None or len(content) < 2:
        return None
    family: int = struct.unpack_from("=H", content)[0]
    return _address(family, content[2:])
