"""What ``neti aws ip-ranges`` lets in, and the changes to get there and back. Pure.

"Ours" is a rule with the mark of AWS's ranges, or of the fleet, and the prefix list of that name. A
revert removes everything with the one mark, whatever state an earlier run left, and nothing else.
The rule for path MTU goes with the last of all marks.

Between sites that encrypt one UDP port is enough. Its rules have marks of their own, because during
the move both are needed: one comes, then the other goes. So do those for the groups of gateways.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from neti.aws import changes, lists
from neti.aws.calls import Place
from neti.aws.changes import Change
from neti.aws.groups import Difference, Group, Rule, description, difference, is_marked
from neti.aws.lists import ListPlan, PrefixList
from neti.aws.prefixes import aggregate, widen
from neti.aws.weights import ListWeight, refuse_over_quota, weight
from neti.errors import NetiError
from neti.model.settings import IPNetwork

RANGES: Final = "neti ip-ranges"
FLEET: Final = "neti fleet"
TUNNEL_RANGES: Final = "neti tunnel ranges"
TUNNEL_FLEET: Final = "neti tunnel"
GATEWAYS: Final = "neti gateways"
MARKS: Final = (RANGES, FLEET, TUNNEL_RANGES, TUNNEL_FLEET, GATEWAYS)
PATH_MTU: Final = "neti path MTU"  # shared by all marks, because AWS holds a rule only once
_ICMP: Final = {4: ("icmp", 3, 4, "0.0.0.0/0"), 6: ("icmpv6", 2, 0, "::/0")}
_MAX_DESCRIPTION: Final = 200

Protocol = Literal["tcp", "udp", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How sources become rules. ``max_rules``: how many may count against a group's quota, per
    family; None: as many as it takes."""

    mark: str
    protocols: tuple[Protocol, ...] = ("tcp", "udp")
    first_port: int = 0
    last_port: int = 65535
    as_list: bool = False
    max_rules: int | None = None

    def lets_in(self, port: int) -> bool:
        """Whether UDP to this port is among it."""
        if "all" in self.protocols:
            return True
        return "udp" in self.protocols and self.first_port <= port <= self.last_port

    def list_name(self, family: int) -> str:
        return f"{self.mark.replace(' ', '-')}-ipv{family}"

    def room(self) -> int | None:
        """How many prefixes of a family fit ``max_rules``."""
        if self.max_rules is None:
            return None
        room = (self.max_rules - 1) // len(self.protocols)
        if room < 1:
            raise NetiError(
                f"--max-rules {self.max_rules} is too few: one prefix takes "
                f"{len(self.protocols)}, and ICMP 'fragmentation needed' one more"
            )
        return room


@dataclass(frozen=True, slots=True)
class Sources:
    """What is let in, of one family: a description by CIDR. ``asked``: how many addresses were
    asked for; ``surplus``: how many more the CIDRs cover."""

    family: int
    cidrs: Mapping[str, str]
    asked: int
    surplus: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    changes: tuple[Change, ...]
    foreign: tuple[tuple[Group, Rule], ...] = ()
    removed: int = 0


def sources(
    networks: Iterable[IPNetwork], family: int, words: str, shape: Shape, *, exact: bool = True
) -> Sources:
    """Prefixes for the networks: aggregated, and widened where ``max_rules`` asks for fewer."""
    joined = aggregate(networks)
    asked = sum(network.num_addresses for network in joined)
    room = shape.room()
    if room is None or len(joined) <= room:
        told = description(shape.mark, words)[:_MAX_DESCRIPTION]
        return Sources(family, {str(network): told for network in joined}, asked)
    widened = widen(joined, room)
    held = set(joined)
    return Sources(
        family,
        {
            str(network): description(
                shape.mark, words if network in held else f"{words}, widened"
            )[:_MAX_DESCRIPTION]
            for network in widened.prefixes
        },
        asked,
        widened.surplus,
    )


def rules_for(names: Iterable[str], described: Mapping[str, str], shape: Shape) -> list[Rule]:
    """A rule for each protocol and source (a CIDR or a prefix list)."""
    return [
        Rule(
            protocol="-1" if protocol == "all" else protocol,
            first=-1 if protocol == "all" else shape.first_port,
            last=-1 if protocol == "all" else shape.last_port,
            source=name,
            description=described.get(name, shape.mark),
        )
        for protocol in shape.protocols
        for name in names
    ]


def path_mtu_rule(family: int) -> Rule:
    """Any router on the way may send this, so it is let in from anywhere. It opens no port."""
    protocol, kind, code, anywhere = _ICMP[family]
    return Rule(
        protocol=protocol,
        first=kind,
        last=code,
        source=anywhere,
        description=description(PATH_MTU, "fragmentation needed, from any router on the way"),
    )


def plan(
    groups: Sequence[Group],
    wanted: Mapping[str, Sequence[Sources]],
    held: Mapping[Place, Sequence[PrefixList]],
    shape: Shape,
    *,
    quotas: Mapping[Place, int],
    weights: Mapping[Place, Mapping[str, ListWeight]],
    remove_first: bool = False,
    used_elsewhere: frozenset[str] = frozenset(),
) -> Plan:
    """The changes from what is to what should be. ``wanted``: by group id. With prefix lists, all
    groups of a place must have the same sources. Raises NetiError over quota, before any change."""
    listed = _list_plans(groups, wanted, held, shape) if shape.as_list else {}
    _refuse_shared(listed.values(), used_elsewhere)
    differences = []
    for group in groups:
        own = {
            source.family: listed.get((group.place, source.family)) for source in wanted[group.id]
        }
        goal = _rules(wanted[group.id], own, shape)
        differs = difference(group, goal, shape.mark, own_lists=_ids(held, group.place))
        known = dict(weights.get(group.place, {}))
        for family, made in own.items():
            if made is not None:
                known[made.id] = ListWeight(family, made.longest)
        _refuse(group, differs, shape, weights.get(group.place, {}), known, quotas, remove_first)
        differences.append((group, differs))
    before = [change for made in listed.values() for change in made.before]
    after = [change for made in listed.values() for change in made.after]
    rules = _ordered(differences, remove_first)
    kept = {made.id for made in listed.values()} | used_elsewhere
    unused = [lists.deletion(one) for many in held.values() for one in many if one.id not in kept]
    return Plan(
        (*before, *rules, *after, *unused),
        tuple(
            (group, rule)
            for group, differs in differences
            for rule in differs.foreign
            if not is_marked(rule, PATH_MTU)
        ),
        sum(len(differs.remove) for _, differs in differences),
    )


