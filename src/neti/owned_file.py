"""Files in a folder that belongs to somebody else: the agent runs as its own user, and root's
commands write beside it.

What root makes there is the folder's owner's, so that the agent can read and replace it. And root
follows no link that the owner may have planted.
"""

import os
from pathlib import Path
from typing import Final

_NEW: Final = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def create(path: Path, flags: int, mode: int) -> int:
    """A new file, open. Raises OSError; FileExistsError when there is anything of that name."""
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
    """The file as it is, or a new one. Raises OSError."""
    try:
        return create(path, flags, mode)
    except FileExistsError:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
