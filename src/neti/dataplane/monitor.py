"""Watches the kernel for what others do to it: routes, links, addresses, nftables. Only tells.

One thread, two sockets. Of nftables' events a socket filter passes only the last of each
transaction (NFT_MSG_NEWGEN, which names the program), and none of this process's own. Otherwise a
load of 16,000 elements would be copied to us once more, and each of our changes would wake us
again. ENOBUFS means that events were lost: then everything may have changed. See rtnetlink(7),
linux/netfilter/nf_tables.h.

Must never do: end silently. If something breaks, it says so, opens the sockets anew, and takes it
that everything may have changed meanwhile.
"""

import errno
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Final

from neti import log
from neti.dataplane import rtnetlink
from neti.dataplane.netlink import (
    NETLINK_NETFILTER,
    NETLINK_ROUTE,
    SO_RCVBUFFORCE,
    NetlinkSocket,
    attributes,
    messages,
)
from neti.dataplane.nf_tables import ANY, GETGEN
from neti.dataplane.socket_filter import DROP, KEEP, attach, equals, load16, load32

# Links, addresses, routes and rules; of IPv4 and IPv6.
_ROUTE_GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400
_ROUTE_EVENTS: Final = frozenset({24, 25})  # RTM_NEWROUTE, RTM_DELROUTE
_RTMSG_BYTES: Final = 12
_NFTABLES_GROUP: Final = 7
_NETLINK_ADD_MEMBERSHIP: Final = 1
_SOL_NETLINK: Final = 270
_NEWGEN: Final = (10 << 8) | 15
_GEN_PROC_PID: Final = 2
_GEN_PROC_NAME: Final = 3
_NFGENMSG_BYTES: Final = 4
_RECEIVE_BUFFER: Final = 8 << 20
_PAUSE_MS: Final = 1000  # before beginning anew


@dataclass(frozen=True, slots=True)
class NetworkChanged:
    """Links, addresses or routes have changed."""


@dataclass(frozen=True, slots=True)
class RulesChanged:
    """Somebody committed an nftables transaction; ``pid`` 0: unknown, events were lost."""

    pid: int
    program: str


Watched = NetworkChanged | RulesChanged


class Monitor:
    """Calls ``tell`` from its own thread for each change not made by this process; ``broke`` with a
    sentence when it had to begin anew."""

    def __init__(
        self,
        tell: Callable[[Watched], None],
        broke: Callable[[str], None] = lambda _what: None,
        *,
        overlay: IPv4Network | None = None,
    ) -> None:
        """``overlay``: a route that is neither a default nor overlaps it wakes nobody; a router
        changes thousands. To be made by the thread that changes nftables: the kernel knows a writer
        by its thread. Raises DataplaneError, OSError."""
        self._tell = tell
        self._matters = _matters(overlay)
        self._broke = broke
        self._own = _own_number()
        self._routes, self._rules = _subscriptions(self._own)
        self._wake_read, self._wake_write = os.pipe()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="neti-monitor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        os.write(self._wake_write, b"x")
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        for number in (self._wake_read, self._wake_write):
            os.close(number)
        self._routes.close()
        self._rules.close()

    def _run(self) -> None:
        while not self._closing:
            try:
                self._watch()
            except Exception as error:  # if this ended, silence would look like peace
                self._broke(log.unexpected("the kernel's monitor", error))
                self._begin_anew()

    def _begin_anew(self) -> None:
        """With new sockets, as soon as there are any. What happened in between is unknown."""
        while not self._closing:
            poll = select.poll()
            poll.register(self._wake_read, select.POLLIN)
            if poll.poll(_PAUSE_MS):
                return
            try:
                routes, rules = _subscriptions(self._own)
            except OSError as error:
                self._broke(log.unexpected("the kernel's monitor", error))
                continue
            self._routes.close()
            self._rules.close()
            self._routes, self._rules = routes, rules
            self._tell(NetworkChanged())
            self._tell(RulesChanged(0, "unknown"))
            return

    def _watch(self) -> None:
        poll = select.poll()  # select() takes no descriptor above 1023
        for watched in (self._routes.fileno(), self._rules.fileno(), self._wake_read):
            poll.register(watched, select.POLLIN)
        while True:
            ready = {number for number, _event in poll.poll()}
            if self._wake_read in ready:
                return
            if self._routes.fileno() in ready and _drained(self._routes, self._matters):
                self._tell(NetworkChanged())
            if self._rules.fileno() in ready:
                for change in _rule_changes(self._rules):
                    if change.pid != self._own:
                        self._tell(change)


