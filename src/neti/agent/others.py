"""Other programs that change nftables: who they were, when to look, and whether it is a fight.

Must never do: make a repair wait while this host does not drop what it should.
"""

from collections.abc import Iterable
from typing import Final

from neti import log
from neti.agent.core import Core
from neti.agent.fight import Fight
from neti.dataplane.monitor import RulesChanged
from neti.errors import DataplaneError

_SETTLE: Final = 0.2  # seconds in which other programs' changes are gathered before a look
_LOOK_SHARE: Final = 10  # a look may take a tenth of the time, but
# this many seconds are enough: with the look itself, at 16,000 members on a busy host, a repair
# takes less than two seconds.
_LOOK_AT_LEAST: Final = 1.2
_AGAIN: Final = 30.0


class OtherPrograms:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._looked_at = 0.0  # when the last look for drift ended, and
        self._look_took = 0.0  # how long it took
        self._network_looked_at = 0.0  # the same for looks at links, addresses and routes
        self._network_look_took = 0.0
        self._changed_by: dict[RulesChanged, None] = {}  # who changed nftables since the last look
        self.fight = Fight()

    def changed(self, change: RulesChanged) -> None:
        core = self._core
        if change not in self._changed_by:
            log.info("rules_changed_by_other", pid=change.pid, program=change.program)
        self._changed_by[change] = None
        # On a host where some program changes rules all the time, looking must not cost more than
        # a tenth of a processor.
        rest = min(self._look_took * _LOOK_SHARE, _LOOK_AT_LEAST)
        core.soon("drift", max(_SETTLE, self._looked_at + rest - core.now(), self._pause()))

    def _pause(self) -> float:
        """How long a repair may wait in a fight. It must not wait while the host does not drop what
        it should, or its rules are not as they were left, because the host may be open, or cut
        off."""
        core = self._core
        pause = self.fight.pause(core.now())
        if not pause:
            return 0.0
        try:
            return pause if core.out.reconciler.judges(core.stage.enforcement()) else 0.0
        except DataplaneError:
            return 0.0

    def looked(self, began: float) -> None:
        """A look for drift is done."""
        self._looked_at = self._core.now()
        self._look_took = self._looked_at - began

    def settled(self) -> None:
        """All is as it should be: whoever changed something so far did not cause the next
        repair."""
        self._changed_by.clear()

    def looked_at_network(self, began: float) -> None:
        """A look at links, addresses and routes is done."""
        self._network_looked_at = self._core.now()
        self._network_look_took = self._network_looked_at - began

    def network_changed(self) -> None:
        """Where routes change all the time and there are very many, looking must not cost more than
        a tenth of a processor either."""
        now = self._core.now()
        rest = min(self._network_look_took * _LOOK_SHARE, _LOOK_AT_LEAST)
        again = self._network_looked_at + rest - now
        self._core.soon("network", max(_SETTLE, again, self.fight.pause(now)))

    def repaired(self, what: str) -> None:
        core = self._core
        log.warning("drift_repaired", what=what, by=_named(self._changed_by) or "unknown")
        parties = [each for each in self._changed_by if self.fight.party(each.program, each.pid)]
        if self._changed_by and not parties:
            return  # an operator's word, and no program that will do it again
        who = _named(parties)
        fought = self.fight.sentence(core.now())
        self.fight.repaired(core.now(), who)
        self.name_fight()
        sentence = self.fight.sentence(core.now())
        if sentence is not None and fought is None:
            log.error("drift_fight", what=sentence)

    def name_fight(self) -> None:
        sentence = self.fight.sentence(self._core.now())
        if sentence is None:
            self._core.problems.clear("fight")
        else:
            self._core.problems.set("fight", sentence)
            self._core.soon("fight", _AGAIN)


def _named(changes: Iterable[RulesChanged]) -> str:
    return ", ".join(
        f"{each.program} (pid {each.pid})" if each.pid else "an unknown program" for each in changes
    )
