"""The link, the rule and the route by which marked packets reach the WireGuard device.

    rule    fwmark 0x1000/0x1000 lookup 78   priority 78, protocol 78
    route   OVERLAY_SUBNET dev neti0         table 78, protocol 78
    link    neti0                            MTU, up, src_valid_mark

By rtnetlink(7): linux/if_link.h, linux/fib_rules.h, linux/rtnetlink.h, linux/ip.h. None of it needs
a writable /proc/sys.

Must never do: delete a rule or a route that does not bear our protocol number, or a link of another
kind than WireGuard's and wireguard-go's.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Final

from neti.dataplane import rtnetlink
from neti.dataplane.netlink import (
    NETLINK_ROUTE,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NetlinkSocket,
    attribute,
    attributes,
    nested,
)
from neti.dataplane.way_out import ROUTE_PROTOCOL
from neti.dataplane.wireguard import DEVICE
from neti.errors import DataplaneError, DataplaneUnavailable, DeviceMissing, KernelRefused

MARK: Final = 0x1000  # as ruleset.surroundings.Tunnel has it
TABLE: Final = 78
PRIORITY: Final = 78

_NEW_LINK, _DELETE_LINK, _GET_LINK = 16, 17, 18
_NEW_ROUTE, _DELETE_ROUTE = 24, 25
_NEW_RULE, _DELETE_RULE, _GET_RULE = 32, 33, 34
_NLM_F_REPLACE: Final = 0x100
_IFINFO: Final = struct.Struct("=BxHiII")
_UP: Final = 1
_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_AF_SPEC, _INFO_KIND = 3, 4, 18, 26, 1
_INET_CONF, _SRC_VALID_MARK = 1, 24
_RULE: Final = struct.Struct("=BBBBBBBBI")  # the same as a route's
_TO_TABLE: Final = 1
_PRIORITY, _FWMARK, _FRA_TABLE, _FWMASK, _FRA_PROTOCOL = 6, 10, 15, 16, 21
_SCOPE_LINK, _UNICAST, _DST, _OIF = 253, 1, 1, 4
_NO_MODULE: Final = frozenset({errno.EOPNOTSUPP, errno.ENODEV})
_MOST_DELETED: Final = 64
# What wireguard-go's link is of, and the module's.
_KINDS: Final = frozenset({"wireguard", "tun"})


@dataclass(frozen=True, slots=True)
class Link:
    """``kind``: "wireguard", "tun" for wireguard-go's, or what another program made."""

    index: int
    name: str
    kind: str
    mtu: int
    up: bool
    src_valid_mark: bool

    @property
    def usable(self) -> bool:
        return self.kind in _KINDS

    def faults(self, mtu: int) -> tuple[str, ...]:
        if not self.usable:
            return (f"{self.name} is another program's, of kind {self.kind or 'unknown'}",)
        found = []
        if self.mtu != mtu:
            found.append(f"its MTU is {self.mtu} and not {mtu}")
        if not self.up:
            found.append("it is not up")
        if not self.src_valid_mark:
            found.append("src_valid_mark is 0")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Rule:
    """``plain``: it asks for the mark and for nothing else, and leads to a table."""

    priority: int
    mark: int
    mask: int
    table: int
    plain: bool = True


def our_rule(mark: int) -> Rule:
    return Rule(PRIORITY, mark, mark, TABLE)


@dataclass(frozen=True, slots=True)
class Road:
    """What the kernel holds. ``rules`` and ``routes``: those that bear our protocol number;
    routes of table 78 only, as (destination, index of the device). ``strangers``: how many routes
    others have put into table 78."""

    link: Link | None
    rules: tuple[Rule, ...] = ()
    routes: tuple[tuple[IPv4Network, int], ...] = ()
    strangers: int = 0

    def faults(self, subnet: IPv4Network, mtu: int, mark: int = MARK) -> tuple[str, ...]:
        """What is not as it should be, each in a few words; nothing: all is well."""
        link = self.link
        found = ["the device is missing"] if link is None else [*link.faults(mtu)]
        if not self.rule_is_right(mark):
            found.append(f"the rule for fwmark {mark:#x} is missing or another")
        if link is not None and not self.route_is_right(subnet):
            found.append(f"the route in table {TABLE} is missing or another")
        if self.strangers:
            found.append(f"another program has {self.strangers} routes in table {TABLE}")
        return tuple(found)

    def rule_is_right(self, mark: int = MARK) -> bool:
        return self.rules == (our_rule(mark),)

    def route_is_right(self, subnet: IPv4Network) -> bool:
        return self.link is not None and self.routes == ((subnet, self.link.index),)


