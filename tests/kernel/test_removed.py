"""Sources that were members until lately: what this host opened is answered, all else is refused.

Whoever conntrack saw first passes for the one who opened a connection. Where a connection is older
than tracking that may be the wrong end, so each case is played with the table emptied in between.
"""

import socket
import struct
import subprocess
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from tests.kernel.test_packets import PEER, UnderTest
from tests.support import netns
from tests.support.netns import Net, Server, alive, connect, reaches

from neti.dataplane.netlink import NETLINK_NETFILTER, NetlinkSocket
from neti.host import surroundings
from neti.host.listeners import Listening, listeners
from neti.model import entry

pytestmark = pytest.mark.kernel

BOTH = [(netns.PEER, netns.PRIVATE), (netns.PEER6, netns.PRIVATE6)]


@pytest.fixture
def host(net: Net) -> UnderTest:
    return UnderTest(net)


def listen(host: UnderTest) -> None:
    """As the agent does, at each look."""
    look = Listening(lambda: host.net.inside(host.net.host, listeners), lambda: (32768, 60999))
    surroundings.listen(host.members.elements, look)
    host.commit()


def forget_tracked(net: Net) -> None:
    """Every connection of the host's, as if tracking began now (ctnetlink's flush)."""

    def flush() -> None:
        netlink = NetlinkSocket(NETLINK_NETFILTER)
        netlink.request((1 << 8) | 2, struct.pack("=BBH", 0, 0, 0))
        netlink.close()

    net.inside(net.host, flush)


def datagrams(net: Net, namespace: str, address: str, port: int) -> socket.socket:
    def make() -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.bind((address, port))
        sock.settimeout(netns.WAIT)
        return sock

    made: socket.socket = net.inside(namespace, make)
    return made


def heard(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(10))
    except OSError:
        return False


@pytest.mark.parametrize(("peer", "own"), BOTH)
def test_what_this_host_opens_is_answered(net: Net, host: UnderTest, peer: str, own: str) -> None:
    """A removed source that is a server to us: connections from before and new ones, TCP and UDP;
    and it gets in nowhere by that."""
    Server(net, net.outside, 7002)
    Server(net, net.host, 7000)
    dns = datagrams(net, net.outside, peer, 53)
    listen(host)
    host.joins(PEER)
    host.enforce()
    with connect(net, net.host, peer, 7002) as before:
        assert alive(before)
        host.leaves(PEER)
        assert alive(before)
    with connect(net, net.host, peer, 7002) as after:
        assert alive(after)
    asking = datagrams(net, net.host, own, 0)
    asking.sendto(b"name?", (peer, 53))
    _, caller = dns.recvfrom(10)
    dns.sendto(b"here", caller)
    assert heard(asking)
    assert not reaches(net, net.outside, own, 7000, peer)


@pytest.mark.parametrize(("peer", "own"), BOTH)
@pytest.mark.parametrize("first", ["they", "we"])
def test_what_this_host_opened_before_tracking_is_answered(
    net: Net, host: UnderTest, peer: str, own: str, first: str
) -> None:
    """Tracked from the wrong end: the first packet that conntrack sees is theirs."""
    served: list[socket.socket] = []

    def listener() -> socket.socket:
        family = socket.AF_INET6 if ":" in peer else socket.AF_INET
        sock = socket.socket(family)
        sock.bind((peer, 7002))
        sock.listen()
        return sock

    server: socket.socket = net.inside(net.outside, listener)
    listen(host)
    host.joins(PEER)
    host.enforce()
    with connect(net, net.host, peer, 7002) as ours:
        served.append(server.accept()[0])
        forget_tracked(net)
        if first == "they":
            served[0].sendall(b"push")
            ours.settimeout(netns.PATIENCE)
            assert ours.recv(4) == b"push"
        host.leaves(PEER)
        ours.sendall(b"ping")
        served[0].settimeout(netns.PATIENCE)
        assert served[0].recv(4) == b"ping"
        served[0].sendall(b"pong")
        ours.settimeout(netns.PATIENCE)
        assert ours.recv(4) == b"pong"


@pytest.mark.parametrize(("peer", "own"), BOTH)
@pytest.mark.parametrize("first", ["they", "we"])
@pytest.mark.parametrize("port", [7000, 50051])
def test_a_removed_peer_is_out_whoever_is_tracked_as_the_opener(
    net: Net, host: UnderTest, peer: str, own: str, first: str, port: int
) -> None:
    """An open connection to a service here, also to one in the range of outgoing ports, dies at
    once, be it that conntrack saw our packet first and takes us for the one who opened it."""
    accepted: list[socket.socket] = []

    def listener() -> socket.socket:
        family = socket.AF_INET6 if ":" in own else socket.AF_INET
        sock = socket.socket(family)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((own, port))
        sock.listen()
        return sock

    server: socket.socket = net.inside(net.host, listener)
    listen(host)
    host.joins(PEER)
    host.enforce()
    with connect(net, net.outside, own, port, peer) as theirs:
        accepted.append(server.accept()[0])
        forget_tracked(net)
        sender, taker = (theirs, accepted[0]) if first == "they" else (accepted[0], theirs)
        sender.sendall(b"once")
        taker.settimeout(netns.PATIENCE)
        assert taker.recv(4) == b"once"
        host.leaves(PEER)
        theirs.sendall(b"more")
        accepted[0].settimeout(netns.WAIT)
        with pytest.raises(TimeoutError):
            accepted[0].recv(4)


