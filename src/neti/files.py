"""Files in a folder that another user owns: the agent has its own user, and root's commands write
to its folder too.

What root creates there belongs to the folder's owner, so that the agent can read and replace it.
Root must never follow a link that the owner planted there, wait for a pipe, or read without limit.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_NEW: Final = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Python makes room for as much as is asked for, before it knows how much there is.
_PIECE: Final = 1024 * 1024


def create(path: Path, flags: int, mode: int) -> int:
    """A new file, open. Raises OSError; FileExistsError when the name is taken."""
    number = os.open(path, flags | _NEW, mode)
    try:
        os.fchmod(number, mode)
        if os.geteuid() == 0:
            owner = path.parent.stat()
            os.fchown(number, owner.st_uid, owner.st_gid)
    except OSError:
        os.close(number)
        path.unlink(missing_ok=True)
        raise
    return number


def open_or_create(path: Path, flags: int, mode: int) -> int:
    """The existing file, or a new one. Raises OSError."""
    try:
        return create(path, flags, mode)
    except FileExistsError:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


def read(path: Path, at_most: int) -> bytes:
    """The content of a regular file. Raises OSError, also for a link, a pipe, a device or a folder,
    and for a file longer than ``at_most`` bytes."""
    with _regular(path) as (number, held):
        if held.st_size > at_most:
            raise OSError(errno.EFBIG, f"is longer than {at_most} bytes", str(path))
        return _up_to(number, at_most)


def read_end(path: Path, at_most: int, *, owner: int | None = None) -> bytes:
    """The last ``at_most`` bytes of a regular file. ``owner``: the user whose it has to be, where
    that user chose the path, and whoever reads may read more; None: anybody's. Raises OSError,
    also for a link, a pipe, a device or a folder."""
    with _regular(path) as (number, held):
        if owner is not None and held.st_uid != owner:
            raise PermissionError(errno.EPERM, f"is not a file of user {owner}", str(path))
        os.lseek(number, max(0, held.st_size - at_most), os.SEEK_SET)
        return _up_to(number, at_most)


@contextmanager
def _regular(path: Path) -> Iterator[tuple[int, os.stat_result]]:
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        held = os.fstat(number)
        if not stat.S_ISREG(held.st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        yield number, held
    finally:
        os.close(number)


def _up_to(number: int, at_most: int) -> bytes:
    parts, left = [], at_most
    while left > 0 and (part := os.read(number, min(left, _PIECE))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
