"""Who on this host still calls members by their real addresses: an account of the kernel's. Pure.

The kernel counts new connections in sets that are emptied when the table is replaced, and whose
elements end after an hour. ``Leftovers`` makes one account out of successive looks at them.

Must never do: count a connection twice, count below zero, or grow without a bound.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final

from neti.model import IPAddress
from neti.stage.shadow import address_of

KEEP_SECONDS: Final = 14 * 86_400.0  # two Sundays: a weekly job counts too
MOST_ROWS: Final = 2048
GROUP_ENDED: Final = "(ended)"  # in place of the name of a group that is not there any more


@dataclass(frozen=True, slots=True)
class Call:
    """One counter of the kernel. ``raw``: its key, which no other counter has. ``user``: a number;
    ``group``: the number of a control group; both None for a container, which has ``container``,
    its address. ``packets``: connections, as only the first packet of each is counted. ``idle``:
    seconds since the last one."""

    raw: bytes
    dest: IPAddress
    protocol: str
    port: int
    packets: int
    idle: float
    user: int | None = None
    group: int | None = None
    container: IPAddress | None = None


@dataclass(frozen=True, slots=True, order=True)
class Caller:
    """Who calls whom. ``group``: a path below the root of control groups; empty: none is known."""

    dest: bytes
    protocol: str
    port: int
    user: int
    group: str
    container: bytes

    @classmethod
    def of(cls, call: Call, group: str) -> "Caller":
        return cls(
            call.dest.packed,
            call.protocol,
            call.port,
            -1 if call.user is None else call.user,
            group,
            b"" if call.container is None else call.container.packed,
        )


@dataclass(slots=True)
class Row:
    """``member``: whose address it was at the last call. Times in steady seconds."""

    member: str
    calls: int
    first: float
    last: float


@dataclass(slots=True)
class Leftovers:
    """Not thread-safe. Looks must be less than an hour apart for counts to be exact. ``since``:
    from when on it is recorded, steady seconds."""

    since: float
    rows: dict[Caller, Row] = field(default_factory=dict)
    changed: bool = False  # since the last ``snapshot``
    _counters: dict[bytes, int] = field(default_factory=dict)

    def take(
        self,
        calls: Iterable[Call],
        now: float,
        *,
        whose: Callable[[set[bytes]], Mapping[bytes, str]],
        named: Callable[[set[int]], Mapping[int, str]],
    ) -> None:
        """One complete look. ``whose``: the ids of those who have, or had, these addresses, packed.
        What is nobody's is not kept: it may be somebody's at the next look. ``named``: paths of
        control groups, as far as they are there."""
        counters: dict[bytes, int] = {}
        news: list[tuple[Call, int]] = []
        for call in calls:
            before, seen = self._counters.get(call.raw, 0), max(1, call.packets)
            if seen == before:
                counters[call.raw] = seen
            else:
                news.append((call, seen - before if seen > before else seen))
        owners = whose({call.dest.packed for call, _ in news}) if news else {}
        known = {caller.dest: row.member for caller, row in self.rows.items()} if news else {}
        paths = named({call.group for call, _ in news if call.group}) if news else {}
        for call, calls_more in news:
            packed = call.dest.packed
            member = owners.get(packed) or known.get(packed)
            if member is not None:
                counters[call.raw] = max(1, call.packets)
                group = paths.get(call.group, GROUP_ENDED) if call.group else ""
                self._add(Caller.of(call, group), member, calls_more, now - max(0.0, call.idle))
        self.changed = self.changed or counters.keys() != self._counters.keys()
        self._counters = counters
        self._forget(now)

    def emptied(self) -> None:
        """The kernel's counters begin at zero."""
        self.changed = self.changed or bool(self._counters)
        self._counters = {}

    def _add(self, caller: Caller, member: str, news: int, last: float) -> None:
        self.changed = True
        row = self.rows.get(caller)
        if row is None:
            self.rows[caller] = Row(member, news, last, last)
        else:
            row.member, row.calls, row.last = member, row.calls + news, max(row.last, last)

    def _forget(self, now: float) -> None:
        for row in self.rows.values():  # a clock that was ahead keeps nothing longer
            row.last = min(row.last, now)
            row.first = min(row.first, row.last)
        gone = [caller for caller, row in self.rows.items() if row.last + KEEP_SECONDS <= now]
        if len(self.rows) - len(gone) > MOST_ROWS:
            oldest = sorted(self.rows, key=lambda caller: self.rows[caller].last)
            gone = oldest[: len(self.rows) - MOST_ROWS]
        for caller in gone:
            del self.rows[caller]
        self.changed = self.changed or bool(gone)

    def move(self, by: float) -> None:
        """Make all times ``by`` later, because another boot counts from elsewhere."""
        self.since += by
        for row in self.rows.values():
            row.first, row.last = row.first + by, row.last + by

    def latest(self) -> float:
        """The latest time in it."""
        return max((row.last for row in self.rows.values()), default=self.since)

    # --- plain values, for the disk ---

    def snapshot(self) -> dict[str, Any]:
        self.changed = False
        return {
            "since": self.since,
            "rows": [
                {
                    "to": str(address_of(caller.dest)),
                    "protocol": caller.protocol,
                    "port": caller.port,
                    "user": caller.user,
                    "group": caller.group,
                    "container": caller.container.hex(),
                    "member": row.member,
                    "calls": row.calls,
                    "first": round(row.first, 2),
                    "last": round(row.last, 2),
                }
                for caller, row in self.rows.items()
            ],
            "counters": {raw.hex(): packets for raw, packets in self._counters.items()},
        }


def restored(document: Mapping[str, Any]) -> Leftovers:
    """From a ``snapshot``. ValueError: it makes no sense."""
    try:
        made = Leftovers(float(document["since"]))
        for one in document["rows"][:MOST_ROWS]:
            container = bytes.fromhex(one["container"])
            if len(container) not in (0, 4, 16):
                raise ValueError("a container's address has 4 or 16 bytes")
            caller = Caller(
                ip_address(one["to"]).packed,
                str(one["protocol"]),
                int(one["port"]),
                int(one["user"]),
                str(one["group"]),
                container,
            )
            made.rows[caller] = Row(
                str(one["member"]), int(one["calls"]), float(one["first"]), float(one["last"])
            )
        made._counters = {
            bytes.fromhex(raw): int(packets) for raw, packets in document["counters"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a record of leftovers: {error!r}") from error
    return made