def revert(
    groups: Sequence[Group],
    held: Mapping[Place, Sequence[PrefixList]],
    mark: str,
    used_elsewhere: frozenset[str],
) -> Plan:
    """Removes everything with the mark, rules before the lists that they name."""
    rules: list[Change] = []
    removed = 0
    for group in groups:
        gone = difference(group, (), mark, own_lists=_ids(held, group.place)).remove
        stays = [rule for rule in group.rules if rule not in gone]
        if not any(is_marked(rule, other) for rule in stays for other in MARKS):
            gone += tuple(rule for rule in stays if is_marked(rule, PATH_MTU))
        rules += changes.removals(group, gone)
        removed += len(gone)
    unused = [
        lists.deletion(one)
        for many in held.values()
        for one in many
        if one.id not in used_elsewhere
    ]
    return Plan((*rules, *unused), removed=removed)


def _ids(held: Mapping[Place, Sequence[PrefixList]], place: Place) -> frozenset[str]:
    return frozenset(one.id for one in held.get(place, ()))


def _list_plans(
    groups: Sequence[Group],
    wanted: Mapping[str, Sequence[Sources]],
    held: Mapping[Place, Sequence[PrefixList]],
    shape: Shape,
) -> dict[tuple[Place, int], ListPlan]:
    plans: dict[tuple[Place, int], ListPlan] = {}
    wished: dict[tuple[Place, int], Mapping[str, str]] = {}
    for group in groups:
        for source in wanted[group.id]:
            key = (group.place, source.family)
            if wished.setdefault(key, source.cidrs).keys() != source.cidrs.keys():
                raise NetiError(
                    f"the groups in {group.place} belong to different sites and need different "
                    "sources, but they would share one prefix list. Do one --site at a time "
                    "with --as rules"
                )
            if key in plans or not source.cidrs:
                continue
            there = [one for one in held.get(group.place, ()) if one.family == source.family]
            plans[key] = lists.plan(
                there[0] if there else None,
                source.cidrs,
                place=group.place,
                name=shape.list_name(source.family),
                family=source.family,
            )
    return plans


def _refuse_shared(listed: Iterable[ListPlan], used_elsewhere: frozenset[str]) -> None:
    for made in listed:
        if made.id in used_elsewhere and (made.before or made.after):
            raise NetiError(
                f"the prefix list {made.id} would change, but groups that were not named use it "
                "too. Name all of them with --group, or remove it from those first (--revert)"
            )


def _rules(
    wanted: Sequence[Sources], own: Mapping[int, ListPlan | None], shape: Shape
) -> list[Rule]:
    rules: list[Rule] = []
    for source in wanted:
        made = own.get(source.family)
        names = list(source.cidrs) if made is None else [made.id]
        if names:
            rules += rules_for(names, source.cidrs, shape)
            rules.append(path_mtu_rule(source.family))
    return rules


def _refuse(
    group: Group,
    differs: Difference,
    shape: Shape,
    before: Mapping[str, ListWeight],
    after: Mapping[str, ListWeight],
    quotas: Mapping[Place, int],
    remove_first: bool,
) -> None:
    kept = [r for r in group.rules if not (remove_first and r in differs.remove)]
    at_peak = weight([*kept, *differs.add], after)
    quota = quotas[group.place]
    stays = [r for r in group.rules if r not in differs.remove]
    at_end = weight([*stays, *differs.add], after)
    foreign = [r for r in group.rules if not (is_marked(r, shape.mark) or is_marked(r, PATH_MTU))]
    free = quota - max(weight(foreign, before).values())
    hint = (
        "It would fit without the stale rules: --remove-first removes those first, so that for a "
        "moment neither is there"
        if all(count <= quota for count in at_end.values())
        else _ways_out(shape, free)
    )
    refuse_over_quota(group, weight(group.rules, before), at_peak, quota, hint=hint)


def _ways_out(shape: Shape, free: int) -> str:
    """Only options that fit the command as given and that would help."""
    ways = []
    if shape.mark in (RANGES, TUNNEL_RANGES):
        ways.append("choose fewer (--range-region, --border-group)")
    if shape.protocols != ("all",) and shape.mark in (RANGES, FLEET):
        ways.append("let in all protocols with one rule (--protocol all)")
    if free > len(shape.protocols) and (shape.max_rules is None or shape.max_rules > free):
        ways.append(f"widen (--max-rules {free})")
    ways.append("ask AWS to raise the quota")
    text = ", ".join(ways[:-1]) + (", or " if len(ways) > 1 else "") + ways[-1]
    return text[0].upper() + text[1:]


def _ordered(differences: Sequence[tuple[Group, Difference]], remove_first: bool) -> list[Change]:
    adds = [c for group, differs in differences for c in changes.additions(group, differs.add)]
    removes = [c for group, differs in differences for c in changes.removals(group, differs.remove)]
    return [*removes, *adds] if remove_first else [*adds, *removes]
