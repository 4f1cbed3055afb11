"""A disk of dictionaries, one folder deep: what was written, and what would outlast a power cut.

The agent's own code writes to it, through the very calls it makes of ``os`` and ``pathlib``
(``doors`` puts them in place). As on ext4: what a file holds is safe once the file was synced, a
name once its folder was; anything else may be lost, all of it, for half a minute: then the kernel
has written it back by itself (vm.dirty_expire_centisecs).

Faults: no room, read-only, a sync that lies, a write that a kill tears.
"""

import errno
import io
import itertools
import os
import stat as stats
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PosixPath
from types import SimpleNamespace
from typing import IO, Any, Final, cast

from simulation.gate import Gate

_ROOT: Final = "sim"
WRITTEN_BACK: Final = 40.0  # seconds
_HANDLES_FROM: Final = 1 << 20  # numbers that no real file has


@dataclass(slots=True, eq=False)
class File:
    """``dirty``: since when it holds what is not synced."""

    data: bytes = b""
    synced: bytes = b""
    dirty: float | None = None


@dataclass(slots=True, eq=False)
class Disk:
    gate: Gate
    now: Callable[[], float] = lambda: 0.0
    files: dict[str, File] = field(default_factory=dict)
    safe: dict[str, File] = field(default_factory=dict)  # names that were synced
    full: bool = False
    read_only: bool = False
    lying: bool = False
    _names_dirty: float | None = None
    _lied_at: float = float("-inf")

    def lose_power(self) -> None:
        """What was never synced is gone."""
        for held in self.files.values():
            self._write_back(held)
        self._write_back_names()
        self.files = {name: File(held.synced, held.synced) for name, held in self.safe.items()}
        self.safe = dict(self.files)

    def copied(self) -> dict[str, bytes]:
        return {name: held.data for name, held in self.files.items()}

    def put_back(self, copy: dict[str, bytes]) -> None:
        self.files = {name: File(data, data) for name, data in copy.items()}
        self.safe = dict(self.files)

    @property
    def owes(self) -> bool:
        """Whether a power cut may take what a sync has called safe."""
        return self.lying or self.now() - self._lied_at < WRITTEN_BACK

    def works_again(self) -> None:
        self.full = self.read_only = self.lying = False

    def _write_back(self, file: File) -> None:
        if file.dirty is None or self.lying or self.now() - file.dirty < WRITTEN_BACK:
            return
        file.synced, file.dirty = file.data, None

    def _write_back_names(self) -> None:
        since = self._names_dirty
        if since is not None and not self.lying and self.now() - since >= WRITTEN_BACK:
            self.safe, self._names_dirty = dict(self.files), None

    # --- what os and pathlib do ---

    def change(self, kind: str) -> None:
        """Of a name."""
        self.gate.effect(kind)
        self._write_back_names()
        if self._names_dirty is None:
            self._names_dirty = self.now()
        if self.read_only:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def write(self, file: File, data: bytes) -> int:
        """The bytes that were taken; a kill in the middle leaves half."""
        self._write_back(file)
        if file.dirty is None:
            file.dirty = self.now()
        before = file.data
        file.data = before + data[: len(data) // 2]
        self.gate.effect("disk.write")
        if self.full and data:
            return len(data) // 2
        file.data = before + data
        return len(data)

    def sync(self, file: File | None) -> None:
        self.gate.effect("disk.sync" if file is not None else "disk.sync folder")
        if self.lying:
            self._lied_at = self.now()
            return
        if file is None:
            self.safe, self._names_dirty = dict(self.files), None
        else:
            file.synced, file.dirty = file.data, None


@dataclass(slots=True, eq=False)
class _Handle:
    disk: Disk
    file: File | None  # None: the folder
    place: int = 0


class _Writer:
    """What ``os.fdopen`` and ``Path.open`` give for writing."""

    def __init__(self, number: int, *, whole: bool) -> None:
        self._number = number
        self._whole = whole  # buffered: all of it, or OSError

    def write(self, data: bytes) -> int:
        handle = _handles[self._number]
        assert handle.file is not None
        taken = handle.disk.write(handle.file, data)
        if taken < len(data) and self._whole:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return taken

    def flush(self) -> None: ...

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        _handles.pop(self._number, None)


_disks: dict[str, Disk] = {}
_handles: dict[int, _Handle] = {}
_numbers = itertools.count(_HANDLES_FROM)


@contextmanager
def mounted(name: str, disk: Disk) -> Iterator["DiskPath"]:
    path = mount(name, disk)
    yield path
    unmount(name)


def mount(name: str, disk: Disk) -> "DiskPath":
    _disks[name] = disk
    return DiskPath(f"/{_ROOT}/{name}")


def unmount(name: str) -> None:
    _disks.pop(name, None)


def _where(path: "os.PathLike[str] | str") -> tuple[Disk, str] | None:
    """The disk and the file's name (empty: the folder itself); None: a real path."""
    place = path.place if type(path) is DiskPath else _place(os.fspath(path))
    if place is None:
        return None
    disk = _disks.get(place[0])
    return None if disk is None else (disk, place[1])


def _place(text: str) -> tuple[str, str] | None:
    parts = text.split("/", 3)
    if len(parts) < 3 or parts[1] != _ROOT:
        return None
    return parts[2], parts[3] if len(parts) > 3 else ""


def _found(path: "os.PathLike[str] | str") -> tuple[Disk, str]:
    where = _where(path)
    if where is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return where


def _missing(path: object) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


class DiskPath(PosixPath):
    """A path whose changes go to a ``Disk``."""

    # Paths are taken apart and put together all the time, and there are few of them.
    _place: tuple[str, str] | None  # the disk's name and the file's
    _children: "dict[str, DiskPath]"
    _folder: "DiskPath"

    def __truediv__(self, name: Any) -> "DiskPath":
        try:
            return self._children[name]
        except AttributeError:
            self._children = {}
        except KeyError:
            pass
        held = self._children[name] = super().__truediv__(name)
        return held

    def with_name(self, name: str) -> "DiskPath":
        return self.parent / name

    @property
    def parent(self) -> "DiskPath":
        try:
            return self._folder
        except AttributeError:
            self._folder = super().parent
            return self._folder

    @property
    def place(self) -> tuple[str, str] | None:
        try:
            return self._place
        except AttributeError:
            self._place = _place(str(self))
            return self._place

    def unlink(self, missing_ok: bool = False) -> None:
        disk, name = _found(self)
        if name not in disk.files:
            if missing_ok:
                return
            raise _missing(self)
        disk.change("disk.unlink")
        disk.files.pop(name, None)

    def replace(self, target: Any) -> "DiskPath":
        disk, name = _found(self)
        if name not in disk.files:
            raise _missing(self)
        disk.change("disk.rename")
        disk.files[_found(target)[1]] = disk.files.pop(name)
        return target if isinstance(target, DiskPath) else DiskPath(target)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        disk, name = _found(self)
        if not name:
            return _stat(stats.S_IFDIR | 0o750, 0)
        if name not in disk.files:
            raise _missing(self)
        return _stat(stats.S_IFREG | 0o640, len(disk.files[name].data))

    def lstat(self) -> os.stat_result:
        return self.stat()

    def exists(self) -> bool:
        where = _where(self)
        return where is not None and (not where[1] or where[1] in where[0].files)

    def is_dir(self) -> bool:
        where = _where(self)
        return where is not None and not where[1]

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """The folder is there from the beginning."""
        _found(self)
        if not exist_ok:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self))

    def read_bytes(self) -> bytes:
        disk, name = _found(self)
        if name not in disk.files:
            raise _missing(self)
        return disk.files[name].data

    def open(self, mode: str = "r", *_: Any, **__: Any) -> IO[Any]:  # type: ignore[override]  # what is used of it
        """To append, or to read all of it."""
        if "r" in mode:
            return io.BytesIO(self.read_bytes())
        number = SIMULATED_OS.open(self, os.O_WRONLY | os.O_CREAT)
        return cast("IO[Any]", _Writer(number, whole="b" not in mode))


