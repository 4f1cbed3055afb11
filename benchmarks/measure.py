"""The measurements themselves. Each returns numbers and judges none."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import mean

from tests.support.agent_process import AgentProcess

from benchmarks import registry
from benchmarks.figures import Times
from benchmarks.fleet import AGENT_PRIVATE, AGENT_PUBLIC, member
from benchmarks.stage import Stage
from neti.dataplane.nftables import NftablesDataplane
from neti.errors import NetiError
from neti.model import Host, Member
from neti.ruleset.delta import Elements
from neti.ruleset.objects import Structure, Transaction
from neti.ruleset.plan import REVOKE_SECONDS
from neti.ruleset.policy import structure
from neti.ruleset.reach import elements_of
from neti.ruleset.replace import replacement
from neti.ruleset.surroundings import Surroundings
from neti_lab.namespaces import call_inside

_PAUSE = 0.01  # between two changes, so that each finds everybody idle
_FILL_SECONDS = 120.0
_START_SECONDS = 60.0
_WARM_UP = 20
_HOST = Host(id="bench", site="ec2", private=AGENT_PRIVATE, public=AGENT_PUBLIC)


@dataclass(slots=True, kw_only=True)
class Changes:
    """Of one fleet's size. CPU is that of one change, the mean."""

    members: int
    join: Times = field(default_factory=Times)
    leave: Times = field(default_factory=Times)
    join_cpu: float = 0.0
    leave_cpu: float = 0.0

    @property
    def cpu(self) -> float:
        """Half of the changes are joins."""
        return (self.join_cpu + self.leave_cpu) / 2


@dataclass(slots=True, kw_only=True)
class Start:
    """Seconds until the rules are in place; ``join``: how long a join takes half a second later,
    while leases are still being read; ``settled``: until every lease is read and the agent has
    nothing more to do; ``mib``: resident then, and at most until then."""

    seconds: list[float] = field(default_factory=list)
    join: list[float] = field(default_factory=list)
    settled: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    mib: list[float] = field(default_factory=list)
    peak_mib: list[float] = field(default_factory=list)


class Fleet:
    """The members that ZooKeeper holds, and fresh ones to join: nobody joins a second time."""

    def __init__(self, stage: Stage, *, records: bool = False) -> None:
        """``records``: each member has one that vouches for it."""
        self._stage = stage
        self._register = registry.register_with_records if records else registry.register
        self.members: list[Member] = []
        self._next = 0

    def grow(self, count: int) -> None:
        new = self._fresh(count - len(self.members))
        call_inside(self._stage.registry, lambda: registry.lease(new))
        call_inside(self._stage.registry, lambda: self._register(new))
        self.members += new

    def joiners(self, count: int) -> list[Member]:
        """With leases, which a host has before it registers."""
        new = self._fresh(count)
        call_inside(self._stage.registry, lambda: registry.lease(new))
        return new

    def _fresh(self, count: int) -> list[Member]:
        numbers = range(self._next, self._next + count)
        self._next = numbers.stop
        return [member(number) for number in numbers]


def wait_until_known(stage: Stage, agent: AgentProcess, count: int) -> None:
    """Until the agent's kernel holds ``count`` members and the agent itself."""
    deadline = time.monotonic() + _FILL_SECONDS
    while stage.overlay_count() != count + 1:
        agent.check()
        if time.monotonic() > deadline:
            raise NetiError(f"{count} members are not in the kernel after {_FILL_SECONDS:.0f} s")
        time.sleep(0.2)
    agent.wait_until_idle()


@contextlib.contextmanager
def raw_kernel(
    stage: Stage, members: Iterable[Member]
) -> Iterator[tuple[NftablesDataplane, Callable[[], Transaction]]]:
    """A kernel that holds these members and has no agent, and what would load all of it anew."""
    elements = Elements(revoke_seconds=REVOKE_SECONDS)
    for present in members:
        wish(stage, elements, present, True)
    with _raw(stage, elements) as dataplane:
        rules = _rules(stage)
        kernel = dataplane.read()
        yield dataplane, lambda: replacement(rules, elements, kernel, grace_seconds=0)


@contextlib.contextmanager
def _raw(stage: Stage, elements: Elements) -> Iterator[NftablesDataplane]:
    dataplane = stage.raw_dataplane()
    try:
        new = replacement(_rules(stage), elements, dataplane.read(), grace_seconds=0)
        dataplane.apply(new)
        elements.kernel_is(dataplane.read())
        yield dataplane
    finally:
        dataplane.close()


def _rules(stage: Stage) -> Structure:
    return structure(stage.settings, Surroundings(uplinks=("eth0",), ssh_untracked=True))


def by_libnftables(stage: Stage, members: Sequence[Member], rounds: int) -> Changes:
    """The same transactions in a kernel with the same elements, with nothing around them."""
    result = Changes(members=len(members))
    elements = Elements(revoke_seconds=REVOKE_SECONDS)
    for present in members:
        wish(stage, elements, present, True)
    join_cpu: list[float] = []
    leave_cpu: list[float] = []
    rounds_of = ((True, result.join, join_cpu), (False, result.leave, leave_cpu))
    first = max((int(m.overlay) for m in members), default=0) - int(member(0).overlay) + 1
    with _raw(stage, elements) as dataplane:
        for number in range(first, first + _WARM_UP + rounds):
            for wanted, times, cpu in rounds_of:
                wish(stage, elements, member(number), wanted)
                changes = elements.changes()
                transaction = Transaction(tuple(changes.commands()))
                time.sleep(_PAUSE)
                cpu_before, started = time.thread_time(), time.perf_counter()
                dataplane.apply(transaction)
                if number >= first + _WARM_UP:
                    times.each.append(time.perf_counter() - started)
                    cpu.append(time.thread_time() - cpu_before)
                elements.applied(changes)
    result.join_cpu, result.leave_cpu = mean(join_cpu), mean(leave_cpu)
    return result


def wish(stage: Stage, elements: Elements, about: Member, wanted: bool) -> None:
    act = elements.want if wanted else elements.unwant
    for element in elements_of(about, host=_HOST, sites=stage.settings.sites):
        act(element.where, element.key, element.value)


def zookeeper_alone(stage: Stage, rounds: int) -> Times:
    """One write, from the request to its answer: no join can be faster than about that."""
    times = Times()
    session = stage.session()
    try:
        for number in range(rounds):
            started = time.perf_counter()
            session.send_create(f"/bench-{number}", b"")
            session.finish(1)
            times.each.append(time.perf_counter() - started)
            time.sleep(_PAUSE)
    finally:
        session.close()
    return times


def start(stage: Stage, fleet: Fleet, into: Start) -> None:
    """A first start: nothing on disk, nothing in the kernel, everything in ZooKeeper."""
    overlays = {present.overlay for present in fleet.members}
    (joiner,) = fleet.joiners(1)
    events, session = stage.events(stage.host), stage.session()
    try:
        started = time.perf_counter()
        with stage.agent() as agent:
            done = events.wait_for_all(overlays, seconds=_START_SECONDS, alive=agent.check)
            sent = time.perf_counter()
            count = registry.send_join(session, joiner)
            into.join.append(events.wait_for("added", joiner.overlay, seconds=60.0) - sent)
            agent.wait_until_idle()
            session.finish(count)
            into.settled.append(time.perf_counter() - 1.0 - started)
            into.seconds.append(done - started)
            into.cpu.append(agent.cpu_seconds())
            now, most = agent.memory_mib()
            into.mib.append(now)
            into.peak_mib.append(most)
            agent.leave()
    finally:
        events.close()
        session.close()
