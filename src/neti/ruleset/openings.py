"""Ports that are open to somebody for a time, as elements that the kernel itself ends. Pure.

A key is the source's network address, the protocol and the port. Each length of prefix has a set of
its own, and a rule that looks up the address cut to it. So networks may lie within each other, and
the sets are plain hashes: those of intervals and concatenations came with Linux 5.6 only, and
refuse what overlaps.

Must never do: give an element more time than its opening has left.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from neti.model.openings import Opening
from neti.ruleset.objects import AddTimed, DeleteElements, KernelState
from neti.ruleset.set_names import OpeningSet, opening_set, opening_set_of

# By set and key, CLOCK_MONOTONIC seconds at which each ends.
Until = Mapping[OpeningSet, Mapping[str, float]]
# Likewise whole seconds left.
Left = Mapping[OpeningSet, Mapping[str, int]]
# IP version and length of the prefix.
Lengths = tuple[tuple[int, int], ...]
# Seconds: the kernel reports whole ones, rounded down as ours are.
_SLACK: Final = 2


def lengths(openings: Iterable[Opening]) -> Lengths:
    return tuple(sorted({(one.source.version, one.source.prefixlen) for one in openings}))


def until(openings: Iterable[Opening], ahead: float) -> Until:
    """``ahead``: CLOCK_MONOTONIC minus steady time, now. Where several let in the same, the last
    end counts."""
    found: dict[OpeningSet, dict[str, float]] = {}
    for one in openings:
        held = found.setdefault(opening_set_of(one.source.version, one.source.prefixlen), {})
        for port in range(one.first, one.last + 1):
            key = f"{one.source.network_address} . {one.proto} . {port}"
            held[key] = max(held.get(key, 0.0), one.until + ahead)
    return found


def left(ends: Until, now: float) -> Left:
    """Without what is over, or will be before the kernel counts a second of it."""
    return {
        where: {key: int(end - now) for key, end in held.items() if end - now >= 1}
        for where, held in ends.items()
    }


def commands(wanted: Left, kernel: KernelState) -> Iterator[DeleteElements | AddTimed]:
    """What makes the kernel's sets so, as far as it has them. A time-out that differs is set anew:
    a longer one must not stay, and a shorter one was somebody else's."""
    for where, held in sorted(held_in(kernel).items()):
        ours = wanted.get(where, {})
        wrong = tuple(key for key, seconds in held.items() if not _is_so(ours.get(key), seconds))
        if wrong:
            yield DeleteElements(where, wrong)
        new = {key: one for key, one in ours.items() if key not in held or key in wrong}
        if new:
            yield AddTimed(where, new)


def held_in(kernel: KernelState) -> Left:
    """Of those sets of openings that the table has."""
    found = {}
    for name, held in kernel.timed.items():
        if (where := opening_set(name)) is not None:
            found[where] = held
    return found


def differing(most: Left, least: Left, kernel: KernelState) -> dict[OpeningSet, int]:
    """How many elements of each set are not as they were left. What is left of those as the kernel
    began to be read (``most``), and once it was: on a busy machine that takes seconds, and an
    element whose time has gone on meanwhile is nobody's doing."""
    found = held_in(kernel)
    counts = {}
    for where in most.keys() | found.keys():
        ours, held = most.get(where, {}), found.get(where, {})
        by_now = least.get(where, {})
        count = sum(
            key not in ours or not by_now.get(key, 0) - _SLACK <= seconds <= ours[key] + _SLACK
            for key, seconds in held.items()
        )
        # One that is about to end may have.
        count += sum(key not in held for key, seconds in by_now.items() if seconds > _SLACK)
        if count:
            counts[where] = count
    return counts


def _is_so(wanted: int | None, held: int) -> bool:
    return wanted is not None and abs(held - wanted) <= _SLACK
