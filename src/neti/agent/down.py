"""Whether an operator took Neti out of this kernel (``neti down``): the word, here and on disk.

If the disk cannot be written, a mark in the kernel stands for it: a table that judges nothing.
Whoever takes that table away ends it, because ``neti up`` without an agent has no other way to say
so. Must never do: touch anything but the word, or write ``down`` after it was ended.
"""

import contextlib
from collections.abc import Callable, Collection

from neti.agent.disk import Disk
from neti.dataplane.reconciler import Reconciler
from neti.errors import DataplaneError
from neti.model.said import NOTHING_SAID, Said
from neti.state.folder import StateFolder


class Down:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(
        self,
        folder: StateFolder,
        reconciler: Reconciler,
        disk: Disk,
        *,
        taken_away: Callable[[], Collection[str]],
    ) -> None:
        """``taken_away``: what else of the folder's is not there any more."""
        self._taken_away = taken_away
        self._folder = folder
        self._reconciler = reconciler
        self._disk = disk
        self.now = folder.is_down
        self.said = folder.down_by() if self.now else NOTHING_SAID
        self._obeyed = self.now  # what the disk said when it was last obeyed
        self._borne = False  # the kernel has the word, and the disk may not

    @property
    def asked(self) -> bool:
        """Also true if only the disk says it, because this process may have stood still
        meanwhile."""
        return self.now or (not self._obeyed and self._folder.is_down)

    def changed_on_disk(self) -> bool:
        """Whether a command changed it on disk without this agent. From now on that is obeyed."""
        said = self._folder.is_down
        if said == self._obeyed:
            return False
        if self.now and not said and self.emptied():
            return False  # nobody said "up": all else is gone as well, and ``keep`` writes it anew
        self._obeyed = said
        changed, self.now = said != self.now, said
        self.said = self._folder.down_by() if said else NOTHING_SAID
        return changed

    def emptied(self) -> bool:
        """Whether the word is gone with the whole folder, and not because of ``neti up``."""
        return self.now and not self._folder.is_down and bool(self._taken_away())

    def ended_in_kernel(self) -> bool:
        """Whether the word was taken out of the kernel that alone bore it. It is obeyed from here
        on."""
        if not self._borne or not self._mark_gone():
            return False
        self.now = self._borne = False
        self.said = NOTHING_SAID
        self.keep()
        return True

    def _mark_gone(self) -> bool:
        try:
            return not self._reconciler.marked_down()
        except DataplaneError:
            return False  # nobody can say

    def begin(self, said: Said = NOTHING_SAID, *, borne: bool = False) -> None:
        """``said``: by whom, and when; ``borne``: by the kernel, where it was found."""
        self.now, self.said, self._borne = True, said, borne

    def bear(self) -> None:
        """No disk takes it: the kernel is to bear it."""
        with contextlib.suppress(DataplaneError):
            self._reconciler.mark_down()
            self._borne = True

    def end(self) -> None:
        self.now = self._borne = False
        self.said = NOTHING_SAID
        with contextlib.suppress(DataplaneError):
            self._reconciler.unmark_down()
        self.keep()

    def keep(self) -> bool:
        """Whether it is on disk now."""
        saved = self._disk.keep("down", self._write)
        self._obeyed = self._folder.is_down  # even if it could not be written
        return saved

    def unsaved(self) -> str | None:
        return self._disk.unsaved("down")

    def _write(self) -> None:
        if self._borne and self._mark_gone():
            return  # ended meanwhile: ``ended_in_kernel`` follows
        self._folder.set_down(self.now, self.said)
        self._obeyed = self.now
        self._borne = False
        if self.now:
            with contextlib.suppress(DataplaneError):
                self._reconciler.unmark_down()
