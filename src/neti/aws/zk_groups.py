"""The two groups of a ZooKeeper ensemble and its proxies: each lets in the other's addresses. Pure
except for ``members``, which reads who is in a group.

Rules for a group that is gone stay until the operator says that it is gone: an account that was not
asked may have it. Must never remove a rule before its replacement exists, or the last one that
works.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Any, Final

from neti.aws.calls import Calls
from neti.aws.changes import Change, descriptions, of_group
from neti.aws.groups import Difference, Group, Rule, description, difference
from neti.errors import NetiError
from neti.model.settings import Settings

MARK: Final = "neti zk-groups"
_MARKED: Final = re.compile(rf"{MARK} (sg-[0-9a-f]+)(?::|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMember:
    """A network interface in the group. ``publics``: Elastic and plain public addresses."""

    id: str
    name: str
    publics: tuple[IPv4Address, ...]

    def __str__(self) -> str:
        return f"{self.name} ({self.id})" if self.name else self.id


@dataclass(frozen=True, slots=True)
class Side:
    """``role``: "ensemble" or "proxies", for messages."""

    role: str
    group: Group
    members: tuple[GroupMember, ...]


@dataclass(frozen=True, slots=True)
class ZkPlan:
    changes: tuple[Change, ...]
    differences: tuple[tuple[Side, Difference], ...]
    warnings: tuple[str, ...] = field(default=())


def plan(
    ensemble: Side,
    proxies: Side,
    ports: Sequence[int],
    *,
    allow_empty: bool = False,
    gone: Collection[str] = (),
) -> ZkPlan:
    """Additions on both sides come before removals on either. ``gone``: groups that no longer
    exist. Their rules are removed, or adopted if the same address is wanted again.

    Raises NetiError if a side would be left without any address of the other's.
    """
    pairs = []
    adopted: list[Change] = []
    for side, other in ((ensemble, proxies), (proxies, ensemble)):
        wanted = wanted_rules(side.group, other, ports)
        differs = difference(side.group, wanted, mark(other.group))
        former = [rule for rule in side.group.rules if former_of(rule) in gone]
        again = [rule for rule in wanted if rule in former]
        adopted += descriptions(side.group, again)
        stale = tuple(rule for rule in former if rule not in again)
        foreign = tuple(rule for rule in differs.foreign if rule not in again)
        pairs.append((side, replace(differs, remove=differs.remove + stale, foreign=foreign)))
    if not allow_empty:
        for (side, differs), other in zip(pairs, (proxies, ensemble), strict=True):
            _refuse_last(side, other, differs)
    adds = [c for s, d in pairs for c in of_group(s.group, Difference(d.add, (), ()))]
    removes = [c for s, d in pairs for c in of_group(s.group, Difference((), d.remove, ()))]
    warnings = tuple(_warnings((ensemble, proxies)))
    return ZkPlan((*adds, *adopted, *removes), tuple(pairs), warnings)


def plan_gone(side: Side, gone: Collection[str], *, allow_empty: bool = False) -> ZkPlan:
    """Only removes what is left of groups that no longer exist."""
    stale = tuple(rule for rule in side.group.rules if former_of(rule) in gone)
    stays = [rule for rule in side.group.rules if former_of(rule) and rule not in stale]
    if stale and not stays and not allow_empty:
        raise NetiError(
            f"this would remove the last rules of this command from {side.role} {side.group}: "
            "nothing was changed. Name the group that replaces the one that is gone, or add "
            "--allow-empty"
        )
    differs = Difference((), stale, ())
    return ZkPlan(tuple(of_group(side.group, differs)), ((side, differs),))


def former_of(rule: Rule) -> str | None:
    """The id of the group whose members a rule of this command lets in."""
    match = _MARKED.match(rule.description)
    return match[1] if match is not None else None


def leftovers(side: Side, there: Collection[str]) -> dict[str, int]:
    """Groups that no longer exist, and how many rules still let them in."""
    found: dict[str, int] = {}
    for rule in side.group.rules:
        group = former_of(rule)
        if group is not None and group not in there:
            found[group] = found.get(group, 0) + 1
    return found


def mark(other: Group) -> str:
    """The mark names the group that is let in, so that one ensemble can have proxies in several
    sites."""
    return f"{MARK} {other.id}"


def wanted_rules(group: Group, other: Side, ports: Sequence[int]) -> list[Rule]:
    return [
        Rule(
            protocol="tcp",
            first=port,
            last=port,
            source=f"{address}/32",
            description=description(mark(other.group), str(member)),
        )
        for port in ports
        for member in other.members
        for address in member.publics
    ]


def ports_of(settings: Settings) -> list[int]:
    """The ZooKeeper port of the configuration; NetiError when it has none or several."""
    ports = {
        int(server.rpartition(":")[2])
        for servers in settings.zk_hosts.values()
        for server in servers
    }
    if len(ports) != 1:
        seen = f"names the ports {', '.join(map(str, sorted(ports)))}" if ports else "names no port"
        raise NetiError(
            f"zk_hosts in {settings.path} {seen}: give the port with --port (repeatable)"
        )
    return sorted(ports)


def members(calls: Calls, group: Group) -> tuple[GroupMember, ...]:
    """Who is in the group, by network interface: instances in any state (a stopped one keeps its
    Elastic address), and load balancers."""
    filters = {"Filters": [{"Name": "group-id", "Values": [group.id]}]}
    interfaces = list(calls.pages("describe_network_interfaces", filters, "NetworkInterfaces"))
    ids = sorted({i for i in map(_instance_id, interfaces) if i is not None})
    names = _names(calls, ids)
    found = [_member(interface, names) for interface in interfaces]
    return tuple(sorted(found, key=lambda member: (member.name, member.id)))


def _member(interface: dict[str, Any], names: dict[str, str]) -> GroupMember:
    instance = _instance_id(interface)
    associations = [interface.get("Association"), *_secondary(interface)]
    publics = [IPv4Address(a["PublicIp"]) for a in associations if a and a.get("PublicIp")]
    return GroupMember(
        id=instance or interface["NetworkInterfaceId"],
        name=names.get(instance or "", "") or interface.get("Description", "")[:60],
        publics=tuple(dict.fromkeys(publics)),
    )


def _secondary(interface: dict[str, Any]) -> Iterable[dict[str, Any] | None]:
    return (address.get("Association") for address in interface.get("PrivateIpAddresses", ()))


def _instance_id(interface: dict[str, Any]) -> str | None:
    instance: str | None = (interface.get("Attachment") or {}).get("InstanceId")
    return instance


def _names(calls: Calls, ids: Sequence[str]) -> dict[str, str]:
    if not ids:
        return {}
    filters = {"Filters": [{"Name": "instance-id", "Values": list(ids)}]}
    names = {}
    for reservation in calls.pages("describe_instances", filters, "Reservations"):
        for instance in reservation["Instances"]:
            tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", ())}
            names[instance["InstanceId"]] = tags.get("Name", "")
    return names


def _refuse_last(side: Side, other: Side, differs: Difference) -> None:
    if any(member.publics for member in other.members):
        return
    if differs.remove:
        raise NetiError(
            f"{other.role} {other.group} has no member with a public address, so the last "
            f"{len(differs.remove)} working rules of {side.role} {side.group} would be removed "
            "and ZooKeeper cut off: nothing was changed. Is it the right group and account? If "
            f"the {other.role} are really gone, add --allow-empty"
        )


def _warnings(sides: Sequence[Side]) -> Iterable[str]:
    for side in sides:
        if not side.members:
            yield f"{side.role} {side.group} has no members, so there is nothing to let in for it"
        for member in side.members:
            if not member.publics:
                yield (
                    f"{side.role} {member} has no public address, so the other side cannot let it "
                    "in: associate an Elastic address with it"
                )
