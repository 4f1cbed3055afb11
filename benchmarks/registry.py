"""The fleet's side of ZooKeeper: members with leases, of which some come and go."""

from collections.abc import Iterable, Sequence
from typing import Final

from tests.support.swarm import RawSession, Swarm

from benchmarks.fleet import AGENT_ID, AGENT_OVERLAY, ZOOKEEPER, ZOOKEEPER_PORT
from neti.errors import NetiError
from neti.model import Member, entry
from neti.registry.zookeeper.layout import Layout

LAYOUT: Final = Layout.below(
    "/neti",
    iptoid="ip-to-id",
    idtoip="id-to-ip",
    ip_map="ip-map",
    interval="interval",
    maxchange="maxchange",
)


class Session(RawSession):
    """A session with the benchmark's ZooKeeper. Answers come in the order of the requests."""

    def __init__(self) -> None:
        super().__init__(str(ZOOKEEPER), ZOOKEEPER_PORT)

    def finish(self, count: int) -> None:
        """Read the answers to the last ``count`` requests."""
        for _ in range(count):
            code = self.outcome()
            if code != 0:
                raise NetiError(f"ZooKeeper refused what the benchmark asked: error {code}")


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


def send_leave(session: Session, member: Member) -> int:
    """A departure with its word, which ends with the leaver's session."""
    farewell = LAYOUT.name(entry.encode_departure(member))
    session.send_create(farewell, b"")
    session.send_delete(LAYOUT.name(entry.encode(member)))
    session.send_delete(farewell)
    return 3
