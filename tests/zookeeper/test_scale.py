"""The whole default subnet: 16,382 members on one server with stock settings."""

from ipaddress import IPv4Address, IPv4Network

import pytest
from tests.support.recorder import Recorder
from tests.support.swarm import Swarm
from tests.support.zookeeper import ZooKeeperWorld

from neti.model import Member
from neti.model.entry import encode, parse
from neti.registry import Appeared, Snapshot, Vanished
from neti.registry.leases import usable

pytestmark = pytest.mark.zookeeper

SUBNET = IPv4Network("192.168.0.0/18")
STOCK_BUFFER = 1024 * 1024  # jute.maxbuffer, what a stock client accepts as one answer


def fleet() -> dict[str, Member]:
    """One member for each overlay address, with ids as EC2 gives them."""
    members = {}
    for number, overlay in enumerate(usable(SUBNET)):
        member = Member(
            id=f"i-0{number:016x}",
            site="ec2" if number % 2 else "vpc",
            private=IPv4Address(int(IPv4Address("10.0.0.0")) + number),
            public=IPv4Address(int(IPv4Address("54.0.0.0")) + number),
            overlay=IPv4Address(overlay),
            generation=number % 50,
            extended=number % 10 == 0,
        )
        members[encode(member)] = member
    return members


def test_16382_members_are_seen_one_by_one_and_in_one_listing(own_world: ZooKeeperWorld) -> None:
    world = own_world
    members = fleet()
    assert len(members) == 16_382
    watcher, live = world.open(), Recorder()
    watcher.watch(live)
    live.until_fresh()
    server = world.server
    with Swarm(server.address, server.port, 300) as swarm:
        swarm.create([(f"{world.prefix}/ip-map/{name}", b"") for name in members])
        live.until(lambda seen: seen.picture is not None and len(seen.picture) == len(members), 60)
        appeared = [event.name for event in live.of(Appeared)]
        assert len(appeared) == len(members)
        assert {name: parse(name) for name in appeared} == members

        operator = world.open()
        assert {name: parse(name) for name in operator.names()} == members
        assert sum(4 + len(name) for name in members) < STOCK_BUFFER

        late_watcher, late = world.open(), Recorder()
        late_watcher.watch(late)
        late.until_fresh()
        assert late.of(Snapshot) == [Snapshot(frozenset(members))]

        for session in swarm.sessions[:10]:
            session.close()
        gone = {name for index, name in enumerate(members) if index % 300 < 10}
        swarm.sessions = swarm.sessions[10:]
        for recorder in (live, late):
            recorder.until(lambda seen: len(seen.of(Vanished)) == len(gone), 60)
            assert {event.name for event in recorder.of(Vanished)} == gone
            assert recorder.doubts == []
            assert len(recorder.of(Snapshot)) == 1
