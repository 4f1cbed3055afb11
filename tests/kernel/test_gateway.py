"""What packets do through gateways: real ones, real kernels, real WireGuard, enforced tables.

Hosts without a public address, all of one private range: see ``tests.support.gateway_net``.
"""

import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import permutations
from threading import Thread

import pytest
from tests.support.gateway_net import (
    EC2_1,
    EC2_2,
    GATEWAYS,
    LAB_1,
    LAST,
    OPEN,
    PORTS,
    STRANGER,
    SUBNET,
    VPC_1,
    VPC_2,
    A,
    B,
    C,
    Fleet,
    GatewayHost,
    fleet,
)
from tests.support.netns import WAIT, Server, alive, connect, reaches, require_root
from tests.support.talking import (
    Echo,
    Served,
    Sniffer,
    caller,
    datagram,
    echoed,
    echoes,
    passes,
    send_forged,
    udp,
    wait_until,
)
from tests.support.tunnel_net import ip, nft, sysctl

from neti.model import Member
from neti.ruleset.gateways import chosen

pytestmark = pytest.mark.kernel

EVERY = (EC2_1, EC2_2, VPC_1, VPC_2)
DOCKER = (
    "table ip filter { chain FORWARD { type filter hook forward priority filter; policy drop; }; }"
)


@pytest.fixture
def two() -> Iterator[Fleet]:
    """Two sites with two gateways each, a host behind them in each, and an open one."""
    require_root()
    with fleet(*EVERY, A, B, OPEN) as made:
        yield made


def its_gateway(made: Fleet, one: Member) -> GatewayHost:
    """By the belief that all are alive."""
    found = chosen(one.overlay, made[one].passage().gateways(one.site), GATEWAYS)
    assert found is not None
    return made.hosts[found.id]


def without(gateway: GatewayHost) -> tuple[Member, ...]:
    return tuple(one for one in EVERY if one.id != gateway.me.id)


def as_configured(made: Fleet) -> bool:
    """Whether each WireGuard has each peer where ``Passage.endpoint`` says."""
    of = {host.wireguard.key: host.me for host in made.hosts.values()}
    for host in made.hosts.values():
        passage = host.passage()
        for key, endpoint in host.wireguard.endpoints().items():
            if endpoint != passage.endpoint(host.host, of[key]):
                return False
    return True


def forged(source: str, to: str, ports: tuple[int, int], data: bytes) -> bytes:
    packet = bytearray(datagram(source, to, ports[1], data))
    packet[20:22] = struct.pack("!H", ports[0])
    return bytes(packet)


def calls(made: Fleet, one: Member, other: Member, port: int = 7000) -> bool:
    with suppress(ConnectionError, OSError):
        return reaches(made[one].net, made[one].name, str(other.overlay), port)
    return False


def test_everybody_calls_everybody_of_other_sites() -> None:
    """Three sites: behind to behind, behind to open, gateways as members, the overlay's last
    address. The server sees the caller's overlay address; each WireGuard has each peer where it was
    configured; gateways have tracked nothing."""
    require_root()
    members = (*EVERY, LAB_1, A, B, C, OPEN, LAST)
    with fleet(*members) as made:
        servers = {one.id: Server(made[one].net, made[one].name, 7000) for one in members}
        for one, other in permutations(members, 2):
            if one.site != other.site:
                assert calls(made, one, other), (one.id, other.id)
                assert servers[other.id].callers[-1] == str(one.overlay)
        assert as_configured(made)
        for gateway in GATEWAYS:
            assert made.hosts[gateway].tracked() == ""


def test_full_size_packets_pass(two: Fleet) -> None:
    """And larger datagrams, in fragments inside the tunnel."""
    for host in two.hosts.values():
        Served(host.net, host.name, 7200)
        Echo(host.net, host.name, 7300)
    for one, other in ((A, B), (B, A), (A, OPEN), (OPEN, A), (EC2_1, B)):
        net, name, to = two[one].net, two[one].name, str(other.overlay)
        assert passes(net, name, to, 7200), (one.id, other.id)
        for size in (1392, 9000):
            assert echoes(net, name, to, 7300, data=b"x" * size), (one.id, other.id)


