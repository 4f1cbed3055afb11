"""A registry in ZooKeeper whose server is away, restarts, sleeps, or is full of junk."""

import shutil
import time
from collections.abc import Callable
from ipaddress import IPv4Network

import pytest
from tests.support.recorder import PATIENCE, Recorder
from tests.support.swarm import Swarm
from tests.support.zookeeper import ZooKeeperWorld, need_zookeeper

from neti.errors import IdentityHeld, LeaseConflict, RegistryUnavailable
from neti.registry import (
    SETTING_NAMES,
    Appeared,
    Fresh,
    Origin,
    SessionEnded,
    SettingRead,
    Snapshot,
    Stale,
    Vanished,
)
from neti.registry.leases import DamagedLease
from neti.registry.zookeeper.registry import ZooKeeperRegistry
from neti_lab.zookeeper import Peer, ZooKeeperServer

pytestmark = pytest.mark.zookeeper

A = "1.0a000001c6336401c0a80001.0.ec2.a"
B = "1.0a000002c6336402c0a80002.0.vpc.b"
C = "1.0a000003c6336402c0a80003.0.vpc.c"
SUBNET = IPv4Network("192.168.0.0/24")


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_nothing_missed_over_a_restart_means_no_new_snapshot(own_world: ZooKeeperWorld) -> None:
    """Of a list that is not short; a short one is read after every gap."""
    registry, recorder = own_world.open(), Recorder()
    assert isinstance(registry, ZooKeeperRegistry)
    registry.watch(recorder)
    session = recorder.until_fresh()
    many = [f"junk-{number}" for number in range(600)]
    with Swarm(own_world.server.address, own_world.server.port, 1) as swarm:
        parent = registry._layout.ip_map
        swarm.create([(f"{parent}/{name}", b"") for name in many], ephemeral=False)
    recorder.until_picture(*many)
    registry.register(host_id="a", name=A, data=b"", detail=b"")
    recorder.until_picture(A, *many)
    own_world.server.kill()
    recorder.until(lambda seen: not seen.fresh)
    own_world.server.start()
    assert recorder.until_fresh() == session
    registry.register(host_id="b", name=B, data=b"", detail=b"")
    recorder.until_picture(A, B, *many)
    assert len(recorder.of(Snapshot)) == 1
    assert recorder.doubts == []
    assert len(recorder.of(SettingRead)) == len(SETTING_NAMES)


@pytest.mark.parametrize("error", [OSError(12, "Cannot allocate memory"), MemoryError()])
def test_a_connection_whose_thread_breaks_is_made_again(
    error: Exception, own_world: ZooKeeperWorld
) -> None:
    """Also where it breaks twice. The session is taken up again, if it is still there."""
    registry, recorder = own_world.open(), Recorder()
    registry.watch(recorder)
    session = recorder.until_fresh()
    registry.register(host_id="a", name=A, data=b"", detail=b"")
    recorder.until_picture(A)
    assert isinstance(registry, ZooKeeperRegistry)
    assert registry._client is not None
    connection, breaks = registry._client._connection, [error, error]
    whole = connection._expand_client_hosts

    def expand() -> object:
        if breaks:
            raise breaks.pop()
        return whole()

    connection._expand_client_hosts = expand
    own_world.server.kill()
    recorder.until(lambda seen: not seen.fresh)
    eventually(lambda: not breaks)
    own_world.server.start()
    assert recorder.until_fresh() == session
    registry.register(host_id="b", name=B, data=b"", detail=b"")
    recorder.until_picture(A, B)


