"""What AWS holds that ``neti aws ip-ranges`` compares with: groups, lists, weights. Reads only."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from neti.aws import lists, weights
from neti.aws.calls import Calls, Place
from neti.aws.groups import Group, NoSuchGroup, find, is_marked
from neti.aws.ip_ranges import Shape
from neti.aws.lists import PrefixList
from neti.aws.weights import ListWeight
from neti.errors import NetiError


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """``used_elsewhere``: ids of lists that groups outside this run also refer to."""

    mark: str
    groups: Sequence[Group]
    lists: Mapping[Place, Sequence[PrefixList]]
    weights: Mapping[Place, Mapping[str, ListWeight]] = field(default_factory=dict)
    used_elsewhere: frozenset[str] = frozenset()

    def described(self, group: Group) -> dict[str, str]:
        """Our sources in the group, from rules or from lists, with their descriptions."""
        named = {rule.source for rule in group.rules}
        marked = [rule for rule in group.rules if is_marked(rule, self.mark)]
        told = {rule.source: rule.description for rule in marked if rule.family is not None}
        for one in self.lists.get(group.place, ()):
            if one.id in named:
                told |= one.entries
        return told


def groups(
    places: Sequence[Calls],
    wanted: Sequence[str],
    vpc_ids: Sequence[str],
    *,
    missing: Callable[[NetiError], None] | None = None,
) -> list[Group]:
    """Each once, in the order of places. ``vpc_ids`` restrict tags, not ids. ``missing`` is called
    with those that do not exist; without it, that is an error."""
    found: dict[str, Group] = {}
    for one in wanted:
        within = vpc_ids if one.startswith("tag:") else ()
        try:
            found |= {group.id: group for group in find(places, one, vpc_ids=within)}
        except NoSuchGroup as error:
            if missing is None:
                raise
            missing(error)
    return sorted(found.values(), key=lambda group: (group.place, group.id))


def read(
    places: Sequence[Calls], found: Sequence[Group], shape: Shape, *, all_lists: bool = False
) -> Held:
    """Only places that have one of the groups are read. With ``all_lists``, lists are read
    everywhere, because deleted groups have left theirs behind."""
    by_place = {calls.place: calls for calls in places} if all_lists else _of(places, found)
    own: dict[Place, list[PrefixList]] = {}
    elsewhere: set[str] = set()
    for place, calls in by_place.items():
        named = [lists.read(calls, shape.list_name(family)) for family in (4, 6)]
        own[place] = [one for one in named if one is not None]
        elsewhere |= _used_elsewhere(calls, own[place], found)
    known = {
        place: held | {one.id: ListWeight(one.family, one.max_entries) for one in own[place]}
        for place, held in _weights(by_place, found).items()
    }
    return Held(
        mark=shape.mark,
        groups=found,
        lists=own,
        weights=known,
        used_elsewhere=frozenset(elsewhere),
    )


def quotas(places: Sequence[Calls], found: Sequence[Group], given: int | None) -> dict[Place, int]:
    return weights.quotas(_of(places, found), given)


def _weights(
    by_place: Mapping[Place, Calls], found: Sequence[Group]
) -> dict[Place, dict[str, ListWeight]]:
    held = weights.list_weights(by_place, found)
    return {place: held.get(place, {}) for place in by_place}


def _of(places: Sequence[Calls], found: Sequence[Group]) -> dict[Place, Calls]:
    wanted = {group.place for group in found}
    return {calls.place: calls for calls in places if calls.place in wanted}


def _used_elsewhere(calls: Calls, own: Sequence[PrefixList], found: Sequence[Group]) -> set[str]:
    if not own:
        return set()
    ids = [one.id for one in own]
    named = {group.id for group in found}
    parameters = {"Filters": [{"Name": "ip-permission.prefix-list-id", "Values": ids}]}
    users = calls.pages("describe_security_groups", parameters, "SecurityGroups")
    return {
        item["PrefixListId"]
        for user in users
        if user["GroupId"] not in named
        for permission in user.get("IpPermissions", ())
        for item in permission.get("PrefixListIds", ())
        if item["PrefixListId"] in ids
    }
