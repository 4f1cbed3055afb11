"""Whom the subjects of a group's lines mean: ids, as lines of their own. Pure.

Agents could read whose a record is only one by one, each of them all. So commands do it, once: the
one that names the subject, and each that admits a host. What agents read is ids.

Must never do: keep an id in a group for a subject that it does not have.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping

from neti.fleet.groups import meant
from neti.fleet.id_patterns import expression
from neti.model.groups import GroupLine

Lines = tuple[GroupLine, ...]


def has_subjects(every: Mapping[str, Iterable[GroupLine]]) -> bool:
    return any(line.is_subject for lines in every.values() for line in lines)


def resolved(lines: Lines, owners: Mapping[str, str], now: float) -> Lines:
    """With a line for each id of ``owners`` (by id its certificate's subject) that fits a subject
    among them, and no other for subjects. ``now``: Unix seconds; what ended takes nobody in."""
    named = tuple(line for line in lines if not line.by)
    found = (one for line in _subjects(named) for one in _fitting(line, owners, now))
    return _ordered((*named, *found))


def standing(lines: Lines) -> Lines:
    """Where nobody can say whose an id is: without those whose subject is not there any more."""
    subjects = {(line.pattern, line.site): line for line in _subjects(lines)}
    return _ordered(line for line in lines if not line.by or (line.by, line.site) in subjects)


def readmitted(
    lines: Lines, owners: Mapping[str, str], leased: Collection[str], now: float
) -> Lines:
    """As ``resolved`` for the ids of ``owners`` alone; and of others those that are ``leased``."""
    kept = tuple(
        line
        for line in lines
        if not line.by or (line.pattern in leased and line.pattern not in owners)
    )
    found = (one for line in _subjects(kept) for one in _fitting(line, owners, now))
    return _ordered((*kept, *found))


def left(lines: Lines, owners: Mapping[str, str]) -> Lines:
    """Without ids of ``owners`` that are here for a subject which they do not have any more."""
    return tuple(
        line
        for line in lines
        if not line.by
        or (has := owners.get(line.pattern)) is None
        or expression((line.by,)).fullmatch(has) is not None
    )


def differing(
    lines: Lines, owners: Mapping[str, str], now: float
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ids that fit a subject and are not in by it, and ids that are in and do not fit: sorted."""
    subjects = [line for line in _subjects(lines) if not line.has_ended(now)]
    is_in = {one.pattern for line in subjects for one in meant(line, lines)}
    fits = {one.pattern for line in subjects for one in _fitting(line, owners, now)}
    return tuple(sorted(fits - is_in)), tuple(sorted(is_in - fits))


def _subjects(lines: Lines) -> Iterator[GroupLine]:
    return (line for line in lines if line.is_subject)


def _fitting(line: GroupLine, owners: Mapping[str, str], now: float) -> Iterator[GroupLine]:
    if not line.has_ended(now):
        like = expression((line.pattern,))
        for host_id in sorted(owners):
            if like.fullmatch(owners[host_id]):
                yield GroupLine(host_id, line.site, line.until, line.pattern)


def _ordered(lines: Iterable[GroupLine]) -> Lines:
    """As they are read: subjects, what was named, and what subjects mean; that is sorted, so that
    it is no other edition whichever command put it there."""
    return tuple(sorted(lines, key=_place))


def _place(line: GroupLine) -> tuple[bool, bool, tuple[str, ...]]:
    by = (line.by, line.site, line.pattern) if line.by else ()
    return not line.is_subject, bool(line.by), by
