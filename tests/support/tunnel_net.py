"""Two sites that know nothing of each other, for packet tests of the encrypted road.

    box ── a (10.0.0.11) ── gateway ── 198.51.100.0/24 ── road ── 203.0.113.0/24 ── gateway ── b

Both hosts are 10.0.0.11, at 198.51.100.11 and 203.0.113.11 from outside; the gateways translate one
to one, as a cloud's do. Each has a container 172.17.0.2 behind a bridge docker0. ``road`` is the
internet, and holds a stranger, 192.0.2.66. wireguard-go runs on both hosts.
"""

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Final, TypeVar

from tests.support.netns import Net
from tests.support.tunnel_device import TunnelDevice, require_wireguard

from neti.dataplane.conntrack import Conntrack
from neti.dataplane.nftables import NftablesDataplane
from neti.dataplane.reconciler import Reconciler
from neti.host.machine import RealMachine
from neti.model import Encrypt, Host, Member, Road, Site, entry
from neti.model.groups import MemberPorts
from neti.model.settings import Settings
from neti.ruleset.desired import Membership
from neti.ruleset.enforce import OFF, PERMANENT
from neti.ruleset.policy import structure
from neti.ruleset.surroundings import Surroundings, Tunnel

T = TypeVar("T")

PRIVATE: Final = "10.0.0.11"
CONTAINER: Final = "172.17.0.2"
STRANGER: Final = "192.0.2.66"
PORT: Final = 51820
_numbers = itertools.count(1)


@dataclass(frozen=True)
class End:
    """What one of the two hosts is called."""

    site: str
    public: str
    overlay: str
    v6: str
    gateway: str  # of its site, on the road


A: Final = End("ec2", "198.51.100.11", "192.168.0.1", "2001:db8:1::11", "198.51.100.2")
B: Final = End("vpc", "203.0.113.11", "192.168.0.2", "2001:db8:2::11", "203.0.113.2")
RANGES: Final = {
    A.site: (IPv4Network("198.51.100.0/24"),),
    B.site: (IPv4Network("203.0.113.0/24"),),
}


def _run(*words: str, text: str | None = None) -> None:
    subprocess.run(words, input=text, text=True, check=True)


def ip(namespace: str, *commands: str) -> None:
    _run("ip", "-n", namespace, "-batch", "-", text="\n".join(commands))


def nft(namespace: str, text: str) -> None:
    _run("ip", "netns", "exec", namespace, "nft", "-f", "-", text=text)


def sysctl(namespace: str, **values: int) -> None:
    words = [f"{key.replace('__', '.')}={value}" for key, value in values.items()]
    _run("ip", "netns", "exec", namespace, "sysctl", "-q", "-w", *words)


@dataclass
class TunnelHost:
    """One of the two, with the policy in its kernel, driven as the agent's loop will drive it."""

    net: Net  # of this host: its namespace, the road, its container
    end: End
    other: End
    encrypt: Encrypt = Encrypt.PREFER
    uplink_mtu: int = 1500
    gateway: str = ""  # the namespace of its site's
    settings: Settings = field(init=False)
    members: Membership = field(init=False)
    untracked: bool = True
    ports_in_force: MemberPorts = None

    def __post_init__(self) -> None:
        self.mtu = min(self.uplink_mtu, 1500) - 80
        self.wireguard = TunnelDevice(self.net.host, PORT, self.mtu)
        self.host = Host(
            id=self.end.site,
            site=self.end.site,
            private=IPv4Address(PRIVATE),
            public=IPv4Address(self.end.public),
        )
        self.reconciler = self.inside(lambda: Reconciler(NftablesDataplane(), Conntrack(), None))
        self.conntrack = self.inside(Conntrack)
        self.configured()
        subnet, mtu = self.settings.overlay_subnet, self.uplink_mtu
        self.inside(
            lambda: RealMachine().set_overlay_route(subnet, self.host.private, mtu, anew=True)
        )
        self.joins()

    def configured(self, encrypt: Encrypt | None = None, **values: Any) -> None:
        """Settings, and what is known of the fleet by now."""
        self.encrypt = self.encrypt if encrypt is None else encrypt
        sites = {
            A.site: Site(name=A.site, public=RANGES[A.site]),
            B.site: Site(name=B.site, public=RANGES[B.site], encrypt=self.encrypt),
        }
        self.settings = Settings(
            path=Path("neti.yml"), sites=sites, sites_configured=True, **values
        )
        before = getattr(self, "members", None)
        self.members = Membership.empty(self.settings, self.host, frozenset())
        if before is not None:
            self.members.succeed(before, now=0.0, remember=True)
            if self.encrypt is not Encrypt.OFF:
                self.members.roads.update(before.roads)
            self.members.elements.enforce(before.elements.enforcement)
        self.members.hold_lease(IPv4Address(self.end.overlay))

    def inside(self, function: Callable[[], T]) -> T:
        return self.net.inside(self.net.host, function)

    @property
    def member(self) -> Member:
        """The other host, as this one knows it."""
        return Member(
            id=self.other.site,
            site=self.other.site,
            private=IPv4Address(PRIVATE),
            public=IPv4Address(self.other.public),
            overlay=IPv4Address(self.other.overlay),
        )

    def surroundings(self) -> Surroundings:
        return Surroundings(
            uplinks=("eth0",),
            ssh_untracked=self.untracked,
            site=self.end.site,
            member_ports=self.ports_in_force,
            tunnel=Tunnel(
                own=IPv4Address(self.end.overlay), private=self.host.private, mtu=self.mtu
            ),
        )

    def resync(self) -> None:
        self.members.take_changes()
        self.members.admit_by(self.ports_in_force)
        self.reconciler.resync(structure(self.settings, self.surroundings()), self.members.elements)

    def joins(self) -> None:
        self.members.fleet.appeared(entry.encode(self.member))
        self.members.fleet.lease_read(self.member.overlay, self.member.id)
        self.resync()

    def leaves(self) -> None:
        self.members.fleet.appeared(entry.encode_departure(self.member))
        self.members.fleet.vanished(entry.encode(self.member), now=0.0)
        self.members.take_changes()
        self.reconciler.commit(self.members.elements)
        self.reconciler.end_connections(self.members.elements)

    def goes_by(self, road: Road) -> None:
        self.members.goes_by(self.other.site, road)
        self.reconciler.commit(self.members.elements)
        self.reconciler.end_connections(self.members.elements)

    def end_stale(self) -> None:
        """As the agent does after it has written a new table."""
        elements = self.members.elements
        self.conntrack.end_stale(self.settings.overlay_subnet, elements.leads, elements.goes_on)

    def enforce(self, on: bool = True) -> None:
        self.members.elements.enforce(PERMANENT if on else OFF)
        self.resync()


