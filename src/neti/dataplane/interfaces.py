"""This machine's network interfaces as the kernel lists them, and which are its own containers'.

By netlink, because an interface's name may have nearly any byte. A name that is not UTF-8 is
decoded as Python decodes a file's name (``surrogateescape``). Constants: linux/if_link.h,
linux/rtnetlink.h.

Must never do: take an interface for a container's only because nobody knows what else it is.
"""

import struct
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neti.dataplane.netlink import NETLINK_ROUTE, NetlinkSocket, attributes

_GET_LINK: Final = 18
_HEADER: Final = struct.Struct("=BxHiII")  # struct ifinfomsg
_NAME, _LINK, _MASTER, _LINKINFO, _LINK_NETNSID = 3, 5, 10, 18, 37
_INFO_KIND: Final = 1
_LOCAL_PORTS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
DEFAULT_LOCAL_PORTS: Final = (32768, 60999)
# What containers and virtual machines plug into a bridge: the near end of a veth pair, and a tap.
_PLUGS: Final = frozenset({"veth", "tun"})


@dataclass(frozen=True, slots=True)
class Interface:
    """``kind``: as ``ip -details link`` says it, empty for a network card. ``master``: index of the
    bridge or bond that it is part of, otherwise 0. ``peer_here``: the other end of this veth is in
    the same network namespace."""

    index: int
    name: str
    kind: str = ""
    master: int = 0
    peer_here: bool = False


def interfaces() -> tuple[Interface, ...]:
    """Those of the calling thread's network namespace. Raises DataplaneError."""
    with closing(NetlinkSocket(NETLINK_ROUTE)) as kernel:
        return tuple(_interface(body) for body in kernel.listed(_GET_LINK, _HEADER.pack(*[0] * 5)))


def local_ports() -> tuple[int, int]:
    """The range from which the kernel takes the ports of outgoing connections."""
    try:
        low, high = map(int, _LOCAL_PORTS.read_text().split())
    except (OSError, ValueError):
        return DEFAULT_LOCAL_PORTS
    return (low, high) if 0 < low <= high <= 65535 else DEFAULT_LOCAL_PORTS


def own_containers(found: Iterable[Interface], uplinks: Iterable[str]) -> tuple[str, ...]:
    """Names of those that lead to this machine's own containers: veths whose other end is in
    another network namespace, and bridges into which nothing but veths and taps is plugged."""
    every = list(found)
    outside = set(uplinks)
    return tuple(one.name for one in every if one.name not in outside and _is_own(one, every))


def strangers(found: Iterable[Interface]) -> tuple[str, ...]:
    """Names of bridges and veths that are none of these."""
    every = list(found)
    return tuple(
        sorted(
            one.name for one in every if one.kind in ("bridge", "veth") and not _is_own(one, every)
        )
    )


def _is_own(one: Interface, every: list[Interface]) -> bool:
    if one.kind == "veth":
        return not one.peer_here
    if one.kind != "bridge":
        return False
    ports = [other for other in every if other.master == one.index]
    return all(port.kind in _PLUGS and not port.peer_here for port in ports)


def _interface(body: bytes) -> Interface:
    _, _, index, _, _ = _HEADER.unpack_from(body)
    held = dict(attributes(body[_HEADER.size :]))
    kind = dict(attributes(held.get(_LINKINFO, b""))).get(_INFO_KIND, b"")
    return Interface(
        index,
        held.get(_NAME, b"?").rstrip(b"\0").decode(errors="surrogateescape"),
        kind.rstrip(b"\0").decode(errors="replace"),
        struct.unpack("=I", held[_MASTER])[0] if _MASTER in held else 0,
        peer_here=_LINK in held and _LINK_NETNSID not in held,
    )
