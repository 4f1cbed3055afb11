"""What an operator's admission of a host does to groups: subjects in them mean other ids then.

Must never do: leave an id in a group for a subject that it is about to lose.
"""

from collections.abc import Callable, Mapping

from neti.fleet import group_subjects
from neti.fleet.group_edits import Lines, next_edition
from neti.fleet.group_subjects import left
from neti.model.groups import Groups
from neti.model.settings import Settings
from neti.oneshot import registered
from neti.oneshot.group_trust import check_size
from neti.registry import OperatorRegistry
from neti.registry.groups import decode, encode

# By group the ids that came or went, sorted.
Ids = dict[str, tuple[str, ...]]


def take_out(
    settings: Settings,
    registry: OperatorRegistry,
    owners: Mapping[str, str],
    now: float,
    *,
    dry_run: bool = False,
) -> Ids:
    """Before ids get the certificates of ``owners`` (by id the subject): out of the groups in which
    they are for another one, also if nobody knows any more whose they were: a record that is
    removed leaves its id in the groups. ``now``: Unix seconds. Raises NetiError, and then nothing
    has been changed: GroupsUnreadable too, because agents may follow the last that could be
    read."""
    groups = decode(registry.setting("groups"))
    if not any(left(lines, owners) != lines for lines in groups.lines.values()):
        return {}
    members = registered.read(settings, registry, documents=False).members.values()
    gone: Ids = {}

    def without(before: Groups) -> dict[str, Lines]:
        after = {name: left(lines, owners) for name, lines in before.lines.items()}
        gone.clear()
        gone.update(_differing(before.lines, after))
        return after

    def check(before: Groups, after: Groups) -> None:
        check_size(before, after, members, now, shrink=False)

    if dry_run:
        without(groups)
    else:
        _edit(registry, without, now, check)
    return gone


def put_in(registry: OperatorRegistry, owners: Mapping[str, str], now: float) -> Ids:
    """Once ids have the certificates of ``owners``: into each group of which a subject fits, and
    into no other by a subject. May be repeated. Ids that hold no lease any more go with the next
    change, so that the groups do not grow for good. Raises NetiError: of groups alone, because they
    are admitted."""
    if not group_subjects.has_subjects(decode(registry.setting("groups")).lines):
        return {}
    leased = frozenset(registry.leases().values())
    came: Ids = {}

    def added(before: Groups) -> dict[str, Lines]:
        after = {
            name: group_subjects.readmitted(lines, owners, leased, now)
            for name, lines in before.lines.items()
        }
        came.clear()
        came.update(_differing(after, before.lines))
        differs = any(
            set(lines) - set(before.lines[name])
            or left(before.lines[name], owners) != before.lines[name]
            for name, lines in after.items()
        )
        return after if differs else dict(before.lines)

    _edit(registry, added, now)
    return came


def _edit(
    registry: OperatorRegistry,
    edit: Callable[[Groups], dict[str, Lines]],
    now: float,
    check: Callable[[Groups, Groups], None] = lambda before, after: None,
) -> None:
    def replaced(raw: bytes | None) -> bytes | None:
        before = decode(raw)
        after = next_edition(before, edit(before), shrink=False, now=now)
        if after is None:
            return raw
        check(before, after)
        return encode(after, before)

    registry.edit_setting("groups", replaced)


def _differing(more: Mapping[str, Lines], less: Mapping[str, Lines]) -> Ids:
    """By group, ids with a line in ``more`` and none in ``less``."""
    every = {
        name: {one.pattern for one in lines} - {one.pattern for one in less.get(name, ())}
        for name, lines in more.items()
    }
    return {name: tuple(sorted(ids)) for name, ids in every.items() if ids}
