"""Whether what the registry says of groups may be followed, or the last good ones stay. Pure.

A registry that was wiped, restored from an older copy or taken for another one must not open or
shut a port anywhere. What an operator says with ``--shrink``, later than all that is followed, is
followed whatever registry it is said in.

Must never do: hold back what was never otherwise.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from neti.fleet.groups import GroupIndex
from neti.model import Member
from neti.model.editions import is_later
from neti.model.groups import Groups
from neti.registry.groups import GroupsUnreadable, decode

_NOTHING: Final = Groups({})
_SAY_IT_AGAIN: Final = (
    "\n→ 'neti group list'. If the registry is the right one, say there how a group is to be: "
    "'neti group set NAME … --shrink'"
)


@dataclass(frozen=True, slots=True)
class FollowedGroups:
    """``fleet``: the registry's, in which they were read."""

    groups: Groups
    fleet: str


def judged(
    followed: FollowedGroups | None,
    value: bytes | None,
    fleet: str,
    *,
    members: Iterable[Member],
    needed: Collection[str],
    now: float,
) -> tuple[FollowedGroups | None, str | None]:
    """What is followed once the registry has said ``value``; and why that is what was followed
    before. See ``objection``."""
    try:
        said = decode(value) if value is not None else None
    except GroupsUnreadable as error:
        return followed, str(error)
    why = objection(followed, said, fleet, members=members, needed=needed, now=now)
    return (FollowedGroups(said or _NOTHING, fleet), None) if why is None else (followed, why)


def objection(
    followed: FollowedGroups | None,
    said: Groups | None,
    fleet: str,
    *,
    members: Iterable[Member],
    needed: Collection[str],
    now: float,
) -> str | None:
    """Why ``said`` (None: the registry has none) must not take the place of ``followed``, in a
    sentence with the next step; None: it may. ``now``: Unix seconds. Costs as much as there are
    members, where lines of the ``needed`` groups differ."""
    if followed is None or followed.groups == (said or _NOTHING):
        return None
    kept = followed.groups.edition
    if said is None:
        return (
            f"the registry has no groups any more: was it wiped? Edition {kept}, the last good "
            "one, stays in force\n→ 'neti registry import FILE' brings it back, if it was wiped. "
            "Otherwise define the groups anew, the first with 'neti group set NAME … --shrink'"
        )
    if not is_later(said.edition, kept, now):
        older = "older than" if said.edition < kept else "another than the"
        return (
            f"the registry's groups (edition {said.edition}) are {older} edition {kept}, which "
            f"stays in force: was it restored from a copy?{_SAY_IT_AGAIN}"
        )
    if said.shrunk and is_later(said.shrunk, kept, now):
        return None
    if fleet != followed.fleet:
        return (
            f"the groups (edition {said.edition}) are of another registry than edition {kept}, "
            f"which stays in force: was it wiped?{_SAY_IT_AGAIN}"
        )
    if kept in said.steps:
        return None  # each step from it was judged: only together they may take many out
    before = GroupIndex(followed.groups, needed, now)
    out = before.taken_out(GroupIndex(said, needed, now), members)
    if much := [str(one) for one in out if one.is_much]:
        return (
            f"edition {said.edition} of the groups takes {' and '.join(much)} out, and nobody said "
            f"that it is to be so: edition {kept} stays in force\n→ put them back, or say it again "
            "with --shrink: 'neti group set NAME … --shrink'"
        )
    return None
