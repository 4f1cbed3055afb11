"""Real scans against the shadow's record: what they fill, and what they must not."""

import random
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

import pytest
from tests.kernel.test_shadow import UnderTest
from tests.support import netns
from tests.support.netns import Net, Server, reaches

from neti.host import surroundings
from neti.host.listeners import Listening, listeners
from neti.model.problems import Problems
from neti.ruleset.objects import SEEN_SIZE
from neti.stage.losses import losses

pytestmark = pytest.mark.kernel

SPOOFED = "10.200.0.0"


@pytest.fixture
def host(net: Net, tmp_path: Path) -> UnderTest:
    return UnderTest(net, tmp_path)


def listen(net: Net, host: UnderTest) -> None:
    look = Listening(lambda: net.inside(net.host, listeners), lambda: (32768, 60999))
    surroundings.listen(host.members.elements, look)
    host.commit()


def syn(source: int, destination: int, port: int, seed: int) -> bytes:
    """An IPv4 packet with a SYN; the kernel of a raw socket fills in the header's checksum."""
    head = struct.pack(
        ">BBHHHBBHII", 0x45, 0, 40, 0, 0, 64, socket.IPPROTO_TCP, 0, source, destination
    )
    without = struct.pack(">HHIIBBHHH", 1024 + seed % 60000, port, seed, 0, 0x50, 2, 1024, 0, 0)
    pseudo = struct.pack(">IIBBH", source, destination, 0, socket.IPPROTO_TCP, 20) + without
    total = sum(struct.unpack(">16H", pseudo))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return head + without[:16] + struct.pack(">H", ~total & 0xFFFF) + without[18:]


def send(net: Net, packets: Iterable[bytes]) -> None:
    def all_of_them() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            for packet in packets:
                raw.sendto(packet, (netns.PRIVATE, 0))

    net.inside(net.outside, all_of_them)


def number(address: str) -> int:
    return int.from_bytes(socket.inet_aton(address))


def scan(net: Net, source: str, ports: Iterable[int]) -> None:
    at, to = number(source), number(netns.PRIVATE)
    send(net, (syn(at, to, port, port) for port in ports))


def flood(net: Net, port: int | None, count: int) -> None:
    """From so many sources, to one port or to any but 8080."""
    first, to = number(SPOOFED), number(netns.PRIVATE)
    chosen = random.Random(1)
    send(
        net,
        (
            syn(first + each, to, port or chosen.choice((1, 2, 3, 5, 7, 9, 11)), each)
            for each in range(count)
        ),
    )


def refused_users(host: UnderTest) -> list[tuple[int, int]]:
    """What a trial that began before all that was sent would say is lost."""
    host.log.sample()
    listening = host.net.inside(host.net.host, listeners)
    lost = losses(host.log.record, listening, (), 0.0)
    return [(one.port, one.sources) for one in (*lost.lost, *lost.not_used_before)]


def test_one_scan_of_all_ports_leaves_room_for_a_user(net: Net, host: UnderTest) -> None:
    """16,384 ports from one address, in shadow; then a user comes to 8080. He is recorded, the scan
    takes an eighth of the rest at most, and nothing says that evidence is missing."""
    Server(net, net.host, 8080)
    listen(net, host)
    scan(net, netns.ADMIN, (port for port in range(1, 16_385) if port != 8080))
    assert reaches(net, net.outside, netns.PRIVATE, 8080, netns.STRANGER)
    seen = host.seen()
    assert seen[netns.STRANGER, "tcp", 8080].packets == 1
    assert 200 <= sum(one.port != 8080 for one in seen.values()) <= SEEN_SIZE // 8
    assert refused_users(host) == [(8080, 1)]
    assert host.log.incomplete(host.log.now()) is None
    problems = Problems()
    host.log.name_problems(problems)
    assert [one.code for one in problems] == ["record_crowded"]


def test_many_spoofed_sources_leave_room_for_a_user(net: Net, host: UnderTest) -> None:
    """20,000 sources to ports where nobody listens: that room is full, and no other."""
    Server(net, net.host, 8080)
    listen(net, host)
    flood(net, None, 20_000)
    assert reaches(net, net.outside, netns.PRIVATE, 8080, netns.STRANGER)
    assert refused_users(host) == [(8080, 1)]
    assert host.log.incomplete(host.log.now()) is None
    assert host.log.crowded(host.log.now()) is not None


def test_a_flood_at_a_port_with_a_listener_is_missing_evidence(net: Net, host: UnderTest) -> None:
    """20,000 sources to 8080 itself fill the room of ports with a listener: that is said, as a
    problem and to a trial, until an hour after the last packet that found no room."""
    Server(net, net.host, 8080)
    listen(net, host)
    flood(net, 8080, 20_000)
    host.log.sample()
    now = host.log.now()
    assert "full" in (host.log.incomplete(now) or "")
    assert host.log.incomplete(now + 3700) is None
    problems = Problems()
    host.log.name_problems(problems)
    assert "record_full" in problems
    assert refused_users(host)[0][0] == 8080


def test_known_sources_count_on_beyond_their_pace(net: Net, host: UnderTest) -> None:
    """A scanner's share limits what is new, never what is recorded already."""
    listen(net, host)
    scan(net, netns.ADMIN, range(1000, 1400))
    for _ in range(20):
        scan(net, netns.ADMIN, [1000])
    assert host.seen()[netns.ADMIN, "tcp", 1000].packets == 21


def protocol(net: Net, number_: int, source: str) -> None:
    def one() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, number_) as raw:
            raw.bind((source, 0))
            raw.sendto(b"\0" * 16, (netns.PRIVATE, 0))

    net.inside(net.outside, one)


@pytest.mark.parametrize(("number_", "name"), [(47, "gre"), (50, "esp"), (112, "vrrp"), (99, "99")])
def test_protocols_without_ports_are_recorded(
    net: Net, host: UnderTest, number_: int, name: str
) -> None:
    """By name where it has one."""
    protocol(net, number_, netns.STRANGER)
    protocol(net, number_, netns.STRANGER)
    assert {key: one.packets for key, one in host.seen().items()} == {(netns.STRANGER, name, 0): 2}


def test_group_membership_queries_reach_an_enforced_host(net: Net, host: UnderTest) -> None:
    """With the time to live of one that they have, and to a group; neither lets anybody in."""
    host.enforce()

    def query(ttl: int, to: str) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP) as raw:
            raw.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
            raw.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            raw.setsockopt(
                socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(netns.STRANGER)
            )
            raw.bind((netns.STRANGER, 0))
            raw.sendto(b"\x11\x64\xee\x9b\0\0\0\0", (to, 0))

    net.inside(net.outside, lambda: query(1, "224.0.0.1"))
    assert host.seen() == {}
    net.inside(net.outside, lambda: query(64, netns.PRIVATE))
    assert set(host.seen()) == {(netns.STRANGER, "igmp", 0)}
