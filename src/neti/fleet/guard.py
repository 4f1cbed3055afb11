"""Mass removal is held: is what happens to the fleet a few hosts' end, or the registry's? Pure.

One rule, on distinct hosts and a sliding window, so that slices just below the threshold add up and
a host that flaps counts once. See docs/design/guard.md.

Must never do: look at additions, or let part of a batch through.
"""

from collections.abc import Collection, Mapping
from typing import Final

WINDOW_SECONDS: Final = 600.0
# Below this many members half of them says nothing: one of two hosts may well be switched off.
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
        """From now on so many removals are let through in ten minutes, 1-10,000."""
        self._maxchange = maxchange

    def objection(
        self,
        due: Collection[str],
        absent: Collection[str],
        members: Collection[str],
        *,
        now: float,
    ) -> str | None:
        """Why ``due`` (ids) must not be removed now; None when they may go.

        ``absent``: everybody who is lost or held, also those whose time is not over: they are on
        their way out too. ``members``: who is accepted, all of these included.
        """
        self._forget(now)
        least = max(len(self.window), len(absent), len(due))
        if least > self._maxchange:
            # Enough to say no. When thousands leave one by one, each must cost the same.
            return (
                f"{least} hosts or more would be gone within ten minutes: more than maxchange "
                f"({self._maxchange})"
            )
        out = {*self.window, *absent, *due}
        # As it was before: who was let go and did not come back belonged to it.
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
        """Whether who is held since then still belongs to what is happening now."""
        return not held_since < now - WINDOW_SECONDS

    def let_go(self, ids: Collection[str], *, now: float) -> None:
        self._forget(now)
        self.window.update(dict.fromkeys(ids, now))

    def _forget(self, now: float) -> None:
        over = [i for i, at in self.window.items() if not now - WINDOW_SECONDS < at <= now]
        for host_id in over:
            del self.window[host_id]


def ends_by_itself(held: int, members: int) -> bool:
    """Whether a hold of so many may end after ``hold_seconds``: up to a quarter of the fleet. A
    larger one waits for a word, however long that takes."""
    return 4 * held <= members
