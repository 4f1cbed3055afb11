"""Keeps the hosts file of the fleet's names, for this machine's resolver.

Must never do: write it for each of many joins, take a name away because a registry was wiped, or
name an address that does not lead anywhere from here: while Neti is down it holds no names.
"""

from typing import TYPE_CHECKING, Final, Protocol

from neti import log
from neti.fleet.names import HEADER, NOBODY, followed, host_lines, server_names
from neti.model.names import Names
from neti.model.settings import Settings
from neti.state.folder import NAMES_FILE

if TYPE_CHECKING:
    from neti.agent.core import Core

_AFTER: Final = 0.2  # seconds from a change to the file
# Between two writes: to make it takes some 4 µs a member, and whoever serves it reads all of it.
_BETWEEN: Final = 2.0
_MEMBERS_A_SECOND: Final = 2000
_NO_SUFFIX: Final = "# No suffix is set, so members have no names by their ids: see 'neti name'."


class HostsDoor(Protocol):
    """See ``neti.state.hosts_file.HostsFile``."""

    def keep(self, content: bytes) -> None: ...

    def altered(self) -> bool: ...


class Naming:
    """Not thread-safe: the loop's thread owns it. ``followed``: as operators said it last, now or
    to an earlier run."""

    def __init__(self, core: "Core", names: Names) -> None:
        self._core = core
        self.followed = names
        self._gone = False  # this host has left the fleet
        self._retired = False  # or is to stay out of it, also if it left in an earlier run
        self._as_of: tuple[Settings, bool] | None = None
        self._not_before = float("-inf")  # CLOCK_MONOTONIC seconds

    def take(self, value: bytes | None) -> None:
        """The live setting, as it stands now."""
        core, before = self._core, self.followed
        core.live.faults.pop("names", None)
        self.followed, fault = followed(before, value, core.wall())
        if fault is not None:
            core.live.faults["names"] = fault
            log.warning("live_setting_ignored", what=fault)
        elif self.followed != before:
            log.info("names_followed", edition=self.followed.edition)
            self.write_again()
        self.changed()

    def changed(self) -> None:
        """A member came, went or moved."""
        core = self._core
        if core.out.hosts_file is not None:
            core.soon("hosts", max(_AFTER, self._not_before - core.now()))

    def look(self) -> None:
        """Once a turn of the loop."""
        as_of = self._core.settings, self._core.down.now
        if as_of != self._as_of:
            self._as_of = as_of
            self.changed()

    def look_at_file(self) -> None:
        """Somebody else may have changed it, or taken it away."""
        door = self._core.out.hosts_file
        if door is not None and door.altered():
            self.changed()

    def left(self) -> None:
        """This host has left the fleet, and its agent is about to end."""
        self._gone = True
        self.write()

    def retired(self, *, out: bool) -> None:
        """Operators took this host out of the fleet, or took that back."""
        self._retired = out
        self.changed()

    def write(self) -> None:
        """The timer "hosts"."""
        core = self._core
        door, hosts = core.out.hosts_file, core.members.fleet.members
        if door is None or not (core.members.known or self._is_out):
            return  # what an earlier run wrote is better than nothing
        content = "".join(f"{line}\n" for line in self._lines()).encode()
        self._not_before = core.now() + max(_BETWEEN, len(hosts) / _MEMBERS_A_SECOND)
        core.disk.keep("hosts", lambda: door.keep(content))

    def write_again(self) -> None:
        """Somebody else took what operators said from the disk, or changed it there."""
        core = self._core
        if self.followed.edition:
            core.disk.keep(NAMES_FILE, lambda: core.out.folder.save_names(self.followed))

    @property
    def _is_out(self) -> bool:
        return self._gone or self._retired

    def _lines(self) -> list[str]:
        core = self._core
        if self._is_out or core.down.now:
            return [*NOBODY]
        members = core.members.fleet.members
        hosts = {host_id: member.overlay for host_id, member in members.items()}
        lines = host_lines(hosts, self.followed, server_names(core.settings))
        return [HEADER, *([] if self.followed.suffix else [_NO_SUFFIX]), *lines]
