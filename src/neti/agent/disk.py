"""What goes to disk while the agent runs, and what is not there yet.

Must never do: let a disk that fails stop the kernel from being kept in step.
"""

import errno
from collections.abc import Callable, Iterable
from typing import Final

from neti import log
from neti.agent.timers import Timers
from neti.clock import Clock
from neti.model.problems import Problems
from neti.state.folder import StateFolder
from neti.state.loaded import Fault, StateError
from neti.state.records import Self
from neti.words import why

_OF_THE_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})


class Disk:
    """Not thread-safe: the loop's thread owns it. ``faults``: what could not be used at the start;
    each remains until its file is written."""

    def __init__(
        self,
        folder: StateFolder,
        itself: Self,
        faults: Iterable[Fault],
        *,
        clock: Clock,
        problems: Problems,
        timers: Timers,
    ) -> None:
        self.itself = itself
        self.behind: dict[str, Callable[[], None]] = {}  # by file: the function that writes it
        self._folder = folder
        self._clock = clock
        self._problems = problems
        self._timers = timers
        self._faults = {str(number): fault for number, fault in enumerate(faults)}
        for subject, fault in self._faults.items():
            log.warning("state_fault", what=fault)
            problems.set("state", fault, subject=subject)
        folder.on_written(self._mended)

    def keep(self, name: str, write: Callable[[], None]) -> bool:
        """Write the file ``name`` by calling ``write``, again and again until it succeeds;
        ``write`` takes what is known when it is called. Returns whether the file is on disk now."""
        try:
            write()
        except StateError as error:
            if name not in self.behind:
                log.error("state_not_written", what=str(error), file=name)
            self.behind[name] = write
            self._problems.set("disk", self._sentence(error), subject=name)
            if "disk" not in self._timers.due:
                self._timers.retry("disk", self._clock.monotonic())
        else:
            if self.behind.pop(name, None) is not None:
                log.info("state_written_again", file=name)
            self._problems.clear("disk", subject=name)
            if not self.behind:
                self._timers.worked("disk")
        return name not in self.behind

    def _sentence(self, error: StateError) -> str:
        """One for all files, where it is the disk: nobody learns more from three."""
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in _OF_THE_DISK:
            return f"{self._folder.path}: cannot be written: {why(cause)}"
        return str(error)

    def keep_what_is_behind(self) -> None:
        """The timer "disk"."""
        for name, write in tuple(self.behind.items()):
            self.keep(name, write)

    def unsaved(self, name: str) -> str | None:
        """Why the file on disk is behind; None: it is not."""
        held = self._problems.get("disk", subject=name)
        return held.sentence if held is not None and name in self.behind else None

    def keep_self(self, itself: Self) -> None:
        if itself != self.itself:
            self.itself = itself
            self.keep("self.json", lambda: self._folder.save_self(self.itself))

    def torn(self) -> set[str]:
        """The files that could not be used and have not been written since."""
        return {fault.file for fault in self._faults.values()}

    def overlook(self, name: str) -> None:
        """That this file could not be used changes nothing here."""
        self._mended(name)

    def _mended(self, name: str) -> None:
        for key in [key for key, fault in self._faults.items() if fault.file == name]:
            del self._faults[key]
            self._problems.clear("state", subject=key)
