"""What becomes of a host's kernel, and what other programs do to it.

Must never do: what ``simulation/acts.py`` must not.
"""

from ipaddress import IPv4Address
from typing import Any, Literal

from neti.dataplane.monitor import NetworkChanged, RulesChanged
from neti.ruleset.objects import FOREIGN, RELAXED_MARK
from simulation.acts import Stage, act, soon
from simulation.host import SimulatedHost
from simulation.machine import judging


@act("the kernel refuses everything", 1)
def kernel_refuses(stage: Stage, host: SimulatedHost) -> None:
    host.kernel.failing = "Device or resource busy"


@act("the kernel refuses new rules", 1)
def kernel_refuses_rules(stage: Stage, host: SimulatedHost) -> None:
    host.kernel.rules_refused = "Could not process rule: Invalid argument"
    host.machine.tables["another"] = judging("another", drops=False)  # so new rules are due
    changed(host)


@act("the kernel works again", 5)
def kernel_works(stage: Stage, host: SimulatedHost) -> None:
    host.kernel.failing = host.kernel.rules_refused = None


def changed(host: SimulatedHost) -> None:
    host._tell(RulesChanged(4711, "nft"))


def bears(host: SimulatedHost, command: Literal["", "down", "relax"]) -> bool:
    """Whether its kernel says this. One without a table cannot say that it is relaxed."""
    if command == "relax":
        return RELAXED_MARK in host.kernel.enforce()
    return host.kernel.marked_down()


def _meddled(stage: Stage, host: SimulatedHost, *, heard: bool = True) -> None:
    word = stage.truth.of(host)
    if not bears(host, word.borne):
        word.borne = ""
    word.meddled = stage.world.time.now
    host.users.forget()
    if host.kernel.table is not None:
        word.overlay = host.kernel.reached()
    if heard:
        changed(host)


@act("another program flushes all tables", 2)
def flush(stage: Stage, host: SimulatedHost) -> None:
    _flush(host)
    _meddled(stage, host)


def _flush(host: SimulatedHost) -> None:
    host.kernel.flush()
    host.machine.tables.clear()


@act("another program flushes all tables before its effect number {}", 1, soon)
def flush_at(stage: Stage, host: SimulatedHost, effects: int) -> None:
    def now(_kind: str) -> None:
        flush(stage, host)

    if host.answers:
        host.gate.arm(effects, now)


@act("another program flushes all tables, and no event tells of it", 0.5)
def flush_unheard(stage: Stage, host: SimulatedHost) -> None:
    _flush(host)
    _meddled(stage, host, heard=False)


@act(
    "another program takes element {} of {} out",
    1,
    lambda c: (c.randrange(6), c.choice(("overlay", "peers4", "enforce", "revoked4"))),
)
def take_element(stage: Stage, host: SimulatedHost, number: int, where: str) -> None:
    table = host.kernel.table
    if table is None:
        return
    sets: dict[str, dict[str, Any]] = {
        **{str(name): elements for name, elements in table.elements.items()},
        "enforce": table.enforce,
        "revoked4": table.timed.get("revoked4", {}),
    }
    held = sets.get(where)
    if held:
        del held[sorted(held)[number % len(held)]]
        _meddled(stage, host)


@act("another program puts a verdict into map enforce", 0.5)
def foreign_verdict(stage: Stage, host: SimulatedHost) -> None:
    if host.kernel.table is not None:
        host.kernel.table.enforce["ipv4"] = FOREIGN
        _meddled(stage, host)


@act("another program adds a rule to chain input", 0.7)
def tamper(stage: Stage, host: SimulatedHost) -> None:
    host.kernel.tamper()
    _meddled(stage, host)


@act(
    "another program loads a table that judges input (and drops: {})",
    1,
    lambda c: (c.random() < 0.5,),
)
def load_table(stage: Stage, host: SimulatedHost, drops: bool) -> None:
    host.machine.tables["theirs"] = judging("theirs", drops=drops)
    changed(host)


@act("the other program takes its table away", 1)
def unload_table(stage: Stage, host: SimulatedHost) -> None:
    if host.machine.tables:
        host.machine.tables.clear()
        changed(host)


@act("another program takes the overlay's route away", 0.7)
def take_route(stage: Stage, host: SimulatedHost) -> None:
    if host.machine.routes:
        host.machine.routes.clear()
        stage.truth.of(host).meddled = stage.world.time.now
        host._tell(NetworkChanged())


@act("opens a flow to host number {}", 2, lambda c: (c.randrange(50),))
def flow(stage: Stage, host: SimulatedHost, number: int) -> None:
    other = stage.world.hosts[number % len(stage.world.hosts)]
    leased = stage.truth.leases.get(other.id)
    if leased is not None:
        host.connections.open(IPv4Address(leased))
