"""The fleet's side of ZooKeeper: members with leases, of which some come and go."""

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from tests.support.swarm import RawSession, Swarm, create_body

from benchmarks.fleet import AGENT_ID, AGENT_OVERLAY, ZOOKEEPER, ZOOKEEPER_PORT
from neti.errors import NetiError
from neti.model import Member, entry
from neti.registry.record import HostRecord, encode
from neti.registry.zookeeper.layout import Layout

LAYOUT: Final = Layout.below(
    "/neti",
    iptoid="ip-to-id",
    idtoip="id-to-ip",
    ip_map="ip-map",
    interval="interval",
    maxchange="maxchange",
)
_CREATE, _SET_DATA, _MULTI = 1, 5, 14


class Session(RawSession):
    """A session with the benchmark's ZooKeeper. Answers come in the order of the requests."""

    def __init__(self) -> None:
        super().__init__(str(ZOOKEEPER), ZOOKEEPER_PORT)

    def send_registration(self, member: Member, *, stays: bool = False, key: str = "") -> None:
        """A host's record and the entry that it names, in one step: so the record vouches for it.
        Answered by the next ``outcome`` that is not read yet. ``key``: what the record says."""
        name = entry.encode(member)
        record = encode(HostRecord(overlay=member.overlay, word=name, key=key))
        self._xid += 1
        self._send(
            struct.pack("!ii", self._xid, _MULTI)
            + _made_in_a_step(LAYOUT.host(member.id), record, ephemeral=False)
            + _made_in_a_step(LAYOUT.name(name), b"", ephemeral=not stays)
            + struct.pack("!i?i", -1, True, -1)
        )

    def send_goodbye(self, member: Member, farewell: str) -> None:
        """The record names it, and it stands: in one step."""
        record = encode(HostRecord(overlay=member.overlay, word=farewell))
        self._xid += 1
        self._send(
            struct.pack("!ii", self._xid, _MULTI)
            + _written_in_a_step(LAYOUT.host(member.id), record)
            + _made_in_a_step(LAYOUT.name(farewell), b"", ephemeral=True)
            + struct.pack("!i?i", -1, True, -1)
        )

    def finish(self, count: int) -> None:
        """Read the answers to the last ``count`` requests."""
        for _ in range(count):
            code = self.outcome()
            if code != 0:
                raise NetiError(f"ZooKeeper refused what the benchmark asked: error {code}")


def _made_in_a_step(path: str, data: bytes, *, ephemeral: bool) -> bytes:
    head = struct.pack("!i?i", _CREATE, False, -1)
    return head + create_body(path, data, ephemeral=ephemeral)


def _written_in_a_step(path: str, data: bytes) -> bytes:
    raw = path.encode()
    return b"".join(
        (
            struct.pack("!i?i", _SET_DATA, False, -1),
            *(struct.pack("!i", len(part)) + part for part in (raw, data)),
            struct.pack("!i", -1),  # of any version
        )
    )


def be_strict() -> None:
    """Agents with TLS believe only what a record names."""
    with Swarm(str(ZOOKEEPER), ZOOKEEPER_PORT, 1) as swarm:
        swarm.create([(LAYOUT.strict, b"on 2026-11-27T12:00:00Z")], ephemeral=False)


def register_with_records(
    members: Sequence[Member], key_of: Callable[[Member], str] = lambda _: ""
) -> None:
    """As ``register``, each vouched for."""
    sessions = [Session() for _ in range(8)]
    for number, member in enumerate(members):
        sessions[number % 8].send_registration(member, stays=True, key=key_of(member))
    for number, _ in enumerate(members):
        sessions[number % 8].finish(1)
    for session in sessions:
        session.close()


def lay_out() -> None:
    """The tree, with changes not gathered but passed on at once, and the agent's own lease.

    ``maxchange`` at its most: the benchmark removes more in ten minutes than any fleet should, and
    would measure the guard."""
    nodes = [
        *((path, b"") for path in LAYOUT.parents()),
        (LAYOUT.interval, b"0"),
        (LAYOUT.maxchange, b"10000"),
        (LAYOUT.by_id(AGENT_ID), str(AGENT_OVERLAY).encode()),
        (LAYOUT.by_overlay(AGENT_OVERLAY), AGENT_ID.encode()),
    ]
    with Swarm(str(ZOOKEEPER), ZOOKEEPER_PORT, 1) as swarm:
        swarm.create(nodes, ephemeral=False)


def lease(members: Iterable[Member]) -> None:
    nodes = []
    for member in members:
        nodes.append((LAYOUT.by_id(member.id), str(member.overlay).encode()))
        nodes.append((LAYOUT.by_overlay(member.overlay), member.id.encode()))
    with Swarm(str(ZOOKEEPER), ZOOKEEPER_PORT, 8) as swarm:
        swarm.create(nodes, ephemeral=False)


def register(members: Iterable[Member]) -> None:
    """For good: no agent can tell that these have no session."""
    nodes = [(LAYOUT.name(entry.encode(member)), b"") for member in members]
    with Swarm(str(ZOOKEEPER), ZOOKEEPER_PORT, 8) as swarm:
        swarm.create(nodes, ephemeral=False)


def lose(members: Sequence[Member]) -> None:
    """All gone, without a word."""
    with Swarm(str(ZOOKEEPER), ZOOKEEPER_PORT, 8) as swarm:
        for number, member in enumerate(members):
            swarm.sessions[number % 8].send_delete(LAYOUT.name(entry.encode(member)))
        for number, _ in enumerate(members):
            swarm.sessions[number % 8].outcome()


def send_join(session: Session, member: Member) -> int:
    """What a host with a lease does to become a member; returns the number of requests."""
    session.send_create(LAYOUT.name(entry.encode(member)), b"")
    return 1


def send_move(session: Session, old: Member, new: Member, *, stays: bool = False) -> int:
    """A member's address changes: the name of the next generation, then the old one goes."""
    session.send_create(LAYOUT.name(entry.encode(new)), b"", ephemeral=not stays)
    session.send_delete(LAYOUT.name(entry.encode(old)))
    return 2


def send_loss(session: Session, member: Member) -> int:
    """Gone without a word."""
    session.send_delete(LAYOUT.name(entry.encode(member)))
    return 1


def send_leaving(session: Session, member: Member) -> int:
    """As a host leaves that has a record: this says goodbye, the goodbye stands, then the entry
    goes. Both stay, as those of a real host do: whoever watches reads the record after that."""
    session.send_goodbye(member, entry.encode_departure(member))
    session.send_delete(LAYOUT.name(entry.encode(member)))
    return 2


def send_forgotten(session: Session, member: Member) -> int:
    """Once everybody has heard its goodbye: nothing of it stays."""
    session.send_delete(LAYOUT.name(entry.encode_departure(member)))
    session.send_delete(LAYOUT.host(member.id))
    return 2


def send_leave(session: Session, member: Member) -> int:
    """A departure with its word, which ends with the leaver's session."""
    farewell = LAYOUT.name(entry.encode_departure(member))
    session.send_create(farewell, b"")
    session.send_delete(LAYOUT.name(entry.encode(member)))
    session.send_delete(farewell)
    return 3
