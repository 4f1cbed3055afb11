"""Which content of neti.yml this agent has read, and whether the file says something else now.

Must never do: raise, or read a file again that has not changed.
"""

import hashlib
import os
from pathlib import Path
from typing import Final

_MOST: Final = 4 * 1024 * 1024  # as ``neti.config`` reads


class ConfigRead:
    """Not thread-safe: the loop's thread owns it once the loop runs."""

    def __init__(self, path: Path, content: bytes) -> None:
        self._path = path
        self._read = self._known = b""
        self._seen: tuple[int, int, int] | None = None
        self._content_read = content
        self.in_force = content  # the configuration that the agent uses, as far as it is known
        self.noted(content)

    def accepted(self) -> None:
        """What was read last is in force."""
        self.in_force = self._content_read

    def noted(self, content: bytes) -> None:
        """This was read, and then accepted or refused."""
        self._content_read = content
        self._read = self._known = _digest(content)
        self._seen = None

    def unread(self) -> float | None:
        """Since when (Unix seconds) the file differs from the one that was read; None: it does not,
        or that is not known."""
        try:
            now = self._path.stat()
            place = (now.st_ino, now.st_size, now.st_mtime_ns)
            if place != self._seen:
                self._known = _digest(self._content())
                self._seen = place
        except OSError:
            return None
        return now.st_mtime if self._known != self._read else None

    def _content(self) -> bytes:
        # A FIFO in its place must not block the loop.
        number = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(number, "rb") as file:
            return file.read(_MOST) or b""


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
