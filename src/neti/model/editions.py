"""Editions of what operators say to the whole fleet: each is later than all before it. Pure.

Commands make them from the time, so that what is said in a registry that lost everything is later
than all that stood there. Where there are no rights, a member can write any number.
"""

from typing import Final

_AHEAD: Final = 366 * 86_400  # seconds by which the clock of whoever said it last may be ahead
_LEAST_NOW: Final = 1_790_000_000  # Unix seconds: a clock that shows less is not set
_ABSURD: Final = 1 << 40  # whatever the clock shows: 35,000 years from now


def is_of_no_command(edition: int, now: float) -> bool:
    """It is later than commands make any, so that none of theirs would ever be later. ``now``: Unix
    seconds. By a clock that is not set nothing that may be true is called false."""
    return edition > (now + _AHEAD if now >= _LEAST_NOW else _ABSURD)


def after(edition: int, now: float) -> int:
    """The next one. One that no command made gives way, and it begins at the time again. ``now``:
    Unix seconds."""
    if is_of_no_command(edition, now):
        return int(max(now, _LEAST_NOW))
    return max(edition + 1, int(now))


def is_later(edition: int, followed: int, now: float) -> bool:
    """Whether ``edition`` may take the place of the one that is ``followed``. ``now``: Unix
    seconds."""
    if is_of_no_command(followed, now) and not is_of_no_command(edition, now):
        return edition > 0
    return edition > followed
