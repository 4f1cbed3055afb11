"""Follows operators' groups: who is in which, in the kernel's elements and on disk.

Must never do: let a registry that was wiped or is an older copy change who is in a group.
"""

from typing import TYPE_CHECKING, Final

from neti import log
from neti.fleet.followed_groups import FollowedGroups, judged
from neti.fleet.groups import GroupIndex
from neti.model.groups import Groups
from neti.state.folder import GROUPS_FILE

if TYPE_CHECKING:
    from neti.agent.core import Core

# Seconds between two looks at the clock while a line has an end: somebody may set it, also back.
_LOOK_AT_MOST: Final = 10.0
_NOBODY: Final = Groups({})


class Grouping:
    """Not thread-safe: the loop's thread owns it. ``followed``: None until operators' word was
    read, now or by an earlier run."""

    def __init__(self, core: "Core", followed: FollowedGroups | None) -> None:
        self._core = core
        self.followed = followed
        self._said: tuple[bytes | None, str] | None = None  # not judged yet: a value, and the fleet
        self._kept = followed  # as it is on disk, or is to be
        self._due = followed is not None
        self._as_of = 0.0
        self._every: tuple[Groups, GroupIndex] | None = None

    def take(self, value: bytes | None, fleet: str) -> None:
        """The live setting as it stands now, in the registry of this fleet."""
        self._said = value, fleet

    def look(self) -> None:
        """The timer "groups": a line may have ended, or the clock may have been set back."""
        if self._core.members.groups.is_as_at(self._core.wall()):
            self._look_again()
        else:
            self._due = True

    def follow(self) -> None:
        """After ``Journal.take_changes``, and before anything is committed. Costs nothing where
        nothing was said, and no line has ended."""
        if self._said is not None:
            said, self._said = self._said, None
            self._judge(*said)
        if self._due or self._core.members.groups_are_due():
            self._tell()

    def every(self) -> GroupIndex:
        """Of every group that is defined, and not only of those that this host's rules look at.
        Built once for each edition, and each time that a line ends."""
        groups = self.followed.groups if self.followed is not None else _NOBODY
        now, held = self._core.wall(), self._every
        if held is None or held[0] is not groups or not held[1].is_as_at(now):
            held = self._every = groups, GroupIndex(groups, groups.lines.keys(), now)
        return held[1]

    def write_again(self) -> None:
        """Somebody else took it from the disk, or changed it there."""
        self._kept = None
        self._keep()

    def _keep(self) -> None:
        """Also that there are none, where rules look at them: otherwise a restart would take them
        for lost, and let every member in."""
        followed, core = self.followed, self._core
        if followed is None or followed == self._kept:
            return
        if followed.groups.edition or core.members.needed_groups:
            self._kept = followed
            core.disk.keep(GROUPS_FILE, self._write)

    def _write(self) -> None:
        if self.followed is not None:
            self._core.out.folder.save_groups(self.followed)

    def _judge(self, value: bytes | None, fleet: str) -> None:
        core, members = self._core, self._core.members
        followed, why = judged(
            self.followed,
            value,
            fleet,
            members=members.fleet.members.values(),
            needed=members.needed_groups,
            now=core.wall(),
        )
        if followed is None or why is not None:
            core.problems.set("groups_held", why or "")
            log.error("groups_held", what=core.problems.sentence("groups_held"))
            return
        core.problems.clear("groups_held")
        if followed != self.followed:
            log.info("groups_followed", edition=followed.groups.edition)
            self.followed, self._due = followed, True
        self._keep()
        if self._kept != followed:
            core.disk.overlook(GROUPS_FILE)  # a file that nobody needs is nobody's problem

    def _tell(self) -> None:
        core = self._core
        now, self._due = core.wall(), False
        followed, known = self.followed, core.members.groups.known
        core.members.group_members(followed.groups if followed is not None else None, now)
        if core.members.groups.known and not known and core.stage.record.member_ports is not None:
            core.soon("resync")  # now they are in force again
        self._keep()  # the rules may look at other groups than they did
        self._look_again()

    def _look_again(self) -> None:
        core, groups = self._core, self._core.members.groups
        core.timers.due.pop("groups", None)
        if groups.ends:
            end = groups.next_end
            left = _LOOK_AT_MOST if end is None else max(0.0, end - core.wall())
            core.soon("groups", min(left, _LOOK_AT_MOST))
