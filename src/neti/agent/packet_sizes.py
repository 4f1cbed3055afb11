"""Roads that take small packets and lose large ones: what is lost, which way, and what passes.

Somebody on such a road drops what is too large and says nothing, so connections are made and then
hang. Members of one site that are reached by one kind of road share it, as a rule. So the largest
packet that passes is searched for with the first of them, and the others are held against it: each
is tried with full packets itself, but by how long the smaller ones took, and not for the whole
time-out. A fleet behind such a road is asked faster than one that does not answer.

Must never do: have more connections to one member at once than its responder allows, or blame a
road for a member that answers nothing at all.
"""

import threading
import time
from collections.abc import Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Literal

from neti.agent.member_talk import Answer, NoAnswer, Stalled, talk

Way = Literal["there", "back", "both"]

SMALL: Final = 576  # bytes: what every IPv4 host takes (RFC 791)
SEARCHES: Final = 3  # for each road, in one run
ROUNDS: Final = 5  # of one search
AT_ONCE: Final = 6  # sizes in one round; a responder takes 8 connections from one address
_LEAST: Final = 1.0  # seconds: the kernel has sent again twice by then
_TRIPS: Final = 10  # round trips of 64 KiB both ways in small packets


class LargeLost(Exception):
    """Packets of ``full`` bytes do not arrive, and smaller ones do. ``way``: of those that are
    lost. ``largest``: what passes both ways; None: not searched for. ``answer``: what the member
    said to smaller ones."""

    def __init__(self, answer: Answer, full: int, way: Way, largest: int | None) -> None:
        super().__init__(f"packets of {full} bytes are lost")
        self.answer = answer
        self.full = full
        self.way = way
        self.largest = largest


@dataclass(slots=True)
class _Shared:
    """What was found on one road. ``largest`` only sinks."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    searches: int = 0
    largest: int | None = None
    way: Way = "there"


class PacketSizes:
    """Thread-safe. ``port``: of the responders; ``seconds``: for what one member is sent."""

    def __init__(self, port: int, seconds: float) -> None:
        self._port = port
        self._seconds = seconds
        self._lock = threading.Lock()
        self._roads: dict[Hashable, _Shared] = {}

    def reach(self, overlay: str, road: Hashable) -> Answer:
        """What the member says to packets as large as both ends agree on. ``road``: which members
        share one. Raises LargeLost, and what ``talk`` raises."""
        with self._lock:
            shared = self._roads.setdefault(road, _Shared())
        tried = shared.largest
        if tried is not None:
            try:
                return self._held_against(overlay, shared, tried)
            except Stalled:
                pass  # its road is narrower still, or it does not answer
        try:
            return talk(overlay, self._port, self._seconds)
        except Stalled as stalled:
            loss = self._loss(overlay, shared, stalled, tried)
            if loss is None:
                raise
            raise loss from stalled

    def _held_against(self, overlay: str, shared: _Shared, largest: int) -> Answer:
        """Raises Stalled if not even packets that pass elsewhere do."""
        began = time.monotonic()
        answer = talk(overlay, self._port, self._seconds, largest=largest)
        took = time.monotonic() - began
        try:
            return talk(overlay, self._port, min(self._seconds, _LEAST + 2 * took))
        except Stalled as stalled:
            raise LargeLost(answer, stalled.full, _way(stalled, shared.way), largest) from stalled

    def _loss(
        self, overlay: str, shared: _Shared, stalled: Stalled, tried: int | None
    ) -> LargeLost | None:
        """None: it is not the packets' size."""
        patience = _LEAST + _TRIPS * stalled.round_trip
        search = _Search(overlay, self._port, min(self._seconds, patience))
        began = time.monotonic()
        answer = search.asked(SMALL)
        if not isinstance(answer, Answer):
            return None
        # A busy member is slow, and would be taken for one to which less and less passes.
        search.seconds = min(self._seconds, patience + 2 * (time.monotonic() - began))
        with shared.lock:
            if shared.largest == tried and shared.searches < SEARCHES:
                shared.searches += 1
                found = search.run(answer, stalled.full)
                if found is not None and found.largest is not None:
                    shared.largest = min(found.largest, shared.largest or found.largest)
                    shared.way = found.way
                return found
        if shared.largest != tried and shared.largest is not None:  # found while this one waited
            try:
                self._held_against(overlay, shared, shared.largest)
            except LargeLost as loss:
                return loss
            except (OSError, NoAnswer):
                pass
        again = search.asked(None)
        if not isinstance(again, Stalled):
            return None
        return LargeLost(answer, again.full, _way(again, shared.way), None)


def _way(stalled: Stalled, before: Way) -> Way:
    """Which way large packets are lost, by one that stalled and what was found ``before``."""
    if stalled.sent:
        return "back"
    return "both" if before == "both" else "there"


class _Search:
    """For the largest packet that passes to one member and back, by ``AT_ONCE`` questions at a time
    in at most ``ROUNDS`` rounds of ``seconds`` each."""

    def __init__(self, overlay: str, port: int, seconds: float) -> None:
        self._overlay = overlay
        self._port = port
        self.seconds = seconds

    def asked(self, size: int | None, *, pieces: bool = False) -> Answer | Stalled | None:
        """None: it cannot be told, because the member did not take the connection."""
        try:
            return talk(self._overlay, self._port, self.seconds, largest=size, pieces=pieces)
        except Stalled as stalled:
            return stalled
        except (OSError, NoAnswer):
            return None

    def run(self, small: Answer, full: int) -> LargeLost | None:
        """``small`` passed, ``full`` did not; None: now it did."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            whole = pool.submit(self.asked, None)
            pieces = pool.submit(self.asked, None, pieces=True)
            low, high = self._narrowed(pool, SMALL, full, AT_ONCE - 2)
            again, only_back = whole.result(), pieces.result()
            if not isinstance(again, Stalled):
                return None
            for _ in range(ROUNDS - 1):
                before = high - low
                low, high = self._narrowed(pool, low, high, AT_ONCE)
                if high - low in (1, before):
                    break
        both = not again.sent and isinstance(only_back, Stalled)
        return LargeLost(small, full, _way(again, "both" if both else "there"), low)

    def _narrowed(
        self, pool: ThreadPoolExecutor, low: int, high: int, parts: int
    ) -> tuple[int, int]:
        """``low`` passes and ``high`` does not: the same, closer together."""
        sizes = list(_between(low, high, parts))
        said = dict(zip(sizes, pool.map(self.asked, sizes), strict=True))
        low = max((size for size in sizes if isinstance(said[size], Answer)), default=low)
        lost = (size for size in sizes if size > low and isinstance(said[size], Stalled))
        return low, min(lost, default=high)


def _between(low: int, high: int, parts: int) -> Iterator[int]:
    """Up to ``parts`` sizes, evenly spread, without the ends."""
    steps = (low + (high - low) * part // (parts + 1) for part in range(1, parts + 1))
    yield from sorted({size for size in steps if low < size < high})
