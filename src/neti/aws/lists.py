"""Managed prefix lists: one of a known name in each place, its entries, and how to change them.

``plan`` is pure. A list is changed in calls of a hundred entries, each based on the version that
the call before it made. What fits into one call is atomic at AWS, so nobody is kept out in between.
A list's MaxEntries is as small as possible, because every rule that names the list counts all of
it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from neti.aws.calls import Calls, Place
from neti.aws.changes import Change
from neti.aws.weights import ENTRIES_A_LIST
from neti.errors import NetiError

ENTRIES_A_CALL: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixList:
    """``entries``: description by CIDR."""

    place: Place
    id: str
    name: str
    family: int
    version: int
    max_entries: int
    entries: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ListPlan:
    """Changes to make ``before`` and ``after`` those of rules. ``longest``: the peak of
    MaxEntries."""

    id: str
    before: tuple[Change, ...]
    after: tuple[Change, ...]
    longest: int


def read(calls: Calls, name: str) -> PrefixList | None:
    """The list of that name with its entries. NetiError when there are several."""
    filters = {"Filters": [{"Name": "prefix-list-name", "Values": [name]}]}
    found = [
        listed
        for listed in calls.pages("describe_managed_prefix_lists", filters, "PrefixLists")
        if listed["PrefixListName"] == name and not listed["State"].startswith("delete-")
    ]
    if not found:
        return None
    if len(found) > 1:
        ids = ", ".join(listed["PrefixListId"] for listed in found)
        raise NetiError(
            f"{calls.place} has {len(found)} prefix lists named {name} ({ids}): "
            "delete those that are not Neti's, or rename them"
        )
    listed = found[0]
    of_it = {"PrefixListId": listed["PrefixListId"]}
    entries = calls.pages("get_managed_prefix_list_entries", of_it, "Entries")
    return PrefixList(
        place=calls.place,
        id=listed["PrefixListId"],
        name=name,
        family=6 if listed["AddressFamily"] == "IPv6" else 4,
        version=int(listed.get("Version") or 1),
        max_entries=int(listed["MaxEntries"]),
        entries={entry["Cidr"]: entry.get("Description", "") for entry in entries},
    )


def plan(
    held: PrefixList | None, wanted: Mapping[str, str], *, place: Place, name: str, family: int
) -> ListPlan:
    if len(wanted) > ENTRIES_A_LIST:
        raise NetiError(
            f"{len(wanted)} prefixes do not fit into a prefix list, which holds "
            f"{ENTRIES_A_LIST}. Choose fewer, or widen them with --max-rules"
        )
    if held is None:
        return _created(wanted, place=place, name=name, family=family)
    add = [cidr for cidr in wanted if cidr not in held.entries]
    remove = [cidr for cidr in held.entries if cidr not in wanted]
    at_once = len(add) + len(remove) <= ENTRIES_A_CALL
    longest = max(held.max_entries, len(wanted), 0 if at_once else len(held.entries) + len(add))
    if longest > ENTRIES_A_LIST:
        raise NetiError(
            f"{held.name} would hold {longest} prefixes until the stale ones are removed, but a "
            f"list holds {ENTRIES_A_LIST}. Widen them with --max-rules, or remove the list first "
            "(--revert)"
        )
    steps = _Steps(place, held.id, name, held.version)
    grow = [steps.resize(longest)] if longest > held.max_entries else []
    if at_once:
        before = [*grow, *steps.entries(add, remove, wanted)]
        after = []
    else:
        before = [*grow, *steps.entries(add, [], wanted)]
        after = steps.entries([], remove, wanted)
    if wanted and longest > len(wanted):
        after.append(steps.resize(len(wanted)))
    return ListPlan(held.id, tuple(before), tuple(after), longest)


def deletion(held: PrefixList) -> Change:
    return Change(
        place=held.place,
        operation="delete_managed_prefix_list",
        parameters={"PrefixListId": held.id},
        means=(f"- {held.id}: delete the list {held.name} with {len(held.entries)} prefixes",),
        already=frozenset({"InvalidPrefixListID.NotFound"}),
    )


def _created(wanted: Mapping[str, str], *, place: Place, name: str, family: int) -> ListPlan:
    cidrs = list(wanted)
    placeholder = f"pl-new-{name}@{place.region}/{place.account}"
    first = cidrs[:ENTRIES_A_CALL]
    create = Change(
        place=place,
        operation="create_managed_prefix_list",
        parameters={
            "PrefixListName": name,
            "AddressFamily": f"IPv{family}",
            "MaxEntries": len(cidrs),
            "Entries": [_entry(cidr, wanted) for cidr in first],
        },
        means=(
            f"+ new prefix list {name} for {len(cidrs)} prefixes",
            *(f"+ {name}: {cidr}" for cidr in first),
        ),
        makes=placeholder,
    )
    steps = _Steps(place, placeholder, name, 1)
    more = steps.entries(cidrs[ENTRIES_A_CALL:], [], wanted)
    return ListPlan(placeholder, (create, *more), (), len(cidrs))


@dataclass(slots=True)
class _Steps:
    """Calls that change one list, each based on the version that the one before it makes."""

    place: Place
    id: str
    name: str
    version: int

    def entries(
        self, add: Sequence[str], remove: Sequence[str], wanted: Mapping[str, str]
    ) -> list[Change]:
        together = [("+", cidr) for cidr in add] + [("-", cidr) for cidr in remove]
        return [
            self._modify(together[begin : begin + ENTRIES_A_CALL], wanted)
            for begin in range(0, len(together), ENTRIES_A_CALL)
        ]

    def _modify(self, some: Sequence[tuple[str, str]], wanted: Mapping[str, str]) -> Change:
        parameters: dict[str, Any] = {"PrefixListId": self.id, "CurrentVersion": self.version}
        if adds := [_entry(cidr, wanted) for sign, cidr in some if sign == "+"]:
            parameters["AddEntries"] = adds
        if removes := [{"Cidr": cidr} for sign, cidr in some if sign == "-"]:
            parameters["RemoveEntries"] = removes
        self.version += 1
        return Change(
            place=self.place,
            operation="modify_managed_prefix_list",
            parameters=parameters,
            means=tuple(f"{sign} {self.name}: {cidr}" for sign, cidr in some),
        )

    def resize(self, entries: int) -> Change:
        return Change(
            place=self.place,
            operation="modify_managed_prefix_list",
            parameters={"PrefixListId": self.id, "MaxEntries": entries},
            means=(f"~ {self.name}: room for {entries} prefixes",),
        )


def _entry(cidr: str, wanted: Mapping[str, str]) -> dict[str, str]:
    return {"Cidr": cidr, "Description": wanted[cidr]} if wanted[cidr] else {"Cidr": cidr}
