"""Security groups as values: what they let in, and how a rule is written for AWS. Pure.

A rule is Neti's own when its description begins with the mark of the command that made it, or when
it names a prefix list of that command. All others are foreign; no plan removes them.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any, Final

from neti.aws.calls import Calls, Place
from neti.errors import NetiError

_NOT_ALLOWED: Final = re.compile(r"[^a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]")
GROUP_ID: Final = re.compile(r"sg-[0-9a-f]+")
_MAX_DESCRIPTION: Final = 255
_RANGES: Final = (("IpRanges", "CidrIp"), ("Ipv6Ranges", "CidrIpv6"))


class NoSuchGroup(NetiError):
    """The group is in none of the accounts and regions that were asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: what a group lets in. ``source``: a CIDR, a prefix list's id, or a group's id;
    ``first`` and ``last``: ports, or type and code of ICMP, -1 for any. The description does not
    count when rules are compared."""

    protocol: str
    first: int
    last: int
    source: str
    description: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{_words(self.protocol, self.first, self.last)} from {self.source}"

    @property
    def family(self) -> int | None:
        """4 or 6; None if the source is not a CIDR."""
        if self.source.startswith(("pl-", "sg-")):
            return None
        return 6 if ":" in self.source else 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    place: Place
    id: str
    name: str = ""
    vpc_id: str = ""
    rules: tuple[Rule, ...] = ()

    def __str__(self) -> str:
        return f"{self.id} ({self.name})" if self.name else self.id


@dataclass(frozen=True, slots=True)
class Difference:
    """From what a group lets in to what it should let in. ``foreign``: wanted and there, but
    without this mark, so left alone, even when all rules with the mark are removed."""

    add: tuple[Rule, ...]
    remove: tuple[Rule, ...]
    foreign: tuple[Rule, ...]


def description(mark: str, words: str) -> str:
    """A description that AWS accepts and that identifies the rule later."""
    return _NOT_ALLOWED.sub("_", f"{mark}: {words}" if words else mark)[:_MAX_DESCRIPTION]


def is_marked(rule: Rule, mark: str) -> bool:
    return rule.description == mark or rule.description.startswith(f"{mark}:")


def difference(
    group: Group, wanted: Iterable[Rule], mark: str, *, own_lists: Collection[str] = ()
) -> Difference:
    """``own_lists``: the mark's prefix lists; a rule that names one has the mark too."""

    def ours(rule: Rule) -> bool:
        return is_marked(rule, mark) or rule.source in own_lists

    held = {rule: rule for rule in group.rules}
    goal = {rule: rule for rule in wanted}
    return Difference(
        add=tuple(rule for rule in goal if rule not in held),
        remove=tuple(rule for rule in group.rules if ours(rule) and rule not in goal),
        foreign=tuple(held[rule] for rule in goal if rule in held and not ours(held[rule])),
    )


def parse(document: Mapping[str, Any], place: Place) -> Group:
    """One group of DescribeSecurityGroups."""
    return Group(
        place=place,
        id=document["GroupId"],
        name=document.get("GroupName", ""),
        vpc_id=document.get("VpcId", ""),
        rules=tuple(r for p in document.get("IpPermissions", ()) for r in _rules(p)),
    )


def _rules(permission: Mapping[str, Any]) -> Iterator[Rule]:
    for source, text in _sources(permission):
        yield Rule(
            protocol=permission["IpProtocol"],
            first=permission.get("FromPort", -1),
            last=permission.get("ToPort", -1),
            source=source,
            description=text or "",
        )


