"""The registry is wiped, and restored to yesterday: nobody is removed, and it fills up again."""

import shutil
import time
from pathlib import Path
from typing import Final

from drills.drill import DrillError, Row, Rows, Run
from drills.field import Field
from drills.host import FieldHost
from drills.settled import wait_until_settled
from drills.traffic import Steps, rows
from drills.waiting import wait_for
from neti_lab.zookeeper import ZooKeeperServer

TITLE = "the registry wiped, and restored to yesterday: nobody is removed"

_SESSION: Final = 3
_LINGER: Final = 2  # seconds: were they counted as lost, they would be gone at once
_HOLD: Final = 20  # seconds that a doubt is told where it concerned nobody

Sets = dict[str, dict[str, str]]


def run(drill: Run) -> Rows:
    with Field(drill, hosts=3, registry="zookeeper") as field:
        h1, h2, _ = field.hosts
        for host in field.hosts:
            host.configure(session_seconds=_SESSION, linger_seconds=_LINGER, hold_seconds=_HOLD)
        field.serve(h2.namespace)
        field.start()
        steps = Steps()
        _settled(field)
        with field.probing(h1.namespace, h2.overlay) as probe:
            yield from _wiped(field, steps)
            yield from _restored(field, steps)
            result = probe.result()
        yield from rows("all the while", result, steps)


def _wiped(field: Field, steps: Steps) -> Rows:
    (server,) = field.servers
    before = {host.name: host.sets() for host in field.hosts}
    steps.begin("registry wiped")
    server.stop()
    shutil.rmtree(server.folder / "data")
    server.start()
    yield from _whole_again(field, before, "wiped")


def _restored(field: Field, steps: Steps) -> Rows:
    """A host moves after the copy was made: it must not go back to its old address."""
    (server,) = field.servers
    mover = field.hosts[2]
    copy = _copied(server)
    wait_for(lambda: field.hosts[0].status()["registry"]["fresh"], "not in step again")
    mover.agent.end()
    document = mover.document["identity"] | {"private": str(mover.plan.other_private)}
    mover.configure(identity=document)
    mover.agent.start()
    mover.wait_until_registered()
    _settled(field)
    before = {host.name: host.sets() for host in field.hosts}
    steps.begin("registry restored from an older copy")
    server.stop()
    shutil.rmtree(server.folder / "data")
    copy.rename(server.folder / "data")
    server.start()
    yield from _whole_again(field, before, "restored to yesterday")


def _copied(server: ZooKeeperServer) -> Path:
    copy = server.folder / "copy"
    server.stop()
    shutil.copytree(server.folder / "data", copy)
    server.start()
    return copy


def _whole_again(field: Field, before: dict[str, Sets], what: str) -> Rows:
    """Looked at all the while: no set ever differs; and in the end registry and kernel agree."""
    moved = ""
    began = time.monotonic()
    while (
        not (registered := _all_registered(field.hosts)) or time.monotonic() - began < _LINGER * 3
    ):
        for host in field.hosts:
            if not moved and host.sets() != before[host.name]:
                moved = f"{host.name} after {time.monotonic() - began:.1f} s"
        if time.monotonic() - began > 90:
            break
        time.sleep(0.05)
    took = time.monotonic() - began
    yield Row(f"{what}: sets", f"changed on {moved}" if moved else "never changed", not moved)
    yield Row(f"{what}: every host registered again", f"after {took:.1f} s", registered)
    found = _unsettled(field)
    figure = found[0] if found else "registry = kernel = disk, the same addresses"
    yield Row(f"{what}: settled", figure, not found)


def _unsettled(field: Field) -> list[str]:
    registry = field.open_registry()
    try:
        return [w for host in field.hosts for w in wait_until_settled(host, registry, seconds=60)]
    finally:
        registry.close()


def _settled(field: Field) -> None:
    if found := _unsettled(field):
        raise DrillError(f"not settled to begin with: {found[0]}")


def _all_registered(hosts: list[FieldHost]) -> bool:
    return all(
        status["registered"] and status["registry"]["fresh"] and not status["holds"]
        for status in (host.status() for host in hosts)
    )
