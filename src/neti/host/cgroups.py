"""Control groups of version 2 by their numbers. Only reads. See cgroups(7).

A group's number is the inode of its folder. No other group gets it while this machine runs.
"""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from neti.text import printable

_MOUNTS: Final = Path("/proc/self/mountinfo")
_KIND: Final = "cgroup2"
_MOST: Final = 20_000  # folders looked at in one go: 0.1 s
_KEPT: Final = 4096


class ControlGroups:
    """Not thread-safe. A group that was seen keeps its name after it has gone."""

    def __init__(self, mounts: Path = _MOUNTS) -> None:
        self._mounts = mounts
        self._names: dict[int, str] = {}
        self._gone: set[int] = set()

    def named(self, numbers: Collection[int]) -> Mapping[int, str]:
        """Paths below the root, as far as the groups are there or were seen before; empty ones
        where the hierarchy is not mounted. The file system is looked through only for a number that
        was never asked for."""
        wanted = {one for one in numbers if one not in self._names and one not in self._gone}
        if wanted:
            root = self._root()
            if root is None:
                return dict.fromkeys(numbers, "")
            found, complete = _find(root, wanted)
            self._names |= found
            if not complete:  # of whom was not seen it cannot be said that it has ended
                return {**dict.fromkeys(numbers, ""), **self._known(numbers)}
            self._gone |= wanted - found.keys()
            while len(self._names) > _KEPT:
                del self._names[next(iter(self._names))]
            if len(self._gone) > _KEPT:
                self._gone.clear()
        return self._known(numbers)

    def _known(self, numbers: Collection[int]) -> dict[int, str]:
        return {one: self._names[one] for one in numbers if one in self._names}

    def _root(self) -> str | None:
        """Where the hierarchy is mounted; see proc(5)."""
        try:
            lines = self._mounts.read_text(errors="replace").splitlines()
        except OSError:
            return None
        found: dict[str, str] = {}
        for line in lines:
            before, _, after = line.partition(" - ")
            words, kind = before.split(), after.split()
            if kind[:1] == [_KIND] and len(words) > 4:
                found.setdefault(words[3], words[4].replace("\\040", " "))
        return found.get("/")  # others show a part of the hierarchy


def _find(root: str, wanted: set[int]) -> tuple[dict[int, str], bool]:
    """And whether all was looked at that had to be."""
    found: dict[int, str] = {}
    looked = 0
    folders = [root]
    while folders and looked < _MOST and len(found) < len(wanted):
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                below = [one for one in entries if one.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            continue  # it ends while we look
        except OSError:
            return found, False
        for one in below:
            looked += 1
            folders.append(one.path)
            if one.inode() in wanted:
                found[one.inode()] = printable(one.path.removeprefix(root))
    return found, not folders or len(found) == len(wanted)


def unit_of(path: str) -> str:
    """What people call it: the innermost systemd unit, else the last folder."""
    parts = [part for part in path.split("/") if part]
    for part in reversed(parts):
        if part.endswith((".service", ".scope", ".socket")):
            return part
    return parts[-1] if parts else ""
