"""What is promised of groups and ``member_ports``, looked at in kernels alone.

Must never do: take an agent's word for who may reach what.
"""

from collections.abc import Iterator
from typing import Final

from neti.registry.groups import decode
from neti.ruleset.member_ports import admits
from simulation.host import SimulatedHost
from simulation.truth import MENDED_WITHIN, Truth, Word
from simulation.world import World

ASKED: Final = (5432, 8000, 9000)
Found = Iterator[str]


def outside(world: World, truth: Truth, host: SimulatedHost) -> Found:
    """Keeping members out of ports: once in force, nobody reaches a port who never was in one of
    its groups, whatever becomes of the agent, the disk and the registry."""
    word, kernel = truth.of(host), host.kernel
    if word.ports is None or not _counts(world, host, word) or not kernel.drops:
        return
    for source in sorted(kernel.members()):
        groups = truth.ever_in(str(source))
        for port in ASKED:
            if not admits(word.ports, groups, "tcp", port) and kernel.reaches(source, port):
                yield f"{source} reaches port {port}, and was never in a group that may"


def narrowed(world: World, truth: Truth, host: SimulatedHost) -> Found:
    """Keeping members out of ports: a trial ends by the kernel's own clock."""
    table = host.kernel.table
    if table is not None and any(left is None for left in table.narrowed.values()):
        yield "map narrowed drops without an end"


def no_trial(world: World, truth: Truth, host: SimulatedHost) -> Found:
    """Keeping members out of ports: nothing is narrowed while no trial is."""
    agent = host.agent
    if agent is None or not host.answers or host.late or not _counts(world, host, truth.of(host)):
        return
    if host.kernel.narrowed() and agent.core.stage.record.trial is None:
        yield "the kernel narrows, and there is no trial"


def in_groups(world: World) -> dict[str, dict[str, frozenset[str]]]:
    """By host and set of a group who is in it, on hosts that know all that the registry said. Not
    of groups with a line that ends: time puts those out."""
    said = decode(world.server._settings.get("groups"))
    ends = {n for n, lines in said.lines.items() if any(one.until is not None for one in lines)}
    return {
        host.label: {
            name: held for name, held in _sets(host).items() if name.split("_")[1] not in ends
        }
        for host in world.hosts
        if host.caught_up and host.answers
    }


def put_out(
    world: World, before: dict[str, dict[str, frozenset[str]]]
) -> Iterator[tuple[SimulatedHost, str]]:
    """Keeping members out of ports: a registry that forgot its groups, or has older ones, puts no
    member out of one."""
    for host in world.hosts:
        now, members = _sets(host), set(map(str, host.kernel.members()))
        if not host.answers:
            continue
        for name, held in before.get(host.label, {}).items():
            gone = sorted((held - now.get(name, held)) & members)
            if gone:
                yield host, f"{gone[0]} was put out of {name} by nobody"


def _sets(host: SimulatedHost) -> dict[str, frozenset[str]]:
    table = host.kernel.table
    if table is None:
        return {}
    elements = {str(name): held for name, held in table.elements.items()}
    names = {name.partition(" ")[2] for name, _ in table.sets}
    return {n: frozenset(elements.get(n, ())) for n in names if n.startswith("group_")}


def _counts(world: World, host: SimulatedHost, word: Word) -> bool:
    """Whether the table is what this host's agents left there, and they know all they ever did."""
    if word.damaged or word.down or word.torn or host.unsaved or host.kernel.table is None:
        return False
    if world.time.now - word.meddled <= MENDED_WITHIN or host.kernel.marked_down():
        return False
    agent = host.agent
    if agent is None and word.meddled >= host.deaf_from - MENDED_WITHIN:
        return False  # another program changed it, and no agent lived to see to it
    # Then every member reaches every port until the registry says who is in which group.
    return agent is None or agent.core.members.groups.known
