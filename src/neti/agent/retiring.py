"""Follows which hosts operators took out of the fleet: this one leaves, others go unguarded.

Must never do: take this host out by a word that cannot be read.
"""

from neti import log
from neti.agent.core import Core
from neti.agent.registration import Registration
from neti.registry.retired import RetiredUnreadable, decode
from neti.words import some


class Retiring:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(self, core: Core, registration: Registration) -> None:
        self._core = core
        self._registration = registration
        self._ids: frozenset[str] = frozenset()

    def take(self, value: bytes | None) -> None:
        """The live setting, as it stands now. One that cannot be read changes nothing."""
        core = self._core
        core.live.faults.pop("retired", None)
        try:
            words = decode(value)
        except RetiredUnreadable as error:
            core.live.faults["retired"] = str(error)
            log.warning("live_setting_ignored", what=str(error))
            return
        before, self._ids = self._ids, frozenset(words)
        if self._ids != before:
            log.info("hosts_retired", ids=some(self._ids - before), back=some(before - self._ids))
            core.members.fleet.retire(self._ids)
        self._registration.retire(words.get(core.host.id))
