"""One thread for what may take long (the registry's answers, the metadata service): the loop never
waits for either. Jobs run one after the other; each ends as an event on the loop's queue."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from neti.errors import NetiError


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


class Worker:
    def __init__(self, tell: Callable[[JobEvent], None]) -> None:
        self._tell = tell
        self._jobs: queue.SimpleQueue[tuple[str, Job] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="neti-worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, name: str, job: Job) -> None:
        self._jobs.put((name, job))

    def close(self, timeout: float) -> None:
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        while (item := self._jobs.get()) is not None:
            name, job = item
            try:
                result = job()
            except NetiError as error:
                self._tell(JobFailed(name, error))
            else:
                self._tell(JobDone(name, result))
