"""One ZooKeeper on the lab's internet, as closed as Neti can have it: mutual TLS, rights,
admission, and strict. Agents come to it afterwards.
"""

from typing import Final

from neti_lab import certificates, processes
from neti_lab.state import LabState
from neti_lab.topology import INTERNET, INTERNET_ADDRESS, REGISTRY_PORT, LabHost, LabPlan
from neti_lab.zookeeper import ServerTLS, ZooKeeperServer

_SERVER: Final = "zk1"
_HEAP_MB: Final = 128
_RECORD: Final = "zookeeper"


def start(plan: LabPlan, state: LabState) -> None:
    """Certificates, server, tree; then only hosts of the plan can register, and all are strict."""
    certificates.make(plan, state, {_SERVER: [str(INTERNET_ADDRESS)]})
    one = _server(plan, state)
    processes.start(one.command(), log=one.log, record=state.record(_RECORD))
    one.wait()
    certificates.operator_says(plan, state, "registry", "init", inside=INTERNET)
    certificates.close(plan, state, inside=INTERNET)


def admit(plan: LabPlan, host: LabHost, state: LabState) -> None:
    """A host that joins later: a certificate, and an operator's word that it may register."""
    certificates.certify(host, state)
    certificates.admit(plan, state, host, inside=INTERNET)


def _server(plan: LabPlan, state: LabState) -> ZooKeeperServer:
    return ZooKeeperServer(
        address=str(INTERNET_ADDRESS),
        port=REGISTRY_PORT,
        namespace=plan.namespace(INTERNET),
        folder=state.folder / _RECORD,
        tick_ms=1000,
        heap_mb=_HEAP_MB,
        security=ServerTLS.of(state.ca, _SERVER),
    )
