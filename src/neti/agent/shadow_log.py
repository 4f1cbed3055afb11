"""The shadow on disk: sampled from the kernel, kept across reload, replacement, restart, upgrade.

    shadow.jsonl    what no rule lets in: see ``record_file``
    unasked.jsonl   likewise what came from members, and member_ports of the file do not admit
    accepted.json   the ports that somebody accepted losing

What a kill leaves unwritten is still in the kernel's counters, and the counters that were counted
stand beside the counts, so the next start goes on from both. Must never do: keep the kernel from
being put right. A look that fails is kept in ``fault``; the caller reports a disk that fails.
"""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from neti import durable, files, log
from neti.agent.record_file import RecordFile, listening, put_newer_aside, read
from neti.clock import SteadyClock
from neti.dataplane.reconciler import Reconciler
from neti.errors import DataplaneError
from neti.model.problems import Problems
from neti.ruleset.objects import SEEN_SIZE
from neti.stage.record import Missed, Record
from neti.stage.shadow import Port, Sighting, parse_port, port_name
from neti.state.loaded import StateError
from neti.state.records import FORMAT, is_newer

_FILE: Final = "shadow.jsonl"
_UNASKED: Final = "unasked.jsonl"
_ACCEPTED: Final = "accepted.json"
_SMALL: Final = 1 << 20
_SAMPLE_EVERY: Final = 30.0
# A full set takes 0.1 s to read and merge; this many elements a second keep that below 0.1 %.
ELEMENTS_A_SECOND: Final = 250


class ShadowLog:
    """Not thread-safe: the agent's loop owns it. ``fault``: why the last look failed, or None.
    ``faults``: what could not be read from disk. ``uncounted``: that the kernel does not count, in
    words, or None. ``unasked_full``: of members the kernel may have seen more than it had room for.
    """

    def __init__(
        self, folder: Path, machine: str, reconciler: Reconciler, steady: SteadyClock
    ) -> None:
        self.folder = folder
        self.fault: str | None = None
        self._reconciler = reconciler
        self._steady = steady
        self._file = RecordFile(folder / _FILE, machine, steady)
        self._unasked = RecordFile(folder / _UNASKED, machine, steady)
        self.faults = [*self._file.faults, *self._unasked.faults]
        self._elements = 0
        self.unheard, self.unseen = Missed(), Missed()
        self.uncounted: str | None = None
        self.unasked_full = False
        for sentence in self.faults:
            log.warning("state_fault", what=sentence)
        reconciler.on_emptying(self._last_look, self._emptied)

    @property
    def record(self) -> Record:
        """What no rule lets in."""
        return self._file.record

    @property
    def unasked(self) -> Record:
        """What came from members to ports that the file's ``member_ports`` do not admit them to,
        and that nothing else of it opens."""
        return self._unasked.record

    def _emptied(self) -> None:
        self.record.emptied()
        self.unasked.emptied()

    def now(self) -> float:
        """Steady seconds, as all times of the record are."""
        return self._steady.now()

    def shown(self, at: float) -> float:
        """As Unix time, for people."""
        return self._steady.shown(at)

    @property
    def whole(self) -> bool:
        """Whether the file on disk can be gone on with, and no time in it was moved."""
        return self._file.whole and self._unasked.whole

    @property
    def pause(self) -> float:
        """Seconds until the next look is due."""
        return max(_SAMPLE_EVERY, self._elements / ELEMENTS_A_SECOND)

    def sample(self) -> None:
        """Merge what the kernel holds now."""
        try:
            seen = self._reconciler.sightings()
            unasked = self._reconciler.unasked()
            counters = self._reconciler.counters()
        except DataplaneError as error:
            if self.fault is None:
                log.warning("shadow_not_read", what=str(error))
            self.fault = str(error)
            return
        self.fault = None
        self.uncounted = uncounted(seen)
        self._elements = len(seen) + len(unasked)
        self.unasked_full = _is_full(len(unasked))
        now = self.now()
        heard = sum(one.heard for one in seen)
        for missed, name, held in (
            (self.unheard, "unheard", heard),
            (self.unseen, "unseen", len(seen) - heard),
        ):
            missed.look(counters.get(name, 0), now, full=_is_full(held))
        self.record.take(seen, now, listening=listening)
        self.unasked.take(unasked, now, listening=listening)

    def incomplete(self, since: float) -> str | None:
        """Why the record of ports with a listener cannot be relied on since then (steady
        seconds)."""
        last = self.unheard.last
        if last is None or not self.unheard.since(since):
            return None
        return (
            "the record of ports with a listener is full: "
            f"{self.unheard.packets:,} packets found no room in it, "
            f"the last one at {time.strftime('%H:%M', time.localtime(self.shown(last)))}"
        )

    def name_problems(self, problems: Problems) -> None:
        now = self.now()
        if (full := self.incomplete(now)) is not None:
            problems.set("record_full", full)
        else:
            problems.clear("record_full")
        if (crowded := self.crowded(now)) is not None:
            problems.set("record_crowded", crowded)
        else:
            problems.clear("record_crowded")

    def crowded(self, since: float) -> str | None:
        """The same for all other ports, where it means little: scanners do that."""
        if not self.unseen.since(since):
            return None
        return (
            "the record of ports where nothing listens is full, or one source filled its share of "
            f"it: {self.unseen.packets:,} packets are not in it. Ports with a listener have room "
            "of their own"
        )

    def _last_look(self) -> None:
        """The sets are about to go, and nothing may prevent that."""
        try:
            self.stop()
        except StateError as error:
            log.warning("shadow_not_written", what=str(error))

    def tick(self) -> None:
        """A look, and a write when one is due. Raises StateError."""
        self.sample()
        for file in self._files:
            if file.due:
                file.write()

    def keep_whole(self) -> None:
        """Write what on disk cannot be continued. Raises StateError."""
        for file in self._files:
            if not file.whole:
                file.write()

    def write_anew(self) -> None:
        """Write all of it, because a file was taken away. Raises StateError."""
        for file in self._files:
            file.whole = False
        self.write()

    def stop(self) -> None:
        """The last look, on disk. Raises StateError."""
        self.sample()
        self.write()

    def write(self) -> None:
        """What changed, if anything did. Raises StateError."""
        for file in self._files:
            file.write()

    @property
    def _files(self) -> tuple[RecordFile, RecordFile]:
        return self._file, self._unasked


