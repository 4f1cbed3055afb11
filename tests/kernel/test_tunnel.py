"""What packets do on the encrypted road: real ones, two real kernels, real WireGuard.

Both hosts are 10.0.0.11, each in its own site: see ``tests.support.tunnel_net``.
"""

import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest
from drills.flood import Flood
from tests.support import netns
from tests.support.netns import Server, alive, connect, reaches, require_root
from tests.support.talking import (
    FORGED_PORT,
    MUCH,
    Echo,
    Served,
    Sniffer,
    caller,
    datagram,
    dialing,
    echoed,
    echoes,
    echoes_in_the_end,
    passes,
    send_forged,
    send_out_of,
    udp,
    wait_until,
)
from tests.support.tunnel_net import (
    CONTAINER,
    PORT,
    PRIVATE,
    STRANGER,
    A,
    B,
    TwoSites,
    ip,
    nft,
    sysctl,
    two_sites,
)

from neti.dataplane.nftables import NftablesDataplane
from neti.model import Encrypt, Road, entry
from neti.ruleset.enforce import Enforcement
from neti.ruleset.objects import GATEWAY_SETS, OPTIONAL
from neti.ruleset.surroundings import TUNNEL_DEVICE

pytestmark = pytest.mark.kernel

GONE = "203.0.113.77"  # of a member that left

# What Docker has in a host's kernel, with one published port.
DOCKER = """
table ip docker {
    chain pre { type nat hook prerouting priority dstnat; fib daddr type local goto published; }
    chain out {
        type nat hook output priority -100;
        ip daddr != 127.0.0.0/8 fib daddr type local goto published
    }
    chain published {
        iifname "docker0" return
        meta l4proto { tcp, udp } th dport 8080 dnat to 172.17.0.2:7000
    }
    chain post {
        type nat hook postrouting priority srcnat;
        ip saddr 172.17.0.0/16 oifname != "docker0" masquerade
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        oifname "docker0" ct state related,established accept
        oifname "docker0" iifname != "docker0" ip daddr 172.17.0.2 th dport 7000 accept
        iifname "docker0" accept
    }
}
"""
MANGLE = """
table ip others {
    chain in { type filter hook prerouting priority mangle; meta mark set ct mark; }
    chain out { type route hook output priority mangle; meta mark set ct mark; }
}
"""


@pytest.fixture
def sites() -> Iterator[TwoSites]:
    require_root()
    with two_sites() as made:
        yield made


def test_the_server_sees_the_callers_overlay_address(sites: TwoSites) -> None:
    """At its own private one. Both hosts call and are called, and what one end prefers does not
    depend on what the other does."""
    a, b = sites.a, sites.b
    at_a, at_b = Server(a.net, a.net.host, 7000), Server(b.net, b.net.host, 7000)
    assert reaches(a.net, a.net.host, B.overlay, 7000)
    sites.both(Road.TRYING)
    assert reaches(a.net, a.net.host, B.overlay, 7000)
    assert at_b.callers == [A.public, A.public]
    a.goes_by(Road.PREFERRED)
    assert reaches(a.net, a.net.host, B.overlay, 7000)
    assert at_b.callers[2:] == [A.overlay]
    assert reaches(b.net, b.net.host, A.overlay, 7000)
    b.goes_by(Road.PREFERRED)
    assert reaches(b.net, b.net.host, A.overlay, 7000)
    assert at_a.callers == [B.public, B.overlay]


@pytest.mark.parametrize("road", [Road.PREFERRED, Road.REQUIRED])
def test_udp_goes_both_ways(sites: TwoSites, road: Road) -> None:
    sites.both(road)
    for end in (sites.a, sites.b):
        at = Echo(end.net, end.net.host, 7000)
        other = sites.b if end is sites.a else sites.a
        assert echoes(other.net, other.net.host, end.end.overlay, 7000)
        assert at.callers == [(other.end.overlay, b"echo")]


