"""What the kernel says of nftables' elements in one namespace, each datagram with its time.

The kernel sends these events at the end of a commit, in the program's own system call; so an
event's time is that of the rules being in force, plus one wake-up of this process.
"""

import socket
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from typing import Final, Literal

from neti.dataplane.netlink import (
    NETLINK_NETFILTER,
    SO_RCVBUFFORCE,
    attributes,
    messages,
)
from neti.errors import NetiError

Kind = Literal["added", "removed"]

_GROUP: Final = 7  # NFNLGRP_NFTABLES
_ADD_MEMBERSHIP: Final = 1
_SOL_NETLINK: Final = 270
_NFGENMSG_BYTES: Final = 4
_SUBSYSTEM: Final = 10 << 8
_KINDS: Final[dict[int, Kind]] = {_SUBSYSTEM | 12: "added", _SUBSYSTEM | 14: "removed"}
# NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_ELEMENTS, and all that lies within is of type 1.
_SET, _ELEMENTS, _INNER = 2, 3, 1
_LARGEST: Final = 1 << 18
_BUFFER: Final = 256 << 20  # a load of 16,000 members is some megabytes of events


class NotInTime(NetiError):
    """The kernel did not get there within the patience that was given."""


class KernelEvents:
    """To be made in a thread that is inside the namespace; used from any."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _BUFFER)
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP)

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """For whoever waits for several."""
        return self._socket.fileno()

    def read(self) -> bytes:
        """The next datagram."""
        return self._socket.recv(_LARGEST)

    def drain(self) -> None:
        self._socket.setblocking(False)
        try:
            while True:
                self._socket.recv(_LARGEST)
        except BlockingIOError:
            return

    def wait_for(self, kind: Kind, overlay: IPv4Address, *, seconds: float = 10.0) -> float:
        """When the overlay address came into the map, or went (time.perf_counter)."""
        wanted = overlay.packed
        self._socket.settimeout(seconds)
        try:
            while True:
                datagram = self.read()
                now = time.perf_counter()
                if wanted in datagram and (kind, wanted) in overlay_events(datagram):
                    return now
        except TimeoutError as error:
            raise NotInTime(f"{overlay} was not {kind} within {seconds:.0f} s") from error

    def wait_for_all(
        self, overlays: set[IPv4Address], *, seconds: float, alive: Callable[[], None]
    ) -> float:
        """When the last of them came into the map. Looked at only once the kernel is quiet, so
        that looking takes no time from who works meanwhile; ``alive`` may raise."""
        missing = {overlay.packed for overlay in overlays}
        told: list[tuple[float, bytes]] = []
        deadline = time.perf_counter() + seconds
        self._socket.settimeout(0.5)
        while time.perf_counter() < deadline:
            try:
                datagram = self.read()
                told.append((time.perf_counter(), datagram))
                continue
            except TimeoutError:
                alive()
            for when, datagram in told:
                missing.difference_update(key for _, key in overlay_events(datagram))
                if not missing:
                    return when
            told.clear()
        raise NotInTime(f"{len(missing)} members are not in the kernel after {seconds:.0f} s")


def overlay_events(datagram: bytes) -> Iterator[tuple[Kind, bytes]]:
    """(what happened, key) of the map ``overlay``."""
    for number, payload in messages(datagram):
        kind = _KINDS.get(number)
        if kind is None:
            continue
        held = dict(attributes(payload[_NFGENMSG_BYTES:]))
        if held.get(_SET, b"").rstrip(b"\0") != b"overlay":
            continue
        for _, element in attributes(held.get(_ELEMENTS, b"")):
            key = dict(attributes(element)).get(_INNER, b"")
            yield kind, dict(attributes(key)).get(_INNER, b"")
