"""One seed: draws acts, does them, and looks after each whether everything is as promised."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random
from typing import Final

from neti.errors import NetiError
from simulation import acts, doors, invariants, quiet
from simulation.acts import Act, Stage
from simulation.every_act import EVERY
from simulation.invariants import Fault
from simulation.truth import Truth
from simulation.world import Restless, World

STEPS: Final = 500
# How often a fleet has so many hosts: orders matter among few, and fifty take as long as a hundred
# small fleets.
SIZES: Final = {3: 40, 4: 40, 5: 30, 6: 30, 8: 20, 10: 10, 14: 6, 24: 2, 50: 1}
# Without these nothing would ever happen, or end.
_ALWAYS: Final = frozenset(
    {
        "time",
        "start",
        "go_on",
        "prompt",
        "disk_works",
        "kernel_works",
        "registry_back",
        "mend",
        "metadata_works",
    }
)
# Of the other kinds, drawn for each seed: rare ones meet each other that way.
_SHARES: Final = (0.15, 0.3, 0.55, 0.8)
_BEGIN_ENFORCED: Final = 0.6  # chance
_ANOTHER_HOST: Final = 0.35  # chance
_RESTS: Final = frozenset({"time", "long_time", "enforce_wholly", "require_wholly", "ports_wholly"})
_REST: Final = 2.4  # seconds: promised is within two


@dataclass(slots=True)
class Outcome:
    """``story``: in words, an act each. ``coverage``: how often each kind of act was done, by what
    its host was then. ``stages``: which stage followed which. ``killed``: processes, by the effect
    that did not come about."""

    acts: list[Act]
    story: list[str]
    fault: Fault | None
    quiet: bool = False  # whether it came that far
    kills: int = 0
    coverage: Counter[tuple[str, str]] = field(default_factory=Counter)
    effects: Counter[str] = field(default_factory=Counter)
    stages: Counter[tuple[str, str]] = field(default_factory=Counter)
    killed: Counter[str] = field(default_factory=Counter)


def drawn(
    seed: str, steps: int, largest: int = 50, *, lately: bool = False
) -> tuple[int, list[Act]]:
    """The size of the fleet, and what is to happen to it. From the seed alone. ``lately``: of all
    kinds of acts."""
    chance = Random(seed)
    size = min(largest, *chance.choices(tuple(SIZES), tuple(SIZES.values())))
    share = chance.choice(_SHARES)
    kinds = [name for name, kind in EVERY.items() if lately or not kind.lately]
    names = [n for n in kinds if n in _ALWAYS or chance.random() < share]
    weights = list(accumulate(EVERY[name].weight for name in names))
    told: list[Act] = []
    if chance.random() < _BEGIN_ENFORCED:
        enforce = EVERY["enforce_wholly"]
        told += [Act("enforce_wholly", n, enforce.draw(chance)) for n in range(min(size, 3))]
    # Acts that come one after the other often befall one host: orders matter within one.
    host = 0
    while len(told) < steps:
        name = chance.choices(names, cum_weights=weights)[0]
        kind = EVERY[name]
        if chance.random() < _ANOTHER_HOST:
            host = chance.randrange(size)
        told.append(Act(name, host if kind.of_host else -1, kind.draw(chance)))
    return size, told


def play(size: int, told: Iterable[Act], *, to_the_end: bool = True) -> Outcome:
    """The same acts make the same outcome. ``to_the_end``: and what comes of it after quiet."""
    with doors.shut():
        world = World(size)
        outcome = Outcome([], [], None)
        try:
            for fault in _faults(world, told, outcome, to_the_end):
                outcome.fault = fault
                break
        finally:
            world.close()
            outcome.kills = sum(host.kills for host in world.hosts)
            for host in world.hosts:
                outcome.effects.update(host.gate.seen)
                outcome.killed.update(host.gate.kills)
        return outcome


def _faults(
    world: World, told: Iterable[Act], outcome: Outcome, to_the_end: bool
) -> Iterator[Fault]:
    stage = Stage(world, Truth(stages=outcome.stages))
    world.passed = lambda: stage.truth.look(world)
    try:
        for host in world.hosts:
            host.start()
            if not host.runs:
                yield Fault("unexpected", host.label, f"does not start: {host.refused_to_start}")
        world.settle()
        stage.truth.look(world)
        for one in told:
            outcome.acts.append(one)
            outcome.story.append(one.words(world))
            outcome.coverage[one.kind, _state(world, one)] += 1
            acts.perform(stage, one)
            yield from _look(stage, one)
        if not to_the_end:
            return
        outcome.quiet = True
        outcome.story.append("quiet")
        yield from quiet.faults(stage, outcome.story)
    except Restless as error:
        yield Fault("restless", str(error), "they go on and on without time passing")
    except NetiError as error:
        yield Fault("unexpected", "", f"{type(error).__name__}: {error}")
    except Exception as error:
        yield Fault("unexpected", "", f"{type(error).__name__}: {error}{_where(error)}")


def _where(error: BaseException) -> str:
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return ""
    return f" ({last.tb_frame.f_code.co_filename.rpartition('/')[2]}:{last.tb_lineno})"


def _state(world: World, one: Act) -> str:
    if one.host < 0:
        return "away" if world.server._down else "there"
    host = world.hosts[one.host % len(world.hosts)]
    if not host.runs:
        return "dead"
    return "stopped" if host.paused is not None else host.kernel.stage


def _look(stage: Stage, one: Act) -> Iterator[Fault]:
    world, truth = stage.world, stage.truth
    truth.look(world)
    yield from stage.faults
    for host in world.hosts:
        works = not host.disk.read_only and not host.disk.full and host.kernel.failing is None
        if host.refused_to_start and works:
            yield Fault("unexpected", host.label, f"does not start: {host.refused_to_start}")
    yield from invariants.after_step(world, truth)
    if one.kind in _RESTS and one.args[-1] >= _REST:
        yield from invariants.at_rest(world, truth)
        quiet.note_words(world, truth)
