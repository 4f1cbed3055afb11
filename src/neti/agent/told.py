"""What the loop is told: by the registry, the kernel, workers, commands and signals.

Must never do: decide or do anything. Whoever tells only puts something on the queue.
"""

import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from neti.agent import hangup
from neti.agent.worker import JobDone, JobFailed
from neti.control.server import Request
from neti.control.trouble import Trouble
from neti.dataplane.monitor import NetworkChanged, RulesChanged
from neti.registry import DataRead, Event, HostRead, KeyRead, LeaseRead


@dataclass(frozen=True, slots=True)
class Reload:
    """Read the configuration again (SIGHUP)."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop this program (SIGTERM, SIGINT); rules and registration stay."""


Answer = LeaseRead | DataRead | HostRead | KeyRead


@dataclass(frozen=True, slots=True)
class Answers:
    """What the registry answered to several questions, with nothing between: taken in together."""

    each: tuple[Answer, ...]


Told = (
    Event | NetworkChanged | RulesChanged | JobDone | JobFailed | Request | Reload | Stop | Trouble
)


def gathered(waiting: Iterable[Told], *, most: int) -> Iterator[Told | Answers]:
    """The same in order, with answers that come one after another together, so many at most."""
    answers: list[Answer] = []
    for told in waiting:
        if isinstance(told, Answer):
            answers.append(told)
            if len(answers) < most:
                continue
        if answers:
            yield Answers(tuple(answers))
            answers.clear()
        if not isinstance(told, Answer):
            yield told
    if answers:
        yield Answers(tuple(answers))


def install_signals(tell: Callable[[Told], None]) -> None:
    """Signals only put something on the queue."""
    signal.signal(signal.SIGHUP, lambda *_: tell(Reload()))
    signal.signal(signal.SIGTERM, lambda *_: tell(Stop()))
    signal.signal(signal.SIGINT, lambda *_: tell(Stop()))
    if hangup.asked():
        tell(Reload())
