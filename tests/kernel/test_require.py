"""What packets do where encryption between sites is required, on trial and for good: real ones.

Both hosts are 10.0.0.11, each in its own site: see ``tests.support.tunnel_net``.
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from ipaddress import IPv4Address, ip_address, ip_network

import pytest
from tests.kernel.test_tunnel import DOCKER, MANGLE
from tests.support import netns
from tests.support.netns import Server, alive, connect, reaches, require_root
from tests.support.talking import (
    Echo,
    Sniffer,
    caller,
    datagram,
    echoed,
    echoes,
    send_forged,
    udp,
    wait_until,
)
from tests.support.tunnel_net import (
    PORT,
    PRIVATE,
    A,
    B,
    TunnelHost,
    TwoSites,
    ip,
    nft,
    two_sites,
)

from neti.dataplane import way_out
from neti.dataplane.nftables import NftablesDataplane
from neti.model import Encrypt, Member, Road, entry
from neti.model.settings import OpenPort
from neti.ruleset.enforce import PERMANENT, REQUIRED, Enforcement

pytestmark = pytest.mark.kernel

NEAR, NEAR_OUTSIDE = "10.0.0.1", "198.51.100.77"
MARKER = b"0123456789 in the clear 9876543210"
BOTH = Enforcement(seconds=500, require=500)
ALONE = Enforcement(permanent=True, require=500)


@pytest.fixture
def sites() -> Iterator[TwoSites]:
    """Both are enforced, and A is to require what B only answers."""
    require_root()
    with two_sites() as made:
        for end in (made.a, made.b):
            nft(end.net.host, DOCKER)
            end.configured(Encrypt.REQUIRE if end is made.a else Encrypt.PREFER)
            end.resync()
        made.both(Road.TRYING)
        for where in ("peers6", "clear6"):  # what a member's ``more`` comes to
            made.a.members.elements.want(where, B.v6)
        made.a.resync()
        yield made


def stands(end: TunnelHost, enforcement: Enforcement) -> None:
    elements = end.members.elements
    elements.enforce(enforcement)
    if enforcement.seconds or enforcement.require:
        end.reconciler.begin_trial(elements)
    end.resync()


def refused(end: TunnelHost, name: str, to: str, port: int) -> bool:
    try:
        return not reaches(end.net, name, to, port)
    except OSError as error:
        return isinstance(error, ConnectionRefusedError)


@pytest.mark.parametrize("enforcement", [BOTH, ALONE, REQUIRED])
def test_nothing_goes_in_the_clear_and_nothing_is_let_in(
    sites: TwoSites, enforcement: Enforcement
) -> None:
    """By overlay and by real address, TCP and UDP, both families, of host and container."""
    a, b = sites.a, sites.b
    for end in (a, b):
        Server(end.net, end.net.host, 7000)
        Echo(end.net, end.net.host, 7001)
    Server(a.net, a.net.container, 7000)
    for name in (a.net.host, a.net.container):  # it does without this, by each of the roads
        assert reaches(a.net, name, B.overlay, 7000)
        assert reaches(a.net, name, B.public, 7000)
    assert reaches(a.net, a.net.host, B.v6, 7000)
    assert reaches(b.net, b.net.host, A.overlay, 7000)
    assert reaches(b.net, b.net.host, A.public, 8080)
    assert reaches(b.net, b.net.host, A.v6, 7000)
    stands(a, enforcement)
    sniffer = Sniffer(a.net, sites.road, A.site)
    for name in (a.net.host, a.net.container):
        for to in (B.overlay, B.public):
            assert refused(a, name, to, 7000), (name, to)
            assert not echoes(a.net, name, to, 7001, data=MARKER, dead=True)
    with pytest.raises(ConnectionRefusedError):
        connect(a.net, a.net.host, B.v6, 7000)
    with (
        a.inside(lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as six,
        pytest.raises(PermissionError),
    ):
        six.sendto(MARKER, (B.v6, 7001))
    assert sniffer.heard(MARKER) == 0
    for to, port in ((A.overlay, 7000), (A.public, 7000), (A.public, 8080), (A.v6, 7000)):
        assert not reaches(b.net, b.net.host, to, port), (to, port)
    # Through the tunnel, all of it.
    sites.both(Road.PREFERRED)
    for name in (a.net.host, a.net.container):
        assert reaches(a.net, name, B.overlay, 7000)
        assert echoes(a.net, name, B.overlay, 7001, data=MARKER)
    assert reaches(b.net, b.net.host, A.overlay, 7000)
    assert reaches(b.net, b.net.host, A.overlay, 8080)
    assert sniffer.heard(MARKER) == 0
    sniffer.close()


@pytest.mark.parametrize("enforcement", [BOTH, ALONE, REQUIRED])
def test_the_tunnels_port_is_no_way_out_for_other_programs(
    sites: TwoSites, enforcement: Enforcement
) -> None:
    """Whoever binds it once wireguard-go has ended, which needs no root."""
    a = sites.a
    a.wireguard.stop()
    sniffer = Sniffer(a.net, sites.road, A.site)

    def sends() -> None:
        for to in (B.public, B.overlay):
            with suppress(PermissionError):
                sock.sendto(MARKER, (to, PORT))

    with a.inside(lambda: udp(PORT)) as sock:
        stands(a, enforcement)
        sends()
        assert sniffer.heard(MARKER) == 0
        stands(a, PERMANENT)
        sends()
        wait_until(lambda: sniffer.heard(MARKER) == 2)  # the sniffer hears well
    sniffer.close()


def test_another_programs_marks_do_not_keep_the_tunnel_shut(sites: TwoSites) -> None:
    """iptables' CONNMARK replaces the whole mark of each packet, WireGuard's own too."""
    a, b = sites.a, sites.b
    Server(b.net, b.net.host, 7000)
    nft(a.net.host, MANGLE)
    a.untracked = False
    sites.both(Road.REQUIRED)
    stands(a, REQUIRED)
    assert reaches(a.net, a.net.host, B.overlay, 7000)
    a.wireguard.restart()  # a handshake
    sites.know_each_other()
    assert reaches(a.net, a.net.host, B.overlay, 7000)


def test_the_kernel_alone_goes_back(sites: TwoSites) -> None:
    """At the end of its time, with no program's help. Older connections were only held up, and the
    host is as enforced as before."""
    a, b = sites.a, sites.b
    for end in (a, b):
        Server(end.net, end.net.host, 7000)
        Echo(end.net, end.net.host, 7001)
    stands(a, PERMANENT)
    with ExitStack() as stack:
        older = [
            stack.enter_context(connect(end.net, name, to, 7000))
            for end, name, to in (
                (a, a.net.host, B.overlay),
                (a, a.net.container, B.overlay),
                (a, a.net.host, B.public),
                (a, a.net.host, B.v6),
                (b, b.net.host, A.overlay),
            )
        ]
        sock = stack.enter_context(caller(a.net, a.net.host))
        assert echoed(sock, B.overlay, 7001, b"1", netns.PATIENCE)
        assert all(alive(one) for one in older)
        a.members.elements.enforce(Enforcement(permanent=True, require=4))
        a.reconciler.begin_trial(a.members.elements)
        assert not any(alive(one, 0.2) for one in older)
        assert not echoed(sock, B.overlay, 7001, b"2", 0.2)
        with pytest.raises(ConnectionRefusedError):
            connect(a.net, a.net.host, B.overlay, 7000)
        held = a.inside(NftablesDataplane)
        wait_until(lambda: not held.require())
        for one in older:
            one.settimeout(netns.PATIENCE)
            assert one.recv(4) == b"ping"  # what was held up
        assert all(alive(one) for one in older)
        assert echoed(sock, B.overlay, 7001, b"3", netns.PATIENCE)
    assert reaches(a.net, a.net.host, B.overlay, 7000)
    assert held.read().armed_for_good
    counters = held.counters()
    assert counters["clear_new"] > 0
    assert counters["clear_older"] > 0
    assert counters["clear_came"] > 0


def test_relax_without_an_agent_lets_everything_through(sites: TwoSites) -> None:
    a, b = sites.a, sites.b
    for end in (a, b):
        Server(end.net, end.net.host, 7000)
    stands(a, REQUIRED)
    assert refused(a, a.net.host, B.overlay, 7000)
    assert not reaches(b.net, b.net.host, A.overlay, 7000)
    a.inside(way_out.disarm)
    assert reaches(a.net, a.net.host, B.overlay, 7000)
    assert reaches(a.net, a.net.host, B.public, 7000)
    assert reaches(b.net, b.net.host, A.overlay, 7000)


def test_what_goes_on_in_the_clear(sites: TwoSites) -> None:
    """SSH both ways, ping, what is open to everybody, what is trusted, and whoever is no member; a
    server of the registry's, even if it is a member's address."""
    a, b = sites.a, sites.b
    a.configured(
        ssh_whitelist=(ip_network(f"{B.public}/32"), ip_network(f"{B.v6}/128")),
        open_ports=(OpenPort(80, 80, "tcp"), OpenPort(81, 81, "tcp", (ip_network(B.public),))),
    )
    a.goes_by(Road.TRYING)
    a.resync()
    for end in (a, b):
        for port in (22, 80, 81, 82):
            Server(end.net, end.net.host, port)
    Server(a.net, a.net.outside, 82)
    with connect(a.net, a.net.host, B.public, 22) as session:
        stands(a, REQUIRED)
        assert alive(session)
    for to in (A.public, A.v6):
        assert reaches(b.net, b.net.host, to, 22)
        assert reaches(b.net, b.net.host, to, 80)
        assert not reaches(b.net, b.net.host, to, 82)
    assert reaches(b.net, b.net.host, A.public, 81)
    assert reaches(a.net, a.net.host, B.public, 22)
    assert refused(a, a.net.host, B.public, 80)
    assert reaches(a.net, a.net.host, "192.0.2.66", 82)
    a.members.elements.spare(frozenset({B.public}))
    a.resync()
    assert reaches(a.net, a.net.host, B.public, 82)
    a.members.elements.spare(frozenset())
    a.resync()
    assert refused(a, a.net.host, B.public, 82)
    a.configured(trusted=(ip_network(f"{B.public}/32"),))
    stands(a, REQUIRED)
    assert reaches(a.net, a.net.host, B.public, 82)
    assert reaches(b.net, b.net.host, A.public, 82)


def neighbour_of(end: TunnelHost) -> None:
    """Its site's gateway, as a member: by NEAR inside, and by NEAR_OUTSIDE elsewhere."""
    near = Member(
        id="near",
        site=end.end.site,
        private=IPv4Address(NEAR),
        public=IPv4Address(NEAR_OUTSIDE),
        overlay=IPv4Address("192.168.0.50"),
    )
    end.members.fleet.appeared(entry.encode(near))
    end.members.fleet.lease_read(near.overlay, near.id)
    ip(end.net.outside, f"address add {NEAR_OUTSIDE}/32 dev s0")
    end.resync()


