"""The link, the rule and the route by which marked packets reach the WireGuard device.

    rule    fwmark 0x1000/0x1000 lookup 78   priority 78 or less, protocol 78
    route   OVERLAY_SUBNET dev neti0         table 78, protocol 78
    link    neti0                            MTU, up, src_valid_mark

By rtnetlink(7): linux/if_link.h, linux/fib_rules.h, linux/rtnetlink.h, linux/ip.h. None of it needs
a writable /proc/sys.

Must never do: delete a rule or a route that does not bear our protocol number, or a link of another
kind than WireGuard's and wireguard-go's.
"""

import errno
import socket
import struct
from contextlib import closing
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Final

from neti.dataplane import if_link, rtnetlink
from neti.dataplane.netlink import (
    NETLINK_ROUTE,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NetlinkSocket,
    attribute,
    attributes,
    nested,
    u32,
)
from neti.dataplane.way_out import ROUTE_PROTOCOL
from neti.dataplane.wireguard import DEVICE
from neti.dataplane.wireguard.rule import (
    MARK,
    TABLE,
    Rule,
    delete_rules,
    our_rule,
    our_rules,
    priority_before,
    set_rule,
)
from neti.errors import DataplaneError, DataplaneUnavailable, DeviceMissing, KernelRefused
from neti.words import counted, some

__all__ = [
    "MARK",
    "TABLE",
    "Link",
    "Road",
    "Rule",
    "delete_link",
    "delete_routes",
    "delete_rules",
    "make_link",
    "our_rule",
    "read",
    "set_link",
    "set_route",
    "set_rule",
]

_NEW_ROUTE, _DELETE_ROUTE = 24, 25
_NLM_F_REPLACE: Final = 0x100
_INFO_KIND, _INFO_DATA, _TUN_OWNER = 1, 2, 1
_RTMSG: Final = struct.Struct("=BBBBBBBBI")
_SCOPE_LINK, _UNICAST, _DST, _OIF = 253, 1, 1, 4
_NO_MODULE: Final = frozenset({errno.EOPNOTSUPP, errno.ENODEV})
# What wireguard-go's link is of, and the module's.
_KINDS: Final = frozenset({"wireguard", "tun"})


@dataclass(frozen=True, slots=True)
class Link:
    """``kind``: "wireguard", "tun" for wireguard-go's, or what another program made. ``owner``: the
    uid of the user for whom root made a "tun", which is never so of wireguard-go's."""

    index: int
    name: str
    kind: str
    mtu: int
    up: bool
    src_valid_mark: bool
    owner: int | None = None

    @property
    def usable(self) -> bool:
        return self.kind in _KINDS and self.owner is None

    def faults(self, mtu: int) -> tuple[str, ...]:
        if not self.usable:
            whose = "" if self.owner is None else f", made for the user with uid {self.owner}"
            kind = f"of kind {self.kind or 'unknown'}{whose}"
            return (f"{self.name} is another program's, {kind}",)
        found = []
        if self.mtu != mtu:
            found.append(f"its MTU is {self.mtu} and not {mtu}")
        if not self.up:
            found.append("it is not up")
        if not self.src_valid_mark:
            found.append("src_valid_mark is 0")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Road:
    """What the kernel holds. ``rules`` and ``routes``: those that bear our protocol number;
    routes of table 78 only, as (destination, index of the device). ``strangers``: what others have
    put into table 78. ``ahead``: the lowest priority of others' rules, where that is not above the
    one that ours has otherwise; that for the table "local" does not count."""

    link: Link | None
    rules: tuple[Rule, ...] = ()
    routes: tuple[tuple[IPv4Network, int], ...] = ()
    strangers: tuple[IPv4Network, ...] = ()
    ahead: int | None = None

    @property
    def priority(self) -> int:
        """Which our rule should have: before all others. Nothing stands before 0."""
        return priority_before(self.ahead)

    def faults(self, subnet: IPv4Network, mtu: int, mark: int = MARK) -> tuple[str, ...]:
        """What is not as it should be, each in a few words; nothing: all is well."""
        link = self.link
        found = ["the device is missing"] if link is None else [*link.faults(mtu)]
        if fault := self.rule_fault(mark):
            found.append(fault)
        if link is not None and not self.route_is_right(subnet):
            found.append(f"the route in table {TABLE} is missing or another")
        narrow = [each for each in self.strangers if each != subnet and each.subnet_of(subnet)]
        if narrow:  # a wider one is asked after ours
            have = counted(len(narrow), "route")
            found.append(
                f"another program has {have} in table {TABLE}: {some([*map(str, narrow)])}"
            )
        return tuple(found)

    def rule_fault(self, mark: int = MARK) -> str:
        """Empty: it is as it should be."""
        if not self.rule_leads(mark):
            return f"the rule for fwmark {mark:#x} is missing or another"
        if self.ahead == 0:
            return f"another program has a rule with priority 0: the one for {mark:#x} is not first"
        if self.rule_is_right(mark):
            return ""
        held = max(rule.priority for rule in self.rules)
        if self.ahead is not None and self.ahead <= held:
            return f"another program's rule is before the one for fwmark {mark:#x}"
        return f"the rule for fwmark {mark:#x} has priority {held} and not {self.priority}"

    def rule_leads(self, mark: int = MARK) -> bool:
        """It is there as it was made, whatever its priority: that is due to others' rules."""
        return bool(self.rules) and all(
            rule == our_rule(mark, rule.priority) for rule in self.rules
        )

    def rule_is_right(self, mark: int = MARK) -> bool:
        """It is as ``set_rule`` makes it, also where that cannot be before all others."""
        return self.rules == (our_rule(mark, self.priority),)

    def route_is_right(self, subnet: IPv4Network) -> bool:
        return self.link is not None and self.routes == ((subnet, self.link.index),)