def _stat(mode: int, size: int) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, 0, 0, size, 0, 0, 0))


def _open(path: Any, flags: int, mode: int = 0o777) -> int:
    where = _where(path)
    if where is None:
        return os.open(path, flags, mode)
    disk, name = where
    number = next(_numbers)
    if not name:
        _handles[number] = _Handle(disk, None)
        return number
    held = disk.files.get(name)
    if flags & os.O_CREAT and held is not None and flags & os.O_EXCL:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    if held is None:
        if not flags & os.O_CREAT:
            raise _missing(path)
        disk.change("disk.create")
        held = disk.files[name] = File()
    elif flags & os.O_ACCMODE and disk.read_only:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    _handles[number] = _Handle(disk, held)
    return number


def _close(number: int) -> None:
    if number < _HANDLES_FROM:
        os.close(number)
    else:
        _handles.pop(number, None)


def _read(number: int, most: int) -> bytes:
    if number < _HANDLES_FROM:
        return os.read(number, most)
    handle = _handles[number]
    assert handle.file is not None
    data, place = handle.file.data, handle.place
    part = data if not place and most >= len(data) else data[place : place + most]
    handle.place += len(part)
    return part


def _fstat(number: int) -> os.stat_result:
    if number < _HANDLES_FROM:
        return os.fstat(number)
    file = _handles[number].file
    return _stat(stats.S_IFDIR, 0) if file is None else _stat(stats.S_IFREG, len(file.data))


def _fsync(number: int) -> None:
    handle = _handles[number]
    handle.disk.sync(handle.file)


def _fdopen(number: int, mode: str = "r", buffering: int = -1) -> Any:
    if number < _HANDLES_FROM:
        return os.fdopen(number, mode, buffering)
    return _Writer(number, whole=buffering != 0)


def _link(source: Any, target: Any) -> None:
    disk, name = _found(source)
    if name not in disk.files:
        raise _missing(source)
    disk.change("disk.link")
    disk.files[_found(target)[1]] = disk.files[name]


def _lexists(path: Any) -> bool:
    where = _where(path)
    return os.path.lexists(path) if where is None else where[1] in where[0].files


# ``os`` for the modules that write the state; whatever is not here is the real one's.
SIMULATED_OS: Final = SimpleNamespace(
    **{
        **vars(os),
        "open": _open,
        "close": _close,
        "read": _read,
        "fstat": _fstat,
        "fsync": _fsync,
        "fchmod": lambda *_: None,
        "fchown": lambda *_: None,
        "geteuid": lambda: 1,
        "fdopen": _fdopen,
        "link": _link,
        "path": SimpleNamespace(lexists=_lexists),
    }
)


def is_simulated(path: Path) -> bool:
    return _where(path) is not None