def _own_number() -> int:
    """What the kernel calls this thread in an event. In a PID namespace, as in a container, it is
    another number than this process sees: nf_tables_fill_gen_info() has the machine's own."""
    asking = NetlinkSocket(NETLINK_NETFILTER)
    try:
        return _writer(asking.ask(GETGEN, ANY)[0])[0] or os.getpid()
    finally:
        asking.close()


def _subscriptions(own: int) -> tuple[socket.socket, socket.socket]:
    """To routes and to rules. Raises OSError with neither of them open."""
    routes = _subscribed(NETLINK_ROUTE)
    try:
        rules = _subscribed(NETLINK_NETFILTER)
        try:
            routes.bind((0, _ROUTE_GROUPS))
            _only_others_newgen(rules, own)
            rules.bind((0, 0))
            rules.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _NFTABLES_GROUP)
        except OSError:
            rules.close()
            raise
    except OSError:
        routes.close()
        raise
    return routes, rules


def _subscribed(family: int) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, family)
    # More than net.core.rmem_max takes CAP_NET_ADMIN in the first namespace: take what we get.
    for option in (socket.SO_RCVBUF, SO_RCVBUFFORCE):
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, _RECEIVE_BUFFER)
        except OSError:
            continue
    return sock


def _only_others_newgen(sock: socket.socket, own: int) -> None:
    """Classic BPF: pass what begins with NFT_MSG_NEWGEN and names another process.

    Loads are in network order, and offsets are those of nf_tables_fill_gen_info(): nlmsghdr (16
    bytes), nfgenmsg (4), the generation's attribute (8), then that of the process: header (4), id.
    What does not look like that passes too, and is looked at again in ``_watch``.
    """
    attach(
        sock,
        (
            load16(4),  # nlmsg_type
            equals(socket.htons(_NEWGEN), 0, 5),  # otherwise nothing
            load16(30),  # nla_type
            equals(socket.htons(_GEN_PROC_PID), 0, 2),  # otherwise all of it
            load32(32),  # the id, a big-endian number
            equals(own, 1, 0),
            KEEP,
            DROP,
        ),
    )


def _matters(overlay: IPv4Network | None) -> Callable[[bytes], bool]:
    """Whether a datagram of rtnetlink is about anything that concerns the agent."""
    of4, of6 = rtnetlink.near_or_default(overlay), rtnetlink.near_or_default(None)

    def matters(datagram: bytes) -> bool:
        for kind, payload in messages(datagram):
            if overlay is None or kind not in _ROUTE_EVENTS or len(payload) < _RTMSG_BYTES:
                return True
            near = of4 if payload[0] == rtnetlink.IPV4 else of6
            if near(payload, 0, len(payload)):
                return True
        return False

    return matters


def _drained(sock: socket.socket, matters: Callable[[bytes], bool]) -> bool:
    """Read everything that waits. Returns whether any of it matters."""
    found = False
    while True:
        try:
            datagram = sock.recv(1 << 16)
        except BlockingIOError:
            return found
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            found = True  # events were lost
            continue
        if not datagram:
            return found
        found = found or matters(datagram)


def _rule_changes(sock: socket.socket) -> list[RulesChanged]:
    changes: list[RulesChanged] = []
    while True:
        try:
            datagram = sock.recv(1 << 16)
        except BlockingIOError:
            return changes
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            changes.append(RulesChanged(0, "unknown"))
            continue
        for kind, payload in messages(datagram):
            if kind == _NEWGEN:
                changes.append(RulesChanged(*_writer(payload)))


def _writer(payload: bytes) -> tuple[int, str]:
    """Its number and its name."""
    held = dict(attributes(payload[_NFGENMSG_BYTES:]))
    number = struct.unpack(">I", held.get(_GEN_PROC_PID, b"\0\0\0\0"))[0]
    return number, held.get(_GEN_PROC_NAME, b"").rstrip(b"\0").decode(errors="replace")
