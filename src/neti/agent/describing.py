"""What this host says of itself in the registry: when it is written. See
docs/design/fleet-view.md.

For operators only: no agent decides anything by it. Must never do: report a wrong stage for longer
than one turn of the loop, write more than once a minute because of problems that come and go, or
put off by such writing what is counted anew.
"""

from collections.abc import Callable, Collection
from dataclasses import replace
from math import inf
from typing import Final

from neti.agent.core import Core
from neti.agent.itself import said_of_itself
from neti.fleet.pace import asked_within
from neti.registry.asked import to_verify
from neti.registry.detail import CallsSeen, Document, Left, Verified, encode, for_members
from neti.registry.hurts import Hurts

_EVERY: Final = 10.0  # seconds between looks whether what was told is still true
# Seconds until what is counted is counted anew, and written: at least, and by chance more. For the
# first time soon, because what a trial would shut is not known yet when a host registers.
_ANEW: Final = (540, 60)
_FIRST: Final = (10, 50)
_MOST_WORDS: Final = 4  # changes that may be written one after another
_WORD_EVERY: Final = 60.0  # seconds until there is another one
_NOTHING_HEARD: Final = b"?"  # no word of operators: those are numbers
_SPREAD: Final = 0.001  # seconds for each member: a change that all have is not written at once
# Seconds for each member between two writings because of another call by a real address. Where
# every host finds one after the other, that is 13 writings a second in all, beside those that there
# are anyway; above 8,000 members the latter come first.
_LEFT_SPREAD: Final = 0.075
_MOST_TOLD: Final = 1024  # members with ports that were told before


