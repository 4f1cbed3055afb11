"""ZooKeeper gone, without a quorum, without its leader, asleep, cut off.

Nothing changes on any host meanwhile, and what changed elsewhere is in its kernel soon after.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from drills.drill import Row, Rows, Run
from drills.field import Field
from drills.fleet import fill_zookeeper, generated
from drills.host import FieldHost
from drills.settled import wait_until_settled
from drills.traffic import Steps, rows
from drills.waiting import wait_for
from drills.weather import Weather, all_kinds
from neti.registry import Registry

TITLE = "ZooKeeper gone, split, paused, cut off: nothing changes, and all is right soon after"

_LIMIT: Final = 2.0  # seconds from the registry's return to a change in the kernel
_CPU_LIMIT: Final = 2.0  # percent of a core while it is away, and besides
_ONCE: Final = 0.1  # seconds of a processor for connecting anew
_LOOK_EVERY: Final = 0.05
_JOINERS: Final = 3

Sets = dict[str, dict[str, str]]


@dataclass(slots=True)
class Ground:
    """One field with an ensemble; members are written to it past all clients of Neti."""

    field: Field
    joined: int = 0

    def join(self, count: int) -> set[str]:
        """That many members more; their overlay addresses."""
        members = [generated(number) for number in range(self.joined, self.joined + count)]
        self.joined += count
        server = next(s for s in self.field.servers if "Mode:" in s.four_letters("srvr"))

        def write() -> None:
            fill_zookeeper(server.address, server.port, members)

        self.field.inside(self.field.street, write)
        return {str(member.overlay) for member in members}


def run(drill: Run) -> Rows:
    session = drill.of(full=30, short=3)
    with Field(drill, hosts=2, registry="ensemble") as field:
        h1, h2 = field.hosts
        field.serve(h1.namespace, h2.namespace)
        for host in field.hosts:
            host.configure(session_seconds=session)
        field.start()
        registry = field.open_registry()
        ground = Ground(field)
        _arrive(field.hosts, ground.join(10))
        steps = Steps()
        with field.probing(h1.namespace, h2.overlay) as probe:
            for weather in all_kinds(field, h1):
                steps.begin(weather.what)
                seconds = _seconds(drill, weather, session)
                drill.say(f"{weather.what}, {seconds:.0f} s")
                yield from _through(ground, weather, seconds, registry)
            result = probe.result()
        yield from rows("all the while", result, steps)


def _seconds(drill: Run, weather: Weather, session: int) -> float:
    """How long it lasts."""
    if weather.long:
        return drill.of(full=600.0, short=4.0)
    # Long enough to tell a rate from what one reconnection costs.
    return session * 1.5 if weather.outlasts_session else drill.of(full=10.0, short=5.0)


def _through(ground: Ground, weather: Weather, seconds: float, registry: Registry) -> Rows:
    """Away for that long, then back."""
    hosts = ground.field.hosts[:1] if weather.silent else ground.field.hosts
    before = {host.name: host.sets() for host in hosts}
    cpu = {host.name: host.agent.cpu_seconds() for host in hosts}
    began = time.monotonic()
    weather.begin()
    unheard = ground.join(_JOINERS) if weather.silent else set()
    moved = _moved(hosts, before, began + seconds)
    lasted = time.monotonic() - began
    spent = max(host.agent.cpu_seconds() - cpu[host.name] for host in hosts)
    most, limit = spent / lasted * 100, _CPU_LIMIT + _ONCE / lasted * 100
    figure = f"changed: {moved}" if moved else f"the same for {lasted:.0f} s"
    yield Row(f"{weather.what}: sets", figure, not moved)
    yield Row(f"{weather.what}: CPU of an agent", f"{most:.2f} % of a core", most < limit)
    weather.end()
    back = time.monotonic()
    arrived = unheard | ground.join(_JOINERS)
    lost = _arrive(hosts, arrived, before)
    late = time.monotonic() - back
    figure = f"{late:.2f} s" + (f", but {lost}" if lost else "")
    yield Row(f"{weather.what}: right after the return", figure, late < _LIMIT and not lost)
    weather.after()
    found = [what for host in hosts for what in wait_until_settled(host, registry, seconds=60)]
    yield Row(
        f"{weather.what}: settled", found[0] if found else "registry = kernel = disk", not found
    )


def _moved(hosts: Iterable[FieldHost], before: dict[str, Sets], until: float) -> str:
    """What changed until then, looked at again and again; empty when nothing did."""
    while time.monotonic() < until:
        for host in hosts:
            if host.sets() != before[host.name]:
                return f"{host.name} after its registry was gone"
        time.sleep(_LOOK_EVERY)
    return ""


def _arrive(
    hosts: Iterable[FieldHost], overlays: set[str], before: dict[str, Sets] | None = None
) -> str:
    """Wait until these are in every kernel; what was taken out meanwhile of what was there."""
    lost: list[str] = []

    def arrived() -> bool:
        everywhere = True
        for host in hosts:
            now = host.sets()
            everywhere = everywhere and overlays <= now["overlay"].keys()
            for where, held in (before or {}).get(host.name, {}).items():
                gone = held.keys() - now[where].keys()
                lost.extend(f"{key} left {where} of {host.name}" for key in sorted(gone))
        return everywhere

    wait_for(arrived, "the members that joined are not in every kernel", seconds=60)
    return lost[0] if lost else ""
