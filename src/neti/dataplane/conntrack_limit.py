"""How many connections the kernel may track: what to raise it to, raising it, putting it back.

As soon as any rule asks for a connection's state, a full table drops new connections, in shadow
too. So the limit is raised before our first such rule. ``decide`` is pure; ``ConntrackLimit`` reads
and writes the sysctls at the paths that it is given.

Must never do: lower a limit except to put back what was found, or overwrite somebody else's value.
"""

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from neti.clock import BOOT
from neti.dataplane.boot_note import BootNote
from neti.errors import DataplaneError

# Measured on Linux 6.18, 64 bits: 60,000 entries made by ctnetlink took 22.0 MiB of slab, which is
# 384 bytes each (256 nf_conn, 128 its extensions). The rest is for what NAT adds and for buckets.
BYTES_PER_ENTRY: Final = 512
# One entry per 16 KiB of memory, which is 1/32 of it: what the kernel itself takes at 1 GiB
# (65,536) and at 4 GiB (262,144; nf_conntrack_init_start). The kernel stops there; we stop later.
_MEMORY_PER_ENTRY: Final = 16_384
_BY_MEMORY_AT_MOST: Final = 1_048_576
# A closed socket leaves its entry behind for minutes (nf_conntrack_tcp_timeout_time_wait: 120 s),
# and a UDP socket has one for each address that it talks to.
_ENTRIES_PER_SOCKET: Final = 8
# The connections that are tracked already, because of another program's rules, may double.
_ROOM_ABOVE_TRACKED: Final = 2
# The most that anybody gets: a table that fills 1/16 of the memory.
_MEMORY_SHARE: Final = 16
# Each entry stands in the hash table twice, so this many are chains of four on average.
_ENTRIES_PER_BUCKET: Final = 2

Wanted = int | Literal["auto"]  # the setting conntrack_max

WARN_PERCENT: Final = 80.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What this machine has: bytes of memory, the limit and hash buckets, entries, sockets."""

    memory: int
    limit: int
    buckets: int
    tracked: int
    sockets: int

    @property
    def ceiling(self) -> int:
        return self.memory // _MEMORY_SHARE // BYTES_PER_ENTRY


@dataclass(frozen=True, slots=True)
class Decision:
    """What to set; if that is what is there, nothing is done. ``note``: for the operator."""

    limit: int
    buckets: int
    note: str | None = None


def decide(wanted: Wanted, seen: Seen) -> Decision:
    """Never less than what is there, and never more than the memory's share, unless that is there
    already."""
    if wanted == "auto":
        by_memory = min(seen.memory // _MEMORY_PER_ENTRY, _BY_MEMORY_AT_MOST)
        called_for = max(
            by_memory,
            seen.sockets * _ENTRIES_PER_SOCKET,
            seen.tracked * _ROOM_ABOVE_TRACKED,
        )
    else:
        called_for = wanted
    limit = max(seen.limit, min(called_for, seen.ceiling))
    # Longer chains make every packet cost more. Still, more buckets pay only together with a new
    # limit, because all tracking waits while they are copied.
    crowded = limit > seen.buckets * _ENTRIES_PER_BUCKET
    buckets = limit if limit > seen.limit and crowded else seen.buckets
    return Decision(limit, buckets, _note(wanted, limit, seen))


def _note(wanted: Wanted, limit: int, seen: Seen) -> str | None:
    if isinstance(wanted, str) or wanted == limit:
        return None
    if wanted < seen.limit:
        return (
            f"conntrack_max is {wanted}, but the kernel allows {seen.limit} already: "
            "Neti raises the limit and never lowers it"
        )
    return (
        f"conntrack_max is {wanted}, but {limit} is as much as this machine's memory is good for "
        f"({seen.memory >> 20} MiB, of which tracked connections may take 1/{_MEMORY_SHARE})"
    )


@dataclass(frozen=True, slots=True)
class Fill:
    tracked: int
    limit: int

    @property
    def percent(self) -> float:
        return 100.0 * self.tracked / self.limit if self.limit > 0 else 0.0

    @property
    def problem(self) -> str | None:
        """A sentence from 80 % on."""
        if self.percent < WARN_PERCENT:
            return None
        return (
            f"the connection-tracking table is {self.percent:.0f} % full ({self.tracked} of "
            f"{self.limit}): when it is full, new connections are dropped, in shadow too; "
            "raise conntrack_max, or net.netfilter.nf_conntrack_max"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where the kernel shows and takes these values. Tests give others."""

    limit: Path = Path("/proc/sys/net/netfilter/nf_conntrack_max")
    tracked: Path = Path("/proc/sys/net/netfilter/nf_conntrack_count")
    buckets: Path = Path("/proc/sys/net/netfilter/nf_conntrack_buckets")
    hash_size: Path = Path("/sys/module/nf_conntrack/parameters/hashsize")
    memory: Path = Path("/proc/meminfo")
    sockets: tuple[Path, ...] = (
        Path("/proc/thread-self/net/sockstat"),
        Path("/proc/thread-self/net/sockstat6"),
    )
    boot: Path = BOOT


@dataclass(slots=True)
class Former:
    """One value as it was before the first change, and all that we set since. By these we tell our
    value from somebody else's, whenever we were killed."""

    before: int
    ours: list[int] = field(default_factory=list)


def read_fill(paths: Paths | None = None) -> Fill | None:
    """How full the table is; None while nothing is tracked and the kernel shows no table."""
    paths = paths or Paths()
    limit, tracked = _number(paths.limit), _number(paths.tracked)
    return Fill(tracked, limit) if limit is not None and tracked is not None else None


