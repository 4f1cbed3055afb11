"""Two words that a command leaves in the state folder for an agent that does not answer: ``down``
and ``relaxed``. That such a name is there is what counts, whatever it is; what it holds is for
people and for the record.

Must never do: need anything but the file system, or follow a link.
"""

import contextlib
import errno
import os
import time
from pathlib import Path
from typing import Any, Final

from neti import durable, files
from neti.clock import boot_id
from neti.model.said import Said

DOWN: Final = "down"
RELAXED: Final = "relaxed"
_AT_MOST: Final = 4096
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def present(folder: Path, name: str) -> bool:
    return os.path.lexists(f"{folder}/{name}")  # a Path takes longer to join than to look up


def leave(folder: Path, name: str, said: Said) -> None:
    """Raises OSError. On a disk without room an empty file often still fits."""
    path = folder / name
    document: dict[str, Any] = {"at": said.at, "by": said.by, "until": said.until}
    if said.at is not None and said.until is not None:
        document["ends"] = time.clock_gettime(time.CLOCK_BOOTTIME) + said.until - said.at
        with contextlib.suppress(OSError):
            document["boot"] = boot_id()
    try:
        durable.replace(path, durable.line(document), 0o644)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        with contextlib.suppress(FileExistsError):
            os.close(files.create(path, os.O_WRONLY, 0o644))
        durable.sync_folder(folder)


def take_away(folder: Path, name: str) -> None:
    """Raises OSError. A disk that is read-only refuses also where there is nothing to take away."""
    if present(folder, name):
        with contextlib.suppress(FileNotFoundError):
            (folder / name).unlink()


def read(folder: Path, name: str) -> Said:
    """What is known of it; nothing, where it cannot be read."""
    try:
        held = durable.checked(files.read(folder / name, _AT_MOST))
        at, until, ends = (
            None if (value := held.get(key)) is None else float(value)
            for key in ("at", "until", "ends")
        )
        return Said(at, str(held.get("by") or ""), until, str(held.get("boot") or ""), ends)
    except (OSError, ValueError, TypeError):
        return Said()