def _sources(permission: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, inner in _RANGES:
        for item in permission.get(key, ()):
            yield str(ip_network(item[inner], strict=False)), item.get("Description", "")
    for item in permission.get("UserIdGroupPairs", ()):
        yield item["GroupId"], item.get("Description", "")
    for item in permission.get("PrefixListIds", ()):
        yield item["PrefixListId"], item.get("Description", "")


def permissions(rules: Iterable[Rule], *, described: bool = True) -> list[dict[str, Any]]:
    """The rules as AWS's IpPermissions, one for each protocol and ports."""
    gathered: dict[tuple[str, int, int], dict[str, Any]] = {}
    for rule in rules:
        key = (rule.protocol, rule.first, rule.last)
        permission = gathered.setdefault(key, {"IpProtocol": rule.protocol})
        if rule.protocol != "-1":
            permission |= {"FromPort": rule.first, "ToPort": rule.last}
        place, name = _written(rule)
        item = {name: rule.source}
        if described and rule.description:
            item["Description"] = rule.description
        permission.setdefault(place, []).append(item)
    return list(gathered.values())


def _written(rule: Rule) -> tuple[str, str]:
    if rule.source.startswith("pl-"):
        return "PrefixListIds", "PrefixListId"
    if rule.source.startswith("sg-"):
        return "UserIdGroupPairs", "GroupId"
    return _RANGES[0] if rule.family == 4 else _RANGES[1]


def find(places: Sequence[Calls], wanted: str, *, vpc_ids: Sequence[str] = ()) -> list[Group]:
    """The groups that ``wanted`` names (an id, or tag:KEY=VALUE), in any of the places."""
    from neti.aws.calls import everywhere

    filters = _filters(wanted, vpc_ids)

    def read(calls: Calls) -> list[Group]:
        found = calls.pages("describe_security_groups", {"Filters": filters}, "SecurityGroups")
        return [parse(document, calls.place) for document in found]

    groups = {group.id: group for found in everywhere(places, read) for group in found}
    if not groups:
        looked = ", ".join(str(calls.place) for calls in places)
        within = f" within {', '.join(vpc_ids)}" if vpc_ids else ""
        raise NoSuchGroup(
            f"there is no security group {wanted}{within} in {looked}. Check the spelling, and "
            "give every account and region with --profile, --role-arn and --region"
        )
    return sorted(groups.values(), key=lambda group: (group.place, group.id))


def existing(places: Sequence[Calls], ids: Collection[str]) -> set[str]:
    """Which of these groups exist, in any of the places."""
    from neti.aws.calls import everywhere

    if not ids:
        return set()
    filters = {"Filters": [{"Name": "group-id", "Values": sorted(ids)}]}

    def read(calls: Calls) -> set[str]:
        found = calls.pages("describe_security_groups", filters, "SecurityGroups")
        return {document["GroupId"] for document in found}

    return set().union(*everywhere(places, read))


def find_one(places: Sequence[Calls], wanted: str) -> Group:
    groups = find(places, wanted)
    if len(groups) > 1:
        which = ", ".join(f"{group} in {group.place}" for group in groups)
        raise NetiError(
            f"{wanted} matches {len(groups)} security groups ({which}): give the id of one"
        )
    return groups[0]


def _filters(wanted: str, vpc_ids: Sequence[str]) -> list[dict[str, Any]]:
    if wanted.startswith("tag:"):
        key, equals, value = wanted.removeprefix("tag:").partition("=")
        if not (key and equals and value):
            raise NetiError(f"{wanted!r} is not a tag: expected tag:KEY=VALUE")
        filters = [{"Name": f"tag:{key}", "Values": [value]}]
    elif GROUP_ID.fullmatch(wanted):
        filters = [{"Name": "group-id", "Values": [wanted]}]
    else:
        raise NetiError(f"{wanted!r} is not a security group: expected sg-… or tag:KEY=VALUE")
    if vpc_ids:
        filters.append({"Name": "vpc-id", "Values": list(vpc_ids)})
    return filters


def _words(protocol: str, first: int, last: int) -> str:
    if protocol == "-1":
        return "everything"
    if protocol in ("icmp", "icmpv6") and (protocol, first, last) in _ICMP_NAMES:
        return f"{protocol} {_ICMP_NAMES[protocol, first, last]}"
    if (first, last) in ((0, 65535), (-1, -1)):
        return f"{protocol} all"
    return f"{protocol} {first}" if first == last else f"{protocol} {first}-{last}"


_ICMP_NAMES: Final = {
    ("icmp", 3, 4): "fragmentation needed",
    ("icmpv6", 2, 0): "packet too big",
}
