"""What the traces and statistics say, for people: pure, from their text.

A request belongs to the phase in which it was due. Percentiles are by nearest rank: the p-th is
the smallest latency that at least p percent of the requests did not exceed, so it is always one
that was measured. Failed requests count with the time that they took until they failed, and must
never be left out: that would make a bad phase look fast.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from neti_lab.shop.configuration import Document

_ERRORS: Final = 5
# Moments and lists of them, which do not add up.
_NOT_SUMMED: Final = frozenset({"at", "errors", "recent", "hits"})


class Traced(NamedTuple):
    """One request."""

    due: float  # CLOCK_MONOTONIC
    latency_ms: float
    ok: bool


@dataclass(frozen=True, slots=True)
class Phase:
    """From its beginning to just before its end."""

    name: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Figures:
    """One phase. Without a request there is no latency."""

    phase: str
    requests: int
    failures: int
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None

    def to_document(self) -> Document:
        return asdict(self)


def parse_trace(text: str) -> list[Traced]:
    """The requests of a trace; a last line that is still being written is left out."""
    whole = text[: text.rfind("\n") + 1]
    return [Traced(*json.loads(line)) for line in whole.splitlines()]


def by_phase(requests: Iterable[Traced], phases: Sequence[Phase]) -> list[Figures]:
    """The figures of each phase, in the order of the phases."""
    known = list(requests)
    return [
        _figures(phase.name, [one for one in known if phase.begin <= one.due < phase.end])
        for phase in phases
    ]


def nearest_rank(ordered: Sequence[float], percent: float) -> float:
    """The percentile of latencies in ascending order, of which there is at least one."""
    return ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1]


def merge(documents: Iterable[Document]) -> Document:
    """Several programs' statistics as one: counts are added, the newest errors stay."""
    known = list(documents)
    merged: Document = {}
    for document in known:
        _add(merged, {key: item for key, item in document.items() if key not in _NOT_SUMMED})
    for name in _NOT_SUMMED - {"at"}:
        if any(name in document for document in known):
            merged[name] = sorted(item for document in known for item in document.get(name, ()))
    if "errors" in merged:
        merged["errors"] = merged["errors"][-_ERRORS:]
    if times := [document["at"] for document in known if "at" in document]:
        merged["at"] = min(times)  # as old as the oldest of them
    return merged


def _figures(phase: str, requests: Sequence[Traced]) -> Figures:
    ordered = sorted(one.latency_ms for one in requests)
    return Figures(
        phase=phase,
        requests=len(requests),
        failures=sum(not one.ok for one in requests),
        p50_ms=nearest_rank(ordered, 50) if ordered else None,
        p99_ms=nearest_rank(ordered, 99) if ordered else None,
        max_ms=ordered[-1] if ordered else None,
    )


def _add(total: dict[str, Any], document: Document) -> None:
    for key, value in document.items():
        if isinstance(value, dict):
            _add(total.setdefault(key, {}), value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            total[key] = total.get(key, 0) + value
