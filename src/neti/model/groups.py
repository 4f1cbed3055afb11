"""Groups of members, as operators define them, and the ports that they reach. Values only.

Must never do: read anything.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

# No underscore: in the names of the kernel's sets one stands for the hyphen.
GROUP_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
# An id, or one with ``*`` and ``?`` in it.
ID_PATTERN: Final = re.compile(r"[A-Za-z0-9*?][A-Za-z0-9._*?-]{0,39}", re.ASCII)
# The group that exists by itself: every member. Nobody can define it.
EVERY_MEMBER: Final = "members"


@dataclass(frozen=True, slots=True)
class GroupLine:
    """``pattern``: a host id, or one with ``*`` (any characters) and ``?`` (one), or the subject of
    a certificate, likewise; ``site``: only members of this site (empty: of any); ``until``: Unix
    seconds (None: no end). ``by``: the subject, as a line of the same site has it, by which a
    command put this id here (empty: an operator named it)."""

    pattern: str
    site: str = ""
    until: float | None = None
    by: str = ""

    @property
    def is_subject(self) -> bool:
        """It says nothing of any id by itself: lines with ``by`` do. No id has a '='."""
        return "=" in self.pattern

    @property
    def is_pattern(self) -> bool:
        return "*" in self.pattern or "?" in self.pattern

    @property
    def is_id(self) -> bool:
        return not (self.is_pattern or self.is_subject)

    def has_ended(self, now: float) -> bool:
        """``now``: Unix seconds."""
        return self.until is not None and self.until <= now


@dataclass(frozen=True, slots=True)
class Groups:
    """``edition`` grows with each change, and 0 is what there is before the first. ``shrunk``: the
    last edition whose command was told that it takes many out. ``lines``: those of each group; a
    group may be empty. ``judged``: the last editions, this one at the end, each made from the one
    before by a command that looked at how many it takes out."""

    lines: Mapping[str, tuple[GroupLine, ...]]
    edition: int = 0
    shrunk: int = 0
    judged: tuple[int, ...] = ()

    @property
    def steps(self) -> tuple[int, ...]:
        """``judged``, of which the last names this edition: otherwise no command made it."""
        return self.judged if self.judged[-1:] == (self.edition,) else ()

    def naming(self, host_id: str, now: float, *, by_subject: bool = True) -> tuple[str, ...]:
        """Groups with a line for just this id, not by a pattern, that has not ended at ``now``
        (Unix seconds); sorted. ``by_subject``: those too that a command wrote for a subject."""
        return tuple(
            name
            for name, lines in sorted(self.lines.items())
            if any(
                line.pattern == host_id and not line.has_ended(now) and (by_subject or not line.by)
                for line in lines
            )
        )


@dataclass(frozen=True, slots=True)
class MemberPort:
    """Ports ``first`` to ``last`` (1-65535, inclusive) are for members of any of ``groups``.
    ``proto`` None: every port and protocol, and ``first`` and ``last`` mean nothing."""

    groups: tuple[str, ...]
    proto: Literal["tcp", "udp"] | None = None
    first: int = 0
    last: int = 0


# None: every member reaches every port, as if there were no groups.
MemberPorts = tuple[MemberPort, ...] | None
# What is in force of them on a host; "none": neti.yml has none.
PortsState = Literal["none", "waiting", "trial", "in force"]
PORTS_STATES: Final[tuple[PortsState, ...]] = ("waiting", "trial", "in force")


def spelled(line: MemberPort) -> str:
    """The ports as neti.yml has them: ``5432/tcp``, ``8000-8100/udp``, ``all``."""
    if line.proto is None:
        return "all"
    span = str(line.first) if line.first == line.last else f"{line.first}-{line.last}"
    return f"{span}/{line.proto}"
