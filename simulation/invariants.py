"""Asks every invariant: after each step, and at rest."""

from collections.abc import Iterator
from dataclasses import dataclass

from simulation.rest_invariants import AT_REST, believed, told
from simulation.step_invariants import AFTER_EACH_STEP
from simulation.truth import MENDED_WITHIN, Truth
from simulation.world import World


@dataclass(frozen=True, slots=True)
class Fault:
    """``code``: of the invariant; two runs found the same when it is the same."""

    code: str
    host: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.code}: {self.host}: {self.sentence}"


def after_step(world: World, truth: Truth) -> Iterator[Fault]:
    """Of hosts that did anything since the last look."""
    for host in world.hosts:
        word, done = truth.of(host), (host.gate.count, host.boots)
        if word.looked_at == done:
            continue
        word.looked_at = done
        for invariant in AFTER_EACH_STEP:
            for sentence in invariant(world, truth, host):
                yield Fault(invariant.__name__, host.label, sentence)


def at_rest(world: World, truth: Truth) -> Iterator[Fault]:
    """What takes long is asked of hosts of which anything is otherwise than at the last look."""
    for host in world.hosts:
        word, kernel = truth.of(host), host.kernel
        seen = (
            *(host.turns, host.gate.count, host.boots, host.late, id(kernel.table), kernel.drops),
            *(word.meddled, world.time.now - word.meddled <= MENDED_WITHIN),
            *(word.enforced, word.damaged),
        )
        same, word.rested_at = seen == word.rested_at, seen
        for invariant in AT_REST:
            if same and invariant in (told, believed):
                continue
            for sentence in invariant(world, truth, host):
                yield Fault(invariant.__name__, host.label, sentence)
