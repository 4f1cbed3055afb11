"""What the agent keeps on disk (``table_files_path``): the last good fleet, and who it was itself.

Files of a newer version are used only as far as an enforced host needs them to stay enforced, and
only if all of that can be read; the others are not used, and are named. All of them are put aside
(``NAME.newer``) before anything is written in their place. Only regular files of a bounded size are
read, and no link is followed.

Each file is either replaced atomically (written beside, synced, renamed) or appended to by whole
lines that carry a checksum, so a kill or a power cut at any instruction leaves the file as it was
before or after, never between. What is torn or edited is refused and named, and what is older and
whole is used. Secrets (the session's password, WireGuard's private key) are in files of mode 0600.

    members.jsonl      who is a member, and members.jsonl.old: see ``state/journal.py``
    gone.jsonl         who was removed: see ``state/gone.py``
    self.json          own overlay address and entry; structure as last seen in the kernel
    session.json       the registry session, 0600
    wireguard.key      this host's private key, 0600
    groups.json        operators' groups, as they are followed
    names.json         the fleet's suffix and operators' names, as they are followed
    openings.json      ports that are open to somebody for a time
    stage.json         shadow, trial or enforced, and who wished for it
    stage.json.copy    the same, written after it: used where that one is torn or missing
    guard.json         who was let go in the last ten minutes
    clock.json         how the times in these files stand to the clocks
    shadow.jsonl       what reached this host and no rule lets in: see ``agent/shadow_log.py``
    unasked.jsonl      what came from members, and member_ports do not admit: likewise
    leftovers.json     who here calls members by real addresses: see ``agent/leftover_log.py``
    accepted.json      ports that may be lost, said by ``neti preview --accept-losing``
    neti.yml.good      the configuration that was last in force, 0600
    overlay.json       this host's overlay address, for everybody: see ``state/public.py``
    relaxed            present: ``neti relax`` was called while the agent did not answer
    down               present: ``neti down`` was called, and nothing is written to the kernel
"""

import contextlib
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from neti import durable, files
from neti.clock import Mark
from neti.fleet.followed_groups import FollowedGroups
from neti.fleet.remembered import Everybody, Remembered
from neti.model.document import plain, read
from neti.model.names import Names
from neti.model.openings import Openings
from neti.model.said import NOTHING_SAID, Said
from neti.model.wireguard_key import PrivateKey
from neti.registry import Session
from neti.stage.stages import Record
from neti.state import journal, marks, public, records
from neti.state.gone import GONE_FILE, GoneJournal
from neti.state.journal import MembersJournal
from neti.state.loaded import Fault, Foreign, Loaded, StateError
from neti.state.location import GOOD_CONFIG
from neti.state.records import Self
from neti.state.written import Written

T = TypeVar("T")

