"""The lab's eavesdropper: it finds what is said in the clear, and knows the encrypted road."""

import struct
from contextlib import closing
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest

from neti_lab import lifecycle, namespaces, sniffer
from neti_lab.marks import MARKS, TCP_ANSWERED, UDP_ASKED
from neti_lab.probe import Datagrams, ask_long, connect
from neti_lab.report import roads
from neti_lab.sniffer import CLEAR, TUNNEL, Count, Heading, Places, Sighting, Sniffer
from neti_lab.state import LabState
from neti_lab.topology import INTERNET, LabPlan, plan_lab

PORT = 51820
SITES = {
    "a": [ip_network("198.51.100.0/24"), ip_network("fd00:a::/64")],
    "b": [ip_network("203.0.113.0/24"), ip_network("fd00:b::/64")],
}
_ASKED = 25


def frame4(source: str, target: str, inner: bytes, *, protocol: int = 17, more: int = 0) -> bytes:
    addresses = IPv4Address(source).packed + IPv4Address(target).packed
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(inner), 1, more, 64, protocol, 0)
    return bytes(12) + b"\x08\x00" + head + addresses + inner


def frame6(source: str, target: str, inner: bytes) -> bytes:
    addresses = IPv6Address(source).packed + IPv6Address(target).packed
    return (
        bytes(12)
        + b"\x86\xdd"
        + struct.pack("!IHBB", 6 << 28, len(inner), 17, 64)
        + addresses
        + inner
    )


def udp(source: int, target: int) -> bytes:
    return struct.pack("!HHHH", source, target, 8, 0)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (frame4("198.51.100.7", "203.0.113.9", udp(PORT, PORT)), Heading("a", "b", TUNNEL)),
        (frame4("203.0.113.9", "198.51.100.7", udp(PORT, PORT)), Heading("b", "a", TUNNEL)),
        (frame4("198.51.100.7", "203.0.113.9", udp(PORT, 53)), Heading("a", "b", CLEAR)),
        # TCP of those ports is not that road, nor is what a later fragment happens to hold.
        (
            frame4("198.51.100.7", "203.0.113.9", udp(PORT, PORT), protocol=6),
            Heading("a", "b", CLEAR),
        ),
        (frame4("198.51.100.7", "203.0.113.9", udp(PORT, PORT), more=9), Heading("a", "b", CLEAR)),
        (frame4("198.51.100.7", "192.0.2.66", b""), Heading("a", "elsewhere", CLEAR)),
        # That a packet did not get through is told beside a part of it.
        (
            frame4(
                "203.0.113.9",
                "198.51.100.7",
                b"\x03\x03"
                + bytes(6)
                + frame4("198.51.100.7", "203.0.113.9", udp(PORT, PORT))[14:],
                protocol=1,
            ),
            Heading("b", "a", TUNNEL),
        ),
        (frame4("203.0.113.9", "198.51.100.7", b"\x03", protocol=1), Heading("b", "a", CLEAR)),
        (frame6("fd00:a::1", "fd00:b::1", udp(PORT, PORT)), Heading("a", "b", TUNNEL)),
        (frame6("fd00:a::1", "fd00:b::1", udp(1, PORT)), Heading("a", "b", CLEAR)),
        (bytes(12) + b"\x08\x06" + bytes(28), None),
        (bytes(12) + b"\x08\x00" + bytes(7), None),
    ],
)
def test_whose_packet_it_is_and_by_which_road(frame: bytes, expected: Heading | None) -> None:
    assert sniffer.heading(frame, Places(SITES), PORT) == expected


def test_a_mark_is_found_wherever_in_a_packet_it_is() -> None:
    count = Count()
    for packet in (UDP_ASKED + bytes(9), bytes(900) + UDP_ASKED, bytes(5) + 40 * TCP_ANSWERED):
        count.add(packet)
    count.add(UDP_ASKED[1:] + bytes(9))
    assert count.packets == 4
    assert count.marked == {"UDP asked": 2, "TCP answered": 1}
    assert count.sample.startswith("neti-lab-udp-asks")