@pytest.mark.parametrize("strict", [1, 2])
def test_a_source_that_is_checked_by_its_route_passes(two: Fleet, strict: int) -> None:
    for host in two.hosts.values():
        for where in ("all", "eth0", "neti0"):
            sysctl(host.name, **{f"net__ipv4__conf__{where}__rp_filter": strict})
        Server(host.net, host.name, 7000)
    for one, other in ((A, B), (B, A), (A, OPEN), (OPEN, A), (EC2_1, B), (B, EC2_1)):
        assert calls(two, one, other), (one.id, other.id)


def test_nobody_has_to_agree(two: Fleet) -> None:
    """Each host and each gateway believes in one gateway of the other site, and no two of a site in
    the same. Or in none at all."""
    for host in two.hosts.values():
        Server(host.net, host.name, 7000)
    two[A].believes(EC2_1)
    two[B].believes(VPC_2)
    for gateway, other in ((EC2_1, VPC_1), (EC2_2, VPC_1), (VPC_1, EC2_2), (VPC_2, EC2_2)):
        two[gateway].believes(other)
    for _ in range(2):
        assert calls(two, A, B)
        assert calls(two, B, A)
        assert calls(two, OPEN, A)
        assert as_configured(two)
        for host in two.hosts.values():
            host.believes()


class Numbered:
    """A datagram each two milliseconds, each echoed; which ones were lost."""

    def __init__(self, sender: GatewayHost, to: GatewayHost, port: int) -> None:
        self.echo = Echo(to.net, to.name, port)
        self._sock, self._to = caller(sender.net, sender.name), (to.overlay, port)
        self._sock.settimeout(WAIT)
        self.sent, self._ended = 0, False
        self.back: set[bytes] = set()
        self._threads = [Thread(target=self._send), Thread(target=self._take)]
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(self.back) > 20)  # a session is there

    def _send(self) -> None:
        while not self._ended:
            self._sock.sendto(b"%d" % self.sent, self._to)
            self.sent += 1
            time.sleep(0.002)

    def _take(self) -> None:
        while True:
            try:
                self.back.add(self._sock.recv(99))
            except TimeoutError:
                if self._ended:
                    return

    def lost(self) -> tuple[int, int]:
        """There and back, after the end."""
        self._ended = True
        for thread in self._threads:
            thread.join()
        self._sock.close()
        self.echo.socket.close()
        arrived = {data for _, data in self.echo.callers}
        return self.sent - len(arrived), self.sent - len(self.back)


@pytest.mark.parametrize("near_first", [False, True])
def test_a_drained_gateway_loses_nothing(two: Fleet, near_first: bool) -> None:
    """In any order: first those who send to its hosts, or first its hosts."""
    leaving = its_gateway(two, B)
    Server(two[B].net, two[B].name, 7000)
    with connect(two[A].net, two[A].name, str(B.overlay), 7000) as connection:
        stream = Numbered(two[A], two[B], 7100)
        turns = [two[EC2_1], two[EC2_2], two[B]]
        for host in reversed(turns) if near_first else turns:
            host.believes(*without(leaving))
            time.sleep(0.1)
        leaving.link("down")
        time.sleep(0.3)
        assert stream.lost() == (0, 0)
        assert alive(connection)
    assert as_configured(two)


@pytest.mark.parametrize("near_first", [False, True])
def test_a_dead_gateway_is_replaced_by_elements_alone(two: Fleet, near_first: bool) -> None:
    """Each direction is back with its own side's rewriting; no peer changes, and the session goes
    on. When it is back nothing is lost."""
    dead = its_gateway(two, B)
    Server(two[B].net, two[B].name, 7000)
    with connect(two[A].net, two[A].name, str(B.overlay), 7000) as connection:
        stream = Numbered(two[A], two[B], 7100)
        dead.link("down")
        time.sleep(0.2)
        arrived, back = len(stream.echo.callers), len(stream.back)
        time.sleep(0.3)
        assert (len(stream.echo.callers), len(stream.back)) == (arrived, back)
        far = (its_gateway(two, A),)
        first, second = ((two[B],), far) if near_first else (far, (two[B],))
        for host in first:
            host.believes(*without(dead))
        if not near_first:
            wait_until(lambda: len(stream.echo.callers) > arrived + 20)
        assert len(stream.back) == back
        for host in second:
            host.believes(*without(dead))
        wait_until(lambda: len(stream.back) > back + 20)
        stream.lost()
        assert alive(connection)
        assert as_configured(two)
        stream = Numbered(two[A], two[B], 7101)
        dead.link("up")
        time.sleep(0.1)
        for host in (two[B], *far):
            host.believes(*EVERY)
        time.sleep(0.2)
        assert stream.lost() == (0, 0)


