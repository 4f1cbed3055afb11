"""What was found in the state folder, and what could not be used of it.

Must never do: touch the disk.
"""

from dataclasses import dataclass, field
from pathlib import Path

from neti.clock import Mark
from neti.errors import NetiError
from neti.fleet.followed_groups import FollowedGroups
from neti.fleet.remembered import Remembered
from neti.model.names import Names
from neti.model.openings import Openings
from neti.registry import Session
from neti.stage.stages import Record
from neti.state.records import Self


class StateError(NetiError):
    """The state folder cannot be used; the message says which path and why."""


class Foreign(Exception):
    """The file was written on another machine."""


class Fault(str):
    """A sentence about what could not be used. ``file``: the name of the file that mends it when
    it is written next."""

    file: str

    def __new__(cls, path: Path, what: str, file: str = "") -> "Fault":
        made = super().__new__(cls, f"{path}: {what}")
        made.file = file or path.name
        return made


@dataclass(slots=True)
class Loaded:
    """What was found on disk. ``record_lost``: there is a record of the stage, and none of it can
    be used; ``enforced_once``: what is left of it looks as if this host had been enforced."""

    members: dict[str, Remembered] = field(default_factory=dict)
    gone: dict[str, int] = field(default_factory=dict)  # as ``Fleet.gone``
    openings: Openings = Openings()  # what is open for a time
    groups: FollowedGroups | None = None  # None: operators' word was never read
    names: Names = Names()  # as they are followed
    itself: Self = Self()
    session: Session | None = None
    record: Record | None = None  # None: nothing was ever decided here
    window: dict[str, float] = field(default_factory=dict)
    mark: Mark | None = None
    foreign: bool = False  # the files are another machine's: see ``discard``
    record_lost: bool = False
    enforced_once: bool = False
    faults: list[Fault] = field(default_factory=list)
