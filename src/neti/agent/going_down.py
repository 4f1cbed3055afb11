"""``neti down`` and ``neti up`` in the agent, also if they were called without it.

Must never do: keep anybody's rules in force because a disk cannot be written.
"""

from collections.abc import Callable
from typing import Any

from neti import log
from neti.agent.core import Core
from neti.agent.kernel import Kernel
from neti.agent.trial import Trying
from neti.control.server import Request
from neti.errors import DataplaneError, NetiError
from neti.model.said import Said


class GoingDown:
    """Not thread-safe: the loop's thread owns it. ``shuts_out``: why the SSH session in which a
    command was typed would not be let in once Neti is in the kernel again; None: it would."""

    def __init__(
        self, core: Core, kernel: Kernel, trying: Trying, shuts_out: Callable[[Any], str | None]
    ) -> None:
        self._core = core
        self._kernel = kernel
        self._trying = trying
        self._shuts_out = shuts_out

    def obey_disk(self) -> None:
        """Follow a command that was given while this agent did not answer: on disk, or in the
        kernel if the disk cannot be written."""
        core = self._core
        if core.down.emptied():
            core.soon("footing")
        if not core.down.changed_on_disk() and not core.down.ended_in_kernel():
            return
        try:
            if core.down.now:
                log.warning("down", what="called while the agent did not answer")
                self._kernel.take_out()
            else:
                self._up()
        except NetiError as error:
            core.problems.set("kernel", str(error))
            log.error("kernel_refused", what=str(error))

    def found_in_kernel(self) -> None:
        """``neti down`` was called without this agent, and the disk could not be written."""
        self._core.down.begin(borne=True)
        log.warning(
            "down", what="called while the disk could not be written; a mark in the kernel said so"
        )
        self._core.down.keep()
        self._trying.taken_down()

    def down(self, request: Request) -> None:
        """The kernel first, then the disk."""
        core = self._core
        core.down.begin(Said(at=core.wall(), by=request.caller))
        refused = None
        try:
            self._kernel.take_out()
        except DataplaneError as error:
            refused = str(error)
        self._trying.taken_down()
        if not core.down.keep():
            core.down.bear()
        log.warning("down", what="nothing of Neti is in the kernel now; neti up ends this")
        if refused is not None:
            request.fail(refused)
        else:
            request.succeed({"state": "down", "unsaved": core.down.unsaved()})

    def up(self, request: Request) -> None:
        core, asked = self._core, request.arguments
        shut_out = self._shuts_out(asked.get("session"))
        if core.down.now and shut_out is not None and not asked.get("anyway"):
            request.fail(
                f"Neti stays down: {shut_out}\n"
                "→ 'neti up --anyway', if that is meant; 'neti relax' first keeps the host open"
            )
            return
        core.down.end()
        self._trying.taken_down()  # if 'neti down' found no agent to note it
        refused = self._up()
        if refused is not None:
            request.fail(
                f"'neti down' is over, but the kernel refuses Neti's rules: {refused}\n"
                "→ 'neti status' shows what is in force; the agent tries again by itself"
            )
        else:
            stage, unsaved = core.stage.now.value, core.down.unsaved()
            request.succeed({"state": "up", "stage": stage, "unsaved": unsaved})

    def _up(self) -> DataplaneError | None:
        refused = self._kernel.resync("up")
        self._core.soon("stage")
        if refused is None:
            log.info("up")
        return refused