def test_what_happened_while_we_were_away_is_seen_by_one_snapshot(world: ZooKeeperWorld) -> None:
    registry, recorder = world.open(), Recorder()
    registry.watch(recorder)
    recorder.until_fresh()
    other = world.open()
    other.register(host_id="a", name=A, data=b"", detail=b"")
    recorder.until_picture(A)
    held = hold_connection(registry)
    other.register(host_id="b", name=B, data=b"", detail=b"")
    other.register(host_id="a", name=C, data=b"", detail=b"", replaces=A)
    other.change_setting("interval", b"3")
    held()
    recorder.until(lambda seen: len(seen.of(Fresh)) == 2)
    recorder.until_picture(B, C)
    assert len(recorder.of(Snapshot)) == 2
    assert recorder.of(SettingRead)[-1] == SettingRead("interval", b"3")
    other.leave(host_id="b", name=B, departure="left.0.b")
    recorder.until_picture(C, "left.0.b")
    assert recorder.doubts == []


def hold_connection(registry: object) -> Callable[[], None]:
    """Cut the registry's connection and keep it cut until the returned function is called."""
    client = registry._client  # type: ignore[attr-defined]  # no operator can do this, a test must
    handler = client.handler
    connect = handler.create_connection

    def refuse(*arguments: object, **more: object) -> None:
        raise ConnectionRefusedError("held by the test")

    handler.create_connection = refuse
    client._connection.drop()
    eventually(lambda: not client.connected)

    def release() -> None:
        handler.create_connection = connect

    return release


def test_names_that_went_and_came_back_while_we_were_away_are_noticed(
    world: ZooKeeperWorld,
) -> None:
    registry, recorder = world.open(), Recorder()
    registry.watch(recorder)
    recorder.until_fresh()
    world.put_junk("x")
    recorder.until_picture("x")
    release = hold_connection(registry)
    world.client.delete(f"{world.prefix}/ip-map/x")
    world.put_junk("x")
    release()
    recorder.until(lambda seen: len(seen.of(Snapshot)) == 2)
    recorder.until_picture("x")


def test_a_server_that_is_not_there_yet_is_waited_for_and_named() -> None:
    need_zookeeper()
    server = ZooKeeperServer(tick_ms=200)
    world = ZooKeeperWorld(server)
    try:
        registry, recorder = world.open(timeout=0.3), Recorder()
        registry.watch(recorder)
        recorder.until(lambda seen: len(seen.of(Stale)) == 1)
        assert server.hosts in recorder.of(Stale)[0].reason
        with pytest.raises(RegistryUnavailable, match=server.hosts):
            registry.names()
        server.start()
        recorder.until_fresh()
        registry.register(host_id="a", name=A, data=b"", detail=b"")
        recorder.until_picture(A)
    finally:
        world.close()
        server.close()


def test_a_paused_server_makes_stale_and_no_call_waits_for_ever(own_world: ZooKeeperWorld) -> None:
    registry, recorder = own_world.open(timeout=0.5), Recorder()
    registry.watch(recorder)
    recorder.until_fresh()
    own_world.server.pause()
    try:
        started = time.monotonic()
        with pytest.raises(RegistryUnavailable):
            registry.register(host_id="a", name=A, data=b"", detail=b"")
        assert time.monotonic() - started < PATIENCE
        recorder.until(lambda seen: not seen.fresh)
    finally:
        own_world.server.resume()
    recorder.until_fresh()
    registry.register(host_id="a", name=A, data=b"", detail=b"")
    recorder.until_picture(A)


def test_without_a_quorum_it_is_stale_and_with_one_it_goes_on() -> None:
    need_zookeeper()
    peers = [Peer.on_free_ports() for _ in range(3)]
    servers = [
        ZooKeeperServer(tick_ms=200, ensemble=peers, number=number, heap_mb=64)
        for number in (1, 2, 3)
    ]
    world = ZooKeeperWorld(servers[0])
    try:
        for server in servers:
            server.spawn()
        for server in servers:
            server.wait()
        registry, recorder = world.open(hosts=[each.hosts for each in servers]), Recorder()
        registry.watch(recorder)
        recorder.until_fresh()
        registry.register(host_id="a", name=A, data=b"", detail=b"")
        recorder.until_picture(A)
        servers[1].kill()
        servers[2].kill()
        recorder.until(lambda seen: not seen.fresh)
        for server in servers[1:]:
            server.spawn()
        recorder.until_fresh()
        registry.register(host_id="b", name=B, data=b"", detail=b"")
        recorder.until(lambda seen: seen.picture is not None and B in seen.picture)
    finally:
        world.close()
        for server in servers:
            server.close()