def test_containers_call_and_are_called(sites: TwoSites) -> None:
    """Beside Docker's own translation, and behind a published port. The server sees the overlay
    address of the host that the container is on."""
    a, b = sites.a, sites.b
    for end in (a, b):
        nft(end.net.host, DOCKER)
    sites.both(Road.REQUIRED)
    for end in (a, b):
        end.enforce()
    on_b, in_b = Server(b.net, b.net.host, 7001), Server(b.net, b.net.container, 7000)
    udp_on_b, udp_in_b = Echo(b.net, b.net.host, 7001), Echo(b.net, b.net.container, 7000)
    for caller_in in (a.net.host, a.net.container):
        assert reaches(a.net, caller_in, B.overlay, 7001), caller_in
        assert reaches(a.net, caller_in, B.overlay, 8080), caller_in
        assert echoes(a.net, caller_in, B.overlay, 7001), caller_in
        assert echoes(a.net, caller_in, B.overlay, 8080), caller_in
    for server in (on_b, in_b):
        assert server.callers == [A.overlay, A.overlay]
    for echo in (udp_on_b, udp_in_b):
        assert echo.callers == [(A.overlay, b"echo")] * 2


def test_connections_keep_the_road_on_which_they_began(sites: TwoSites) -> None:
    """There and back again, TCP and UDP, of hosts and of containers."""
    a, b = sites.a, sites.b
    for end in (a, b):
        nft(end.net.host, DOCKER)
    server, echo = Server(b.net, b.net.host, 7000), Echo(b.net, b.net.host, 7000)
    sites.both(Road.TRYING)
    callers = (a.net.host, a.net.container)
    clear = [connect(a.net, name, B.overlay, 7000) for name in callers]
    udp_clear = [caller(a.net, name) for name in callers]
    assert all(alive(one) for one in clear)
    assert all(echoed(one, B.overlay, 7000, b"1", netns.PATIENCE) for one in udp_clear)
    assert server.callers == [A.public, A.public]
    sites.both(Road.PREFERRED)
    tunneled = [connect(a.net, name, B.overlay, 7000) for name in callers]
    udp_tunneled = [caller(a.net, name) for name in callers]
    assert server.callers[2:] == [A.overlay, A.overlay]
    for road in (Road.PREFERRED, Road.TRYING, Road.PREFERRED):
        for ends in ((a,), (b,)):
            for end in ends:
                end.goes_by(road)
            assert all(alive(one) for one in (*clear, *tunneled)), (road, ends)
            for sock in (*udp_clear, *udp_tunneled):
                assert echoed(sock, B.overlay, 7000, b"2", netns.PATIENCE)
    assert {c for c, d in echo.callers if d == b"1"} == {A.public}
    assert len(server.callers) == 4
    sites.both(Road.REQUIRED)
    assert all(alive(one) for one in tunneled)
    assert not any(alive(one, netns.WAIT) for one in clear)
    for sock in (*clear, *tunneled, *udp_clear, *udp_tunneled):
        sock.close()


def test_one_way_udp_moves_out_of_a_dead_tunnel(sites: TwoSites) -> None:
    """Nothing answers, so nobody would ever begin it anew."""
    a, b = sites.a, sites.b
    sink = Echo(b.net, b.net.host, 7000, silent=True)
    sites.both(Road.PREFERRED)
    with caller(a.net, a.net.host) as sock:
        sock.sendto(b"1", (B.overlay, 7000))
        a.wireguard.stop()
        a.goes_by(Road.TRYING)

        def arrives() -> bool:
            sock.sendto(b"2", (B.overlay, 7000))
            return (A.public, b"2") in sink.callers

        wait_until(arrives)


@pytest.mark.parametrize("everywhere", [0, 1, 2])
@pytest.mark.parametrize("here", [0, 1, 2])
def test_whatever_rp_filter_is(sites: TwoSites, everywhere: int, here: int) -> None:
    """On all interfaces and on the device itself. Also where another program restores whole marks,
    as iptables' CONNMARK does."""
    for end in (sites.a, sites.b):
        sysctl(end.net.host, net__ipv4__conf__all__rp_filter=everywhere)
        end.wireguard.sysctl("rp_filter", here)
        nft(end.net.host, MANGLE)
    Server(sites.b.net, sites.b.net.host, 7000)
    sites.both(Road.REQUIRED)
    assert reaches(sites.a.net, sites.a.net.host, B.overlay, 7000)
    assert reaches(sites.a.net, sites.a.net.container, B.overlay, 7000)


