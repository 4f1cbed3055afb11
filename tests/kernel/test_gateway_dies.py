"""What becomes of packets when gateways die, leave, come back, or are believed to.

Two sites with two gateways each: see ``tests.support.gateway_net``.
"""

import time

import pytest
from tests.support.gateway_net import (
    EC2_1,
    EC2_2,
    EVERY,
    OPEN,
    VPC_1,
    VPC_2,
    A,
    B,
    Fleet,
)
from tests.support.netns import Server, alive, connect
from tests.support.numbered import Numbered
from tests.support.talking import wait_until
from tests.support.tunnel_net import ip, nft

from neti.model import Member

pytestmark = pytest.mark.kernel


def _stream(two: Fleet, port: int) -> Numbered:
    one, other = two[A], two[B]
    return Numbered((one.net, one.name), (other.net, other.name), other.overlay, port)


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
        assert two.calls(A, B)
        assert two.calls(B, A)
        assert two.calls(OPEN, A)
        assert two.as_configured()
        for host in two.hosts.values():
            host.believes()


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
    assert two.calls(A, B)


@pytest.mark.parametrize("near_first", [False, True])
def test_a_drained_gateway_loses_nothing(two: Fleet, near_first: bool) -> None:
    """In any order: first those who send to its hosts, or first its hosts."""
    leaving = two.gateway_of(B)
    Server(two[B].net, two[B].name, 7000)
    with connect(two[A].net, two[A].name, str(B.overlay), 7000) as connection:
        stream = _stream(two, 7100)
        turns = [two[EC2_1], two[EC2_2], two[B]]
        for host in reversed(turns) if near_first else turns:
            host.believes(*two.without(leaving))
            time.sleep(0.1)
        leaving.link("down")
        time.sleep(0.3)
        assert stream.lost() == (0, 0)
        assert alive(connection)
    assert two.as_configured()


@pytest.mark.parametrize("near_first", [False, True])
def test_a_dead_gateway_is_replaced_by_elements_alone(two: Fleet, near_first: bool) -> None:
    """Each direction is back with its own side's rewriting; no peer changes, and the session goes
    on. When it is back nothing is lost."""
    dead = two.gateway_of(B)
    Server(two[B].net, two[B].name, 7000)
    with connect(two[A].net, two[A].name, str(B.overlay), 7000) as connection:
        stream = _stream(two, 7100)
        dead.link("down")
        time.sleep(0.2)
        arrived, back = len(stream.echo.callers), len(stream.back)
        time.sleep(0.3)
        assert (len(stream.echo.callers), len(stream.back)) == (arrived, back)
        far = (two.gateway_of(A),)
        first, second = ((two[B],), far) if near_first else (far, (two[B],))
        for host in first:
            host.believes(*two.without(dead))
        if not near_first:
            wait_until(lambda: len(stream.echo.callers) > arrived + 20)
        assert len(stream.back) == back
        for host in second:
            host.believes(*two.without(dead))
        wait_until(lambda: len(stream.back) > back + 20)
        stream.end()
        assert alive(connection)
        assert two.as_configured()
        stream = _stream(two, 7101)
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
        stream = _stream(two, 7100)
        two[whose].loses_its_table()
        time.sleep(0.2)
        two[whose].load()
        back = len(stream.back)
        wait_until(lambda: len(stream.back) > back + 20)
        stream.end()
        assert alive(connection)
    assert two.as_configured()


def test_another_program_that_tracks_sees_no_change_of_gateway(two: Fleet) -> None:
    """It lets in what is established, and the packets of all gateways are one connection."""
    host = two[B]
    host.untracked = False
    host.load()
    nft(
        host.name,
        "table inet other { chain in { type filter hook input priority filter; policy drop; "
        'iifname { "lo", "neti0" } accept; ct state established accept; }; }',
    )
    Server(two[A].net, two[A].name, 7000)
    for gateway in (VPC_1, VPC_2, VPC_1):
        for sender in (B, EC2_1, EC2_2):
            two[sender].believes(EC2_1, EC2_2, gateway)
        assert two.calls(B, A)
    outer = [line for line in host.tracked().splitlines() if "dport=51820" in line]
    assert len(outer) == 1
    assert outer[0].count(f"={two.gateway_of(B).me.private} ") == 2
    assert "[UNREPLIED]" not in outer[0]
