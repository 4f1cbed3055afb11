"""The limit of connection tracking: raised before the first rule, put back by ``neti down``.

Sets what is wrong in ``problems`` and clears it when it is over. Raises nothing: a kernel that
keeps its limit is no reason to go without rules.
"""

from neti import log
from neti.dataplane.conntrack_limit import ConntrackLimit, Fill, Wanted
from neti.errors import DataplaneError
from neti.model.problems import Problems


class Tracking:
    """Not thread-safe: the agent's loop owns it. Without a limit (tests) it does nothing."""

    def __init__(self, limit: ConntrackLimit | None, problems: Problems) -> None:
        self._limit = limit
        self._problems = problems
        self._done_for: Wanted | None = None
        self.notes: tuple[str, ...] = ()
        self.fill: Fill | None = None

    def raise_to(self, wanted: Wanted) -> None:
        """Once for each setting: if somebody changes the limit afterwards, that is on purpose."""
        if self._limit is None or wanted == self._done_for:
            return
        before = self._limit.fill()
        try:
            self.notes = self._limit.raise_to(wanted)
        except DataplaneError as error:
            self._problems.set("conntrack_max", f"conntrack_max is not set: {error}")
            log.error("conntrack_max", what=str(error))
        else:
            self._problems.clear("conntrack_max")
            for sentence in self.notes:
                log.warning("conntrack_max", what=sentence)
        self._look()
        if self.fill is not None:  # otherwise the kernel does not track yet: next time
            self._done_for = wanted
            if before is None or before.limit != self.fill.limit:
                was = before.limit if before else "unset"
                log.info("conntrack_max_raised", was=was, now=self.fill.limit)

    @property
    def refused(self) -> str:
        """Why the limit is not as it was last asked for; empty: it is."""
        return self._problems.sentence("conntrack_max") or "; ".join(self.notes)

    def tick(self, wanted: Wanted) -> None:
        """Every minute: raise what could not be raised yet, and see how full the table is."""
        self.raise_to(wanted)
        self._look()

    def _look(self) -> None:
        if self._limit is None:
            return
        self.fill = self._limit.fill()
        sentence = self.fill.problem if self.fill is not None else None
        if sentence is None:
            self._problems.clear("conntrack")
            return
        if "conntrack" not in self._problems:
            log.warning("conntrack_nearly_full", what=sentence)
        self._problems.set("conntrack", sentence)

    def put_back(self) -> None:
        """Restore the former limit, after our rules are gone."""
        if self._limit is None:
            return
        self._done_for = None
        self.notes = ()
        try:
            for sentence in self._limit.put_back():
                log.warning("conntrack_max", what=sentence)
        except DataplaneError as error:
            log.error("conntrack_max", what=str(error))
