"""What packets do through gateways: real ones, real kernels, real WireGuard, enforced tables.

Hosts without a public address, all of one private range: see ``tests.support.gateway_net``.
"""

import os
import socket
import struct
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import permutations
from threading import Thread

import pytest
from tests.support.gateway_net import (
    EC2_1,
    EC2_2,
    EVERY,
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
    fleet,
    member,
)
from tests.support.netns import WAIT, Server, require_root
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
)
from tests.support.tunnel_net import ip, nft, sysctl

from neti.dataplane.nftables import NftablesDataplane
from neti.ruleset.objects import CreateTable, DeleteTable, Transaction

pytestmark = pytest.mark.kernel

DOCKER = (
    "table ip filter { chain FORWARD { type filter hook forward priority filter; policy drop; }; }"
)


def forged(source: str, to: str, ports: tuple[int, int], data: bytes) -> bytes:
    packet = bytearray(datagram(source, to, ports[1], data))
    packet[20:22] = struct.pack("!H", ports[0])
    return bytes(packet)


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
                assert made.calls(one, other), (one.id, other.id)
                assert servers[other.id].callers[-1] == str(one.overlay)
        assert made.as_configured()
        for gateway in GATEWAYS:
            assert made.hosts[gateway].tracked() == ""


def test_who_claims_the_address_of_a_host_elsewhere_does_not_cut_it_off(two: Fleet) -> None:
    """As its private one, which any address may be where its site has no ranges."""
    assert EC2_1.public is not None
    liar = replace(member("liar", "vpc", 99, 77), private=EC2_1.public)
    Server(two[B].net, two[B].name, 7000)
    two.members = (*two.members, liar)
    for gateway in (VPC_1, VPC_2):
        two[gateway].load()
    assert two.calls(EC2_1, B)
    assert two.calls(A, B)


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
        assert two.calls(one, other), (one.id, other.id)


def test_a_clouds_check_of_source_and_destination_may_stay_on(two: Fleet) -> None:
    """Each packet on a gateway's wire is from or to its own address, whichever way it goes."""
    for gateway in EVERY:
        nft(
            two[gateway].name,
            "table ip check { "
            "chain come { type filter hook prerouting priority -500; "
            f"iifname eth0 ip daddr != {gateway.private} counter drop; }}; "
            "chain go { type filter hook postrouting priority 1000; "
            f"oifname eth0 ip saddr != {gateway.private} counter drop; }}; }}",
        )
    servers = [Server(two[one].net, two[one].name, 7000) for one in (A, B, OPEN)]
    for one, other in ((A, B), (B, A), (A, OPEN), (OPEN, A)):
        assert two.calls(one, other), (one.id, other.id)
    assert all(server.callers for server in servers)
    for gateway in EVERY:
        words = ["nft", "list", "table", "ip", "check"]
        held = subprocess.run(
            ["ip", "netns", "exec", two[gateway].name, *words], capture_output=True, check=True
        )
        assert held.stdout.count(b"packets 0 bytes 0") == 2, gateway.id


def test_strangers_and_forgers_get_nothing_through(two: Fleet) -> None:
    """Not even to the gateway's own WireGuard by a gateway port. Control: one who forges the
    address of another site's gateway cannot be told from it, and a member's WireGuard is where it
    ends."""
    gateway = two.gateway_of(B)
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
        made[A].loses_its_table()
        for source, to in ((A.private, LAST), ("10.0.0.99", LAST), ("10.0.0.99", B)):
            word = os.urandom(8).hex().encode()
            ports = (PORTS.tunnel, PORTS.port(to.overlay))
            packet = forged(str(source), str(EC2_1.private), ports, word)
            send_forged(made[A].net, made[A].name, packet)
            time.sleep(0.1)
            assert [ear.heard(word) for ear in ears] == [0, 0], (source, to.id)


@pytest.mark.parametrize("chain_there", [True, False])
def test_nothing_is_forwarded_for_anybody_else(two: Fleet, chain_there: bool) -> None:
    """Who makes a gateway the router of its choice is stopped by one chain: without it the kernel
    forwards, as it was told to."""
    gateway = two[EC2_1]
    if not chain_there:
        nft(gateway.name, "delete chain inet neti gateway_forward")
    ear = Sniffer(two[A].net, two.routers["ec2"], "in")
    two[A].loses_its_table()
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
    gateway = two.gateway_of(B)
    Echo(two[B].net, two[B].name, 7300)
    assert echoes(two[A].net, two[A].name, str(B.overlay), 7300)
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


def test_the_data_plane_takes_and_reads_such_a_table() -> None:
    """As the agent writes all others: by netlink, and without a difference afterwards."""
    require_root()
    with fleet(EC2_1, VPC_1, A, OPEN) as made:
        for host in made.hosts.values():
            wished, dataplane = host.structure(), host.inside(NftablesDataplane)
            anew = Transaction((DeleteTable(), CreateTable(wished)))
            host.inside(partial(dataplane.apply, anew))
            held = host.inside(dataplane.read)
            assert {chain.name for chain in wished.chains} == set(held.chain_names)
            assert held.definitions == dataplane.definitions(wished)
