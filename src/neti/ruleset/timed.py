"""Elements with a time-out: which ones to put back when another program removes them.

A removed source that another program deletes (``nft flush ruleset`` is enough) would have its open
connections back, and one that is added would cut off a stranger. The kernel holds the truth about
the time; this remembers until when each element is to stay, and never makes that longer.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from neti.clock import Clock
from neti.ruleset.delta import Changes
from neti.ruleset.objects import (
    REVOKED_BY,
    TIMED,
    AddTimed,
    Command,
    DeleteElements,
    KernelState,
    SetName,
)

# The kernel tells whole seconds, and an element may end between a reading and a transaction.
_SLACK: Final = 3.0

Timeouts = Mapping[SetName, Mapping[str, int]]
# Of one set: what has to be put back with the time it has left, and what has to go.
Mended = tuple[SetName, dict[str, int], list[str]]


class TimedElements:
    """Deadlines as they were last seen or written. Knows nothing before the first ``seen``, so
    that a restarted agent believes what the kernel holds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[SetName, dict[str, float]] | None = None

    def seen(self, timed: Timeouts) -> None:
        """The kernel holds these, and that is as it should be."""
        now = self._clock.monotonic()
        self._until = {
            where: {key: now + left for key, left in timed.get(where, {}).items()}
            for where in TIMED
        }

    def applied(self, changes: Changes) -> None:
        """The kernel took these changes."""
        if self._until is None:
            return
        now = self._clock.monotonic()
        for where, timeouts in changes.revoked.items():
            self._until[where].update({key: now + left for key, left in timeouts.items()})
        for where, keys in changes.pardoned.items():
            for key in keys:
                self._until[where].pop(key, None)

    def mend(self, kernel: KernelState, wanted: Callable[[SetName, str], bool]) -> Iterator[Mended]:
        """For each set that somebody changed: what has to be put back with the time it has left,
        and what has to go. ``wanted`` says who is a peer, and so no removed source any more.

        Where the whole table is gone the grace time begins anew with the new one, for connections
        that came about while no rule looked.
        """
        if self._until is None:
            return
        for where in TIMED:
            if where == "grace" and kernel.structure is None:
                continue
            held = kernel.timed.get(where, {})
            back = {
                key: int(left)
                for key, left in self._left(where).items()
                if left > _SLACK and key not in held and not wanted(where, key)
            }
            gone = [key for key in held if key not in self._until[where]]
            if back or gone:
                yield where, back, gone

    def _left(self, where: SetName) -> dict[str, float]:
        now = self._clock.monotonic()
        assert self._until is not None
        return {key: until - now for key, until in self._until[where].items()}


def commands(where: SetName, back: Mapping[str, int], gone: list[str]) -> Iterator[Command]:
    """What puts the set right. Should one of ``gone`` end meanwhile, the transaction fails, and
    the kernel is looked at again."""
    if gone:
        yield DeleteElements(where, tuple(gone))
    if back:
        yield AddTimed(where, back)


def peers_of(where: SetName) -> SetName | None:
    """The set of peers whose removed ones are in ``where``."""
    return next((peers for peers, revoked in REVOKED_BY.items() if revoked == where), None)
