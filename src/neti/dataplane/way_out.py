"""The way out: stop dropping, take the table out, take routes, rule and WireGuard device out, by a
few netlink messages.

It reads nobody's rules, sets or elements, and needs no library, no program, no file and hardly any
memory: so it works when nothing else does, however much the kernel holds.

``disarm`` leaves a mark in the verdict map that it empties, an element that no packet can match. By
that an agent that hung, or that starts, sees that an operator emptied the map and no vandal. The
mark lasts as long as the table, that is, until the next boot.

Must never do: touch a table but ``inet neti``, or a route or rule that does not bear our protocol
number, or a link but ``neti0`` of WireGuard's or wireguard-go's kind; read what others wrote;
import what is not part of Python or of the netlink door.
Constants: linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h, linux/if_link.h,
linux/fib_rules.h, linux/rtnetlink.h.
"""

import errno
import os
import socket
import struct
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from typing import Final

from neti.dataplane.netlink import (
    NETLINK_NETFILTER,
    NETLINK_ROUTE,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    NetlinkSocket,
    attribute,
    attributes,
    messages,
    nested,
)
from neti.errors import DataplaneError, DataplaneUnavailable, KernelRefused

# An address family that no packet in an inet table has: the key of the mark in map enforce.
MARK: Final = 78
ROUTE_PROTOCOL: Final = 78

_TABLE: Final = b"neti\0"
_MAP: Final = b"enforce\0"
_SET: Final = b"require\0"
_NARROWED: Final = b"narrowed\0"
_PATIENCE: Final = 10.0  # seconds for the kernel

_SUBSYSTEM: Final = 10  # NFNL_SUBSYS_NFTABLES
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEWTABLE, _GETTABLE, _DELTABLE, _GETSETELEM, _NEWSETELEM, _DELSETELEM = 0, 1, 2, 13, 12, 14
_TABLE_NAME, _TABLE_FLAGS, _TABLE_USE = 1, 2, 3
_DORMANT: Final = 1
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS, _LIST_ELEMENT = 1, 2, 3, 1
_ELEMENT_KEY, _ELEMENT_DATA, _ELEMENT_TIMEOUT = 1, 2, 4
_DATA_VALUE, _DATA_VERDICT, _VERDICT_CODE = 1, 2, 1
_CONTINUE: Final = struct.pack(">i", -1)
_DROP: Final = struct.pack(">i", 0)
_INET: Final = struct.pack("=BBH", 1, 0, 0)  # NFPROTO_INET, version 0, resource 0

_RTM_GETROUTE, _RTM_DELROUTE = 26, 25
_RTMSG: Final = struct.Struct("=BBBBBBBBI")
_RT_BITS, _RT_PROTOCOL = 1, 5  # the fields' places in rtmsg
_RTA_DST, _RTA_PRIORITY, _RTA_TABLE = 1, 6, 15

_LINK: Final = b"neti0\0"
_LINK_KINDS: Final = frozenset({b"wireguard", b"tun"})
_RTM_DELLINK, _RTM_GETLINK, _RTM_DELRULE, _RTM_GETRULE = 17, 18, 33, 34
_IFINFO: Final = struct.Struct("=BxHiII")
_IFLA_IFNAME, _IFLA_LINKINFO, _INFO_KIND, _FRA_PROTOCOL = 3, 18, 1, 21

_GONE: Final = frozenset({errno.ENOENT})


def disarm() -> bool:
    """Empty maps ``enforce`` and ``narrowed`` and set ``require``: nothing is dropped any more, and
    nothing in the clear is refused. Whether there was the first.

    The mark is left in the same transaction. Raises DataplaneError: the kernel is as it was.
    """
    table = attribute(_LIST_TABLE, _TABLE)
    named = table + attribute(_LIST_SET, _MAP)
    emptied = (_DELSETELEM, 0, named)
    others = [(_DELSETELEM, 0, table + attribute(_LIST_SET, one)) for one in (_SET, _NARROWED)]
    # Only hosts that encrypt have the one, and those with member_ports the other.
    present = ((*others,), (others[0],), (others[1],), ())
    verdict = nested(_ELEMENT_DATA, nested(_DATA_VERDICT, attribute(_VERDICT_CODE, _CONTINUE)))
    key = nested(_ELEMENT_KEY, attribute(_DATA_VALUE, bytes((MARK,))))
    marked = (_NEWSETELEM, NLM_F_CREATE, named + _listed(key + verdict))
    try:
        return any(_batch(emptied, marked, *also) for also in present)
    except DataplaneUnavailable:
        raise
    except DataplaneError:
        # A map of another version may not take the mark. It matters more that nothing is dropped.
        return any(_batch(emptied, *also) for also in present)


