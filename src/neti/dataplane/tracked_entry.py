"""How ctnetlink writes one tracked connection. Pure.

The table holds up to hundreds of thousands of connections, and whoever reaches this host can fill
it, while the loop that reads it waits. So what matters is looked up where every kernel so far has
put it, without taking the message apart; an entry that is laid out otherwise is taken apart.
Constants: linux/netfilter/nfnetlink_conntrack.h.
"""

import struct
from ipaddress import ip_address
from typing import Final

from neti.dataplane.netlink import attribute, attributes, nested
from neti.stage.in_the_clear import Tracked

TUPLE_ORIG: Final = 1
TUPLE_REPLY: Final = 2
TUPLE_IP: Final = 1
IP_V4_SRC: Final = 1
IP_V4_DST: Final = 2
IP_V6_SRC: Final = 3
IP_V6_DST: Final = 4
_BYTES: Final = {IP_V4_SRC: 4, IP_V4_DST: 4, IP_V6_SRC: 16, IP_V6_DST: 16}
# Of protocols: those whose connections begin and end, so that they can be open.
_TCP: Final = 6
_STATEFUL: Final = frozenset({_TCP, 33, 132})  # and DCCP, SCTP
_STATUS: Final = 3
_SEEN_REPLY: Final = 1 << 1
_TUPLE_PROTO: Final = 2
_PROTO_NUMBER, _PROTO_SOURCE_PORT, _PROTO_PORT = 1, 2, 3
_PROTOINFO: Final = 4
_PROTOINFO_TCP: Final = 1
_TCP_STATE: Final = 1
_ESTABLISHED: Final = 3
_LAST_ACK: Final = 6  # and after it time-wait and closed
_ID: Final = 12
_ZONE: Final = 18

_HEADER: Final = 4  # struct nfgenmsg
_LENGTH: Final = struct.Struct("=H")
# The tuple's header and that of its addresses, then source and destination with theirs.
_V4: Final = struct.Struct("=HHHHHH4sHH4s")
_V6: Final = struct.Struct("=HHHHHH16sHH16s")
_LAYOUTS: Final = (
    (_V4, (8, IP_V4_SRC, 8, IP_V4_DST)),
    (_V6, (20, IP_V6_SRC, 20, IP_V6_DST)),
)
_LENGTH_OF_ADDRESSES_AT: Final = 4
# Behind these: the header of the protocol's part, its number, the source's port, the destination's.
_PORTS: Final = struct.Struct("=HHHHB3xHH2s2xHH2s")
_PORT_KINDS: Final = (_TUPLE_PROTO, _PROTO_NUMBER, _PROTO_SOURCE_PORT, _PROTO_PORT)
_TYPE: Final = 0x3FFF  # without NLA_F_NESTED
# What stands right before the state of a TCP connection: three headers, each inside the one before.
_BEFORE_TCP_STATE: Final = struct.pack("=HHHHHH", 48, 0x8004, 44, 0x8001, 5, _TCP_STATE)


def ends(message: bytes, start: int, end: int) -> tuple[bytes, bytes]:
    """Source and destination, packed, as the connection was opened; empty: they are not understood.
    The connection is what stands in ``message`` from ``start`` to ``end``."""
    return _ends(message, start + _HEADER, end) or (
        address(message[start:end], IP_V4_SRC) or address(message[start:end], IP_V6_SRC) or b"",
        address(message[start:end], IP_V4_DST) or address(message[start:end], IP_V6_DST) or b"",
    )


def answers(message: bytes, start: int, end: int) -> bytes:
    """Where the answers come from, packed; empty: that is not understood."""
    at = start + _HEADER
    if end - at > _V4.size:
        (length,) = _LENGTH.unpack_from(message, at)
        found = _ends(message, at + ((length + 3) & ~3), end)
        if found is not None:
            return found[0]
    body = message[start:end]
    return address(body, IP_V4_SRC, TUPLE_REPLY) or address(body, IP_V6_SRC, TUPLE_REPLY) or b""


def _ends(message: bytes, at: int, end: int) -> tuple[bytes, bytes] | None:
    """Of the tuple there."""
    for layout, expected in _LAYOUTS:
        if end - at >= layout.size:
            _, _, _, _, size, kind, source, size_to, kind_to, to = layout.unpack_from(message, at)
            if (size, kind, size_to, kind_to) == expected:
                return source, to
    return None


