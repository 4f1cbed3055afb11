"""What ``neti group`` makes of the groups that there are. Pure.

Must never do: return what the registry would not hold, or change a group that was not asked for.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from neti.errors import NetiError
from neti.model.editions import after
from neti.model.entry import SITE_NAME
from neti.model.groups import EVERY_MEMBER, GROUP_NAME, ID_PATTERN, GroupLine, Groups
from neti.registry.groups import is_subject_pattern
from neti.text import command, printable
from neti.words import some

# A line that ended stays in sight for so long, and for hosts whose clock is behind.
_KEPT_AFTER_ITS_END: Final = 86_400.0
# Editions by which a host that was away may be behind, and still see that each step was judged.
_STEPS: Final = 32
_NOTHING: Final = "nothing was changed"

Lines = tuple[GroupLine, ...]


def checked_name(name: str) -> str:
    """Raises NetiError."""
    if name == EVERY_MEMBER:
        raise NetiError(
            f"group {name} is every member and exists by itself: expected another name; {_NOTHING}"
        )
    if not GROUP_NAME.fullmatch(name):
        raise NetiError(
            f"{printable(name)!r} is no name of a group: expected 1 to 32 of lower-case letters, "
            f"digits and '-', beginning with a letter; {_NOTHING}"
        )
    return name


def checked_lines(words: Sequence[str], site: str, until: float | None) -> Lines:
    """Raises NetiError."""
    for word in words:
        if "=" in word:
            _check_subject(word)
        elif not ID_PATTERN.fullmatch(word):
            raise NetiError(
                f"{printable(word)!r} is no host id and no pattern: expected 1 to 40 of letters, "
                f"digits, '.', '_', '-', '*' and '?'; {_NOTHING}"
            )
    if site and not SITE_NAME.fullmatch(site):
        raise NetiError(f"--site {printable(site)!r}: expected a site's name; {_NOTHING}")
    return tuple(GroupLine(word, site, until) for word in dict.fromkeys(words))


def _check_subject(word: str) -> None:
    if not is_subject_pattern(word):
        raise NetiError(
            f"{printable(word)!r} is no subject as ZooKeeper spells it, with or without '*' and "
            "'?': expected, for example, 'CN=db-*,OU=hosts' (no space after a comma); "
            f"{_NOTHING}\n→ neti registry check"
        )


def with_set(groups: Groups, name: str, lines: Lines) -> dict[str, Lines]:
    """The group has these lines and no others."""
    return {**groups.lines, name: lines}


def with_added(groups: Groups, name: str, lines: Lines) -> dict[str, Lines]:
    """A line of the same pattern and site takes the place of the former one. Raises NetiError."""
    new = {(line.pattern, line.site, line.by) for line in lines}
    kept = (one for one in _of(groups, name) if (one.pattern, one.site, one.by) not in new)
    return {**groups.lines, name: (*kept, *lines)}


def with_removed(
    groups: Groups, name: str, words: Sequence[str], site: str | None
) -> dict[str, Lines]:
    """Without the lines of these ids and patterns, spelled as they stand there; ``site`` None: of
    any. Raises NetiError for one that is not there."""
    held = _of(groups, name)
    of_any = [line for line in held if line.pattern in words and site in (None, line.site)]
    gone = [line for line in of_any if not line.by]
    missing = set(words) - {line.pattern for line in gone}
    if by := sorted({line.by for line in of_any if line.pattern in missing}):
        raise NetiError(
            f"{some(sorted(missing))}: in group {name} by its subject, {some(by)}: {_NOTHING}\n"
            f"→ {command('neti group remove', name, by[0])}, which takes out all that fit it"
        )
    if missing:
        of_site = f" of site {printable(site)}" if site is not None else ""
        raise NetiError(
            f"group {name} has no line {some(list(map(printable, missing)))}{of_site}: {_NOTHING}\n"
            f"→ neti group show {name}"
        )
    return {**groups.lines, name: tuple(line for line in held if line not in gone)}


def with_deleted(groups: Groups, name: str) -> dict[str, Lines]:
    """Raises NetiError."""
    _of(groups, name)
    return {one: lines for one, lines in groups.lines.items() if one != name}


def next_edition(
    before: Groups, lines: Mapping[str, Lines], *, shrink: bool, now: float
) -> Groups | None:
    """``lines`` as the document that takes the place of ``before``; None: nothing would change.
    ``now``: Unix seconds. Where operators begin anew, in a registry that was wiped or restored, the
    edition is later than any that stood in the former one."""
    kept = {name: _kept(of, now) for name, of in lines.items()}
    if kept == {name: tuple(of) for name, of in before.lines.items()} and not shrink:
        return None
    edition = after(before.edition, now)
    steps = (*(before.steps or (before.edition,)), edition)[-_STEPS:]
    shrunk = before.shrunk if before.shrunk <= edition else 0  # of no command either
    return Groups(kept, edition, edition if shrink else shrunk, steps)


def _kept(lines: Lines, now: float) -> Lines:
    return tuple(line for line in lines if not line.has_ended(now - _KEPT_AFTER_ITS_END))


def _of(groups: Groups, name: str) -> Lines:
    lines = groups.lines.get(name)
    if lines is None:
        there = f"there are {some(list(groups.lines))}" if groups.lines else "there are none"
        raise NetiError(
            f"no group is called {name}; {there}: {_NOTHING}\n→ neti group set {name} ID…"
        )
    return lines
