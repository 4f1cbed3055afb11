"""What it costs to read a node of every host: ZooKeeper's MultiRead against a request for each.

Both sides read the same leases of one server on loopback, in turns, in one process: as a command
does, and as an agent does at its start. That they hear the same is checked.
"""

import threading
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any, Final

from kazoo.protocol.serialization import GetData
from tests.support.swarm import Swarm

from benchmarks.figures import Line, Report, Times
from benchmarks.process import cpu_of
from benchmarks.registry import LAYOUT
from benchmarks.scale import Scale, say
from neti.errors import NetiError
from neti.registry import Event, Fresh, LeaseRead
from neti.registry.zookeeper.registry import ZooKeeperRegistry
from neti_lab.zookeeper import ZooKeeperServer

NAME: Final = "reads"
TITLE: Final = "Reading a node of every host: MultiRead against a request for each"
_FIRST: Final = IPv4Address("192.168.0.0")
_PART: Final = 500  # as a command did
_IN_FLIGHT: Final = 64  # as an agent did
_PATIENCE: Final = 120.0


def run(scale: Scale) -> Report:
    report = Report(TITLE)
    lines: list[Line] = []
    with ZooKeeperServer(limits=()) as server:
        host, port = server.hosts.split(":")
        nodes = [*((path, b"") for path in LAYOUT.parents()), (LAYOUT.fleet, b"f")]
        with Swarm(host, int(port), 1) as swarm:
            swarm.create(nodes, ephemeral=False)
        laid = 0
        for size in scale.sizes:
            say(f"reads: {size:,} leases")
            leases = [(_FIRST + number, f"i-{number:017x}") for number in range(laid, size)]
            with Swarm(host, int(port), 8) as swarm:
                swarm.create(
                    [(LAYOUT.by_overlay(o), i.encode()) for o, i in leases], ephemeral=False
                )
            laid = size
            lines += _compare(server, [_FIRST + number for number in range(size)], scale)
    report.compare(lines, ours="MultiRead", other="GetData")
    return report


def _compare(server: ZooKeeperServer, overlays: list[IPv4Address], scale: Scale) -> list[Line]:
    reader = ZooKeeperRegistry([server.hosts])
    agent = ZooKeeperRegistry([server.hosts])
    heard = _Heard()
    agent.watch(heard)
    heard.fresh.wait(_PATIENCE)
    paths = [LAYOUT.by_overlay(overlay) for overlay in overlays]
    parts = [paths[first : first + _PART] for first in range(0, len(paths), _PART)]

    def at_once() -> list[str]:
        def read(part: list[str]) -> list[str]:
            found = reader.inspect(lambda attempt, _: attempt.read(part))
            return [data.decode() for data in found if data is not None]

        return [holder for part in parts for holder in read(part)]

    def each() -> list[str]:
        def read(part: list[str]) -> list[str]:
            asked = [GetData(path, None) for path in part]
            return [a[0].decode() for a in reader.inspect(lambda attempt, _: attempt.each(asked))]

        return [holder for part in parts for holder in read(part)]

    def streamed() -> list[str]:
        heard.begin(len(overlays))
        agent.ask(overlays)
        return heard.all()

    def streamed_each() -> list[str]:
        return _one_by_one(agent, paths)

    lines = []
    for what, ours, other in (
        ("a command", at_once, each),
        ("an agent", streamed, streamed_each),
    ):
        mine, theirs = _Cost(), _Cost()
        for _ in range(scale.slow_rounds):
            if mine.of(ours, server) != theirs.of(other, server):
                raise NetiError("the two ways to read do not agree")
        size = f"{len(overlays):,}, {what}"
        lines += [
            Line(f"{size}: processor of the reader", mine.reader, theirs.reader),
            Line(f"{size}: processor of the server", mine.server, theirs.server),
            Line(f"{size}: until all is known", mine.clock, theirs.clock),
        ]
    reader.close()
    agent.close()
    return lines


class _Cost:
    def __init__(self) -> None:
        self.reader, self.server, self.clock = Times(), Times(), Times()

    def of(self, work: Callable[[], list[str]], server: ZooKeeperServer) -> list[str]:
        assert server.pid is not None
        there, here, began = cpu_of([server.pid]), time.process_time(), time.perf_counter()
        found = work()
        self.clock.each.append(time.perf_counter() - began)
        self.reader.each.append(time.process_time() - here)
        self.server.each.append(cpu_of([server.pid]) - there)
        return found


class _Heard:
    """A sink."""

    def __init__(self) -> None:
        self.fresh, self.done = threading.Event(), threading.Event()
        self._wanted = 0
        self._answers: list[str] = []

    def begin(self, wanted: int) -> None:
        self._wanted, self._answers = wanted, []
        self.done.clear()

    def all(self) -> list[str]:
        if not self.done.wait(_PATIENCE):
            raise NetiError("ZooKeeper did not answer all questions")
        return self._answers

    def __call__(self, event: Event) -> None:
        if isinstance(event, Fresh):
            self.fresh.set()
        elif isinstance(event, LeaseRead):
            self._answers.append(event.host_id or "")
            if len(self._answers) == self._wanted:
                self.done.set()


def _one_by_one(agent: ZooKeeperRegistry, paths: list[str]) -> list[str]:
    """A request for each, so many in flight, and the next one from the answer."""
    client, answers, done = agent._client, [], threading.Event()
    assert client is not None
    left = iter(paths)

    def ask() -> None:
        path = next(left, None)
        if path is not None:
            client.submit(GetData(path, None), answered)

    def answered(answer: Any) -> None:
        answers.append(answer[0].decode())
        if len(answers) == len(paths):
            done.set()
        ask()

    for _ in range(_IN_FLIGHT):
        ask()
    if not done.wait(_PATIENCE):
        raise NetiError("ZooKeeper did not answer all questions")
    return answers
