"""What map ``enforce`` holds, and the commands that make it so: shadow, trial, enforced. Pure.

It promises that a trial ends by the kernel's own clock: what is written for one has a time-out,
and taking that off (``confirm_trial``) fails as a whole once it is over.

Must never do: begin a trial again that is over, or lengthen one, unless it is asked for that by
name (``begin_trial``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from neti.ruleset import FAMILIES, FOREIGN, element_command


@dataclass(frozen=True, slots=True)
class Enforcement:
    """What map ``enforce`` should hold: nothing, drop for good, or drop for ``seconds``, after
    which the kernel itself goes back to shadow."""

    permanent: bool = False
    seconds: float = 0

    def __bool__(self) -> bool:
        return self.permanent or self.seconds > 0

    def elements(self) -> str:
        until = "" if self.permanent else f" timeout {max(1, int(self.seconds * 1000))}ms"
        return ", ".join(f"{family}{until} : drop" for family in FAMILIES)


OFF: Final = Enforcement()
PERMANENT: Final = Enforcement(permanent=True)

# Two seconds: the kernel tells whole seconds, and time passes between reading and applying.
_TRIAL_SLACK: Final = 2


def enforce_commands(wanted: Enforcement, held: Mapping[str, int | None]) -> tuple[str, ...]:
    """What makes map ``enforce``, which holds ``held``, as it is wanted.

    A trial whose elements are gone is over, and is not begun again here: only ``begin_trial`` may.
    """
    as_it_is = set(held) == set(FAMILIES)
    if wanted.permanent:
        if as_it_is and all(left is None for left in held.values()):
            return ()
        return begin_trial(wanted, held)
    if wanted.seconds and as_it_is and FOREIGN not in held.values():
        most = wanted.seconds + _TRIAL_SLACK
        if all(left is not None and left <= most for left in held.values()):
            return ()
        return begin_trial(wanted, held)
    ours = [key for key, left in held.items() if left != FOREIGN]
    return (*_without_foreign(held), *(_surely_deleted(ours) if ours else ()))


def begin_trial(wanted: Enforcement, held: Mapping[str, int | None]) -> tuple[str, ...]:
    """Commands that arm the kernel as ``wanted``, its time-out counted from now."""
    return (
        *_without_foreign(held),
        *_surely_deleted(FAMILIES),
        element_command("add", "enforce", (wanted.elements(),)),
    )


def confirm_trial() -> tuple[str, ...]:
    """Commands that take the time-out off a trial. They fail as a whole once it is over, however
    long this process was stopped between deciding and applying."""
    return (
        element_command("delete", "enforce", FAMILIES),
        element_command("add", "enforce", (PERMANENT.elements(),)),
    )


def _surely_deleted(families: Iterable[str]) -> tuple[str, str]:
    """One that ends by the kernel's clock just now cannot be deleted: add it first. And adding
    alone would not refresh a time-out."""
    keys = tuple(families)
    drops = [f"{family} : drop" for family in keys]
    return element_command("add", "enforce", drops), element_command("delete", "enforce", keys)


def _without_foreign(held: Mapping[str, int | None]) -> tuple[str, ...]:
    foreign = [key for key, left in held.items() if left == FOREIGN]
    return (element_command("delete", "enforce", foreign),) if foreign else ()
