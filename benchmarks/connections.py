"""``python -m benchmarks.connections [COUNT]``, as root: what a look through the kernel's table of
connections takes of a processor, while the agent's loop waits.

A namespace of its own, with so many connections of ten members, of which one in ten is open: the
others are over, and the kernel still keeps them, as after many short ones. "Taken apart" is the
same look with each message parsed.
"""

import os
import struct
import sys
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from statistics import median
from typing import Final

from neti.dataplane.conntrack import Conntrack
from neti.dataplane.netlink import (
    NETLINK_NETFILTER,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NetlinkSocket,
    attribute,
    attributes,
    nested,
)
from neti_lab import namespaces
from neti_lab.wiring import Node, Wiring

_RUNS: Final = 5
_NEW, _LIST = 1 << 8, 1 << 8 | 1  # linux/netfilter/nfnetlink_conntrack.h
_ANY_FAMILY: Final = struct.pack("=BBH", 0, 0, 0)
_MEMBERS: Final = [IPv4Address(f"10.0.1.{number}") for number in range(1, 11)]
_HERE: Final = IPv4Address("10.0.0.1")
_ESTABLISHED, _TIME_WAIT = 3, 7
_ROOM: Final = 60_000  # ports of one source
_LABEL: Final = 44  # characters


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    namespaces.require()
    name = f"neti-connections-{os.getpid()}"
    try:
        namespaces.build(Wiring(create=(name,), links=(), nodes=(Node(namespace=name),)))
        namespaces.call_inside(name, lambda: _measure(count))
    finally:
        namespaces.delete((name,))
    return 0


def _measure(count: int) -> None:
    _fill(count)
    here = Conntrack()
    theirs = {one.packed for one in _MEMBERS}
    looks: dict[str, Callable[[], object]] = {
        "open connections of members": lambda: here.opened_by(theirs),
        "the same, each taken apart": lambda: _taken_apart(theirs),
        "whether removed sources have any": lambda: here.sources_with_connections(_MEMBERS),
        "any whose translation is outdated": lambda: here.end_stale(
            IPv4Network("192.168.0.0/16"), lambda _: None
        ),
    }
    took: dict[str, list[float]] = {what: [] for what in looks}
    for _ in range(_RUNS):
        for what, look in looks.items():
            before = time.process_time()
            look()
            took[what].append(time.process_time() - before)
    print(f"{count:,} connections in the kernel's table, seconds of CPU for one look:")
    for what, each in took.items():
        print(f"  {what:<{_LABEL}} {median(each):.3f}")
    apart, now = (median(took[what]) for what in list(looks)[1::-1])
    print(f"  taken apart : at fixed places = {apart / now:.1f}")


def _taken_apart(theirs: set[bytes]) -> int:
    asking, found = NetlinkSocket(NETLINK_NETFILTER), 0
    for body in asking.dump(_LIST, _ANY_FAMILY):
        whole = dict(attributes(body[len(_ANY_FAMILY) :]))
        opened, answered = (dict(attributes(whole[kind])) for kind in (1, 2))
        source = dict(attributes(opened[1]))[1]
        answers, port = dict(attributes(answered[1]))[1], dict(attributes(opened[2]))[3]
        state = dict(attributes(dict(attributes(whole[4]))[1]))[1][0]
        if source in theirs and state == _ESTABLISHED and answers and port:
            found += 1
    asking.close()
    return found


def _fill(count: int) -> None:
    filling = NetlinkSocket(NETLINK_NETFILTER)
    for number in range(count):
        member = _MEMBERS[number % len(_MEMBERS)]
        port, more = divmod(number // len(_MEMBERS), _ROOM)[::-1]
        state = _TIME_WAIT if number // len(_MEMBERS) % 10 else _ESTABLISHED
        filling.request(
            _NEW,
            _connection(member.packed, 1024 + port, 5432 + more, state),
            flags=NLM_F_CREATE | NLM_F_EXCL,
        )
    filling.close()


def _connection(source: bytes, source_port: int, port: int, state: int) -> bytes:
    def one_way(kind: int, source: bytes, to: bytes, ports: tuple[int, int]) -> bytes:
        addresses = nested(1, attribute(1, source) + attribute(2, to))
        proto = [attribute(1, b"\x06")]
        proto += [attribute(2 + place, port.to_bytes(2)) for place, port in enumerate(ports)]
        return nested(kind, addresses + nested(2, b"".join(proto)))

    return (
        struct.pack("=BBH", 2, 0, 0)
        + one_way(1, source, _HERE.packed, (source_port, port))
        + one_way(2, _HERE.packed, source, (port, source_port))
        + attribute(3, struct.pack(">I", 0x0E))  # seen reply, assured, confirmed
        + attribute(7, struct.pack(">I", 3600))
        + nested(4, nested(1, attribute(1, bytes([state]))))
    )


if __name__ == "__main__":
    sys.exit(main())