class Describing:
    """Not thread-safe: the loop's thread owns it. ``registered``: whether there is an entry to
    write a document for."""

    def __init__(self, core: Core, registered: Callable[[], bool]) -> None:
        self._core = core
        self._registered = registered
        self._told: Document | None = None
        self._anew = inf  # when it is counted and written, whatever it says
        self._hurts: Hurts | None = None
        self._due: float | None = None  # when a change that was seen is written
        self._words, self._counted = float(_MOST_WORDS), core.now()
        self._asked: bytes | None = _NOTHING_HEARD
        self._config: tuple[bytes, int] | None = None
        self._left: tuple[tuple[Left, ...] | None, int] = None, 0
        self._left_again = 0.0  # from when on another call is a reason to write
        self._left_told: dict[tuple[str, str], None] = {}  # of which member and port it was said
        self._calls: CallsSeen | None = None
        self.calls: Callable[[], CallsSeen | None] = lambda: None
        self.hurts: Callable[[], Hurts | None] = lambda: None
        self.left: Callable[[], tuple[tuple[Left, ...] | None, int]] = lambda: (None, 0)
        self.verified: Callable[[], Verified | None] = lambda: None
        self.to_verify: Callable[[str], None] = lambda _word: None
        self._left_since: int | None = None
        self.left_since: Callable[[], int | None] = lambda: None

    def documents(self, solved: Collection[str] = ()) -> tuple[bytes, bytes]:
        """As of now: what every member may read, and the report. The caller must write them.
        ``solved``: problems that are none any more when this can be read."""
        core = self._core
        said = self._said()
        left_over = tuple(code for code in said.problems or () if code not in solved)
        self._told, self._due = replace(said, problems=left_over), None
        if self._anew == inf:
            self._anew = self._within(*_FIRST)
        core.soon("describe", _EVERY)
        written = int(core.wall())
        left, more = self._left
        said = replace(
            self._told,
            hurts=self._hurts,
            left=left,
            left_more=more or None,
            verified=self.verified(),
            left_since=self._left_since,
            calls=self._calls,
            written=written,
        )
        return encode(for_members(said)), encode(said)

    def _within(self, least: int, more: int) -> float:
        return self._core.now() + least + self._core.out.chance(more * 1000) / 1000

    def _count_anew(self) -> None:
        """What is not looked at for each writing; and writes it."""
        if self._writable():
            self._anew = self._within(*_ANEW)
            self._hurts = self.hurts()
            self._look_at_left()
            self._calls, self._left_since = self.calls(), self.left_since()
            self.describe()

    def _said(self) -> Document:
        return said_of_itself(self._core, self._config_read())

    def _config_read(self) -> int | None:
        """When the configuration in force was read, to the second of a look."""
        read = self._core.out.config_read
        if read is None:
            return None
        if self._config is None or self._config[0] is not read.in_force:
            self._config = (read.in_force, int(self._core.wall()))
        return self._config[1]

    def describe(self) -> None:
        core = self._core
        if self._writable():
            registry, host_id, documents = core.out.registry, core.host.id, self.documents()
            core.out.worker.submit("describe", lambda: registry.describe(host_id, *documents))

    def _writable(self) -> bool:
        return self._registered() and self._core.in_step.fresh

    def follow_stage(self) -> None:
        """In each turn of the loop, so that no change of the stage can be forgotten."""
        if self._told is not None and self._told.stage != self._core.stage.word:
            self.describe()

    def heard(self, word: bytes | None) -> None:
        """Another word than before: operators want it written anew, by all hosts, so each answers
        at a moment of its own. What stood there when this agent began is answered by its
        registering."""
        before, self._asked = self._asked, word
        if before in (word, _NOTHING_HEARD) or not word:
            return
        if number := to_verify(word):
            self.to_verify(number)  # and that is written when it is done
            return
        within = asked_within(self._members())
        at = self._core.now() + self._core.out.chance(int(within * 1000) + 1) / 1000
        self._anew = min(self._anew, at)
        self._core.timers.at("describe", at)

    def look(self) -> None:
        """The timer "describe"."""
        core, now = self._core, self._core.now()
        core.soon("describe", _EVERY)
        if not self._writable():
            return  # what changes meanwhile is told at the first look after it, and costs no word
        newly = now < self._anew and self._newly_left()
        if now >= self._anew:
            self._count_anew()
        elif not newly and not self._differs():
            self._due = None
        elif self._due is None:
            self._due = now + core.out.chance(int(self._members() * _SPREAD * 1000) + 1) / 1000
        if self._due is not None and now < self._due:
            core.timers.at("describe", self._due)
        elif self._due is not None and (newly or self._has_a_word(now)):
            self._look_at_left()
            self.describe()
        if now < self._anew:
            core.timers.at("describe", self._anew)

    def _members(self) -> int:
        return len(self._core.members.fleet.members)

    def _differs(self) -> bool:
        return self._told is None or _lasting(self._told) != _lasting(self._said())

    def _newly_left(self) -> bool:
        """Whether a program here calls a member by a real address, of which no report of this run
        said so. More than a report has room for are told one after the other."""
        if self._core.now() < self._left_again:
            return False
        return any((one.to, one.port) not in self._left_told for one in self.left()[0] or ())

    def _look_at_left(self) -> None:
        self._left = self.left()
        self._left_told.update(dict.fromkeys((one.to, one.port) for one in self._left[0] or ()))
        while len(self._left_told) > _MOST_TOLD:
            del self._left_told[next(iter(self._left_told))]
        self._left_again = self._core.now() + self._members() * _LEFT_SPREAD

    def _has_a_word(self, now: float) -> bool:
        earned = (now - self._counted) / _WORD_EVERY
        self._words, self._counted = min(float(_MOST_WORDS), self._words + earned), now
        if self._words < 1.0:
            return False
        self._words -= 1.0
        return True

    def written(self, *, stands: bool) -> None:
        """The document and the report were. Not ``stands``: what an earlier session said is still
        in their place, so the next look tries again."""
        if not stands:
            self.failed()

    def failed(self) -> None:
        """The job "describe" failed: the next look tries again."""
        self._told = None


def _lasting(document: Document) -> Document:
    """Without what only follows the wall clock: as that is slewed, the end of a time moves by a
    second now and then, which is no word to the fleet. Each word has its own ``at``."""
    if document.relaxed is None or document.relaxed.until is None:
        return document
    return replace(document, relaxed=replace(document.relaxed, until=0))
