"""Times that an earlier run wrote, as the present steady clock counts them. Pure, except for the
note.

Must never do: let a time lie in the future, or take the wall clock's word within one boot.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from neti import log
from neti.agent.core import Core
from neti.clock import Mark, SteadyClock
from neti.fleet.remembered import Remembered
from neti.model.openings import Openings
from neti.stage import stages
from neti.state.loaded import Loaded

_LOOK_EVERY: Final = 60.0  # seconds between checks whether somebody has set the clock
_SET_BY: Final = 2.0  # seconds: less than that is NTP's slewing


def rebased(loaded: Loaded, steady: SteadyClock) -> Loaded:
    """The same, with all past times moved by one number, so that their order stays. Within one boot
    only those that lie in the future: a file that could not be written after an earlier move must
    not make the times in the others older than they are. Future times are no further away than they
    were."""
    loaded.openings = openings_now(loaded.openings, steady)
    if loaded.record is not None:
        loaded.record = stages.moved(loaded.record, 0.0, steady.now())
    times = [*loaded.window.values()]
    for held in loaded.members.values():
        times += [held.lost_since] if held.lost_since is not None else []
        times += [held.hold.since] if held.hold is not None else []
    if not times:
        return loaded
    by, now = steady.shift(max(times)), steady.now()

    def moved(at: float) -> float:
        return min(at, now) if steady.same_boot else at + by

    if by:
        loaded.window = {host_id: moved(at) for host_id, at in loaded.window.items()}
        loaded.members = {host_id: _moved(held, moved) for host_id, held in loaded.members.items()}
    return loaded


def openings_now(before: Openings, steady: SteadyClock) -> Openings:
    """What was open, by the present steady clock."""
    return before.moved(steady.shift(before.as_of), steady.now()) if before.held else before


def _moved(held: Remembered, moved: Callable[[float], float]) -> Remembered:
    if held.lost_since is None:
        return held
    hold = replace(held.hold, since=moved(held.hold.since)) if held.hold is not None else None
    return replace(held, lost_since=moved(held.lost_since), hold=hold)


class ClockNote:
    """Keeps on disk how steady time relates to the wall clock. The loop's thread owns it."""

    def __init__(self, core: Core, written: Mark | None) -> None:
        self._core = core
        self._written = written

    def look(self) -> None:
        core = self._core
        core.soon("clock", _LOOK_EVERY)
        mark, before = core.steady.mark(), self._written
        if before is not None and before.boot == mark.boot:
            moved = mark.ahead - before.ahead
            if abs(moved) < _SET_BY and before.offset == mark.offset:
                return
            log.warning("clock_set", seconds=round(-moved, 1))
        self._written = mark
        core.disk.keep("clock.json", lambda: core.out.folder.save_clock(mark))
