"""What packets do under the policy: real ones, in a real kernel, both families."""

import dataclasses
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from tests.support import netns
from tests.support.netns import Net, Server, alive, connect, reaches

from neti.dataplane.conntrack import Conntrack
from neti.dataplane.nftables import NftablesDataplane
from neti.dataplane.reconciler import Reconciler
from neti.host.machine import RealMachine
from neti.model import Host, Member, Site, entry
from neti.model.settings import OpenPort, Settings
from neti.ruleset.desired import Membership
from neti.ruleset.enforce import OFF, PERMANENT
from neti.ruleset.policy import structure
from neti.ruleset.surroundings import Surroundings

pytestmark = pytest.mark.kernel

SETTINGS = Settings(
    path=Path("neti.yml"),
    sites={"ec2": Site(name="ec2"), "vpc": Site(name="vpc")},
    ssh_whitelist=(ip_network("10.0.0.77/32"), ip_network("fd00:5::77/128")),
    open_ports=(OpenPort(80, 80, "tcp"),),
)
HOST = Host(id="me", site="ec2", private=IPv4Address(netns.PRIVATE), public=None)
PEER = Member(
    id="peer",
    site="ec2",
    private=IPv4Address(netns.PEER),
    public=None,
    overlay=IPv4Address(netns.OVERLAY),
    extended=True,
    more=(ip_address(netns.PEER6),),
)


@dataclass
class UnderTest:
    """The host's kernel with the policy in it, driven as the agent's loop drives it."""

    net: Net
    settings: Settings = SETTINGS
    untracked: bool = True
    members: Membership = field(init=False)

    def __post_init__(self) -> None:
        self.members = Membership.empty(self.settings, HOST, frozenset())
        self.members.hold_lease(IPv4Address(netns.OWN_OVERLAY))
        self.reconciler = self._inside(lambda: Reconciler(NftablesDataplane(), Conntrack(), None))
        subnet = self.settings.overlay_subnet
        self._inside(lambda: RealMachine().set_overlay_route(subnet, HOST.private, 1400, anew=True))
        self.resync()

    def _inside(self, function: Callable[[], object]) -> Any:
        return self.net.inside(self.net.host, function)

    def resync(self) -> None:
        surroundings = Surroundings(uplinks=("eth0",), ssh_untracked=self.untracked)
        self.members.take_changes()
        self.reconciler.resync(structure(self.settings, surroundings), self.members.elements)

    def commit(self) -> None:
        self.members.take_changes()
        self.reconciler.commit(self.members.elements)

    def joins(self, member: Member) -> None:
        name = entry.encode(member)
        self.members.fleet.appeared(name)
        self.members.fleet.lease_read(member.overlay, member.id)
        if member.extended:
            self.members.fleet.data_read(name, entry.encode_data(member.more))
        self.commit()

    def leaves(self, member: Member) -> None:
        self.members.fleet.appeared(entry.encode_departure(member))
        self.members.fleet.vanished(entry.encode(member), now=0.0)
        self.commit()

    def enforce(self, on: bool = True) -> None:
        self.members.elements.enforce(PERMANENT if on else OFF)
        self.resync()


@pytest.fixture
def host(net: Net) -> UnderTest:
    return UnderTest(net)


def test_overlay_address_leads_to_the_peer(net: Net, host: UnderTest) -> None:
    """A peer is reached by its overlay address, from this host's private address."""
    server = Server(net, net.outside, 7000)
    host.joins(PEER)
    assert reaches(net, net.host, netns.OVERLAY, 7000)
    assert server.callers == [netns.PRIVATE]


def test_host_reaches_itself_by_overlay(net: Net, host: UnderTest) -> None:
    """A host reaches itself by its own overlay address, enforced too."""
    Server(net, net.host, 7000)
    host.enforce()
    assert reaches(net, net.host, netns.OWN_OVERLAY, 7000)


def test_unknown_overlay_address_is_refused_at_once(net: Net, host: UnderTest) -> None:
    """An overlay address that nobody holds: TCP by reset, UDP by an error, and nothing leaves."""
    with pytest.raises(ConnectionRefusedError):
        connect(net, net.host, netns.NOBODY, 7000)

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", (netns.NOBODY, 7000))

    with pytest.raises(PermissionError):
        net.inside(net.host, send)


@pytest.mark.parametrize("where", ["container", "outside"])
def test_unknown_overlay_address_is_refused_when_forwarded(
    net: Net, host: UnderTest, where: str
) -> None:
    """The same for what others send through this host, whichever interface it came from."""
    with pytest.raises(ConnectionRefusedError):
        connect(net, getattr(net, where), netns.NOBODY, 7000)