@pytest.mark.parametrize("enforcement", [ALONE, REQUIRED])
def test_another_sites_member_cuts_nobody_of_the_own_site_off(
    sites: TwoSites, enforcement: Enforcement
) -> None:
    """By claiming its address: whoever came first, and for as long as the member is there."""
    a = sites.a
    for name in (a.net.host, a.gateway):
        Server(a.net, name, 7000)
    a.members.elements.want("clear4", NEAR)  # what the claim comes to
    stands(a, enforcement)
    assert refused(a, a.net.host, NEAR, 7000)
    assert not reaches(a.net, a.gateway, PRIVATE, 7000)
    neighbour_of(a)
    assert reaches(a.net, a.net.host, NEAR, 7000)
    assert reaches(a.net, a.gateway, PRIVATE, 7000)


@pytest.mark.parametrize("enforcement", [BOTH, ALONE, REQUIRED])
def test_the_public_address_of_a_member_of_the_own_site_is_a_strangers(
    sites: TwoSites, enforcement: Enforcement
) -> None:
    """Members of one site reach each other by private address. What comes from a public one was
    outside, where anybody could have sent it. Connections go on, and what is asked is answered."""
    a = sites.a
    nft(a.net.host, DOCKER)
    a.configured(open_ports=(OpenPort(80, 80, "tcp"),))
    neighbour_of(a)
    stands(a, PERMANENT)
    for port in (80, 7000):
        Server(a.net, a.net.host, port)
    Server(a.net, a.net.container, 7000)
    Server(a.net, a.net.outside, 7000)
    before, after = (Echo(a.net, a.net.host, port) for port in (7001, 7002))
    send_forged(a.net, a.net.outside, datagram(NEAR_OUTSIDE, A.public, 7001, b"forged"))
    wait_until(lambda: len(before.callers) == 1)  # it does without this
    assert reaches(a.net, a.net.outside, A.public, 8080, NEAR_OUTSIDE)
    with connect(a.net, a.net.outside, A.public, 7000, NEAR_OUTSIDE) as older:
        assert alive(older)
        stands(a, enforcement)
        send_forged(a.net, a.net.outside, datagram(NEAR_OUTSIDE, A.public, 7002, b"forged"))
        for port in (7000, 8080):
            assert not reaches(a.net, a.net.outside, A.public, port, NEAR_OUTSIDE), port
        assert alive(older)
    assert reaches(a.net, a.net.outside, A.public, 80, NEAR_OUTSIDE)
    assert reaches(a.net, a.net.host, NEAR_OUTSIDE, 7000)
    assert reaches(a.net, a.gateway, PRIVATE, 80)
    assert after.callers == []


