"""Traffic between members through all that happens to an agent and its rules: nothing is lost."""

import time
from contextlib import ExitStack
from typing import Final

from drills.drill import Row, Rows, Run
from drills.field import Field
from drills.fleet import fill_embedded, generated
from drills.host import FieldHost
from drills.plan import OPEN_PORT, PORT
from drills.traffic import Steps, rows
from drills.waiting import wait_for
from neti import durable

TITLE = "streams, idle connections and UDP through start, enforce, reload, upgrade, replacement"

_LIMIT: Final = 2.0  # seconds in which drift is repaired


def run(drill: Run) -> Rows:
    members, times = drill.of(full=(16_000, 30), short=(1_000, 4))
    with Field(drill, hosts=2) as field, ExitStack() as probes:
        h1, h2 = field.hosts
        field.open_registry()  # makes the file
        fill_embedded(field.folder / "registry.db", map(generated, range(members)))
        field.serve(h1.namespace, h2.namespace)
        steps = Steps()
        early = probes.enter_context(field.probing(h1.namespace, h2.plan.private))
        inward = probes.enter_context(field.probing(h2.namespace, h1.plan.private))
        steps.begin("agents start")
        field.start()
        _holds(h1, members)
        _holds(h2, members)
        overlay = probes.enter_context(field.probing(h1.namespace, h2.overlay))
        seconds = _weather(drill, field, steps, members, times)
        steps.begin("at the end")
        for about, probe in (
            ("from before Neti", early),
            ("the other way", inward),
            ("by overlay address", overlay),
        ):
            yield from rows(about, probe.result(), steps)
        yield Row(
            f"{times} full replacements at {len(h1.sets()['overlay']):,} members",
            f"{max(seconds):.2f} s until repaired at worst",
            max(seconds) <= _LIMIT,
        )


def _weather(drill: Run, field: Field, steps: Steps, members: int, times: int) -> list[float]:
    """All steps; seconds that each replacement took."""
    h1, h2 = field.hosts
    for host in (h1, h2):
        steps.begin(f"{host.name}: enforced by reload")
        host.reload(reject_all=True)
        host.wait_until_enforced()
    for host in (h1, h2):
        steps.begin(f"{host.name}: reload with other chains")
        host.reload(open_ports=[OPEN_PORT, PORT])
    for host in (h1, h2):
        steps.begin(f"{host.name}: upgrade")
        _upgrade(host)
        _holds(host, members)
    seconds = []
    for number in range(times):
        steps.begin(f"replacement {number + 1}")
        drill.say(f"replacement {number + 1} of {times}")
        seconds.append(_replaced_in_full(field.hosts[number % 2]))
    return seconds


def _upgrade(host: FieldHost) -> None:
    """Stopped, and started as a version whose rules are others and who does not know the old
    ones: all chains are written anew, the sets are the same."""
    host.agent.end()
    path = host.state / "self.json"
    itself = durable.checked(path.read_bytes())
    path.write_bytes(durable.line({**itself, "structure_seen": None, "structure_text": None}))
    host.configure(open_ports=[OPEN_PORT])
    before = host.resyncs("chains")
    host.agent.start()
    host.wait_until_registered()
    wait_for(lambda: host.resyncs("chains") > before, f"{host.name} did not write its rules anew")


def _replaced_in_full(host: FieldHost) -> float:
    """A set that is not ours in our table makes the agent write all of it anew. Many such repairs
    are a fight, in which repairs slow down; but not where rules or sets are not as they were left,
    because the host may be open then."""
    began = time.monotonic()
    before = host.resyncs("all")
    host.nft("add set inet neti intruder { type ipv4_addr; }")
    wait_for(lambda: host.resyncs("all") > before, f"{host.name} did not replace its table")
    return time.monotonic() - began


def _holds(host: FieldHost, members: int) -> None:
    wait_for(
        lambda: len(host.sets()["overlay"]) >= members + 2,
        f"{host.name} does not hold {members:,} members",
        seconds=120,
        every=0.3,
    )
