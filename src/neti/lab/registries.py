"""The registry of a lab: a file that all agents share, or a ZooKeeper on the lab's internet."""

from neti import config
from neti.lab import namespaces, processes
from neti.lab.agents import ZOOKEEPER_PORT
from neti.lab.state import LabState
from neti.lab.topology import INTERNET, INTERNET_ADDRESS, LabPlan
from neti.lab.zookeeper import ZooKeeperServer
from neti.registry import Registry, opening


def start(plan: LabPlan, state: LabState) -> None:
    """Make the lab's registry ready; it ends with the lab."""
    if plan.registry == "embedded":
        return  # the first agent makes the file
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


def open_registry(plan: LabPlan, state: LabState) -> Registry:
    """The registry as a host finds it, for looking into it from here. The caller closes it."""
    settings = config.load(state.config(plan.hosts[0].name))

    def connect() -> Registry:
        registry = opening.open_registry(settings, plan.hosts[0].site)
        registry.leases()
        return registry

    # Connected inside, and so are the threads that keep the connection.
    return namespaces.call_inside(plan.namespace(INTERNET), connect)
