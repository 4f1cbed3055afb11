"""One record of packets on disk: a line for each write, what changed since the last one; rewritten
now and then.

Must never do: overwrite a file that a newer version wrote, or go on with one that is torn.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from neti import durable, files
from neti.clock import SteadyClock
from neti.host.listeners import listeners
from neti.stage.record import Record
from neti.stage.shadow import Port
from neti.state.loaded import StateError
from neti.state.records import FORMAT, is_newer

_AT_MOST: Final = 256 << 20
_WRITE_EVERY: Final = 60.0
_COMPACT_AFTER: Final = 5000


class RecordFile:
    """Not thread-safe: the agent's loop owns it. ``faults``: what could not be read. ``whole``:
    whether the file on disk can be gone on with, and no time in it was moved."""

    def __init__(self, path: Path, machine: str, steady: SteadyClock) -> None:
        self._path = path
        self._machine = machine
        self._steady = steady
        self.record, self.faults, self._written_entries = read(path, machine, steady)
        self.whole = self._written_entries is not None
        self._written_at = steady.now()

    @property
    def due(self) -> bool:
        """Whether it is time to write again."""
        since = self._steady.now() - self._written_at
        return not self.whole or not 0 <= since < _WRITE_EVERY

    def write(self) -> None:
        """What changed, if anything did. Raises StateError."""
        changes = self.record.changes()
        if self.whole and not changes:
            return
        self._written_at = self._steady.now()
        try:
            if self.whole and self._room_for(changes):
                self._append(self._path, durable.line(changes))
            else:
                self._rewrite(self._path)
        except OSError as error:
            raise StateError(f"{self._path}: cannot be written: {error.strerror}") from error

    def _room_for(self, changes: dict[str, Any]) -> bool:
        self._written_entries = (self._written_entries or 0) + _entries(changes)
        return self._written_entries <= 2 * len(self.record) + _COMPACT_AFTER

    def _append(self, path: Path, line: bytes) -> None:
        self.whole = False  # until all of the line is written
        with path.open("ab", buffering=0) as file:
            self.whole = file.write(line) == len(line)

    def _rewrite(self, path: Path) -> None:
        self.whole = False
        put_newer_aside(path)
        snapshot = self.record.snapshot()
        head = {
            "machine": self._machine,
            "format": FORMAT,
            "since": snapshot["since"],
            "ports": {},
        }
        lines = [durable.line(head)]
        for name, told in snapshot["ports"].items():
            lines.append(durable.line({"since": snapshot["since"], "ports": {name: told}}))
        durable.replace(path, b"".join(lines), 0o640)
        self._written_entries = len(self.record)
        self.whole = True


def read(path: Path, machine: str, steady: SteadyClock) -> tuple[Record, list[str], int | None]:
    """The record, what is wrong with the file, and how many entries it holds (None: write a new
    one)."""
    now = steady.now()
    record = Record(now)
    try:
        lines = files.read(path, _AT_MOST).splitlines(keepends=True)
    except FileNotFoundError:
        return record, [], None
    except OSError as error:
        return record, [f"{path}: cannot be read: {error.strerror}; the record begins anew"], None
    faults: list[str] = []
    entries = 0
    for number, line in enumerate(lines, 1):
        try:
            document = durable.checked(line)
            if number == 1 and document.get("machine") != machine:
                fault = "was written on another machine and is not used; the record begins anew"
                return Record(now), [f"{path}: {fault}"], None
            if number == 1 and is_newer(document.get("format", FORMAT)):
                fault = "written by another version of Neti: not used, and kept"
                return Record(now), [f"{path}: {fault}; the record begins anew"], None
            record.restore(document)
            entries += _entries(document)
        except ValueError:
            faults.append(f"{path}: line {number} is torn or edited; what comes before it is used")
            break
    moved = record.move(steady.shift(max(record.latest(), record.since)))
    record.forget(now)
    record.bound(listening)
    return record, faults, None if faults or moved else entries


def put_newer_aside(path: Path) -> None:
    """A file that a newer version wrote is not overwritten. Raises OSError."""
    try:
        first, _, _ = files.read(path, _AT_MOST).partition(b"\n")
        newer = is_newer(durable.checked(first + b"\n").get("format", FORMAT))
    except (OSError, ValueError):
        return
    if newer:
        path.replace(path.with_name(f"{path.name}.newer"))


def _entries(document: dict[str, Any]) -> int:
    return sum(len(told["from"]) for told in document.get("ports", {}).values())


def listening() -> Collection[Port]:
    return {(found.protocol, found.port) for found in listeners()}
