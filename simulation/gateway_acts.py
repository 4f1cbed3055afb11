"""What operators do about gateways, and what becomes of the hosts that are behind them.

Must never do: what ``simulation/acts.py`` must not.
"""

import contextlib
import itertools
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Final

from neti.dataplane.monitor import NetworkChanged
from neti.errors import NetiError
from neti.model import Encrypt
from neti.oneshot import draining
from neti.registry.memory import MemoryRegistry
from simulation import gateways, road_acts
from simulation.acts import TRIAL, Stage, act
from simulation.host import SimulatedHost
from simulation.truth import MENDED_WITHIN
from simulation.world import World

_NOTICED: Final = 8.0  # seconds in which a gateway that passes on nothing is surely left
_NETS: Final = {"ec2": IPv4Address("198.51.100.0"), "vpc": IPv4Address("203.0.113.0")}


@act(
    "the configuration of all hosts names {} gateways a site, and the last {} of them have no "
    "public address, and {} s",
    2,
    lambda c: (c.choice((1, 1, 2, 2, 2, 0)), c.randrange(1, 5), TRIAL + 2.0),
    of_host=False,
)
def name_gateways(stage: Stage, count: int, behind: int, seconds: float) -> None:
    """``count`` 0: none any more, and every host has a public address again."""
    world = stage.world
    first = [host for host in world.hosts if "'" not in host.label]
    named = {
        site: tuple(host.id for host in first if host.host.site == site)[:count] for site in _NETS
    }
    world.gateways = {site: ids for site, ids in named.items() if ids} if count else {}
    if world.gateways and world.encrypt is Encrypt.OFF:
        world.encrypt = Encrypt.PREFER
    offices = {one for ids in named.values() for one in ids}
    for host in first[-behind:] if count else ():
        if host.id not in offices:
            lose_public(stage, host, True)
    for host in world.hosts:
        if not count or host.id in offices:
            lose_public(stage, host, False)
    road_acts.told_of_sites(stage)
    world.pass_time(seconds)


@act("is without a public address from now on: {}", 1, lambda c: (c.random() < 0.5,))
def lose_public(stage: Stage, host: SimulatedHost, lost: bool) -> None:
    """The cloud takes it, or gives it one. Where no gateways are it would be cut off."""
    if (host.host.public is None) == lost or (lost and not stage.world.gateways):
        return
    number = int(host.host.private) & 0xFF
    public = None if lost else IPv4Address(int(_NETS[host.host.site]) | number)
    if public is not None and any(h.host.public == public for h in stage.world.hosts):
        return
    host.move(host.host.private, public)


@act("another program switches forwarding of its uplink off", 1)
def stop_forwarding(stage: Stage, host: SimulatedHost) -> None:
    interfaces = host.machine.interfaces_
    if interfaces.forwarded:
        interfaces.forwarded = False
        stage.truth.of(host).meddled_road = stage.world.time.now
        host._tell(NetworkChanged())


@act(
    "nothing gets to or from gateway number {} for {} s",
    1.5,
    lambda c: (c.randrange(4), _NOTICED),
    of_host=False,
)
def gateway_silent(stage: Stage, number: int, seconds: float) -> None:
    """Whoever can go by another one does so, whatever the registry says."""
    world = stage.world
    every = sorted(one for ids in world.gateways.values() for one in ids)
    silent = next((h for h in world.hosts if every and h.id == every[number % len(every)]), None)
    if silent is None or not gateways.relays(silent):
        return
    others = [host for host in world.hosts if host is not silent and host.answers]
    # One that operators took out of the fleet forwards still, and nobody goes by it.
    members = [host for host in others if host.id in stage.truth.members]
    if not any(gateways.relays(host) and host.host.site == silent.host.site for host in members):
        return
    before = [pair for pair in itertools.permutations(others, 2) if _get_through(*pair)]
    silent.machine.interfaces_.unplugged = True
    world.pass_time(seconds)
    for one, other in before:
        if _works(stage, one) and _works(stage, other) and not _get_through(one, other):
            said = f"{one.id} does not get through to {other.id}, {seconds} s without {silent.id}"
            stage.fault("gateway_silent", one, said)
    silent.machine.interfaces_.unplugged = False
    world.pass_time(seconds)


def _get_through(one: SimulatedHost, other: SimulatedHost) -> bool:
    return one.host.site != other.host.site and one.world.reaches(one, other)


def _works(stage: Stage, host: SimulatedHost) -> bool:
    """Nothing else is in its way."""
    lately = max(stage.truth.of(host).meddled, stage.truth.of(host).meddled_road, host.moved)
    there = host.answers and host.caught_up and host.kernel.failing is None
    return there and stage.world.time.now - lately > MENDED_WITHIN


@act(
    "an operator drains gateway {} (or lets it work again: {})",
    1,
    lambda c: (c.randrange(4), c.random() < 0.4),
    of_host=False,
)
def drain(stage: Stage, number: int, back: bool) -> None:
    world = stage.world
    every = sorted(one for ids in world.gateways.values() for one in ids)
    if not every or world.server._down:
        return
    drained(world, every[number % len(every)], not back)
    world.settle()


def drained(world: World, host_id: str, on: bool) -> None:
    settings = replace(world.hosts[0].settings, sites=world.sites())
    with contextlib.suppress(NetiError):
        draining.drain(settings, MemoryRegistry(world.server), host_id, on=on, dry_run=False)
