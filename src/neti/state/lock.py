"""One agent a host: a lock in the state folder that the kernel lets go with its process."""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from neti import files, log
from neti.errors import NetiError

_NAME: Final = "agent.lock"


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """While no agent runs on this host, and none can begin. Raises NetiError when one does."""
    number = acquire(folder)
    try:
        yield
    finally:
        os.close(number)


def is_still_there(folder: Path, number: int) -> bool:
    """Whether what the lock is on is still in its place, so that it keeps a second agent away."""
    held = os.fstat(number)
    place = folder if stat.S_ISDIR(held.st_mode) else folder / _NAME
    try:
        return os.path.samestat(held, place.lstat())
    except OSError:
        return False


def acquire(folder: Path) -> int:
    """A lock that the kernel lets go with this process, however it ends: one agent a host."""
    on_folder = False
    try:
        number = files.open_or_create(folder / _NAME, os.O_RDWR, 0o600)
        on_folder = _taken_on_folder(folder)
    except OSError as error:
        try:  # who cannot write may still look whether somebody holds it
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            number = os.open(folder / _NAME, flags)
        except FileNotFoundError:
            log.warning("no_lock", what=f"{folder}: cannot be written: {error.strerror}")
            # The folder itself: it keeps away whoever cannot write here either.
            number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            raise NetiError(f"{folder}: cannot be written: {error.strerror}") from error
    try:
        if on_folder:
            raise BlockingIOError
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(number)
        raise NetiError(
            f"another agent is running on this host: it holds {folder / _NAME}"
        ) from None
    return number


def _taken_on_folder(folder: Path) -> bool:
    """Whether an agent began while the folder could not be written, and so has its lock there."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # a file system on which a folder cannot be locked: then nobody has
    finally:
        os.close(number)
    return False