@pytest.mark.parametrize("whose", [A, EC2_1, EC2_2])
def test_a_table_that_was_away_leaves_nothing_behind(two: Fleet, whose: Member) -> None:
    Server(two[B].net, two[B].name, 7000)
    with connect(two[A].net, two[A].name, str(B.overlay), 7000) as connection:
        stream = Numbered(two[A], two[B], 7100)
        nft(two[whose].name, "delete table inet neti")
        time.sleep(0.2)
        two[whose].load()
        back = len(stream.back)
        wait_until(lambda: len(stream.back) > back + 20)
        stream.lost()
        assert alive(connection)
    assert as_configured(two)


def test_strangers_and_forgers_get_nothing_through(two: Fleet) -> None:
    """Not even to the gateway's own WireGuard by a gateway port. Control: one who forges the
    address of another site's gateway cannot be told from it, and a member's WireGuard is where it
    ends."""
    gateway = its_gateway(two, B)
    sibling = VPC_2 if gateway.me is VPC_1 else VPC_1
    ears = {one: Sniffer(two[one].net, two[one].name, "eth0") for one in (A, B, OPEN, EC2_2)}
    w, a, b = PORTS.tunnel, PORTS.port(A.overlay), PORTS.port(B.overlay)
    nobody = PORTS.port(SUBNET[999])

    def heard(source: object, ports: tuple[int, int]) -> set[str]:
        """By whom; the forged sender, who may be told that it was refused, left out."""
        word = os.urandom(8).hex().encode()
        packet = forged(str(source), str(gateway.me.public), ports, word)
        for _ in range(3):
            send_forged(gateway.net, two.road, packet)
        time.sleep(0.1)
        found = {one for one, ear in ears.items() if ear.heard(word)}
        return {one.id for one in found if one.public != source}

    assert heard(EC2_1.public, (a, b)) == {"b"}  # the control
    for source, ports in (
        (STRANGER, (w, b)),
        (STRANGER, (a, b)),
        (STRANGER, (40000, b)),
        (EC2_1.public, (40000, b)),
        (EC2_1.public, (a, nobody)),
        (EC2_1.public, (a, a)),
        (EC2_1.public, (a, PORTS.port(OPEN.overlay))),
        (EC2_1.public, (a, PORTS.port(EC2_2.overlay))),  # from one site back to it
        (EC2_1.public, (w, PORTS.port(EC2_2.overlay))),
        (sibling.public, (a, b)),  # of its own site
        (OPEN.public, (w, b)),
        (gateway.me.public, (a, b)),
        ("10.0.0.11", (w, b)),
        ("10.0.0.99", (w, a)),
    ):
        assert heard(source, ports) == set(), (source, ports)
    assert not two[gateway.me].tracked().count(STRANGER)


def test_a_gateway_is_no_way_within_a_site_nor_for_who_is_none_of_its_hosts() -> None:
    require_root()
    with fleet(EC2_1, VPC_1, A, LAST, B) as made:
        ears = [Sniffer(made[one].net, made[one].name, "eth0") for one in (LAST, B)]
        made[A].turns_hostile()
        for source, to in ((A.private, LAST), ("10.0.0.99", LAST), ("10.0.0.99", B)):
            word = os.urandom(8).hex().encode()
            ports = (PORTS.tunnel, PORTS.port(to.overlay))
            packet = forged(str(source), str(EC2_1.private), ports, word)
            send_forged(made[A].net, made[A].name, packet)
            time.sleep(0.1)
            assert [ear.heard(word) for ear in ears] == [0, 0], (source, to.id)