def test_what_is_refused_in_the_clear_is_not_missed_behind_other_tables(sites: TwoSites) -> None:
    """Otherwise it looks as if another program kept members out."""
    a, b = sites.a, sites.b
    neighbour_of(a)
    stands(a, ALONE)
    assert not reaches(b.net, b.net.host, A.public, 7000)
    assert not reaches(b.net, b.net.host, A.v6, 7000)
    assert not reaches(a.net, a.net.outside, A.public, 7000, NEAR_OUTSIDE)
    counters = a.inside(NftablesDataplane).counters()
    assert counters["asked"] == counters["arrived"] == 0
    assert counters["clear_came"] > 0


def test_roads_change_while_it_is_required(sites: TwoSites) -> None:
    """There is no moment in the clear between the confirmation and roads that are required."""
    a, b = sites.a, sites.b
    Server(b.net, b.net.host, 7000)
    sites.both(Road.PREFERRED)
    with connect(a.net, a.net.host, B.overlay, 7000) as one:
        stands(a, BOTH)
        assert alive(one)
        a.reconciler.confirm_trial(a.members.elements)
        a.members.elements.enforce(REQUIRED)
        assert alive(one)
        a.resync()
        a.goes_by(Road.REQUIRED)
        assert alive(one)
    assert reaches(a.net, a.net.host, B.overlay, 7000)
    assert refused(a, a.net.host, B.public, 7000)
    assert refused(a, a.net.host, B.v6, 7000)
    a.goes_by(Road.PREFERRED)
    stands(a, PERMANENT)
    assert reaches(a.net, a.net.host, B.public, 7000)


