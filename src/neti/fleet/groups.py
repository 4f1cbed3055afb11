"""Which groups a member is in, by the lines that operators wrote. Pure.

Only its id, which an operator admitted, and the site that it is believed to be of count. What
subjects mean is in the lines as ids already (``neti.fleet.group_subjects``).
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from neti.fleet.id_patterns import IdPatterns, matching
from neti.model import Member
from neti.model.groups import EVERY_MEMBER, GroupLine, Groups

_HALF_MATTERS_FROM: Final = 5


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
        self._lookup = _Lookup(self._in_force)
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
        return tuple(sorted(self._lookup.of(member)))

    def moved(self, after: "GroupIndex", members: Iterable[Member]) -> list[Member]:
        """Those of ``members`` who are in other groups by ``after``. Costs as much as the groups
        whose lines differ."""
        former, then = self._differing(after)
        if former is None or then is None:
            return []
        return [one for one in members if former.of(one) != then.of(one)]

    def taken_out(self, after: "GroupIndex", members: Iterable[Member]) -> list["TakenOut"]:
        """Groups that some of ``members`` are in, and by ``after`` not any more."""
        former, then = self._differing(after)
        if former is None or then is None:
            return []
        before, gone = Counter[str](), Counter[str]()
        for one in members:
            was = former.of(one)
            before.update(was)
            gone.update(was - then.of(one))
        return [TakenOut(name, gone[name], before[name]) for name in sorted(gone)]

    def _differing(self, after: "GroupIndex") -> tuple["_Lookup", "_Lookup"] | tuple[None, None]:
        """Both, of the groups alone whose lines are not the same."""
        mine, others = self._in_force, after._in_force
        names = {one for one in {*mine, *others} if mine.get(one, ()) != others.get(one, ())}
        if not names:
            return None, None
        return (
            _Lookup({name: mine.get(name, ()) for name in names}),
            _Lookup({name: others.get(name, ()) for name in names}),
        )


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


def taken_in(
    lines: Sequence[GroupLine], members: Iterable[Member], now: float
) -> list[tuple[str, ...]]:
    """By line, in their order: the ids of ``members`` that it takes in, sorted; none by a line that
    has ended. A subject takes in those whom it put there. ``now``: Unix seconds."""
    places = {str(n): tuple(_standing(meant(line, lines), now)) for n, line in enumerate(lines)}
    lookup, found = _Lookup(places), [list[str]() for _ in lines]
    for member in members:
        for place in lookup.of(member):
            found[int(place)].append(member.id)
    return [tuple(sorted(ids)) for ids in found]


def meant(line: GroupLine, lines: Iterable[GroupLine]) -> tuple[GroupLine, ...]:
    """The line itself; of a subject those of the ids that it put among ``lines``."""
    if not line.is_subject:
        return (line,)
    return tuple(one for one in lines if (one.by, one.site) == (line.pattern, line.site))


def without(groups: Groups, old: str, new: str, site: str | None, now: float) -> tuple[str, ...]:
    """Groups with a line for id ``old`` and none for ``new``, sorted: who takes the other's place
    is not in them. ``site``: that of ``new``; None: not known, and then lines of any site count.
    ``now``: Unix seconds."""

    def has(lines: Iterable[GroupLine], host_id: str, of: str | None) -> bool:
        standing = (line for line in _standing(lines, now) if not line.is_subject)
        mine = [line for line in standing if of is None or line.site in ("", of)]
        like = matching(line.pattern for line in mine)
        return like is not None and like.fullmatch(host_id) is not None

    return tuple(
        name
        for name, lines in sorted(groups.lines.items())
        if has(lines, old, None) and not has(lines, new, site)
    )


def _standing(lines: Iterable[GroupLine], now: float) -> Iterable[GroupLine]:
    return (line for line in lines if not line.has_ended(now))


class _Lookup:
    """By site (empty: any): groups by id, and by pattern. So a member costs the same, however many
    groups there are."""

    def __init__(self, every: Mapping[str, Iterable[GroupLine]]) -> None:
        ids: dict[str, dict[str, set[str]]] = {}
        patterns: dict[str, dict[str, set[str]]] = {}
        for name, lines in every.items():
            for line in lines:
                if line.is_subject:
                    continue
                held = (patterns if line.is_pattern else ids).setdefault(line.site, {})
                held.setdefault(line.pattern, set()).add(name)
        self._ids = ids
        # What is the same stands for all patterns that mean it, so that these are looked for at
        # once.
        once: dict[frozenset[str], frozenset[str]] = {}
        self._patterns = {
            site: IdPatterns({one: once.setdefault(of := frozenset(n), of) for one, n in p.items()})
            for site, p in patterns.items()
        }

    def of(self, member: Member) -> set[str]:
        found: set[str] = set()
        for site in ("", member.site):
            if (ids := self._ids.get(site)) is not None:
                found |= ids.get(member.id, _NONE)
            if (patterns := self._patterns.get(site)) is not None:
                found.update(*patterns.of(member.id))
        return found


_NONE: Final[frozenset[str]] = frozenset()
