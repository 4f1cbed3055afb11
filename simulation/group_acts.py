"""What operators do to groups and to ``member_ports``, and what becomes of the registry's groups.

Must never do: what ``simulation/acts.py`` must not.
"""

import contextlib
from dataclasses import replace
from ipaddress import IPv4Address
from random import Random
from typing import Any, Final

from neti.agent.told import Reload
from neti.errors import NetiError
from neti.fleet import group_edits
from neti.model.groups import EVERY_MEMBER, GroupLine, Groups, MemberPort, MemberPorts
from neti.oneshot import grouping
from neti.oneshot.grouping import Edit
from neti.registry.groups import decode
from neti.registry.memory import MemoryRegistry
from neti.ruleset.member_ports import both
from neti.state.folder import GROUPS_FILE
from simulation import disk_acts, operator_acts
from simulation.acts import TRIAL, Stage, act
from simulation.clock import HostClock
from simulation.group_invariants import ASKED
from simulation.host import SimulatedHost
from simulation.truth import MENDED_WITHIN

DATABASE, WEB, _ = ASKED
GROUPS: Final = ("db", "app")
# What the file of a host may say.
FILES: Final[tuple[MemberPorts, ...]] = (
    None,
    (MemberPort(("db",), "tcp", DATABASE, DATABASE), MemberPort(("app",))),
    (MemberPort(("app", "db"), "tcp", DATABASE, DATABASE),),
    (MemberPort(("db",), "tcp", DATABASE, DATABASE),),
    (
        MemberPort((EVERY_MEMBER,), "tcp", WEB, WEB + 100),
        MemberPort(("db",), "tcp", DATABASE, DATABASE),
    ),
    (MemberPort(("db",)),),
)


def _a_file(chance: Random) -> tuple[int]:
    return (chance.choice((0, 1, 1, 2, 2, 3, 3, 4, 5)),)


# --- groups ---


def _drawn_group(chance: Random) -> tuple[Any, ...]:
    """Numbers of hosts; whether its command is told that it takes many out; for how long."""
    numbers = tuple(sorted(chance.sample(range(1, 13), chance.randrange(8))))
    return numbers, chance.random() < 0.3, chance.choice((None, None, 5, 400))


def _ids(numbers: tuple[int, ...]) -> list[str]:
    return [f"{'ec2' if number % 2 else 'vpc'}-{number}" for number in numbers]


@act(
    "an operator says that group db is hosts {} (takes many out: {}; for seconds: {})",
    2,
    _drawn_group,
    of_host=False,
)
def group_db(stage: Stage, numbers: tuple[int, ...], shrink: bool, seconds: float | None) -> None:
    """As the command does: refused while it would take out many, or is not told whom."""
    now = HostClock(stage.world.time).wall()
    until = None if seconds is None else now + seconds
    lines = tuple(GroupLine(host_id, until=until) for host_id in _ids(numbers))
    _define(stage, "db", lambda groups: group_edits.with_set(groups, "db", lines), shrink=shrink)


@act(
    "an operator adds host {1} to group {0}, for seconds: {2}",
    1.5,
    lambda c: (c.choice(GROUPS), c.randrange(1, 13), c.choice((None, None, 5, 400))),
    of_host=False,
)
def group_add(stage: Stage, name: str, number: int, seconds: float | None) -> None:
    until = None if seconds is None else HostClock(stage.world.time).wall() + seconds
    lines = tuple(GroupLine(host_id, until=until) for host_id in _ids((number,)))
    _define(stage, name, lambda groups: group_edits.with_added(groups, name, lines))


@act(
    "an operator adds {1} of site {2} to group {0}",
    1,
    lambda c: (c.choice(GROUPS), c.choice(("*", "*-?", "ec2-*")), c.choice(("", "ec2", "vpc"))),
    of_host=False,
)
def group_pattern(stage: Stage, name: str, pattern: str, site: str) -> None:
    lines = (GroupLine(pattern, site),)
    _define(stage, name, lambda groups: group_edits.with_added(groups, name, lines))


@act(
    "an operator takes line {1} out of group {0} (many: {2})",
    1.5,
    lambda c: (c.choice(GROUPS), c.randrange(6), c.random() < 0.3),
    of_host=False,
)
def group_remove(stage: Stage, name: str, number: int, shrink: bool) -> None:
    def without(groups: Groups) -> dict[str, tuple[GroupLine, ...]]:
        held = groups.lines.get(name) or (GroupLine("nobody"),)
        words = [held[number % len(held)].pattern]
        return group_edits.with_removed(groups, name, words, None)

    _define(stage, name, without, shrink=shrink)


