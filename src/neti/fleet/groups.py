"""Which groups a member is in, by the lines that operators wrote. Pure.

Only its id, which an operator admitted, and the site that it is believed to be of count.

Must never do: take long over a pattern, whatever it and the id are.
"""

import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from neti.model import Member
from neti.model.groups import EVERY_MEMBER, GroupLine, Groups

_HALF_MATTERS_FROM: Final = 5
_STARS: Final = re.compile(r"\*+")


class GroupIndex:
    """Of those groups that this host needs, at one moment. Immutable, so what it said of a member
    it says again. ``EVERY_MEMBER`` is never among them: membership itself says who is in it.

    ``now``: Unix seconds, as the lines' ends are. ``known``: an operator's document has been read.
    """

    def __init__(
        self, groups: Groups | None = None, needed: Collection[str] = (), now: float = 0.0
    ) -> None:
        self.known = groups is not None
        self.needed = frozenset(needed) - {EVERY_MEMBER}
        lines: Mapping[str, tuple[GroupLine, ...]] = groups.lines if groups is not None else {}
        names = sorted(self.needed)
        # Names that nobody has defined: nobody is in them.
        self.undefined = tuple(name for name in names if name not in lines)
        every = {name: lines[name] for name in names if name in lines}
        self._in_force = {name: tuple(_standing(of, now)) for name, of in every.items()}
        self._who = {name: _Who(of) for name, of in self._in_force.items() if of}
        # When lines end or have ended, in Unix seconds, sorted.
        self.ends = sorted(
            one.until for of in every.values() for one in of if one.until is not None
        )
        self._ended = bisect_right(self.ends, now)
        # When the next line ends; None: none does.
        self.next_end = self.ends[self._ended] if self._ended < len(self.ends) else None

    def is_as_at(self, now: float) -> bool:
        """Whether the same lines are in force at ``now`` (Unix seconds): somebody may set a clock
        back, and then a line that had ended has not."""
        return bisect_right(self.ends, now) == self._ended

    def of(self, member: Member) -> tuple[str, ...]:
        """Sorted names."""
        return tuple(name for name, who in self._who.items() if who.has(member))

    def moved(self, after: "GroupIndex", members: Iterable[Member]) -> list[Member]:
        """Those of ``members`` who are in other groups by ``after``. Costs as much as the groups
        whose lines differ."""
        names = {
            name
            for name in {*self._in_force, *after._in_force}
            if self._in_force.get(name, ()) != after._in_force.get(name, ())
        }
        if not names:
            return []
        pairs = [(self._who.get(name, _NOBODY), after._who.get(name, _NOBODY)) for name in names]
        return [one for one in members if any(a.has(one) != b.has(one) for a, b in pairs)]

    def taken_out(self, after: "GroupIndex", members: Iterable[Member]) -> list["TakenOut"]:
        """Groups that some of ``members`` are in, and by ``after`` not any more."""
        moved = self.moved(after, members := list(members))
        if not moved:
            return []
        found = []
        for name, who in self._who.items():
            then = after._who.get(name, _NOBODY)
            gone = sum(who.has(one) and not then.has(one) for one in moved)
            if gone:
                found.append(TakenOut(name, gone, sum(map(who.has, members))))
        return found


@dataclass(frozen=True, slots=True)
class TakenOut:
    """``gone`` of a group's ``before`` members."""

    group: str
    gone: int
    before: int

    @property
    def is_much(self) -> bool:
        """Whether its command must have been told so. Of few, half means nothing."""
        return self.before >= _HALF_MATTERS_FROM and 2 * self.gone > self.before

    def __str__(self) -> str:
        return f"{self.gone} of the {self.before} members of group {self.group}"


def without(groups: Groups, old: str, new: str, site: str | None, now: float) -> tuple[str, ...]:
    """Groups with a line for id ``old`` and none for ``new``, sorted: who takes the other's place
    is not in them. ``site``: that of ``new``; None: not known, and then lines of any site count.
    ``now``: Unix seconds."""

    def has(lines: Iterable[GroupLine], host_id: str, of: str | None) -> bool:
        mine = [line for line in _standing(lines, now) if of is None or line.site in ("", of)]
        like = matching(line.pattern for line in mine)
        return like is not None and like.fullmatch(host_id) is not None

    return tuple(
        name
        for name, lines in sorted(groups.lines.items())
        if has(lines, old, None) and not has(lines, new, site)
    )


def _standing(lines: Iterable[GroupLine], now: float) -> Iterable[GroupLine]:
    return (line for line in lines if line.until is None or line.until > now)


class _Who:
    """One group's lines: by site (empty: any), ids, and one expression for all patterns."""

    def __init__(self, lines: Collection[GroupLine] = ()) -> None:
        self._by_site = {
            site: (
                frozenset(one.pattern for one in lines if one.site == site and not one.is_pattern),
                matching(one.pattern for one in lines if one.site == site and one.is_pattern),
            )
            for site in dict.fromkeys(line.site for line in lines)
        }

    def has(self, member: Member) -> bool:
        for site in ("", member.site):
            if (found := self._by_site.get(site)) is not None:
                ids, like = found
                if member.id in ids or (like is not None and like.fullmatch(member.id)):
                    return True
        return False


_NOBODY: Final = _Who()


def matching(patterns: Iterable[str]) -> re.Pattern[str] | None:
    """For ``fullmatch``: an id that fits one of them. None: there is none."""
    every = [_expression(one) for one in dict.fromkeys(patterns)]
    return re.compile("|".join(every), re.ASCII) if every else None


def _expression(pattern: str) -> str:
    """What a star in the middle takes is the least that will do, and is never tried again:
    otherwise ``*a*a*a*b`` would take as many steps as there are ways to fit it."""
    first, *more = (re.escape(part).replace(r"\?", ".") for part in _STARS.split(pattern))
    if not more:
        return first
    *middle, last = more
    return "".join((first, *(f"(?>.*?{part})" for part in middle), ".*", last))
