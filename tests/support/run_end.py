"""What has to end with the run: servers that its tests share, and their folders.

By a hook of pytest's, because a worker's process may be killed before ``atexit`` has its turn; and
by ``atexit`` where no pytest runs.
"""

import atexit
from collections.abc import Callable

_ends: list[Callable[[], object]] = []


def at_the_end(end: Callable[[], object]) -> None:
    """Called once, the last one first."""
    _ends.append(end)


@atexit.register
def come() -> None:
    while _ends:
        _ends.pop()()
