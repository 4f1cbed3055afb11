"""Who is who on a site's own network, written down instead of asked by ARP. Pure.

The kernel has one table of learned neighbours for the whole machine (1,024 entries with stock
settings, net.ipv4.neigh.default.gc_thresh3), all namespaces together. A hundred hosts that all
speak to each other would fill it, for the machine's own network too. Permanent entries do not
count.
"""

from ipaddress import IPv4Address

from neti_lab.topology import LabHost, LabSite


def hardware_address(address: IPv4Address) -> str:
    """The locally administered one that belongs to an address of a site."""
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x00, *address.packed))


def of_host(site: LabSite, host: LabHost) -> tuple[str, ...]:
    """Lines for ``ip -batch`` on the host; a host that joins later is asked for as usual."""
    others = (other.private for other in site.machines if other != host)
    return _lines("eth0", host.private, (site.router, *others))


def of_gateway(site: LabSite) -> tuple[str, ...]:
    return _lines("lan", site.router, tuple(host.private for host in site.machines))


def _lines(device: str, own: IPv4Address, others: tuple[IPv4Address, ...]) -> tuple[str, ...]:
    return (
        f"link set {device} address {hardware_address(own)}",
        *(
            f"neigh replace {other} lladdr {hardware_address(other)} dev {device} nud permanent"
            for other in others
        ),
    )
