"""A registry full of junk, and entries that flap a hundred times a second: nobody feels it."""

import time
from collections.abc import Callable
from contextlib import closing
from ipaddress import IPv4Address
from random import Random
from typing import Final

from tests.support.swarm import RawSession, Swarm

from drills.drill import Row, Rows, Run
from drills.field import Field
from drills.fleet import LAYOUT, Fleet, generated
from drills.host import FieldHost
from drills.plan import OVERLAY, STREET_ADDRESS
from drills.traffic import Steps, rows
from drills.waiting import wait_for
from neti.model import Member, entry

TITLE = "a registry full of junk, entries that flap"

_ZOOKEEPER_PORT: Final = 2181
_SESSIONS: Final = 8
_FLAPS_A_SECOND: Final = 100
_CPU_LIMIT: Final = 25.0  # percent of one core, at a hundred changes a second
_MEMORY_LIMIT: Final = 120.0  # MiB resident at most
_JOIN_LIMIT: Final = 2.0


def run(drill: Run) -> Rows:
    junk, seconds = drill.of(full=(20_000, 60.0), short=(2_000, 4.0))
    with Field(drill, hosts=2, registry="zookeeper") as field:
        h1, h2 = field.hosts
        field.serve(h1.namespace, h2.namespace)
        field.start()
        registry = field.open_registry()
        fleet = Fleet(registry)
        for number in range(20):
            fleet.join(generated(number))
        for host in field.hosts:
            wait_for(
                lambda host=host: len(host.sets()["overlay"]) == 22,  # type: ignore[misc]  # a default in a lambda
                f"{host.name} does not hold 22 members",
            )
        before = {host.name: host.sets() for host in field.hosts}
        steps = Steps()
        with field.probing(h1.namespace, h2.overlay) as probe:
            steps.begin(f"{junk:,} junk children")
            began = time.monotonic()
            victims = [member.overlay for member in fleet.members.values()]
            names = _junk(drill.chance("junk"), junk, victims)
            field.inside(field.street, lambda: _create(names))
            yield from _unmoved(field, before, f"{junk:,} junk children", time.monotonic() - began)
            yield from _restarted(h1, before[h1.name])
            steps.begin("flapping")
            yield from _flapping(field, seconds, drill.chance("flaps"), victims)
            yield from _unmoved(field, before, "entries that flapped", seconds)
            yield _joins(h2, fleet)
            result = probe.result()
        yield from rows("meanwhile", result, steps)
        owners = registry.leases()
        robbed = [m.id for m in fleet.members.values() if owners.get(m.overlay) != m.id]
        yield Row("leases of members", f"{len(robbed)} lost", not robbed)


def _junk(chance: Random, count: int, victims: list[IPv4Address]) -> list[str]:
    """Names that no agent would write, and some that only a hostile one would."""
    return [_hostile(chance, number, victims) for number in range(count)]


def _hostile(chance: Random, number: int, victims: list[IPv4Address]) -> str:
    member = generated(5000 + number % 5000)
    match number % 6:
        case 0:
            return f"junk-{number}-{chance.getrandbits(64):x}"
        case 1:  # nobody's lease
            return entry.encode(_like(member, number, overlay=OVERLAY[1 + number % 9000]))
        case 2:  # an address of the loopback
            return entry.encode(_like(member, number, private=IPv4Address(0x7F000001 + number)))
        case 3:  # outside its site
            return entry.encode(_like(member, number, private=IPv4Address(0xAC100000 + number)))
        case 4:  # a member's own overlay address, claimed by another
            return entry.encode(_like(member, number, overlay=chance.choice(victims)))
        case _:
            return f"1.{chance.getrandbits(96):024x}.0.ec2.{'é' * (1 + number % 40)}{number}"


def _like(
    member: Member,
    number: int,
    *,
    private: IPv4Address | None = None,
    overlay: IPv4Address | None = None,
) -> Member:
    return Member(
        id=f"x-{number}",
        site=member.site,
        private=private or member.private,
        public=None,
        overlay=overlay or member.overlay,
    )


