"""What becomes of the registry, and who writes to it.

Must never do: what ``simulation/acts.py`` must not.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Final

from neti.agent.own_entry import own_member
from neti.model import Member, entry
from neti.oneshot import strict
from neti.registry.memory import MemoryRegistry
from neti.registry.strict import is_strict
from simulation.acts import Stage, act
from simulation.group_invariants import in_groups, put_out
from simulation.host import SimulatedHost
from simulation.name_invariants import followed, taken_away
from simulation.world import FORGED_PRIVATE, SITES, World, is_forged


@act("the registry is away", 1, of_host=False)
def registry_away(stage: Stage) -> None:
    stage.world.registry_away()


@act("the registry is back", 3, of_host=False)
def registry_back(stage: Stage) -> None:
    stage.world.registry_back()


@act("cannot reach the registry", 1.5)
def cut(stage: Stage, host: SimulatedHost) -> None:
    host.cut_off()


@act("reaches the registry again", 3)
def mend(stage: Stage, host: SimulatedHost) -> None:
    host.reach_again()


@act(
    "site {} cannot reach the registry",
    0.5,
    lambda c: (c.choice(tuple(SITES)),),
    of_host=False,
)
def partition(stage: Stage, site: str) -> None:
    for host in stage.world.hosts:
        if host.host.site == site:
            host.cut_off()


@act("all reach the registry again", 1.5, of_host=False)
def reunion(stage: Stage) -> None:
    for host in stage.world.hosts:
        host.reach_again()


@act("its session ends", 1)
def expire(stage: Stage, host: SimulatedHost) -> None:
    if host.registry is not None and host.registry.session is not None:
        stage.world.server.expire(host.registry.session)


@contextlib.contextmanager
def _groups_stay(stage: Stage) -> Iterator[None]:
    """Where there are any, and names."""
    world = stage.world
    before, named = in_groups(world) if stage.truth.groups else {}, followed(world)
    yield
    if any(before.values()) or any(names.edition for names in named.values()):
        world.pass_time(3.0)
        for host, sentence in taken_away(world, named):
            stage.fault("names_guard", host, sentence)
        for host, sentence in put_out(world, before):
            stage.fault("groups_guard", host, sentence)


@act("the registry is wiped", 0.3, of_host=False)
def wipe(stage: Stage) -> None:
    server = stage.world.server
    with _groups_stay(stage):
        server.stop()
        stage.world.settle()
        server.wipe()
        stage.truth.wiped = True
        stage.fakes.clear()
        stage.world.registry_back()


@act("the registry is copied", 0.5, of_host=False)
def copy_registry(stage: Stage) -> None:
    stage.registry_copy = stage.world.server.copied()


@act("the registry is restored from its copy", 0.4, of_host=False)
def restore_registry(stage: Stage) -> None:
    server, copy = stage.world.server, stage.registry_copy
    if copy is None:
        return
    with _groups_stay(stage):
        server.stop()
        stage.world.settle()
        server.restore_copy(copy)
        stage.world.registry_back()
        server.expire_orphans()


JUNK: Final = ("junk", "left.x", "1.0a000001c6336401c0a80001.0.ec2.ec2-1", "1." + "f" * 58)


@act("somebody writes {} into the registry", 1, lambda c: (c.choice(JUNK),), of_host=False)
def junk(stage: Stage, name: str) -> None:
    stage.world.server.put(name)


@act("somebody takes {} out of the registry", 1, lambda c: (c.choice(JUNK),), of_host=False)
def no_junk(stage: Stage, name: str) -> None:
    stage.world.server.remove(name)


@act(
    "a member claims to be at {}, and then is not",
    1,
    lambda c: (c.choice(("gateway", "registry", "public", "private")),),
)
def claim(stage: Stage, host: SimulatedHost, whose: str) -> None:
    """With a lease of its own, so that it is believed."""
    world = stage.world
    private = {
        "gateway": host.machine.gateways[0],
        "registry": min(host.reserved, key=str),
        "public": IPv4Address("10.0.0.251"),
        "private": host.host.private,
    }[whose]
    public = host.host.public if whose == "public" else IPv4Address("198.51.100.251")
    assert isinstance(private, IPv4Address)
    name = _fake(stage, "liar-1", host.host.site, private, public)
    if name is not None:
        world.settle()
        stage.truth.look(world)
        world.server.put_word("liar-1", _departure(name))
        world.server.remove(name)
        stage.truth.look(world)
        world.settle()
        world.server.remove(_departure(name))


def _departure(name: str) -> str:
    parsed = entry.parse(name)
    assert isinstance(parsed, Member)
    return entry.encode_departure(parsed)


def _fake(
    stage: Stage, host_id: str, site: str, private: IPv4Address, public: IPv4Address | None
) -> str | None:
    server = stage.world.server
    held = next((o for o, i in server._leases.items() if i == host_id), None)
    if held is None:
        number = 3000 + sum(map(ord, host_id)) * 40 + len(server._leases)
        held = IPv4Address(int(IPv4Address("192.168.32.0")) + number % 7000)
        if held in server._leases:
            return None
        server._leases[held] = host_id
    name = entry.encode(
        Member(id=host_id, site=site, private=private, public=public, overlay=held, generation=0)
    )
    server.put_word(host_id, name)
    return name


@act(
    "{} members that nobody knows appear in {}",
    0.7,
    lambda c: (c.choice((2, 6, 30)), c.choice(tuple(SITES))),
    of_host=False,
)
def strangers(stage: Stage, count: int, site: str) -> None:
    for number in range(count):
        private = IPv4Address(int(IPv4Address("10.0.7.0")) + number)
        public = IPv4Address(
            f"{'198.51.100' if site == 'ec2' else '203.0.113'}.{200 + number % 40}"
        )
        name = _fake(stage, f"fake-{site}-{number}", site, private, public)
        if name is not None and name not in stage.fakes:
            stage.fakes.append(name)


@act("they vanish", 0.7, of_host=False)
def strangers_vanish(stage: Stage) -> None:
    for name in stage.fakes:
        stage.world.server.remove(name)
    stage.fakes.clear()


@act("somebody forges its entry, of generation {}", 1, lambda c: (c.choice((0, 1, 7, 46_656)),))
def forge(stage: Stage, host: SimulatedHost, generation: int) -> None:
    """It leads elsewhere. Only where records decide does nobody believe it."""
    server = stage.world.server
    held = next((o for o, i in server._leases.items() if i == host.id), None)
    if held is not None and _all_strict(stage.world):
        elsewhere = replace(host.host, private=FORGED_PRIVATE)
        server.put(entry.encode(own_member(elsewhere, held, (), skip=generation)))
        stage.world.settle()


@act("somebody forges its goodbye", 1)
def forge_goodbye(stage: Stage, host: SimulatedHost) -> None:
    if _all_strict(stage.world):
        stage.world.server.put(f"left.zz.{host.id}")
        stage.world.settle()


def _all_strict(world: World) -> bool:
    """Before that, what somebody forged may be believed."""
    running = [host.agent for host in world.hosts if host.agent is not None]
    heard = all(agent.core.members.fleet.records == "strict" for agent in running)
    return heard and is_strict(world.server._settings.get("strict"))


@act("an operator says that records decide", 1.5, of_host=False)
def strict_on(stage: Stage) -> None:
    """As the command does: not while somebody would vanish by it."""
    world = stage.world
    if world.tls is None or world.server._down:
        return
    registry = MemoryRegistry(world.server)
    if not strict.look(world.hosts[0].settings, registry).unvouched:
        strict.say(registry, on=True, clock=lambda: world.time.now)
    world.settle()


@act("an operator says that records do not decide", 0.3, of_host=False)
def strict_off(stage: Stage) -> None:
    """What was forged is taken away first."""
    world = stage.world
    if world.server._down:
        return
    for name in forged(world):
        world.server.remove(name)
    registry = MemoryRegistry(world.server)
    if registry.setting("strict") is not None:
        strict.say(registry, on=False, clock=lambda: world.time.now)
    world.settle()


def forged(world: World) -> list[str]:
    return [name for name in world.server._names if is_forged(name)]


@act("a copy of it starts beside it", 0.4)
def clone(stage: Stage, host: SimulatedHost) -> None:
    """Another machine with this one's id and state folder."""
    world = stage.world
    if "'" in host.label or any(other.label == f"{host.label}'" for other in world.hosts):
        return
    if len(world.hosts) >= 60:
        return
    number = world.hosts.index(host) + 1
    made = world.add(number, label=f"{host.label}'")
    made.host, made.machine_id = host.host, host.machine_id
    made.machine.private = host.host.private
    made.settings = replace(made.settings, sites=host.settings.sites)
    made.disk.put_back(host.disk.copied())
    stage.truth.of(made).damaged = True
    made.start()
    world.settle()
