"""From a plan to the commands that build it: lines for ``ip -batch``, rules for ``nft -f``. Pure.

Every link is created directly between two of the lab's namespaces, and everything else is done
inside one, so no line here may ever name a device of the machine itself.
"""

from dataclasses import dataclass, field

from neti_lab import groups, neighbours
from neti_lab.topology import (
    INTERNET,
    INTERNET_ADDRESS,
    METADATA_ADDRESS,
    REGISTRY_PORT,
    STRANGER,
    STRANGER_ADDRESS,
    LabHost,
    LabPlan,
    LabSite,
)

# Set before the first interface exists, which takes them over. A new namespace inherits IPv4
# settings from the machine (Docker's ip_forward, say): the lab's hosts must not differ by that.
_ROUTER = {"ip_forward": "1", "rp_filter": "0", "send_redirects": "0"}
_HOST = {"ip_forward": "0", "rp_filter": "0", "send_redirects": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One namespace and what is to be done inside it once all links exist."""

    namespace: str
    sysctls: dict[str, str] = field(default_factory=dict)  # below net.ipv4: all and default
    commands: tuple[str, ...] = ()
    rules: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """``create`` these namespaces, then make the ``links``, then go into each of ``nodes``."""

    create: tuple[str, ...]
    links: tuple[str, ...]
    nodes: tuple[Node, ...]


def wire(plan: LabPlan) -> Wiring:
    """The whole lab."""
    nodes = [_internet(plan), _stranger(plan)]
    links = [_link(plan, INTERNET, STRANGER, STRANGER, "eth0")]
    for site in plan.sites:
        nodes += [_gateway(plan, site), _switch(plan, site)]
        links.append(_link(plan, INTERNET, site.name, site.site_gateway, "uplink"))
        links.append(_link(plan, site.site_gateway, "lan", site.switch, "router"))
        for host in site.machines:
            nodes.append(_host(plan, site, host))
            links.append(_link(plan, site.switch, host.name, host.name, "eth0"))
    return Wiring(
        create=tuple(node.namespace for node in nodes), links=tuple(links), nodes=tuple(nodes)
    )


def wire_host(plan: LabPlan, host: LabHost) -> Wiring:
    """One host more, beside a site that is there already."""
    site = plan.site(host.site)
    node = _host(plan, site, host)
    gateway = Node(
        namespace=plan.namespace(site.site_gateway),
        rules=(_public_address(host) + (groups.admit_workload(host) if plan.has_groups else "")),
    )
    switch = Node(namespace=plan.namespace(site.switch), commands=(_plug(host.name),))
    return Wiring(
        create=(node.namespace,),
        links=(_link(plan, site.switch, host.name, host.name, "eth0"),),
        nodes=(gateway, switch, node),
    )


def _internet(plan: LabPlan) -> Node:
    commands = ["link set lo up", *_point_to_point(STRANGER, INTERNET_ADDRESS, STRANGER_ADDRESS)]
    for site in plan.sites:
        commands += _point_to_point(site.name, INTERNET_ADDRESS, site.uplink)
        commands.append(f"route add {site.public} via {site.uplink}")
    return Node(namespace=plan.namespace(INTERNET), sysctls=_ROUTER, commands=tuple(commands))


def _stranger(plan: LabPlan) -> Node:
    return Node(
        namespace=plan.namespace(STRANGER),
        sysctls=_HOST,
        commands=(
            "link set lo up",
            *_point_to_point("eth0", STRANGER_ADDRESS, INTERNET_ADDRESS),
            f"route add default via {INTERNET_ADDRESS}",
        ),
    )


def _gateway(plan: LabPlan, site: LabSite) -> Node:
    return Node(
        namespace=plan.namespace(site.site_gateway),
        sysctls=_ROUTER,
        commands=(
            "link set lo up",
            f"addr add {site.router}/{site.private.prefixlen} dev lan",
            "link set lan up",
            *neighbours.of_gateway(site),
            *_point_to_point("uplink", site.uplink, INTERNET_ADDRESS),
            f"route add default via {INTERNET_ADDRESS}",
            # A public address that no host has must not go back and forth to the internet.
            f"route add unreachable {site.public}",
        ),
        rules=_nat(site) + (groups.table(site) if plan.has_groups else ""),
    )


def _switch(plan: LabPlan, site: LabSite) -> Node:
    return Node(
        namespace=plan.namespace(site.switch),
        commands=(
            "link add bridge type bridge",
            "link set bridge up",
            _plug("router"),
            *(_plug(host.name) for host in site.machines),
        ),
    )


def _host(plan: LabPlan, site: LabSite, host: LabHost) -> Node:
    return Node(
        namespace=plan.namespace(host.name),
        sysctls=_HOST,
        commands=(
            "link set lo up",
            f"addr add {METADATA_ADDRESS}/32 dev lo scope host",
            f"addr add {host.private}/{site.private.prefixlen} dev eth0",
            "link set eth0 up",
            *neighbours.of_host(site, host),
            f"route add default via {site.router}",
        ),
    )


def _link(plan: LabPlan, node: str, device: str, other: str, other_device: str) -> str:
    return (
        f"link add {device} netns {plan.namespace(node)} type veth "
        f"peer name {other_device} netns {plan.namespace(other)}"
    )


def _point_to_point(device: str, local: object, peer: object) -> tuple[str, str]:
    return f"addr add {local} peer {peer} dev {device}", f"link set {device} up"


def _plug(device: str) -> str:
    return f"link set {device} master bridge up"


def take_public_addresses(site: LabSite) -> str:
    """Rules after which only those of ``site`` have one that still do; in one transaction."""
    maps = "flush map ip lab private_of\nflush map ip lab public_of\n"
    return maps + "".join(_public_address(host) for host in site.machines)


def _public_address(host: LabHost) -> str:
    if host.public is None:
        return ""
    return (
        f"add element ip lab private_of {{ {host.public} : {host.private} }}\n"
        f"add element ip lab public_of {{ {host.private} : {host.public} }}\n"
    )


def publish(site: LabSite, host: LabHost, port: int) -> str:
    """Let the internet find this TCP port of a machine without a public address, by the site's
    load balancer, which keeps the caller's address."""
    if host.public is not None:
        return ""
    _, listener = site.door(host, port)
    return f"add element ip lab front {{ {listener} : {host.private} . {port} }}\n"


def _nat(site: LabSite) -> str:
    """A public address stands for one private one, both ways, as an AWS internet gateway does it.
    Who has none goes out by the site's egress, and nothing comes in that way.

    What is translated on its way in and comes from the site itself must be so at its source, too:
    whoever is called must see the caller's public address, or it would answer past the gateway.
    """
    rules = f"""
table ip lab {{
    map private_of {{ type ipv4_addr : ipv4_addr; }}
    map public_of {{ type ipv4_addr : ipv4_addr; }}
    map front {{ type inet_service : ipv4_addr . inet_service; }}
    chain arriving {{
        type nat hook prerouting priority dstnat
        dnat to ip daddr map @private_of
        ip daddr {site.front} dnat to tcp dport map @front
    }}
    chain leaving {{
        type nat hook postrouting priority srcnat
        oifname "uplink" snat to ip saddr map @public_of
        ct status dnat snat to ip saddr map @public_of
        ip saddr {site.private} oifname "uplink" snat to {site.egress}
        ip saddr {site.private} ct status dnat snat to {site.egress}
    }}
}}
"""
    rules += "".join(_public_address(host) for host in site.machines)
    return rules + "".join(publish(site, keeper, REGISTRY_PORT) for keeper in site.keepers)
