"""Sites whose hosts are behind gateways, for packet tests: three sites of one private range.

    hosts ── switch ── router ── road ── router ── switch ── hosts

Each site is 10.0.0.0/24. Its router turns a host's public address into its private one and back,
without tracking, as a cloud's does; what has no public address does not get out. ``road`` is the
internet. Each host runs WireGuard and has the whole policy in its table, with the gateways' chains
and what ``neti.ruleset.gateways`` says of the fleet.
"""

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Final, TypeVar

from tests.support.netns import Net, reaches
from tests.support.tunnel_device import TunnelDevice, require_wireguard
from tests.support.tunnel_net import ip, nft, sysctl

from neti.host.machine import RealMachine
from neti.model import Encrypt, Host, Member, Road, Site
from neti.model.gateways import GatewayPorts
from neti.model.groups import MemberPorts
from neti.model.settings import Settings
from neti.ruleset import policy_gateway
from neti.ruleset.gateways import GatewayMaps, HostMaps, Passage, chosen
from neti.ruleset.objects import SPARED, Structure
from neti.ruleset.peers import Peer
from neti.ruleset.policy import structure
from neti.ruleset.reach import elements_of, own_elements
from neti.ruleset.set_names import group_sets
from neti.ruleset.surroundings import GatewayEnd, Surroundings, Tunnel

T = TypeVar("T")

SITES: Final = {"ec2": "198.51.100", "vpc": "203.0.113", "lab": "192.0.2"}
SUBNET: Final = IPv4Network("192.168.0.0/18")
PORTS: Final = GatewayPorts(SUBNET, 51820)
STRANGER: Final = "100.64.0.66"
_numbers = itertools.count(1)


def member(id: str, site: str, last: int, overlay: int, public: bool = False) -> Member:
    """``last``: the last number of its private address, and of its public one if it has any."""
    return Member(
        id=id,
        site=site,
        private=IPv4Address(f"10.0.0.{last}"),
        public=IPv4Address(f"{SITES[site]}.{last}") if public else None,
        overlay=SUBNET[overlay],
    )


# Both gateways of a site have the same addresses as those of the other, and so has the host behind.
EC2_1, EC2_2 = member("ec2-1", "ec2", 2, 1, True), member("ec2-2", "ec2", 3, 2, True)
VPC_1, VPC_2 = member("vpc-1", "vpc", 2, 3, True), member("vpc-2", "vpc", 3, 4, True)
LAB_1 = member("lab-1", "lab", 2, 5, True)
A, B, C = member("a", "ec2", 11, 11), member("b", "vpc", 11, 12), member("c", "lab", 11, 13)
OPEN = member("open", "vpc", 21, 14, True)  # no gateway, and a public address of its own
# The last address of the overlay: its port is the last one.
LAST = member("last", "ec2", 12, 2**14 - 2)
EVERY: Final = (EC2_1, EC2_2, VPC_1, VPC_2)
NAMED: Final = {"ec2": ("ec2-1", "ec2-2"), "vpc": ("vpc-1", "vpc-2"), "lab": ("lab-1",)}
GATEWAYS: Final = frozenset(itertools.chain.from_iterable(NAMED.values()))


def _elements(where: str, held: Mapping[Any, Any] | frozenset[IPv4Address]) -> list[str]:
    """One map or set, made to hold exactly this."""
    kind = "map" if isinstance(held, Mapping) else "set"
    lines = [f"flush {kind} inet neti {where}"]
    if held:
        listed = (
            [f"{key} : {value}" for key, value in held.items()]
            if isinstance(held, Mapping)
            else map(str, held)
        )
        lines.append(f"add element inet neti {where} {{ {', '.join(listed)} }}")
    return lines