def test_junk_everywhere_hurts_nobody(world: ZooKeeperWorld) -> None:
    root = world.prefix
    for path, data in {
        "ip-map/junk": b"\xff" * 10,
        "ip-map/junk/below": b"",
        "ip-map/" + "x" * 300_000: b"",
        "ip-to-id/not-an-address": b"",
        "ip-to-id/192.168.0.999": b"x",
        "ip-to-id/192.168.0.7/below": b"",
        "id-to-ip/b": b"nonsense",
        "id-to-ip/c": b"192.168.0.9",
        "ip-to-id/192.168.0.9": b"somebody-else",
        "agents/junk": b"\xff" * 100_000,
        "agents/junk/below": b"",
        "interval": b"\xff" * 100_000,
        "stranger/deep/down": b"",
    }.items():
        world.client.create(f"{root}/{path}", data, makepath=True)
    registry, recorder = world.open(), Recorder()
    registry.watch(recorder)
    recorder.until_fresh()
    registry.acquire("a", SUBNET)
    registry.register(host_id="a", name=A, data=b"", detail=b"{}")
    recorder.until(lambda seen: Appeared(A) in seen.events)
    world.client.create(f"{root}/ip-map/junk/more", b"")
    world.client.set(f"{root}/ip-map/junk", b"changed")
    registry.leave(host_id="a", name=A, departure="left.0.a")
    recorder.until(lambda seen: Vanished(A) in seen.events)
    assert [e for e in recorder.events if isinstance(e, Appeared)] == [
        Appeared(A),
        Appeared("left.0.a"),
    ]
    assert all(len(str(event)) < 20_000 for event in recorder.events)
    assert len(registry.leases()) == 3
    assert {detail.host_id for detail in registry.details()} == {"junk"}
    for host in ("b", "c"):
        with pytest.raises(LeaseConflict, match=f"neti lease release {host}"):
            registry.acquire(host, SUBNET)
        assert isinstance(registry.release(host), DamagedLease)  # done, and no address is free
        registry.acquire(host, SUBNET)
    assert world.client.get(f"{root}/ip-to-id/192.168.0.9")[0] == b"somebody-else"
    with pytest.raises(IdentityHeld):
        registry.register(host_id="junk", name=B, data=b"", detail=b"")


def test_a_deleted_tree_is_laid_out_again_and_told_as_a_snapshot(world: ZooKeeperWorld) -> None:
    registry, recorder = world.open(), Recorder()
    registry.watch(recorder)
    recorder.until_fresh()
    registry.register(host_id="a", name=A, data=b"", detail=b"")
    recorder.until_picture(A)
    world.client.delete(f"{world.prefix}/ip-map", recursive=True)
    recorder.until(lambda seen: len(seen.of(Fresh)) == 2)
    assert recorder.picture == set()
    registry.register(host_id="a", name=A, data=b"", detail=b"")
    recorder.until_picture(A)


def test_a_session_that_ends_while_the_server_sleeps_is_reported(
    own_world: ZooKeeperWorld,
) -> None:
    registry, recorder = own_world.open(), Recorder()
    registry.watch(recorder)
    session = recorder.until_fresh()
    release = hold_connection(registry)
    own_world.expire(session)
    release()
    recorder.until(lambda seen: len(seen.of(Fresh)) == 2)
    assert recorder.until_fresh() != session


def test_many_questions_from_the_sink_do_not_stop_the_stream(world: ZooKeeperWorld) -> None:
    registry, recorder = world.open(), Recorder()

    def sink(event: object) -> None:
        recorder(event)  # type: ignore[arg-type]  # every event is an Event
        if isinstance(event, Fresh):
            registry.ask(IPv4Network("192.168.0.0/21").hosts())

    registry.watch(sink)
    recorder.until(lambda seen: len(seen.events) >= 2046 + 4)


