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
    """Who calls whom. ``member``: the id of who has ``dest``, or had it. ``group``: a path below
    the root of control groups; empty: none is known."""

    member: str
    dest: bytes
    protocol: str
    port: int
    user: int
    group: str
    container: bytes

    @classmethod
    def of(cls, call: Call, member: str, group: str) -> "Caller":
        return cls(
            member,
            call.dest.packed,
            call.protocol,
            call.port,
            -1 if call.user is None else call.user,
            group,
            b"" if call.container is None else call.container.packed,
        )


@dataclass(slots=True)
class Row:
    """Times in steady seconds. ``known``: when the address was that member's for the last time, as
    far as was seen."""

    calls: int
    first: float
    last: float
    known: float


# Of addresses, packed: the ids of those who have them, or had them last. Beside them who is thought
# to have had which, to look there first.
Whose = Callable[[set[bytes], Mapping[bytes, str]], Mapping[bytes, str]]
# The paths of control groups, by number, as far as they are known.
Named = Callable[[set[int]], Mapping[int, str]]


@dataclass(slots=True)
class Leftovers:
    """Not thread-safe. Looks must be less than an hour apart for counts to be exact. ``since``:
    from when on it is recorded, steady seconds."""

    since: float
    rows: dict[Caller, Row] = field(default_factory=dict)
    changed: bool = False  # since the last ``snapshot``
    _counters: dict[bytes, int] = field(default_factory=dict)

    def take(self, calls: Iterable[Call], now: float, *, whose: Whose, named: Named) -> None:
        """One complete look. What is nobody's is not kept: it may be somebody's at the next."""
        counters: dict[bytes, int] = {}
        news: list[tuple[Call, int]] = []
        for call in calls:
            before, seen = self._counters.get(call.raw, 0), max(1, call.packets)
            if seen == before:
                counters[call.raw] = seen
            else:
                news.append((call, seen - before if seen > before else seen))
        former = self._former(now) if news else {}
        owners = whose({call.dest.packed for call, _ in news}, former) if news else {}
        paths = named({call.group for call, _ in news if call.group}) if news else {}
        for call, more in news:
            packed = call.dest.packed
            member = owners.get(packed) or former.get(packed)
            if member is not None:
                counters[call.raw] = max(1, call.packets)
                group = paths.get(call.group, GROUP_ENDED) if call.group else ""
                row = self._add(Caller.of(call, member, group), more, now - max(0.0, call.idle))
                row.known = now if packed in owners else row.known
        self.changed = self.changed or counters.keys() != self._counters.keys()
        self._counters = counters
        self._forget(now)

    def _former(self, now: float) -> dict[bytes, str]:
        """Who had an address last: believed for as long as rows are kept, and no longer, because it
        may be another machine's since."""
        had = sorted((row.known, caller.dest, caller.member) for caller, row in self.rows.items())
        return {dest: member for known, dest, member in had if known + KEEP_SECONDS > now}

    def emptied(self) -> None:
        """The kernel's counters begin at zero."""
        self.changed = self.changed or bool(self._counters)
        self._counters = {}

    def _add(self, caller: Caller, news: int, last: float) -> Row:
        self.changed = True
        row = self.rows.get(caller)
        if row is None:
            # By a name that only rows remember, it is as old as the newest of them.
            known = [r.known for c, r in self.rows.items() if c.dest == caller.dest]
            row = self.rows[caller] = Row(news, last, last, max(known, default=last))
        else:
            row.calls, row.last = row.calls + news, max(row.last, last)
        return row

    def _forget(self, now: float) -> None:
        for row in self.rows.values():  # a clock that was ahead keeps nothing longer
            row.last = min(row.last, now)
            row.first, row.known = min(row.first, row.last), min(row.known, now)
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
            row.first, row.last, row.known = row.first + by, row.last + by, row.known + by

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
                    "member": caller.member,
                    "calls": row.calls,
                    "first": round(row.first, 2),
                    "last": round(row.last, 2),
                    "known": round(row.known, 2),
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
                str(one["member"]),
                ip_address(one["to"]).packed,
                str(one["protocol"]),
                int(one["port"]),
                int(one["user"]),
                str(one["group"]),
                container,
            )
            times = (float(one[key]) for key in ("first", "last", "known"))
            made.rows[caller] = Row(int(one["calls"]), *times)
        made._counters = {
            bytes.fromhex(raw): int(packets) for raw, packets in document["counters"].items()
        }
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"not a record of leftovers: {error!r}") from error
    return made
