"""Reports a call that takes long, because silence looks like a hang.

Must never: outlast the call, or end it.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

Waiting = Callable[[str], None]
FIRST_SECONDS: Final = 5.0
_TIMES: Final = 3  # how much longer to wait before each further report


@contextmanager
def watched(what: str, told: Waiting | None, *, first: float = FIRST_SECONDS) -> Iterator[None]:
    """``told`` is called while it lasts: after ``first`` seconds, then less and less often."""
    if told is None:
        yield
        return
    over = threading.Event()

    def watch() -> None:
        waited = wait = first
        while not over.wait(wait):
            told(f"{what} has had no answer for {waited:.0f} s. Still trying; Ctrl-C stops it")
            wait = waited * (_TIMES - 1)
            waited *= _TIMES

    thread = threading.Thread(target=watch, name="patience", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
