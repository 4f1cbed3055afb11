"""What it costs a host to hold a WireGuard peer for each of thousands of members: its agent and
wireguard-go, beside the same agent where nobody encrypts.

Every member is in the other site and has a key. None of them answers, which is the worst that they
can do: each is tried over and over, and the agent looks whether one has.
"""

import hashlib
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from tests.support.agent_process import AgentProcess

from benchmarks import fleet, registry
from benchmarks.figures import Line, Report, Times
from benchmarks.kernel import NotInTime
from benchmarks.pairs import background
from benchmarks.process import cpu_of
from benchmarks.road_stage import listens, wait_for
from benchmarks.scale import Scale, say
from benchmarks.sides import NetiSide
from benchmarks.stage import Stage
from neti.dataplane.wireguard import DEVICE
from neti.errors import NetiError
from neti.model import Member
from neti.model.wireguard_key import PublicKey
from neti_lab import namespaces, wireguard

NAME: Final = "encrypted_fleet"
TITLE: Final = "An agent with thousands of WireGuard peers, with wireguard-go"
_PATIENCE: Final = 120.0
_PAUSE: Final = 0.05  # between two changes, and after each until its processor time is read
_WARM_UP: Final = 3


@dataclass(slots=True)
class Seen:
    """``wireguard``: of wireguard-go."""

    start: Times = field(default_factory=Times)
    start_cpu: Times = field(default_factory=Times)
    start_wireguard: Times = field(default_factory=Times)
    restart: Times = field(default_factory=Times)
    restart_cpu: Times = field(default_factory=Times)
    join: Times = field(default_factory=Times)
    join_cpu: Times = field(default_factory=Times)
    join_wireguard: Times = field(default_factory=Times)
    leave: Times = field(default_factory=Times)
    leave_cpu: Times = field(default_factory=Times)
    mib: Times = field(default_factory=Times)
    peak_mib: Times = field(default_factory=Times)
    wireguard_mib: Times = field(default_factory=Times)
    idle: Times = field(default_factory=Times)
    idle_wireguard: Times = field(default_factory=Times)


def run(scale: Scale) -> Report:
    report = Report(TITLE)
    lines: list[Line] = []
    sizes = (scale.largest,)
    with Stage() as stage:
        every: list[Member] = []
        for size in sizes:
            new = [_member(number) for number in range(len(every), size)]
            namespaces.call_inside(stage.registry, partial(registry.lease, new))
            register = partial(registry.register_with_records, new, key_of)
            namespaces.call_inside(stage.registry, register)
            every += new
            joiners = [_member(size + number) for number in range(_WARM_UP + scale.rounds)]
            namespaces.call_inside(stage.registry, partial(registry.lease, joiners))
            seen = {}
            for word in ("prefer", "off"):
                say(f"encrypted_fleet: {size:,} members, {word}")
                seen[word] = _measured(stage, every, joiners, word, scale)
            lines += _lines(size, seen["prefer"], seen["off"])
    report.compare(lines, ours="encrypts", other="nobody encrypts")
    return report


def _member(number: int) -> Member:
    """All in the site where the agent is not."""
    return fleet.member(2 * number + 1)


def key_of(member: Member) -> str:
    return str(PublicKey(hashlib.sha256(member.id.encode()).digest()))


def _measured(
    stage: Stage, every: Sequence[Member], joiners: Sequence[Member], word: str, scale: Scale
) -> Seen:
    seen, encrypts = Seen(), word != "off"
    stage.encrypt(word)
    with ExitStack() as stack:
        inside: tuple[str, ...] = ()
        program: list[int] = []
        if encrypts:
            sockets = stage.folder / "wireguard"
            inside = tuple(wireguard.seeing(sockets))
            line = namespaces.command_inside(stage.host, [*inside, "wireguard-go", "-f", DEVICE])
            program.append(background(stack, line))
            wait_for(partial(listens, sockets), "wireguard-go does not listen")
        began = time.perf_counter()
        agent = stack.enter_context(stage.agent(inside=inside))
        _until_held(agent, len(every), encrypts)
        seen.start.each.append(time.perf_counter() - began)
        seen.start_cpu.each.append(agent.cpu_seconds())
        seen.start_wireguard.each.append(cpu_of(program))
        time.sleep(scale.seconds)
        _rest(agent, program, seen, scale.seconds * 4)
        side = NetiSide(stage, agent)
        session = stage.session()
        try:
            for number, joiner in enumerate(joiners):
                _change(side, session, joiner, program, seen if number >= _WARM_UP else Seen())
        finally:
            session.close()
            side.close()
        agent.end()
        began = time.perf_counter()
        agent.start()
        _until_held(agent, len(every), encrypts)
        seen.restart.each.append(time.perf_counter() - began)
        seen.restart_cpu.each.append(agent.cpu_seconds())
        agent.leave()
    return seen


