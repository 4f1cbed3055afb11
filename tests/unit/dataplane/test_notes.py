"""What Neti leaves of the notes that libnftables writes with a set."""

import struct

import pytest

from neti.dataplane.compiler import _without_typeof, compile_rules
from neti.dataplane.netlink import attribute, attributes
from neti.dataplane.nf_tables import NEWSET, NFGEN_BYTES

NOTES = 13
NAME = attribute(2, b"peers\0")
NESTED = attribute(9 | 0x8000, attribute(1, b"\0\0\0\1"))
ORDER = bytes((0, 4)) + struct.pack("=I", 1)
MERGE = bytes((2, 4)) + struct.pack("=I", 1)
TYPEOF = bytes((3, 12)) + bytes(12)
OF_DATA = bytes((4, 12)) + bytes(12)


def message(*notes: bytes) -> bytes:
    return b"\1\0\0\0" + NAME + attribute(NOTES, b"".join(notes)) + NESTED


def noted(body: bytes) -> bytes | None:
    return dict(attributes(body[NFGEN_BYTES:])).get(NOTES)


@pytest.mark.parametrize(
    ("notes", "left"),
    [
        ((ORDER, MERGE), ORDER + MERGE),
        ((ORDER, TYPEOF, MERGE, OF_DATA), ORDER + MERGE),
        ((TYPEOF,), None),
        ((ORDER, b"\3"), ORDER),
        ((ORDER, b"\3\xff\0"), ORDER),
    ],
)
def test_an_older_nft_is_told_nothing_that_kills_it(
    notes: tuple[bytes, ...], left: bytes | None
) -> None:
    """And all that it needs to print what it can load again."""
    body = _without_typeof(message(*notes))
    assert noted(body) == left
    assert body.startswith(b"\1\0\0\0" + NAME + NESTED)


def test_each_set_has_the_order_of_its_bytes() -> None:
    """Of a set of interfaces nft prints empty names otherwise."""
    rules = 'add table inet t; add chain inet t c; add rule inet t c iifname { "a", "b" } accept'
    (body,) = (body for kind, _, body in compile_rules(rules) if kind == NEWSET)
    assert noted(body) is not None
    assert b"\0\4" in (noted(body) or b"")
