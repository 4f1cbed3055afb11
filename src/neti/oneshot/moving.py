"""``neti lease move OLD NEW --take-out``: OLD leaves, and its overlay address is NEW's, in one
command that may be repeated wherever it was cut off. See docs/design/moving.md.

Must never do: move an address twice. A host that is not retired gets another one as soon as its own
is gone, and that would be moved next.
"""

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, Literal

from neti.errors import EntryError, NetiError, RegistryError
from neti.fleet.finding import Finding
from neti.fleet.readiness import move_findings
from neti.model import Member, entry
from neti.model.settings import Settings
from neti.oneshot.grouping import left_behind
from neti.oneshot.readiness import known
from neti.oneshot.registered import registered_of
from neti.oneshot.retiring import gone, moves, retired, say
from neti.oneshot.seen import Seen
from neti.registry import OperatorRegistry
from neti.registry.leases import check_move

StepName = Literal["noted", "moved", "answers", "out"]
_LOOK: Final = 0.05  # seconds
ANSWERS_WITHIN: Final = 30.0  # seconds for NEW's agent to register with the address


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """``after``: seconds since the command began to change something. ``done``: whether it came
    about within its time; ``before``: it had been done by an earlier run."""

    name: StepName
    after: float
    done: bool = True
    before: bool = False


class Stopped(NetiError):
    """A step failed. What is the case then, and how to go on or back, are its lines."""


@dataclass(slots=True, kw_only=True)
class Move:
    """``overlay``: that which moves, once it is known; ``freed``: NEW's own former one; ``silent``:
    OLD was not registered before, so no agent there has heard of it, perhaps."""

    registry: OperatorRegistry
    old: str
    new: str
    session_seconds: float
    overlay: IPv4Address | None = None
    freed: IPv4Address | None = None
    silent: bool = False
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time

    def steps(self) -> Generator[Step, None, None]:
        """Raises Stopped, and RegistryError before anything is written."""
        check_move(self.old, self.new)
        word = moves(retired(self.registry), self.old, self.new)
        self.silent = word is None and not registered_of(self.registry, [self.old])
        begun = self.clock()
        held = self.registry.lease_of(self.old)
        self.overlay = word.overlay if word is not None else held
        if self.overlay is None:
            raise NetiError(
                f"{self.old} holds no lease, so there is no address to move: nothing was changed\n"
                "→ neti lease list"
            )
        with self._or("nothing was moved yet; {old} may be out of the fleet already"):
            say(self.registry, [self.old], now=self.wall(), to=self.new, overlay=self.overlay)
        yield Step(name="noted", after=self.clock() - begun, before=word is not None)
        # Moved by an earlier run: OLD, if its agent does not know the word, has another one now.
        moved = self.registry.lease_of(self.new) == self.overlay
        if not moved:
            with self._or("{old} is out of the fleet, and {overlay} leads nowhere"):
                if self.registry.lease_of(self.old) != self.overlay:
                    raise NetiError(f"{self.overlay} is not the address of {self.old} any more")
                _, self.freed = self.registry.move(self.old, self.new, force=True)
        yield Step(name="moved", after=self.clock() - begun, before=moved)
        answers = self._until(self._answers, ANSWERS_WITHIN)
        yield Step(name="answers", after=self.clock() - begun, done=answers)
        leaving = gone(
            self.registry,
            [self.old],
            seconds=self._patience(),
            sleep=self.sleep,
            clock=self.clock,
        )
        left = list(leaving)
        yield Step(name="out", after=self.clock() - begun, done=bool(left))

    def _patience(self) -> float:
        """A dead agent's entry goes with its session; no peer believes it meanwhile."""
        return self.session_seconds + 5.0

    def _answers(self) -> bool:
        """Whether NEW is registered with the address: by its record, as a list of all names is
        long."""
        read = self.registry.records([self.new]).get(self.new)
        word = read.record.word if read is not None and read.record is not None else ""
        with contextlib.suppress(EntryError):
            parsed = entry.parse(word)
            if isinstance(parsed, Member) and parsed.overlay == self.overlay:
                return bool(self.registry.made([word]))
        return False

    def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        deadline = self.clock() + seconds
        while not condition():
            if self.clock() >= deadline:
                return False
            self.sleep(_LOOK)
        return True

    @contextlib.contextmanager
    def _or(self, case: str) -> Iterator[None]:
        try:
            yield
        except (NetiError, KeyboardInterrupt) as error:
            why = str(error) or "stopped by Ctrl-C"
            said = case.format(old=self.old, overlay=self.overlay)
            raise Stopped(
                f"{why}\n{said}\n"
                f"→ neti lease move {self.old} {self.new} --take-out, once more, goes on\n"
                f"→ neti retire --back {self.old}, then 'systemctl start neti' there, goes back"
            ) from error


def findings(
    settings: Settings, seen: Seen, registry: OperatorRegistry, old: str, new: str, now: float
) -> tuple[Finding, ...]:
    """What would be wrong with the move: nothing is changed."""
    try:
        check_move(old, new)
        words = retired(registry)
    except RegistryError as error:
        return (Finding(light="red", of=("move",), what=str(error)),)
    word = moves(words, old, new)
    overlay = registry.lease_of(old)
    holds = overlay is not None or word is not None
    try:
        behind = left_behind(registry, old, new, now)
    except NetiError as error:
        what = f"whether {new} is in the groups of {old} is not known: {error}"
        unknown: tuple[Finding, ...] = (Finding(light="yellow", of=("move",), what=what),)
        behind = ()
    else:
        unknown = ()
    found = [
        *move_findings(old, new, known(settings, seen, now), holds=holds, behind=behind),
        *unknown,
    ]
    if new in words:
        what = f"{new} is retired, so its agent does not register"
        then = (f"→ neti retire --back {new}, then 'systemctl start neti' there",)
        found.append(Finding(light="red", of=("move",), what=what, then=then))
    return tuple(found)
