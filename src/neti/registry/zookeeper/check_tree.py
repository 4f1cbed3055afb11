"""One look at all of the tree, for ``neti registry check``.

Must never do: change anything, but for a nameless node that ends with its session (for the clock);
let one node that may not be read end the look; or take a name that is not exactly what an agent
writes for that of a host or an address.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, Final
from uuid import uuid4

from kazoo.protocol.serialization import Create, Exists

from neti.model.entry import HOST_ID
from neti.registry import revoked
from neti.registry.record import PUBLIC_KEY, HostRecord, decode
from neti.registry.revoked import RevokedUnreadable
from neti.registry.untrusted import host_id_text
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.calls import Attempt, session_of
from neti.registry.zookeeper.layout import OUTSIDE, Layout
from neti.registry.zookeeper.leases import overlay_named, overlay_of
from neti.registry.zookeeper.records import UNFINISHED

# What this and other checks make for a moment.
_OURS: Final = re.compile(r"\.(clock|unread)-[0-9a-f]{32}")

_PART: Final = 2000


@dataclass(frozen=True, slots=True)
class Tree:
    """Paths in full; absent nodes are not in it. ``by_overlay``, ``by_id``: both halves of leases,
    where the name is what an agent writes; ``agents``, ``reports``: host ids; ``acls``: of what may
    be read;
    ``sessions``: 0 for what outlasts any session; ``below``: of what has nodes below it, how many;
    ``misnamed``: what stands among leases and registrations under a name that no agent writes;
    ``clock_ahead``: in seconds, the server's of ours; ``records``: of hosts, None in a format that
    this version does not know; ``vouched``: by host id, the entry that its record names;
    ``unfinished``: 'neti registry init' was killed before all leases had their records; ``keys``:
    the host that holds each public key; ``outside``: rights of ZooKeeper's own
    nodes that may be read; ``revoked``: how keys begin that operators revoked."""

    layout: Layout
    by_overlay: dict[IPv4Address, str]
    by_id: dict[str, IPv4Address | None]
    names: tuple[str, ...]
    agents: frozenset[str]
    acls: dict[str, list[Any]]
    sessions: dict[str, int]
    below: dict[str, int]
    unread: frozenset[str]
    misnamed: tuple[str, ...]
    clock_ahead: float | None
    records: Mapping[str, HostRecord | None] = field(default_factory=dict)
    vouched: Mapping[str, str] = field(default_factory=dict)
    outside: Mapping[str, list[Any]] = field(default_factory=dict)
    unfinished: bool = False
    keys: Mapping[str, str] = field(default_factory=dict)
    revoked: frozenset[str] = frozenset()
    reports: frozenset[str] = frozenset()

    def all_made(self) -> list[str]:
        """What stands below the parents that are open to members."""
        parents = self.layout.open_to_members()
        return [path for path in self.sessions if path.rpartition("/")[0] in parents]


def look_at_tree(attempt: Attempt, layout: Layout, wall: Callable[[], float]) -> Tree:
    overlays, ids, names, agents, hosts, keys, reports = (
        attempt.names(parent, whole=True)
        for parent in (
            layout.ip_to_id,
            layout.id_to_ip,
            layout.ip_map,
            layout.agents,
            layout.hosts,
            layout.keys,
            layout.reports,
        )
    )
    made = [
        *(f"{layout.ip_to_id}/{name}" for name in overlays),
        *(f"{layout.id_to_ip}/{name}" for name in ids),
        *(f"{layout.ip_map}/{name}" for name in names),
        *(f"{layout.agents}/{name}" for name in agents),
        *(f"{layout.hosts}/{name}" for name in hosts),
        *(f"{layout.keys}/{name}" for name in keys),
        *(f"{layout.reports}/{name}" for name in reports),
    ]
    paths = [*layout.parents(), layout.fleet, *layout.settings(), *made]
    unread: set[str] = set()
    acls: dict[str, list[Any]] = {}
    stats: dict[str, Any] = {}
    for part in _parts(attempt, paths):
        acls.update(zip(part, attempt.acls(part, unread=unread), strict=True))
        stats.update(zip(part, attempt.stats(part), strict=True))
    there = {p: stat for p, stat in stats.items() if stat is not None and not _passes(p, stat)}
    known_ids = [name for name in ids if HOST_ID.fullmatch(name)]
    known_overlays = [o for name in overlays if (o := overlay_named(name)) is not None]
    by_overlay, by_id = _leases(attempt, layout, known_overlays, known_ids, unread)
    known_hosts = [name for name in hosts if HOST_ID.fullmatch(name)]
    records, vouched = _records(attempt, layout, known_hosts, stats, unread)
    known_keys = [name for name in keys if PUBLIC_KEY.fullmatch(name)]
    ours = {
        *map(layout.by_overlay, known_overlays),
        *map(layout.by_id, known_ids),
        *(layout.agent(name) for name in agents if HOST_ID.fullmatch(name)),
        *(layout.report(name) for name in reports if HOST_ID.fullmatch(name)),
        *(layout.host(name) for name in hosts if HOST_ID.fullmatch(name)),
        *map(layout.key, known_keys),
        *(f"{layout.ip_map}/{name}" for name in names),
    }
    return Tree(
        layout=layout,
        by_overlay=by_overlay,
        by_id=by_id,
        names=tuple(names),
        agents=frozenset(name for name in agents if HOST_ID.fullmatch(name)),
        acls={path: acls[path] for path in there if path not in unread},
        sessions={path: session_of(stat) for path, stat in there.items()},
        below={path: there[path].numChildren for path in made if _has_below(there.get(path))},
        unread=frozenset(unread & there.keys()),
        misnamed=tuple(path for path in made if path not in ours and path in there),
        clock_ahead=_clock(attempt, layout, wall),
        records=records,
        vouched=vouched,
        outside=_outside(attempt),
        unfinished=attempt.read([layout.hosts], unread=set()) == [UNFINISHED],
        keys=_keys(attempt, layout, known_keys, unread),
        revoked=_revoked(attempt, layout),
        reports=frozenset(name for name in reports if HOST_ID.fullmatch(name)),
    )


def _outside(attempt: Attempt) -> dict[str, list[Any]]:
    unread: set[str] = set()
    found = zip(OUTSIDE, attempt.acls(OUTSIDE, unread=unread), strict=True)
    return {path: acl for path, acl in found if path not in unread}


def _parts(attempt: Attempt, paths: list[str]) -> Iterator[list[str]]:
    """One after another, each with a deadline of its own."""
    for first in range(0, len(paths), _PART):
        attempt.go_on()
        yield paths[first : first + _PART]


def _passes(path: str, stat: Any) -> bool:
    """Whether it is what a check makes for a moment; others may give theirs such a name."""
    own = _OURS.fullmatch(path.rpartition("/")[2]) is not None
    return own and bool(session_of(stat)) and not stat.numChildren


def _has_below(stat: Any) -> bool:
    return stat is not None and stat.numChildren > 0


def _leases(
    attempt: Attempt,
    layout: Layout,
    overlays: list[IPv4Address],
    ids: list[str],
    unread: set[str],
) -> tuple[dict[IPv4Address, str], dict[str, IPv4Address | None]]:
    """Both halves. Those that do not agree are read once more, in one go, because a lease that was
    made or given up in between looks like half of one."""
    by_overlay: dict[IPv4Address, str] = {}
    by_id: dict[str, IPv4Address | None] = {}

    def read(some: list[IPv4Address], others: list[str]) -> None:
        paths = [*map(layout.by_overlay, some), *map(layout.by_id, others)]
        data = [raw for part in _parts(attempt, paths) for raw in attempt.read(part, unread=unread)]
        for overlay, raw in zip(some, data[: len(some)], strict=True):
            by_overlay.pop(overlay, None)
            if raw is not None:
                by_overlay[overlay] = host_id_text(raw)
        for host_id, raw in zip(others, data[len(some) :], strict=True):
            by_id.pop(host_id, None)
            if raw is not None:
                by_id[host_id] = overlay_of(raw)

    read(overlays, ids)
    odd_overlays = {o for o, host_id in by_overlay.items() if by_id.get(host_id) != o}
    odd_ids = {i for i, o in by_id.items() if o is None or by_overlay.get(o) != i}
    odd_overlays |= {o for i in odd_ids if (o := by_id[i]) is not None}
    odd_ids |= {i for o in odd_overlays if HOST_ID.fullmatch(i := by_overlay.get(o, ""))}
    read(sorted(odd_overlays), sorted(odd_ids))
    return by_overlay, by_id


def _records(
    attempt: Attempt, layout: Layout, ids: list[str], stats: Mapping[str, Any], unread: set[str]
) -> tuple[dict[str, HostRecord | None], dict[str, str]]:
    """Each record, and the entry that it names, where that stands and was made with it."""
    records: dict[str, HostRecord | None] = {}
    vouched: dict[str, str] = {}
    for part in _parts(attempt, ids):
        nodes = attempt.nodes(list(map(layout.host, part)), unread=unread)
        for host_id, node in zip(part, nodes, strict=True):
            if node is None:
                continue
            record = records[host_id] = decode(node[0])
            named = stats.get(layout.name(record.word)) if record and record.word else None
            if record is not None and named is not None and named.czxid == node[1].mzxid:
                vouched[host_id] = record.word
    return records, vouched


def _keys(attempt: Attempt, layout: Layout, keys: list[str], unread: set[str]) -> dict[str, str]:
    held: dict[str, str] = {}
    for part in _parts(attempt, keys):
        data = attempt.read(list(map(layout.key, part)), unread=unread)
        held |= {key: host_id_text(raw) for key, raw in zip(part, data, strict=True) if raw}
    return held


def _revoked(attempt: Attempt, layout: Layout) -> frozenset[str]:
    (raw,) = attempt.read([layout.revoked], unread=set())
    try:
        return frozenset(revoked.decode(raw))
    except RevokedUnreadable:
        return frozenset()


def _clock(attempt: Attempt, layout: Layout, wall: Callable[[], float]) -> float | None:
    """The server stamps what is made; this one vanishes with the session."""
    path = f"{layout.agents}/.clock-{uuid4().hex}"
    before = wall()
    (made,) = attempt.each([Create(path, b"", list(rights.READ_ONLY), 1)])
    if isinstance(made, Exception):
        return None
    stat, between = attempt.one(Exists(path, None)), (before + wall()) / 2
    return None if stat is None else float(stat.ctime / 1000 - between)