def _create(names: list[str]) -> None:
    with Swarm(str(STREET_ADDRESS), _ZOOKEEPER_PORT, _SESSIONS) as swarm:
        swarm.create([(LAYOUT.name(name), b"") for name in names], ephemeral=False)


def _unmoved(
    field: Field, before: dict[str, dict[str, dict[str, str]]], what: str, seconds: float
) -> Rows:
    """The sets are what they were, once both agents have taken all of it in."""
    for host in field.hosts:
        host.agent.wait_until_idle(120)
    moved = [host.name for host in field.hosts if host.sets() != before[host.name]]
    figure = f"changed on {', '.join(moved)}" if moved else f"unchanged, after {seconds:.0f} s"
    yield Row(f"{what}: sets", figure, not moved)
    most = max(host.agent.memory_mib()[1] for host in field.hosts)
    yield Row(f"{what}: memory of an agent", f"{most:.0f} MiB at most", most < _MEMORY_LIMIT)


def _restarted(host: FieldHost, before: dict[str, dict[str, str]]) -> Rows:
    """One that starts amid the junk reads all of it at once. Leases are checked right behind the
    list, so that an unleased claim may stand for a moment; no member may be touched even then."""
    began = time.monotonic()
    host.agent.end()
    host.agent.start()
    host.wait_until_registered()
    touched = [where for where, held in before.items() if not _within(held, host.sets()[where])]
    seconds = time.monotonic() - began
    yield Row(
        "an agent that starts amid the junk: members",
        f"other than before in {', '.join(touched)}" if touched else "untouched",
        not touched,
    )
    settled = wait_for(lambda: host.sets() == before, f"{host.name} keeps what it should not")
    skipped = host.status()["skipped"]["count"]
    yield Row(
        "an agent that starts amid the junk",
        f"registered after {seconds:.1f} s, rid of all junk {settled:.1f} s later, "
        f"{skipped:,} skipped",
        skipped > 0,
    )


def _within(held: dict[str, str], now: dict[str, str]) -> bool:
    return held.items() <= now.items()


def _flapping(field: Field, seconds: float, chance: Random, victims: list[IPv4Address]) -> Rows:
    """Entries of every kind of junk come and go."""
    cpu = {host.name: host.agent.cpu_seconds() for host in field.hosts}
    began = time.monotonic()

    def junk() -> str:
        return _hostile(chance, 100_000 + chance.randrange(500), victims)

    def flap() -> int:
        with closing(RawSession(str(STREET_ADDRESS), _ZOOKEEPER_PORT)) as session:
            return _flap(session, seconds, junk)

    flaps = field.inside(field.street, flap)
    lasted = time.monotonic() - began
    used = {
        host.name: (host.agent.cpu_seconds() - cpu[host.name]) / lasted * 100
        for host in field.hosts
    }
    most = max(used.values())
    yield Row(
        f"{flaps / lasted:.0f} changes a second: CPU of an agent",
        f"{most:.1f} % of a core",
        most < _CPU_LIMIT and flaps / lasted > _FLAPS_A_SECOND * 0.8,
    )


def _flap(session: RawSession, seconds: float, junk: Callable[[], str]) -> int:
    """How many changes were made, evenly over the time."""
    flaps, began, pause = 0, time.monotonic(), 2 / _FLAPS_A_SECOND
    while time.monotonic() - began < seconds:
        path = LAYOUT.name(junk())
        session.send_create(path, b"", ephemeral=False)
        session.outcome()
        session.send_delete(path)
        session.outcome()
        flaps += 2
        time.sleep(max(0.0, began + flaps / 2 * pause - time.monotonic()))
    return flaps


def _joins(host: FieldHost, fleet: Fleet) -> Row:
    began = time.monotonic()
    joined = fleet.join(generated(30))
    wait_for(
        lambda: str(joined.overlay) in host.sets()["overlay"],
        f"a member that joins does not come to {host.name}",
        every=0.005,
    )
    seconds = time.monotonic() - began
    return Row("a member that joins afterwards", f"{seconds * 1000:.0f} ms", seconds < _JOIN_LIMIT)
