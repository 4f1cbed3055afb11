"""Security groups, emulated by each site gateway: what may come in from outside the site. Pure.

Three groups a site: its hosts (closed to the world but for published ports, until they are opened
to given networks), and the registry's own hosts, which take their port from the other site's
alone. Within a site everybody reaches everybody: one flat group. A packet that a group refuses is
dropped without a word, as in EC2.

Rules are text for ``nft -f`` in the site gateway's namespace. Only packets that arrive from the
internet are judged.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from neti_lab.topology import GATEWAY_PORTS, REGISTRY_PORT, TUNNEL_PORT, LabHost, LabSite

EVERYWHERE: Final = (IPv4Network("0.0.0.0/0"),)
_TABLE: Final = "ip groups"


def table(site: LabSite) -> str:
    """A site that nobody from outside gets into."""
    hosts = ", ".join(str(host.private) for host in site.hosts)
    return f"""
table {_TABLE} {{
    set hosts {{ type ipv4_addr; elements = {{ {hosts} }}; }}
    set published {{ type ipv4_addr . inet_service; }}
    set opened {{ type ipv4_addr; flags interval; }}
    set road {{ type ipv4_addr; }}
    set registry {{ type ipv4_addr . ipv4_addr; }}
    chain arriving {{
        type filter hook forward priority filter
        ct state established,related accept
        iifname "uplink" goto judged
    }}
    chain judged {{
        ip daddr . tcp dport @published accept
        ip daddr @hosts ip saddr @opened accept
        ip daddr @hosts ip saddr @road udp dport {{ {TUNNEL_PORT}, {GATEWAY_PORTS} }} accept
        tcp dport {REGISTRY_PORT} ip daddr . ip saddr @registry accept
        counter drop
    }}
}}
"""


def admit_workload(host: LabHost) -> str:
    """A host that was started later is in its site's group."""
    return f"add element {_TABLE} hosts {{ {host.private} }}\n"


def publish(host: LabHost, port: int) -> str:
    """Let the world reach this TCP port."""
    return f"add element {_TABLE} published {{ {host.private} . {port} }}\n"


def open_hosts(networks: Iterable[IPv4Network]) -> str:
    """Let these networks reach all hosts of the site, on every port, and no others."""
    elements = ", ".join(map(str, networks))
    return f"flush set {_TABLE} opened\nadd element {_TABLE} opened {{ {elements} }}\n"


def open_road(addresses: Iterable[IPv4Address]) -> str:
    """Let these gateways reach the site's own by the encrypted road, and nothing else."""
    elements = ", ".join(map(str, addresses))
    return f"flush set {_TABLE} road\nadd element {_TABLE} road {{ {elements} }}\n"


def admit_registry(
    own: Sequence[LabHost], others: Sequence[IPv4Address], *, withdraw: bool = False
) -> str:
    """Let these public addresses of the other site reach the registry's port, or no more."""
    pairs = ", ".join(f"{host.private} . {other}" for host in own for other in others)
    return f"{'delete' if withdraw else 'add'} element {_TABLE} registry {{ {pairs} }}\n"
