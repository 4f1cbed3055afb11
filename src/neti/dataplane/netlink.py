"""The little of rtnetlink(7) and nfnetlink that is shared: messages, attributes, one socket.

By hand because the agent needs only four message types, and a full netlink library would be a
third of its memory. Layouts are those of linux/netlink.h; every integer in a header is in the
machine's byte order.
"""

import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

from neti.errors import DataplaneError

NETLINK_ROUTE: Final = 0
NETLINK_NETFILTER: Final = 12

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP: Final = 0x300
NLM_F_CREATE: Final = 0x400
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLA_F_NESTED: Final = 0x8000
_NLA_TYPE_MASK: Final = 0x3FFF

_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port id
_ATTRIBUTE: Final = struct.Struct("=HH")
HEADER_BYTES: Final = _HEADER.size
_DUMP_BUFFER: Final = 1 << 20

SO_RCVBUFFORCE: Final = 33
SO_ATTACH_FILTER: Final = 26


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + b"\0" * (-length % 4)


def nested(kind: int, *inner: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(inner))


def attributes(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """(type without flags, value) of each attribute; stops at the first that makes no sense."""
    offset = 0
    while offset + _ATTRIBUTE.size <= len(payload):
        length, kind = _ATTRIBUTE.unpack_from(payload, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _NLA_TYPE_MASK, payload[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3


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
    """Requests with answers, one at a time, in the calling thread's network namespace."""

    def __init__(self, family: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family)
        self._socket.bind((0, 0))
        self._socket.settimeout(10.0)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def request(
        self, kind: int, payload: bytes, *, flags: int = 0, ignore: frozenset[int] = frozenset()
    ) -> None:
        """Send one command and wait for its acknowledgement; errnos in ``ignore`` are fine."""
        self._send(kind, NLM_F_REQUEST | NLM_F_ACK | flags, payload)
        for answer, body in messages(self._socket.recv(_DUMP_BUFFER)):
            if answer == NLMSG_ERROR:
                _raise_for(body, ignore)

    def ask(self, kind: int, payload: bytes) -> list[bytes]:
        """Send one question that has a single answer, and return that."""
        self._send(kind, NLM_F_REQUEST, payload)
        answers = []
        for answer, body in messages(self._socket.recv(_DUMP_BUFFER)):
            if answer == NLMSG_ERROR:
                _raise_for(body, frozenset())
            else:
                answers.append(body)
        return answers

    def dump(
        self, kind: int, payload: bytes, *, ignore: frozenset[int] = frozenset()
    ) -> Iterator[bytes]:
        """What is listed, message by message; errnos in ``ignore`` end the list without a word."""
        self._send(kind, NLM_F_REQUEST | NLM_F_DUMP, payload)
        while True:
            for answer, body in messages(self._socket.recv(_DUMP_BUFFER)):
                if answer in (NLMSG_DONE, NLMSG_ERROR):
                    # A dump that fails on its way says so in the message that ends it.
                    if len(body) >= 4:
                        _raise_for(body, ignore)
                    return
                yield body

    def _send(self, kind: int, flags: int, payload: bytes) -> None:
        self._sequence += 1
        length = HEADER_BYTES + len(payload)
        self._socket.send(_HEADER.pack(length, kind, flags, self._sequence, 0) + payload)


def _raise_for(body: bytes, ignore: frozenset[int]) -> None:
    number = -struct.unpack_from("=i", body)[0]
    if number > 0 and number not in ignore:
        raise DataplaneError(f"netlink: {os.strerror(number)}")
