"""Gives freed memory back to the system.

glibc keeps freed memory in its heap for later. After a start with 16,000 members that is a fifth of
an agent's memory, and the agent will not need it before its next start.
"""

import contextlib
import ctypes


def give_back() -> None:
    """Takes a few milliseconds if much was freed, otherwise 0.05."""
    with contextlib.suppress(AttributeError, OSError):  # musl has no malloc_trim(3)
        ctypes.CDLL(None).malloc_trim(0)
