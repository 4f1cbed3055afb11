"""The shadow's record: what no rule lets in, remembered for 14 days. Pure.

The kernel counts packets by (source, protocol, port) in sets that are emptied when the table is
replaced and whose elements end after an hour. ``Record`` makes one account out of successive looks
at them. Must never do: count a packet twice, count below zero, or grow without a bound.
"""

from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from neti.stage.shadow import (
    STEADY_PACKETS,
    Port,
    PortUse,
    Seen,
    Sighting,
    is_private,
    parse_port,
    port_name,
)

KEEP_SECONDS: Final = 14 * 86_400.0  # two Sundays: a weekly job counts too
MOST_RECORDS: Final = 65_536
_FORGET_EVERY: Final = 3600.0
_KERNEL_KEEPS: Final = 3600.0  # see neti.ruleset.objects.SEEN_SECONDS
_FAIR_SHARE: Final = 64  # sources of each port in use that a flood to another port cannot displace
_ROUNDING: Final = 1.0  # seconds between two readings of one packet's time, at most

Key = tuple[Port, bytes]  # and the source, packed
Counter = tuple[bool, Port, bytes]  # in which of the kernel's two rooms, and of whom


class Missed:
    """Packets for which one of the kernel's sets had no room, look by look."""

    def __init__(self) -> None:
        self.packets = 0
        self.last: float | None = None  # steady seconds; None: none, as far as is known
        self._counter: int | None = None

    def look(self, counter: int, now: float, *, full: bool) -> None:
        """``counter``: the kernel's, since its table was made. At the first look it counts only if
        the set is full now; otherwise the packets may be days old."""
        before, self._counter = self._counter, counter
        if before is None:
            news = counter if full else 0
        else:
            news = counter - before if counter >= before else counter
        if news:
            self.packets += news
            self.last = now

    def since(self, moment: float) -> bool:
        """Whether packets that came from ``moment`` on may be missing: while the set is full,
        nothing new gets into it."""
        return self.last is not None and self.last >= moment - _KERNEL_KEEPS