def _is_full(held: int) -> bool:
    """Whether a set of the kernel that holds so many may have had no room for more."""
    return held >= SEEN_SIZE - SEEN_SIZE // 16


def uncounted(seen: Iterable[Sighting]) -> str | None:
    """What people are told where the kernel records packets without counting them."""
    if not any(one.packets == 0 for one in seen):
        return None
    return (
        "this kernel does not count the packets of the record, so use is known by time alone: a "
        f"count says how many looks, {_SAMPLE_EVERY:.0f} s apart, found a newer packet"
    )


def read_alone(folder: Path, machine: str, steady: SteadyClock) -> tuple[Record, list[str]]:
    """The record without an agent, as it was last written; and what could not be used of it."""
    record, faults, _ = read(folder / _FILE, machine, steady)
    return record, faults


def read_unasked(folder: Path, machine: str, steady: SteadyClock) -> tuple[Record, list[str]]:
    """The same of what ``member_ports`` does not admit."""
    record, faults, _ = read(folder / _UNASKED, machine, steady)
    return record, faults


# --- what may be lost ---


def accepted(folder: Path) -> dict[Port, float]:
    """The ports that somebody accepted losing, and when. StateError: the file cannot be used, and
    until it is fixed nothing counts as accepted."""
    path = folder / _ACCEPTED
    try:
        document = durable.checked(files.read(path, _SMALL))
        if is_newer(document.get("format", FORMAT)):
            raise StateError(
                f"{path}: written by another version of Neti: say again what may be lost "
                "(neti preview --forget-accepted, then --accept-losing)"
            )
        return {parse_port(name): float(when) for name, when in document["accepted"].items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StateError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateError(
            f"{path}: is torn or edited: say again what may be lost "
            "(neti preview --forget-accepted, then --accept-losing)"
        ) from error


def accept_losing(folder: Path, ports: Iterable[Port], now: float) -> None:
    _save_accepted(folder, accepted(folder) | dict.fromkeys(ports, now))


def take_back(folder: Path, ports: Iterable[Port]) -> None:
    """Of these it no longer counts."""
    gone = set(ports)
    _save_accepted(folder, {p: when for p, when in accepted(folder).items() if p not in gone})


def forget_accepted(folder: Path) -> None:
    _save_accepted(folder, {})


def _save_accepted(folder: Path, held: dict[Port, float]) -> None:
    path = folder / _ACCEPTED
    named = {port_name(port): when for port, when in sorted(held.items())}
    document = {"format": FORMAT, "accepted": named}
    try:
        put_newer_aside(path)
        durable.replace(path, durable.line(document), 0o640)
    except OSError as error:
        raise StateError(f"{path}: cannot be written: {error.strerror}") from error
