"""The rule that leads marked packets to table 78, before the rules of all others.

The kernel gives a rule that is added without a priority the one before the first, which is ours: a
marked packet would leave by what that rule says, and be dropped. So ours goes before it again.
By fib_rules: linux/fib_rules.h.

Must never do: delete a rule that does not bear our protocol number.
"""

import errno
import socket
import struct
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from neti.dataplane import rtnetlink
from neti.dataplane.netlink import (
    NETLINK_ROUTE,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NetlinkSocket,
    attribute,
    attributes,
    u32,
)
from neti.dataplane.way_out import ROUTE_PROTOCOL

MARK: Final = 0x1000  # as ruleset.surroundings.Tunnel has it
TABLE: Final = 78
PRIORITY: Final = 78  # where no other rule is before it

_NEW_RULE, _DELETE_RULE, _GET_RULE = 32, 33, 34
_RULE: Final = struct.Struct("=BBBBBBBBI")  # the same as a route's
_TO_TABLE: Final = 1
_PRIORITY, _FWMARK, _FRA_TABLE, _FWMASK, _FRA_PROTOCOL = 6, 10, 15, 16, 21

_INVERT: Final = 0x2
# Conditions besides: destination, source, interfaces, goto, tunnel id, l3mdev, users, IP protocol,
# ports; and the longest prefix whose route is not used, -1 for none.
_NARROWING: Final = frozenset({1, 2, 3, 4, 12, 17, 19, 20, 22, 23, 24})
_SUPPRESS: Final = 14
_NO_LENGTH: Final = b"\xff\xff\xff\xff"


@dataclass(frozen=True, slots=True)
class Rule:
    """``plain``: it asks for the mark and for nothing else, and leads to a table."""

    priority: int
    mark: int
    mask: int
    table: int
    plain: bool = True


def our_rule(mark: int, priority: int = PRIORITY) -> Rule:
    return Rule(priority, mark, mark, TABLE)


def priority_before(ahead: int | None) -> int:
    """``ahead``: the lowest of others that is not above ours. Nothing stands before 0."""
    return PRIORITY if ahead is None else max(ahead - 1, 0)


def set_rule(mark: int = MARK) -> None:
    """Our one rule, for one bit of the mark, and no other with our protocol number. The right one
    is made before wrong ones go."""
    with closing(NetlinkSocket(NETLINK_ROUTE)) as kernel:
        held, ahead = our_rules(kernel)
        wanted = our_rule(mark, priority_before(ahead))
        right = [body for rule, body in held if rule == wanted]
        if not right:
            words = _RULE.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, _TO_TABLE, 0)
            for kind, value in (
                (_PRIORITY, wanted.priority),
                (_FWMARK, mark),
                (_FWMASK, mark),
                (_FRA_TABLE, TABLE),
            ):
                words += attribute(kind, struct.pack("=I", value))
            words += attribute(_FRA_PROTOCOL, bytes((ROUTE_PROTOCOL,)))
            kernel.request(_NEW_RULE, words, flags=NLM_F_CREATE | NLM_F_EXCL)
        wrong = [body for rule, body in held if rule != wanted] + right[1:]
        for body in wrong:
            kernel.request(_DELETE_RULE, body, ignore=frozenset({errno.ENOENT}))


def delete_rules() -> int:
    """All that bear our protocol number. Returns how many."""
    with closing(NetlinkSocket(NETLINK_ROUTE)) as kernel:
        held, _ = our_rules(kernel)
        for _, body in held:
            kernel.request(_DELETE_RULE, body, ignore=frozenset({errno.ENOENT}))
    return len(held)


def our_rules(kernel: NetlinkSocket) -> tuple[list[tuple[Rule, bytes]], int | None]:
    """With what deletes each; and ``Road.ahead``."""
    ours, others = [], []
    for body in kernel.listed(_GET_RULE, _RULE.pack(socket.AF_INET, *[0] * 8)):
        held = dict(attributes(body[_RULE.size :]))
        if body[0] != socket.AF_INET:
            continue
        rule = _rule(body, held)
        if held.get(_FRA_PROTOCOL) == bytes((ROUTE_PROTOCOL,)):
            ours.append((rule, body))
        elif rule.priority <= PRIORITY and rule.table != rtnetlink.LOCAL:
            others.append(rule.priority)
    return ours, min(others, default=None)


def _rule(body: bytes, held: Mapping[int, bytes]) -> Rule:
    _, to_bits, from_bits, tos, table, _, _, action, flags = _RULE.unpack_from(body)
    more = set(held) & _NARROWING or held.get(_SUPPRESS, _NO_LENGTH) != _NO_LENGTH
    return Rule(
        priority=u32(held.get(_PRIORITY)),
        mark=u32(held.get(_FWMARK)),
        mask=u32(held.get(_FWMASK)),
        table=u32(held.get(_FRA_TABLE)) or table,
        plain=action == _TO_TABLE and not (to_bits or from_bits or tos or flags & _INVERT or more),
    )
