"""Threads that are made while the agent runs, when memory may have run out.

``threading.Thread.start`` waits until the new thread says that it runs. One for which there is no
memory dies before that, and whoever started it waits for ever.

Must never do: wait for a thread without an end.
"""

import _thread
import threading
from collections.abc import Callable
from typing import Final

_PATIENCE: Final = 5.0  # seconds for a thread to begin


def begin(run: Callable[[], object]) -> None:
    """Run it in a thread that ends with the process. Raises RuntimeError where there is no thread
    for it; then it does not run later either."""
    claim, begun = threading.Lock(), threading.Event()

    def live() -> None:
        if claim.acquire(blocking=False):
            begun.set()
            run()

    _thread.start_new_thread(live, ())
    if not begun.wait(_PATIENCE) and claim.acquire(blocking=False):
        raise RuntimeError("a new thread did not begin")
