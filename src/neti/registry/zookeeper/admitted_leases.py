"""The lease that an id gets in the step that admits it, and what stood in its way before.

Whoever gets in may make half a lease, or one outside the subnet, for an id that nobody has yet.
Its host could not take an address then. So nothing of it is left for the host to make.

Must never do: touch what belongs to a host that has been here.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final, Protocol

from kazoo.exceptions import NodeExistsError, RolledBackError, RuntimeInconsistency
from kazoo.protocol.serialization import CheckVersion, Create, Delete, Transaction
from kazoo.security import Id

from neti.registry.leases import candidates, exhausted, usable
from neti.registry.record import HostRecord, decode, encode
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.calls import Attempt
from neti.registry.zookeeper.layout import Layout
from neti.registry.zookeeper.leases import overlay_named, overlay_of

_TRIES: Final = 16  # addresses that others took meanwhile


class Begins(Protocol):
    """A host that is to begin. ``version``: of its record, None where that is to be made."""

    @property
    def id(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def version(self) -> int | None: ...
    @property
    def lease(self) -> bool: ...
    @property
    def clears(self) -> tuple[tuple[str, int], ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What there is of an id. ``record``: its rights (None: there is none), with its ``version``;
    ``came``: it says something, so a host has been here, or nobody knows; ``lease``: the rights of
    its halves, by path, where the host can use it; ``in_the_way``: nodes in its place, with their
    versions; ``nailed``: those of them that cannot be deleted, because of what is below them."""

    record: list[Any] | None
    version: int | None
    came: bool
    lease: dict[str, list[Any]]
    in_the_way: tuple[tuple[str, int], ...] = ()
    nailed: tuple[str, ...] = ()

    @property
    def needs_lease(self) -> bool:
        return not self.lease and not self.came


def look(
    attempt: Attempt, layout: Layout, ids: Sequence[str], subnet: IPv4Network, known: Collection[Id]
) -> Iterator[Held]:
    """In the order of ``ids``. ``known``: operators."""
    closed: set[str] = set()
    records, halves = [layout.host(i) for i in ids], [layout.by_id(i) for i in ids]
    acls = attempt.acls([*records, *halves], unread=closed)
    nodes = attempt.nodes([*records, *halves], unread=closed)
    overlays = [overlay_of(node[0]) if node is not None else None for node in nodes[len(ids) :]]
    others = [layout.by_overlay(overlay) for overlay in overlays if overlay is not None]
    held = dict(
        zip(
            [*records, *halves, *others],
            [*nodes, *attempt.nodes(others, unread=closed)],
            strict=True,
        )
    )
    stats = {path: node[1] for path, node in held.items() if node is not None}
    # Who may not read a node may see that it is there.
    stats |= zip(closed, attempt.stats(list(closed)), strict=True)
    acls_of = dict(zip(others, attempt.acls(others, unread=closed), strict=True))
    for number, (host_id, record, half) in enumerate(zip(ids, records, halves, strict=True)):
        stat, node, overlay = stats.get(record), held[record], overlays[number]
        silent = node is not None and decode(node[0]) == HostRecord()
        came = stat is not None and not silent
        lease: dict[str, list[Any]] = {}
        other = layout.by_overlay(overlay) if overlay is not None else half
        if other != half and (named := held[other]) is not None and named[0] == host_id.encode():
            lease = {half: acls[len(ids) + number], other: acls_of[other]}
        placed = [half, *(path for path in lease if path != half)]
        if lease and not came and not _can_be_used(overlay, lease, subnet, known):
            lease = {}
        there = [path for path in placed if not lease and not came and stats.get(path) is not None]
        yield Held(
            record=acls[number] if stat is not None else None,
            version=stat.version if stat is not None else None,
            came=came,
            lease=lease,
            in_the_way=tuple((path, stats[path].version) for path in there),
            nailed=tuple(path for path in there if stats[path].numChildren),
        )


def _can_be_used(
    overlay: IPv4Address | None,
    lease: dict[str, list[Any]],
    subnet: IPv4Network,
    known: Collection[Id],
) -> bool:
    """By its host, once operators have given it its rights. An agent gives operators all."""
    inside = overlay is not None and int(overlay) in usable(subnet)
    return inside and all(set(known) & set(rights.operators(acl)) for acl in lease.values())


def foreign_to(attempt: Attempt, layout: Layout, subnet: IPv4Network) -> int:
    """How many leases there are, if none is of this subnet: then it is hardly the fleet's. Anybody
    may make one of another, so this is no reason to refuse."""
    taken = _taken(attempt, layout)
    return 0 if any(overlay in subnet for overlay in taken) else len(taken)


def make(
    attempt: Attempt, layout: Layout, begin: Sequence[Begins], subnet: IPv4Network
) -> Iterator[tuple[str, str, Exception]]:
    """Record and lease of each in one step, all or nothing. Yields those that were not made: the
    id, the node that ZooKeeper refused, and why."""
    parents = attempt.acls([layout.hosts, layout.id_to_ip, layout.ip_to_id])
    taken = _taken(attempt, layout) if any(one.lease for one in begin) else set()
    tries = {one.id: candidates(one.id, subnet, taken) for one in begin if one.lease}
    left = list(begin)
    for last in (False,) * (_TRIES - 1) + (True,):
        steps: list[tuple[Begins, list[Any]]] = []
        for one in left:
            overlay = next(tries[one.id], None) if one.lease else None
            if one.lease and overlay is None:
                yield one.id, layout.ip_to_id, exhausted(one.id, subnet)
                continue
            if overlay is not None:
                taken.add(overlay)
            steps.append((one, _step(layout, one, overlay, parents)))
        answers = attempt.each([Transaction(step) for _, step in steps])
        left = []
        for (one, step), answer in zip(steps, answers, strict=True):
            failure = _failure(answer, len(step))
            if failure is None:
                continue
            path, error = step[failure[0]].path, failure[1]
            address = path.startswith(f"{layout.ip_to_id}/")
            if address and isinstance(error, NodeExistsError) and not last:
                left.append(one)  # it went meanwhile
                continue
            yield one.id, path, error
        if not left:
            return


def _step(
    layout: Layout, one: Begins, overlay: IPv4Address | None, parents: Sequence[rights.Rights]
) -> list[Any]:
    of_hosts, of_ids, of_overlays = parents
    owner, record = Id("x509", one.subject), layout.host(one.id)
    step: list[Any] = [Delete(path, version) for path, version in one.clears]
    if one.version is None:
        acl = rights.of_child(of_hosts, also=rights.WRITE, owner=owner)
        step.append(Create(record, encode(HostRecord()), acl, 0))
    else:  # the host has not come meanwhile
        step.append(CheckVersion(record, one.version))
    if overlay is not None:
        halves = (
            (layout.by_id(one.id), str(overlay), of_ids),
            (
                layout.by_overlay(overlay),
                one.id,
                of_overlays,
            ),
        )
        for path, data, parent in halves:
            step.append(Create(path, data.encode(), rights.of_child(parent, owner=owner), 0))
    return step


def _failure(answer: Any, length: int) -> tuple[int, Exception] | None:
    """Which operation failed, and why."""
    if isinstance(answer, Exception):
        return length - 1, answer
    for index, each in enumerate(answer):
        if isinstance(each, Exception) and not isinstance(
            each, RolledBackError | RuntimeInconsistency
        ):
            return index, each
    return None


def _taken(attempt: Attempt, layout: Layout) -> set[IPv4Address]:
    listed = map(overlay_named, attempt.names(layout.ip_to_id))
    return {overlay for overlay in listed if overlay is not None}