def read(name: str = DEVICE) -> Road:
    """In the calling thread's network namespace, as all here. Raises DataplaneError."""
    with _opened() as kernel:
        rules = tuple(rule for rule, _ in _our_rules(kernel))
        link = _link(kernel, name)
    with rtnetlink.opened() as routing:
        held = routing.routes(rtnetlink.IPV4, [TABLE], IPv4Network("0.0.0.0/0"))
    ours = [route for route in held if route.protocol == ROUTE_PROTOCOL]
    return Road(
        link,
        rules,
        tuple((route.network(), (route.devices or (0,))[0]) for route in ours),
        len(held) - len(ours),
    )


def make_link(name: str = DEVICE) -> None:
    """Of the kernel's module. Raises DataplaneUnavailable when there is none: wireguard-go makes
    its own link."""
    words = _IFINFO.pack(0, 0, 0, 0, 0) + _named(name)
    words += nested(_IFLA_LINKINFO, attribute(_INFO_KIND, b"wireguard"))
    with _opened() as kernel:
        try:
            kernel.request(_NEW_LINK, words, flags=NLM_F_CREATE | NLM_F_EXCL)
        except KernelRefused as error:
            if error.number in _NO_MODULE:
                raise DataplaneUnavailable(
                    "this kernel has no WireGuard module: install wireguard-go"
                ) from error
            raise DataplaneError(f"the link {name} could not be made: {error}") from error


def set_link(mtu: int, name: str = DEVICE) -> None:
    """Up, with this MTU, and with src_valid_mark: rp_filter then asks for the way back as a marked
    packet would take it. Where the kernel refuses a part, others may have taken effect. Raises
    DeviceMissing, or DataplaneError with what the kernel says (as when the UDP port is taken: the
    module opens it only now)."""
    conf = nested(_INET_CONF, attribute(_SRC_VALID_MARK, struct.pack("=I", 1)))
    words = _IFINFO.pack(0, 0, 0, _UP, _UP) + _named(name)
    words += attribute(_IFLA_MTU, struct.pack("=I", mtu))
    words += nested(_IFLA_AF_SPEC, nested(socket.AF_INET, conf))
    with _opened() as kernel:
        try:
            kernel.request(_NEW_LINK, words)
        except KernelRefused as error:
            if error.number == errno.ENODEV:
                raise DeviceMissing(f"there is no link {name}") from error
            hint = ": another program uses its UDP port" if error.number == errno.EADDRINUSE else ""
            raise DataplaneError(f"the link {name} could not be set up: {error}{hint}") from error


def delete_link(name: str = DEVICE) -> bool:
    """Whether it was there. wireguard-go ends with its link. One of another kind stays."""
    with _opened() as kernel:
        link = _link(kernel, name)
        if link is None or not link.usable:
            return False
        words = _IFINFO.pack(0, 0, link.index, 0, 0)
        kernel.request(_DELETE_LINK, words, ignore=frozenset({errno.ENODEV}))
    return True


def set_rule(mark: int = MARK) -> None:
    """Our one rule, for one bit of the mark, and no other with our protocol number. The right one
    is made before wrong ones go."""
    with _opened() as kernel:
        held = list(_our_rules(kernel))
        right = [body for rule, body in held if rule == our_rule(mark)]
        if not right:
            words = _RULE.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, _TO_TABLE, 0)
            for kind, value in (
                (_PRIORITY, PRIORITY),
                (_FWMARK, mark),
                (_FWMASK, mark),
                (_FRA_TABLE, TABLE),
            ):
                words += attribute(kind, struct.pack("=I", value))
            words += attribute(_FRA_PROTOCOL, bytes((ROUTE_PROTOCOL,)))
            kernel.request(_NEW_RULE, words, flags=NLM_F_CREATE | NLM_F_EXCL)
        wrong = [body for rule, body in held if rule != our_rule(mark)] + right[1:]
        for body in wrong:
            kernel.request(_DELETE_RULE, body, ignore=frozenset({errno.ENOENT}))


def delete_rules() -> int:
    """All that bear our protocol number. Returns how many."""
    with _opened() as kernel:
        held = list(_our_rules(kernel))
        for _, body in held:
            kernel.request(_DELETE_RULE, body, ignore=frozenset({errno.ENOENT}))
    return len(held)


