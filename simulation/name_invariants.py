"""What is promised of names, looked at in hosts' files.

Must never do: take an agent's word for what its file says.
"""

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address

from neti.fleet.names import host_lines, server_names
from neti.model.names import Names
from neti.registry.names import NamesUnreadable, decode
from simulation.host import SimulatedHost
from simulation.world import World


def followed(world: World) -> dict[str, Names]:
    """By host, of those that answer."""
    return {
        host.label: host.agent.core.naming.followed
        for host in world.hosts
        if host.agent is not None and host.answers
    }


def taken_away(world: World, before: Mapping[str, Names]) -> Iterator[tuple[SimulatedHost, str]]:
    """Names: a registry that was wiped, or is an older copy, takes none away."""
    for host in world.hosts:
        now = followed(world).get(host.label)
        if now is not None and now.edition < before.get(host.label, now).edition:
            yield host, f"it follows edition {now.edition} of the names, and knew a later one"


def wrong(world: World, host: SimulatedHost, members: Mapping[str, IPv4Address]) -> Iterator[str]:
    """Names: the file says what the registry does, of those who are there."""
    agent = host.agent
    if agent is None:
        return
    try:
        said = decode(world.server._settings.get("names"))
    except NamesUnreadable:
        return
    have = [line for line in host.hosts_file.lines() if not line.startswith("#")]
    if agent.core.down.now:
        want = list[str]()
    else:
        want = host_lines(members, said, server_names(host.settings))
    if have != want:
        yield f"its hosts file says {have}, the registry {want}"