def _listed(element: bytes) -> bytes:
    return nested(_LIST_ELEMENTS, nested(_LIST_ELEMENT, element))


def remove_table() -> bool:
    """Take ``table inet neti`` out, whatever it holds. Returns whether it was there."""
    return _batch((_DELTABLE, 0, attribute(_TABLE_NAME, _TABLE)))


def leave_down_mark() -> None:
    """Leave an empty table that judges nothing, in place of a file that could not be written: it
    tells the agent not to write to the kernel again before 'neti up'."""
    words = attribute(_TABLE_NAME, _TABLE)
    words += attribute(_TABLE_FLAGS, struct.pack(">I", _DORMANT))
    _batch((_NEWTABLE, NLM_F_CREATE, words))


def has_down_mark() -> bool:
    """Whether our table is there, dormant and empty. If it is dormant and not empty, another
    program did that: it is drift, to be repaired."""
    with closing(NetlinkSocket(NETLINK_NETFILTER)) as kernel:
        try:
            answers = kernel.ask(
                _SUBSYSTEM << 8 | _GETTABLE, _INET + attribute(_TABLE_NAME, _TABLE)
            )
        except DataplaneError:
            return False
    for body in answers:
        return is_down_mark(dict(attributes(body[len(_INET) :])))
    return False


def is_down_mark(table: Mapping[int, bytes]) -> bool:
    """By a table's attributes, as the kernel lists them."""
    dormant = int.from_bytes(table.get(_TABLE_FLAGS, b"")) & _DORMANT
    return bool(dormant) and not any(table.get(_TABLE_USE, b""))


@dataclass(frozen=True, slots=True)
class Held:
    """What the kernel holds of ours. ``relaxed``: the map was emptied by ``disarm``."""

    drops: bool = False
    trial: bool = False  # what it drops has an end
    relaxed: bool = False
    requires: bool = False  # what goes in the clear to members that must be encrypted is refused
    requires_on_trial: bool = False  # and that has an end


def held() -> Held | None:
    """What the kernel holds of ours, asked without a library; None: the table is not there.

    Reads our own map ``enforce`` and set ``require``, of three elements at most, and nothing else.
    """
    table = attribute(_LIST_TABLE, _TABLE)
    named = attribute(_LIST_TABLE, _TABLE) + attribute(_LIST_SET, _MAP)
    found = Held()
    with closing(NetlinkSocket(NETLINK_NETFILTER)) as kernel:
        if not _there(kernel):
            return None
        for body in kernel.dump(_SUBSYSTEM << 8 | _GETSETELEM, _INET + named, ignore=_GONE):
            for kind, value in attributes(body[len(_INET) :]):
                if kind == _LIST_ELEMENTS:
                    for _, element in attributes(value):
                        found = _with(found, dict(attributes(element)))
        # Only hosts that encrypt have the set.
        named = table + attribute(_LIST_SET, _SET)
        for body in kernel.dump(_SUBSYSTEM << 8 | _GETSETELEM, _INET + named, ignore=_GONE):
            for kind, value in attributes(body[len(_INET) :]):
                if kind == _LIST_ELEMENTS:
                    for _, element in attributes(value):
                        ends = _ELEMENT_TIMEOUT in dict(attributes(element))
                        on_trial = found.requires_on_trial or ends
                        found = replace(found, requires=True, requires_on_trial=on_trial)
    return found


def _with(found: Held, element: dict[int, bytes]) -> Held:
    key = dict(attributes(element.get(_ELEMENT_KEY, b""))).get(_DATA_VALUE, b"")
    if key[:1] == bytes((MARK,)):
        return replace(found, relaxed=True)
    if _code(element.get(_ELEMENT_DATA, b"")) != _DROP:
        return found
    return replace(found, drops=True, trial=found.trial or _ELEMENT_TIMEOUT in element)


def _code(data: bytes) -> bytes:
    verdict = dict(attributes(data)).get(_DATA_VERDICT, b"")
    return dict(attributes(verdict)).get(_VERDICT_CODE, b"")


def _there(kernel: NetlinkSocket) -> bool:
    try:
        kernel.ask(_SUBSYSTEM << 8 | _GETTABLE, _INET + attribute(_TABLE_NAME, _TABLE))
    except KernelRefused as refused:
        if refused.number in _GONE:
            return False
        raise
    return True


