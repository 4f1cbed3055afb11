"""The road between sites: hosts whose own networks carry more than the internet, and no ICMP.

    host (10.0.0.5, MTU 9001) ── 9001 ── road ── 1500 ── 9001 ── far (203.0.113.9)

Nobody on the road says what was too large: small requests work then, and large ones hang.
"""

import itertools
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path
from threading import Thread

import pytest
from tests.support import netns
from tests.support.netns import Net

from neti.dataplane.conntrack import Conntrack
from neti.dataplane.nftables import NftablesDataplane
from neti.dataplane.reconciler import Reconciler
from neti.host.machine import RealMachine
from neti.model import Host, Member, Reach, Site, entry
from neti.model.settings import Settings
from neti.ruleset.desired import Membership
from neti.ruleset.enforce import PERMANENT
from neti.ruleset.policy import structure
from neti.ruleset.surroundings import Surroundings

pytestmark = pytest.mark.kernel

FAR, FAR6, FAR_OVERLAY = "203.0.113.9", "2001:db8:9::9", "192.168.0.9"
OWN, OWN6 = "10.0.0.5", "2001:db8:5::5"
CONTAINER, CONTAINER6 = "172.31.0.2", "2001:db8:31::2"
MUCH = 2_000_000
_numbers = itertools.count(1)

HOST = Host(id="me", site="here", private=IPv4Address(OWN), public=None)
MEMBER = Member(
    id="far",
    site="far",
    private=IPv4Address("10.0.0.9"),
    public=IPv4Address(FAR),
    overlay=IPv4Address(FAR_OVERLAY),
    extended=True,
    more=(ip_address(FAR6),),
)
RANGES = (IPv4Network("203.0.113.0/24"),)


def ip(namespace: str, *commands: str) -> None:
    subprocess.run(
        ["ip", "-n", namespace, "-batch", "-"], input="\n".join(commands), text=True, check=True
    )


def nft(namespace: str, text: str) -> None:
    subprocess.run(["ip", "netns", "exec", namespace, "nft", text], check=True)


@contextmanager
def road() -> Iterator[tuple[Net, str]]:
    tag = f"netitest-road-{os.getpid()}-{next(_numbers)}"
    names = [f"{tag}-{part}" for part in ("host", "road", "far", "con")]
    host, between, far, container = names
    try:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
            ip(name, "link set lo up")
        ip(
            between,
            f"link add near type veth peer name eth0 netns {host}",
            f"link add away type veth peer name eth0 netns {far}",
            "link set near mtu 9001 up",
            "link set away up",
            "address add 10.0.0.1/24 dev near",
            "address add 203.0.113.1/24 dev away",
            "address add 2001:db8:5::1/64 dev near nodad",
            "address add 2001:db8:9::1/64 dev away nodad",
            "route add 172.31.0.0/24 via 10.0.0.5",
            "route add 2001:db8:31::/64 via 2001:db8:5::5",
        )
        ip(
            host,
            f"link add c0 type veth peer name eth0 netns {container}",
            "link set eth0 mtu 9001 up",
            "link set c0 mtu 9001 up",
            f"address add {OWN}/24 dev eth0",
            f"address add {OWN6}/64 dev eth0 nodad",
            "address add 172.31.0.1/24 dev c0",
            "address add 2001:db8:31::1/64 dev c0 nodad",
            "route add default via 10.0.0.1",
            "route add default via 2001:db8:5::1",
        )
        for name, v4, v6, gateway, gateway6 in (
            (far, f"{FAR}/24", f"{FAR6}/64", "203.0.113.1", "2001:db8:9::1"),
            (container, f"{CONTAINER}/24", f"{CONTAINER6}/64", "172.31.0.1", "2001:db8:31::1"),
        ):
            ip(
                name,
                "link set eth0 mtu 9001 up",
                f"address add {v4} dev eth0",
                f"address add {v6} dev eth0 nodad",
                f"route add default via {gateway}",
                f"route add default via {gateway6}",
            )
        for name in (host, between):
            for key in ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"):
                words = ["ip", "netns", "exec", name, "sysctl", "-q", "-w", key]
                subprocess.run(words, check=True)
        nft(
            between,
            "table inet silence { chain out { type filter hook output priority 0; "
            "icmp type destination-unreachable drop; icmpv6 type packet-too-big drop; }; }",
        )
        yield Net(host, far, container), between
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@dataclass
class Served:
    """Sends as much as is asked for, and takes as much as it gets, on each connection."""

    net: Net
    namespace: str
    port: int

    def __post_init__(self) -> None:
        def listen() -> socket.socket:
            sock = socket.socket(socket.AF_INET6)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(("::", self.port))
            sock.listen()
            return sock

        self.socket: socket.socket = self.net.inside(self.namespace, listen)
        Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            Thread(target=self._serve, args=(connection,), daemon=True).start()

    @staticmethod
    def _serve(connection: socket.socket) -> None:
        with connection:
            try:
                left = MUCH
                while left > 0 and (part := connection.recv(65536)):
                    left -= len(part)
                connection.sendall(b"x" * MUCH)
            except OSError:
                return


