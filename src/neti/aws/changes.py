"""Changes to make at AWS, as inert values that print exactly what would be called. Pure.

A change is one call. When AWS refuses a whole batch because of one rule in it (somebody else has
added or removed that rule meanwhile), ``parts`` are the same change in single steps.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from neti.aws.calls import Place
from neti.aws.groups import Difference, Group, Rule, permissions

RULES_A_CALL: Final = 50
_THERE: Final = frozenset({"InvalidPermission.Duplicate"})
_GONE: Final = frozenset({"InvalidPermission.NotFound", "InvalidSecurityGroupRuleId.NotFound"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """``means``: one line per effect. ``already``: AWS error codes that mean there is nothing left
    to do. ``makes``: the name by which later changes refer to what this one creates."""

    place: Place
    operation: str
    parameters: Mapping[str, Any]
    means: tuple[str, ...]
    already: frozenset[str] = frozenset()
    parts: tuple["Change", ...] = ()
    makes: str | None = None

    def __str__(self) -> str:
        """The call as a command of the AWS CLI."""
        words = self.operation.replace("_", "-")
        return (
            f"aws ec2 {words} --region {self.place.region} "
            f"--cli-input-json '{json.dumps(self.parameters)}'"
        )

    def document(self) -> dict[str, Any]:
        return {
            "account": self.place.account,
            "region": self.place.region,
            "operation": self.operation,
            "parameters": dict(self.parameters),
            "means": list(self.means),
        }


def additions(group: Group, rules: Sequence[Rule]) -> list[Change]:
    return _rule_changes(group, rules, "authorize_security_group_ingress", "+", _THERE)


def removals(group: Group, rules: Sequence[Rule]) -> list[Change]:
    return _rule_changes(group, rules, "revoke_security_group_ingress", "-", _GONE)


def descriptions(group: Group, rules: Sequence[Rule]) -> list[Change]:
    """Marks existing rules as ours by their description. Nobody is kept out meanwhile."""
    return _rule_changes(group, rules, "update_security_group_rule_descriptions_ingress", "~", ())


def of_group(group: Group, difference: Difference, *, remove_first: bool = False) -> list[Change]:
    """Adds missing rules before it removes stale ones, so that nobody is kept out meanwhile."""
    adds, removes = additions(group, difference.add), removals(group, difference.remove)
    return [*removes, *adds] if remove_first else [*adds, *removes]


def _rule_changes(
    group: Group, rules: Sequence[Rule], operation: str, sign: str, already: Collection[str]
) -> list[Change]:
    def change(some: Sequence[Rule], parts: tuple[Change, ...] = ()) -> Change:
        return Change(
            place=group.place,
            operation=operation,
            parameters={
                "GroupId": group.id,
                "IpPermissions": permissions(some, described=sign != "-"),
            },
            means=tuple(f"{sign} {group.id}: {_told(rule)}" for rule in some),
            already=frozenset(already),
            parts=parts,
        )

    changes = []
    for begin in range(0, len(rules), RULES_A_CALL):
        some = rules[begin : begin + RULES_A_CALL]
        singles = tuple(change([rule]) for rule in some) if len(some) > 1 else ()
        changes.append(change(some, singles))
    return changes


def _told(rule: Rule) -> str:
    return f"{rule}  [{rule.description}]" if rule.description else str(rule)
