"""One link by its name: what the kernel says of it, and its settings of IPv4.

By rtnetlink(7): linux/if_link.h, linux/ip.h. None of it needs a writable /proc/sys.
"""

import errno
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from neti.dataplane.netlink import NetlinkSocket, attribute, attributes, nested, u32
from neti.errors import KernelRefused

NEW_LINK, DELETE_LINK, GET_LINK = 16, 17, 18
IFNAME, MTU, LINKINFO, AF_SPEC = 3, 4, 18, 26  # IFLA_*
UP: Final = 1  # IFF_UP
FORWARDING, SRC_VALID_MARK = 1, 24  # IPV4_DEVCONF_*
_INET_CONF: Final = 1
_IFINFO: Final = struct.Struct("=BxHiII")  # struct ifinfomsg


@dataclass(frozen=True, slots=True)
class Held:
    """``attributes``: by IFLA_* number."""

    index: int
    flags: int
    attributes: Mapping[int, bytes]

    def setting(self, which: int) -> int:
        """One of IPV4_DEVCONF_*."""
        families = dict(attributes(self.attributes.get(AF_SPEC, b"")))
        # Here an array of all settings, in the order of their numbers, which begin at 1.
        settings = dict(attributes(families.get(socket.AF_INET, b""))).get(_INET_CONF, b"")
        return u32(settings[(which - 1) * 4 :])


def read(kernel: NetlinkSocket, name: str) -> Held | None:
    """None: there is no such link. ``kernel``: a socket of NETLINK_ROUTE."""
    try:
        (body,) = kernel.ask(GET_LINK, by_name(name))
    except KernelRefused as error:
        if error.number == errno.ENODEV:
            return None
        raise
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    return Held(index, flags, dict(attributes(body[_IFINFO.size :])))


def by_name(name: str, flags: int = 0) -> bytes:
    """How a request about a link begins. ``flags``: those to be set."""
    named = attribute(IFNAME, os.fsencode(name) + b"\0")
    return _IFINFO.pack(0, 0, 0, flags, flags) + named


def by_index(index: int) -> bytes:
    return _IFINFO.pack(0, 0, index, 0, 0)


def with_setting(which: int, value: int) -> bytes:
    """The part of a request that sets one of IPV4_DEVCONF_*."""
    conf = nested(_INET_CONF, attribute(which, struct.pack("=I", value)))
    return nested(AF_SPEC, nested(socket.AF_INET, conf))
