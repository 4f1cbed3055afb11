"""Who was removed, on disk, so that an older copy of the registry lets none of them in after a
restart either. Earlier versions do not look at it.

Must never do: append behind a torn line, or grow for ever.
"""

import errno
import os
from collections.abc import Mapping
from typing import Final

from neti import durable, files
from neti.state import records
from neti.state.loaded import Fault, Foreign
from neti.state.written import Written

GONE_FILE: Final = "gone.jsonl"
_AT_MOST: Final = 64 << 20
# So many notes more than twice what there is to remember, and it is begun anew.
_COMPACT_AFTER: Final = 5000


class GoneJournal:
    """Not thread-safe: one thread uses it."""

    def __init__(self, written: Written) -> None:
        self._written = written
        self._path = written.folder / GONE_FILE
        self._machine = ""
        self._noted = 0  # as this process wrote it; 0: not yet, or not whole

    def belong_to(self, machine: str) -> None:
        """Whose journal this is."""
        self._machine = machine

    def load(self, faults: list[Fault]) -> dict[str, int]:
        """As ``Fleet.gone``: up to the first line that is torn or not understood, because what
        stands before it is true. Raises Foreign."""
        gone: dict[str, int] = {}
        try:
            lines = files.read(self._path, _AT_MOST).splitlines(keepends=True)
        except FileNotFoundError:
            return gone
        except OSError as error:
            faults.append(Fault(self._path, f"cannot be read: {error.strerror}"))
            return gone
        for number, text in enumerate(lines, 1):
            try:
                document = durable.checked(text)
                if number == 1:
                    self._judge(records.header_of(document))
                else:
                    records.apply_gone(gone, document)
            except (ValueError, TypeError, KeyError):
                what = "used what stands before" if number > 1 else "the file is not used"
                faults.append(Fault(self._path, f"line {number} is torn or edited: {what}"))
                break
        return gone

    def _judge(self, head: records.Header | None) -> None:
        """Raises ValueError, Foreign."""
        if head is None:
            raise ValueError("no header")
        if head.machine != self._machine:
            raise Foreign
        if head.newer:
            self._written.is_newer(GONE_FILE, used=True)

    def begin_anew(self) -> None:
        """The file is not there any more."""
        self._noted = 0

    def note(self, new: Mapping[str, int], everybody: Mapping[str, int]) -> None:
        """Who was removed now, and all that are remembered. Begins anew with the first note of each
        run, after a write that failed, and when it is long. Raises StateError."""
        noted, self._noted = self._noted, 0  # until all of it is written
        if 0 < noted <= 2 * len(everybody) + _COMPACT_AFTER:
            self._append(records.gone_line(new))
            self._noted = noted + len(new)
        else:
            head = records.header_line(records.Header(self._machine, 1))
            self._written.replace(GONE_FILE, head + records.gone_line(everybody), 0o640)
            self._noted = 1 + len(everybody)

    def _append(self, line: bytes) -> None:
        with self._written.faults_named(GONE_FILE):
            # Without O_CREAT: where somebody has emptied the folder, a new one begins with a base.
            flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(self._path, flags), "ab", buffering=0) as journal:
                if journal.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
