"""Whole agents on one machine: a lab with the embedded registry, where every host has a kernel.

What a join takes there is what all hosts do at once on the processors of one machine; on machines
of their own each would do no more than its own part.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.figures import Line, Times, once
from benchmarks.kernels import Kernels
from benchmarks.process import cpu_of
from benchmarks.scale import Scale, say
from neti import config
from neti.errors import NetiError
from neti.model import Member, entry
from neti.registry.embedded.registry import EmbeddedRegistry
from neti_lab import agents, lifecycle
from neti_lab.state import LabState, open_state
from neti_lab.topology import LabPlan, plan_lab

_PATIENCE: Final = 180.0
_IDLE_SECONDS: Final = 0.005  # of one agent's CPU in a second
_AFTER_SECONDS: Final = 0.5  # agents gather changes for 0.2 s: each join finds them quiet
# Of the lab's site vpc; its own hosts end at .60.
_GUEST_PRIVATE: Final = IPv4Address("10.0.100.0")
_GUEST_PUBLIC: Final = IPv4Address("203.0.113.100")


@dataclass(slots=True)
class Joins:
    """From just before the registration is written; CPU is the agents', half a second later."""

    first: Times = field(default_factory=Times)
    middle: Times = field(default_factory=Times)
    last: Times = field(default_factory=Times)
    cpu: Times = field(default_factory=Times)
    listening: Times = field(default_factory=Times)  # CPU of the method itself


def measure(scale: Scale) -> list[Line]:
    # By this process' id, so that no other lab and no other benchmark has the name.
    plan = plan_lab(name=f"bench{os.getpid()}", hosts=max(1, scale.agents // 2))
    state = open_state(plan.name)
    count = len(plan.hosts)
    with ExitStack() as stack:
        say(f"embedded: a lab of {count} hosts")
        began = time.perf_counter()
        stack.enter_context(_lab(state, plan))
        built = time.perf_counter() - began
        kernels = stack.enter_context(Kernels(plan.namespace(host.name) for host in plan.hosts))
        writer = EmbeddedRegistry(state.registry_file, session_seconds=_PATIENCE)
        # Not closed: all agents would see the guests go while they are taken down.
        stack.callback(writer.detach)

        say(f"embedded: starting {count} whole agents")
        began = time.perf_counter()
        agents.start(plan, plan.hosts, state=state)
        up = _all_know_all(plan, state, kernels, writer) - began
        pids = _processes(plan, state)
        say("embedded: until all are idle")
        _until_idle(pids)
        starting = cpu_of(pids) / count

        subnet = config.load(state.config(plan.hosts[0].name)).overlay_subnet
        joins = Joins()
        for number in range(1, max(3, scale.rounds // 6) + 1):
            say(f"embedded: join {number}")
            _join(_guest(number, writer, subnet), writer, kernels, pids, joins)

        say("embedded: idle")
        cpu, began = cpu_of(pids), time.perf_counter()
        time.sleep(max(2.0, scale.seconds * 2))
        idle = (cpu_of(pids) - cpu) / (time.perf_counter() - began) * 100
        resident = [_mib(pid, "status", "VmRSS") for pid in pids]
        shared_once = sum(_mib(pid, "smaps_rollup", "Pss") for pid in pids)
        say("embedded: taking the lab down")
    return [
        Line(f"{count} whole agents: networks and services", once(built), None, 1.0, "s"),
        Line("  start: until all are in all kernels", once(up), None, 1.0, "s"),
        Line("  start: CPU of one agent, until idle", once(starting), None, 1.0, "s"),
        Line("  resident, all of them", once(sum(resident)), None, 1.0, "MiB"),
        Line("  resident, shared pages counted once", once(shared_once), None, 1.0, "MiB"),
        Line("  resident, the heaviest", once(max(resident)), None, 1.0, "MiB"),
        Line("  a join in the first kernel", joins.first, None),
        Line("  a join in half of the kernels", joins.middle, None),
        Line("  a join in the last kernel", joins.last, None),
        Line("  a join: CPU of one agent", joins.cpu, None),
        Line("  a join: CPU of listening to all kernels", joins.listening, None),
        Line("  idle: CPU of one agent", once(idle / count), None, 1.0, "%"),
        Line("  idle: CPU of all, of one core", once(idle), None, 1.0, "%"),
    ]


@contextmanager
def _lab(state: LabState, plan: LabPlan) -> Iterator[None]:
    """Without agents at first; nothing of it is left, whatever happens within."""
    with lifecycle.commanding(state):
        try:
            lifecycle.bring_up(state, plan, with_agents=False, provisional=True)
            yield
        finally:
            lifecycle.take_down(state)


def _all_know_all(
    plan: LabPlan, state: LabState, kernels: Kernels, registry: EmbeddedRegistry
) -> float:
    """When (time.perf_counter) the last kernel had the last of the hosts' overlay addresses."""

    def alive() -> None:
        agents.check_running(plan.hosts, state=state)

    deadline = time.perf_counter() + _PATIENCE
    while len(leases := registry.leases()) < len(plan.hosts):
        alive()
        if time.perf_counter() > deadline:
            raise NetiError(f"{len(plan.hosts) - len(leases)} agents took no overlay address")
        time.sleep(0.25)
    return kernels.wait_for_all(set(leases), seconds=_PATIENCE, alive=alive)


def _guest(number: int, registry: EmbeddedRegistry, subnet: IPv4Network) -> Member:
    """A host that is to join; its lease is there already, as a host has it that joins again."""
    name = f"guest-{number}"
    return Member(
        id=name,
        site="vpc",
        private=_GUEST_PRIVATE + number,
        public=_GUEST_PUBLIC + number,
        overlay=registry.acquire(name, subnet),
    )


def _join(
    guest: Member,
    registry: EmbeddedRegistry,
    kernels: Kernels,
    pids: Sequence[int],
    joins: Joins,
) -> None:
    name = entry.encode(guest)
    kernels.watch(guest.overlay)
    cpu, listening = cpu_of(pids), kernels.cpu()
    began = time.perf_counter()
    registry.register(host_id=guest.id, name=name, data=b"", detail=b"{}")
    seen = kernels.seen(seconds=_PATIENCE)
    joins.listening.each.append(kernels.cpu() - listening)
    time.sleep(_AFTER_SECONDS)
    joins.cpu.each.append((cpu_of(pids) - cpu) / len(pids))
    took = [at - began for at in seen.values()]
    joins.first.each.append(min(took))
    joins.middle.each.append(median(took))
    joins.last.each.append(max(took))


def _processes(plan: LabPlan, state: LabState) -> list[int]:
    found = [agents.agent_of(host, state=state) for host in plan.hosts]
    return [agent.pid for agent in found if agent is not None]


def _until_idle(pids: Sequence[int]) -> None:
    deadline = time.perf_counter() + _PATIENCE
    used = cpu_of(pids)
    while True:
        time.sleep(1.0)
        before, used = used, cpu_of(pids)
        if used - before < _IDLE_SECONDS * len(pids):
            return
        if time.perf_counter() > deadline:
            raise NetiError(f"the agents are still busy after {_PATIENCE:.0f} s")


def _mib(pid: int, file: str, field_: str) -> float:
    for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == field_:
            return int(rest.split()[0]) / 1024
    raise NetiError(f"process {pid} has no {field_}: it has ended")