def _rest(agent: AgentProcess, program: list[int], into: Seen, seconds: float) -> None:
    before = agent.cpu_seconds(), cpu_of(program)
    time.sleep(seconds)
    into.idle.each.append((agent.cpu_seconds() - before[0]) / seconds * 100)
    into.idle_wireguard.each.append((cpu_of(program) - before[1]) / seconds * 100)
    now, most = agent.memory_mib()
    into.mib.each.append(now)
    into.peak_mib.each.append(most)
    into.wireguard_mib.each.append(sum(map(_resident, program)))


def _change(
    side: NetiSide, session: registry.Session, joiner: Member, program: list[int], into: Seen
) -> None:
    side.ready()
    cpu, wireguard_cpu, began = side.cpu(), cpu_of(program), time.perf_counter()
    session.send_registration(joiner, key=key_of(joiner))
    into.join.each.append(side.wait("added", joiner) - began)
    session.finish(1)
    time.sleep(_PAUSE)
    into.join_cpu.each.append(side.cpu() - cpu)
    into.join_wireguard.each.append(cpu_of(program) - wireguard_cpu)
    cpu, began = side.cpu(), time.perf_counter()
    session.finish(registry.send_leaving(session, joiner))
    into.leave.each.append(side.wait("removed", joiner) - began)
    time.sleep(_PAUSE)
    into.leave_cpu.each.append(side.cpu() - cpu)
    session.finish(registry.send_forgotten(session, joiner))
    time.sleep(_PAUSE)


def _until_held(agent: AgentProcess, count: int, encrypts: bool) -> None:
    """Until it has them all, and where it encrypts, a peer for each of them."""
    deadline = time.monotonic() + _PATIENCE
    while not _held(agent, count, encrypts):
        agent.check()
        if time.monotonic() > deadline:
            raise NotInTime(f"{count} members are not there after {_PATIENCE:.0f} s")
        time.sleep(0.2)


def _held(agent: AgentProcess, count: int, encrypts: bool) -> bool:
    try:
        status = agent.ask("status")
    except NetiError:
        return False
    if int(status["peers"]) < count or not status["registered"]:
        return False
    if not encrypts:
        return True
    sites = (status["encryption"] or {}).get("sites") or {}
    return sum(int(c["trying"]) + int(c["preferred"]) for c in sites.values()) >= count


def _resident(process: int) -> float:
    """MiB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def _lines(size: int, ours: Seen, other: Seen) -> list[Line]:
    both = [a + b for a, b in zip(ours.mib.each, ours.wireguard_mib.each, strict=True)]
    return [
        Line(f"{size:,}: a start until all have a peer", ours.start, other.start, 1.0, "s"),
        Line(f"{size:,}:   CPU of the agent", ours.start_cpu, other.start_cpu, 1.0, "s"),
        Line(f"{size:,}:   CPU of wireguard-go", ours.start_wireguard, None, 1.0, "s"),
        Line(f"{size:,}: a restart of the agent", ours.restart, other.restart, 1.0, "s"),
        Line(f"{size:,}:   its CPU", ours.restart_cpu, other.restart_cpu, 1.0, "s"),
        Line(f"{size:,}: memory of the agent", ours.mib, other.mib, 1.0, "MiB"),
        Line(f"{size:,}:   at most", ours.peak_mib, other.peak_mib, 1.0, "MiB"),
        Line(f"{size:,}: memory of wireguard-go", ours.wireguard_mib, None, 1.0, "MiB"),
        Line(f"{size:,}:   of both", Times(both), None, 1.0, "MiB"),
        Line(f"{size:,}: a join", ours.join, other.join),
        Line(f"{size:,}:   CPU of the agent", ours.join_cpu, other.join_cpu),
        Line(f"{size:,}:   CPU of wireguard-go", ours.join_wireguard, None),
        Line(f"{size:,}: a leave", ours.leave, other.leave),
        Line(f"{size:,}:   CPU of the agent", ours.leave_cpu, other.leave_cpu),
        Line(f"{size:,}: nothing happens: agent, of a core", ours.idle, other.idle, 1.0, "%"),
        Line(f"{size:,}:   wireguard-go", ours.idle_wireguard, None, 1.0, "%"),
    ]