class Record:
    """(source, protocol, port) -> packets, first seen, last seen. Not thread-safe.

    Looks must be less than an hour apart for counts to be exact: an element that ended and began
    again between two looks, with a higher count than before, is counted too low.
    """

    def __init__(self, since: float, *, most: int = MOST_RECORDS) -> None:
        self.since = since
        self.ports: dict[Port, PortUse] = {}
        self._most = most
        self._count = 0
        self._counters: dict[Counter, int] = {}  # the kernel's, as the last look saw them
        self._changed: set[Key] = set()
        self._forget_after = 0.0

    def __len__(self) -> int:
        return self._count

    # --- looks at the kernel ---

    def take(
        self,
        sightings: Iterable[Sighting],
        now: float,
        *,
        listening: Callable[[], Collection[Port]] = tuple,
    ) -> None:
        """Merge one complete look. ``listening`` is asked only when something must go."""
        counters: dict[Counter, int] = {}
        for seen in sightings:
            key = (seen.protocol, seen.port), seen.source.packed
            counter = (seen.heard, *key)
            before = self._counters.get(counter)
            counters[counter] = seen.packets
            if seen.packets == 0:
                news = self._by_time(key, now - seen.idle)
            elif before is None or seen.packets < before:
                news = seen.packets  # a new element, so all of its count is new
            elif before == 0:
                news = seen.packets - 1  # its first packet was counted by time
            else:
                news = seen.packets - before
            if news > 0:
                self._add(key, news, seen, now)
        self._look_was(counters)
        if not self._forget_after - _FORGET_EVERY <= now < self._forget_after:
            self.forget(now)
        self.bound(listening)

    def emptied(self) -> None:
        """We emptied the kernel's sets ourselves: their counters begin at zero."""
        self._look_was({})

    def _look_was(self, counters: dict[Counter, int]) -> None:
        # An element that is gone begins at zero when it returns: a restart must know that too.
        gone = self._counters.keys() - counters.keys()
        self._changed |= {(port, source) for _, port, source in gone}
        self._counters = counters

    def _by_time(self, key: Key, came: float) -> int:
        """On a kernel that does not count: 1 if this is another packet than the last one. One that
        came so soon after it that this cannot be told still moves the time."""
        port, source = key
        use = self.ports.get(port)
        held = use.sources.get(source) if use is not None else None
        if held is None or came > held.last + _ROUNDING:
            return 1
        if came > held.last:
            held.last = came
            self._changed.add(key)
        return 0

    def _add(self, key: Key, news: int, seen: Sighting, now: float) -> None:
        port, source = key
        use = self.ports.setdefault(port, PortUse())
        use.forwarded = use.forwarded or seen.forwarded
        use.redirected = seen.redirected if seen.redirected is not None else use.redirected
        last = now - max(0.0, seen.idle)
        held = use.sources.get(source)
        if held is None:
            use.sources[source] = Seen(news, last, last)
            self._count += 1
        else:
            held.packets += news
            held.last = max(held.last, last)
        self._changed.add(key)

    # --- what goes ---

    def forget(self, now: float) -> None:
        """Drop what was last seen 14 days ago; a clock that was ahead keeps nothing longer."""
        self._forget_after = now + _FORGET_EVERY
        old: list[Key] = []
        for port, use in self.ports.items():
            for source, held in use.sources.items():
                held.last = min(held.last, now)
                held.first = min(held.first, held.last)
                if held.last + KEEP_SECONDS <= now:
                    old.append((port, source))
        self._remove(old)

    def latest(self) -> float:
        """When the last packet was seen; minus infinity: none was."""
        seen = (held.last for use in self.ports.values() for held in use.sources.values())
        return max(seen, default=float("-inf"))

    def move(self, by: float) -> bool:
        """Make all times ``by`` later, because another boot counts from elsewhere. Returns whether
        that changed anything."""
        if abs(by) < _ROUNDING:
            return False
        self.since += by
        for use in self.ports.values():
            for held in use.sources.values():
                held.first += by
                held.last += by
        return True

    def bound(self, listening: Callable[[], Collection[Port]]) -> None:
        """Above the bound, shrink to fifteen sixteenths of it, so that this is rare. Sources of
        ports where nothing listens go first, and among them those that came from the internet,
        once; among equals the oldest. Each port in use keeps some of its sources, no matter how
        many try another."""
        if self._count <= self._most:
            return
        keep, listened = self._most - self._most // 16, listening()
        ranked = []
        for port, use in self.ports.items():
            used = use.forwarded or use.redirected is not None or port in listened
            best = sorted(
                (
                    (is_private(source), held.packets >= STEADY_PACKETS, held.last, source)
                    for source, held in use.sources.items()
                ),
                reverse=True,
            )
            for place, (near, steady, last, source) in enumerate(best):
                worth = (used and place < _FAIR_SHARE, used, near, steady)
                ranked.append((worth, last, (port, source)))
        ranked.sort()
        self._remove([key for _, _, key in ranked[: self._count - keep]])

    def _remove(self, keys: Iterable[Key]) -> None:
        for port, source in keys:
            use = self.ports[port]
            del use.sources[source]
            if not use.sources:
                del self.ports[port]
            self._changed.discard((port, source))
            self._count -= 1

    # --- plain values, for the disk ---

    def changes(self) -> dict[str, Any]:
        """What changed since this was last asked, as ``snapshot`` writes it; {} when nothing."""
        changed, self._changed = self._changed, set()
        held = [key for key in changed if self._holds(key)]
        return self._plain(held) if held else {}

    def snapshot(self) -> dict[str, Any]:
        return self._plain((p, source) for p, use in self.ports.items() for source in use.sources)

    def _holds(self, key: Key) -> bool:
        port, source = key
        return port in self.ports and source in self.ports[port].sources

    def _plain(self, keys: Iterable[Key]) -> dict[str, Any]:
        ports: dict[str, dict[str, Any]] = {}
        for port, source in keys:
            use = self.ports[port]
            told = ports.setdefault(
                port_name(port),
                {"forwarded": use.forwarded, "redirected": use.redirected, "from": {}},
            )
            held, counter = use.sources[source], self._counters.get((False, port, source), 0)
            times = [round(held.first, 2), round(held.last, 2)]
            told["from"][_text(source)] = [held.packets, *times, counter]
            if heard := self._counters.get((True, port, source), 0):
                told.setdefault("heard", {})[_text(source)] = heard
        return {"since": self.since, "ports": ports}

    def restore(self, document: dict[str, Any]) -> None:
        """Take in a ``snapshot`` or ``changes``; later ones win. ValueError: it makes no sense,
        and nothing of it was taken in."""
        since, read, counters = _read(document)
        self.since = since
        for port, told in read.items():
            use = self.ports.setdefault(port, PortUse())
            use.forwarded, use.redirected = told.forwarded, told.redirected
            self._count += sum(source not in use.sources for source in told.sources)
            use.sources.update(told.sources)
        for counter, packets in counters.items():
            if packets:
                self._counters[counter] = packets
            else:
                self._counters.pop(counter, None)


def _read(document: dict[str, Any]) -> tuple[float, dict[Port, PortUse], dict[Counter, int]]:
    read: dict[Port, PortUse] = {}
    counters: dict[Counter, int] = {}
    try:
        since = float(document["since"])
        for name, told in document["ports"].items():
            port = parse_port(name)
            use = read[port] = PortUse(forwarded=bool(told["forwarded"]))
            if told["redirected"] is not None:
                use.redirected = int(told["redirected"])
            for text, (packets, first, last, counter) in told["from"].items():
                source = ip_address(text).packed
                use.sources[source] = Seen(int(packets), float(first), float(last))
                counters[False, port, source] = int(counter)
                counters[True, port, source] = int(told.get("heard", {}).get(text, 0))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a record of the shadow: {error!r}") from error
    return since, read, counters


def _text(packed: bytes) -> str:
    # Ten times as fast as by IPv4Address, which matters for a full record.
    return ".".join(map(str, packed)) if len(packed) == 4 else str(IPv6Address(packed))
