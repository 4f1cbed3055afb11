"""What the agent keeps on disk (``table_files_path``): the last good fleet, and who it was itself.

Each file is either replaced atomically (written beside, synced, renamed) or appended to by whole
lines that carry a checksum, so a kill or a power cut at any instruction leaves the file as it was
before or after, never between. A line that is torn or edited is refused and named, and what stands
before it is used. Secrets (the session's password) are in a file of mode 0600.

    members.jsonl   one line per change of a member; compacted now and then
    self.json       own overlay address and entry name; structure as last seen in the kernel
    session.json    the registry session, 0600
    down            present: ``neti down`` was called, and nothing is written to the kernel
"""

import base64
import contextlib
import ipaddress
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from neti.errors import NetiError
from neti.model import IPAddress
from neti.registry import Session

# A journal grows by a line per change; it is rewritten when it holds this many lines more than
# there are members.
_COMPACT_AFTER: Final = 5000
_OF_ONE_MACHINE: Final = ("session.json", "members.jsonl", "self.json")


class StateError(NetiError):
    """The state folder cannot be used; the message says which path and why."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """One accepted member as the last good state keeps it. ``lost_since``: Unix seconds."""

    name: str
    more: tuple[IPAddress, ...] = ()
    lost_since: float | None = None
    leased: bool = False  # the lease was read and is this host's


@dataclass(frozen=True, slots=True)
class Self:
    """What a restarted agent knows of itself. ``structure_text`` is what was asked for,
    ``structure_seen`` how the kernel listed it: equal to today's listing, nothing was touched."""

    machine: str = ""
    overlay: str | None = None
    entry: str | None = None
    structure_text: str | None = None
    structure_seen: str | None = None


@dataclass(slots=True)
class Loaded:
    """What was found on disk; ``faults`` are sentences about what could not be used."""

    members: dict[str, Remembered] = field(default_factory=dict)
    itself: Self = Self()
    session: Session | None = None
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
        self._lines = 0
        self._whole = True  # False: what is appended now would stand behind a torn line

    # --- reading ---

    def load(self, machine: str) -> Loaded:
        """Everything, for this machine only: a golden image must not boot with another's state."""
        loaded = Loaded()
        loaded.itself = self._self(loaded.faults)
        if loaded.itself.machine != machine and self._holds_something():
            fault = f"{self.path}: the state was written on another machine and is not used"
            return Loaded(itself=Self(machine=machine), foreign=True, faults=[fault])
        loaded.members = self._members(loaded.faults)
        loaded.session = self._session(loaded.faults)
        return loaded

    def discard(self) -> None:
        """Remove another machine's members, registration and session, for good."""
        with self._faults_named():
            for name in _OF_ONE_MACHINE:
                (self.path / name).unlink(missing_ok=True)

    def _holds_something(self) -> bool:
        return any((self.path / name).exists() for name in _OF_ONE_MACHINE)

    def _self(self, faults: list[str]) -> Self:
        try:
            return Self(**json.loads((self.path / "self.json").read_text()))
        except FileNotFoundError:
            return Self()
        except (OSError, ValueError, TypeError) as error:
            faults.append(f"{self.path / 'self.json'}: not usable: {error}")
            return Self()

    def _session(self, faults: list[str]) -> Session | None:
        try:
            held = json.loads((self.path / "session.json").read_text())
            return Session(int(held["id"]), base64.b64decode(held["password"], validate=True))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError):
            # The reason may hold part of the text, and the text is secret.
            faults.append(f"{self.path / 'session.json'}: not usable")
            return None

    def _members(self, faults: list[str]) -> dict[str, Remembered]:
        path = self.path / "members.jsonl"
        members: dict[str, Remembered] = {}
        try:
            lines = path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return members
        except OSError as error:
            faults.append(f"{path}: cannot be read: {error.strerror}")
            return members
        self._lines = len(lines)
        for number, line in enumerate(lines, 1):
            try:
                for host_id, record in _checked(line).items():
                    if record is None:
                        members.pop(host_id, None)
                    else:
                        members[host_id] = _remembered(record)
            except (ValueError, TypeError, KeyError):
                faults.append(f"{path}: line {number} is torn or edited; used what stands before")
                self._whole = False
                break
        return members

    # --- writing ---

    def append(self, changes: dict[str, Remembered | None], everybody: "Everybody") -> None:
        """Note what became of these members; None: gone. Rewrites the journal when it is long."""
        if not self._whole:
            self.rewrite(everybody)
            return
        line = _line({host_id: _record(value) for host_id, value in changes.items()})
        self._whole = False  # until all of the line is written
        with self._faults_named():
            with (self.path / "members.jsonl").open("ab", buffering=0) as journal:
                self._whole = journal.write(line) == len(line)
            self._lines += 1
            if self._lines > _COMPACT_AFTER + everybody.count():
                self.rewrite(everybody)

    def rewrite(self, everybody: "Everybody") -> None:
        """The whole journal anew, from the members as they are."""
        lines = [_line({host_id: _record(held)}) for host_id, held in everybody]
        self._replace("members.jsonl", b"".join(lines), 0o640)
        self._lines = len(lines)
        self._whole = True

    def save_self(self, itself: Self) -> None:
        self._replace("self.json", json.dumps(asdict(itself)).encode(), 0o640)

    def save_session(self, session: Session) -> None:
        password = base64.b64encode(session.password).decode()
        text = json.dumps({"id": session.id, "password": password})
        self._replace("session.json", text.encode(), 0o600)

    def forget_session(self) -> None:
        with self._faults_named():
            (self.path / "session.json").unlink(missing_ok=True)

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

    def _replace(self, name: str, content: bytes, mode: int) -> None:
        target = self.path / name
        beside = self.path / f".{name}.new"
        with self._faults_named():
            number = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
            with os.fdopen(number, "wb") as file:
                os.fchmod(number, mode)
                file.write(content)
                file.flush()
                os.fsync(number)
            beside.replace(target)
            folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)  # the rename itself
            finally:
                os.close(folder)

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


def _line(document: dict[str, Any]) -> bytes:
    text = json.dumps(document, separators=(",", ":")).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _checked(line: bytes) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        raise ValueError("torn")
    checksum, _, text = line[:-1].partition(b" ")
    if int(checksum, 16) != zlib.crc32(text):
        raise ValueError("edited")
    document: dict[str, Any] = json.loads(text)
    return document


def _record(held: Remembered | None) -> list[Any] | None:
    if held is None:
        return None
    return [held.name, [str(address) for address in held.more], held.lost_since, held.leased]


def _remembered(record: list[Any]) -> Remembered:
    name, more, lost_since, leased = record
    return Remembered(
        str(name),
        tuple(ipaddress.ip_address(address) for address in more),
        None if lost_since is None else float(lost_since),
        bool(leased),
    )
