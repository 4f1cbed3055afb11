"""Probes of gateways: real packets, real kernels, enforced tables, encryption required.

Who asks is the agent's own socket; who answers is a gateway's kernel, without an agent.
"""

import os
import socket
import subprocess
import time
from ipaddress import IPv4Address

import pytest
from tests.kernel.test_gateway import DOCKER, forged
from tests.support.gateway_net import (
    EC2_1,
    EC2_2,
    EVERY,
    OPEN,
    PORTS,
    STRANGER,
    SUBNET,
    VPC_1,
    VPC_2,
    A,
    B,
    Fleet,
)
from tests.support.netns import WAIT, Server
from tests.support.talking import Sniffer, send_forged, wait_until
from tests.support.tunnel_net import ip, nft, sysctl

from neti.agent.probe_socket import WORD_BYTES, ProbeSocket
from neti.dataplane.nftables import NftablesDataplane
from neti.model import Member

pytestmark = pytest.mark.kernel


def place(asker: Member, gateway: Member) -> IPv4Address:
    there = gateway.private if asker.site == gateway.site else gateway.public
    assert there is not None
    return there


def answers(two: Fleet, asker: Member, gateway: Member) -> bool:
    """Whether it sends back what it is asked, and from where it was asked."""
    door, word, to = ProbeSocket(), os.urandom(WORD_BYTES), place(asker, gateway)
    two[asker].inside(lambda: door.open(PORTS.probe))
    try:
        door.ask(to, word)
        until = time.monotonic() + WAIT
        while time.monotonic() < until:
            if (word, to) in door.answers():
                return True
        return False
    finally:
        door.close()


PAIRS = ((A, EC2_1), (A, EC2_2), (OPEN, EC2_1), (EC2_1, VPC_1), (VPC_2, EC2_2))


@pytest.mark.parametrize("untracked", [True, False])
def test_a_gateways_kernel_answers_those_who_send_to_it(two: Fleet, untracked: bool) -> None:
    """Also where another table lets in only what is established, and tracks everything."""
    for host in two.hosts.values():
        host.untracked = untracked
        host.load()
        if not untracked and host.me not in EVERY:
            nft(
                host.name,
                "table inet other { chain in { type filter hook input priority filter; policy "
                'drop; iifname "lo" accept; ct state established accept; }; }',
            )
    for asker, gateway in PAIRS:
        assert answers(two, asker, gateway), (asker.id, gateway.id)
    for gateway in EVERY:
        tracked = two[gateway].tracked()
        assert "dport=16384" not in tracked or not untracked


def test_who_does_not_pass_on_does_not_answer(two: Fleet) -> None:
    """Whatever the reason: no forwarding, another table's drop, no table, a host that it does not
    know."""
    gateway = two[EC2_1]
    sysctl(gateway.name, net__ipv4__conf__eth0__forwarding=0)
    assert not answers(two, A, EC2_1)
    sysctl(gateway.name, net__ipv4__conf__eth0__forwarding=1)
    assert answers(two, A, EC2_1)
    nft(gateway.name, DOCKER)
    assert not answers(two, A, EC2_1)
    assert not answers(two, OPEN, EC2_1)
    nft(gateway.name, "delete table ip filter")
    nft(gateway.name, f"delete element inet neti gateway_own {{ {A.private} }}")
    assert not answers(two, A, EC2_1)
    assert answers(two, OPEN, EC2_1)
    gateway.load()
    assert answers(two, A, EC2_1)
    gateway.loses_its_table()
    assert not answers(two, A, EC2_1)


def test_a_flood_of_wrong_answers_does_not_keep_the_right_ones_out(two: Fleet) -> None:
    """Of a program on the gateway, as of who forges its address: from where answers come, and many
    more than the socket holds."""
    door, word, to = ProbeSocket(), os.urandom(WORD_BYTES), place(B, VPC_1)
    two[B].inside(lambda: door.open(PORTS.probe))

    def flood() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("0.0.0.0", PORTS.probe))
            for number in range(2000):
                junk = b"neti" + number.to_bytes(16, "big")
                sock.sendto(junk, (str(B.private), PORTS.tunnel))

    try:
        two[VPC_1].inside(flood)
        wait_until(lambda: turned_away(two[B].name, PORTS.probe) > 1000)
        door.ask(to, word)
        time.sleep(WAIT)
        assert list(door.answers()) == [(word, to)]
    finally:
        door.close()


def turned_away(namespace: str, port: int) -> int:
    """Datagrams that the kernel did not put into the socket of this UDP port."""
    lines = subprocess.run(
        ["ip", "netns", "exec", namespace, "cat", "/proc/net/udp"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    (mine,) = (words for words in map(str.split, lines) if words[1].endswith(f":{port:04X}"))
    return int(mine[-1])


def test_nobody_is_answered_elsewhere_nor_a_stranger_at_all(two: Fleet) -> None:
    """A forged probe comes back to him whose address it bears, once and no longer than it was."""
    gateway = two.gateway_of(B)
    ears = {one: Sniffer(two[one].net, two[one].name, "eth0") for one in (A, B, OPEN, EC2_2)}
    outside = Sniffer(gateway.net, two.road, "s1")

    def heard(source: object, ports: tuple[int, int]) -> set[str]:
        word = os.urandom(8).hex().encode()
        packet = forged(str(source), str(gateway.me.public), ports, word)
        send_forged(gateway.net, two.road, packet)
        time.sleep(0.1)
        assert not outside.heard(word)
        times = {one.id: ear.heard(word) for one, ear in ears.items()}
        assert max(times.values()) <= 1
        return {one for one, often in times.items() if often}

    w, probe = PORTS.tunnel, PORTS.probe
    assert heard(EC2_2.public, (w, probe)) == {"ec2-2"}  # the control
    for source, ports in (
        (STRANGER, (w, probe)),
        (STRANGER, (probe, probe)),
        (EC2_2.public, (40000, probe)),
        (OPEN.public, (w, probe)),  # of the gateway's own site
        ("10.0.0.99", (w, probe)),
    ):
        assert heard(source, ports) == set(), (source, ports)


def test_a_gateway_counts_what_it_passes_on_and_what_not(two: Fleet) -> None:
    gateway = two.gateway_of(B)
    Server(two[B].net, two[B].name, 7000)
    assert two.calls(A, B)
    for known in (VPC_1, VPC_2):
        two[known].load()  # counts from 0
    assert two.calls(A, B)
    assert answers(two, B, gateway.me)
    to = gateway.me.public
    nobody = forged(str(EC2_2.public), str(to), (PORTS.tunnel, PORTS.port(SUBNET[999])), b"who")
    send_forged(gateway.net, two.road, nobody)
    # As to a router: by the gateway's link address, to somebody else.
    two[B].loses_its_table()
    ip(two[B].name, f"route add {STRANGER}/32 via {gateway.me.private}")
    stray = forged(str(B.private), STRANGER, (40000, 53), b"what")
    send_forged(two[B].net, two[B].name, stray)

    def counted() -> tuple[dict[str, int], dict[str, int]]:
        held = NftablesDataplane()
        return held.counters(), held.counted_bytes()

    def all_came() -> bool:
        packets, _ = gateway.inside(counted)
        return packets["gateway_unknown"] == packets["gateway_foreign"] == 1

    wait_until(all_came)
    packets, sizes = gateway.inside(counted)
    assert packets["probes"] == 1
    assert sizes["probes"] == 20 + 8 + 20
    assert packets["passed_inward"] > 2
    assert packets["passed_outward"] > 2
    for one in ("passed_inward", "passed_outward"):
        assert sizes[one] >= 60 * packets[one]