def read(name: str = DEVICE) -> Road:
    """In the calling thread's network namespace, as all here. Raises DataplaneError."""
    with closing(NetlinkSocket(NETLINK_ROUTE)) as kernel:
        rules, ahead = our_rules(kernel)
        link = _link(kernel, name)
    with rtnetlink.opened() as routing:
        held = routing.routes(rtnetlink.IPV4, [TABLE], IPv4Network("0.0.0.0/0"))
    ours = [route for route in held if route.protocol == ROUTE_PROTOCOL]
    return Road(
        link,
        tuple(rule for rule, _ in rules),
        tuple((route.network(), (route.devices or (0,))[0]) for route in ours),
        tuple(route.network() for route in held if route.protocol != ROUTE_PROTOCOL),
        ahead,
    )


def make_link(name: str = DEVICE) -> None:
    """Of the kernel's module. Raises DataplaneUnavailable when there is none: wireguard-go makes
    its own link."""
    words = if_link.by_name(name) + nested(if_link.LINKINFO, attribute(_INFO_KIND, b"wireguard"))
    with closing(NetlinkSocket(NETLINK_ROUTE)) as kernel:
        try:
            kernel.request(if_link.NEW_LINK, words, flags=NLM_F_CREATE | NLM_F_EXCL)
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
    words = if_link.by_name(name, if_link.UP) + attribute(if_link.MTU, struct.pack("=I", mtu))
    words += if_link.with_setting(if_link.SRC_VALID_MARK, 1)
    with closing(NetlinkSocket(NETLINK_ROUTE)) as kernel:
        try:
            kernel.request(if_link.NEW_LINK, words)
        except KernelRefused as error:
            if error.number == errno.ENODEV:
                raise DeviceMissing(f"there is no link {name}") from error
            hint = ": another program uses its UDP port" if error.number == errno.EADDRINUSE else ""
            raise DataplaneError(f"the link {name} could not be set up: {error}{hint}") from error


def delete_link(name: str = DEVICE) -> bool:
    """Whether it was there. wireguard-go ends with its link. One of another kind stays."""
    with closing(NetlinkSocket(NETLINK_ROUTE)) as kernel:
        link = _link(kernel, name)
        if link is None or not link.usable:
            return False
        kernel.request(
            if_link.DELETE_LINK, if_link.by_index(link.index), ignore=frozenset({errno.ENODEV})
        )
    return True


def set_route(subnet: IPv4Network, name: str = DEVICE) -> None:
    """The subnet by the device, in table 78, and no other route of ours there. The link must be
    up. Raises DeviceMissing, DataplaneError."""
    with closing(NetlinkSocket(NETLINK_ROUTE)) as kernel:
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
    with closing(NetlinkSocket(NETLINK_ROUTE)) as kernel:
        kernel.request(_DELETE_ROUTE, words, ignore=frozenset({errno.ESRCH}))


def _route(destination: IPv4Network, scope: int, kind: int) -> bytes:
    head = (socket.AF_INET, destination.prefixlen, 0, 0, TABLE, ROUTE_PROTOCOL, scope, kind, 0)
    return _RTMSG.pack(*head) + attribute(_DST, destination.network_address.packed)


def _link(kernel: NetlinkSocket, name: str) -> Link | None:
    held = if_link.read(kernel, name)
    if held is None:
        return None
    info = dict(attributes(held.attributes.get(if_link.LINKINFO, b"")))
    kind = info.get(_INFO_KIND, b"").rstrip(b"\0").decode(errors="replace")
    made = dict(attributes(info.get(_INFO_DATA, b""))) if kind == "tun" else {}
    return Link(
        index=held.index,
        name=name,
        kind=kind,
        mtu=u32(held.attributes.get(if_link.MTU)),
        up=bool(held.flags & if_link.UP),
        src_valid_mark=bool(held.setting(if_link.SRC_VALID_MARK)),
        owner=u32(made[_TUN_OWNER]) if _TUN_OWNER in made else None,
    )
