"""Tracked connections: who still has any, and ending them (ctnetlink).

A connection keeps the translation that it began with, so old UDP sockets would go to the old
address for ever; and a removed source must be remembered as long as it has connections. Since 5.8
the kernel filters a dump by one address (CTA_FILTER). An older one returns everything, so the
answer is filtered again here.

Must never do: take apart what does not matter (see ``tracked_entry``).
"""

import errno
import struct
from collections.abc import Callable, Container, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from neti.dataplane.netlink import NETLINK_NETFILTER, NetlinkSocket, attribute, nested
from neti.dataplane.tracked_entry import (
    IP_V4_DST,
    TUPLE_IP,
    TUPLE_ORIG,
    answered,
    answers,
    ends,
    is_open,
    may_be_open,
    may_go_on,
    naming,
    tracked,
)
from neti.model import IPAddress
from neti.stage.in_the_clear import Tracked

_CT_GET: Final = (1 << 8) | 1
_CT_DELETE: Final = (1 << 8) | 2
_CT_GET_STATS: Final = (1 << 8) | 5
_FILTER: Final = 25
_FILTER_ORIG_FLAGS: Final = 1
_FILTER_REPLY_FLAGS: Final = 2
_FILTER_IP_DST: Final = 1 << 1
_GENERIC_ANY: Final = struct.pack("=BBH", 0, 0, 0)  # AF_UNSPEC, version 0, resource 0
_GENERIC_INET: Final = struct.pack("=BBH", 2, 0, 0)
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

        def leads_there(message: bytes, start: int, end: int) -> bool:
            return ends(message, start, end)[1] in wanted

        found = [
            body
            for payload in _requests(wanted)
            for body in self._socket.dump_some(_CT_GET, payload, leads_there)
            if not _may_go_on(body, goes_on)
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
        first, mask = int(overlay.network_address), int(overlay.netmask)

        def inside(message: bytes, start: int, end: int) -> bool:
            to = ends(message, start, end)[1]
            return len(to) == 4 and int.from_bytes(to) & mask == first

        found = []
        for body in self._socket.dump_some(_CT_GET, _GENERIC_INET, inside):
            now = leads(IPv4Address(ends(body, 0, len(body))[1]))
            stale = now is None or answers(body, 0, len(body)) != now.packed
            if stale and not _may_go_on(body, goes_on):
                found.append(body)
        self._delete(found)
        return len(found)

    def sources_with_connections(self, sources: Iterable[IPAddress]) -> set[IPAddress]:
        """Those of ``sources`` that have tracked connections with this host, whoever opened
        them."""
        wanted = {address.packed: address for address in sources}
        alive: set[bytes] = set()

        def note(message: bytes, start: int, end: int) -> bool:
            alive.update(one for one in ends(message, start, end) if one in wanted)
            return False

        six = any(len(packed) == 16 for packed in wanted)
        for _ in self._socket.dump_some(_CT_GET, _GENERIC_ANY if six else _GENERIC_INET, note):
            pass
        return {wanted[packed] for packed in alive}

    def ending_in(self, addresses: Container[bytes]) -> list[Tracked]:
        """Connections that go on, and of which one of these addresses, packed, is an end."""

        def is_theirs(message: bytes, start: int, end: int) -> bool:
            source, to = ends(message, start, end)
            theirs = source in addresses or to in addresses
            theirs = theirs or answers(message, start, end) in addresses
            return theirs and may_go_on(message, start, end)

        found = map(tracked, self._socket.dump_some(_CT_GET, _GENERIC_ANY, is_theirs))
        return [one for one in found if one is not None]

    def opened_by(self, sources: Container[bytes]) -> list[Tracked]:
        """Connections that are open, and that were opened from one of these addresses, packed: of
        protocols whose connections end, because nobody knows of others when they do."""

        def is_theirs(message: bytes, start: int, end: int) -> bool:
            return ends(message, start, end)[0] in sources and may_be_open(message, start, end)

        found = map(tracked, self._socket.dump_some(_CT_GET, _GENERIC_ANY, is_theirs))
        return [one for one in found if one is not None and is_open(one)]

    def end_those(self, which: Callable[[Tracked], bool]) -> int:
        """Delete connections that go on, of either family. Returns how many."""
        found = [
            body
            for body in self._socket.dump_some(_CT_GET, _GENERIC_ANY, may_go_on)
            if (one := tracked(body)) is not None and which(one)
        ]
        self._delete(found)
        return len(found)

    def _delete(self, found: list[bytes]) -> None:
        for body in found:
            of_family = struct.pack("=BBH", body[0], 0, 0)
            # It may have ended by itself since it was listed.
            self._socket.request(
                _CT_DELETE, of_family + naming(body), ignore=frozenset({errno.ENOENT})
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
    if goes_on is None:
        return False
    there = answers(body, 0, len(body))
    return goes_on(
        IPv4Address(ends(body, 0, len(body))[1]),
        IPv4Address(there) if len(there) == 4 else None,
        answered(body),
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
        address = nested(TUPLE_IP, attribute(IP_V4_DST, destination))
        yield _GENERIC_INET + nested(TUPLE_ORIG, address) + flags
