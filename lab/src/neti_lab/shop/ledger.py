"""The database's append-only file: one order a line, in the order of their sequence numbers.

Between them stand marks that say when this copy became the primary or handed over, so that after a
restart the file and not the configuration says what it is: a configuration from before a hand-over
must never make a second primary. What ``append`` and ``mark`` return from is on the disk. Nothing
is ever rewritten, but for a last line that a crash cut short.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from neti_lab import LabError

Entry = tuple[int, str]  # sequence number, order id

PRIMARY: Final = "primary"
STANDBY: Final = "standby"
HANDED_OVER: Final = "handed_over"


class Ledger:
    """One copy of the orders. All that it holds is durable."""

    def __init__(self, path: Path) -> None:
        """LabError when the file is no ledger."""
        self.entries: list[Entry] = []
        self.orders: dict[str, int] = {}
        self.marked: str | None = None
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            text = path.read_bytes()
            whole = text.rfind(b"\n") + 1
            os.ftruncate(self._file, whole)
        except OSError as error:
            raise LabError(f"{path}: {error.strerror}") from error
        for number, line in enumerate(text[:whole].splitlines(), start=1):
            try:
                self._read(json.loads(line))
            except (ValueError, TypeError, KeyError) as error:
                raise LabError(f"{path}, line {number}: is no line of a ledger") from error

    @property
    def sequence(self) -> int:
        return len(self.entries)

    def entry(self, sequence: int) -> Entry | None:
        return self.entries[sequence - 1] if 0 < sequence <= len(self.entries) else None

    def append(self, entries: Sequence[Entry]) -> None:
        """Put the entries on the disk; they count once ``accept`` is told. May run in a thread."""
        lines = (json.dumps({"sequence": number, "id": name}) for number, name in entries)
        self._write("".join(f"{line}\n" for line in lines))

    def accept(self, entries: Sequence[Entry]) -> None:
        """The entries are on the disk. ValueError when they do not follow those before."""
        for number, name in entries:
            if number != self.sequence + 1 or name in self.orders:
                raise ValueError(f"order {name} does not follow sequence number {self.sequence}")
            self.entries.append((number, name))
            self.orders[name] = number

    def mark(self, role: str) -> None:
        self._write(json.dumps({"role": role}) + "\n")
        self.marked = role

    def _read(self, line: dict[str, object]) -> None:
        if "role" in line:
            self.marked = str(line["role"])
        else:
            self.accept([(int(str(line["sequence"])), str(line["id"]))])

    def _write(self, text: str) -> None:
        data = text.encode()
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)
