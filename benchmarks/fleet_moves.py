"""Row 2: what moves many members at once: a full load, a burst, everybody joining, half leaving.

The 2014 pipeline as it is written anew here has no guard (the old one compared the lengths of
lists), so nothing stands beside Neti's hold but what its kernel held afterwards.
"""

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from benchmarks import measure, pipeline2014, registry
from benchmarks.figures import MS, Line, Report, Times, once
from benchmarks.measure import Fleet
from benchmarks.scale import Scale, say
from benchmarks.sides import NetiSide, neti, old
from benchmarks.stage import Stage
from benchmarks.svg import Bars
from neti.errors import NetiError
from neti.model import Member
from neti_lab.namespaces import call_inside

NAME: Final = "fleet_moves"
TITLE: Final = "Many members at once"
_ROUNDS: Final = 2
_BURST: Final = 500
_PATIENCE: Final = 120.0


def run(scale: Scale) -> Report:
    report = Report(TITLE)
    lines: list[Line] = []
    groups: list[tuple[str, dict[str, float]]] = []
    kept: list[str] = []
    for size in scale.sizes:
        say(f"fleet_moves: {size:,} members")
        with Stage() as stage:
            fleet = Fleet(stage)
            members = fleet.joiners(size)
            burst = fleet.joiners(min(_BURST, size))
            ours: dict[str, Times] = {}
            other: dict[str, Times] = {}
            for _ in range(min(_ROUNDS, scale.slow_rounds)):  # in turn
                _add(ours, _neti(stage, members, burst))
                _add(other, _pipeline(stage, members, burst))
            kept.append(
                f"{size:,}: {ours.pop('kept').median:,.0f} of {size + 1:,} addresses "
                "in Neti's kernel while half of the fleet is held"
            )
            ours["full load"] = _full_load(stage, members, scale.slow_rounds)
            other["full load"] = _full_load_2014(stage, members, scale.slow_rounds)
        for what, times in ours.items():
            lines.append(Line(f"{size:,}: {what}", times, other.get(what)))
            if what in other:
                groups.append(
                    (
                        f"{size:,}: {what}",
                        {"Neti": times.median * MS, "2014 pipeline": other[what].median * MS},
                    )
                )
    report.compare(lines, ours="Neti", other="2014 pipeline")
    report.say("", *kept)
    report.plots["fleet-moves"] = Bars("Many members at once", "ms", groups, logarithmic=True)
    return report


def _add(to: dict[str, Times], more: dict[str, Times]) -> None:
    for what, times in more.items():
        to.setdefault(what, Times()).each.extend(times.each)


# --- Neti ---


def _neti(stage: Stage, members: Sequence[Member], burst: Sequence[Member]) -> dict[str, Times]:
    with neti(stage) as side:
        measure.wait_until_known(stage, side.agent, 0)
        cpu = side.cpu()
        everybody = _joined(stage, side, members)
        side.agent.wait_until_idle()
        cpu = side.cpu() - cpu
        crowd = _joined(stage, side, burst)
        half = [*members, *burst][: (len(members) + len(burst)) // 2 + 1]
        held, kept = _lost(stage, side, half)
        returned = _returned(stage, side, half)
        for gone in (members, burst):
            call_inside(stage.registry, partial(registry.lose, gone))
        return {
            "all join at once": once(everybody),
            "  CPU of it, leases checked": once(cpu),
            f"burst of {len(burst)} joins": once(crowd),
            "half leave: held after": once(held),
            "half return: hold ended after": once(returned),
            "kept": once(kept - len(burst)),
        }


def _joined(stage: Stage, side: NetiSide, members: Sequence[Member]) -> float:
    side.ready()
    writing = _beside(stage, lambda: registry.register(members))
    started = time.perf_counter()
    writing.start()
    done = side.wait_all({member.overlay for member in members}, seconds=_PATIENCE)
    writing.join()
    return done - started


def _lost(stage: Stage, side: NetiSide, gone: Sequence[Member]) -> tuple[float, int]:
    """Seconds until all of them are held, and how many addresses the kernel has then."""
    started = time.perf_counter()
    call_inside(stage.registry, lambda: registry.lose(gone))
    _until(side, lambda members: members["held"] >= len(gone))
    took = time.perf_counter() - started
    return took, stage.overlay_count()


def _returned(stage: Stage, side: NetiSide, gone: Sequence[Member]) -> float:
    started = time.perf_counter()
    call_inside(stage.registry, lambda: registry.register(gone))
    _until(side, lambda members: members["held"] == 0 and members["lost"] == 0)
    return time.perf_counter() - started


def _until(side: NetiSide, so: Callable[[dict[str, int]], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not so(side.agent.ask("status")["members"]):
        if time.monotonic() > deadline:
            raise NetiError("the agent never came to hold, or to release, what it should")
        time.sleep(0.1)


# --- the 2014 pipeline ---


def _pipeline(stage: Stage, members: Sequence[Member], burst: Sequence[Member]) -> dict[str, Times]:
    with old(stage) as side:
        cpu = side.cpu()
        times = {}
        for what, joining, total in (
            ("all join at once", members, len(members)),
            (f"burst of {len(burst)} joins", burst, len(members) + len(burst)),
        ):
            writing = _beside(stage, partial(registry.register, joining))
            started = time.perf_counter()
            writing.start()
            times[what] = once(side.wait_count(total, seconds=_PATIENCE) - started)
            writing.join()
            if what == "all join at once":
                times["  CPU of it, leases checked"] = once(side.cpu() - cpu)
        for gone in (members, burst):
            call_inside(stage.registry, partial(registry.lose, gone))
        return times


def _beside(stage: Stage, write: Callable[[], None]) -> threading.Thread:
    """Writing while this thread listens."""
    return threading.Thread(target=call_inside, args=(stage.registry, write))


# --- a kernel loaded in full, once it is full ---


def _full_load(stage: Stage, members: Sequence[Member], rounds: int) -> Times:
    times = Times()
    with measure.raw_kernel(stage, members) as (dataplane, replace):
        for _ in range(rounds):
            started = time.perf_counter()
            dataplane.apply(replace())
            times.each.append(time.perf_counter() - started)
    return times


def _full_load_2014(stage: Stage, members: Sequence[Member], rounds: int) -> Times:
    times = Times()

    def load() -> None:
        pipeline2014.prepare()
        pipeline2014.load(members)
        for _ in range(rounds):
            started = time.perf_counter()
            pipeline2014.load(members)
            times.each.append(time.perf_counter() - started)

    call_inside(stage.old, load)
    return times
