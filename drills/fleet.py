"""Members without agents: they join, leave and move by way of the registry alone.

Whoever is generated has an address of the street's network at which nobody is; a real one says so.
"""

import contextlib
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from tests.support.swarm import Swarm

from drills.plan import OVERLAY
from neti.model import IPAddress, Member, entry
from neti.registry import Registry
from neti.registry.zookeeper.layout import Layout

_FIRST_PRIVATE: Final = IPv4Address("10.0.16.0")
_FIRST_PUBLIC: Final = IPv4Address("54.0.16.0")
# From the end of the subnet, so that hosts that lease later find room.
_LAST_OVERLAY: Final = OVERLAY.broadcast_address - 1
_SESSIONS: Final = 8

LAYOUT: Final = Layout.below(
    "/neti",
    iptoid="ip-to-id",
    idtoip="id-to-ip",
    ip_map="ip-map",
    interval="interval",
    maxchange="maxchange",
)


def generated(number: int, *, more: tuple[IPAddress, ...] = ()) -> Member:
    """Member ``number``; with the lease that ``fill`` gives it."""
    return Member(
        id=f"m-{number:05}",
        site="ec2",
        private=_FIRST_PRIVATE + number,
        public=_FIRST_PUBLIC + number,
        overlay=_LAST_OVERLAY - number,
        more=more,
    )


class Fleet:
    """Joins and leaves in one session of its own; one thread uses it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.members: dict[str, Member] = {}
        registry.watch(lambda event: None)  # keeps the session

    def join(self, member: Member) -> Member:
        """As its agent would; it gets whatever lease the registry gives it."""
        overlay = self._registry.acquire(member.id, OVERLAY)
        registered = replace(member, overlay=overlay, extended=bool(member.more))
        self._registry.register(
            host_id=member.id,
            name=entry.encode(registered),
            data=entry.encode_data(registered.more),
            detail=b"{}",
        )
        self.members[member.id] = registered
        return registered

    def leave(self, host_id: str) -> None:
        member = self.members.pop(host_id)
        self._registry.leave(
            host_id=host_id,
            name=entry.encode(member),
            departure=entry.encode_departure(member),
        )

    def move(self, host_id: str, private: IPv4Address) -> Member:
        """Another private address; the public one stays."""
        before = self.members[host_id]
        after = replace(before, private=private, generation=before.generation + 1)
        self._registry.register(
            host_id=host_id,
            name=entry.encode(after),
            data=entry.encode_data(after.more),
            detail=b"{}",
            replaces=entry.encode(before),
        )
        self.members[host_id] = after
        return after


def fill_embedded(path: Path, members: Iterable[Member]) -> None:
    """Many members at once, for good: no agent can tell that these have no session."""
    listed = list(members)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as store:
        store.execute("BEGIN IMMEDIATE")
        store.executemany(
            "INSERT INTO leases VALUES (?, ?)", [(int(m.overlay), m.id) for m in listed]
        )
        store.executemany(
            "INSERT INTO names VALUES (?, 0, x'')", [(entry.encode(m),) for m in listed]
        )
        store.execute("COMMIT")


def fill_zookeeper(address: str, port: int, members: Sequence[Member]) -> None:
    """The same in ZooKeeper; called inside the server's namespace."""
    leases = [
        node
        for member in members
        for node in (
            (LAYOUT.by_id(member.id), str(member.overlay).encode()),
            (LAYOUT.by_overlay(member.overlay), member.id.encode()),
        )
    ]
    names = [(LAYOUT.name(entry.encode(member)), b"") for member in members]
    with Swarm(address, port, _SESSIONS) as swarm:
        swarm.create(leases, ephemeral=False)
        swarm.create(names, ephemeral=False)
