"""What rtnetlink(7) and nfnetlink have in common: messages, attributes, one socket.

Written by hand, because the agent needs few kinds of message, and a full netlink library would take
a third of its memory. Layouts are those of linux/netlink.h; every integer in a header is in the
machine's byte order.
"""

import errno
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from neti.errors import DataplaneError, DataplaneUnavailable, KernelRefused

NETLINK_ROUTE: Final = 0
NETLINK_NETFILTER: Final = 12
NETLINK_GENERIC: Final = 16

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_DUMP: Final = 0x300
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLA_F_NESTED: Final = 0x8000
_NLA_TYPE_MASK: Final = 0x3FFF

_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port id
_ATTRIBUTE: Final = struct.Struct("=HH")
HEADER_BYTES: Final = _HEADER.size
_BUFFER: Final = 1 << 16  # one datagram of a dump has 32 KiB at most
_PATIENCE: Final = 10.0

SO_RCVBUFFORCE: Final = 33
_SO_SNDBUFFORCE: Final = 32
_SOL_NETLINK: Final = 270
_NETLINK_GET_STRICT_CHK: Final = 12
_NETLINK_CAP_ACK: Final = 10  # an error does not repeat the whole request
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11  # linux/netfilter/nfnetlink.h
_SKB_OVERHEAD: Final = 4096
# Every transaction, whoever's, changes the ruleset's generation under a running dump. It is begun
# again this often. The last one is believed, because it was most likely another table that changed.
_DUMPS: Final = 4

# A message to send: type, flags other than NLM_F_REQUEST, payload.
Order = tuple[int, int, bytes]
NOT_PERMITTED: Final = (
    "this process may not administer the network: run it as root or with CAP_NET_ADMIN"
)


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + b"\0" * (-length % 4)


def nested(kind: int, *inner: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(inner))


