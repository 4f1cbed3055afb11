"""``python -m simulation``: many seeds, and the shortest story of each that ends badly."""

import argparse
import gc
import itertools
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

from simulation.every_act import EVERY
from simulation.run import STEPS, drawn, play
from simulation.shrink import shrunk

_INJECTED: Final = {
    "processes": ("kill", "kill_at", "start_killed_at", "pause_at", "pause_at_look", "late"),
    "machines": (
        *("reboot", "power_cut", "sleep", "clock", "move"),
        *("metadata_silent", "metadata_odd"),
    ),
    "versions": ("newer", "older", "upgrade", "downgrade"),
    "disks": ("disk_full", "disk_read_only", "disk_lies", "old_disk", "tear"),
    "kernels": ("kernel_refuses", "kernel_refuses_rules"),
    "neighbours": (
        *("flush", "flush_at", "flush_unheard"),
        *("take_element", "foreign_verdict", "tamper"),
        *("load_table", "take_route"),
    ),
    "registry": ("registry_away", "cut", "partition", "expire", "wipe", "restore_registry"),
    "members": (
        "junk",
        "claim",
        "strangers",
        "strangers_vanish",
        "clone",
        "forge",
        "forge_goodbye",
    ),
    "operators": ("strict_on", "strict_off", "retire", "take_back", "move_lease"),
    "groups": (
        *("group_db", "group_add", "group_pattern", "group_remove", "group_delete"),
        *("member_ports", "ports_wholly", "member_calls", "tear_groups"),
    ),
    "names": ("name_host", "name_away", "suffix"),
    "tunnels": (
        *("encrypt", "require_wholly", "delete_device", "delete_rule", "take_peer"),
        *("wireguard_ends", "block_udp", "lose_key", "copy_key", "take_key"),
    ),
    "gateways": ("name_gateways", "lose_public", "stop_forwarding", "gateway_silent", "drain"),
}
_PLAYED: Final = itertools.count()
_COLLECTED_EVERY: Final = 16
_STAGES: Final = ("down", "shadow", "trial", "enforced")
_STATES: Final = ("dead", "stopped", *_STAGES)


@dataclass(frozen=True, slots=True)
class Told:
    """Of one seed. ``story``: the shortest one, where it ended badly."""

    seed: int
    steps: int
    kills: int
    fault: str
    story: tuple[str, ...]
    coverage: Counter[tuple[str, str]]
    effects: Counter[str]
    stages: Counter[tuple[str, str]]
    killed: Counter[str]


def one(seed: int, *, steps: int, largest: int, shrinks: bool, lately: bool = False) -> Told:
    gc.disable()  # a seed leaves 4 MiB of circles behind: they are looked for between two seeds,
    if next(_PLAYED) % _COLLECTED_EVERY == 0:
        gc.collect()
        gc.freeze()  # and not again in what stays
    size, acts = drawn(str(seed), steps, largest, lately=lately)
    outcome = play(size, acts)
    story = outcome.story
    fault = "" if outcome.fault is None else str(outcome.fault)
    if outcome.fault is not None and shrinks:
        fleet, fewer = shrunk(size, outcome.acts, outcome.fault.code, quiet=outcome.quiet)
        again = play(fleet, fewer)
        story, fault = again.story, f"{again.fault} (of {fleet} hosts)"
    return Told(
        seed,
        len(outcome.acts),
        outcome.kills,
        fault,
        tuple(story) if fault else (),
        outcome.coverage,
        outcome.effects,
        outcome.stages,
        outcome.killed,
    )


def all_of(numbers: range, workers: int, play_one: Callable[[int], Told]) -> Iterator[Told]:
    if workers == 1:
        yield from map(play_one, numbers)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(play_one, numbers)


def main() -> int:
    # The order of a set is part of what happens: the same seed has to have the same one.
    if os.environ.get("PYTHONHASHSEED") != "0":
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        os.execve(sys.executable, [sys.executable, "-m", "simulation", *sys.argv[1:]], environment)
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, metavar="N")
    parser.add_argument("--first", type=int, default=1, metavar="K")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="S")
    parser.add_argument("--largest", type=int, default=50, metavar="HOSTS", help="of a fleet")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--no-shrink", action="store_true", help="tell the whole story")
    parser.add_argument("--all", action="store_true", help="go on after the first that ends badly")
    parser.add_argument("--lately", action="store_true", help="draw the newest kinds of acts too")
    parser.add_argument("--coverage", action="store_true", help="what never happened")
    asked = parser.parse_args()
    began = time.monotonic()
    coverage: Counter[tuple[str, str]] = Counter()
    effects: Counter[str] = Counter()
    stages: Counter[tuple[str, str]] = Counter()
    killed: Counter[str] = Counter()
    done = steps = kills = bad = 0
    play_one = partial(
        one,
        steps=asked.steps,
        largest=asked.largest,
        shrinks=not asked.no_shrink,
        lately=asked.lately,
    )
    for told in all_of(range(asked.first, asked.first + asked.seeds), asked.workers, play_one):
        done, steps, kills = done + 1, steps + told.steps, kills + told.kills
        coverage.update(told.coverage)
        effects.update(told.effects)
        stages.update(told.stages)
        killed.update(told.killed)
        if told.fault:
            bad += 1
            print(f"seed {told.seed}: {told.fault}\n    {' · '.join(told.story)}", flush=True)
            if not asked.all:
                break
    seconds = time.monotonic() - began
    print(
        f"{done} seeds from {asked.first}, {steps:,} steps, {kills:,} processes ended, "
        f"{sum(effects.values()):,} effects, {bad} ended badly, {seconds:.0f} s "
        f"({steps / max(seconds, 0.001):,.0f} steps a second)"
    )
    _print_injected(coverage)
    if asked.coverage:
        _print_coverage(coverage, effects, stages, killed)
    return 1 if bad else 0


def _print_injected(coverage: Counter[tuple[str, str]]) -> None:
    """What was done to the fleets, by where it strikes."""
    done: Counter[str] = Counter()
    for (kind, _state), count in coverage.items():
        done[kind] += count
    for where, kinds in _INJECTED.items():
        print(f"  {where:11} {', '.join(f'{kind} {done[kind]:,}' for kind in kinds)}")


def _print_coverage(
    coverage: Counter[tuple[str, str]],
    effects: Counter[str],
    stages: Counter[tuple[str, str]],
    killed: Counter[str],
) -> None:
    """What came about how often, and what never did."""
    never = []
    for kind, what in sorted(EVERY.items()):
        states = _STATES if what.of_host else ("there", "away")
        row = "  ".join(f"{state} {coverage[kind, state]}" for state in states)
        print(f"{kind:22} {row}")
        never += [f"{kind} ({state})" for state in states if not coverage[kind, state]]
    for before, after in itertools.permutations(_STAGES, 2):
        print(f"stage {before} to {after:10} {stages[before, after]}")
    for effect, count in sorted(effects.items()):
        print(f"effect {effect:22} {count}, a process ended before it {killed[effect]}")
    print(f"acts that never befell a host in that state: {_named(never)}")
    missing = [f"{a} to {b}" for a, b in itertools.permutations(_STAGES, 2) if not stages[a, b]]
    print(f"transitions that were never taken: {_named(missing)}")
    spared = sorted(effects.keys() - killed.keys())
    print(f"effects before which no process ended: {_named(spared)}")


def _named(what: Iterable[str]) -> str:
    return ", ".join(what) or "none"


if __name__ == "__main__":
    sys.exit(main())