def test_containers_use_overlay_addresses(net: Net, host: UnderTest) -> None:
    """Traffic of this machine's containers is translated as its own is."""
    server = Server(net, net.outside, 7000)
    host.joins(PEER)
    assert reaches(net, net.container, netns.OVERLAY, 7000)
    assert server.callers == [netns.CONTAINER]


def test_uplink_is_never_relayed(net: Net, host: UnderTest) -> None:
    """What comes from an uplink is not translated: the host is no relay for strangers."""
    Server(net, net.outside, 7000)
    host.joins(PEER)
    with pytest.raises(ConnectionRefusedError):
        connect(net, net.outside, netns.OVERLAY, 7000, source=netns.STRANGER)


def test_overrides_win_over_members(net: Net) -> None:
    """nat_overrides come before members, and for any address."""
    override = {IPv4Address(netns.OVERLAY): IPv4Address(netns.PEER_MOVED)}
    override[IPv4Address("1.2.3.4")] = IPv4Address(netns.PEER)
    host = UnderTest(net, dataclasses.replace(SETTINGS, nat_overrides=override))
    moved = Server(net, net.outside, 7000, netns.PEER_MOVED)
    host.joins(PEER)
    assert reaches(net, net.host, netns.OVERLAY, 7000)
    assert moved.callers == [netns.PRIVATE]
    Server(net, net.outside, 7001, netns.PEER)
    assert reaches(net, net.host, "1.2.3.4", 7001)


@pytest.mark.parametrize(
    ("source", "to"), [(netns.STRANGER, netns.PRIVATE), (netns.STRANGER6, netns.PRIVATE6)]
)
def test_stranger(net: Net, host: UnderTest, source: str, to: str) -> None:
    """Shadow drops nothing; enforced keeps a stranger out, but for open ports; IPv6 alike."""
    Server(net, net.host, 7000)
    Server(net, net.host, 80)
    assert reaches(net, net.outside, to, 7000, source)
    host.enforce()
    assert not reaches(net, net.outside, to, 7000, source)
    assert reaches(net, net.outside, to, 80, source)
    host.enforce(False)
    assert reaches(net, net.outside, to, 7000, source)


@pytest.mark.parametrize(
    ("source", "to"), [(netns.PEER, netns.PRIVATE), (netns.PEER6, netns.PRIVATE6)]
)
def test_peer_is_let_in(net: Net, host: UnderTest, source: str, to: str) -> None:
    """An enforced host lets its peers in, by both families."""
    Server(net, net.host, 7000)
    host.joins(PEER)
    host.enforce()
    assert reaches(net, net.outside, to, 7000, source)


@pytest.mark.parametrize("untracked", [True, False])
@pytest.mark.parametrize(
    ("source", "to"), [(netns.ADMIN, netns.PRIVATE), (netns.ADMIN6, netns.PRIVATE6)]
)
def test_ssh_from_the_whitelist(net: Net, untracked: bool, source: str, to: str) -> None:
    """SSH from ssh_whitelist works enforced, tracked or not, and a session outlives every step."""
    host = UnderTest(net, untracked=untracked)
    Server(net, net.host, 22)
    with connect(net, net.outside, to, 22, source) as session:
        host.enforce()
        assert alive(session)
        host.untracked = not untracked
        host.resync()
        assert alive(session)
    assert reaches(net, net.outside, to, 22, source)
    assert not reaches(net, net.outside, netns.PRIVATE, 22, netns.STRANGER)


def test_removed_peer_loses_open_connections(net: Net, host: UnderTest) -> None:
    """A peer that leaves an enforced host is out at once, its open connections included."""
    Server(net, net.host, 7000)
    host.joins(PEER)
    host.enforce()
    with connect(net, net.outside, netns.PRIVATE, 7000, netns.PEER) as connection:
        assert alive(connection)
        host.leaves(PEER)
        assert not alive(connection, netns.WAIT)
    assert not reaches(net, net.outside, netns.PRIVATE, 7000, netns.PEER)
    host.joins(PEER)
    assert reaches(net, net.outside, netns.PRIVATE, 7000, netns.PEER)


def test_removed_peer_in_shadow_loses_nothing(net: Net, host: UnderTest) -> None:
    """In shadow nothing is dropped, a removed peer's connections included."""
    Server(net, net.host, 7000)
    host.joins(PEER)
    with connect(net, net.outside, netns.PRIVATE, 7000, netns.PEER) as connection:
        host.leaves(PEER)
        assert alive(connection)


