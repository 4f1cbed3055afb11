"""Fills the connection-tracking table of a network namespace, by ctnetlink, and empties it again.

The limit is the whole machine's and cannot be changed in a namespace, but each namespace is counted
for itself: nobody else is touched. Constants: linux/netfilter/nfnetlink_conntrack.h.
"""

import errno
import os
import struct
from pathlib import Path
from typing import Final

from drills.drill import DrillError
from neti.dataplane.netlink import (
    NETLINK_NETFILTER,
    NLM_F_CREATE,
    NetlinkSocket,
    attribute,
    nested,
)
from neti.errors import DataplaneError

_CT_NEW: Final = (1 << 8) | 0
_CT_DELETE: Final = (1 << 8) | 2
_INET: Final = struct.pack("=BBH", 2, 0, 0)
_TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _TIMEOUT = 1, 2, 3, 7
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_SRC, _DST = 1, 2
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_UDP: Final = 17
_ASSURED: Final = 0x2 | 0x4 | 0x8  # seen reply, assured, confirmed: not dropped early
_SECONDS: Final = 600
_LIMIT: Final = Path("/proc/sys/net/netfilter/nf_conntrack_max")


class Flood:
    """Of the namespace of the thread that makes it, and of that alone."""

    def __init__(self) -> None:
        self._netlink = NetlinkSocket(NETLINK_NETFILTER)
        self.entries = 0
        self.fill()

    def fill(self) -> None:
        """Until it is full; again, where others' entries have ended meanwhile."""
        limit = int(_LIMIT.read_text())
        while self.entries <= limit:
            try:
                self._netlink.request(_CT_NEW, _entry(self.entries), flags=NLM_F_CREATE)
            except DataplaneError as error:
                if os.strerror(errno.ENOMEM) not in str(error):
                    raise
                return
            self.entries += 1
        raise DrillError(f"{limit} connections were made and the table is not full")

    def close(self) -> None:
        self._netlink.request(_CT_DELETE, _INET)  # without a tuple: all of this namespace's
        self._netlink.close()


def _entry(number: int) -> bytes:
    source, port = 0x0B000000 + (number >> 14), 1024 + (number & 0x3FFF)
    there = _tuple(source, 0x0B800001, port, 9)
    back = _tuple(0x0B800001, source, 9, port)
    return (
        _INET
        + nested(_TUPLE_ORIG, *there)
        + nested(_TUPLE_REPLY, *back)
        + attribute(_STATUS, struct.pack(">I", _ASSURED))
        + attribute(_TIMEOUT, struct.pack(">I", _SECONDS))
    )


def _tuple(source: int, destination: int, source_port: int, port: int) -> tuple[bytes, bytes]:
    return (
        nested(
            _TUPLE_IP,
            attribute(_SRC, struct.pack(">I", source)),
            attribute(_DST, struct.pack(">I", destination)),
        ),
        nested(
            _TUPLE_PROTO,
            attribute(_NUMBER, bytes([_UDP])),
            attribute(_SOURCE_PORT, struct.pack(">H", source_port)),
            attribute(_DESTINATION_PORT, struct.pack(">H", port)),
        ),
    )