@act(
    "an operator deletes group {}",
    0.5,
    lambda c: (c.choice(GROUPS),),
    of_host=False,
)
def group_delete(stage: Stage, name: str) -> None:
    _define(stage, name, lambda groups: group_edits.with_deleted(groups, name), shrink=True)


def groups_again(stage: Stage) -> None:
    """Where the registry forgot them, or has older ones, an operator says what is to be."""
    _define(stage, "db", lambda groups: {**dict.fromkeys(GROUPS, ()), **groups.lines}, shrink=True)


def _define(stage: Stage, name: str, edit: Edit, *, shrink: bool = False) -> None:
    world = stage.world
    if world.server._down:
        return
    # Two within a second, in a registry and in an older copy of it, are two editions.
    stage.editions += 1
    with contextlib.suppress(NetiError):
        grouping.change(
            world.hosts[0].settings,
            MemoryRegistry(world.server),
            name,
            edit,
            now=HostClock(world.time).wall() + stage.editions,
            shrink=shrink,
        )
    stage.truth.said_of_groups(decode(MemoryRegistry(world.server).setting("groups")))
    world.settle()


# --- the file ---


@act("its member_ports are file number {}, and it is told", 2, _a_file)
def member_ports(stage: Stage, host: SimulatedHost, number: int) -> None:
    """What was let in right before is let in right after, whatever was taken away."""
    if not host.answers:
        _write(stage, host, number)
        return
    for _ in range(3):
        host.step()  # what it has heard already is none of the file's doing
    # What an operator took out of a group is on its way: the reload's transaction takes it along.
    on_its_way = host.agent is not None and host.agent.core.members.elements.pending
    before, dropped = [] if on_its_way else _let_in(host), host.kernel.drops
    _write(stage, host, number)
    host._tell(Reload())
    host.step()
    after, members = _let_in(host), host.kernel.members()
    # Somebody who has left may go in the same moment.
    lost = [one for one in before if one not in after and one[0] in members] if host.answers else []
    # What another program had opened is mended with the reload.
    meddled = stage.world.time.now - stage.truth.of(host).meddled <= MENDED_WITHIN
    # A trial that could not begin until now, as reject_all wants it, begins with the reload.
    armed = host.kernel.drops and not dropped
    if lost and host.kernel.failing is None and not meddled and not armed:
        source, port = lost[0]
        stage.fault("reload", host, f"{source} reached port {port} until the file was read")


def _write(stage: Stage, host: SimulatedHost, number: int) -> None:
    ports = FILES[number % len(FILES)]
    host.settings = replace(host.settings, member_ports=ports)
    word = stage.truth.of(host)
    word.ports = None if word.ports is None else both(word.ports, ports)


def _let_in(host: SimulatedHost) -> list[tuple[IPv4Address, int]]:
    kernel = host.kernel
    sources = sorted(kernel.members())
    return [(one, port) for one in sources for port in ASKED if kernel.reaches(one, port)]


@act(
    "groups are defined, all files are number {}, all enforce, and {} s",
    2,
    lambda c: (*_a_file(c), TRIAL + 2.0),
    of_host=False,
)
def ports_wholly(stage: Stage, number: int, seconds: float) -> None:
    """So that a fleet comes to where members are kept out."""
    for name, numbers in (("db", (1, 2)), ("app", (2, 3))):
        lines = tuple(GroupLine(host_id) for host_id in _ids(numbers))
        if name not in stage.truth.groups:
            _define(stage, name, _setting(name, lines))
    for host in stage.world.hosts:
        member_ports(stage, host, number)
    stage.world.pass_time(5.0)
    for host in stage.world.hosts:
        operator_acts.enforce(stage, host, False, False)
    stage.world.pass_time(seconds)


def _setting(name: str, lines: tuple[GroupLine, ...]) -> Edit:
    return lambda groups: group_edits.with_set(groups, name, lines)


# --- who calls, and what is lost ---


@act(
    "host number {} calls port {} of it",
    2,
    lambda c: (c.randrange(50), c.choice(ASKED)),
)
def member_calls(stage: Stage, host: SimulatedHost, number: int, port: int) -> None:
    sources = sorted(host.kernel.members())
    if sources:
        host.kernel.call(sources[number % len(sources)], port)


@act("its file of groups is torn (a power cut, or a bad disk)", 0.7)
def tear_groups(stage: Stage, host: SimulatedHost) -> None:
    names = sorted(host.disk.files)
    if GROUPS_FILE in names:
        disk_acts.tear(stage, host, names.index(GROUPS_FILE))


__all__ = ["FILES", "groups_again"]
