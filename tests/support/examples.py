"""How many examples a property with a number of its own is tried with, in short and in full.

Must never do: give a property that asks for nothing another number than its profile's.
"""

from hypothesis import settings


def share_of(full: int) -> int:
    """``full`` in make test, and as much less in make check as its profile has fewer than 100."""
    return max(1, full * settings().max_examples // 100)
