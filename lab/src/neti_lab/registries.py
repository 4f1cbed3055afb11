"""The registry of a lab: a file that all agents share, a ZooKeeper on the lab's internet (open, or
closed to all but admitted hosts), or an ensemble in one site with proxies in the other."""

import time
from typing import Final

from neti import config
from neti.errors import EntryError
from neti.model import Departure, Member, Moved
from neti.model.entry import parse
from neti.registry import Registry, opening
from neti_lab import LabError, agents, closed, ensemble, namespaces, processes
from neti_lab.agents import ZOOKEEPER_PORT
from neti_lab.state import LabState
from neti_lab.topology import INTERNET, INTERNET_ADDRESS, LabHost, LabPlan
from neti_lab.zookeeper import ZooKeeperServer

_START_SECONDS: Final = 40.0


def start(plan: LabPlan, state: LabState) -> None:
    """Make the lab's registry ready; it ends with the lab."""
    if plan.registry == "embedded":
        return  # the first agent makes the file
    if plan.registry == "ensemble":
        ensemble.start(plan, state)
        return
    if plan.registry == "closed":
        closed.start(plan, state)
        return
    server = ZooKeeperServer(
        address=str(INTERNET_ADDRESS),
        port=ZOOKEEPER_PORT,
        namespace=plan.namespace(INTERNET),
        folder=state.folder / "zookeeper",
        tick_ms=1000,
    )
    # Started here and not by the server's own hand, so that it outlives this command and is found
    # again by the one that takes the lab down.
    processes.start(server.command(), log=server.log, record=state.record("zookeeper"))
    server.wait()


def open_registry(plan: LabPlan, state: LabState, host: LabHost | None = None) -> Registry:
    """The registry as this host finds it, for looking into it from here. The caller closes it."""
    # With an ensemble the last host in vpc, which asks the servers themselves and stays longest.
    host = host or plan.hosts[-1]
    settings = config.load(state.config(host.name))

    def connect() -> Registry:
        registry = opening.open_registry(settings, host.site)
        registry.leases()
        return registry

    # Connected inside, and so are the threads that keep the connection.
    inside = host.name if plan.registry == "ensemble" else INTERNET
    return namespaces.call_inside(plan.namespace(inside), connect)


def registered(registry: Registry) -> frozenset[str]:
    """The ids of all hosts that have a registration at this moment."""
    return frozenset(
        member.id for name in registry.names() if isinstance(member := _parsed(name), Member)
    )


def wait_until_registered(plan: LabPlan, state: LabState) -> None:
    """Until every host's agent is registered; LabError when one ends, or they take too long."""
    deadline = time.monotonic() + _START_SECONDS + len(plan.hosts)
    registry = open_registry(plan, state)
    try:
        while missing := {host.name for host in plan.hosts} - registered(registry):
            agents.check_running(plan.hosts, state=state)
            if time.monotonic() > deadline:
                reason = processes.last_line(state.log(min(missing)))
                raise LabError(f"{len(missing)} agents do not register; {min(missing)}: {reason}")
            time.sleep(0.05)
    finally:
        registry.close()


def _parsed(name: str) -> Member | Departure | Moved | None:
    try:
        return parse(name)
    except EntryError:
        return None
