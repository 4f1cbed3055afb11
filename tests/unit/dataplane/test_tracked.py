"""What the kernel's table of connections says of one: whether it goes on, or will soon be over."""

import struct
from ipaddress import ip_address

import pytest

from neti.dataplane import conntrack


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def body(protocol: int, state: int | None) -> bytes:
    """As the kernel lists it, from 10.0.0.1 port 4000 to 10.0.0.2 port 80."""
    ends = (ip_address("10.0.0.1").packed, ip_address("10.0.0.2").packed)
    made = struct.pack("=BBH", 2, 0, 0)
    for kind, (one, other) in ((1, ends), (2, ends[::-1])):
        addresses = attribute(1, one) + attribute(2, other)
        ports = attribute(1, bytes((protocol,)))
        ports += attribute(2, struct.pack(">H", 4000)) + attribute(3, struct.pack(">H", 80))
        made += attribute(kind, attribute(1, addresses) + attribute(2, ports))
    if state is not None:
        made += attribute(4, attribute(1, attribute(1, bytes((state,)))))
    return made


@pytest.mark.parametrize(
    ("protocol", "state", "passing"),
    [
        (6, 1, True),  # nobody answered yet
        (6, 2, True),
        (6, 3, False),  # established
        (6, 4, True),  # one end has closed it
        (6, 5, True),
        (17, None, False),
    ],
)
def test_what_is_not_established_may_be_nobodys(
    protocol: int, state: int | None, passing: bool
) -> None:
    one = conntrack._tracked(body(protocol, state))
    assert one is not None
    assert (one.port, one.passing) == (80, passing)


@pytest.mark.parametrize("state", [6, 7, 8])
def test_what_is_over_is_not_listed(state: int) -> None:
    assert conntrack._tracked(body(6, state)) is None
