"""What a field consists of: its namespaces, links and addresses. Pure.

              street 10.0.0.1 (switch; strangers, peers, ZooKeeper)
             /            |             \\
    h1 10.0.0.11    h2 10.0.0.12    h3 10.0.0.13       each fd00:5::N too, uplink eth0
         |
    container 172.31.0.2, fd00:31::2                    port 9080 of the host leads to its 9000

Each host has rules of others beside Neti's, a Docker-like table among them.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any, Final

from neti_lab.wiring import Node, Wiring

STREET: Final = "street"
STREET_ADDRESS: Final = IPv4Address("10.0.0.1")
# Addresses on the street: somebody else, a host that may be registered, and the operator's.
STRANGER, STRANGER6 = IPv4Address("10.0.0.66"), IPv6Address("fd00:5::66")
PEER, PEER6 = IPv4Address("10.0.0.9"), IPv6Address("fd00:5::9")
OPERATOR, OPERATOR6 = IPv4Address("10.0.0.77"), IPv6Address("fd00:5::77")
CONTAINER, CONTAINER6 = IPv4Address("172.31.0.2"), IPv6Address("fd00:31::2")
OVERLAY: Final = IPv4Network("192.168.0.0/18")
PORT: Final = 7007  # every host's echo server
OPEN_PORT: Final = 7080  # and one that is in open_ports
PUBLISHED: Final = 9080  # of the host; leads to the container's
CONTAINER_PORT: Final = 9000
MAX_HOSTS: Final = 50

_SYSCTLS: Final = {"ip_forward": "0", "rp_filter": "0"}
_DOCKER_HOST: Final = {"ip_forward": "1", "rp_filter": "0"}
# Containers reach the street by their host's address; and no chain of this judges what comes in.
MASQUERADE: Final = """
table ip out {
    chain post {
        type nat hook postrouting priority srcnat;
        ip saddr 172.31.0.0/24 oifname "eth0" masquerade
    }
}
table ip6 out {
    chain post {
        type nat hook postrouting priority srcnat;
        ip6 saddr fd00:31::/64 oifname "eth0" masquerade
    }
}
"""
# What else a host has: whoever changes any of it is found out.
OTHERS: Final = f"""
table inet mine {{
    set s {{ type ipv4_addr; elements = {{ 192.0.2.1, 192.0.2.2 }}; }}
    chain c {{ type filter hook forward priority 10; policy accept; ip saddr @s drop; }}
}}
table ip docker {{
    chain pre {{
        type nat hook prerouting priority dstnat;
        ip daddr != 127.0.0.0/8 fib daddr type local tcp dport {PUBLISHED} \
dnat to {CONTAINER}:{CONTAINER_PORT}
    }}
    chain post {{
        type nat hook postrouting priority srcnat;
        ip saddr 172.31.0.0/24 oifname "eth0" masquerade
    }}
}}
table ip6 docker {{
    chain pre {{
        type nat hook prerouting priority dstnat;
        fib daddr type local tcp dport {PUBLISHED} dnat to [{CONTAINER6}]:{CONTAINER_PORT}
    }}
    chain post {{
        type nat hook postrouting priority srcnat;
        ip6 saddr fd00:31::/64 oifname "eth0" masquerade
    }}
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPlan:
    """One host; its name is its id too. Of two sites on one street: both are reached by private
    address."""

    number: int
    site: str = "ec2"

    @property
    def name(self) -> str:
        return f"h{self.number}"

    @property
    def private(self) -> IPv4Address:
        return IPv4Address("10.0.0.10" if self.site == "ec2" else "10.1.0.10") + self.number

    @property
    def other_private(self) -> IPv4Address:
        """A second address of the same host, for one that moves."""
        return IPv4Address("10.0.1.10") + self.number

    @property
    def private6(self) -> IPv6Address:
        return IPv6Address("fd00:5::10") + self.number

    @property
    def public(self) -> IPv4Address:
        return IPv4Address("54.0.0.10" if self.site == "ec2" else "54.1.0.10") + self.number


def wiring(prefix: str, hosts: list[HostPlan], *, others: str = OTHERS) -> Wiring:
    street = f"{prefix}{STREET}"
    bits = 15 if {host.site for host in hosts} == {"ec2", "vpc"} else 16  # both sites' network
    nodes = [Node(namespace=street, sysctls=_SYSCTLS, commands=_street(hosts, bits))]
    links = []
    for host in hosts:
        inner, container = f"{prefix}{host.name}", f"{prefix}{host.name}-c"
        links.append(f"link add {host.name} netns {street} type veth peer name eth0 netns {inner}")
        links.append(f"link add c0 netns {inner} type veth peer name eth0 netns {container}")
        nodes.append(
            Node(namespace=inner, sysctls=_DOCKER_HOST, commands=_host(host, bits), rules=others)
        )
        nodes.append(Node(namespace=container, sysctls=_SYSCTLS, commands=_container()))
    return Wiring(create=tuple(n.namespace for n in nodes), links=tuple(links), nodes=tuple(nodes))


def configuration(host: HostPlan, *, state: str, registry: dict[str, Any]) -> dict[str, Any]:
    """The host's neti.yml; a drill changes what it is about."""
    return {
        "site": host.site,
        "sites": {
            "ec2": {"private": ["10.0.0.0/16"], "public": ["54.0.0.0/16"]},
            "vpc": {"private": ["10.1.0.0/16"], "public": ["54.1.0.0/16"]},
        },
        "identity": {
            "id": host.name,
            "private": str(host.private),
            "public": str(host.public),
            "ipv6": str(host.private6),
        },
        **registry,
        "session_seconds": 4,
        "overlay_subnet": str(OVERLAY),
        "ssh_whitelist": [f"{OPERATOR}/32", f"{OPERATOR6}/128"],
        "open_ports": [OPEN_PORT],
        "trial_seconds": 5,
        "table_files_path": state,
    }


def _street(hosts: list[HostPlan], bits: int) -> tuple[str, ...]:
    v4 = (STREET_ADDRESS, PEER, STRANGER, OPERATOR)
    v6 = (PEER6, STRANGER6, OPERATOR6)
    return (
        "link set lo up",
        "link add switch type bridge",
        "link set switch up",
        *(f"address add {address}/{bits} dev switch" for address in v4),
        *(f"address add {address}/64 dev switch nodad" for address in v6),
        *(f"link set {host.name} master switch up" for host in hosts),
    )


def _host(host: HostPlan, bits: int) -> tuple[str, ...]:
    return (
        "link set lo up",
        # No link-local addresses, which would come into being at their own time.
        "link set eth0 addrgenmode none",
        "link set c0 addrgenmode none",
        f"address add {host.private}/{bits} dev eth0",
        f"address add {host.other_private}/32 dev eth0",
        f"address add {host.private6}/64 dev eth0 nodad",
        "address add 172.31.0.1/24 dev c0",
        "address add fd00:31::1/64 dev c0 nodad",
        "link set eth0 up",
        "link set c0 up",
        f"route add default via {STREET_ADDRESS}",
        "route add 203.0.113.0/24 via 172.31.0.9",  # somebody's own
    )


def _container() -> tuple[str, ...]:
    return (
        "link set lo up",
        "link set eth0 addrgenmode none",
        f"address add {CONTAINER}/24 dev eth0",
        f"address add {CONTAINER6}/64 dev eth0 nodad",
        "link set eth0 up",
        "route add default via 172.31.0.1",
        "route add default via fd00:31::1",
    )