def remove_routes() -> list[IPv4Network]:
    """Take out every IPv4 route with our protocol number, in whichever table. Returns where they
    led."""
    asked = _RTMSG.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
    led = []
    with closing(NetlinkSocket(NETLINK_ROUTE)) as kernel:
        ours = [
            body
            for body in kernel.dump(_RTM_GETROUTE, asked)
            if len(body) >= _RTMSG.size and body[_RT_PROTOCOL] == ROUTE_PROTOCOL
        ]
        for body in ours:
            held = dict(attributes(body[_RTMSG.size :]))
            # Only what names a route: with the rest of the listing it might not be found.
            named = body[: _RTMSG.size] + b"".join(
                attribute(kind, held[kind])
                for kind in (_RTA_DST, _RTA_PRIORITY, _RTA_TABLE)
                if kind in held
            )
            kernel.request(_RTM_DELROUTE, named, ignore=frozenset({errno.ESRCH}))
            to = int.from_bytes(held.get(_RTA_DST, bytes(4)))
            led.append(IPv4Network((to, body[_RT_BITS]), strict=False))
    return list(dict.fromkeys(led))  # the overlay's stands in two tables


def remove_rules() -> int:
    """Take out every IPv4 routing rule with our protocol number. Returns how many."""
    asked = _RTMSG.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
    with closing(NetlinkSocket(NETLINK_ROUTE)) as kernel:
        ours = [
            body
            for body in kernel.dump(_RTM_GETRULE, asked)
            if dict(attributes(body[_RTMSG.size :])).get(_FRA_PROTOCOL) == bytes((ROUTE_PROTOCOL,))
        ]
        for body in ours:
            kernel.request(_RTM_DELRULE, body, ignore=_GONE)
    return len(ours)


def remove_device() -> bool:
    """Take the WireGuard device out, which ends wireguard-go too. Returns whether it was there. A
    link of that name but of another kind is somebody else's."""
    named = _IFINFO.pack(0, 0, 0, 0, 0) + attribute(_IFLA_IFNAME, _LINK)
    missing = frozenset({errno.ENODEV})
    with closing(NetlinkSocket(NETLINK_ROUTE)) as kernel:
        try:
            (body,) = kernel.ask(_RTM_GETLINK, named)
        except KernelRefused as refused:
            if refused.number in missing:
                return False
            raise
        held = dict(attributes(body[_IFINFO.size :]))
        kind = dict(attributes(held.get(_IFLA_LINKINFO, b""))).get(_INFO_KIND, b"")
        if kind.rstrip(b"\0") not in _LINK_KINDS:
            return False
        index = _IFINFO.unpack_from(body)[2]
        kernel.request(_RTM_DELLINK, _IFINFO.pack(0, 0, index, 0, 0), ignore=missing)
    return True


def _batch(*orders: tuple[int, int, bytes]) -> bool:
    """All of it or nothing; False if what was to be changed is not there."""
    with closing(_raw()) as kernel:
        sent = [_message(_BATCH_BEGIN, NLM_F_REQUEST, 0, _batch_header())]
        for number, (kind, flags, words) in enumerate(orders, 1):
            asked = flags | NLM_F_REQUEST | NLM_F_ACK
            sent.append(_message(_SUBSYSTEM << 8 | kind, asked, number, _INET + words))
        sent.append(_message(_BATCH_END, NLM_F_REQUEST, len(orders) + 1, _batch_header()))
        try:
            kernel.send(b"".join(sent))
            return _heard(kernel, len(orders))
        except OSError as error:
            raise DataplaneError(
                f"the kernel does not answer: {error.strerror or error}"
            ) from error


def _heard(kernel: socket.socket, orders: int) -> bool:
    """Wait for an acknowledgement of each order, or for what was wrong with one."""
    while orders > 0:
        for kind, body in messages(kernel.recv(1 << 16)):
            if kind != NLMSG_ERROR:
                continue
            orders -= 1
            number = -struct.unpack_from("=i", body)[0]
            if number == errno.ENOENT:
                return False
            if number == errno.EPERM:
                raise DataplaneUnavailable(
                    "the kernel does not let this process change nftables: run it as root"
                )
            if number:
                raise DataplaneError(f"the kernel refused it: {os.strerror(number)}")
    return True


def _message(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(payload), kind, flags, number, 0) + payload


def _batch_header() -> bytes:
    return struct.pack("=BB", 0, 0) + struct.pack(">H", _SUBSYSTEM)


def _raw() -> socket.socket:
    try:
        kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        kernel.bind((0, 0))
        kernel.settimeout(_PATIENCE)
    except OSError as error:
        raise DataplaneUnavailable(f"no netlink socket can be opened: {error.strerror}") from error
    return kernel
