"""Whom this host reaches: its row for ``neti fleet verify``, which stands in its report.

Operators ask the whole fleet by a word. Each host begins at a moment of its own, tries every member
or its share of a large fleet (``neti.fleet.crossing``), a few at a time, and says what came of it.
What somebody finds by ``neti verify`` here is the row as well.

Must never do: reach for anybody in the loop's thread, or begin again within ``_APART`` seconds: in
a tree without rights anybody may write that word.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from neti import log
from neti.agent.core import Core
from neti.agent.packet_sizes import PacketSizes
from neti.agent.verify import verify_all
from neti.control.server import Request
from neti.errors import NetiError
from neti.fleet.crossing import tried_by
from neti.fleet.pace import asked_within
from neti.monitoring.status import Status
from neti.registry.detail import MAX_MISSED, Verified

AT_ONCE: Final = 8  # members; a job, and so what a thread does without a word to the loop
SECONDS: Final = 3.0  # for one member
_APART: Final = 20.0  # seconds from the end of one to the next

# Of these members, as the agent tells them, and of this host.
Look = Callable[[Collection[str]], tuple[Status, list[dict[str, Any]]]]


class Verifying:
    """Not thread-safe: the loop's thread owns it. ``describe``: writes the report anew. ``last``:
    None until there is a row in this run of the agent."""

    def __init__(self, core: Core, look: Look, describe: Callable[[], None]) -> None:
        self._core = core
        self._look = look
        self._describe = describe
        self.last: Verified | None = None
        self._word = ""  # that is to be answered
        self._answering = ""
        self._not_before = 0.0
        self._itself: Status | None = None  # while it runs
        self._sizes: PacketSizes | None = None
        self._left: list[dict[str, Any]] = []
        self._found: list[tuple[str, bool]] = []

    def asked(self, word: str) -> None:
        """``word``: the number in the operators'."""
        core = self._core
        self._word = word
        within = asked_within(len(core.members.fleet.members))
        at = core.now() + core.out.chance(int(within * 1000) + 1) / 1000
        core.timers.at("verify", max(at, self._not_before))

    def look(self) -> None:
        """The timer "verify"."""
        if self._itself is not None:
            return  # the word that came meanwhile is answered when this is over
        core, fleet = self._core, self._core.members.fleet
        there = [i for i in fleet.members if i not in fleet.lost]
        tried = tried_by(core.host.id, there, self._word)
        itself, members = self._look(tried)
        if itself.down or not itself.registered:
            # Overlay addresses lead nowhere from here; that this was heard is seen by the report.
            self._describe()
            return
        self._itself, self._left, self._found = itself, members, []
        self._answering, self._word = self._word, ""
        self._sizes = PacketSizes(core.settings.verify_port, SECONDS)
        self._go_on()

    def _go_on(self) -> None:
        core, itself, settings, sizes = self._core, self._itself, self._core.settings, self._sizes
        assert itself is not None
        if not self._left:
            self._over()
            return
        part, self._left = self._left[:AT_ONCE], self._left[AT_ONCE:]

        def job() -> list[tuple[str, bool]]:
            found = verify_all(
                settings, itself, part, timeout=SECONDS, at_once=AT_ONCE, sizes=sizes
            )
            return [(one["id"], one["ok"]) for one in found]

        core.out.worker.submit("verify", job)

    def done(self, found: list[tuple[str, bool]]) -> None:
        """The job "verify" has ended."""
        self._found += found
        self._go_on()

    def failed(self, error: NetiError) -> None:
        """So there is no row: half of one would say that the rest was reached."""
        log.warning("not_verified", what=str(error))
        self._left, self._found = [], []
        self._end()

    def _over(self) -> None:
        there, own = self._core.members.fleet.members, self._core.host.site
        # Who left meanwhile is not missed.
        found = [(host_id, ok) for host_id, ok in self._found if host_id in there]
        missed = [host_id for host_id, ok in found if not ok]
        missed.sort(key=lambda host_id: (there[host_id].site != own, host_id))
        self._keep(len(found), missed, self._answering)
        self._end()

    def _end(self) -> None:
        core = self._core
        self._itself = None
        self._not_before = core.now() + _APART
        if self._word:
            core.timers.at("verify", self._not_before)

    def told(self, request: Request) -> None:
        """The command "verified": somebody reached for all members from here."""
        missed = request.arguments.get("missed") or []
        self._keep(request.arguments.get("tried") or 0, missed, "")
        request.succeed("kept")

    def _keep(self, tried: int, missed: Sequence[str], word: str) -> None:
        """``missed``: those of the own site first, so that a look at one site misses none."""
        self.last = Verified(
            at=int(self._core.wall()),
            tried=tried,
            reached=max(0, tried - len(missed)),
            missed=tuple(missed[:MAX_MISSED]),
            missed_more=max(0, len(missed) - MAX_MISSED),
            word=word,
        )
        log.info("verified", tried=tried, reached=self.last.reached)
        self._describe()
