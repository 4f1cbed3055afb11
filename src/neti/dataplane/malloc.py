"""Gives freed memory back to the system.

glibc keeps what was freed inside its heap for the next time: after a start with 16,000 members that
is a fifth of all that an agent holds, and the next time is the next start.
"""

import contextlib
import ctypes


def give_back() -> None:
    """Costs some milliseconds after much was freed, else 0.05."""
    with contextlib.suppress(AttributeError, OSError):  # musl has no malloc_trim(3)
        ctypes.CDLL(None).malloc_trim(0)