def attributes(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """(type without flags, value) of each attribute; stops at the first malformed one."""
    offset = 0
    while offset + _ATTRIBUTE.size <= len(payload):
        length, kind = _ATTRIBUTE.unpack_from(payload, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _NLA_TYPE_MASK, payload[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3


def without(payload: bytes, kind: int) -> bytes:
    """All attributes but those of this type, byte for byte as they are."""
    kept, offset = bytearray(), 0
    while offset + _ATTRIBUTE.size <= len(payload):
        length, found = _ATTRIBUTE.unpack_from(payload, offset)
        end = offset + (max(length, _ATTRIBUTE.size) + 3 & ~3)
        if found & _NLA_TYPE_MASK != kind:
            kept += payload[offset:end]
        offset = end
    return bytes(kept)


def u32(content: bytes | None) -> int:
    """In the machine's byte order; 0 when it is not there."""
    if content is None or len(content) < 4:
        return 0
    return int.from_bytes(content[:4], sys.byteorder)


def message(kind: int, payload: bytes) -> bytes:
    """One message that asks for nothing, padded to four bytes."""
    length = HEADER_BYTES + len(payload)
    return _HEADER.pack(length, kind, 0, 0, 0) + payload + b"\0" * (-length % 4)


def messages(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, payload) of each message in what one recv() returned."""
    offset = 0
    while offset + HEADER_BYTES <= len(datagram):
        length, kind, _flags, _sequence, _port = _HEADER.unpack_from(datagram, offset)
        if length < HEADER_BYTES:
            return
        yield kind, datagram[offset + HEADER_BYTES : offset + length]
        offset += (length + 3) & ~3


class NetlinkSocket:
    """Requests with answers, one at a time, in the calling thread's network namespace. Raises
    KernelRefused if the kernel refuses something, DataplaneError if it does not answer."""

    def __init__(self, family: int) -> None:
        """Raises DataplaneUnavailable, as when this process may open no more files."""
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family)
            self._socket.bind((0, 0))
        except OSError as error:
            raise DataplaneUnavailable(
                f"no netlink socket can be opened: {error.strerror}"
            ) from error
        self._socket.settimeout(_PATIENCE)
        with suppress(OSError):
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._sequence = 0
        self._room = 0  # bytes that were asked for as the send buffer

    def close(self) -> None:
        self._socket.close()

    def strict_checks(self) -> bool:
        """Ask the kernel to take all of a request into account, so that it lists only what was
        asked for. Returns whether it can."""
        try:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        except OSError:  # before 4.20
            return False
        return True

    def request(
        self, kind: int, payload: bytes, *, flags: int = 0, ignore: frozenset[int] = frozenset()
    ) -> None:
        """Send one command and wait for its acknowledgement; errnos in ``ignore`` are fine."""
        self._send(kind, NLM_F_REQUEST | NLM_F_ACK | flags, payload)
        for answer, _, body in self._answers():
            if answer == NLMSG_ERROR:
                _raise_for(body, ignore)
                return

    def ask(self, kind: int, payload: bytes) -> list[bytes]:
        """Send one request that has a single answer, and return that."""
        self._send(kind, NLM_F_REQUEST, payload)
        for answer, _, body in self._answers():
            if answer == NLMSG_ERROR:
                _raise_for(body, frozenset())
            return [body]
        return []

    def dump(
        self, kind: int, payload: bytes, *, ignore: frozenset[int] = frozenset()
    ) -> Iterator[bytes]:
        """What is listed, message by message; an errno in ``ignore`` ends the list silently."""
        self._send(kind, NLM_F_REQUEST | NLM_F_DUMP, payload)
        for answer, _, body in self._answers():
            if answer in (NLMSG_DONE, NLMSG_ERROR):
                # A dump that fails midway says so in the message that ends it.
                if len(body) >= 4:
                    _raise_for(body, ignore)
                return
            yield body

    def dump_some(
        self,
        kind: int,
        payload: bytes,
        wanted: Callable[[bytes, int, int], bool],
        *,
        ignore: frozenset[int] = frozenset(),
    ) -> Iterator[bytes]:
        """As ``dump``, for lists so long that copying each message out of its datagram would be the
        main cost. ``wanted`` gets a datagram, and where in it a payload begins and ends."""
        self._send(kind, NLM_F_REQUEST | NLM_F_DUMP, payload)
        unpack, asked = _HEADER.unpack_from, self._sequence
        while True:
            datagram = self._received()
            offset, end = 0, len(datagram) - HEADER_BYTES
            while offset <= end:
                length, answer, _, sequence, _ = unpack(datagram, offset)
                if length < HEADER_BYTES:
                    break
                start, offset = offset + HEADER_BYTES, offset + ((length + 3) & ~3)
                if sequence != asked:
                    continue
                if answer in (NLMSG_DONE, NLMSG_ERROR):
                    if length >= HEADER_BYTES + 4:
                        _raise_for(datagram[start : start + 4], ignore)
                    return
                stop = start + length - HEADER_BYTES
                if wanted(datagram, start, stop):
                    yield datagram[start:stop]

    def listed(
        self, kind: int, payload: bytes, *, ignore: frozenset[int] = frozenset()
    ) -> list[bytes]:
        """As ``dump``, all at once: begun again if something changed while it ran."""
        for _ in range(_DUMPS):
            self._send(kind, NLM_F_REQUEST | NLM_F_DUMP, payload)
            bodies, torn = [], False
            for answer, flags, body in self._answers():
                torn = torn or bool(flags & NLM_F_DUMP_INTR)
                if answer in (NLMSG_DONE, NLMSG_ERROR):
                    if len(body) >= 4:
                        _raise_for(body, ignore)
                    break
                bodies.append(body)
            if not torn:
                break
        return bodies

    def batch(
        self, subsystem: int, orders: Sequence[Order], *, commit: bool = True
    ) -> tuple[int, int] | None:
        """Do all of ``orders`` as one transaction, or nothing. Returns the place of the first one
        that was refused (-1: the transaction as a whole) and the errno; None: it was done.
        ``commit`` False: only ask whether the kernel would. It undoes a transaction that has no
        end."""
        begin = self._sequence + 1
        header = struct.pack("=BB", 0, 0) + struct.pack(">H", subsystem)
        parts = [_HEADER.pack(HEADER_BYTES + 4, _BATCH_BEGIN, NLM_F_REQUEST, begin, 0), header]
        last = len(orders) - 1
        for place, (kind, flags, payload) in enumerate(orders):
            asked = flags | NLM_F_REQUEST | (NLM_F_ACK if place == last else 0)
            length = HEADER_BYTES + len(payload)
            parts.append(_HEADER.pack(length, kind, asked, begin + 1 + place, 0))
            parts.append(payload + b"\0" * (-length % 4))
        self._sequence = begin + len(orders) + 1
        if commit:
            parts += [
                _HEADER.pack(HEADER_BYTES + 4, _BATCH_END, NLM_F_REQUEST, self._sequence, 0),
                header,
            ]
        self._send_all(b"".join(parts))
        return self._verdict(begin, begin + 1 + last)

    def _verdict(self, begin: int, last: int) -> tuple[int, int] | None:
        """Errors come in the order in which orders were sent, then the last order's
        acknowledgement.
        """
        first: tuple[int, int] | None = None
        while True:
            for kind, _, sequence, body in headed(self._received()):
                if kind != NLMSG_ERROR or not begin <= sequence <= last:
                    continue  # left over from an earlier request
                number = -struct.unpack_from("=i", body)[0]
                if number and (first is None or sequence == begin):
                    first = sequence - begin - 1, number
                if sequence in (begin, last):
                    return first

    def _send(self, kind: int, flags: int, payload: bytes) -> None:
        self._sequence += 1
        length = HEADER_BYTES + len(payload)
        self._send_all(_HEADER.pack(length, kind, flags, self._sequence, 0) + payload)

    def _send_all(self, datagram: bytes) -> None:
        needed = len(datagram) + _SKB_OVERHEAD
        if needed > max(self._room, 100_000):
            self._room = needed * 2
            for option in (socket.SO_SNDBUF, _SO_SNDBUFFORCE):
                # More than net.core.wmem_max takes CAP_NET_ADMIN. If it is not enough, send()
                # fails.
                with suppress(OSError):
                    self._socket.setsockopt(socket.SOL_SOCKET, option, self._room)
        try:
            self._socket.send(datagram)
        except OSError as error:
            raise _silence(error) from error

    def _answers(self) -> Iterator[tuple[int, int, bytes]]:
        """(type, flags, payload) of what answers the last request."""
        asked = self._sequence
        while True:
            for kind, flags, sequence, body in headed(self._received()):
                if sequence == asked:
                    yield kind, flags, body

    def _received(self) -> bytes:
        try:
            return self._socket.recv(_BUFFER)
        except OSError as error:
            raise _silence(error) from error


def headed(datagram: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, sequence, payload) of each message."""
    offset = 0
    while offset + HEADER_BYTES <= len(datagram):
        length, kind, flags, sequence, _port = _HEADER.unpack_from(datagram, offset)
        if length < HEADER_BYTES:
            return
        yield kind, flags, sequence, datagram[offset + HEADER_BYTES : offset + length]
        offset += (length + 3) & ~3


def _silence(error: OSError) -> DataplaneError:
    if isinstance(error, TimeoutError):
        return DataplaneError(f"netlink: the kernel does not answer in {_PATIENCE:.0f} s")
    return DataplaneError(f"netlink: {error.strerror or error}")


def _raise_for(body: bytes, ignore: frozenset[int]) -> None:
    number = -struct.unpack_from("=i", body)[0]
    if number in (errno.EPERM, errno.EACCES) and number not in ignore:
        raise DataplaneUnavailable(NOT_PERMITTED)
    if number > 0 and number not in ignore:
        raise KernelRefused(f"netlink: {os.strerror(number)}", number)