# --- what is enforced ---


@pytest.fixture
def required(sites: TwoSites) -> TwoSites:
    """Both enforced, with nothing but the tunnel between them."""
    for end in (sites.a, sites.b):
        nft(end.net.host, DOCKER)
        end.goes_by(Road.REQUIRED)
        end.enforce()
    Server(sites.b.net, sites.b.net.host, 7000)
    return sites


def test_required_lets_in_by_the_tunnel_alone(required: TwoSites) -> None:
    """A member's public address opens nothing, by either family, and neither does a stranger's;
    what this host itself asks a public address is answered."""
    a, b = required.a, required.b
    assert reaches(a.net, a.net.host, B.overlay, 7000)
    assert not reaches(a.net, a.net.host, B.public, 7000)
    assert not reaches(a.net, a.net.host, B.v6, 7000)
    assert not reaches(b.net, b.net.outside, B.public, 7000, STRANGER)
    Server(b.net, b.net.outside, 7000)
    assert reaches(b.net, b.net.host, STRANGER, 7000)


def test_a_forged_overlay_source_reaches_nobody(required: TwoSites) -> None:
    """Neither in shadow, nor in a flow that is under way; from a neighbour or a container."""
    a, b = required.a, required.b
    echo = Echo(b.net, b.net.host, 7001)
    forged = datagram(A.overlay, PRIVATE, 7001, b"forged")
    with a.inside(lambda: udp(FORGED_PORT)) as sock:
        for on in (True, False):
            b.enforce(on)
            assert echoed(sock, B.overlay, 7001, b"true", netns.PATIENCE)
            for name in (b.gateway, b.net.container):
                send_forged(b.net, name, forged)
            assert echoed(sock, B.overlay, 7001, b"true", netns.PATIENCE)
    assert echo.callers == [(A.overlay, b"true")] * 4


def test_the_forged_source_would_arrive(sites: TwoSites) -> None:
    """Without a rule against it: so the test above means something."""
    b = sites.b
    echo = Echo(b.net, b.net.host, 7001)
    for name in (b.gateway, b.net.container):
        send_forged(b.net, name, datagram(A.overlay, PRIVATE, 7001, b"forged"))
    wait_until(lambda: len(echo.callers) == 2)


def test_what_comes_to_wireguards_port_is_not_tracked_at_any_address(sites: TwoSites) -> None:
    """Also at one that is not the private one. What comes to another port is."""
    b, further = sites.b, "10.0.0.99"
    ip(b.net.host, f"address add {further}/32 dev lo")
    b.resync()
    echo = Echo(b.net, b.net.host, 7001)
    source = "10.0.0.1"
    for to in (PRIVATE, further):
        for port in (PORT, 7001):
            send_forged(b.net, b.gateway, datagram(source, to, port, to.encode()))
    wait_until(lambda: len(echo.callers) == 2)
    held = b.inside(lambda: Path("/proc/thread-self/net/nf_conntrack").read_text())
    asked = [line for line in held.splitlines() if f"src={source} " in line]
    assert {line.split(" dst=")[1].split()[0] for line in asked} == {PRIVATE, further}
    assert all(" dport=7001 " in line for line in asked)


@pytest.mark.parametrize("to", [CONTAINER, "127.0.0.1", PRIVATE, "10.0.0.1", "172.17.0.1"])
def test_a_member_reaches_nothing_but_the_overlay_address(required: TwoSites, to: str) -> None:
    """Whatever a hostile member puts into the tunnel: no container, no loopback, no neighbour."""
    a, b = required.a, required.b
    b.enforce(False)
    a.wireguard.peer(b.wireguard, B.public, "0.0.0.0/0")
    sysctl(b.net.host, net__ipv4__conf__all__route_localnet=1)
    where = {CONTAINER: b.net.container, "10.0.0.1": b.gateway}.get(to, b.net.host)
    echo, true = Echo(b.net, where, 7001), Echo(b.net, b.net.host, 7002)
    for address, port in ((to, 7001), (B.overlay, 7002)):
        packet = datagram(A.overlay, address, port, b"x")
        send_out_of(a.net, a.net.host, TUNNEL_DEVICE, packet)
    wait_until(lambda: len(true.callers) == 1)  # what was sent first was there first
    assert echo.callers == []


