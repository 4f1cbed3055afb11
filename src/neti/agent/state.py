"""What the agent keeps on disk (``table_files_path``): the last good fleet, and who it was itself.

Each file is either replaced atomically (written beside, synced, renamed) or appended to by whole
lines that carry a checksum, so a kill or a power cut at any instruction leaves the file as it was
before or after, never between. What is torn or edited is refused and named, and what is older and
whole is used. Secrets (the session's password) are in a file of mode 0600.

    members.jsonl      one line per change of a member; rewritten now and then
    members.jsonl.old  the journal as it was before it was last rewritten
    self.json          own overlay address and entry; structure as last seen in the kernel
    session.json       the registry session, 0600
    stage.json         shadow, trial or enforced, and who wished for it
    guard.json         who was let go in the last ten minutes
    shadow.jsonl       what reached this host and no rule lets in: see ``agent/shadow_log.py``
    accepted.json      ports that may be lost, said by ``neti preview --accept-losing``
    neti.yml.good      the configuration that was last in force, 0600
    down               present: ``neti down`` was called, and nothing is written to the kernel
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from neti.agent import durable
from neti.agent import state_records as records
from neti.agent.state_records import Remembered, Self
from neti.errors import NetiError
from neti.registry import Session
from neti.stage import Record

T = TypeVar("T")

# A journal grows by a line per change; it is rewritten when it holds this many lines more than
# there are members.
_COMPACT_AFTER: Final = 5000
_JOURNAL: Final = "members.jsonl"
_OLD_JOURNAL: Final = "members.jsonl.old"
GOOD_CONFIG: Final = "neti.yml.good"
_OF_ONE_MACHINE: Final = (
    "session.json",
    _JOURNAL,
    _OLD_JOURNAL,
    "self.json",
    "stage.json",
    "guard.json",
)


class StateError(NetiError):
    """The state folder cannot be used; the message says which path and why."""


class _Foreign(Exception):
    """The file was written on another machine."""


@dataclass(slots=True)
class Loaded:
    """What was found on disk; ``faults`` are sentences about what could not be used."""

    members: dict[str, Remembered] = field(default_factory=dict)
    itself: Self = Self()
    session: Session | None = None
    record: Record | None = None  # None: nothing was ever decided here
    window: dict[str, float] = field(default_factory=dict)
    foreign: bool = False  # the files are another machine's: see ``discard``
    faults: list[str] = field(default_factory=list)


class StateFolder:
    """One agent's files. Used by one thread, except ``is_down``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o750, parents=True, exist_ok=True)
            mode = path.stat().st_mode
        except OSError as error:
            raise StateError(f"{path}: cannot be used as state folder: {error.strerror}") from error
        if mode & 0o002:
            raise StateError(f"{path}: is world-writable: chmod o-w it, or name another folder")
        self.machine = ""  # whose state this is; known after ``load``
        self._lines = 0
        self._begun = False  # whether this process has written the base of the journal
        self._whole = True  # False: what is appended now would stand behind a torn line

    # --- reading ---

    def load(self, machine: str) -> Loaded:
        """Everything, for this machine only: a golden image must not boot with another's state."""
        self.machine = machine
        loaded = Loaded()
        try:
            loaded.itself = self._document("self.json", records.self_of, loaded.faults) or Self()
            loaded.record = self._document("stage.json", records.record_of, loaded.faults)
            loaded.window = (
                self._document("guard.json", records.window_of, loaded.faults) or loaded.window
            )
            loaded.session = self._document("session.json", records.session_of, loaded.faults)
            loaded.members = self._members(loaded.faults)
        except _Foreign:
            fault = f"{self.path}: the state was written on another machine and is not used"
            return Loaded(foreign=True, faults=[fault])
        return loaded

    def discard(self) -> None:
        """Remove another machine's members, registration and session, for good."""
        with self._faults_named():
            for name in _OF_ONE_MACHINE:
                (self.path / name).unlink(missing_ok=True)

    def _document(
        self, name: str, read: Callable[[dict[str, Any]], T], faults: list[str]
    ) -> T | None:
        try:
            document = durable.checked((self.path / name).read_bytes())
            if document.pop("machine") != self.machine:
                raise _Foreign
            return read(document)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            # The reason may hold part of the text, and the text may be secret.
            faults.append(f"{self.path / name}: torn, edited or unreadable: not used")
            return None

    def _members(self, faults: list[str]) -> dict[str, Remembered]:
        read = self._journal(_JOURNAL, faults)
        if read is None and (self.path / _OLD_JOURNAL).exists():
            faults.append(f"{self.path / _OLD_JOURNAL}: used instead, the journal before it")
            read = self._journal(_OLD_JOURNAL, faults)
            self._whole = False  # the next note begins a new one
        return read or {}

    def _journal(self, name: str, faults: list[str]) -> dict[str, Remembered] | None:
        """The members that a journal ends in; None when there is no whole fleet in it."""
        path = self.path / name
        members: dict[str, Remembered] = {}
        try:
            lines = path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return None
        except OSError as error:
            faults.append(f"{path}: cannot be read: {error.strerror}")
            return None
        self._lines = len(lines)
        base = 0
        for number, text in enumerate(lines, 1):
            try:
                document = durable.checked(text)
                header = records.header_of(document) if number == 1 else None
                if header is not None:
                    if header.machine != self.machine:
                        raise _Foreign
                    base = header.base + 1
                else:
                    records.apply_changes(members, document)
            except (ValueError, TypeError, KeyError):
                self._whole = False
                if number <= base or number == 1:
                    faults.append(f"{path}: line {number} is torn or edited: the file is not used")
                    return None
                faults.append(f"{path}: line {number} is torn or edited; used what stands before")
                return members
        if len(lines) < base:
            self._whole = False
            faults.append(f"{path}: {base - len(lines)} lines are missing: the file is not used")
            return None
        return members

    # --- writing ---

    def append(self, changes: dict[str, Remembered | None], everybody: "Everybody") -> None:
        """Note what became of these members; None: gone. Begins a new journal with the first note
        of each run, so that there is an older whole one, and when it is long."""
        if not self._whole or not self._begun:
            self.rewrite(everybody)
            return
        line = records.changes_line(changes)
        self._whole = False  # until all of the line is written
        with self._faults_named():
            with (self.path / _JOURNAL).open("ab", buffering=0) as journal:
                self._whole = journal.write(line) == len(line)
            self._lines += 1
            if self._lines > _COMPACT_AFTER + everybody.count():
                self.rewrite(everybody)

    def rewrite(self, everybody: "Everybody") -> None:
        """The whole journal anew, from the members as they are. A whole one before it is kept."""
        lines = records.base_lines(everybody, self.machine)
        if self._whole:
            self._keep_old()
        self._replace(_JOURNAL, b"".join(lines), 0o640)
        self._lines = len(lines)
        self._whole = self._begun = True

    def _keep_old(self) -> None:
        beside = self.path / f".{_OLD_JOURNAL}.new"
        with self._faults_named(), contextlib.suppress(FileNotFoundError):
            beside.unlink(missing_ok=True)
            os.link(self.path / _JOURNAL, beside)
            beside.replace(self.path / _OLD_JOURNAL)

    def save_self(self, itself: Self) -> None:
        self._write("self.json", records.self_document(itself), 0o640)

    def save_record(self, record: Record) -> None:
        self._write("stage.json", records.record_document(record), 0o640)

    def save_window(self, window: Mapping[str, float]) -> None:
        self._write("guard.json", records.window_document(window), 0o640)

    def save_session(self, session: Session) -> None:
        self._write("session.json", records.session_document(session), 0o600)

    def forget_session(self) -> None:
        with self._faults_named():
            (self.path / "session.json").unlink(missing_ok=True)

    # --- the configuration ---

    @property
    def good_config(self) -> Path:
        return self.path / GOOD_CONFIG

    def keep_config(self, content: bytes) -> None:
        """A copy of the file that is in force now. Mode 0600: it may hold keys."""
        with contextlib.suppress(OSError):
            if self.good_config.read_bytes() == content:
                return
        self._replace(GOOD_CONFIG, content, 0o600)

    # --- down ---

    @property
    def is_down(self) -> bool:
        return (self.path / "down").exists()

    def set_down(self, down: bool) -> None:
        if down:
            self._replace("down", b"set by neti down; neti up removes it\n", 0o644)
        else:
            with self._faults_named():
                (self.path / "down").unlink(missing_ok=True)

    # --- files ---

    def _write(self, name: str, document: Mapping[str, Any], mode: int) -> None:
        self._replace(name, durable.line({"machine": self.machine, **document}), mode)

    def _replace(self, name: str, content: bytes, mode: int) -> None:
        with self._faults_named():
            durable.replace(self.path / name, content, mode)

    @contextlib.contextmanager
    def _faults_named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StateError(f"{self.path}: cannot be written: {error.strerror}") from error


class Everybody:
    """The members as they are, for a rewrite: iterates (id, Remembered) lazily."""

    def __init__(self, count: int, members: Iterable[tuple[str, Remembered]]) -> None:
        self._count = count
        self._members = members

    def count(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[str, Remembered]]:
        return iter(self._members)
