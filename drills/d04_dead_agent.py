"""An agent is dead for ten minutes on a host that serves; others are killed again and again."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

from drills import killing
from drills.drill import Row, Rows, Run
from drills.field import Field
from drills.traffic import Steps, rows
from drills.waiting import wait_for

TITLE = "the agent dead for ten minutes, and killed at every moment"

_SESSION = 4
_LATE = 120  # seconds that a busy machine may take to start an agent


def run(drill: Run) -> Rows:
    kills, some = drill.of(full=200, short=10), drill.of(full=None, short=5)
    stop = Event()
    # Ten minutes are long: meanwhile agents of other fields are killed.
    with ThreadPoolExecutor(2) as pool:
        try:
            embedded = pool.submit(killing.after_each_write, drill, "embedded", some, stop)
            at_random = pool.submit(killing.at_random, drill, kills, stop)
            zookeeper = pool.submit(killing.after_each_write, drill, "zookeeper", some, stop)
            yield from _dead(drill, drill.of(full=600.0, short=10.0))
            yield _row("killed at random moments, 50 changes a second", at_random)
            yield _row("killed right after each write, embedded registry", embedded)
            yield _row("killed right after each write, ZooKeeper", zookeeper)
        finally:
            stop.set()


def _dead(drill: Run, seconds: float) -> Rows:
    """Nobody who uses the host notices, and everybody who asks is told."""
    with Field(drill, hosts=2) as field:
        server, client = field.hosts
        field.serve(server.namespace)
        for host in field.hosts:
            host.configure(session_seconds=_SESSION, linger_seconds=int(seconds) + _LATE)
        field.start()
        server.reload(reject_all=True)
        steps = Steps()
        with field.probing(client.namespace, server.overlay) as probe:
            steps.begin("agent killed")
            killed = time.monotonic()
            server.agent.kill()
            wait_for(lambda: _is_lost(client.members(), server.name), "the member is not lost")
            late = time.monotonic() - killed
            shown = client.status()["members"]["lost"]
            yield Row("shown as lost", f"{late:.1f} s after the kill", shown == 1)
            time.sleep(max(0.0, killed + seconds - time.monotonic()))
            still = _is_lost(client.members(), server.name)
            yield Row(f"still a member, and lost, after {seconds:.0f} s", str(still), still)
            steps.begin("agent started again")
            field.start(server)
            wait_for(
                lambda: not _is_lost(client.members(), server.name),
                "the member that is back counts as lost",
            )
            result = probe.result()
        yield from rows(f"agent dead for {seconds:.0f} s", result, steps)


def _is_lost(members: list[dict[str, object]], host_id: str) -> bool:
    return any(member["id"] == host_id and member["lost"] for member in members)


def _row(what: str, done: "Future[tuple[list[str], str]]") -> Row:
    found, figure = done.result()
    return Row(what, f"{found[0]} ({len(found)})" if found else figure, not found)
