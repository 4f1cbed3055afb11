"""Another program's default-deny filter in front of members: decided by packets."""

import subprocess

import pytest
from tests.kernel.test_packets import PEER, UnderTest
from tests.support import netns
from tests.support.netns import Net, Server, reaches

from neti.monitoring.arrivals import Arrivals

pytestmark = pytest.mark.kernel

# As ufw lays its rules out: through chains of its own, with rate limits and matches that nobody
# can judge by reading.
UFW = """\
iptables-nft -N ufw-before
iptables-nft -N ufw-user
iptables-nft -A INPUT -j ufw-before
iptables-nft -A INPUT -j ufw-user
iptables-nft -A ufw-before -i lo -j ACCEPT
iptables-nft -A ufw-before -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables-nft -A ufw-user -p tcp --dport 22 -m recent --name x --rcheck --seconds 1 -j DROP
iptables-nft -A ufw-user -p tcp --dport 22 -j ACCEPT
iptables-nft -P INPUT DROP
"""


def seen(net: Net, host: UnderTest, arrivals: Arrivals) -> Arrivals:
    counted = net.inside(net.host, host.reconciler.counters)
    arrivals.look(counted["asked"], counted["arrived"])
    return arrivals


@pytest.mark.parametrize(
    ("source", "to"), [(netns.PEER, netns.PRIVATE), (netns.PEER6, netns.PRIVATE6)]
)
def test_members_get_in_or_are_kept_out(net: Net, source: str, to: str) -> None:
    """In shadow and enforced; a stranger never counts."""
    host = UnderTest(net)
    host.joins(PEER)
    Server(net, net.host, 7000)
    arrivals = Arrivals()
    for _ in range(6):
        assert reaches(net, net.outside, to, 7000, source)
    assert seen(net, host, arrivals).get_in
    host.enforce()
    for _ in range(6):
        assert reaches(net, net.outside, to, 7000, source)
    assert not reaches(net, net.outside, netns.PRIVATE, 7000, netns.STRANGER)
    assert seen(net, host, arrivals).get_in
    counted = net.inside(net.host, host.reconciler.counters)
    assert counted["asked"] == counted["arrived"] == counted["called"] == 12


def test_a_member_that_verifies_does_not_call(net: Net) -> None:
    """Else one ``neti fleet verify`` makes each host look as if somebody used it."""
    host = UnderTest(net)
    host.joins(PEER)
    for port in (7000, host.settings.verify_port):
        Server(net, net.host, port)
        assert reaches(net, net.outside, netns.PRIVATE, port, netns.PEER)
    counted = net.inside(net.host, host.reconciler.counters)
    assert (counted["asked"], counted["arrived"], counted["called"]) == (2, 2, 1)


def test_a_firewall_in_front_is_found_by_packets(net: Net) -> None:
    """And over with the first connection that it lets through."""
    host = UnderTest(net)
    host.joins(PEER)
    Server(net, net.host, 7000)
    arrivals = Arrivals()
    inside = ["ip", "netns", "exec", net.host, "sh", "-euc"]
    subprocess.run([*inside, UFW], check=True)
    for _ in range(6):
        assert not reaches(net, net.outside, netns.PRIVATE, 7000, netns.PEER)
    assert seen(net, host, arrivals).kept_out >= 6
    opened = f"iptables-nft -I INPUT -s {netns.PEER} -j ACCEPT"
    subprocess.run([*inside, opened], check=True)
    assert reaches(net, net.outside, netns.PRIVATE, 7000, netns.PEER)
    assert seen(net, host, arrivals).kept_out == 0
