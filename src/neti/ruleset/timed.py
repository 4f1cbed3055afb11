"""Elements with a time-out: which ones to put back when another program removes them.

If another program deletes a removed source (``nft flush ruleset`` is enough), its open connections
would work again; if one adds a source, a stranger would be cut off. The kernel keeps the time; this
remembers until when each element should stay, and never makes that longer.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from neti.clock import Clock
from neti.ruleset.delta import Changes
from neti.ruleset.objects import REVOKED_BY, TIMED, KernelState
from neti.ruleset.set_names import SetName

# Seconds: the kernel reports whole ones, and an element may end between reading and applying.
_SLACK: Final = 3.0

Timeouts = Mapping[SetName, Mapping[str, int]]
# Of one set: what has to be put back with the time it has left, and what has to go.
Mended = tuple[SetName, dict[str, int], list[str]]


class TimedElements:
    """Deadlines as they were last seen or written. It knows none before the first ``seen``, so a
    restarted agent believes what the kernel holds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[SetName, dict[str, float]] | None = None

    def seen(self, timed: Timeouts, began: float) -> None:
        """The kernel holds these, as it should. ``began``: CLOCK_MONOTONIC seconds at which they
        began to be read. Whoever was stopped meanwhile would otherwise expect them for longer than
        the kernel keeps them, and take their end for another program's doing."""
        self._until = {
            where: {key: began + left for key, left in timed.get(where, {}).items()}
            for where in TIMED
        }

    def applied(self, changes: Changes, began: float) -> None:
        """The kernel took these changes. ``began``: when it was told, as for ``seen``."""
        if self._until is None:
            return
        for where, timeouts in changes.revoked.items():
            self._until[where].update({key: began + left for key, left in timeouts.items()})
        for where, keys in changes.pardoned.items():
            for key in keys:
                self._until[where].pop(key, None)

    def mend(self, kernel: KernelState, wanted: Callable[[SetName, str], bool]) -> Iterator[Mended]:
        """For each set that somebody changed: what to put back, with the time it has left, and what
        to take out. ``wanted``: whether this is a peer, and so no removed source any more.

        If the whole table is gone, the grace time begins anew with the new one, for connections
        that began while there were no rules.
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


def peers_of(where: SetName) -> SetName | None:
    """The set of peers whose removed ones are in ``where``."""
    return next((peers for peers, revoked in REVOKED_BY.items() if revoked == where), None)
