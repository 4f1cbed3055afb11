"""What is open on this host for a time: what is decided, and what the kernel should hold of it.

The kernel ends each opening by its own clock. Here it is kept until when that is: so a restart, a
reboot or somebody's flush neither ends one early nor makes it longer.

Must never do: decide anything itself, or give an opening more time than was said.
"""

from typing import TYPE_CHECKING, Final

from neti.model.openings import Opening, Openings
from neti.ruleset import openings as elements
from neti.state.folder import OPENINGS_FILE

if TYPE_CHECKING:
    from neti.agent.core import Core

# Seconds after which what is open is written again, so that a host whose clock is wrong after a
# reboot does not take it to have more time left than it had then.
_WRITE_EVERY: Final = 300.0


class OwnOpenings:
    """Not thread-safe: the loop's thread owns it. ``decided``: as of the last ``decide``."""

    def __init__(self, core: "Core", found: Openings) -> None:
        self._core = core
        self.decided = found

    @property
    def held(self) -> tuple[Opening, ...]:
        return self.decided.held

    @property
    def lengths(self) -> elements.Lengths:
        """At which the rules look."""
        return elements.lengths(self.held)

    def decide(self, openings: Openings) -> None:
        """From the next look at the kernel on."""
        self.decided = openings

    def wish(self) -> None:
        """Make it part of the next look at the kernel."""
        core = self._core
        ahead = core.now() - core.since()
        core.members.elements.openings = elements.until(self.held, ahead)

    # --- on disk ---

    def keep(self) -> str | None:
        """Why it is not on disk; None: it is."""
        self._core.disk.keep(OPENINGS_FILE, self._write)
        return self._core.disk.unsaved(OPENINGS_FILE)

    def write_again(self) -> None:
        """Somebody else took it from the disk, or changed it there."""
        if self.held:
            self.keep()

    def keep_time(self) -> None:
        """Once in a while, as long as something is open."""
        if self.held and self._core.since() - self.decided.as_of >= _WRITE_EVERY:
            self.keep()

    def _write(self) -> None:
        self.decided = Openings(self._core.since(), self.held)
        self._core.out.folder.save_openings(self.decided)
