"""One host's session with the fleet's registry, and the worker that asks it.

The registry is ``neti.registry.memory``, which passes the contract that ZooKeeper passes. What it
tells waits in the host's inbox until the scheduler has it delivered: late, but in its order, since
ZooKeeper reorders nothing within one session. Answers to calls come by the worker, so they may
overtake it, or be overtaken.
"""

from collections import deque
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network

from neti.agent.worker import _LANES, _REGISTRY, Job, JobEvent, Running, Worker, outcome
from neti.registry import Event, Session, Sink
from neti.registry.memory import MemoryRegistry, MemoryServer
from simulation.gate import Gate, Killed


class SimulatedRegistry(MemoryRegistry):
    def __init__(
        self,
        server: MemoryServer,
        gate: Gate,
        inbox: deque[Event],
        session: Session | None,
    ) -> None:
        super().__init__(server, session=session)
        self._gate = gate
        self._inbox = inbox

    @property
    def session(self) -> Session | None:
        return self._session

    def watch(self, sink: Sink, *, hosts: bool = False) -> None:
        super().watch(self._inbox.append, hosts=hosts)

    def acquire(
        self, host_id: str, subnet: IPv4Network, *, prefer: IPv4Address | None = None
    ) -> IPv4Address:
        self._gate.effect("registry.acquire")
        return super().acquire(host_id, subnet, prefer=prefer)

    def register(
        self,
        *,
        host_id: str,
        name: str,
        data: bytes,
        detail: bytes,
        report: bytes = b"",
        replaces: str | None = None,
        overlay: IPv4Address | None = None,
        machine: str = "",
        key: str = "",
    ) -> bool:
        self._gate.effect("registry.register")
        return super().register(
            host_id=host_id,
            name=name,
            data=data,
            detail=detail,
            report=report,
            replaces=replaces,
            overlay=overlay,
            machine=machine,
            key=key,
        )

    def describe(self, host_id: str, detail: bytes, report: bytes = b"") -> bool:
        self._gate.effect("registry.describe")
        return super().describe(host_id, detail, report)

    def leave(self, *, host_id: str, name: str, departure: str) -> None:
        self._gate.effect("registry.leave")
        super().leave(host_id=host_id, name=name, departure=departure)


class SimulatedWorker(Worker):
    """Does a job when the scheduler says so: the first of any lane."""

    def __init__(self, tell: Callable[[JobEvent], None], gate: Gate) -> None:
        self._tell = tell
        self._gate = gate
        self.waiting: dict[str, deque[tuple[str, Job]]] = {}

    def start(self) -> None: ...

    def submit(self, name: str, job: Job) -> None:
        lane = _LANES.get(name, _REGISTRY)
        self.waiting.setdefault(lane, deque()).append((name, job))

    def running(self) -> tuple[Running, ...]:
        return ()

    def close(self, timeout: float) -> None: ...

    @property
    def lanes(self) -> list[str]:
        waiting = self.waiting
        return [lane for lane, jobs in waiting.items() if jobs] if waiting else []

    def do(self, lane: str) -> None:
        """Raises Killed where the host is killed meanwhile."""
        name, job = self.waiting[lane].popleft()
        killed = False

        def unless_killed() -> object:
            nonlocal killed
            try:
                return job()
            except Killed:  # a worker goes on after anything else that a job raises
                killed = True
                raise

        event = outcome(name, unless_killed)
        if killed:
            raise Killed
        self._gate.effect("job.told")
        self._tell(event)
