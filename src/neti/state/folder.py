"""What the agent keeps on disk (``table_files_path``): the last good fleet, and who it was itself.

Of files of a newer version that much is used that keeps an enforced host enforced, if all of it can
be read; the others are not used and are named. All of them are put aside (``NAME.newer``) before
anything is written in their place. Only regular files of a bounded size are
read, and no link is followed.

Each file is either replaced atomically (written beside, synced, renamed) or appended to by whole
lines that carry a checksum, so a kill or a power cut at any instruction leaves the file as it was
before or after, never between. What is torn or edited is refused and named, and what is older and
whole is used. Secrets (the session's password) are in a file of mode 0600.

    members.jsonl      one line per change of a member; rewritten now and then
    members.jsonl.old  the journal as it was before it was last rewritten
    self.json          own overlay address and entry; structure as last seen in the kernel
    session.json       the registry session, 0600
    stage.json         shadow, trial or enforced, and who wished for it
    stage.json.copy    the same, written after it: used where that one is torn or missing
    guard.json         who was let go in the last ten minutes
    clock.json         how the times in these files stand to the clocks
    shadow.jsonl       what reached this host and no rule lets in: see ``agent/shadow_log.py``
    accepted.json      ports that may be lost, said by ``neti preview --accept-losing``
    neti.yml.good      the configuration that was last in force, 0600
    overlay.json       this host's overlay address, for everybody: see ``state/public.py``
    relaxed            present: ``neti relax`` was called while the agent did not answer
    down               present: ``neti down`` was called, and nothing is written to the kernel
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from neti import durable, files
from neti.clock import Mark
from neti.errors import NetiError
from neti.fleet.remembered import Everybody, Remembered
from neti.model.said import Said
from neti.registry import Session
from neti.stage.stages import Record
from neti.state import marks, public, records
from neti.state.records import Self

T = TypeVar("T")

# A journal grows by a line per change; it is rewritten when it holds this many lines more than
# there are members.
_COMPACT_AFTER: Final = 5000
_JOURNAL: Final = "members.jsonl"
STAGE_FILE: Final = "stage.json"
_STAGE: Final = STAGE_FILE
_STAGE_COPY: Final = "stage.json.copy"
_SELF: Final = "self.json"
# What is known of these is used whatever their format: a downgrade must not open an enforced host.
_KEEPS_ENFORCED: Final = frozenset({_STAGE, _STAGE_COPY, _SELF})
# As ``durable.line`` spells it. Only for what people are told of a file that is torn.
_CONFIRMED: Final = b'"confirmed":true'
_OLD_JOURNAL: Final = "members.jsonl.old"
_DOCUMENT_AT_MOST: Final = 8 << 20
_JOURNAL_AT_MOST: Final = 256 << 20
GOOD_CONFIG: Final = "neti.yml.good"
_OF_ONE_MACHINE: Final = (
    "session.json",
    _JOURNAL,
    _OLD_JOURNAL,
    "self.json",
    _STAGE,
    _STAGE_COPY,
    "guard.json",
    "clock.json",
    public.OVERLAY_FILE,
)


class StateError(NetiError):
    """The state folder cannot be used; the message says which path and why."""


class _Foreign(Exception):
    """The file was written on another machine."""


class Fault(str):
    """A sentence about what could not be used. ``file``: the name of the file that mends it when
    it is written next."""

    file: str

    def __new__(cls, path: Path, what: str, file: str = "") -> "Fault":
        made = super().__new__(cls, f"{path}: {what}")
        made.file = file or path.name
        return made


@dataclass(slots=True)
class Loaded:
    """What was found on disk. ``record_lost``: there is a record of the stage, and none of it can
    be used; ``enforced_once``: what is left of it looks as if this host had been enforced."""

    members: dict[str, Remembered] = field(default_factory=dict)
    itself: Self = Self()
    session: Session | None = None
    record: Record | None = None  # None: nothing was ever decided here
    window: dict[str, float] = field(default_factory=dict)
    mark: Mark | None = None
    foreign: bool = False  # the files are another machine's: see ``discard``
    record_lost: bool = False
    enforced_once: bool = False
    faults: list[Fault] = field(default_factory=list)


def _unread(number: int, *, newer: bool, used: bool) -> str:
    """What is said of a journal with such a line."""
    if newer:
        return "written by another version of Neti: not used, and kept"
    what = f"line {number} is torn or edited"
    return f"{what}; used what stands before" if used else f"{what}: the file is not used"


class StateFolder:
    """One agent's files. Used by one thread, except ``is_down``, ``is_relaxed``.

    ``make`` False: for who only looks; a folder that is not there is not made, and is empty.
    """

    def __init__(self, path: Path, *, make: bool = True) -> None:
        self.path = path
        try:
            if make:
                _make(path)
            mode = path.stat().st_mode if make or path.exists() else 0
        except OSError as error:
            raise StateError(f"{path}: cannot be used as state folder: {error.strerror}") from error
        if mode & 0o002:
            raise StateError(f"{path}: is world-writable: chmod o-w it, or name another folder")
        self.machine = ""  # whose state this is; known after ``load``
        self._public = b""  # overlay.json as this process wrote it
        self._lines = 0
        self._begun = False  # whether this process has written the base of the journal
        self._newer: set[str] = set()  # files that another version wrote: kept when written anew
        self._not_understood: set[str] = set()  # those of them of which nothing is used
        self._whole = True  # False: what is appended now would stand behind a torn line
        self._written: Callable[[str], None] = lambda _name: None

    def on_written(self, tell: Callable[[str], None]) -> None:
        """``tell``: for the name of each file that is replaced, and so is whole again."""
        self._written = tell

    # --- reading ---

    def load(self, machine: str) -> Loaded:
        """Everything, for this machine only: a golden image must not boot with another's state."""
        self.machine = machine
        loaded = Loaded()
        try:
            loaded.itself = self._document(_SELF, records.self_of, loaded.faults) or Self()
            self._load_record(loaded)
            loaded.window = (
                self._document("guard.json", records.window_of, loaded.faults) or loaded.window
            )
            loaded.mark = self._document("clock.json", records.mark_of, loaded.faults)
            loaded.session = self._document("session.json", records.session_of, loaded.faults)
            loaded.members = self._members(loaded.faults)
        except _Foreign:
            fault = "the state was written on another machine and is not used"
            return Loaded(foreign=True, faults=[Fault(self.path, fault)])
        return loaded

    def discard(self) -> None:
        """Remove another machine's members, registration and session, for good."""
        with self._faults_named():
            for name in _OF_ONE_MACHINE:
                (self.path / name).unlink(missing_ok=True)

    def _load_record(self, loaded: Loaded) -> None:
        """A stage that cannot be read must not pass for "nothing was ever decided here"."""
        path, copy = self.path / _STAGE, self.path / _STAGE_COPY
        missing = not os.path.lexists(path)
        loaded.record = self._document(_STAGE, records.record_of, loaded.faults)
        if loaded.record is not None or (missing and not os.path.lexists(copy)):
            return
        if missing:
            loaded.faults.append(Fault(path, "is missing, though its copy is there"))
        loaded.record = self._document(_STAGE_COPY, records.record_of, loaded.faults)
        if loaded.record is not None:
            loaded.faults.append(Fault(copy, "used instead", _STAGE))
            return
        loaded.record_lost = True
        for left in (path, copy):
            with contextlib.suppress(OSError):
                content = files.read(left, _DOCUMENT_AT_MOST)
                loaded.enforced_once |= _CONFIRMED in content

    def _document(
        self, name: str, read: Callable[[dict[str, Any]], T], faults: list[Fault]
    ) -> T | None:
        path = self.path / name
        try:
            document = durable.checked(files.read(path, _DOCUMENT_AT_MOST))
        except FileNotFoundError:
            return None
        except OSError as error:
            faults.append(Fault(path, f"cannot be read ({error.strerror}): not used"))
            return None
        except ValueError:
            # The reason may hold part of the text, and the text may be secret.
            faults.append(Fault(path, "torn, edited or unreadable: not used"))
            return None
        if document.pop("machine", None) != self.machine:
            raise _Foreign
        try:
            newer = records.is_newer(document.pop("format", records.FORMAT))
            if newer:
                self._newer.add(name)
            if newer and name not in _KEEPS_ENFORCED:
                raise ValueError("a newer format")
            return read(document)
        except (ValueError, TypeError, KeyError, AttributeError):
            self._newer.add(name)
            self._not_understood.add(name)
            faults.append(Fault(path, "written by another version of Neti: not used, and kept"))
            return None

    def holds_what_is_not_understood(self, name: str) -> bool:
        return name in self._not_understood

    def _members(self, faults: list[Fault]) -> dict[str, Remembered]:
        read = self._journal(_JOURNAL, faults)
        if read is None and os.path.lexists(self.path / _OLD_JOURNAL):
            old = self.path / _OLD_JOURNAL
            faults.append(Fault(old, "used instead, the journal before it", _JOURNAL))
            read = self._journal(_OLD_JOURNAL, faults)
            self._whole = False  # the next note begins a new one
        return read or {}

    def _journal(self, name: str, faults: list[Fault]) -> dict[str, Remembered] | None:
        """The members that a journal ends in; None when there is no whole fleet in it."""
        path = self.path / name
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
        base, newer = 0, False
        for number, text in enumerate(lines, 1):
            try:
                document = durable.checked(text)
                header = records.header_of(document) if number == 1 else None
                if header is None and number == 1:
                    raise ValueError("no header")
                if header is not None:
                    if header.machine != self.machine:
                        raise _Foreign
                    base = header.base + 1
                    newer = header.newer
                    if newer:
                        self._newer.add(name)
                else:
                    records.apply_changes(members, document)
            except (ValueError, TypeError, KeyError):
                self._whole = False
                self._not_understood.update({name} if newer else ())
                used = not newer and number > max(1, base)
                faults.append(Fault(path, _unread(number, newer=newer, used=used), _JOURNAL))
                return members if used else None
        if len(lines) < base:
            self._whole = False
            what = f"{base - len(lines)} lines are missing: the file is not used"
            faults.append(Fault(path, what, _JOURNAL))
            return None
        if newer:
            self._whole = False  # the next note begins a new one
        return members

    # --- writing ---

    def begin_anew(self) -> None:
        """What this process has written is not there any more: the next writes are whole ones."""
        with self._faults_named():
            _make(self.path)
        self._whole = self._begun = False
        self._public = b""
        self._not_understood.clear()

    def append(self, changes: dict[str, Remembered | None], everybody: "Everybody") -> None:
        """Note what became of these members; None: gone. Begins a new journal with the first note
        of each run, so that there is an older whole one, and when it is long."""
        if not self._whole or not self._begun:
            self.rewrite(everybody)
            return
        line = records.changes_line(changes)
        self._whole = False  # until all of the line is written
        with self._faults_named(_JOURNAL):
            # Without O_CREAT: where somebody has emptied the folder, a new one begins with a base.
            flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(self.path / _JOURNAL, flags), "ab", buffering=0) as journal:
                self._whole = journal.write(line) == len(line)
            if not self._whole:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
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
        with self._faults_named(_OLD_JOURNAL), contextlib.suppress(FileNotFoundError):
            beside.unlink(missing_ok=True)
            os.link(self.path / _JOURNAL, beside)
            beside.replace(self.path / _OLD_JOURNAL)

    def save_self(self, itself: Self) -> None:
        self._write(_SELF, records.self_document(itself), 0o640)
        if (public_content := public.content(itself.overlay)) != self._public:
            self._replace(public.OVERLAY_FILE, public_content, public.MODE)
            self._public = public_content

    def save_record(self, record: Record) -> None:
        for name in (_STAGE, _STAGE_COPY):
            self._write(name, records.record_document(record), 0o640)

    def save_window(self, window: Mapping[str, float]) -> None:
        self._write("guard.json", records.window_document(window), 0o640)

    def save_clock(self, mark: Mark) -> None:
        self._write("clock.json", records.mark_document(mark), 0o640)

    def save_session(self, session: Session) -> None:
        self._write("session.json", records.session_document(session), 0o600)

    def forget_session(self) -> None:
        with self._faults_named("session.json"):
            (self.path / "session.json").unlink(missing_ok=True)

    # --- the configuration ---

    @property
    def good_config(self) -> Path:
        return self.path / GOOD_CONFIG

    def keep_config(self, content: bytes) -> None:
        """A copy of the file that is in force now. Mode 0600: it may hold keys."""
        with contextlib.suppress(OSError):
            if files.read(self.good_config, len(content)) == content:
                return
        self._replace(GOOD_CONFIG, content, 0o600)

    # --- down, and relaxed without the agent ---

    @property
    def is_down(self) -> bool:
        return marks.present(self.path, marks.DOWN)

    def set_down(self, down: bool) -> None:
        self._set_mark(marks.DOWN, down)

    @property
    def is_relaxed(self) -> bool:
        """Said to an agent that did not answer: it has still to follow."""
        return marks.present(self.path, marks.RELAXED)

    def relaxed_by(self) -> Said:
        return marks.read(self.path, marks.RELAXED)

    def set_relaxed(self, relaxed: bool) -> None:
        self._set_mark(marks.RELAXED, relaxed)

    def _set_mark(self, name: str, there: bool) -> None:
        with self._faults_named(name):
            if there:
                marks.leave(self.path, name, Said())
            else:
                marks.take_away(self.path, name)

    # --- files ---

    def _write(self, name: str, document: Mapping[str, Any], mode: int) -> None:
        head = {"machine": self.machine, "format": records.FORMAT}
        self._replace(name, durable.line({**head, **document}), mode)

    def _replace(self, name: str, content: bytes, mode: int) -> None:
        with self._faults_named(name):
            if name in self._newer:
                (self.path / name).replace(self.path / f"{name}.newer")
                self._newer.discard(name)
                self._not_understood.discard(name)
            durable.replace(self.path / name, content, mode)
        self._written(name)

    @contextlib.contextmanager
    def _faults_named(self, name: str = "") -> Iterator[None]:
        """``name``: of the file that is written."""
        try:
            yield
        except OSError as error:
            raise StateError(f"{self.path / name}: cannot be written: {error.strerror}") from error


def _make(path: Path) -> None:
    """Whatever the umask; a folder that is there keeps its mode."""
    try:
        path.mkdir(mode=0o750, parents=True)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        path.chmod(public.FOLDER_MODE)