def test_passwords_are_never_logged(
    world: ZooKeeperWorld, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(1)
    registry, recorder = world.open(), Recorder()
    registry.watch(recorder)
    session = recorder.until_fresh()
    registry.register(host_id="a", name=A, data=b"", detail=b"")
    registry.detach()
    assert session.password.hex() not in caplog.text
    assert str(session.password) not in caplog.text


def test_a_wiped_server_is_come_back_to_as_another_fleet(own_world: ZooKeeperWorld) -> None:
    """A server turns a client away that has seen a later state; the agent finds that out."""
    registry, recorder = own_world.open(), Recorder()
    registry.watch(recorder)
    recorder.until_fresh()
    lease = registry.acquire("a", SUBNET)
    registry.register(host_id="a", name=A, data=b"", detail=b"")
    recorder.until_picture(A)
    before = recorder.of(Snapshot)[-1].origin
    own_world.server.stop()
    shutil.rmtree(own_world.server.folder / "data")
    own_world.server.start()
    recorder.until(lambda seen: len(seen.of(Snapshot)) == 2)
    assert recorder.of(SessionEnded) == [SessionEnded()]
    again = recorder.of(Snapshot)[-1]
    assert again.names == frozenset()
    assert "another one" in (again.origin.doubt(before) or "")
    assert registry.acquire("a", SUBNET, prefer=lease) == lease


def test_a_server_restored_from_an_older_copy_is_told_apart(own_world: ZooKeeperWorld) -> None:
    """Same fleet, lower version."""
    registry, recorder = own_world.open(), Recorder()
    registry.watch(recorder)
    recorder.until_fresh()
    registry.register(host_id="a", name=A, data=b"", detail=b"")
    recorder.until_picture(A)
    copy = own_world.server.folder / "copy"
    own_world.server.stop()
    shutil.copytree(own_world.server.folder / "data", copy)
    own_world.server.start()
    recorder.until_fresh()
    registry.register(host_id="a", name=B, data=b"", detail=b"", replaces=A)
    recorder.until_picture(B)
    version = recorder.of(Snapshot)[-1].origin.version + len(
        [e for e in recorder.events if isinstance(e, Appeared | Vanished)]
    )
    fleet = recorder.of(Snapshot)[-1].origin.fleet
    own_world.server.stop()
    shutil.rmtree(own_world.server.folder / "data")
    copy.rename(own_world.server.folder / "data")
    own_world.server.start()
    recorder.until(lambda seen: len(seen.of(Snapshot)) == 2)
    doubt = recorder.of(Snapshot)[-1].origin.doubt(Origin(fleet, version))
    assert "went back" in (doubt or "")


def test_lost_quorum_ends_no_session() -> None:
    """A server without a quorum turns everybody away: that says nothing about the session."""
    need_zookeeper()
    peers = [Peer.on_free_ports() for _ in range(3)]
    servers = [ZooKeeperServer(tick_ms=200, ensemble=peers, number=number) for number in (1, 2, 3)]
    try:
        for server in servers:
            server.spawn()
        for server in servers:
            server.wait()
        world = ZooKeeperWorld(servers[0], session_seconds=4)
        registry, recorder = world.open(hosts=[s.hosts for s in servers]), Recorder()
        registry.watch(recorder)
        session = recorder.until_fresh()
        registry.register(host_id="a", name=A, data=b"", detail=b"")
        for server in servers[1:]:
            server.kill()
        recorder.until(lambda seen: not seen.fresh)
        time.sleep(8)  # two sessions
        for server in servers[1:]:
            server.spawn()
        assert recorder.until_fresh() == session
        assert recorder.of(SessionEnded) == []
        world.close()
    finally:
        for server in servers:
            server.close()
