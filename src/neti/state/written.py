"""Files of the state folder as they are written: each whole, or as it was before.

A file of a newer version is put aside (``NAME.newer``) before anything is written in its place.

Must never do: overwrite what could not be understood, or say that something is on disk that is not.
"""

import contextlib
import errno
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from neti import durable, files
from neti.state.loaded import StateError

# That a file is not there, or something else is in its place. Other errors say nothing of it.
_NOT_THERE: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.EFBIG, errno.ENXIO}
)


class Written:
    """Not thread-safe: one thread writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._newer: set[str] = set()  # files that another version wrote: kept when written anew
        self._not_understood: set[str] = set()  # those of them of which nothing is used
        self._tell: Callable[[str], None] = lambda _name: None
        self._last: dict[str, tuple[int, int]] = {}  # length and checksum, as written or read

    def on_written(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def is_newer(self, name: str, *, used: bool) -> None:
        """Another version wrote this file; ``used``: something of it, all the same."""
        self._newer.add(name)
        if not used:
            self._not_understood.add(name)

    def holds_what_is_not_understood(self, name: str) -> bool:
        return name in self._not_understood

    def was_read(self, name: str, content: bytes) -> None:
        """Whole, and by this process, which has not written it yet."""
        self._last[name] = _mark(content)

    def altered(self, name: str) -> bool:
        """Whether somebody else removed it or put something else in its place."""
        last = self._last.get(name)
        if last is None:
            return False
        try:
            return _mark(files.read(self.folder / name, last[0])) != last
        except OSError as error:
            return error.errno in _NOT_THERE

    def begin_anew(self) -> None:
        """The folder was emptied: nothing in it is to be spared any more."""
        self._not_understood.clear()

    def replace(self, name: str, content: bytes, mode: int) -> None:
        """Raises StateError."""
        with self.faults_named(name):
            if name in self._newer:
                (self.folder / name).replace(self.folder / f"{name}.newer")
                self._newer.discard(name)
                self._not_understood.discard(name)
            durable.replace(self.folder / name, content, mode)
        self._last[name] = _mark(content)
        self._tell(name)

    @contextlib.contextmanager
    def faults_named(self, name: str = "") -> Iterator[None]:
        """OSError as StateError. ``name``: of the file that is written."""
        try:
            yield
        except IsADirectoryError as error:
            there = error.filename2 or error.filename or self.folder / name
            raise StateError(f"{there} is a folder where a file should be: remove it") from error
        except OSError as error:
            said = f"{self.folder / name}: cannot be written: {error.strerror}"
            raise StateError(said) from error


def _mark(content: bytes) -> tuple[int, int]:
    return len(content), zlib.crc32(content)
