"""Whether what Neti lets in really gets in: first packets of members, counted twice. Pure.

``asked`` counts them where our own chain lets them in, ``arrived`` after every other program's
chain. The difference is what another program's table dropped, but for what our own refused because
of ``member_ports``. Must never do: conclude anything from few packets, or from none.
"""

from dataclasses import dataclass
from typing import Final

_ENOUGH: Final = 5  # first packets; one that is dropped is sent again after 1, 3, 7 seconds
_ALL: Final = 0.9  # some are on their way while the counters are read


@dataclass(slots=True)
class Arrivals:
    """``kept_out``: this many first packets in a row did not arrive; 0 while any does, and while it
    is not known. ``get_in``: all or nearly all of the latest ones arrived."""

    kept_out: int = 0
    get_in: bool = False
    _asked: int = 0  # as counted at the last conclusion
    _arrived: int = 0
    _counted: int = 0  # those asked, with the ones that our own table dropped

    def look(self, asked: int, arrived: int, refused: int = 0) -> None:
        """The counters as they stand. ``refused``: how many of the first our own table dropped."""
        if asked < self._counted or arrived < self._arrived:
            self._asked, self._arrived = 0, 0  # the table was made again
        self._counted = asked
        # The kernel reads one counter after the other, while packets go on.
        asked = max(self._asked, asked - refused)
        more, came = asked - self._asked, arrived - self._arrived
        if came > 0:
            self.kept_out = 0
        elif more >= _ENOUGH:
            self.kept_out = more  # and go on counting from the last that arrived
            self.get_in = False
            return
        if more >= _ENOUGH:
            self.get_in = came >= _ALL * more
            self._asked, self._arrived = asked, arrived


@dataclass(slots=True)
class Calls:
    """When a member last began a connection to this host, by the counter of the first packets that
    are let in, but for those of verifying. ``since``: from when on that is watched; None: it is
    not; ``at``: up to when, which is the last look. Steady seconds."""

    since: float | None = None
    last: float | None = None
    at: float | None = None
    _counted: int = 0

    def look(self, called: int, now: float) -> None:
        """The counter as it stands. One that is lower than before began at zero meanwhile."""
        if self.since is None:
            self.since, self.last = now, None  # what was counted before may be of any time
        elif called > self._counted or 0 < called < self._counted:
            self.last = now
        self._counted, self.at = called, now

    def stop(self) -> None:
        """Neti's rules are not in the kernel, so nothing is counted."""
        self.since = self.last = self.at = None