def test_what_is_said_inside_one_site_is_not_said_between_sites() -> None:
    counts = {
        Heading("a", "a", CLEAR): Count(1, 100, {"UDP asked": 1}),
        Heading("a", "b", CLEAR): Count(2, 100, {"UDP asked": 2}),
        Heading("b", "a", CLEAR): Count(3, 100, {"UDP asked": 3}),
        Heading("b", "a", TUNNEL): Count(4, 100, {}),
        Heading("elsewhere", "a", CLEAR): Count(5, 100, {}),
    }
    seen = sniffer.from_document(sniffer.to_document(Sighting(counts, 7)))
    assert seen == Sighting(counts, 7)
    assert seen.between_sites(CLEAR) == Count(5, 200, {"UDP asked": 5})
    assert seen.between_sites(TUNNEL) == Count(4, 100)
    assert seen.marks("b", "a") == {"UDP asked": 3}
    assert seen.marked == 6


@pytest.fixture
def plan(lab: LabState) -> LabPlan:
    plan = plan_lab(name=lab.name, hosts=1)
    lifecycle.bring_up(lab, plan, with_agents=False)
    return plan


@pytest.mark.kernel
def test_it_hears_every_word_that_is_said_between_the_sites(plan: LabPlan) -> None:
    """As many datagrams as were sent, each once, though a packet passes two of its links; and every
    packet of a long answer."""
    caller, called = plan.hosts
    sites = {site.name: [site.public] for site in plan.sites}

    def say() -> None:
        with closing(Datagrams(str(called.public), seconds=20)) as datagrams:
            for _ in range(_ASKED):
                datagrams.ask()
        with connect(str(called.public), seconds=20) as connection:
            ask_long(connection)

    with Sniffer(plan.namespace(INTERNET), sites, port=PORT) as ear:
        ear.wait_until_ready()
        namespaces.call_inside(plan.namespace(caller.name), say)
        heard = ear.look()
        assert heard.dropped == 0
        there, back = heard.marks("ec2", "vpc"), heard.marks("vpc", "ec2")
        assert there.keys() == {"UDP asked", "TCP asked"}
        assert back.keys() == {"UDP answered", "TCP answered"}
        assert there["UDP asked"] == back["UDP answered"] == _ASKED
        assert there.keys() | back.keys() == MARKS.keys()
        assert heard.between_sites(TUNNEL).packets == 0
        # Inside one site nothing passes the internet.
        own = plan.namespace(caller.name)
        namespaces.call_inside(own, partial(_ask_once, str(caller.private)))
        assert ear.look().marked == 0


def _ask_once(address: str) -> None:
    with closing(Datagrams(address, seconds=20)) as datagrams:
        datagrams.ask()


def test_the_picture_shows_what_can_be_read_on_each_road() -> None:
    request = b"GET / HTTP/1.1\r\nX-Mark: neti-lab-tcp-asks\r\n\r\n"
    clear, tunnel = Count(), Count()
    clear.add(bytes(99) + request)
    clear.add(bytes(99))
    tunnel.add(bytes(58) + bytes(range(0x60, 0xC0)))
    counts = {Heading("ec2", "vpc", CLEAR): clear, Heading("vpc", "ec2", TUNNEL): tunnel}
    lines = roads(plan_lab(hosts=1), Sighting(counts, 0))
    assert [" ".join(line.split()) for line in lines] == [
        "ec2 ---- in the clear: 2 packets, 1 with words in them ---- vpc",
        ".GET / HTTP/1.1..X-Mark: neti-lab-tcp-asks....",
        "ec2 ==== encrypted: 1 packets, 0 with words in them ==== vpc",
        "`abcdefghijklmnopqrstuvwxyz{|}~.................................",
    ]