@dataclass
class GatewayHost:
    """One host. ``live``: the gateways that it believes to be; ``ports``: the ``member_ports`` that
    are in force here, and who is in which group."""

    net: Net
    me: Member
    fleet: "Fleet"
    live: frozenset[str] = GATEWAYS
    mtu: int = 1420
    untracked: bool = True
    ports: MemberPorts = None
    groups: dict[str, tuple[Member, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.wireguard = TunnelDevice(self.name, PORTS.tunnel, self.mtu)
        private = self.me.private
        self.inside(lambda: RealMachine().set_overlay_route(SUBNET, private, 1500, anew=True))

    @property
    def name(self) -> str:
        """Of its namespace."""
        return self.net.host

    @property
    def host(self) -> Host:
        return Host(
            id=self.me.id, site=self.me.site, private=self.me.private, public=self.me.public
        )

    @property
    def overlay(self) -> str:
        return str(self.me.overlay)

    def inside(self, function: Callable[[], T]) -> T:
        return self.net.inside(self.name, function)

    def passage(self) -> Passage:
        return Passage(self.fleet.members, self.fleet.sites, NAMED, self.live, PORTS)

    def structure(self) -> Structure:
        """The whole policy, with the gateways' part."""
        relays = self.me.id in GATEWAYS
        maps = self.passage().at_host(self.host)
        end = GatewayEnd(
            ports=PORTS,
            private=self.me.private,
            via=maps.via,
            behind=maps.behind,
            uplinks=("eth0",) if relays else None,
        )
        settings = Settings(
            path=Path("neti.yml"),
            sites=self.fleet.sites,
            sites_configured=True,
            member_ports=self.ports,
        )
        tunnel = Tunnel(own=self.me.overlay, private=self.me.private, mtu=self.mtu)
        around = Surroundings(
            uplinks=("eth0",),
            ssh_untracked=self.untracked,
            site=self.me.site,
            tunnel=tunnel,
            gateway=end,
            member_ports=self.ports,
        )
        made = structure(settings, around)
        return Structure(
            (*made.sets, *policy_gateway.gateway_sets(end)),
            (*made.chains, *policy_gateway.gateway_chains(end)),
        )

    def load(self) -> None:
        """The whole table: enforced, and encryption required."""
        lines = ["add table inet neti", "delete table inet neti", self.structure().text()]
        wished = list(own_elements(self.host, self.me.overlay))
        for other in self.fleet.members:
            road = Road.PLAIN if other.site == self.me.site else Road.REQUIRED
            wished += elements_of(other, host=self.host, sites=self.fleet.sites, road=road)
        spared = {(where, key) for where, key, value in wished if value == SPARED}
        for where, key, value in dict.fromkeys(wished):
            if (where, key) in spared:
                continue
            pair = f"{key} : {value}" if value and where == "overlay" else key
            lines.append(f"add element inet neti {where} {{ {pair} }}")
        # Of members of another site, which all come through the tunnel.
        for group, members in self.groups.items():
            lines += _elements(group_sets(group)[0], frozenset(one.overlay for one in members))
        lines.append("add element inet neti enforce { ipv4 : drop, ipv6 : drop }")
        lines.append("add element inet neti require { ipv4, ipv6 }")
        passage = self.passage()
        lines += self._host_lines(passage.at_host(self.host))
        if self.me.id in GATEWAYS:
            lines += self._gateway_lines(passage)
        nft(self.name, "\n".join(lines) + "\n")

    def believes(self, *live: Member) -> None:
        """What it holds when these gateways, and no others, are believed to be: one transaction,
        and nothing of WireGuard's."""
        self.live = frozenset(one.id for one in live)
        nft(self.name, "\n".join(self._host_lines(self.passage().at_host(self.host))) + "\n")

    def meets(self) -> None:
        """WireGuard's peers: all that it can reach."""
        passage, peers = self.passage(), []
        for other in self.fleet.hosts.values():
            endpoint = passage.endpoint(self.host, other.me)
            if endpoint is not None:
                allowed = frozenset({IPv4Network(other.me.overlay)})
                peers.append(Peer(other.wireguard.key, allowed, endpoint))
        self.wireguard.peers(*peers)

    def _host_lines(self, maps: HostMaps) -> list[str]:
        lines = _elements("gateways", maps.gateways)
        if maps.behind:
            return [*lines, *_elements("gateway_near", {"udp": maps.near} if maps.near else {})]
        return [*lines, *_elements("gateway_far", maps.far)]

    def _gateway_lines(self, passage: Passage) -> list[str]:
        (own,) = (one for one in passage.gateways(self.me.site) if one.id == self.me.id)
        maps: GatewayMaps = passage.at_gateway(own)
        return [
            *_elements("gateway_inside", maps.inside),
            *_elements("gateway_own", maps.own),
            *_elements("gateway_direct", maps.direct),
            *_elements("gateway_public", maps.public),
        ]

    def loses_its_table(self) -> None:
        """As a hostile host, or one whose operator took it out."""
        nft(self.name, "delete table inet neti")

    def link(self, state: str) -> None:
        ip(self.name, f"link set eth0 {state}")
        if state == "up":
            ip(self.name, "route add default via 10.0.0.1")

    def tracked(self) -> str:
        """What connection tracking has of UDP."""
        return self.inside(lambda: _conntrack(self.name))


def _conntrack(namespace: str) -> str:
    text = Path("/proc/thread-self/net/nf_conntrack").read_text()
    return "\n".join(line for line in text.splitlines() if " udp " in line)


@dataclass
class Fleet:
    road: str
    members: tuple[Member, ...]
    routers: dict[str, str]
    switches: dict[str, str]
    names: dict[str, str]  # namespaces of hosts
    hosts: dict[str, GatewayHost] = field(default_factory=dict)

    @property
    def sites(self) -> dict[str, Site]:
        return {name: Site(name=name, encrypt=Encrypt.REQUIRE) for name in SITES}

    def __getitem__(self, one: Member) -> GatewayHost:
        return self.hosts[one.id]

    def gateway_of(self, one: Member) -> GatewayHost:
        """By the belief that all are alive."""
        found = chosen(one.overlay, self[one].passage().gateways(one.site), GATEWAYS)
        assert found is not None
        return self.hosts[found.id]

    def without(self, gateway: GatewayHost) -> tuple[Member, ...]:
        return tuple(one for one in EVERY if one.id != gateway.me.id)

    def as_configured(self) -> bool:
        """Whether each WireGuard has each peer where ``Passage.endpoint`` says."""
        of = {host.wireguard.key: host.me for host in self.hosts.values()}
        return all(
            endpoint == host.passage().endpoint(host.host, of[key])
            for host in self.hosts.values()
            for key, endpoint in host.wireguard.endpoints().items()
        )

    def calls(self, one: Member, other: Member) -> bool:
        """By TCP, port 7000 of the overlay address."""
        with suppress(OSError):
            return reaches(self[one].net, self[one].name, str(other.overlay), 7000)
        return False


@contextmanager
def fleet(*members: Member) -> Iterator[Fleet]:
    require_wireguard()
    with networks(*members) as made:
        for one in members:
            name = made.names[one.id]
            if one.id in GATEWAYS:
                sysctl(name, net__ipv4__conf__eth0__forwarding=1)
            made.hosts[one.id] = GatewayHost(Net(name, made.road, ""), one, made)
        try:
            for host in made.hosts.values():
                host.load()
                host.meets()
            yield made
        finally:
            for host in made.hosts.values():
                host.wireguard.stop()


@contextmanager
def networks(*members: Member) -> Iterator[Fleet]:
    """Hosts, routers and the road, and nothing of Neti's."""
    tag = f"{os.environ.get('GATEWAY_TAG', 'netitest-gw')}-{os.getpid()}-{next(_numbers)}"
    sites = {one.site for one in members}
    made = Fleet(
        f"{tag}-road",
        members,
        {site: f"{tag}-{site}-r" for site in sites},
        {site: f"{tag}-{site}-s" for site in sites},
        names := {one.id: f"{tag}-{one.id}" for one in members},
    )
    every = [made.road, *made.routers.values(), *made.switches.values(), *names.values()]
    try:
        for name in every:
            subprocess.run(["ip", "netns", "add", name], check=True)
            ip(name, "link set lo up")
        for site in sorted(sites):
            _site(site, made, [(names[m.id], m) for m in members if m.site == site])
        ip(
            made.road,
            "link add s0 type veth peer name s1",
            "link set s0 up",
            "link set s1 up",
            f"address add {STRANGER}/32 dev s0",
        )
        sysctl(made.road, net__ipv4__ip_forward=1)
        yield made
    finally:
        for name in every:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def _site(site: str, made: Fleet, hosts: list[tuple[str, Member]]) -> None:
    router, switch, network = made.routers[site], made.switches[site], SITES[site]
    ip(
        router,
        f"link add out type veth peer name {site} netns {made.road}",
        f"link add in type veth peer name trunk netns {switch}",
        "link set out up",
        "link set in up",
        f"address add {network}.254/30 dev out",
        "address add 10.0.0.1/24 dev in",
    )
    ip(
        made.road,
        f"link set {site} up",
        f"address add {network}.253/30 dev {site}",
        f"route add {network}.0/24 via {network}.254",
    )
    ip(router, f"route add default via {network}.253")
    # A bridge that snoops joins a group within ten seconds, by a packet that each host would count.
    bridge = "link add br0 type bridge mcast_snooping 0"
    ip(switch, bridge, "link set br0 up", "link set trunk master br0 up")
    for name, one in hosts:
        port = f"p{int(one.private) & 255}"
        ip(switch, f"link add {port} type veth peer name eth0 netns {name}")
        ip(switch, f"link set {port} master br0 up")
        ip(
            name,
            "link set eth0 up",
            f"address add {one.private}/24 dev eth0",
            "route add default via 10.0.0.1",
        )
    outward = ", ".join(f"{m.private} : {m.public}" for _, m in hosts if m.public)
    inward = ", ".join(f"{m.public} : {m.private}" for _, m in hosts if m.public)
    nft(
        router,
        "table ip cloud { "
        "chain pre { type filter hook prerouting priority -310; "
        f"iifname out ip daddr set ip daddr map {{ {inward} }}; }}; "
        "chain post { type filter hook postrouting priority 300; "
        f"oifname out ip saddr set ip saddr map {{ {outward} }}; "
        "oifname out ip saddr 10.0.0.0/8 drop; }; }",
    )
    sysctl(router, net__ipv4__ip_forward=1)
