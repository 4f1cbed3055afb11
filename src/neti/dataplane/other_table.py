"""Tables of Neti's that are not the agent's (a proxy's): write, look for, take out.

Must never do: read what a table holds.
"""

import errno
import os
from contextlib import closing
from typing import Final

from neti.dataplane.compiler import compile_rules
from neti.dataplane.netlink import NETLINK_NETFILTER, NOT_PERMITTED, NetlinkSocket, attribute
from neti.dataplane.nf_tables import DELTABLE, GETTABLE, SUBSYSTEM, TABLE_NAME
from neti.errors import DataplaneError, DataplaneUnavailable, KernelRefused

_FAMILIES: Final = {"inet": 1, "ip": 2, "ip6": 10}


def write(rules: str) -> None:
    """nft commands as one transaction. Raises DataplaneError."""
    with closing(NetlinkSocket(NETLINK_NETFILTER)) as kernel:
        refused = kernel.batch(SUBSYSTEM, compile_rules(rules))
    if refused is not None:
        _, number = refused
        if number in (errno.EPERM, errno.EACCES):
            raise DataplaneUnavailable(NOT_PERMITTED)
        raise DataplaneError(f"nftables refused the rules: {os.strerror(number)}")


def exists(family: str, table: str) -> bool:
    with closing(NetlinkSocket(NETLINK_NETFILTER)) as kernel:
        try:
            kernel.ask(GETTABLE, _named(family, table))
        except KernelRefused as error:
            if error.number == errno.ENOENT:
                return False
            raise
    return True


def remove(family: str, table: str) -> bool:
    """Whether there was one to take out."""
    with closing(NetlinkSocket(NETLINK_NETFILTER)) as kernel:
        refused = kernel.batch(SUBSYSTEM, [(DELTABLE, 0, _named(family, table))])
    if refused is None:
        return True
    _, number = refused
    if number == errno.ENOENT:
        return False
    if number in (errno.EPERM, errno.EACCES):
        raise DataplaneUnavailable(NOT_PERMITTED)
    raise DataplaneError(f"nftables refused to delete {family} {table}: {os.strerror(number)}")


def _named(family: str, table: str) -> bytes:
    return bytes((_FAMILIES[family], 0, 0, 0)) + attribute(TABLE_NAME, table.encode() + b"\0")