def tcp_state(message: bytes, start: int, end: int) -> int | None:
    """None: it is none of TCP, or has to be looked for."""
    # Behind the tuples: whoever has an IPv6 network may write what he likes into an address.
    at = start + _HEADER
    for _ in (TUPLE_ORIG, TUPLE_REPLY):
        if end - at < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(message, at)
        at += (length + 3) & ~3
    found = message.find(_BEFORE_TCP_STATE, at, end - 1)
    return message[found + len(_BEFORE_TCP_STATE)] if found >= 0 else None


def may_be_open(message: bytes, start: int, end: int) -> bool:
    """False: it is surely over, or on its way to be open or shut."""
    return tcp_state(message, start, end) in (None, 0, _ESTABLISHED)


def may_go_on(message: bytes, start: int, end: int) -> bool:
    """False: it is surely over."""
    state = tcp_state(message, start, end)
    return state is None or state < _LAST_ACK


def is_open(one: Tracked) -> bool:
    return one.protocol in _STATEFUL and not one.passing


def tracked(body: bytes) -> Tracked | None:
    """None: it is over, or is not understood."""
    end = len(body)
    (source, to), from_there = ends(body, 0, end), answers(body, 0, end)
    protocol, source_port, port = _protocol(body)
    state = tcp_state(body, 0, end)
    if state is None:
        state = _looked_for(body) if protocol == _TCP else 0
    if not (source and to and from_there) or state >= _LAST_ACK:
        return None
    return Tracked(
        protocol=protocol,
        source=ip_address(source),
        to=ip_address(to),
        answers=ip_address(from_there),
        source_port=source_port,
        port=port,
        passing=state not in (0, _ESTABLISHED),
    )


def _protocol(body: bytes) -> tuple[int, int, int]:
    """Its number, and the ports; 0: there are none."""
    if len(body) > _HEADER + _V4.size:
        (length,) = _LENGTH.unpack_from(body, _HEADER + _LENGTH_OF_ADDRESSES_AT)
        at = _HEADER + _LENGTH_OF_ADDRESSES_AT + length
        if len(body) >= at + _PORTS.size:
            _, kind, _, is_number, number, _, is_source, source, _, is_port, port = (
                _PORTS.unpack_from(body, at)
            )
            if (kind & _TYPE, is_number, is_source, is_port) == _PORT_KINDS:
                return number, int.from_bytes(source), int.from_bytes(port)
    opened = dict(attributes(dict(attributes(body[_HEADER:])).get(TUPLE_ORIG, b"")))
    held = dict(attributes(opened.get(_TUPLE_PROTO, b"")))
    kinds = (_PROTO_NUMBER, _PROTO_SOURCE_PORT, _PROTO_PORT)
    number, source_port, port = (int.from_bytes(held.get(kind, b"")) for kind in kinds)
    return number, source_port, port


def _looked_for(body: bytes) -> int:
    """The state of a TCP connection, wherever it stands; 0: nowhere."""
    held = dict(attributes(body[_HEADER:]))
    tcp = dict(attributes(dict(attributes(held.get(_PROTOINFO, b""))).get(_PROTOINFO_TCP, b"")))
    return int.from_bytes(tcp.get(_TCP_STATE, b""))


def answered(body: bytes) -> bool:
    """Whether there was any answer."""
    status = next((v for k, v in attributes(body[_HEADER:]) if k == _STATUS), b"")
    return bool(int.from_bytes(status) & _SEEN_REPLY)


def address(body: bytes, end: int, direction: int = TUPLE_ORIG) -> bytes | None:
    """An address of the connection: as it was opened, or as the answers come."""
    for kind, value in attributes(body[_HEADER:]):
        if kind == direction:
            for part, inner in attributes(value):
                if part == TUPLE_IP:
                    found = dict(attributes(inner)).get(end)
                    return found if found is not None and len(found) == _BYTES[end] else None
    return None


def naming(body: bytes) -> bytes:
    """What names this connection, and not one that has taken its place."""
    held = dict(attributes(body[_HEADER:]))
    names = nested(TUPLE_ORIG, held[TUPLE_ORIG])
    for kind in (_ID, _ZONE):
        if kind in held:
            names += attribute(kind, held[kind])
    return names
