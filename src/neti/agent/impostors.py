"""Entries under this host's id that this host did not make: a problem, and answered at a limited
rate.

To answer means to register again, with the next generation: that takes the host's place back from
an entry that peers believe. Each answer is a change for every peer, and may cost the host its
session for a moment. So answers get rarer, from at once to one a minute, no matter how many such
entries come and how fast. An entry that no peer believes, because its overlay address is not this
host's, is a problem but is never answered.

Must never do: answer each of many entries, write a log line for each, or go on naming an entry that
the registry does not hold any more.
"""

from collections.abc import Callable
from typing import Final

from neti import log
from neti.agent import own_entry
from neti.agent.core import Core

# Seconds to wait before the first answer, the second, and so on; the last one stays.
_PAUSES: Final = (0.0, 1.0, 5.0, 15.0, 30.0, 60.0)
_QUIET_AFTER: Final = 600.0  # seconds without a reason to answer, after which the pauses start over
_SAID_EVERY: Final = 60.0  # seconds between two log lines about such entries
_LOOK_AFTER: Final = 5.0  # seconds after registering, when a replaced entry has vanished


class Impostors:
    """Not thread-safe: the loop's thread owns it. ``ours``: names that this host made or asked
    for."""

    def __init__(self, core: Core, ours: Callable[[str], bool]) -> None:
        self._core = core
        self._ours = ours
        self._names: dict[str, None] = {}
        self._tried: set[str] = set()  # we tried to replace these, so they are not our session's
        self._answers = 0
        self._answered = float("-inf")  # when the last answer is due, CLOCK_MONOTONIC
        self._said = float("-inf")
        self._unsaid = 0

    def appeared(self, name: str) -> None:
        """Any name; most are not an impostor's."""
        if own_entry.speaks_for(self._core.host.id, name) and not self._ours(name):
            self._note(name)
            if self._may_be_believed(name):
                self.answer()

    def vanished(self, name: str) -> None:
        self._tried.discard(name)
        if name in self._names:
            del self._names[name]
            self._tell()

    def listed(self) -> None:
        """A complete list was taken in: what is not in it has vanished."""
        fleet = self._core.members.fleet
        gone = [name for name in self._names if not fleet.stands(name)]
        for name in gone:
            del self._names[name]
        self._tried = {name for name in self._tried if fleet.stands(name)}
        if gone:
            self._tell()

    def look_soon(self) -> None:
        """After registering: look for entries that came while nobody looked, or before this agent
        started."""
        self._core.soon("others", _LOOK_AFTER)

    def look(self) -> None:
        fleet, host_id = self._core.members.fleet, self._core.host.id
        others = [n for n in fleet.names_of(host_id) if fleet.stands(n) and not self._ours(n)]
        if fleet.records != "off":  # a former entry of ours stands until its session ends
            others = [n for n in others if n in fleet.unvouched]
        for name in others:
            if name not in self._names:
                self._note(name)
        if any(name not in self._tried and self._may_be_believed(name) for name in others):
            self.answer()

    def _may_be_believed(self, name: str) -> bool:
        """A peer believes an entry only with the overlay address that is leased to its host, and
        where records decide, none that this host's does not name: if that names another one, it is
        answered for what it says, and not for the entry."""
        own, fleet = self._core.members.overlay, self._core.members.fleet
        if fleet.records == "strict":
            return False
        return own is None or own_entry.overlay_in(name) == own

    def to_replace(self, names: list[str]) -> str | None:
        """Which of these entries the registry should replace if it belongs to our session: one that
        was not tried yet, and preferably one that did not come as an impostor's."""
        names.sort(key=lambda name: (name in self._tried, name in self._names))
        chosen = names[0] if names else None
        if chosen is not None:
            self._tried.add(chosen)
        return chosen

    def answer(self) -> None:
        """Look the lease up and register again, at a limited rate."""
        now = self._core.now()
        if now >= self._answered + _QUIET_AFTER:
            self._answers = 0
        if now < self._answered:
            return  # an answer is under way, and it covers all that come before it
        pause = _PAUSES[min(self._answers, len(_PAUSES) - 1)]
        self._answers += 1
        self._answered = now + pause
        self._core.soon("register", pause)

    def _note(self, name: str) -> None:
        self._names[name] = None
        self._tell()
        self._unsaid += 1
        now = self._core.now()
        if now >= self._said + _SAID_EVERY:
            log.error("another_speaks_for_this_host", entry=name, since_last=self._unsaid)
            self._said, self._unsaid = now, 0

    def _tell(self) -> None:
        problems = self._core.problems
        if not self._names:
            problems.clear("impostor")
            return
        first = next(iter(self._names))
        others = f" and {len(self._names) - 1} more" if len(self._names) > 1 else ""
        problems.set(
            "impostor",
            f"somebody else has registered under this host's id: {first}{others}: "
            "'neti registry check' on an operator's machine says by whose certificate",
        )
