"""Most of a fleet vanishes: at once, in slices, on purpose. It is held, and joiners come in."""

import time
from collections.abc import Callable
from typing import Final

from drills.drill import Row, Rows, Run
from drills.field import Field, RegistryKind
from drills.fleet import Fleet, generated
from drills.host import FieldHost
from drills.waiting import wait_for
from neti.registry import Registry

TITLE = "most members vanish at once, and in slices: held, and joiners are let in"

_MEMBERS: Final = 18
_GONE: Final = 12  # of 20: 60 %
_MAXCHANGE: Final = 6
_SLICE: Final = 3
_LINGER: Final = 1  # seconds
_JOIN_LIMIT: Final = 2.0
_SESSION: Final = 3.0


def run(drill: Run) -> Rows:
    kinds: tuple[RegistryKind, ...] = drill.of(full=("embedded", "zookeeper"), short=("embedded",))
    for kind in kinds:
        with Field(drill, hosts=2, registry=kind) as field:
            for host in field.hosts:
                host.configure(linger_seconds=_LINGER)
            field.start()
            yield from _at_once(field, kind, drill.of(full=60.0, short=3.0))
        with Field(drill, hosts=2, registry=kind) as field:
            for host in field.hosts:
                host.configure(linger_seconds=_LINGER)
            field.start()
            yield from _in_slices(field, kind)


def _at_once(field: Field, kind: str, seconds: float) -> Rows:
    host, fleet = field.hosts[0], Fleet(field.open_registry())
    for number in range(_MEMBERS - _GONE):
        fleet.join(generated(number))
    doomed = field.open_registry(session_seconds=_SESSION)
    lost = Fleet(doomed)
    for number in range(_MEMBERS - _GONE, _MEMBERS):
        lost.join(generated(number))
    _wait_for_members(host, _MEMBERS + 2)
    before = host.sets()
    doomed.close()  # the session is over, and with it every name that it had
    wait_for(lambda: len(host.status()["holds"]) == _GONE, "they are not held", seconds=30)
    began = time.monotonic()
    joined = fleet.join(generated(_MEMBERS))
    came = str(joined.overlay)
    wait_for(lambda: came in host.sets()["overlay"], "the joiner is not let in", every=0.005)
    took = time.monotonic() - began
    yield Row(f"{kind}: a joiner meanwhile", f"{took * 1000:.0f} ms", took < _JOIN_LIMIT)
    time.sleep(seconds)
    kept = all(held.items() <= host.sets()[where].items() for where, held in before.items())
    held = len(host.status()["holds"])
    figure = f"{held} of {_GONE} held after {seconds:.0f} s, {'all' if kept else 'NOT all'} in"
    yield Row(f"{kind}: 60 % vanish at once", figure, kept and held == _GONE)
    check = host.neti("check")
    yield Row(f"{kind}: neti check", check.stdout.strip()[:80], check.returncode == 2)
    yield _restarted(host, kind)
    yield from _released(field, fleet, kind)


def _restarted(host: FieldHost, kind: str) -> Row:
    host.agent.kill()
    host.agent.start()
    host.wait_until_registered()
    held = len(host.status()["holds"])
    return Row(f"{kind}: killed and restarted", f"{held} of {_GONE} still held", held == _GONE)


def _released(field: Field, fleet: Fleet, kind: str) -> Rows:
    """One comes back, one is let go by name, then all that are left."""
    host = field.hosts[0]
    ids = sorted(hold["id"] for hold in host.status()["holds"])
    fleet.join(generated(int(ids[0].removeprefix("m-"))))
    wait_for(
        lambda: len(host.status()["holds"]) == _GONE - 1, "the one that returned is still held"
    )
    yield Row(f"{kind}: one returns", "its hold is over", True)
    one = host.neti("release", ids[1])
    rest = host.neti("release", "--all")
    ok = one.returncode == 0 and rest.returncode == 0
    left = wait_for(
        lambda: len(host.member_ids()) == len(fleet.members) + 2, "released members are still in"
    )
    figure = f"{rest.stdout.strip()}; out after {left:.2f} s"
    yield Row(f"{kind}: release", figure, ok and not host.status()["holds"])


def _in_slices(field: Field, kind: str) -> Rows:
    """Each slice below the threshold; together above it."""
    host = field.hosts[0]
    registry = field.open_registry()
    registry.change_setting("maxchange", str(_MAXCHANGE).encode())
    fleet = Fleet(registry)
    for number in range(_MEMBERS):
        fleet.join(generated(number))
    _wait_for_members(host, _MEMBERS + 2)
    wait_for(lambda: host.status()["settings"]["maxchange"] == _MAXCHANGE, "maxchange is not read")
    for number in range(3):
        first = number * _SLICE
        for each in range(first, first + _SLICE):
            fleet.leave(generated(each).id)
        _settle(host, registry)
    held = len(host.status()["holds"])
    members = len(host.member_ids())
    expected = 3 * _SLICE - _MAXCHANGE
    figure = f"{_MAXCHANGE} let go, {held} of the last {_SLICE} held"
    yield Row(
        f"{kind}: {_SLICE} leave, three times; maxchange {_MAXCHANGE}",
        figure,
        held == expected and members == _MEMBERS + 2 - _MAXCHANGE,
    )


def _settle(host: FieldHost, registry: Registry) -> None:
    """Until the host has heard what the registry says: all that it lists are in, others are held
    or out."""
    names = len(registry.names())

    def heard() -> bool:
        status = host.status()
        listed = status["members"]["total"] - len(status["holds"]) - len(status["lost"])
        return bool(listed <= names)

    wait_for(heard, "the host does not hear of who left")
    time.sleep(0.5)


def _wait_for_members(host: FieldHost, count: int) -> None:
    check: Callable[[], bool] = lambda: len(host.sets()["overlay"]) == count  # noqa: E731 -- named for the line below
    wait_for(check, f"{host.name} does not hold {count} members")
