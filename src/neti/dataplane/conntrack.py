"""Tracked connections of a few addresses: who still has any, and ending them (ctnetlink).

Needed only when members change. A connection keeps the translation that it began with, so old UDP
sockets would go to the old address for ever; and a removed source must be remembered as long as it
has connections. Constants: linux/netfilter/nfnetlink_conntrack.h. Since 5.8 the kernel filters the
dump itself (CTA_FILTER). An older one returns everything, so the answer is filtered again here.
"""

import errno
import struct
from collections.abc import Callable, Container, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import Final

from neti.dataplane.netlink import (
    NETLINK_NETFILTER,
    NetlinkSocket,
    attribute,
    attributes,
    nested,
)
from neti.model import IPAddress
from neti.stage.in_the_clear import Tracked

_CT_GET: Final = (1 << 8) | 1
_CT_DELETE: Final = (1 << 8) | 2
_CT_GET_STATS: Final = (1 << 8) | 5
_TUPLE_ORIG: Final = 1
_TUPLE_REPLY: Final = 2
_STATUS: Final = 3
_SEEN_REPLY: Final = 1 << 1
_TUPLE_IP: Final = 1
_TUPLE_PROTO: Final = 2
_PROTO_NUMBER, _PROTO_SOURCE_PORT, _PROTO_PORT = 1, 2, 3
_PROTOINFO: Final = 4
_PROTOINFO_TCP: Final = 1
_TCP_STATE: Final = 1
_ESTABLISHED: Final = 3
_LAST_ACK: Final = 6  # and after it time-wait and closed
_IP_V4_SRC: Final = 1
_IP_V4_DST: Final = 2
_IP_V6_SRC: Final = 3
_IP_V6_DST: Final = 4
_ID: Final = 12
_ZONE: Final = 18
_FILTER: Final = 25
_FILTER_ORIG_FLAGS: Final = 1
_FILTER_REPLY_FLAGS: Final = 2
_FILTER_IP_DST: Final = 1 << 1
_GENERIC_ANY: Final = struct.pack("=BBH", 0, 0, 0)  # AF_UNSPEC, version 0, resource 0
_GENERIC_INET: Final = struct.pack("=BBH", 2, 0, 0)
# How every kernel so far begins its account of a connection: original tuple, its addresses, source,
# destination. If the headers are these, a connection that does not matter is skipped without
# parsing.
_HEADERS_AT: Final = struct.Struct("=12xHH4xHH")
_V4_FIRST: Final = (8, _IP_V4_SRC, 8, _IP_V4_DST)
_V4_SRC_AT: Final = slice(16, 20)
_V4_DST_AT: Final = slice(24, 28)
# Above so many addresses one pass over the whole table is cheaper than one pass each.
_SEPARATE_DUMPS: Final = 4


# Whether a connection may stay as it is: where it was opened to, where its answers come from, and
# whether there was any.
GoesOn = Callable[[IPv4Address, IPv4Address | None, bool], bool]


