"""Sets of other programs that an older libnftables cannot bear, made by raw netlink."""

import struct
from contextlib import closing

from neti.dataplane import nf_tables as nf
from neti.dataplane.netlink import NETLINK_NETFILTER, NLM_F_CREATE, NetlinkSocket, attribute, nested
from neti_lab.namespaces import call_inside

_TYPEOF_KEY, _EXPRESSION_TYPE, _EXPRESSION_DATA = 3, 0, 1
_UNKNOWN = 2  # a kind of expression for which nft before 1.1.4 knows no way to read it back


def make_unreadable_set(
    namespace: str, table: str = "f2b-table", name: str = "addr-set-sshd"
) -> None:
    """A set with the userdata of a newer nft: 1.0.6 ends by SIGSEGV when it lists anything."""
    described = _userdata(_EXPRESSION_TYPE, struct.pack("=I", _UNKNOWN))
    described += _userdata(_EXPRESSION_DATA, b"")
    userdata = _userdata(0, struct.pack("=I", 2)) + _userdata(_TYPEOF_KEY, described)
    _make(namespace, table, name, attribute(13, userdata))


def make_large_set(namespace: str, elements: int, table: str = "geo", name: str = "list") -> None:
    """A list of so many addresses, as of a country."""
    _make(namespace, table, name, b"")
    head = nf.INET + attribute(1, table.encode() + b"\0") + attribute(2, name.encode() + b"\0")

    def fill() -> None:
        with closing(NetlinkSocket(NETLINK_NETFILTER)) as kernel:
            for start in range(0, elements, 100_000):
                orders = []
                for part in range(start, min(start + 100_000, elements), 1000):
                    listed = b"".join(
                        nested(1, nested(1, attribute(1, struct.pack(">I", 0x50000000 + number))))
                        for number in range(part, min(part + 1000, elements))
                    )
                    orders.append((nf.NEWSETELEM, NLM_F_CREATE, head + nested(3, listed)))
                assert kernel.batch(nf.SUBSYSTEM, orders) is None

    call_inside(namespace, fill)


def remove(namespace: str, table: str = "f2b-table") -> None:
    """Without a listing, which nft would need."""

    def take_out() -> None:
        with closing(NetlinkSocket(NETLINK_NETFILTER)) as kernel:
            named = nf.INET + attribute(1, table.encode() + b"\0")
            assert kernel.batch(nf.SUBSYSTEM, [(nf.DELTABLE, 0, named)]) is None

    call_inside(namespace, take_out)


def _make(namespace: str, table: str, name: str, more: bytes) -> None:
    def make() -> None:
        named = attribute(1, table.encode() + b"\0")
        words = named + attribute(2, name.encode() + b"\0")
        words += attribute(4, struct.pack(">I", 7)) + attribute(5, struct.pack(">I", 4))
        words += attribute(10, struct.pack(">I", 1)) + more
        with closing(NetlinkSocket(NETLINK_NETFILTER)) as kernel:
            made = [
                (nf.NEWTABLE, NLM_F_CREATE, nf.INET + named),
                (nf.NEWSET, NLM_F_CREATE, nf.INET + words),
            ]
            assert kernel.batch(nf.SUBSYSTEM, made) is None

    call_inside(namespace, make)


def _userdata(kind: int, value: bytes) -> bytes:
    return bytes((kind, len(value))) + value