@dataclass
class TwoSites:
    a: TunnelHost
    b: TunnelHost
    road: str

    def both(self, road: Road) -> None:
        for end in (self.a, self.b):
            end.goes_by(road)

    def know_each_other(self) -> None:
        self.a.wireguard.peer(self.b.wireguard, B.public, B.overlay)
        self.b.wireguard.peer(self.a.wireguard, A.public, A.overlay)


@contextmanager
def two_sites(mtus: tuple[int, int] = (1500, 1500)) -> Iterator[TwoSites]:
    """``mtus``: of the hosts' own networks; the road between carries 1500."""
    made: list[TunnelHost] = []
    with namespaces(mtus) as (road, names):
        try:
            for end, other, mtu in ((A, B, mtus[0]), (B, A, mtus[1])):
                host, gateway, container = names[end.site]
                made.append(
                    TunnelHost(Net(host, road, container), end, other, Encrypt.PREFER, mtu, gateway)
                )
            sites = TwoSites(made[0], made[1], road)
            sites.know_each_other()
            yield sites
        finally:
            for one in made:
                one.wireguard.stop()


@contextmanager
def namespaces(
    mtus: tuple[int, int] = (1500, 1500),
) -> Iterator[tuple[str, dict[str, tuple[str, str, str]]]]:
    """The networks alone: the road's name, and by site those of host, gateway and container."""
    require_wireguard()
    tag = f"netitest-wg-{os.getpid()}-{next(_numbers)}"
    road = f"{tag}-road"
    names = {
        end.site: (f"{tag}-{end.site}-host", f"{tag}-{end.site}-gw", f"{tag}-{end.site}-con")
        for end in (A, B)
    }
    every = [road, *itertools.chain.from_iterable(names.values())]
    try:
        for name in every:
            _run("ip", "netns", "add", name)
            sysctl(name, net__ipv6__conf__default__accept_dad=0)  # routers wait for it otherwise
            ip(name, "link set lo up")
        ip(road, "link add s0 type veth peer name s1", "link set s0 up", "link set s1 up")
        ip(road, f"address add {STRANGER}/32 dev s0")
        for end, mtu in zip((A, B), mtus, strict=True):
            _site(end, names[end.site], road, mtu)
        sysctl(road, net__ipv4__ip_forward=1, net__ipv6__conf__all__forwarding=1)
        yield road, names
    finally:
        for name in every:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def _site(end: End, names: tuple[str, ...], road: str, mtu: int) -> None:
    host, gateway, container = names
    network, on_road = end.public.rpartition(".")[0], f"{end.public.rpartition('.')[0]}.1"
    v6 = end.v6.rpartition("::")[0]
    ip(
        gateway,
        f"link add out type veth peer name {end.site} netns {road}",
        f"link add in type veth peer name eth0 netns {host}",
        "link set out up",
        f"link set in mtu {mtu} up",
        f"address add {end.gateway}/24 dev out",
        "address add 10.0.0.1/24 dev in",
        f"address add {v6}::1/64 dev in nodad",
        f"address add {v6}:1::2/64 dev out nodad",
        f"route add default via {on_road}",
        f"route add default via {v6}:1::1",
    )
    ip(
        road,
        f"link set {end.site} up",
        f"address add {on_road}/24 dev {end.site}",
        f"route add {end.public}/32 via {network}.2",
        f"address add {v6}:1::1/64 dev {end.site} nodad",
        f"route add {v6}::/64 via {v6}:1::2",
    )
    ip(
        host,
        f"link set eth0 mtu {mtu} up",
        f"address add {PRIVATE}/24 dev eth0",
        f"address add {end.v6}/64 dev eth0 nodad",
        "route add default via 10.0.0.1",
        f"route add default via {v6}::1",
        f"link add docker0 mtu {mtu} type bridge",
        f"link add c0 type veth peer name eth0 netns {container}",
        f"link set c0 mtu {mtu} master docker0 up",
        "link set docker0 up",
        "address add 172.17.0.1/16 dev docker0",
    )
    ip(
        container,
        f"link set eth0 mtu {mtu} up",
        f"address add {CONTAINER}/16 dev eth0",
        "route add default via 172.17.0.1",
    )
    for name in (gateway, host):
        sysctl(name, net__ipv4__ip_forward=1, net__ipv6__conf__all__forwarding=1)
    nft(
        gateway,
        "table ip nat { "
        f"chain pre {{ type nat hook prerouting priority dstnat; ip daddr {end.public} dnat to "
        f"{PRIVATE}; }}; chain post {{ type nat hook postrouting priority srcnat; oifname out "
        f"snat to {end.public}; }}; }}",
    )