def passes(net: Net, namespace: str, to: str, port: int, seconds: float) -> bool:
    """2 MB there and 2 MB back."""

    def dial() -> socket.socket:
        return socket.create_connection((to, port), seconds)

    try:
        with net.inside(namespace, dial) as connection:
            connection.settimeout(seconds)
            connection.sendall(b"x" * MUCH)
            left = MUCH
            while left > 0 and (part := connection.recv(65536)):
                left -= len(part)
            return left == 0
    except TimeoutError:
        return False


def begin(
    net: Net, sites: dict[str, Site], *, clamped: bool = True, member: Member = MEMBER
) -> None:
    """The policy in the host's kernel, enforced, with one member across."""
    settings = Settings(path=Path("neti.yml"), sites=sites, sites_configured=True)
    members = Membership.empty(settings, HOST, frozenset())

    def inside() -> None:
        reconciler = Reconciler(NftablesDataplane(), Conntrack(), None)
        RealMachine().set_overlay_route(settings.overlay_subnet, HOST.private, 9001, anew=True)
        name = entry.encode(member)
        members.fleet.appeared(name)
        members.fleet.lease_read(member.overlay, member.id)
        members.fleet.data_read(name, entry.encode_data(member.more))
        members.take_changes()
        members.elements.enforce(PERMANENT)
        around = Surroundings(
            uplinks=("eth0",), ssh_untracked=True, site="here" if clamped else "far"
        )
        text = structure(settings, around)
        if not clamped:
            text = replace(
                text,
                chains=tuple(
                    replace(chain, rules=tuple(r for r in chain.rules if "maxseg" not in r))
                    for chain in text.chains
                ),
            )
        reconciler.resync(text, members.elements)

    net.inside(net.host, inside)


SITES = {"here": Site(name="here"), "far": Site(name="far", public=RANGES)}


def test_without_a_clamp_large_transfers_hang() -> None:
    """What this is about: the connection is made, and 2 MB never arrive."""
    with road() as (net, _):
        Served(net, net.outside, 7000)
        begin(net, SITES, clamped=False)
        assert not passes(net, net.host, FAR, 7000, 1.0)


@pytest.mark.parametrize("ranges", [RANGES, ()], ids=["by range", "by member"])
def test_two_megabytes_pass_both_ways(ranges: tuple[IPv4Network, ...]) -> None:
    """From the host and from a container, by overlay and real address, both families, whoever
    begins; only this end has a rule."""
    with road() as (net, _):
        for namespace, port in ((net.outside, 7000), (net.host, 7000), (net.container, 7000)):
            Served(net, namespace, port)
        begin(net, {"here": Site(name="here"), "far": Site(name="far", public=ranges)})
        for namespace in (net.host, net.container):
            for to in (FAR_OVERLAY, FAR, FAR6):
                assert passes(net, namespace, to, 7000, netns.PATIENCE), (namespace, to)
        for to in (OWN, OWN6, CONTAINER, CONTAINER6):
            assert passes(net, net.outside, to, 7000, netns.PATIENCE), to


def test_a_narrower_road_is_said_by_the_sites_mtu() -> None:
    """The road carries 1400, and sites.far.mtu says so."""
    with road() as (net, between):
        ip(between, "link set away mtu 1400")
        Served(net, net.outside, 7000)
        narrow = Site(name="far", public=RANGES, mtu=1400)
        begin(net, {"here": Site(name="here"), "far": narrow})
        assert passes(net, net.host, FAR_OVERLAY, 7000, netns.PATIENCE)
        assert passes(net, net.host, FAR6, 7000, netns.PATIENCE)


LINKED = replace(MEMBER, private=IPv4Address(FAR), public=None)
LINK = Site(name="far", private=RANGES, reached_by=Reach.PRIVATE, mtu=1400)


@pytest.mark.parametrize("mtu", [None, 1400])
def test_a_private_link_is_clamped_where_its_mtu_is_written(mtu: int | None) -> None:
    """By this end alone: both ways, whoever begins, containers too, both families."""
    with road() as (net, between):
        ip(between, "link set away mtu 1400")
        for namespace in (net.outside, net.host, net.container):
            Served(net, namespace, 7000)
        sites = {"here": Site(name="here"), "far": replace(LINK, mtu=mtu)}
        begin(net, sites, member=LINKED)
        if mtu is None:
            assert not passes(net, net.host, FAR_OVERLAY, 7000, 1.0)
            return
        for namespace in (net.host, net.container):
            for to in (FAR_OVERLAY, FAR, FAR6):
                assert passes(net, namespace, to, 7000, netns.PATIENCE), (namespace, to)
        for to in (OWN, OWN6, CONTAINER, CONTAINER6):
            assert passes(net, net.outside, to, 7000, netns.PATIENCE), to
