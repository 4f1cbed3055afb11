"""Threads for what may take long (the registry, the metadata service): the loop never waits for
them. Each job ends as an event on the loop's queue, whatever it raises.

Jobs of one lane run one after the other. The metadata service, the registry and members that are
verified have lanes of their own, so that one that hangs keeps no other from being asked.

Must never do: end a lane because of what a job raised, or lose a job silently.
"""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from neti import log
from neti.errors import NetiError, Unexpected

_LANES: Final = {
    "identity": "identity",
    "probe": "probe",
    "verify": "verify",
}  # by job; all others use the registry's lane
_REGISTRY: Final = "registry"


@dataclass(frozen=True, slots=True)
class JobDone:
    name: str
    result: Any


@dataclass(frozen=True, slots=True)
class JobFailed:
    name: str
    error: NetiError


JobEvent = JobDone | JobFailed
Job = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Running:
    """A job that has begun and not ended."""

    name: str
    since: float  # CLOCK_MONOTONIC seconds


class Worker:
    def __init__(
        self, tell: Callable[[JobEvent], None], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        lanes = dict.fromkeys((_REGISTRY, *_LANES.values()))
        self._lanes = {name: _Lane(name, tell, monotonic) for name in lanes}

    def start(self) -> None:
        for lane in self._lanes.values():
            lane.thread.start()

    def submit(self, name: str, job: Job) -> None:
        self._lanes[_LANES.get(name, _REGISTRY)].jobs.put((name, job))

    def running(self) -> tuple[Running, ...]:
        """The jobs that have begun and not ended. Safe from any thread."""
        begun = (lane.running for lane in self._lanes.values())
        return tuple(running for running in begun if running is not None)

    def close(self, timeout: float) -> None:
        for lane in self._lanes.values():
            lane.jobs.put(None)
        for lane in self._lanes.values():
            if lane.thread.is_alive():
                lane.thread.join(timeout)


class _Lane:
    def __init__(
        self, name: str, tell: Callable[[JobEvent], None], monotonic: Callable[[], float]
    ) -> None:
        self.jobs: queue.SimpleQueue[tuple[str, Job] | None] = queue.SimpleQueue()
        self.running: Running | None = None
        self.thread = threading.Thread(target=self._run, name=f"neti-{name}-jobs", daemon=True)
        self._tell = tell
        self._monotonic = monotonic

    def _run(self) -> None:
        while (item := self.jobs.get()) is not None:
            name, job = item
            self.running = Running(name, self._monotonic())
            event = outcome(name, job)
            self.running = None
            self._tell(event)


def outcome(name: str, job: Job) -> JobEvent:
    """Run the job, and report its result."""
    try:
        return JobDone(name, job())
    except NetiError as error:
        return JobFailed(name, error)
    except BaseException as error:  # whatever it is, this thread must go on to the next job
        failure = Unexpected(log.unexpected(f"the job {name!r}", error))
        failure.__cause__ = error
        return JobFailed(name, failure)
