"""With which key this host's entry was made, and what follows where the registry says another one.

Peers hear of a key only with a new entry. So an entry that was made with another key than the
present one, by an earlier run or before encryption was turned on, is replaced by the next
generation; and a key that another host holds, or that was revoked, is replaced by a new one.

Must never do: take an entry's key for told before its record says it, or this run wrote both.
"""

from collections.abc import Callable
from typing import Final

from neti import log
from neti.agent.core import Core
from neti.agent.rotating import Rotating
from neti.errors import KeyRevoked, KeyTaken
from neti.registry.record import HostId

_SAID: Final = 3600.0  # seconds for which it is said that somebody else has our key


class EntryKey:
    """Not thread-safe: the loop's thread owns it. ``entry``: the name under which this host is
    registered now, if it is. ``anew``: register with the next generation, at a limited rate."""

    def __init__(
        self,
        core: Core,
        rotating: Rotating,
        *,
        entry: Callable[[], str | None],
        anew: Callable[[], None],
    ) -> None:
        self._core = core
        self._entry = entry
        self._anew = anew
        self.rotating = rotating
        self._asked = ""  # the key with which we asked to register last
        # An entry of ours, and the key with which it was made, as far as that is known.
        self._made: tuple[str, str] | None = None

    def another_than(self, key: str) -> str | None:
        """The present entry, if it is known to be made with another key than this one."""
        if self._made is None or self._made[0] != self._entry() or self._made[1] == key:
            return None
        return self._made[0]

    def asked(self, name: str, key: str) -> None:
        """This host asks to register by this name, with this key."""
        self._asked = key
        if not self._core.members.fleet.stands(name):
            self._made = name, key

    def look(self) -> None:
        """This host is registered, perhaps by an entry that was there before: then its record says
        with which key."""
        core, entry, key = self._core, self._entry(), self._core.own_key.text
        fleet, host_id = core.members.fleet, core.host.id
        # What is believed of this host may still be what a former entry's record said.
        proved = entry is not None and fleet.has_proved(host_id, entry)
        if entry is not None and proved and key == str(fleet.keys.get(host_id, "")):
            self._made = entry, key
        if self._made == (entry, key):
            self._told()
        else:
            core.out.registry.ask([HostId(core.host.id)])

    def read(self, said: str) -> None:
        """What our record says to our entry."""
        entry, key = self._entry(), self._core.own_key.text
        if entry is None or (not said and self._made == (entry, key)):
            return  # we made it with our key: the tree has no place for keys
        self._made = entry, said
        if said == key:
            self._told()
        else:
            log.info("registers_with_its_key", entry=entry)
            self._anew()

    def _told(self) -> None:
        self.rotating.told()
        if self._core.own_key.registered():
            self._core.soon("roads")

    def taken(self, error: KeyTaken) -> None:
        """A copy of this host's state folder runs elsewhere, or somebody was the first to publish
        the key."""
        core = self._core
        if core.own_key.text == self._asked:  # the registry may have told of it meanwhile
            core.own_key.another()
        if isinstance(error, KeyRevoked):
            log.warning("key_revoked", what=str(error))
            core.soon("register")
            return
        log.error("key_taken", what=str(error))
        core.problems.set("key_taken", f"{error}, and makes one")
        core.soon("key_taken", _SAID)
        core.timers.retry("register", core.now())

    def taken_is_over(self) -> None:
        """The timer "key_taken": long enough for somebody to hear of it, if another key serves."""
        core = self._core
        if self._made is not None and self._made == (self._entry(), core.own_key.text):
            core.problems.clear("key_taken")
        elif "key_taken" in core.problems:
            core.soon("key_taken", _SAID)
