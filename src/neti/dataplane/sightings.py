"""The shadow's sets as the kernel holds them, by a raw netlink dump. Only reads.

Not by libnftables, which takes several times as long for a full set (see docs/design/shadow.md),
and the loop reads these every half minute. Constants: linux/netfilter/nf_tables.h.
"""

import errno
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from neti.dataplane.netlink import NETLINK_NETFILTER, NetlinkSocket, attribute, attributes
from neti.ruleset.objects import FAMILY_TABLE, SEEN_SECONDS
from neti.stage.leftovers import Call
from neti.stage.shadow import PROTOCOLS, Port, Sighting, address_of

_GET_SET_ELEMENTS: Final = (10 << 8) | 13
_INET: Final = struct.pack("=BBH", 1, 0, 0)  # NFPROTO_INET, version 0, resource 0
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_KEY, _TIMEOUT, _EXPIRATION, _EXPRESSION = 1, 4, 5, 7
_EXPRESSION_DATA: Final = 2
_COUNTER_PACKETS: Final = 2
_PROTOCOLS: Final = PROTOCOLS
# A user's number takes 4 bytes, a control group's 8, both in this machine's byte order.
_BY_GROUP, _BY_USER = 12, 4
# Of each set: its name, and the bytes of who calls and of whom.
_CALLERS: Final = (
    ("leftover_by4", _BY_GROUP, 4),
    ("leftover_by6", _BY_GROUP, 16),
    ("leftover4", _BY_USER, 4),
    ("leftover6", _BY_USER, 16),
    ("leftover_in4", 4, 4),
    ("leftover_in6", 16, 16),
)


class SightingsReader:
    """Works in the network namespace of the thread that made it. Raises DataplaneError."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(NETLINK_NETFILTER)

    def close(self) -> None:
        self._socket.close()

    def read(self) -> list[Sighting]:
        """Both families; nothing when the table is not there."""
        found = self._with_ports((*_of_both("heard"), *_of_both("seen")))
        for name, width in (("others4", 4), ("others6", 16)):
            for key, packets, idle in self._elements(name, width + 4):
                protocol = _PROTOCOLS.get(key[width], str(key[width]))
                found[name, key] = Sighting(address_of(key[:width]), protocol, 0, packets, idle)
        return list(found.values())

    def unasked(self) -> list[Sighting]:
        """What came from members, and ``member_ports`` of the file do not admit."""
        return list(self._with_ports(_of_both("unasked")).values())

    def leftovers(self) -> list[Call]:
        """Who on this host called members by their real addresses."""
        found: dict[tuple[str, bytes], Call] = {}
        for name, who, width in _CALLERS:
            for key, packets, idle in self._elements(name, who + width + 8):
                protocol, port = _asked(key[who + width :])
                call = Call(
                    name.encode() + key,
                    address_of(key[who : who + width]),
                    *(protocol, port, packets, idle),
                )
                if name.startswith("leftover_in"):
                    call = replace(call, container=address_of(key[:width]))
                else:
                    group = int.from_bytes(key[4:12], sys.byteorder) if who == _BY_GROUP else None
                    call = replace(call, user=int.from_bytes(key[:4], sys.byteorder), group=group)
                found[name, key] = call
        return list(found.values())

    def _with_ports(self, sets: Iterable[tuple[str, int]]) -> dict[tuple[str, bytes], Sighting]:
        """By key, because a dump may list an element twice if the set changes meanwhile."""
        forwarded = {_asked(key) for key, _, _ in self._elements("forwarded", 8)}
        redirected = {  # protocol, where it leads, and what was asked for
            _asked(key[:4] + key[8:]): struct.unpack_from(">H", key, 4)[0]
            for key, _, _ in sorted(self._elements("redirected", 12), key=lambda e: -e[2])
        }
        found: dict[tuple[str, bytes], Sighting] = {}
        for name, width in sets:
            for key, packets, idle in self._elements(name, width + 8):
                protocol, number = port = _asked(key[width:])
                found[name, key] = Sighting(
                    address_of(key[:width]),
                    protocol,
                    number,
                    packets,
                    idle,
                    port in forwarded,
                    redirected.get(port),
                    heard=name.startswith("heard"),
                )
        return found

    def _elements(self, name: str, key_bytes: int) -> Iterator[tuple[bytes, int, float]]:
        """Key, packets, and seconds since the last packet."""
        table = FAMILY_TABLE.split()[1]
        asked = attribute(_LIST_TABLE, table.encode() + b"\0")
        asked += attribute(_LIST_SET, name.encode() + b"\0")
        gone = frozenset({errno.ENOENT})
        for body in self._socket.dump(_GET_SET_ELEMENTS, _INET + asked, ignore=gone):
            for kind, value in attributes(body[len(_INET) :]):
                if kind == _LIST_ELEMENTS:
                    yield from _all_alike(value, key_bytes) or map(
                        _element, (element for _, element in attributes(value))
                    )


def _of_both(name: str) -> tuple[tuple[str, int], ...]:
    """The set of each family, and the bytes of an address in it."""
    return ((f"{name}4", 4), (f"{name}6", 16))


def _all_alike(payload: bytes, key_bytes: int) -> list[tuple[bytes, int, float]] | None:
    """Elements with a counter and the set's own time-out, as nearly all are, in one go: about three
    times as fast. None unless all headers equal the first one's, and the first element means the
    same when it is read attribute by attribute."""
    shape = struct.Struct(f">12s{key_bytes}s24s8x4sQ4sQ")
    if not payload or len(payload) % shape.size:
        return None
    lasts = SEEN_SECONDS * 1000
    heads: set[tuple[bytes, ...]] = set()
    found = []
    for head, key, counter, counted, packets, clock, left in shape.iter_unpack(payload):
        heads.add((head, counter, counted, clock))
        found.append((key, packets, max(0, lasts - left) / 1000))
    _, first = next(attributes(payload))
    return found if len(heads) == 1 and found[0] == _element(first) else None


def _element(payload: bytes) -> tuple[bytes, int, float]:
    held = dict(attributes(payload))
    _, key = next(attributes(held[_KEY]))
    # The kernel omits the time-out if it is the set's own.
    lasts = _milliseconds(held[_TIMEOUT]) if _TIMEOUT in held else SEEN_SECONDS * 1000
    idle = (lasts - _milliseconds(held[_EXPIRATION])) / 1000 if _EXPIRATION in held else 0.0
    packets = 0
    if _EXPRESSION in held:
        counter = dict(attributes(held[_EXPRESSION]))[_EXPRESSION_DATA]
        packets = struct.unpack(">Q", dict(attributes(counter))[_COUNTER_PACKETS])[0]
    return key, packets, max(0.0, idle)


def _milliseconds(value: bytes) -> int:
    number: int = struct.unpack(">Q", value)[0]
    return number


def _asked(key: bytes) -> Port:
    """Each part of a concatenation takes up whole registers of four bytes."""
    (port,) = struct.unpack_from(">H", key, 4)
    return _PROTOCOLS.get(key[0], str(key[0])), port
