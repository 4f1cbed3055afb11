"""What rules count against a group's quota. Pure, except for ``quota_of`` and ``list_weights``.

AWS counts the rules of each direction, and IPv4 and IPv6 separately. A CIDR is one rule in its
family. A rule that names a prefix list counts as that list's MaxEntries, used or not; one that
names a group counts in both families.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from neti.aws.calls import Calls, Place
from neti.aws.groups import Group, Rule
from neti.errors import AwsRefused, NetiError

RULES_QUOTA: Final = "L-0EA8095F"  # "Inbound or outbound rules per security group", of vpc
ENTRIES_A_LIST: Final = 1000
_AWS_LISTS: Final = {  # documented by AWS: its own lists do not report MaxEntries
    "cloudfront.origin-facing": 55,
    "route53-healthchecks": 25,
    "vpc-lattice": 10,
    "s3express": 6,
    "groundstation": 5,
    "ec2-instance-connect": 2,
    "dynamodb": 1,
    "s3": 1,
}
_UNKNOWN_AWS_LIST: Final = 55


@dataclass(frozen=True, slots=True)
class ListWeight:
    """``family`` None: unknown, so it counts in both."""

    family: int | None
    entries: int


def weight(rules: Iterable[Rule], lists: Mapping[str, ListWeight]) -> dict[int, int]:
    """How many rules AWS counts, by family."""
    total = {4: 0, 6: 0}
    for rule in rules:
        listed = lists.get(rule.source, ListWeight(rule.family, 1))
        for family in (4, 6) if listed.family is None else (listed.family,):
            total[family] += listed.entries
    return total


def refuse_over_quota(
    group: Group, before: Mapping[int, int], after: Mapping[int, int], quota: int, *, hint: str
) -> None:
    """Raises NetiError before the first call: AWS would refuse in the middle of the work."""
    for family in (4, 6):
        if after[family] > quota and after[family] > before[family]:
            raise NetiError(
                f"{group} in {group.place} would count {after[family]} inbound IPv{family} rules "
                f"({before[family]} now), but its quota is {quota}: nothing was changed. {hint}"
            )


def quota_of(calls: Calls) -> int:
    """Inbound rules per group in this account and region, according to Service Quotas."""
    parameters = {"ServiceCode": "vpc", "QuotaCode": RULES_QUOTA}
    try:
        answer = _quota(calls, "get_service_quota", parameters)
        return int(answer["Quota"]["Value"])
    except NetiError as error:
        raise NetiError(
            f"{error}\nSo the quota of rules per group is not known. Allow "
            "servicequotas:GetServiceQuota, or give the number with --quota N (AWS's default is "
            "60)"
        ) from error


def _quota(calls: Calls, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return calls.call(operation, parameters, service="service-quotas")
    except AwsRefused as error:
        # In some regions, an account that never asked for more has no value of its own.
        if error.code != "NoSuchResourceException":
            raise
        default = "get_aws_default_service_quota"
        return calls.call(default, parameters, service="service-quotas")


def quotas(places: Mapping[Place, Calls], given: int | None) -> dict[Place, int]:
    return {p: quota_of(calls) if given is None else given for p, calls in places.items()}


def list_weights(
    places: Mapping[Place, Calls], groups: Sequence[Group]
) -> dict[Place, dict[str, ListWeight]]:
    """The weight of every prefix list that the groups' rules name."""
    weights: dict[Place, dict[str, ListWeight]] = {}
    for group in groups:
        known = weights.setdefault(group.place, {})
        ids = {r.source for r in group.rules if r.source.startswith("pl-")} - known.keys()
        if ids:
            parameters = {"PrefixListIds": sorted(ids)}
            pages = places[group.place].pages(
                "describe_managed_prefix_lists", parameters, "PrefixLists"
            )
            known |= {listed["PrefixListId"]: list_weight(listed) for listed in pages}
    return weights


def list_weight(document: Mapping[str, Any]) -> ListWeight:
    """The weight of one list of DescribeManagedPrefixLists."""
    family = 6 if document.get("AddressFamily") == "IPv6" else 4
    if document.get("MaxEntries") is not None:
        return ListWeight(family, int(document["MaxEntries"]))
    name = str(document.get("PrefixListName", ""))
    known = [count for end, count in _AWS_LISTS.items() if name.endswith(f".{end}")]
    return ListWeight(family, known[0] if known else _UNKNOWN_AWS_LIST)
