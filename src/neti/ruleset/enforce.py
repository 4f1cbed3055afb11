"""What map ``enforce`` holds, and the commands that make it so: shadow, trial, enforced. Pure.

It promises that a trial ends by the kernel's own clock: its elements have a time-out, and taking
that off (``confirm_trial``) fails as a whole once the trial is over.

Must never do: begin a trial again that is over, or make one longer, except by ``begin_trial``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from neti.ruleset.objects import FAMILIES, FOREIGN, RELAXED_MARK, DeleteElements, Drop


@dataclass(frozen=True, slots=True)
class Enforcement:
    """What map ``enforce`` should hold: nothing, drop for good, or drop for ``seconds``, after
    which the kernel itself goes back to shadow."""

    permanent: bool = False
    seconds: float = 0
    relaxed: bool = False  # nothing, and the mark that an operator left stays

    def __bool__(self) -> bool:
        return self.permanent or self.seconds > 0

    def drop(self) -> Drop:
        return Drop(None if self.permanent else max(1, int(self.seconds * 1000)))


OFF: Final = Enforcement()
PERMANENT: Final = Enforcement(permanent=True)
RELAXED: Final = Enforcement(relaxed=True)

# Seconds: the kernel reports whole ones, and time passes between reading and applying.
_TRIAL_SLACK: Final = 2


def enforce_commands(
    wanted: Enforcement, held: Mapping[str, int | None]
) -> tuple[DeleteElements | Drop, ...]:
    """Commands that turn map ``enforce``, which holds ``held``, into what is wanted.

    A trial whose elements are gone is over, and does not begin again here: only ``begin_trial`` may
    do that. If an element ends between reading and applying, the whole transaction fails, and the
    caller reads the kernel again.
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
    return _emptied(key for key in held if not (wanted.relaxed and key == RELAXED_MARK))


def begin_trial(
    wanted: Enforcement, held: Mapping[str, int | None]
) -> tuple[DeleteElements | Drop, ...]:
    """Commands that arm the kernel as ``wanted``, with the time-out counted from now."""
    return (*_emptied(held), wanted.drop())


def confirm_trial() -> tuple[DeleteElements | Drop, ...]:
    """Commands that take the time-out off a trial. They fail as a whole if it is over by then, so
    it does not matter how long this process was stopped between deciding and applying."""
    return DeleteElements("enforce", FAMILIES), PERMANENT.drop()


def _emptied(keys: Iterable[str]) -> tuple[DeleteElements, ...]:
    """Adding an element that is there would not refresh its time-out, and kernels before Linux 5.10
    refuse it."""
    gone = tuple(keys)
    return (DeleteElements("enforce", gone),) if gone else ()
