"""Whether the state folder is still as this agent keeps it: somebody may empty or replace it, or
the files by which a reboot decides.

What is known is then written again, because a reboot would otherwise find a host that has never
been a member, and open it. Lock and socket are made again, because otherwise a second agent could
begin, and no command would reach this one.

Must never do: conclude from an empty folder that anything was decided.
"""

from collections.abc import Callable
from typing import Final

from neti import log
from neti.agent.core import Core
from neti.errors import NetiError
from neti.state.gone import GONE_FILE
from neti.state.location import GOOD_CONFIG

_LOOK_EVERY: Final = 30.0


class Footing:
    """Not thread-safe: the loop's thread owns it. ``write_rest``: what other parts keep there."""

    def __init__(self, core: Core, write_rest: Callable[[], object]) -> None:
        self._core = core
        self._write_rest = write_rest

    def look(self) -> None:
        """The timer "footing"."""
        core = self._core
        core.soon("footing", _LOOK_EVERY)
        core.naming.look_at_file()
        gone = core.out.taken_away()
        if not gone:
            self._look_at_files()
            return
        said = (
            f"{core.out.folder.path} was emptied or replaced while the agent was running "
            f"({', '.join(gone)} was gone)"
        )
        try:
            core.out.make_again()
        except NetiError as error:
            self._name(f"{said}; {error}: stop one of the two agents")
            return
        self._write_all()
        self._name(f"{said}; what the agent knows was written there again")

    def _look_at_files(self) -> None:
        core = self._core
        behind = core.disk.behind  # these are written again in any case, a copy with its file
        altered = [n for n in core.out.folder.altered() if n.removesuffix(".copy") not in behind]
        if not altered:
            return
        self._write_all(emptied=False)
        self._name(
            f"{', '.join(altered)} in {core.out.folder.path}: removed or changed by another "
            "program while the agent was running; what the agent knows was written there again"
        )

    def _name(self, sentence: str) -> None:
        """The problem remains until the agent is restarted, because somebody must find out what did
        it."""
        if self._core.problems.sentence("state_emptied") != sentence:
            log.error("state_emptied", what=sentence)
        self._core.problems.set("state_emptied", sentence)

    def _write_all(self, *, emptied: bool = True) -> None:
        core, folder = self._core, self._core.out.folder
        core.disk.keep("folder", lambda: folder.begin_anew(emptied=emptied))
        if core.down.now:
            core.down.keep()
        core.stage.keep(core.stage.record, anew=True)
        core.disk.keep("self.json", lambda: folder.save_self(core.disk.itself))
        core.own_key.write_again()
        core.grouping.write_again()
        core.naming.write_again()
        core.openings.write_again()
        core.disk.keep("guard.json", lambda: folder.save_window(core.guard.window))
        core.disk.keep("clock.json", lambda: folder.save_clock(core.steady.mark()))
        if core.members.known:
            core.disk.keep("members.jsonl", lambda: folder.rewrite(core.members.everybody()))
            core.disk.keep(GONE_FILE, lambda: folder.note_gone({}, core.members.fleet.gone))
        core.disk.keep(GOOD_CONFIG, core.out.keep_config)
        self._write_rest()
        core.out.registry.relist()  # which tells the session again
