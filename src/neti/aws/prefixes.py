"""Sets of addresses as CIDR prefixes: exact aggregation, and widening to fewer prefixes.

Pure. ``widen`` is optimal: no other choice of that many prefixes covers the same addresses with
fewer surplus ones. It is a dynamic program over the binary tree of prefixes, in which only
branching points matter: for each, the least surplus with 1, 2, … prefixes below it. A greedy merge
is not optimal, because one split may gain nothing alone and much together with the next.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import Final, cast

from neti.model.settings import IPNetwork

_BITS: Final = {4: 32, 6: 128}


@dataclass(frozen=True, slots=True)
class Widened:
    """``surplus``: how many addresses the prefixes cover that were not asked for."""

    prefixes: tuple[IPNetwork, ...]
    surplus: int


@dataclass(slots=True)
class _Node:
    """The smallest prefix around all asked-for prefixes below it. ``least[k - 1]`` is the least
    surplus with exactly k prefixes, and ``left[k - 1]`` how many of those are in the left half
    (0: the node itself is the one)."""

    base: int
    size: int
    asked: int
    least: list[int]
    left: list[int]
    halves: "tuple[_Node, _Node] | None" = None


def aggregate(networks: Iterable[IPNetwork]) -> tuple[IPNetwork, ...]:
    """The same addresses in the fewest prefixes. All of one family."""
    # ipaddress types this for either family, but not for a union of both.
    collapsed = collapse_addresses(cast("Iterable[IPv4Network]", networks))
    return tuple(cast("Iterable[IPNetwork]", collapsed))


def widen(networks: Iterable[IPNetwork], at_most: int) -> Widened:
    """Prefixes that cover all of ``networks``, ``at_most`` in number, with the least surplus."""
    if at_most < 1:
        raise ValueError("at least one prefix is needed")
    exact = aggregate(networks)
    if len(exact) <= at_most:
        return Widened(exact, 0)
    version = exact[0].version
    root = _tree(exact, at_most)
    best = min(range(len(root.least)), key=lambda count: root.least[count])
    return Widened(tuple(_chosen(root, best, version)), root.least[best])


def _tree(exact: Sequence[IPNetwork], at_most: int) -> _Node:
    """The tree above sorted, disjoint prefixes, built from the left. The stack holds the path from
    the root to the last leaf."""
    stack: list[_Node] = []
    for network in exact:
        leaf = _Node(int(network.network_address), network.num_addresses, 0, [0], [0])
        leaf.asked = leaf.size
        # Nodes wholly below the point where the new leaf branches off are complete.
        while len(stack) >= 2 and _around(stack[-2], stack[-1]) < _around(stack[-1], leaf):
            right = stack.pop()
            stack.append(_joined(stack.pop(), right, at_most))
        stack.append(leaf)
    while len(stack) >= 2:
        right = stack.pop()
        stack.append(_joined(stack.pop(), right, at_most))
    return stack[0]


def _around(one: _Node, other: _Node) -> int:
    """The size of the smallest prefix that contains both."""
    last = other.base + other.size - 1
    return int(1 << (one.base ^ last).bit_length())


def _joined(left: _Node, right: _Node, at_most: int) -> _Node:
    size = _around(left, right)
    asked = left.asked + right.asked
    counts = min(len(left.least) + len(right.least), at_most)
    least, shares = [size - asked], [0]
    for count in range(2, counts + 1):
        first = max(1, count - len(right.least))
        last = min(len(left.least), count - 1)
        below, beside = left.least, right.least
        surplus, share = min(
            (below[k - 1] + beside[count - k - 1], k) for k in range(first, last + 1)
        )
        least.append(surplus)
        shares.append(share)
    return _Node(left.base & ~(size - 1), size, asked, least, shares, (left, right))


def _chosen(node: _Node, count: int, version: int) -> Iterable[IPNetwork]:
    """``count`` is one less than the number of prefixes, as in ``least``."""
    share = node.left[count]
    if node.halves is None or share == 0:
        kind = IPv4Network if version == 4 else IPv6Network
        yield kind((node.base, _BITS[version] - (node.size.bit_length() - 1)))
        return
    yield from _chosen(node.halves[0], share - 1, version)
    yield from _chosen(node.halves[1], count - share, version)