def test_a_packet_is_routed_by_the_gateway_that_it_is_for(two: Fleet) -> None:
    """Not by the one whose address stands for all: it may be elsewhere, or gone."""
    Server(two[B].net, two[B].name, 7000)
    two[A].believes(EC2_2, VPC_1, VPC_2)
    ip(
        two[A].name,
        "link add d0 type veth peer name d1",
        "link set d0 up",
        "link set d1 up",
        f"route add {EC2_1.private}/32 dev d0 src {A.private}",
    )
    assert calls(two, A, B)


@pytest.mark.parametrize("chain_there", [True, False])
def test_nothing_is_forwarded_for_anybody_else(two: Fleet, chain_there: bool) -> None:
    """Who makes a gateway the router of its choice is stopped by one chain: without it the kernel
    forwards, as it was told to."""
    gateway = two[EC2_1]
    if not chain_there:
        nft(gateway.name, "delete chain inet neti gateway_forward")
    ear = Sniffer(two[A].net, two.routers["ec2"], "in")
    two[A].turns_hostile()
    ip(two[A].name, f"route add {STRANGER}/32 via {EC2_1.private}")
    passed = []
    for ports in ((40000, 53), (PORTS.tunnel, 20000), (20000, PORTS.tunnel), (20000, 20001)):
        word = os.urandom(8).hex().encode()
        send_forged(two[A].net, two[A].name, forged(str(A.private), STRANGER, ports, word))
        time.sleep(0.1)
        passed.append(bool(ear.heard(word)))
    assert passed == [not chain_there] * 4


def test_a_program_on_a_gateway_may_use_its_ports(two: Fleet) -> None:
    """As a resolver does that asks from any port. Control for what is tracked: this is."""
    gateway = two[VPC_1]
    Echo(gateway.net, gateway.name, 25826)
    assert echoes(two[B].net, two[B].name, str(VPC_1.private), 25826)
    resolver = two[A].net.inside(two.road, lambda: udp(53, STRANGER))
    Thread(target=_answer, args=(resolver,), daemon=True).start()
    sock = gateway.inside(lambda: udp(20000))
    assert echoed(sock, STRANGER, 53, b"who", 5.0)
    assert "sport=20000 dport=53" in gateway.tracked()
    sock.close()
    resolver.close()


def _answer(sock: socket.socket) -> None:
    with suppress(OSError):
        while True:
            data, place = sock.recvfrom(999)
            sock.sendto(data, place)


def test_dockers_drop_is_in_the_way_until_a_rule_lets_it_through(two: Fleet) -> None:
    gateway = its_gateway(two, B)
    Echo(two[B].net, two[B].name, 7300)
    nft(gateway.name, DOCKER)
    assert not echoes(two[A].net, two[A].name, str(B.overlay), 7300, dead=True)
    nft(
        gateway.name,
        f"add rule ip filter FORWARD ct state untracked udp sport {PORTS.ports} accept",
    )
    assert echoes(two[A].net, two[A].name, str(B.overlay), 7300)


def test_a_narrower_road_than_was_told_loses_full_size_packets(two: Fleet) -> None:
    """Gateways pass on no ICMP error. A device that is as narrow as the road needs none."""
    for site, router in two.routers.items():
        ip(router, "link set out mtu 1400")
        ip(two.road, f"link set {site} mtu 1400")
    Echo(two[B].net, two[B].name, 7300)
    Served(two[B].net, two[B].name, 7200)
    assert echoes(two[A].net, two[A].name, str(B.overlay), 7300)
    with caller(two[A].net, two[A].name) as sock:
        for _ in range(3):
            assert not echoed(sock, str(B.overlay), 7300, b"x" * 1392, WAIT)
    for host in two.hosts.values():
        host.mtu = 1320
        ip(host.name, "link set neti0 mtu 1320")
        host.load()
    assert passes(two[A].net, two[A].name, str(B.overlay), 7200)
