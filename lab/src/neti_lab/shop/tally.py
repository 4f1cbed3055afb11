"""What became of the requests: counted for whoever watches, and traced one by one for afterwards.

Must never make a failure look better than it is: the time of a request runs from the moment at
which it was due, not from when this busy program came to it, and whatever somebody else repeated
for us is counted too.
"""

import json
import os
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from neti_lab.shop.configuration import Document

_RECENT_SECONDS: Final = 2.0
_ERRORS: Final = 5


class LastErrors:
    """The last few, each with its time."""

    def __init__(self) -> None:
        self._errors: deque[tuple[float, str]] = deque(maxlen=_ERRORS)

    def add(self, text: str) -> None:
        self._errors.append((time.monotonic(), text))

    def document(self) -> list[tuple[float, str]]:
        return list(self._errors)


@dataclass(frozen=True, slots=True)
class Visited:
    """A request that worked: who had a part in it, by tier, and whom each of them saw."""

    served_by: Mapping[str, Mapping[str, Any]]
    retries: Mapping[str, int] = field(default_factory=dict)  # by the tier that repeated
    stays: bool = True  # whether the connection may carry another request


class Tally:
    """Counts since the start. ``long`` are the requests on connections that stay open."""

    def __init__(self, trace: Path | None) -> None:
        """OSError when the trace cannot be written."""
        self._requests = 0
        self._failures = 0
        self._wrong = 0
        self._errors = LastErrors()
        self._by_host: dict[str, Counter[str]] = {}
        self._seen_from: dict[str, dict[str, Counter[str]]] = {}
        self._retries: Counter[str] = Counter()
        self._retried = 0
        self._recent: deque[tuple[float, float, float, bool]] = deque()
        self._trace = None
        if trace is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._trace = os.open(trace, flags, 0o600)
        self._unwritten: list[str] = []
        self.long: Counter[str] = Counter(requests=0, failures=0, opened=0, goodbyes=0)

    def success(self, due: float, visited: Visited, *, long: bool) -> None:
        for tier, one in visited.served_by.items():
            host = str(one["host"])
            self._by_host.setdefault(tier, Counter())[host] += 1
            callers = self._seen_from.setdefault(tier, {}).setdefault(host, Counter())
            callers[str(one["seen_from"])] += 1
        self._retries.update(visited.retries)
        self._retried += any(visited.retries.values())
        self._count(due, ok=True, long=long)

    def failure(self, due: float, error: str, *, long: bool, wrong: bool = False) -> None:
        self._failures += 1
        self._wrong += wrong
        self.long["failures"] += long
        self._errors.add(error)
        self._count(due, ok=False, long=long)

    def document(self) -> Document:
        now = time.monotonic()
        while self._recent and self._recent[0][0] < now - _RECENT_SECONDS:
            self._recent.popleft()
        return {
            "at": now,
            "requests": self._requests,
            "failures": self._failures,
            "wrong": self._wrong,
            "errors": self._errors.document(),
            "by_host": self._by_host,
            "seen_from": self._seen_from,
            "hidden_retries": {"requests": self._retried, **self._retries},
            "long": dict(self.long),
            "recent": [list(request) for _, *request in self._recent],
        }

    def flush(self) -> None:
        """Write what has been traced since the last time. OSError when that fails."""
        if self._trace is None:
            return
        data = "".join(self._unwritten).encode()
        written = os.write(self._trace, data) if data else 0
        # On a full disk a part may be left over; it is tried again.
        self._unwritten = [data[written:].decode()]

    def _count(self, due: float, *, ok: bool, long: bool) -> None:
        now = time.monotonic()
        latency = round((now - due) * 1000, 3)
        self._requests += 1
        self.long["requests"] += long
        self._recent.append((now, due, latency, ok))
        self._unwritten.append(json.dumps([due, latency, ok]) + "\n")
