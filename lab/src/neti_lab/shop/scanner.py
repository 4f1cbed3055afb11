"""A stranger who tries every door again and again: who can be reached from outside, and when.

A hit is a connection that came about, also one that is closed at once. Each carries the time at
which its attempt began, when its target was on the list. Must never send anything.
"""

import asyncio
import time
from collections import Counter, deque
from typing import Final

from neti_lab.shop import lines
from neti_lab.shop.configuration import Endpoint, ScannerConfiguration
from neti_lab.shop.program import write_document

_TRY_SECONDS: Final = 1.0
_TRIES_PER_SECOND: Final = 100
_AT_ONCE: Final = 100
_HITS_KEPT: Final = 1000


class Scanner:
    def __init__(self, configuration: ScannerConfiguration) -> None:
        self._configuration = configuration
        self._targets = configuration.targets
        self._counts: Counter[str] = Counter(tries=0, refused=0, timed_out=0, unreachable=0)
        self._hits: deque[tuple[float, str]] = deque(maxlen=_HITS_KEPT)
        self._hit_count = 0
        self._by_target: Counter[str] = Counter()
        self._trying: set[asyncio.Task[None]] = set()
        self._scanning: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._scanning = asyncio.create_task(self._scan())

    def take(self, configuration: ScannerConfiguration) -> None:
        self._targets = configuration.targets

    def report(self) -> None:
        if self._configuration.stats is not None:
            document = {
                "at": time.monotonic(),
                **self._counts,
                "hits": list(self._hits),
                "hit_count": self._hit_count,
                "hits_by_target": self._by_target,
            }
            write_document(self._configuration.stats, document)

    async def stop(self) -> None:
        if self._scanning is not None:
            self._scanning.cancel()
        if self._trying:
            await asyncio.wait(self._trying)

    async def _scan(self) -> None:
        turn = 0
        while True:
            # Not faster to make up for lost time: this is a stranger, not a flood.
            await asyncio.sleep(1 / _TRIES_PER_SECOND)
            if not self._targets or len(self._trying) >= _AT_ONCE:
                continue
            turn += 1
            task = asyncio.create_task(self._try(self._targets[turn % len(self._targets)]))
            self._trying.add(task)
            task.add_done_callback(self._trying.discard)

    async def _try(self, target: Endpoint) -> None:
        began = time.monotonic()
        self._counts["tries"] += 1
        try:
            _, writer = await lines.connect(target, seconds=_TRY_SECONDS)
        except ConnectionRefusedError:
            self._counts["refused"] += 1
        except TimeoutError:
            self._counts["timed_out"] += 1
        except OSError:
            self._counts["unreachable"] += 1  # somebody on the way said so
        else:
            writer.close()
            self._hit_count += 1
            self._by_target[str(target)] += 1
            self._hits.append((began, str(target)))