class Conntrack:
    """Works in the network namespace of the thread that made it. Raises DataplaneError."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(NETLINK_NETFILTER)

    def close(self) -> None:
        self._socket.close()

    def end_connections_to(
        self, destinations: Iterable[IPv4Address], goes_on: GoesOn | None = None
    ) -> int:
        """Delete tracked connections that were opened to these addresses, but for those that may go
        on. Returns how many."""
        wanted = {address.packed for address in destinations}
        found = [
            body
            for payload in _requests(wanted)
            for body in self._socket.dump(_CT_GET, payload)
            if _endpoint(body, _IP_V4_DST) in wanted and not _may_go_on(body, goes_on)
        ]
        self._delete(found)
        return len(found)

    def end_stale(
        self,
        overlay: IPv4Network,
        leads: Callable[[IPv4Address], IPv4Address | None],
        goes_on: GoesOn | None = None,
    ) -> int:
        """Delete connections to addresses of ``overlay`` that do not go where ``leads`` says now,
        but for those that may go on. Returns how many."""
        found = []
        for body in self._socket.dump(_CT_GET, _GENERIC_INET):
            to = _destination_inside(body, overlay)
            if to is not None:
                answers = _endpoint(body, _IP_V4_SRC, _TUPLE_REPLY)
                now = leads(to)
                stale = now is None or answers != now.packed
                if stale and not _may_go_on(body, goes_on):
                    found.append(body)
        self._delete(found)
        return len(found)

    def sources_with_connections(self, sources: Iterable[IPAddress]) -> set[IPAddress]:
        """Those of ``sources`` that have tracked connections with this host, whoever opened
        them."""
        wanted = {address.packed: address for address in sources}
        six = any(isinstance(address, IPv6Address) for address in wanted.values())
        alive: set[IPAddress] = set()
        for body in self._socket.dump(_CT_GET, _GENERIC_ANY if six else _GENERIC_INET):
            for end in (_IP_V4_SRC, _IP_V4_DST, _IP_V6_SRC, _IP_V6_DST):
                address = wanted.get(_endpoint(body, end) or b"")
                if address is not None:
                    alive.add(address)
        return alive

    def ending_in(self, addresses: Container[bytes]) -> list[Tracked]:
        """Connections that go on, and of which one of these addresses, packed, is an end."""
        found = []
        for body in self._socket.dump(_CT_GET, _GENERIC_ANY):
            one = _tracked(body)
            if one is not None and any(
                address.packed in addresses for address in (one.answers, one.to, one.source)
            ):
                found.append(one)
        return found

    def opened_by(self, sources: Container[bytes]) -> list[Tracked]:
        """Connections that go on, and that were opened from one of these addresses, packed. Others
        are passed over without being parsed: the table may hold hundreds of thousands."""
        found = []
        for body in self._socket.dump(_CT_GET, _GENERIC_ANY):
            if len(body) >= _V4_DST_AT.stop and _HEADERS_AT.unpack_from(body) == _V4_FIRST:
                source: bytes | None = bytes(body[_V4_SRC_AT])
            else:
                source = _endpoint(body, _IP_V4_SRC) or _endpoint(body, _IP_V6_SRC)
            if source in sources and (one := _tracked(body)) is not None:
                found.append(one)
        return found

    def end_those(self, which: Callable[[Tracked], bool]) -> int:
        """Delete connections that go on, of either family. Returns how many."""
        found = [
            body
            for body in self._socket.dump(_CT_GET, _GENERIC_ANY)
            if (one := _tracked(body)) is not None and which(one)
        ]
        self._delete(found)
        return len(found)

    def _delete(self, found: list[bytes]) -> None:
        for body in found:
            of_family = struct.pack("=BBH", body[0], 0, 0)
            # It may have ended by itself since it was listed.
            self._socket.request(
                _CT_DELETE, of_family + _naming(body), ignore=frozenset({errno.ENOENT})
            )


def load_tracking() -> None:
    """Have the kernel load nf_conntrack before the first rule that tracks does. Asking ctnetlink
    for its statistics loads both modules, and tracks nothing yet."""
    asking = NetlinkSocket(NETLINK_NETFILTER)
    try:
        asking.request(_CT_GET_STATS, struct.pack("=BBH", 0, 0, 0))
    finally:
        asking.close()


def _may_go_on(body: bytes, goes_on: GoesOn | None) -> bool:
    to = _endpoint(body, _IP_V4_DST)
    if goes_on is None or to is None:
        return False
    answers = _endpoint(body, _IP_V4_SRC, _TUPLE_REPLY)
    status = next((v for k, v in attributes(body[len(_GENERIC_INET) :]) if k == _STATUS), b"")
    return goes_on(
        IPv4Address(to),
        IPv4Address(answers) if answers is not None else None,
        bool(int.from_bytes(status) & _SEEN_REPLY),
    )


def _tracked(body: bytes) -> Tracked | None:
    """None: it is over, or is not understood."""
    held = dict(attributes(body[len(_GENERIC_INET) :]))
    opened, answered = (
        dict(attributes(held.get(kind, b""))) for kind in (_TUPLE_ORIG, _TUPLE_REPLY)
    )
    ends = [
        address
        for one in (opened, answered)
        for kind, address in attributes(one.get(_TUPLE_IP, b""))
        if kind in (_IP_V4_SRC, _IP_V4_DST, _IP_V6_SRC, _IP_V6_DST)
    ]
    proto = dict(attributes(opened.get(_TUPLE_PROTO, b"")))
    tcp = dict(attributes(dict(attributes(held.get(_PROTOINFO, b""))).get(_PROTOINFO_TCP, b"")))
    state = int.from_bytes(tcp.get(_TCP_STATE, b""))
    if len(ends) != 4 or state >= _LAST_ACK:
        return None
    source, to, answers, _ = map(ip_address, ends)
    return Tracked(
        protocol=int.from_bytes(proto.get(_PROTO_NUMBER, b"")),
        source=source,
        to=to,
        answers=answers,
        source_port=int.from_bytes(proto.get(_PROTO_SOURCE_PORT, b"")),
        port=int.from_bytes(proto.get(_PROTO_PORT, b"")),
        passing=state not in (0, _ESTABLISHED),
    )


def _requests(destinations: set[bytes]) -> Iterator[bytes]:
    if len(destinations) > _SEPARATE_DUMPS:
        yield _GENERIC_INET
        return
    flags = nested(
        _FILTER,
        attribute(_FILTER_ORIG_FLAGS, struct.pack("=I", _FILTER_IP_DST)),
        attribute(_FILTER_REPLY_FLAGS, struct.pack("=I", 0)),
    )
    for destination in destinations:
        address = nested(_TUPLE_IP, attribute(_IP_V4_DST, destination))
        yield _GENERIC_INET + nested(_TUPLE_ORIG, address) + flags


def _destination_inside(body: bytes, network: IPv4Network) -> IPv4Address | None:
    """Where the connection was opened to, if that is in the network."""
    if len(body) >= _V4_DST_AT.stop:
        lengths_and_kinds = _HEADERS_AT.unpack_from(body)
        if lengths_and_kinds == _V4_FIRST:
            address = int.from_bytes(body[_V4_DST_AT])
            if address & int(network.netmask) != int(network.network_address):
                return None
    packed = _endpoint(body, _IP_V4_DST)
    to = IPv4Address(packed) if packed is not None else None
    return to if to is not None and to in network else None


def _endpoint(body: bytes, end: int, direction: int = _TUPLE_ORIG) -> bytes | None:
    """An address of the connection: as it was opened, or as the answers come."""
    for kind, value in attributes(body[len(_GENERIC_INET) :]):
        if kind == direction:
            for part, inner in attributes(value):
                if part == _TUPLE_IP:
                    return dict(attributes(inner)).get(end)
    return None


def _naming(body: bytes) -> bytes:
    """What names this connection, and not one that has taken its place."""
    held = dict(attributes(body[len(_GENERIC_INET) :]))
    names = nested(_TUPLE_ORIG, held[_TUPLE_ORIG])
    for kind in (_ID, _ZONE):
        if kind in held:
            names += attribute(kind, held[kind])
    return names