def test_the_kernels_connections_are_told_with_their_ends(sites: TwoSites) -> None:
    """Of both families and of containers, as long as they go on; what is translated by its real
    address."""
    a, b = sites.a, sites.b
    for end in (a, b):
        Server(end.net, end.net.host, 7000)
    ends = [ip_address(B.public).packed, ip_address(B.v6).packed]

    def found() -> set[tuple[str, str, str, int]]:
        listed = a.conntrack.ending_in(ends)
        return {(str(t.source), str(t.to), str(t.answers), t.port) for t in listed}

    with ExitStack() as stack:
        for end, name, to in (
            (a, a.net.host, B.overlay),
            (a, a.net.container, B.public),
            (a, a.net.host, B.v6),
            (b, b.net.host, A.public),
        ):
            stack.enter_context(connect(end.net, name, to, 7000))
        assert {one for one in found() if one[3] == 7000} == {
            ("10.0.0.11", B.overlay, B.public, 7000),
            ("172.17.0.2", B.public, B.public, 7000),
            (A.v6, B.v6, B.v6, 7000),
            (B.public, "10.0.0.11", "10.0.0.11", 7000),
        }
        sources = [ip_address(one).packed for one in (B.public, A.v6)]
        opened = {(str(t.source), t.port) for t in a.conntrack.opened_by(sources)}
        assert {(B.public, 7000), (A.v6, 7000)} == {one for one in opened if one[1] == 7000}
    wait_until(lambda: not any(one[3] == 7000 for one in found()))


def test_what_is_ended_is_refused_at_once(sites: TwoSites) -> None:
    """By a reset, of both families: the program need not wait until TCP gives up."""
    a, b = sites.a, sites.b
    Server(b.net, b.net.host, 7000)
    with ExitStack() as stack:
        older = [
            stack.enter_context(connect(a.net, name, to, 7000))
            for name, to in (
                (a.net.host, B.public),
                (a.net.host, B.v6),
                (a.net.container, B.public),
                (a.net.host, B.overlay),
            )
        ]
        stands(a, REQUIRED)
        assert a.conntrack.end_those(lambda one: one.port == 7000) >= len(older)
        for one in older:
            one.settimeout(netns.PATIENCE)
            one.sendall(b"ping")
            with pytest.raises(ConnectionError):
                one.recv(4)
