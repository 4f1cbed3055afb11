"""ZooKeeper across two sites: three servers in vpc, as many proxies in ec2, mutual TLS, rights.

All of it is what an operator types: certificates by ``neti registry dev-ca``, the tree by ``neti
registry init``, relays by ``neti zk-proxy``. Servers and proxies run no agent, and the gateways'
groups let only the other site's registry hosts reach their port.
"""

import signal
import urllib.request
from ipaddress import IPv4Address
from typing import Final

from neti_lab import LabError, agents, certificates, groups, namespaces, processes
from neti_lab.certificates import OPERATOR
from neti_lab.state import LabState
from neti_lab.topology import REGISTRY_PORT, LabHost, LabPlan, LabSite
from neti_lab.zookeeper import Peer, ServerTLS, ZooKeeperServer

_QUORUM_PORT: Final = 2888
_ELECTION_PORT: Final = 3888
_HEAP_MB: Final = 128
_METRICS_PORT: Final = 9181


def start(plan: LabPlan, state: LabState) -> None:
    """Certificates, groups, servers, tree, proxies; the registry takes agents afterwards."""
    make_certificates(plan, state)
    admit(plan)
    start_servers(plan, state)
    lay_out(plan, state)
    for proxy in plan.site("ec2").keepers:
        start_proxy(plan, proxy, state)


def make_certificates(plan: LabPlan, state: LabState) -> None:
    """A server's carries the proxies' addresses too."""
    proxies = [str(proxy.private) for proxy in plan.site("ec2").keepers]
    site = plan.site("vpc")
    names = {
        each.name: [str(each.private), str(site.door(each, REGISTRY_PORT)[0]), *proxies]
        for each in site.keepers
    }
    certificates.make(plan, state, names)


def admit(plan: LabPlan) -> None:
    """What ``neti aws zk-groups`` does in EC2: each side's registry hosts take the other's."""
    for site, other in (plan.sites, plan.sites[::-1]):
        text = groups.admit_registry(site.keepers, callers(other))
        namespaces.load_rules(plan.namespace(site.site_gateway), text)


def callers(site: LabSite) -> list[IPv4Address]:
    """From which addresses the site's registry hosts call the other side."""
    return list(dict.fromkeys(site.outward(keeper) for keeper in site.keepers))


def server(plan: LabPlan, host: LabHost, state: LabState) -> ZooKeeperServer:
    """The handle of a server; it may be running already."""
    servers = plan.site("vpc").keepers
    return ZooKeeperServer(
        address=str(host.private),
        port=REGISTRY_PORT,
        namespace=plan.namespace(host.name),
        folder=state.folder / host.name,
        tick_ms=1000,
        heap_mb=_HEAP_MB,
        ensemble=[Peer(str(each.private), _QUORUM_PORT, _ELECTION_PORT) for each in servers],
        number=host.number,
        security=ServerTLS.of(state.ca, host.name),
    )


def start_server(plan: LabPlan, host: LabHost, state: LabState) -> None:
    """Returns before it serves: alone it has no quorum."""
    one = server(plan, host, state)
    processes.start(one.command(), log=one.log, record=state.record(host.name))


def start_servers(plan: LabPlan, state: LabState) -> None:
    hosts = plan.site("vpc").keepers
    for host in hosts:
        start_server(plan, host, state)
    for host in hosts:
        server(plan, host, state).wait(60)


def leader(plan: LabPlan, state: LabState) -> LabHost:
    """The server that leads; LabError when there is none."""
    for host in plan.site("vpc").keepers:
        if "Mode: leader" in server(plan, host, state).four_letters("srvr"):
            return host
    raise LabError("the ensemble has no leader")


def lay_out(plan: LabPlan, state: LabState) -> str:
    """The tree and its rights, by an operator; returns what the command said."""
    inside = plan.site("vpc").hosts[0].name
    said = certificates.operator_says(plan, state, "registry", "init", inside=inside)
    if plan.encrypt:
        certificates.close(plan, state, inside=inside)
    return said


def start_proxy(plan: LabPlan, host: LabHost, state: LabState) -> None:
    words = ["zk-proxy", "--listen", f"{host.private}:{REGISTRY_PORT}", "--drain", "1"]
    servers = plan.site("vpc")
    for each in servers.keepers:
        address, port = servers.door(each, REGISTRY_PORT)
        words += ["--server", f"{address}:{port}"]
    files = agents.tls_files(state, f"operator-{OPERATOR}")
    words += ["--health-tls", files["ca"], files["cert"], files["key"]]
    words += ["--metrics", f"127.0.0.1:{_METRICS_PORT}"]
    command = namespaces.command_inside(plan.namespace(host.name), agents.neti_command(*words))
    processes.start(command, log=state.log(host.name), record=state.record(host.name))


def servers_seen(plan: LabPlan, proxy: LabHost) -> int:
    """How many servers the proxy counts as up; 0 also when it does not answer."""

    def ask() -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{_METRICS_PORT}/", timeout=2) as answer:
                lines: list[str] = answer.read().decode().splitlines()
        except OSError:
            return 0
        return sum("server_up{" in line and line.endswith(" 1") for line in lines)

    return namespaces.call_inside(plan.namespace(proxy.name), ask)


def stop(host: LabHost, state: LabState) -> None:
    """End a server or proxy in order, and wait for it."""
    if (process := state.process(host.name)) is not None:
        processes.stop([process])


def kill(host: LabHost, state: LabState) -> None:
    """End it in the middle of whatever it does."""
    if (process := state.process(host.name)) is not None:
        process.signal(signal.SIGKILL)
