"""Whether a look for drift pays to be done by a raw netlink dump instead of libnftables' JSON.

Both read every element of the sets that the agent orders, in a kernel that holds the whole fleet,
into the same dictionaries; that they are equal is checked. See docs/design/dataplane.md.
"""

import struct
import time
from collections.abc import Iterator
from socket import inet_ntoa
from typing import Final

from benchmarks import measure
from benchmarks.figures import Line, Report, Times
from benchmarks.measure import Fleet
from benchmarks.scale import Scale, say
from benchmarks.stage import Stage
from neti.dataplane.netlink import NETLINK_NETFILTER, NetlinkSocket, attribute, attributes
from neti.dataplane.nftables import NftablesDataplane
from neti.errors import NetiError
from neti.lab.namespaces import call_inside
from neti.ruleset import FAMILY_TABLE, KernelState

NAME: Final = "audit"
TITLE: Final = "A look at all elements: netlink against libnftables"
_GET_SET_ELEMENTS: Final = (10 << 8) | 13
_INET: Final = struct.pack("=BBH", 1, 0, 0)
_TABLE, _SET, _ELEMENTS = 1, 2, 3
# Headers, key; for a map: headers, key, headers, value.
_ONE: Final = struct.Struct("12s4s")
_PAIR: Final = struct.Struct("12s4s8s4s")
_KEY, _DATA, _VALUE = 1, 2, 1


def run(scale: Scale) -> Report:
    report = Report(TITLE)
    lines: list[Line] = []
    with Stage() as stage:
        fleet = Fleet(stage)
        for size in scale.sizes:
            say(f"audit: {size:,} members")
            members = fleet.joiners(size)
            with measure.raw_kernel(stage, members) as (dataplane, _):
                sock = call_inside(stage.raw, lambda: NetlinkSocket(NETLINK_NETFILTER))
                try:
                    lines += _compare(size, dataplane, sock, scale.slow_rounds)
                finally:
                    sock.close()
    report.compare(lines, ours="netlink", other="libnftables, JSON")
    return report


def _compare(
    size: int, dataplane: NftablesDataplane, sock: NetlinkSocket, rounds: int
) -> list[Line]:
    raw, library, raw_cpu, library_cpu = Times(), Times(), Times(), Times()
    for _ in range(rounds):
        cpu, began = time.thread_time(), time.perf_counter()
        held = {name: _dumped(sock, name) for name in ("overlay", "peers4")}
        raw.each.append(time.perf_counter() - began)
        raw_cpu.each.append(time.thread_time() - cpu)
        cpu, began = time.thread_time(), time.perf_counter()
        state: KernelState = dataplane.read()
        library.each.append(time.perf_counter() - began)
        library_cpu.each.append(time.thread_time() - cpu)
    for name in ("overlay", "peers4"):
        if held[name] != dict(state.elements[name]):
            raise NetiError(f"the two ways to read {name} do not agree")
    return [
        Line(f"{size:,}: everything read", raw, library),
        Line("  CPU", raw_cpu, library_cpu),
    ]


def _dumped(sock: NetlinkSocket, name: str) -> dict[str, str]:
    table = attribute(_TABLE, FAMILY_TABLE.split()[1].encode() + b"\0")
    asked = table + attribute(_SET, name.encode() + b"\0")
    shape = _PAIR if name == "overlay" else _ONE
    return dict(_elements(sock, asked, shape))


def _elements(sock: NetlinkSocket, asked: bytes, shape: struct.Struct) -> Iterator[tuple[str, str]]:
    """In one go where every element looks like the first, which all of ours do; what another
    program put there with more to it is read attribute by attribute."""
    for body in sock.dump(_GET_SET_ELEMENTS, _INET + asked):
        for kind, listed in attributes(body[len(_INET) :]):
            if kind == _ELEMENTS:
                yield from _alike(listed, shape) or map(_element, attributes(listed))


def _alike(listed: bytes, shape: struct.Struct) -> list[tuple[str, str]] | None:
    if not listed or len(listed) % shape.size:
        return None
    rows = list(shape.iter_unpack(listed))
    if len({row[0::2] for row in rows}) != 1:
        return None
    if shape is _ONE:
        found = [(inet_ntoa(key), "") for _, key in rows]
    else:
        found = [(inet_ntoa(key), inet_ntoa(value)) for _, key, _, value in rows]
    return found if found[0] == _element(next(attributes(listed))) else None


def _element(listed: tuple[int, bytes]) -> tuple[str, str]:
    held = dict(attributes(listed[1]))
    return _address(held[_KEY]), _address(held[_DATA]) if _DATA in held else ""


def _address(nested: bytes) -> str:
    return inet_ntoa(dict(attributes(nested))[_VALUE])