def test_required_without_a_key_is_refused_at_once(required: TwoSites) -> None:
    """By a reset, for the host and for containers. Nobody comes in either."""
    a, b = required.a, required.b
    a.goes_by(Road.NONE)
    for name in (a.net.host, a.net.container):
        with pytest.raises(ConnectionRefusedError):
            connect(a.net, name, B.overlay, 7000)
    Server(a.net, a.net.host, 7000)
    assert not reaches(b.net, b.net.host, A.overlay, 7000)
    assert not reaches(b.net, b.net.host, A.public, 7000)


def test_a_removed_member_is_out_at_once_and_wireguards_packets_are_not(required: TwoSites) -> None:
    """Its open connections end, although its WireGuard peer is still there. The same public address
    goes on carrying the tunnel of others behind it: it is only judged as a source."""
    a, b = required.a, required.b
    Server(a.net, a.net.host, 7000)
    b.goes_by(Road.PREFERRED)  # so that the public address was a peer, and becomes a removed source
    with (
        connect(a.net, a.net.host, B.overlay, 7000) as inward,
        connect(b.net, b.net.host, A.overlay, 7000) as outward,
    ):
        assert alive(inward)
        b.goes_by(Road.REQUIRED)
        assert A.public in b.members.elements.revoked["revoked4"]
        assert A.overlay not in b.members.elements.revoked["revoked4"]
        a.wireguard.restart()  # a new handshake, from a removed source
        required.know_each_other()
        assert alive(inward)
        assert alive(outward)
        b.leaves()
        assert not alive(inward, netns.WAIT)
        assert not alive(outward, netns.WAIT)
    with pytest.raises(ConnectionRefusedError):
        connect(b.net, b.net.host, A.overlay, 7000)
    b.joins()
    assert reaches(a.net, a.net.host, B.overlay, 7000)


@pytest.mark.parametrize("road", [Road.TRYING, Road.REQUIRED])
@pytest.mark.parametrize("untracked", [True, False])
def test_ssh_from_a_whitelisted_overlay_address(
    required: TwoSites, untracked: bool, road: Road
) -> None:
    """Tracked or not, and by whichever road this end would call back."""
    a, b = required.a, required.b
    b.goes_by(road)
    b.untracked = untracked
    b.configured(ssh_whitelist=(ip_network("192.168.0.0/18"),))
    b.enforce()
    server = Server(b.net, b.net.host, 22)
    with connect(a.net, a.net.host, B.overlay, 22) as session:
        assert alive(session)
        b.untracked = not untracked
        b.resync()
        assert alive(session)
    assert reaches(a.net, a.net.container, B.overlay, 22)
    assert server.callers == [A.overlay, A.overlay]


# --- what is missing ---


def test_a_flow_that_begins_while_the_table_is_away_is_not_stuck(sites: TwoSites) -> None:
    """On either end. The kernel tracks it meanwhile, because another program has it do so."""
    a, b = sites.a, sites.b
    Server(b.net, b.net.host, 7000)
    Echo(b.net, b.net.host, 7000)
    for end in (a, b):
        nft(end.net.host, DOCKER)
    sites.both(Road.PREFERRED)
    assert echoes(a.net, a.net.host, B.overlay, 7000)
    for away in (a, b):
        with (
            caller(a.net, a.net.host) as one,
            caller(a.net, a.net.container) as two,
            connect(a.net, a.net.host, B.overlay, 7000) as old,
        ):
            nft(away.net.host, "delete table inet neti")
            late = dialing(a.net, a.net.host, B.overlay, 7000)
            for sock in (one, two):
                assert not echoed(sock, B.overlay, 7000, b"away", netns.WAIT)
            away.resync()
            away.end_stale()
            for sock in (one, two):
                assert echoed(sock, B.overlay, 7000, b"back", netns.PATIENCE), away.end
            assert alive(old)
            with late() as connection:
                assert alive(connection)


