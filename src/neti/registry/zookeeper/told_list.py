"""Which list of names the agent knows, by ZooKeeper's counters: whether it is still the list.

The ``cversion`` of a parent grows by one with every child that is made or deleted. So the events
are counted, and the list is another one if the count is wrong, or if the last change (``pzxid``)
was another one than we saw. The count alone proves little: an older copy of the registry, in which
as many hosts register again as had registered since, comes to the same count with other names.

Must never do: ask anybody anything.
"""

from typing import Final

from kazoo.protocol.states import ZnodeStat

from neti.registry import Origin
from neti.registry.zookeeper.requests import Stat

_NO_TREE: Final = -1  # a czxid that no node has


class ToldList:
    """``cversion`` None: no list was read yet. ``seen`` is the server's newest step that an answer
    has told of (a zxid). Not thread-safe: the connection thread owns it."""

    def __init__(self) -> None:
        self.cversion: int | None = None
        self.members = 0
        self._czxid = 0
        self._fleet = ""
        # Between these two, the former excluded, is the step that last changed the list. The latter
        # is None until an answer has come after the event.
        self._changed_after = 0
        self._changed_by: int | None = 0

    def read(self, members: int, parent: Stat, fleet: str) -> Origin:
        self.cversion, self._czxid = _unsigned(parent.cversion), parent.czxid
        self._changed_after, self._changed_by = parent.pzxid - 1, parent.pzxid
        self.members, self._fleet = members, fleet
        return Origin(fleet, self.cversion)

    def changed(self, by: int, seen: int) -> bool:
        """An event: so many members more. False: no list was read yet, in which it will be."""
        if self.cversion is None:
            return False
        self.cversion = _unsigned(self.cversion + 1)
        self.members += by
        self._changed_after, self._changed_by = seen, None
        return True

    def answered(self, seen: int) -> None:
        """The server's newest step is the last change that we saw, or came after it."""
        if self._changed_by is None:
            self._changed_by = seen

    def is_still(self, parent: ZnodeStat, fleet: str | None) -> bool:
        if (parent.czxid, fleet) != (self._czxid, self._fleet):
            return False
        if _unsigned(parent.cversion) != self.cversion:
            return False
        by = self._changed_by
        return by is not None and self._changed_after < parent.pzxid <= by

    def doubt(self) -> None:
        """It is not the list any more, whatever the counters say."""
        self._czxid = _NO_TREE


def _unsigned(number: int) -> int:
    """cversion is a signed 32-bit number that wraps."""
    return number & 0xFFFFFFFF
