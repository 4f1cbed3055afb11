"""What ``member_ports`` comes to: which groups reach which port, and how two policies differ. Pure.

A policy is what one ``member_ports`` says. None and an empty one are the same: every member reaches
everything.

Must never do: take two policies for the same because of who is in their groups.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

from neti.model.groups import EVERY_MEMBER, MemberPort, MemberPorts

Proto = Literal["tcp", "udp"]
PROTOCOLS: Final[tuple[Proto, ...]] = ("tcp", "udp")
_LAST_PORT: Final = 65535
_EVERYTHING: Final = (MemberPort((EVERY_MEMBER,)),)


@dataclass(frozen=True, slots=True)
class Segment:
    """Ports ``first`` to ``last`` (1-65535, inclusive), which the same groups reach."""

    proto: Proto
    first: int
    last: int
    groups: frozenset[str]


@dataclass(frozen=True, slots=True)
class Loss:
    """What groups reach by one policy and not by another. ``proto`` None: every protocol but TCP
    and UDP, and ``first`` and ``last`` mean nothing."""

    groups: frozenset[str]
    proto: Proto | None = None
    first: int = 0
    last: int = 0


def everywhere(ports: MemberPorts) -> frozenset[str]:
    """The groups that reach every port, and what has no ports."""
    return frozenset(
        group for one in ports or _EVERYTHING if one.proto is None for group in one.groups
    )


def admits_everybody(ports: MemberPorts) -> bool:
    """Whether every member reaches everything, so that there is nothing to look at."""
    return EVERY_MEMBER in everywhere(ports)


def segments(ports: MemberPorts) -> tuple[Segment, ...]:
    """The ports that the policy lists, without overlaps, in order. Their groups have those of
    ``everywhere`` among them; ports that no segment has are reached by those alone."""
    return tuple(one for proto in PROTOCOLS for one in _of(ports, proto))


def _of(ports: MemberPorts, proto: Proto) -> Iterator[Segment]:
    lines = [one for one in ports or () if one.proto == proto]
    always = everywhere(ports)
    held: Segment | None = None
    # Between two edges the same lines count.
    for first, after in pairwise(sorted({e for one in lines for e in (one.first, one.last + 1)})):
        here = [one for one in lines if one.first <= first <= one.last]
        if not here:
            continue
        groups = always.union(*(one.groups for one in here))
        if held is not None and held.last + 1 == first and held.groups == groups:
            held = Segment(proto, held.first, after - 1, groups)
            continue
        if held is not None:
            yield held
        held = Segment(proto, first, after - 1, groups)
    if held is not None:
        yield held


def reached_by(ports: MemberPorts, proto: str | None, port: int) -> frozenset[str]:
    """The groups that reach this port; ``EVERY_MEMBER`` may be among them. ``proto``: None and
    those without ports are for groups that reach everything."""
    groups = everywhere(ports)
    for one in ports or ():
        if one.proto is not None and one.proto == proto and one.first <= port <= one.last:
            groups = groups.union(one.groups)
    return groups


def admits(ports: MemberPorts, member_of: Collection[str], proto: str | None, port: int) -> bool:
    """Whether a member that is in these groups reaches the port."""
    groups = reached_by(ports, proto, port)
    return EVERY_MEMBER in groups or not groups.isdisjoint(member_of)


def both(one: MemberPorts, other: MemberPorts) -> MemberPorts:
    """The policy that admits what either does, in as few lines as it takes, whichever is first."""
    if admits_everybody(one) or admits_everybody(other):
        return None
    every = (*(one or ()), *(other or ()))
    always = everywhere(every)
    lines = [
        MemberPort(tuple(sorted(each.groups - always)), each.proto, each.first, each.last)
        for each in segments(every)
        if each.groups != always
    ]
    return (*lines, *((MemberPort(tuple(sorted(always))),) if always else ()))


def needed(*policies: MemberPorts) -> frozenset[str]:
    """The groups that somebody must be in for the policies to admit him."""
    named = (group for ports in policies for one in ports or () for group in one.groups)
    return frozenset(named) - {EVERY_MEMBER}


def covers(file: MemberPorts, in_force: MemberPorts) -> bool:
    """Whether ``file`` admits all that ``in_force`` does, whoever is in the groups."""
    return next(losses(file, in_force), None) is None


def same(one: MemberPorts, other: MemberPorts) -> bool:
    """Whether they admit the same, whoever is in the groups: the lines may differ."""
    return covers(one, other) and covers(other, one)


def losses(file: MemberPorts, in_force: MemberPorts) -> Iterator[Loss]:
    """What ``in_force`` admits and ``file`` does not, ports in order, then what has none."""
    if admits_everybody(file):
        return
    for proto in PROTOCOLS:
        wanted, former = list(_of(file, proto)), list(_of(in_force, proto))
        edges = {1, _LAST_PORT + 1}
        edges.update(edge for one in (*wanted, *former) for edge in (one.first, one.last + 1))
        for first, after in pairwise(sorted(edges)):
            gone = _gone(_at(wanted, file, first), _at(former, in_force, first))
            if gone:
                yield Loss(gone, proto, first, after - 1)
    gone = _gone(everywhere(file), everywhere(in_force))
    if gone:
        yield Loss(gone)


def _at(held: list[Segment], ports: MemberPorts, port: int) -> frozenset[str]:
    place = bisect_right(held, port, key=lambda one: one.first) - 1
    if place >= 0 and held[place].first <= port <= held[place].last:
        return held[place].groups
    return everywhere(ports)


def _gone(wanted: frozenset[str], former: frozenset[str]) -> frozenset[str]:
    if EVERY_MEMBER in wanted:
        return frozenset()
    return frozenset({EVERY_MEMBER}) if EVERY_MEMBER in former else former - wanted
