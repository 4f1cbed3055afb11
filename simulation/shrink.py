"""The shortest story that ends in the same fault: acts are left out, by delta debugging."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from simulation.acts import Act
from simulation.run import Outcome, play

_ATTEMPTS: Final = 400


def shrunk(
    size: int, told: Sequence[Act], code: str, *, quiet: bool, attempts: int = _ATTEMPTS
) -> tuple[int, list[Act]]:
    """A smaller fleet and fewer acts, with a fault of the same code at the end.

    ``quiet``: whether it shows after quiet only.
    """
    left = attempts

    def fails(fleet: int, acts: Sequence[Act]) -> bool:
        nonlocal left
        left -= 1
        return left >= 0 and _ends_in(code, play(fleet, acts, to_the_end=quiet))

    kept = _fewer(list(told), lambda acts: fails(size, acts))
    for fleet in range(3, size):
        moved = [replace(act, host=act.host % fleet) if act.host >= 0 else act for act in kept]
        if fails(fleet, moved):
            return fleet, _fewer(moved, lambda acts, fleet=fleet: fails(fleet, acts))  # type: ignore[misc]  # a default in a lambda
    return size, kept


def _ends_in(code: str, outcome: Outcome) -> bool:
    return outcome.fault is not None and outcome.fault.code == code


def _fewer(acts: list[Act], fails: Callable[[list[Act]], bool]) -> list[Act]:
    chunk = max(1, len(acts) // 2)
    while True:
        start, gone = 0, False
        while start < len(acts):
            without = acts[:start] + acts[start + chunk :]
            if fails(without):
                acts, gone = without, True
            else:
                start += chunk
        if chunk == 1 and not gone:
            return acts
        if not gone or chunk > len(acts):
            chunk = max(1, chunk // 2)
