"""A connection as ctnetlink writes it: what is read at fixed places is what is there."""

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neti.dataplane.netlink import attribute, nested
from neti.dataplane.tracked_entry import answers, ends, is_open, may_be_open, may_go_on, tracked
from neti.model import IPAddress
from neti.stage.in_the_clear import Tracked

# A connection that a kernel wrote: TCP, established.
REAL = bytes.fromhex(
    "020000003400018014000180080001000a000104080002000a0000011c000280050001000600000006000200"
    "053900000600030015380000340002801400018008000100"
    "0a000001080002000a0001041c000280050001000600000006000200153800000600030005390000"
    "080003000000000e080008000000000008000c00018cfc8f08000b000000000108000700000003e7"
    "300004802c000180050001000300000005000200000000000500030000000000060004000000000006000500"
    "00000000"
)
addresses = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6), st.ip_addresses(v=6)),
)
ports = st.integers(0, 65_535)


def _tuple(kind: int, source: IPAddress, to: IPAddress, proto: bytes, *, odd: bool) -> bytes:
    first = 1 if isinstance(source, IPv4Address) else 3
    ips = [attribute(first, source.packed), attribute(first + 1, to.packed)]
    parts = [nested(1, b"".join(reversed(ips) if odd else ips)), nested(2, proto)]
    return nested(kind, b"".join(reversed(parts) if odd else parts))


def _proto(number: int, source_port: int, port: int) -> bytes:
    said = attribute(1, bytes([number]))
    if number in (1, 58):  # an identifier, a type, a code
        return said + attribute(4, b"\0\7") + attribute(5, b"\x08") + attribute(6, b"\0")
    if number == 47:  # a protocol of which the kernel knows nothing else
        return said
    return said + b"".join(
        attribute(2 + i, p.to_bytes(2)) for i, p in enumerate((source_port, port))
    )


@st.composite
def connections(draw: st.DrawFn) -> tuple[bytes, Tracked | None]:
    """As a kernel writes it, or in an order in which none does; and what it says."""
    source, to, from_there = draw(addresses)
    number = draw(st.sampled_from([6, 17, 1, 58, 132, 47]))
    source_port, port = draw(ports), draw(ports)
    state = draw(st.integers(0, 10)) if number == 6 else 0
    odd = draw(st.booleans())
    tcp = [attribute(1, bytes([state])), attribute(2, b"\7"), attribute(3, b"\7")]
    tcp += [attribute(4, b"\0\0"), attribute(5, b"\0\0")]
    if draw(st.booleans()):
        tcp = tcp[: draw(st.integers(1, 4))]  # lengths that no kernel so far has written
    proto = _proto(number, source_port, port)
    parts = [
        _tuple(1, source, to, proto, odd=odd),
        _tuple(2, from_there, source, proto, odd=odd),
        *([attribute(18, b"\0\5")] if draw(st.booleans()) else []),
        attribute(3, b"\0\0\0\x0e"),
        *([nested(4, nested(1, b"".join(tcp)))] if number == 6 else []),
        attribute(12, draw(st.binary(min_size=4, max_size=4))),
    ]
    if odd:
        parts = draw(st.permutations(parts))
    body = struct.pack("=BBH", 2 if source.version == 4 else 10, 0, 0) + b"".join(parts)
    bare = number in (1, 58, 47)
    said = Tracked(
        protocol=number,
        source=source,
        to=to,
        answers=from_there,
        source_port=0 if bare else source_port,
        port=0 if bare else port,
        passing=state not in (0, 3),
    )
    return body, None if state >= 6 else said


@given(one=connections(), before=st.binary(max_size=40), behind=connections())
@example(
    one=(
        REAL,
        Tracked(
            protocol=6,
            source=ip_address("10.0.1.4"),
            to=ip_address("10.0.0.1"),
            answers=ip_address("10.0.0.1"),
            source_port=1337,
            port=5432,
        ),
    ),
    before=b"",
    behind=(REAL, None),
)
def test_fixed_places_say_what_the_attributes_say(
    one: tuple[bytes, Tracked | None], before: bytes, behind: tuple[bytes, Tracked | None]
) -> None:
    body, said = one
    assert tracked(body) == said
    # In a datagram it stands between others.
    message, start = before + body + behind[0], len(before)
    end = start + len(body)
    if said is not None:
        assert ends(message, start, end) == (said.source.packed, said.to.packed)
        assert answers(message, start, end) == said.answers.packed
        assert may_go_on(message, start, end)
        assert may_be_open(message, start, end) or not is_open(said)


def test_an_address_cannot_say_that_a_connection_is_over() -> None:
    """Whoever has an IPv6 network chooses the bytes of his addresses."""
    forged = ip_address("fd12:3430:4:802c:1:8005:1:7")
    here = ip_address("fd00::1")
    body = struct.pack("=BBH", 10, 0, 0)
    body += _tuple(1, forged, here, _proto(6, 4000, 5432), odd=False)
    body += _tuple(2, here, forged, _proto(6, 5432, 4000), odd=False)
    body += nested(4, nested(1, attribute(1, b"\3") + attribute(2, b"\7")))
    assert may_go_on(body, 0, len(body))
    assert may_be_open(body, 0, len(body))
    one = tracked(body)
    assert one is not None
    assert not one.passing


@given(body=st.binary(max_size=120))
def test_what_is_no_connection_is_none(body: bytes) -> None:
    """Of a kernel to come, perhaps: it is passed over, and breaks nothing."""
    found = tracked(body)
    assert found is None or isinstance(found.source, IPv4Address | IPv6Address)


@given(cut=st.integers(0, len(REAL)))
def test_one_that_is_cut_breaks_nothing(cut: int) -> None:
    body = REAL[:cut]
    tracked(body)
    ends(body, 0, cut)
    answers(body, 0, cut)


@pytest.mark.parametrize(
    ("state", "passing"),
    [
        (1, True),  # nobody answered yet
        (2, True),
        (3, False),  # established
        (4, True),  # one end has closed it
        (5, True),
    ],
)
def test_what_is_not_established_may_be_nobodys(state: int, passing: bool) -> None:
    one = tracked(_in_state(state))
    assert one is not None
    assert (one.port, one.passing) == (5432, passing)


@pytest.mark.parametrize("state", [6, 7, 8])
def test_what_is_over_is_not_listed(state: int) -> None:
    assert tracked(_in_state(state)) is None


def _in_state(state: int) -> bytes:
    return REAL.replace(bytes.fromhex("0500010003"), bytes.fromhex("05000100") + bytes([state]))