@pytest.mark.parametrize("missing", ["table", "device", "rule", "route", "process"])
def test_whatever_is_missing_nothing_leaves_in_the_clear(required: TwoSites, missing: str) -> None:
    """A sniffer on the road hears none of what hosts and containers send to the overlay address."""
    a = required.a
    marker = b"0123456789 in the clear 9876543210"
    sniffer = Sniffer(a.net, required.road, A.site)
    assert reaches(a.net, a.net.host, B.overlay, 7000)
    match missing:
        case "table":
            nft(a.net.host, "delete table inet neti")
        case "device":
            ip(a.net.host, "link delete neti0")
        case "rule":
            ip(a.net.host, "rule delete priority 78")
        case "route":
            ip(a.net.host, "route flush table 78")
        case "process":
            a.wireguard.stop()
    for name in (a.net.host, a.net.container):
        assert not echoes(a.net, name, B.overlay, 7001, data=marker, dead=True)
        with suppress(OSError):
            reaches(a.net, name, B.overlay, 7000)
    assert sniffer.heard(marker) == 0
    with caller(a.net, a.net.host) as sock:
        sock.sendto(marker, (B.public, 7001))  # the sniffer hears well
        wait_until(lambda: sniffer.heard(marker) > 0)
    sniffer.close()


def test_a_socket_that_is_bound_to_the_uplink_sends_nothing_in_the_clear(
    required: TwoSites,
) -> None:
    """SO_BINDTODEVICE needs no root, and the kernel routes by it whatever the mark says."""
    a = required.a
    marker = b"0123456789 in the clear 9876543210"
    sniffer = Sniffer(a.net, required.road, A.site)
    with caller(a.net, a.net.host) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        for _ in range(3):
            with suppress(OSError):
                sock.sendto(marker, (B.overlay, 7001))
    assert sniffer.heard(marker) == 0
    with caller(a.net, a.net.host) as sock:
        sock.sendto(marker, (B.public, 7001))  # the sniffer hears well
        wait_until(lambda: sniffer.heard(marker) > 0)
    sniffer.close()


# --- turning it on and off ---


def test_an_override_is_no_member(sites: TwoSites) -> None:
    """``nat_overrides`` win over the tunnel, as they do over members."""
    a = sites.a
    nft(a.net.host, DOCKER)
    a.configured(nat_overrides={IPv4Address(B.overlay): IPv4Address(STRANGER)})
    a.resync()
    server = Server(a.net, a.net.outside, 7000)
    a.goes_by(Road.PREFERRED)
    assert reaches(a.net, a.net.host, B.overlay, 7000)
    assert reaches(a.net, a.net.container, B.overlay, 7000)
    assert server.callers == [A.public, A.public]


@pytest.mark.parametrize("mtus", [(9001, 9001), (1500, 1500)])
def test_large_transfers_and_datagrams_pass(mtus: tuple[int, int]) -> None:
    """Hosts whose own networks carry more than the road, or just as much, both ways. A datagram of
    a container that may not be cut is lost once, as on every road that is narrower further on."""
    require_root()
    with two_sites(mtus) as sites:
        for end in (sites.a, sites.b):
            nft(end.net.host, DOCKER)
            Served(end.net, end.net.host, 7001)
            Served(end.net, end.net.container, 7000)
            Echo(end.net, end.net.host, 7001)
            Echo(end.net, end.net.container, 7000)
        sites.both(Road.REQUIRED)
        found = [
            (name.rpartition("-")[2], other.site, port, size)
            for end, other in ((sites.a, B), (sites.b, A))
            for port in (7001, 8080)
            for name in (end.net.host, end.net.container)
            for size in (MUCH, 1300, 1400, 1500, 9000, 60000)
            if not (
                passes(end.net, name, other.overlay, port)
                if size == MUCH
                else echoes_in_the_end(end.net, name, other.overlay, port, b"x" * size)
            )
        ]
        assert found == []