class ConntrackLimit:
    """Owns ``conntrack.json`` in the state folder. Not thread-safe. Raises DataplaneError when the
    kernel or the disk refuses."""

    def __init__(
        self,
        folder: Path,
        *,
        paths: Paths | None = None,
        load: Callable[[], None] | None = None,
    ) -> None:
        self._paths = paths or Paths()
        by_hand = f"set {self._paths.limit} yourself if it is not what you want"
        self._note = BootNote(folder / "conntrack.json", self._paths.boot, by_hand)
        self._load = load

    def fill(self) -> Fill | None:
        return read_fill(self._paths)

    def raise_to(self, wanted: Wanted) -> tuple[str, ...]:
        """Raise limit and buckets if needed. Returns sentences about what was not done.

        The former values are on disk before the first one is changed.
        """
        seen = self._look()
        if seen is None:
            return (f"{self._paths.limit} does not exist yet: conntrack_max is not set",)
        decision = decide(wanted, seen)
        notes = [decision.note] if decision.note else []
        if decision.limit == seen.limit:
            return tuple(notes)
        if not os.access(self._paths.limit, os.W_OK):
            sentence = (
                f"{self._paths.limit} cannot be written here, {_why_not()}: it stays {seen.limit}"
            )
            return (sentence,)
        self._remember(seen, decision)
        _write(self._paths.limit, decision.limit)
        if decision.buckets != seen.buckets and not self._set_buckets(decision.buckets):
            notes.append(
                f"the hash table of tracked connections stays at {seen.buckets} buckets: the "
                "kernel did not take more, so lookups are slower than they could be"
            )
        return tuple(notes)

    def put_back(self) -> tuple[str, ...]:
        """Put the former values back where the present ones are ours. Returns sentences about what
        stays as it is."""
        formers = self._remembered()
        notes = []
        limit, former = _number(self._paths.limit), formers.get("limit")
        if former is not None and limit is not None and limit != former.before:
            tracked = _number(self._paths.tracked) or 0
            if limit not in former.ours:
                notes.append(
                    f"{self._paths.limit} is {limit}, which Neti did not set: it stays "
                    f"(before Neti it was {former.before})"
                )
            elif tracked > former.before:
                # A lower limit would drop new connections at once, if other programs track them.
                sentence = (
                    f"{self._paths.limit} stays {limit}: {tracked} connections are tracked, more "
                    f"than the {former.before} that it was before; 'neti down' again later puts "
                    "it back"
                )
                return (sentence,)
            elif not os.access(self._paths.limit, os.W_OK):
                sentence = (
                    f"{self._paths.limit} stays {limit}: it cannot be written here, {_why_not()}"
                )
                return (sentence,)
            else:
                _write(self._paths.limit, former.before)
        buckets, former = _number(self._paths.buckets), formers.get("buckets")
        if former is not None and buckets in former.ours:
            self._set_buckets(former.before)
        self._note.remove()
        return tuple(notes)

    # --- the kernel ---

    def _look(self) -> Seen | None:
        if not self._paths.limit.exists() and self._load is not None:
            # nf_conntrack is loaded with the first rule that tracks, and that is too late.
            with contextlib.suppress(DataplaneError):
                self._load()
        limit, buckets = _number(self._paths.limit), _number(self._paths.buckets)
        if limit is None:
            return None
        return Seen(
            memory=_memory(self._paths.memory),
            limit=limit,
            buckets=buckets if buckets is not None else limit,
            tracked=_number(self._paths.tracked) or 0,
            sockets=sum(map(_sockets, self._paths.sockets)),
        )

    def _set_buckets(self, buckets: int) -> bool:
        for path in (self._paths.buckets, self._paths.hash_size):
            if path.exists():
                with contextlib.suppress(DataplaneError):
                    _write(path, buckets)
                    return True
        return False

    # --- the disk ---

    def _remember(self, seen: Seen, decision: Decision) -> None:
        formers = self._remembered()
        for name, now, new in (
            ("limit", seen.limit, decision.limit),
            ("buckets", seen.buckets, decision.buckets),
        ):
            former = formers.get(name)
            if former is None or now not in (former.before, *former.ours):
                former = formers[name] = Former(now)
            if new != now:
                former.ours.append(new)
        self._note.write({name: asdict(former) for name, former in formers.items()})

    def _remembered(self) -> dict[str, Former]:
        return self._note.read(_formers, {})


def _formers(held: Mapping[str, Any]) -> dict[str, Former]:
    return {
        name: Former(int(was["before"]), [int(value) for value in was["ours"]])
        for name, was in held.items()
        if name in ("limit", "buckets")  # a later version may have more
    }


def _why_not() -> str:
    if os.geteuid() != 0:
        return "for only root may: neti.service does it when it starts, and 'neti up' and 'down' do"
    return "as in every network namespace but the first"


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _write(path: Path, value: int) -> None:
    try:
        path.write_text(f"{value}\n")
    except OSError as error:
        raise DataplaneError(f"{path}: the kernel refused {value}: {error.strerror}") from error


def _memory(path: Path) -> int:
    """MemTotal in bytes; 0 if it cannot be read: then nothing is raised."""
    try:
        for line in path.read_text().splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0


def _sockets(path: Path) -> int:
    """TCP (those in TIME-WAIT too) and UDP sockets of a /proc/net/sockstat."""
    counted = 0
    try:
        for line in path.read_text().splitlines():
            kind, _, rest = line.partition(": ")
            words = rest.split()
            pairs = dict(zip(words[::2], map(int, words[1::2]), strict=False))
            if kind in ("TCP", "UDP", "TCP6", "UDP6"):
                counted += pairs.get("inuse", 0) + pairs.get("tw", 0)
    except (OSError, ValueError):
        pass
    return counted
