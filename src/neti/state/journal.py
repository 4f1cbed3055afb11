"""The members on disk: a journal of whole lines with checksums, and the one before it.

    members.jsonl      one line per change of a member; rewritten now and then
    members.jsonl.old  the journal as it was before it was last rewritten

A kill or a power cut at any instruction leaves whole lines and at most one torn one at the end.

Must never do: append behind a torn line, or give up the last whole journal for one that is not.
"""

import contextlib
import errno
import os
from collections.abc import Mapping
from typing import Any, Final

from neti import durable, files
from neti.fleet.remembered import Everybody, Remembered
from neti.state import records
from neti.state.loaded import Fault, Foreign
from neti.state.written import Written

# A journal grows by a line per change; it is rewritten when it holds this many lines more than
# there are members.
_COMPACT_AFTER: Final = 5000
_JOURNAL: Final = "members.jsonl"
_OLD_JOURNAL: Final = "members.jsonl.old"
FILES: Final = (_JOURNAL, _OLD_JOURNAL)
_JOURNAL_AT_MOST: Final = 256 << 20


class MembersJournal:
    """Not thread-safe: one thread uses it."""

    def __init__(self, written: Written) -> None:
        self._written = written
        self._folder = written.folder
        self._machine = ""
        self._lines = 0
        self._begun = False  # whether this process has written the base of the journal
        self._whole = True  # False: what is appended now would stand behind a torn line

    def belong_to(self, machine: str) -> None:
        """Whose journal this is."""
        self._machine = machine

    def load(self, faults: list[Fault]) -> dict[str, Remembered]:
        """The members as they were last noted. Raises Foreign."""
        read = self._read(_JOURNAL, faults)
        if read is None and os.path.lexists(self._folder / _OLD_JOURNAL):
            old = self._folder / _OLD_JOURNAL
            faults.append(Fault(old, "used instead, the journal before it", _JOURNAL))
            read = self._read(_OLD_JOURNAL, faults)
            self._whole = False  # the next note begins a new one
        return read or {}

    def _read(self, name: str, faults: list[Fault]) -> dict[str, Remembered] | None:
        """The members that a journal ends in; None when there is no whole fleet in it."""
        path = self._folder / name
        members: dict[str, Remembered] = {}
        try:
            lines = files.read(path, _JOURNAL_AT_MOST).splitlines(keepends=True)
        except FileNotFoundError:
            return None
        except OSError as error:
            faults.append(Fault(path, f"cannot be read: {error.strerror}", _JOURNAL))
            return None
        self._lines = len(lines)
        if not lines:  # as a power cut leaves a file that was never synced
            self._whole = False
            faults.append(Fault(path, "is empty: the file is not used", _JOURNAL))
            return None
        head: records.Header | None = None
        for number, text in enumerate(lines, 1):
            try:
                document = durable.checked(text)
                if head is None:
                    head = self._header(document, name)
                else:
                    records.apply_changes(members, document)
            except (ValueError, TypeError, KeyError):
                self._whole = False
                newer = head is not None and head.newer
                if newer:
                    self._written.is_newer(name, used=False)
                used = not newer and head is not None and number > head.base + 1
                faults.append(Fault(path, _unread(number, newer=newer, used=used), _JOURNAL))
                return members if used else None
        if head is None or len(lines) <= head.base:
            self._whole = False
            missing = head.base + 1 - len(lines) if head is not None else 1
            what = f"{missing} lines are missing: the file is not used"
            faults.append(Fault(path, what, _JOURNAL))
            return None
        if head.newer:
            self._whole = False  # the next note begins a new one
        return members

    def _header(self, document: Mapping[str, Any], name: str) -> records.Header:
        """Raises ValueError, Foreign."""
        head = records.header_of(document)
        if head is None:
            raise ValueError("no header")
        if head.machine != self._machine:
            raise Foreign
        if head.newer:
            self._written.is_newer(name, used=True)
        return head

    def begin_anew(self) -> None:
        """The files are not there any more."""
        self._whole = self._begun = False

    def append(self, changes: dict[str, Remembered | None], everybody: Everybody) -> None:
        """Note what became of these members; None: gone. Begins a new journal with the first note
        of each run, so that there is an older whole one, and when it is long."""
        if not self._whole or not self._begun:
            self.rewrite(everybody)
            return
        line = records.changes_line(changes)
        self._whole = False  # until all of the line is written
        with self._written.faults_named(_JOURNAL):
            # Without O_CREAT: where somebody has emptied the folder, a new one begins with a base.
            flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(self._folder / _JOURNAL, flags), "ab", buffering=0) as journal:
                self._whole = journal.write(line) == len(line)
            if not self._whole:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._lines += 1
            if self._lines > _COMPACT_AFTER + everybody.count():
                self.rewrite(everybody)

    def rewrite(self, everybody: Everybody) -> None:
        """The whole journal anew, from the members as they are. A whole one before it is kept."""
        lines = records.base_lines(everybody, self._machine)
        if self._whole:
            self._keep_old()
        self._written.replace(_JOURNAL, b"".join(lines), 0o640)
        self._lines = len(lines)
        self._whole = self._begun = True

    def _keep_old(self) -> None:
        beside = self._folder / f".{_OLD_JOURNAL}.new"
        with self._written.faults_named(_OLD_JOURNAL), contextlib.suppress(FileNotFoundError):
            beside.unlink(missing_ok=True)
            os.link(self._folder / _JOURNAL, beside)
            beside.replace(self._folder / _OLD_JOURNAL)


def _unread(number: int, *, newer: bool, used: bool) -> str:
    """What is said of a journal with such a line."""
    if newer:
        return "written by another version of Neti: not used, and kept"
    what = f"line {number} is torn or edited"
    return f"{what}; used what stands before" if used else f"{what}: the file is not used"