@pytest.mark.parametrize("road", Road)
def test_ipv6_is_as_it_was(sites: TwoSites, road: Road) -> None:
    """Nothing of the tunnel looks at it."""
    a, b = sites.a, sites.b
    Server(b.net, b.net.host, 7000)
    sites.both(road)
    assert reaches(a.net, a.net.host, B.v6, 7000)


def test_a_full_tracking_table_leaves_the_tunnel_and_ssh_alone(required: TwoSites) -> None:
    """WireGuard's own packets and whitelisted SSH are not tracked; what is under way goes on."""
    a, b = required.a, required.b
    for end in (a, b):
        end.configured(ssh_whitelist=(ip_network("192.168.0.0/18"),))
        end.enforce()
    Server(b.net, b.net.host, 22)
    with connect(a.net, a.net.host, B.overlay, 7000) as old:
        assert alive(old)
        with closing(b.inside(Flood)):
            assert not reaches(a.net, a.net.host, B.overlay, 7000)
            assert alive(old)
            assert reaches(a.net, a.net.host, B.overlay, 22)
            a.wireguard.restart()  # a handshake
            required.know_each_other()
            assert alive(old)


def test_turning_encryption_on_loses_nothing(sites: TwoSites) -> None:
    """The table is replaced, because it gets new sets: removed sources, a trial, the grace time and
    open connections are as before. The same on the way back."""
    a, b = sites.a, sites.b
    Server(b.net, b.net.host, 7000)
    for end in (a, b):
        end.configured(Encrypt.OFF)
        end.resync()
    held = a.inside(NftablesDataplane)
    assert held.read().missing == OPTIONAL
    gone = replace(
        a.member,
        id="gone",
        private=IPv4Address("10.0.0.12"),
        overlay=IPv4Address("192.168.0.50"),
        public=IPv4Address(GONE),
    )
    a.members.fleet.appeared(entry.encode(gone))
    a.members.fleet.lease_read(gone.overlay, gone.id)
    a.resync()
    a.members.fleet.appeared(entry.encode_departure(gone))
    a.members.fleet.vanished(entry.encode(gone), now=0.0)
    a.members.elements.enforce(Enforcement(seconds=500))
    a.resync()
    a.reconciler.begin_trial(a.members.elements)
    before = held.read()
    assert before.timed["revoked4"].keys() == {GONE}
    with connect(a.net, a.net.host, B.overlay, 7000) as connection:
        for encrypt in (Encrypt.PREFER, Encrypt.OFF):
            for end in (a, b):
                end.configured(encrypt)
                end.resync()
                end.end_stale()
            now = held.read()
            assert bool(now.missing - GATEWAY_SETS) is (encrypt is Encrypt.OFF)
            assert now.timed.keys() == before.timed.keys()
            for where, elements in before.timed.items():
                assert now.timed[where].keys() == elements.keys(), where
                assert all(0 <= elements[k] - now.timed[where][k] < 60 for k in elements)
            assert now.enforce.keys() == before.enforce.keys() == {"ipv4", "ipv6"}
            assert all(0 < (left or 0) <= 500 for left in now.enforce.values())
            assert alive(connection)
            if encrypt is Encrypt.PREFER:
                sites.both(Road.PREFERRED)
                assert alive(connection)
                assert reaches(a.net, a.net.host, B.overlay, 7000)
                sites.both(Road.PLAIN)


def test_large_transfers_pass_where_one_end_is_narrower_than_the_road() -> None:
    """Each end's device says so to both, because neither end's sockets know the other's."""
    require_root()
    with two_sites((1300, 9001)) as sites:
        for end in (sites.a, sites.b):
            nft(end.net.host, DOCKER)
            Served(end.net, end.net.host, 7001)
            Served(end.net, end.net.container, 7000)
        sites.both(Road.REQUIRED)
        for end, other in ((sites.a, B), (sites.b, A)):
            for port in (7001, 8080):
                for name in (end.net.host, end.net.container):
                    assert passes(end.net, name, other.overlay, port), (name, port)
