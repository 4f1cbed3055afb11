"""Sleep until a file is touched, or until told to wake: inotify and an eventfd, nothing more.

Must never do: miss a touch that came between two waits (the kernel queues it).
"""

import ctypes
import os
import select
from pathlib import Path
from typing import Final

_IN_ATTRIB: Final = 0x00000004
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
# Where the kernel's inotify instances are used up (128 for a user, by default).
_POLL_SECONDS: Final = 0.05


class Doorbell:
    """``wait`` ends when another process rings the file it listens to, or on ``wake``."""

    def __init__(self) -> None:
        self._inotify: int | None = _LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._eventfd, select.POLLIN)
        if self._inotify == -1:
            self._inotify = None
        if self._inotify is not None:
            self._poll.register(self._inotify, select.POLLIN)

    def listen(self, path: Path) -> None:
        """Hear rings of this file from now on, which is made when it is not there. OSError."""
        descriptor = os.open(path, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o600)
        os.close(descriptor)
        if self._inotify is None:
            return
        if _LIBC.inotify_add_watch(self._inotify, os.fsencode(path), _IN_ATTRIB) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))

    def wait(self, seconds: float) -> None:
        """Return after a ring, a wake, or ``seconds``; several rings may be one return."""
        if self._inotify is None:
            seconds = min(seconds, _POLL_SECONDS)
        for descriptor, _ in self._poll.poll(max(0.0, seconds) * 1000):
            try:
                os.read(descriptor, 4096)
            except BlockingIOError:
                continue

    def wake(self) -> None:
        os.eventfd_write(self._eventfd, 1)

    def close(self) -> None:
        if self._inotify is not None:
            os.close(self._inotify)
        os.close(self._eventfd)


def ring(path: Path) -> None:
    """Touch the file. It is no error if nobody ever listened there."""
    try:
        os.utime(path)
    except OSError:
        return