STAGE_FILE: Final = "stage.json"
_STAGE: Final = STAGE_FILE
_STAGE_COPY: Final = "stage.json.copy"
_SELF: Final = "self.json"
KEY_FILE: Final = "wireguard.key"
GROUPS_FILE: Final = "groups.json"
NAMES_FILE: Final = "names.json"
OPENINGS_FILE: Final = "openings.json"
# What is known of these is used whatever their format: a downgrade must not open an enforced host.
_KEEPS_ENFORCED: Final = frozenset({_STAGE, _STAGE_COPY, _SELF})
# Nor must it change the host's key, or keep members out.
_OF_ANY_FORMAT: Final = _KEEPS_ENFORCED | {KEY_FILE, GROUPS_FILE}
# As ``durable.line`` spells it. Only for what people are told of a file that is torn.
_CONFIRMED: Final = b'"confirmed":true'
_DOCUMENT_AT_MOST: Final = 8 << 20
_OF_ONE_MACHINE: Final = (
    "session.json",
    KEY_FILE,
    *journal.FILES,
    GONE_FILE,
    "self.json",
    GROUPS_FILE,
    NAMES_FILE,
    OPENINGS_FILE,
    _STAGE,
    _STAGE_COPY,
    "guard.json",
    "clock.json",
    public.OVERLAY_FILE,
)


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
        self._private: PrivateKey | None = None
        self._written = Written(path)
        self._journal = MembersJournal(self._written)
        self._gone = GoneJournal(self._written)

    def on_written(self, tell: Callable[[str], None]) -> None:
        """``tell``: for the name of each file that is replaced, and so is whole again."""
        self._written.on_written(tell)

    # --- reading ---

    def load(self, machine: str) -> Loaded:
        """Everything, for this machine only: a golden image must not boot with another's state."""
        self.machine = machine
        self._journal.belong_to(machine)
        self._gone.belong_to(machine)
        loaded = Loaded()
        try:
            loaded.itself = self._document(_SELF, partial(read, Self), loaded.faults) or Self()
            self._load_record(loaded)
            loaded.window = (
                self._document("guard.json", records.window_of, loaded.faults) or loaded.window
            )
            loaded.mark = self._document("clock.json", partial(read, Mark), loaded.faults)
            loaded.session = self._document("session.json", records.session_of, loaded.faults)
            loaded.members = self._journal.load(loaded.faults)
            loaded.gone = self._gone.load(loaded.faults)
            read_groups = partial(read, FollowedGroups)
            loaded.groups = self._document(GROUPS_FILE, read_groups, loaded.faults)
            loaded.names = (
                self._document(NAMES_FILE, partial(read, Names), loaded.faults) or loaded.names
            )
            loaded.openings = (
                self._document(OPENINGS_FILE, partial(read, Openings), loaded.faults)
                or loaded.openings
            )
            self._load_key(loaded)
        except Foreign:
            fault = "the state was written on another machine and is not used"
            return Loaded(foreign=True, faults=[Fault(self.path, fault)])
        return loaded

    def _load_key(self, loaded: Loaded) -> None:
        """One of another machine is not used, and costs nothing else: it may have been copied here
        by hand, by somebody who took it for this host's identity."""
        try:
            self._private = self._document(KEY_FILE, records.key_of, loaded.faults)
        except Foreign:
            path = self.path / KEY_FILE
            loaded.faults.append(Fault(path, "is another machine's: not used"))

    def discard(self) -> None:
        """Remove another machine's members, registration and session, for good."""
        with self._written.faults_named():
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
            content = files.read(path, _DOCUMENT_AT_MOST)
            document = durable.checked(content)
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
            raise Foreign
        try:
            newer = records.is_newer(document.pop("format", records.FORMAT))
            if newer:
                self._written.is_newer(name, used=True)
            if newer and name not in _OF_ANY_FORMAT:
                raise ValueError("a newer format")
            found = read(document)
        except (ValueError, TypeError, KeyError, AttributeError):
            self._written.is_newer(name, used=False)
            faults.append(Fault(path, "written by another version of Neti: not used, and kept"))
            return None
        self._written.was_read(name, content)
        return found

    def holds_what_is_not_understood(self, name: str) -> bool:
        return self._written.holds_what_is_not_understood(name)

    def altered(self) -> list[str]:
        """Files without which an enforced host would be open after a reboot, keep members out or
        have another key, and that are not as this process left or found them."""
        return sorted(name for name in _OF_ANY_FORMAT if self._written.altered(name))

    # --- writing ---

    def begin_anew(self, *, emptied: bool = True) -> None:
        """What this process has written is not there any more: the next writes are whole ones.
        ``emptied``: nor is anything else."""
        with self._written.faults_named():
            _make(self.path)
        self._journal.begin_anew()
        self._gone.begin_anew()
        self._public = b""
        if emptied:
            self._written.begin_anew()

    def append(self, changes: dict[str, Remembered | None], everybody: Everybody) -> None:
        """Note what became of these members; None: gone. Raises StateError."""
        self._journal.append(changes, everybody)

    def rewrite(self, everybody: Everybody) -> None:
        """The members as they are, all of them. Raises StateError."""
        self._journal.rewrite(everybody)

    def note_gone(self, new: Mapping[str, int], everybody: Mapping[str, int]) -> None:
        """Who was removed now, and all that are remembered. Raises StateError."""
        self._gone.note(new, everybody)

    def save_self(self, itself: Self) -> None:
        self._write(_SELF, plain(itself), 0o640)
        if (public_content := public.content(itself.overlay)) != self._public:
            self._written.replace(public.OVERLAY_FILE, public_content, public.MODE)
            self._public = public_content

    def save_record(self, record: Record) -> None:
        """The copy also where the file itself cannot be replaced, because then it is what counts:
        something else may be in the file's place. Raises StateError if any of them failed."""
        refused: StateError | None = None
        for name in (_STAGE, _STAGE_COPY):
            try:
                self._write(name, plain(record), 0o640)
            except StateError as error:
                refused = refused or error
        if refused is not None:
            raise refused

    def save_groups(self, followed: FollowedGroups) -> None:
        self._write(GROUPS_FILE, plain(followed), 0o640)

    def save_names(self, names: Names) -> None:
        self._write(NAMES_FILE, plain(names), 0o640)

    def save_openings(self, openings: Openings) -> None:
        self._write(OPENINGS_FILE, plain(openings), 0o640)

    def save_window(self, window: Mapping[str, float]) -> None:
        self._write("guard.json", records.window_document(window), 0o640)

    def save_clock(self, mark: Mark) -> None:
        self._write("clock.json", plain(mark), 0o640)

    def save_session(self, session: Session) -> None:
        self._write("session.json", records.session_document(session), 0o600)

    def forget_session(self) -> None:
        with self._written.faults_named("session.json"):
            (self.path / "session.json").unlink(missing_ok=True)

    # --- this host's private key ---

    def private_key(self) -> PrivateKey | None:
        """As it was found by ``load`` or kept since; None: there is none that can be used."""
        return self._private

    def keep_private_key(self, key: PrivateKey) -> None:
        """Before anybody is told its public half: a host whose key is lost has to be given a new
        one. Raises StateError, and then the former one holds."""
        self._write(KEY_FILE, records.key_document(key), 0o600)
        self._private = key

    # --- the configuration ---

    @property
    def good_config(self) -> Path:
        return self.path / GOOD_CONFIG

    def keep_config(self, content: bytes) -> None:
        """A copy of the file that is in force now. Mode 0600: it may hold keys."""
        with contextlib.suppress(OSError):
            if files.read(self.good_config, len(content)) == content:
                return
        self._written.replace(GOOD_CONFIG, content, 0o600)

    # --- down, and relaxed without the agent ---

    @property
    def is_down(self) -> bool:
        return marks.present(self.path, marks.DOWN)

    def set_down(self, down: bool, said: Said = NOTHING_SAID) -> None:
        self._set_mark(marks.DOWN, down, said)

    def down_by(self) -> Said:
        return marks.read(self.path, marks.DOWN)

    @property
    def is_relaxed(self) -> bool:
        """Said to an agent that did not answer: it has still to follow."""
        return marks.present(self.path, marks.RELAXED)

    def relaxed_by(self) -> Said:
        return marks.read(self.path, marks.RELAXED)

    def set_relaxed(self, relaxed: bool) -> None:
        self._set_mark(marks.RELAXED, relaxed)

    def _set_mark(self, name: str, there: bool, said: Said = NOTHING_SAID) -> None:
        with self._written.faults_named(name):
            if there:
                marks.leave(self.path, name, said)
            else:
                marks.take_away(self.path, name)

    # --- files ---

    def _write(self, name: str, document: Mapping[str, Any], mode: int) -> None:
        head = {"machine": self.machine, "format": records.FORMAT}
        self._written.replace(name, durable.line({**head, **document}), mode)


def _make(path: Path) -> None:
    """Whatever the umask; a folder that is there keeps its mode."""
    try:
        path.mkdir(mode=0o750, parents=True)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        path.chmod(public.FOLDER_MODE)
