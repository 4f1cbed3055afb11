"""Which gateways are drained, as text."""

import pytest

from neti.registry.drained import DrainedUnreadable, decode, encode


def test_what_is_written_is_read() -> None:
    assert decode(encode(["gw-2", "gw-1", "gw-2"])) == {"gw-1", "gw-2"}
    assert encode(["gw-2", "gw-1"]) == b"1 gw-1 gw-2"
    assert encode([]) is None
    assert decode(None) == decode(b"") == frozenset()


@pytest.mark.parametrize("raw", [b"2 gw-1", b"gw-1", b"1 gw/1", b"1 \xff", b" ", b"1 " + b"a" * 41])
def test_anything_else_is_refused(raw: bytes) -> None:
    with pytest.raises(DrainedUnreadable, match="upgrade this host"):
        decode(raw)