@pytest.mark.parametrize(("peer", "own"), BOTH)
@pytest.mark.parametrize("first", ["they", "we"])
def test_a_removed_peers_datagrams_are_out_too(
    net: Net, host: UnderTest, peer: str, own: str, first: str
) -> None:
    """The same without connections: a service here, and a flow that is older than tracking."""
    service = datagrams(net, net.host, own, 7000)
    client = datagrams(net, net.outside, peer, 40000)
    listen(host)
    host.joins(PEER)
    host.enforce()
    client.sendto(b"one", (own, 7000))
    assert heard(service)
    forget_tracked(net)
    if first == "we":
        service.sendto(b"push", (peer, 40000))
        assert heard(client)
    client.sendto(b"two", (own, 7000))
    assert heard(service)
    host.leaves(PEER)
    client.sendto(b"three", (own, 7000))
    assert not heard(service)


@pytest.mark.parametrize(("peer", "own"), BOTH)
def test_our_own_datagrams_are_answered_though_theirs_were_seen_first(
    net: Net, host: UnderTest, peer: str, own: str
) -> None:
    """A connected socket of this host, and a flow that is older than tracking."""
    server = datagrams(net, net.outside, peer, 5300)
    ours = datagrams(net, net.host, own, 0)
    net.inside(net.host, lambda: ours.connect((peer, 5300)))
    listen(host)
    host.joins(PEER)
    host.enforce()
    ours.send(b"one")
    _, caller = server.recvfrom(10)
    forget_tracked(net)
    server.sendto(b"push", caller)
    assert heard(ours)
    host.leaves(PEER)
    ours.send(b"two")
    server.recvfrom(10)
    server.sendto(b"answer", caller)
    assert heard(ours)


def test_a_containers_calls_are_answered_and_its_service_is_shut(net: Net, host: UnderTest) -> None:
    """The same for what is forwarded: what the container opened is answered, masqueraded or not; an
    open connection to it dies, whichever end was seen first."""
    Server(net, net.outside, 7002)
    Server(net, net.container, 9000)
    host.joins(PEER)
    host.enforce()
    with (
        connect(net, net.container, netns.PEER, 7002) as outward,
        connect(net, net.outside, netns.CONTAINER, 9000, netns.PEER) as inward,
    ):
        assert alive(outward)
        assert alive(inward)
        forget_tracked(net)
        assert alive(outward)
        assert alive(inward)
        host.leaves(PEER)
        assert alive(outward)
        assert not alive(inward, netns.WAIT)
    masquerade = (
        "table ip nat { chain post { type nat hook postrouting priority srcnat; "
        "oifname eth0 masquerade; }; }"
    )
    subprocess.run(["ip", "netns", "exec", net.host, "nft", masquerade], check=True)
    with connect(net, net.container, netns.PEER, 7002) as outward:
        assert alive(outward)


def test_what_this_host_lives_by_never_becomes_a_removed_source(net: Net, host: UnderTest) -> None:
    """A member claimed the gateway's address, and let go of it: nothing is revoked. What was
    revoked before it became one of ours is pardoned."""
    host.joins(PEER)
    host.enforce()
    host.members.elements.spare(frozenset({netns.PEER}))
    host.leaves(PEER)
    assert host.members.elements.revoked["revoked4"] == frozenset()
    assert netns.PEER not in host.reconciler.read().timed["revoked4"]
    assert netns.PEER6 in host.reconciler.read().timed["revoked6"]
    host.members.elements.spare(frozenset({netns.PEER6}))
    host.resync()
    assert host.reconciler.read().timed["revoked6"] == {}


def test_an_address_that_passes_on_honestly_cuts_nobody_off(net: Net, host: UnderTest) -> None:
    """The next holder of a removed member's address uses open ports as everybody may, and serves
    this host as a database would."""
    Server(net, net.host, 80)
    Server(net, net.outside, 7002)
    listen(host)
    host.joins(PEER)
    host.enforce()
    host.leaves(PEER)
    with connect(net, net.outside, netns.PRIVATE, 80, netns.PEER) as user:
        assert alive(user)
        assert alive(user)
    with connect(net, net.host, netns.PEER, 7002) as database:
        assert alive(database)


def test_a_peers_move_takes_its_former_address_out(net: Net, host: UnderTest) -> None:
    """As a removal of that address, and no more."""
    Server(net, net.host, 7000)
    listen(host)
    host.joins(PEER)
    host.enforce()
    moved = replace(PEER, private=IPv4Address(netns.PEER_MOVED), generation=1)
    host.members.fleet.appeared(entry.encode(moved))
    host.members.fleet.vanished(entry.encode(PEER), now=0.0)
    host.commit()
    assert reaches(net, net.outside, netns.PRIVATE, 7000, netns.PEER_MOVED)
    assert not reaches(net, net.outside, netns.PRIVATE, 7000, netns.PEER)
