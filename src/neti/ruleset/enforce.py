"""What maps ``enforce`` and ``narrowed`` and set ``require`` hold, and the commands that make them
so. Pure.

Map ``enforce`` is what makes the difference between shadow, trial and enforced. Set ``require`` is
what makes the one between preferred and required encryption. Map ``narrowed`` is a trial of what
``member_ports`` takes away from members. Neither of the two is ever armed without the first.

It promises that a trial ends by the kernel's own clock: its elements have a time-out, and taking
that off (``confirm_trial``) fails as a whole once the trial is over.

Must never do: begin a trial again that is over, or make one longer, except by ``begin_trial``; put
anything into map ``narrowed`` that has no end.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from neti.ruleset.objects import (
    FAMILIES,
    FOREIGN,
    RELAXED_MARK,
    DeleteElements,
    Drop,
    KernelState,
    Require,
)
from neti.ruleset.set_names import SetName

Held = Mapping[str, int | None]  # as KernelState.enforce, .require and .narrowed
Arming = DeleteElements | Drop | Require


@dataclass(frozen=True, slots=True)
class Enforcement:
    """What map ``enforce`` should hold: nothing, drop for good, or drop for ``seconds``, after
    which the kernel itself goes back to shadow.

    ``require``: the same of set ``require``, in seconds; 0: nothing; None: for good. ``narrow``:
    the same of map ``narrowed``, where nothing is for good: the rules themselves say it then.
    """

    permanent: bool = False
    seconds: float = 0
    relaxed: bool = False  # nothing, and the mark that an operator left stays
    require: float | None = 0
    narrow: float = 0

    def __bool__(self) -> bool:
        return self.permanent or self.seconds > 0

    @property
    def requires(self) -> bool:
        return self.require is None or self.require > 0

    def drop(self) -> Drop:
        return Drop(None if self.permanent else _milliseconds(self.seconds))

    def refuse(self) -> Require:
        return Require(None if self.require is None else _milliseconds(self.require))

    def keep_out(self) -> Drop:
        return Drop(_milliseconds(self.narrow), "narrowed")

    def commands(self) -> "tuple[Arming, ...]":
        """Into a kernel that holds nothing of it."""
        return (
            *((self.drop(),) if self else ()),
            *((self.refuse(),) if self.requires else ()),
            *((self.keep_out(),) if self.narrow > 0 else ()),
        )

    def for_good(self) -> "Enforcement":
        """As it is once its trial is confirmed."""
        return replace(PERMANENT, require=None if self.requires else 0)


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


OFF: Final = Enforcement()
PERMANENT: Final = Enforcement(permanent=True)
REQUIRED: Final = Enforcement(permanent=True, require=None)
RELAXED: Final = Enforcement(relaxed=True)

# Seconds: the kernel reports whole ones, and time passes between reading and applying.
_TRIAL_SLACK: Final = 2


def enforce_commands(wanted: Enforcement, held: Held) -> tuple[Arming, ...]:
    """Commands that turn map ``enforce``, which holds ``held``, into what is wanted.

    A trial whose elements are gone is over, and does not begin again here: only ``begin_trial`` may
    do that. If an element ends between reading and applying, the whole transaction fails, and the
    caller reads the kernel again.
    """
    if _is_so(None if wanted.permanent else wanted.seconds, held):
        return ()
    if wanted.permanent or (wanted.seconds and _whole(held)):
        return (*_emptied("enforce", held), wanted.drop())
    return _emptied("enforce", (k for k in held if not (wanted.relaxed and k == RELAXED_MARK)))


def require_commands(wanted: Enforcement, held: Held | None) -> tuple[Arming, ...]:
    """The same of set ``require``. ``held``: None where the table has no such set."""
    if held is None or _is_so(wanted.require, held):
        return ()
    if wanted.require is None or (wanted.require and _whole(held)):
        return (*_emptied("require", held), wanted.refuse())
    return _emptied("require", held)


def narrow_commands(wanted: Enforcement, held: Held | None) -> tuple[Arming, ...]:
    """The same of map ``narrowed``."""
    if held is None or _is_so(wanted.narrow, held):
        return ()
    if wanted.narrow and _whole(held):
        return (*_emptied("narrowed", held), wanted.keep_out())
    return _emptied("narrowed", held)


def arming(wanted: Enforcement, kernel: KernelState) -> tuple[Arming, ...]:
    """All of them."""
    return (
        *enforce_commands(wanted, kernel.enforce),
        *require_commands(wanted, kernel.require),
        *narrow_commands(wanted, kernel.narrowed),
    )


def _whole(held: Held) -> bool:
    """Whether both families are there, and nothing else."""
    return set(held) == set(FAMILIES) and FOREIGN not in held.values()


def _is_so(seconds: float | None, held: Held) -> bool:
    """``seconds``: wanted; None: for good."""
    if not _whole(held):
        return False
    if seconds is None:
        return all(left is None for left in held.values())
    most = seconds + _TRIAL_SLACK
    return seconds > 0 and all(left is not None and left <= most for left in held.values())


def begin_trial(
    wanted: Enforcement, held: Held, required: Held | None = None, narrowed: Held | None = None
) -> tuple[Arming, ...]:
    """Commands that arm the kernel as ``wanted``, with the time-outs counted from now. ``held``,
    ``required``, ``narrowed``: as ``arming``'s. What is in force for good stays as it is."""
    commands: list[Arming] = []
    if not (wanted.permanent and _is_so(None, held)):
        commands += (*_emptied("enforce", held), wanted.drop())
    # Where the table has no such set, the kernel refuses all of it: nobody is told that it is on
    # trial when it is not.
    if wanted.requires and not (wanted.require is None and _is_so(None, required or {})):
        commands += (*_emptied("require", required or ()), wanted.refuse())
    if wanted.narrow > 0:
        commands += (*_emptied("narrowed", narrowed or ()), wanted.keep_out())
    return tuple(commands)


def confirm_trial(wanted: Enforcement) -> tuple[Arming, ...]:
    """Commands that take the time-outs off a trial of ``wanted``. They fail as a whole if it is
    over by then, so it does not matter how long this process was stopped between deciding and
    applying."""
    good = wanted.for_good()
    commands: list[Arming] = []
    if not wanted.permanent:
        commands += (DeleteElements("enforce", FAMILIES), good.drop())
    if wanted.require is not None and wanted.requires:
        commands += (DeleteElements("require", FAMILIES), good.refuse())
    if wanted.narrow > 0:
        commands.append(DeleteElements("narrowed", FAMILIES))
    return tuple(commands)


def confirmed_state(good: Enforcement, kernel: KernelState) -> KernelState:
    """What ``confirm_trial`` makes of ``kernel``. ``good``: as confirmed."""
    always = dict.fromkeys(FAMILIES)
    return replace(
        kernel,
        enforce=always,
        require=always if good.require is None else kernel.require,
        narrowed=None if kernel.narrowed is None else {},
    )


def _emptied(where: SetName, keys: Iterable[str]) -> tuple[DeleteElements, ...]:
    """Adding an element that is there would not refresh its time-out, and kernels before Linux 5.10
    refuse it."""
    gone = tuple(keys)
    return (DeleteElements(where, gone),) if gone else ()
