"""Holds mass removals: have a few hosts ended, or is something wrong with the registry? Pure.

One rule, over distinct hosts and a sliding window: several batches just below the threshold add up,
and a host that flaps counts once. See docs/design/guard.md.

Must never do: look at additions, or let part of a batch through.
"""

from collections.abc import Collection, Mapping
from typing import Final

WINDOW_SECONDS: Final = 600.0
# With fewer members, half of them means nothing: one of two hosts may well be switched off.
HALF_MATTERS_FROM: Final = 4
MAXCHANGE_DEFAULT: Final = 20


class Guard:
    """Not thread-safe: the agent's loop owns it."""

    def __init__(
        self, maxchange: int = MAXCHANGE_DEFAULT, window: Mapping[str, float] | None = None
    ) -> None:
        """``maxchange``: see ``allow``. ``window``: hosts that were let go, with the time (steady
        seconds)."""
        self._maxchange = maxchange
        self.window = dict(window or {})

    def allow(self, maxchange: int) -> None:
        """How many removals in ten minutes are let through from now on, 1-10,000."""
        self._maxchange = maxchange

    def objection(
        self,
        due: Collection[str],
        absent: Collection[str],
        members: Collection[str],
        *,
        now: float,
    ) -> str | None:
        """Why ``due`` (ids) must not be removed now; None: they may go.

        ``absent``: all that are lost or held, also those whose time is not over, because they are
        on their way out too. ``members``: all that are accepted, these included.
        """
        self._forget(now)
        least = max(len(self.window), len(absent), len(due))
        if least > self._maxchange:
            # That is enough to say no. If thousands leave one by one, each must cost the same.
            return (
                f"{least} hosts or more would be gone within ten minutes: more than maxchange "
                f"({self._maxchange})"
            )
        out = {*self.window, *absent, *due}
        # The fleet as it was before: with those that were let go and did not come back.
        fleet = len(members) + sum(1 for host_id in self.window if host_id not in members)
        if fleet >= HALF_MATTERS_FROM and 2 * len(out) > fleet:
            return f"{len(out)} of {fleet} hosts would be gone within ten minutes: more than half"
        if len(out) > self._maxchange:
            return (
                f"{len(out)} hosts would be gone within ten minutes: more than maxchange "
                f"({self._maxchange})"
            )
        return None

    def recent(self, held_since: float, *, now: float) -> bool:
        """Whether a host that has been held since then is part of what is happening now."""
        return not held_since < now - WINDOW_SECONDS

    def let_go(self, ids: Collection[str], *, now: float) -> None:
        self._forget(now)
        self.window.update(dict.fromkeys(ids, now))

    def _forget(self, now: float) -> None:
        over = [i for i, at in self.window.items() if not now - WINDOW_SECONDS < at <= now]
        for host_id in over:
            del self.window[host_id]


def ends_by_itself(held: int, members: int) -> bool:
    """Whether a hold of this size may end after ``hold_seconds``: up to a quarter of the fleet. A
    larger one waits for an operator, however long that takes."""
    return 4 * held <= members
