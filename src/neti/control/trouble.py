"""What a thread beside the loop tells it when something is wrong there. A value, nothing else."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trouble:
    """A thread beside the loop is in trouble, or (``sentence`` None) no longer.

    ``code``: of the problem. ``where``: whose it is, so that one that is over does not take away
    another's.
    """

    code: str
    where: str
    sentence: str | None
