"""What all open pages show: the last picture, what has happened, and how it came to be so.

Owned by the event loop: nothing here is thread-safe, and nothing here waits for anything else.

Must never do: grow without an end, or send a page a change that does not follow on what it has.
"""

import asyncio
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

from neti.fleet import picture
from neti.fleet.picture import (
    COLUMNS,
    EVENTS,
    LEVELS,
    SHADES,
    Event,
    Picture,
    fair,
    happened,
    values,
)

HOUR: Final = 3600.0
_DAY: Final = 86_400.0
_SAMPLE_EVERY: Final = 60.0  # seconds
_SAMPLES: Final = int(_DAY / _SAMPLE_EVERY)
_OF_ONE: Final = 100  # events that are kept of each host
_CHANGES: Final = 64  # so many looks a page may be behind; more, and it asks for everything anew


class Board:
    """``version``: of Neti."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.shown: Picture | None = None
        self.revision = 0
        self.began: float | None = None  # Unix seconds of the first picture
        self._events: deque[Event] = deque(maxlen=EVENTS)
        self._of_one: dict[str, deque[Event]] = {}
        self._samples: deque[list[Any]] = deque(maxlen=_SAMPLES)
        self._changes: deque[tuple[int, str]] = deque(maxlen=_CHANGES)
        self._moved = asyncio.Condition()
        self.ended = False

    def end(self) -> None:
        """Nobody waits any more."""
        self.ended = True
        self._waking = asyncio.ensure_future(self._wake())

    async def _wake(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    # --- what is seen ---

    async def show(self, now: Picture) -> None:
        """The next picture. Wakes everybody who waits."""
        before, self.shown = self.shown, now
        self.began = self.began if self.began is not None else now.at
        new = list(happened(before, now)) if before is not None else []
        for event in new:
            self._of_one.setdefault(event.id, deque(maxlen=_OF_ONE)).append(event)
        new = fair(self._events, new)
        self._events.extend(new)
        for gone in [i for i in self._of_one if i not in now.cells]:
            if self._of_one[gone][-1].at < now.at - _DAY:
                del self._of_one[gone]
        self._sample(now)
        if before is not None and _same(before, now) and not new:
            return
        self.revision += 1
        self._changes.append((self.revision, _text(self._change(before, now, new))))
        await self._wake()

    def _sample(self, now: Picture) -> None:
        last = self._samples[-1][0] if self._samples else 0.0
        if now.unanswered is not None or now.at - last < _SAMPLE_EVERY:
            return
        counted = dict.fromkeys(SHADES, 0)
        for cell in now.cells.values():
            counted[cell.shade] += 1
        self._samples.append([now.at, *counted.values()])

    # --- what pages ask for ---

    def whole(self) -> dict[str, Any]:
        """Everything that a page begins with."""
        shown = self.shown
        assert shown is not None
        return {
            "revision": self.revision,
            "version": self.version,
            "began": self.began,
            "columns": list(COLUMNS),
            "shades": list(SHADES),
            "levels": list(LEVELS),
            "hosts": [values(cell) for cell in shown.cells.values()],
            "events": [asdict(one) for one in self._last_hour(shown.at)],
            "samples": list(self._samples),
            **picture.plain(shown),
        }

    def of_one(self, host_id: str) -> list[Event]:
        """The last day of a host, as far as it was looked at."""
        return list(self._of_one.get(host_id, ()))

    async def after(self, revision: int, within: float) -> list[str]:
        """What has changed since, as JSON, one text a look; empty: nothing did ``within`` so many
        seconds. Where the page is too far behind, or of another process, the one text says so."""
        if revision == self.revision:
            try:
                async with asyncio.timeout(within), self._moved:
                    await self._moved.wait_for(lambda: self.ended or self.revision != revision)
            except TimeoutError:
                return []
        first = self._changes[0][0] if self._changes else self.revision + 1
        if not first - 1 <= revision <= self.revision:
            return [_text({"revision": self.revision, "anew": True})]
        return [text for number, text in self._changes if number > revision]

    def _change(self, before: Picture | None, now: Picture, new: list[Event]) -> dict[str, Any]:
        cells = before.cells if before is not None else {}
        changed = (one for i, one in now.cells.items() if cells.get(i) is not one)
        return {
            "revision": self.revision,
            "hosts": [values(cell) for cell in changed],
            "gone": [host_id for host_id in cells if host_id not in now.cells],
            "events": [asdict(one) for one in new],
            "sample": self._samples[-1] if self._samples else None,
            **_otherwise(before, now),
        }

    def _last_hour(self, now: float) -> Iterator[Event]:
        return (one for one in self._events if one.at >= now - HOUR)


def _otherwise(before: Picture | None, now: Picture) -> dict[str, Any]:
    """All but the hosts, as far as it is not what pages have; the time always."""
    said = picture.plain(now)
    former = picture.plain(before) if before is not None else {}
    kept = {key: value for key, value in said.items() if former.get(key, ...) != value}
    return {**kept, "at": now.at}


def _same(before: Picture, now: Picture) -> bool:
    """Whether a page would show the same, but for the time."""
    return (
        before.cells == now.cells
        and before.needs == now.needs
        and before.unanswered == now.unanswered
        and before.sites == now.sites
    )


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