def set_route(subnet: IPv4Network, name: str = DEVICE) -> None:
    """The subnet by the device, in table 78, and no other route of ours there. The link must be
    up. Raises DeviceMissing, DataplaneError."""
    with _opened() as kernel:
        link = _link(kernel, name)
        if link is None:
            raise DeviceMissing(f"there is no link {name}")
        words = _route(subnet, _SCOPE_LINK, _UNICAST)
        words += attribute(_OIF, struct.pack("=I", link.index))
        try:
            kernel.request(_NEW_ROUTE, words, flags=NLM_F_CREATE | _NLM_F_REPLACE)
        except KernelRefused as error:
            hint = ": set the link up" if error.number == errno.ENETDOWN else ""
            raise DataplaneError(
                f"the route to {subnet} by {name}: the kernel says {error}{hint}"
            ) from error
    for destination, device in read(name).routes:
        if (destination, device) != (subnet, link.index):
            _delete_route(destination, device)


def delete_routes() -> int:
    """All of table 78 that bear our protocol number. Returns how many."""
    held = read().routes
    for destination, device in held:
        _delete_route(destination, device)
    return len(held)


def _delete_route(destination: IPv4Network, device: int) -> None:
    words = _route(destination, 255, 0)
    words += attribute(_OIF, struct.pack("=I", device))
    with _opened() as kernel:
        kernel.request(_DELETE_ROUTE, words, ignore=frozenset({errno.ESRCH}))


def _route(destination: IPv4Network, scope: int, kind: int) -> bytes:
    head = (socket.AF_INET, destination.prefixlen, 0, 0, TABLE, ROUTE_PROTOCOL, scope, kind, 0)
    return _RULE.pack(*head) + attribute(_DST, destination.network_address.packed)


@contextmanager
def _opened() -> Iterator[NetlinkSocket]:
    try:
        kernel = NetlinkSocket(NETLINK_ROUTE)
    except OSError as error:
        raise DataplaneUnavailable(f"no netlink socket can be opened: {error.strerror}") from error
    try:
        yield kernel
    finally:
        kernel.close()


def _named(name: str) -> bytes:
    return attribute(_IFLA_IFNAME, os.fsencode(name) + b"\0")


def _link(kernel: NetlinkSocket, name: str) -> Link | None:
    try:
        (body,) = kernel.ask(_GET_LINK, _IFINFO.pack(0, 0, 0, 0, 0) + _named(name))
    except KernelRefused as error:
        if error.number == errno.ENODEV:
            return None
        raise
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    held = dict(attributes(body[_IFINFO.size :]))
    kind = dict(attributes(held.get(_IFLA_LINKINFO, b""))).get(_INFO_KIND, b"")
    families = dict(attributes(held.get(_IFLA_AF_SPEC, b"")))
    # Here an array of all settings, in the order of their numbers, which begin at 1.
    settings = dict(attributes(families.get(socket.AF_INET, b""))).get(_INET_CONF, b"")
    at = (_SRC_VALID_MARK - 1) * 4
    return Link(
        index=index,
        name=name,
        kind=kind.rstrip(b"\0").decode(errors="replace"),
        mtu=_number(held.get(_IFLA_MTU)),
        up=bool(flags & _UP),
        src_valid_mark=bool(_number(settings[at : at + 4])),
    )


def _our_rules(kernel: NetlinkSocket) -> Iterator[tuple[Rule, bytes]]:
    """With what deletes each."""
    asked = _RULE.pack(socket.AF_INET, *[0] * 8)
    for body in kernel.listed(_GET_RULE, asked):
        held = dict(attributes(body[_RULE.size :]))
        if body[0] != socket.AF_INET or held.get(_FRA_PROTOCOL) != bytes((ROUTE_PROTOCOL,)):
            continue
        _, to_bits, from_bits, tos, table, _, _, action, flags = _RULE.unpack_from(body)
        more = set(held) & _NARROWING or held.get(_SUPPRESS, _NO_LENGTH) != _NO_LENGTH
        yield (
            Rule(
                priority=_number(held.get(_PRIORITY)),
                mark=_number(held.get(_FWMARK)),
                mask=_number(held.get(_FWMASK)),
                table=_number(held.get(_FRA_TABLE)) or table,
                plain=action == _TO_TABLE
                and not (to_bits or from_bits or tos or flags & _INVERT or more),
            ),
            body,
        )


_INVERT: Final = 0x2
# Conditions besides: destination, source, interfaces, goto, tunnel id, l3mdev, users, IP protocol,
# ports; and the longest prefix whose route is not used, -1 for none.
_NARROWING: Final = frozenset({1, 2, 3, 4, 12, 17, 19, 20, 22, 23, 24})
_SUPPRESS: Final = 14
_NO_LENGTH: Final = b"\xff\xff\xff\xff"


def _number(content: bytes | None) -> int:
    if content is None or len(content) < 4:
        return 0
    number: int = struct.unpack_from("=I", content)[0]
    return number