def test_moved_peer_is_reached_by_an_old_udp_socket(net: Net, host: UnderTest) -> None:
    """After an address change an old UDP socket reaches the new address."""

    def listener(address: str) -> socket.socket:
        def make() -> socket.socket:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((address, 7000))
            sock.settimeout(netns.WAIT)
            return sock

        return net.inside(net.outside, make)

    old, new = listener(netns.PEER), listener(netns.PEER_MOVED)
    sender = net.inside(net.host, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    host.joins(PEER)
    sender.sendto(b"one", (netns.OVERLAY, 7000))
    assert old.recv(10) == b"one"
    moved = dataclasses.replace(PEER, private=IPv4Address(netns.PEER_MOVED), generation=1)
    host.members.fleet.appeared(entry.encode(moved))
    host.members.fleet.vanished(entry.encode(PEER), now=0.0)
    host.commit()
    sender.sendto(b"two", (netns.OVERLAY, 7000))
    assert new.recv(10) == b"two"
    for sock in (old, new, sender):
        sock.close()


def test_connections_survive_replacement(net: Net, host: UnderTest) -> None:
    """Established connections outlive a reload of the chains and a full replacement."""
    Server(net, net.host, 7000)
    Server(net, net.outside, 7000)
    host.joins(PEER)
    host.enforce()
    with (
        connect(net, net.outside, netns.PRIVATE, 7000, netns.PEER) as inward,
        connect(net, net.host, netns.OVERLAY, 7000) as outward,
    ):
        for _ in range(10):
            host.reconciler.seen = None  # nobody knows who wrote the table: all of it anew
            host.resync()
            assert alive(inward)
            assert alive(outward)


def test_published_port_is_judged(net: Net, host: UnderTest) -> None:
    """A container's published port is a port: judged by the number that was asked for."""
    publish = (
        "table ip docker { chain pre { type nat hook prerouting priority dstnat; "
        f"tcp dport {{ 80, 8080 }} ip daddr {netns.PRIVATE} dnat to {netns.CONTAINER}:9000; }}; }}"
    )
    subprocess.run(["ip", "netns", "exec", net.host, "nft", publish], check=True)
    Server(net, net.container, 9000)
    host.joins(PEER)
    assert reaches(net, net.outside, netns.PRIVATE, 8080, netns.STRANGER)
    host.enforce()
    assert not reaches(net, net.outside, netns.PRIVATE, 8080, netns.STRANGER)
    assert reaches(net, net.outside, netns.PRIVATE, 80, netns.STRANGER)
    assert reaches(net, net.outside, netns.PRIVATE, 8080, netns.PEER)


def test_container_reaches_its_own_host_and_the_world(net: Net, host: UnderTest) -> None:
    """An enforced host still serves its own containers, and forwards what they begin."""
    Server(net, net.host, 7000)
    Server(net, net.outside, 7000)
    host.enforce()
    assert reaches(net, net.container, "172.31.0.1", 7000)
    assert reaches(net, net.container, netns.PRIVATE, 7000)
    assert reaches(net, net.container, netns.STRANGER, 7000)


def test_neighbours_and_pings_work_enforced(net: Net, host: UnderTest) -> None:
    """An enforced host is found by neighbour discovery and answers pings, both families."""
    host.enforce()
    for address in (netns.PRIVATE, netns.PRIVATE6):
        ping = ["ip", "netns", "exec", net.outside, "ping", "-q", "-c", "1", "-W", "1", address]
        assert subprocess.run(ping, check=False, capture_output=True).returncode == 0


def test_nothing_else_is_touched(net: Net) -> None:
    """Another program's table is the same after all we do, and nothing of ours stays."""
    other = "table inet mine { set s { type ipv4_addr; elements = { 1.2.3.4 }; }; }"
    nft = ["ip", "netns", "exec", net.host, "nft"]
    subprocess.run([*nft, other], check=True)
    before = subprocess.run([*nft, "list", "ruleset"], capture_output=True, check=True).stdout
    host = UnderTest(net)
    host.joins(PEER)
    host.enforce()
    net.inside(net.host, host.reconciler.remove)  # by a socket of its own
    subnet = SETTINGS.overlay_subnet
    net.inside(net.host, lambda: RealMachine().remove_overlay_route(subnet))
    after = subprocess.run([*nft, "list", "ruleset"], capture_output=True, check=True).stdout
    assert after == before
    assert net.inside(net.host, lambda: RealMachine().network(subnet)).own_route() is None
