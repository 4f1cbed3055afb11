"""What one client can make servers hold: with the limits of docs/security.md, on real servers."""

import json
import struct
import time
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.support.recorder import Recorder
from tests.support.swarm import RawSession, _text
from tests.support.zookeeper import ZooKeeperWorld, need_zookeeper

from neti.cli import cli
from neti.registry import DataRead
from neti.registry.zookeeper.probe import Place, takes
from neti.registry.zookeeper.requests import MultiRead
from neti_lab.zookeeper import LIMITS, Peer, ZooKeeperServer

LONG = "x" * 60_000


@pytest.fixture(name="ensemble")
def _ensemble() -> Iterator[list[ZooKeeperServer]]:
    need_zookeeper()
    peers = [Peer.on_free_ports() for _ in range(3)]
    servers = [
        ZooKeeperServer(ensemble=peers, number=number, tick_ms=500, heap_mb=192)
        for number in (1, 2, 3)
    ]
    try:
        _start(servers)
        yield servers
    finally:
        for server in servers:
            server.close()


def _start(servers: list[ZooKeeperServer]) -> None:
    for server in servers:
        server.spawn()
    for server in servers:
        server.wait(60)


def _make(server: ZooKeeperServer, path: str) -> int:
    session = RawSession(server.address, server.port)
    session.send_create(path, b"", ephemeral=False)
    code = session.outcome()
    session.close()
    return code


def _made(session: RawSession, path: str) -> bool:
    try:
        session.send_create(path, b"")
        return session.outcome() == 0
    except ConnectionError:
        return False


def test_a_long_request_ends_the_connection_and_nothing_else() -> None:
    """A name of 900 kB would go to every watcher."""
    need_zookeeper()
    with ZooKeeperServer(tick_ms=500, heap_mb=128) as server:
        session = RawSession(server.address, server.port)
        assert not _made(session, "/" + "x" * 900_000)
        assert _make(server, "/after") == 0
        place = Place(server.address, server.port)
        assert [takes(place, None, length) for length in (65536, 65537)] == [True, False]


def test_a_session_of_long_names_ends_and_the_ensemble_goes_on(
    ensemble: list[ZooKeeperServer],
) -> None:
    """The record of its end would name them all, be longer than servers read from each other, and
    keep them from ever starting again."""
    session = RawSession(ensemble[0].address, ensemble[0].port)
    for number in range(20):
        session.send_create(f"/{number}{LONG}", b"")
        assert session.outcome() == 0
    session.close()
    _goes_on(ensemble, "closed")


def test_rights_that_grow_on_the_way_do_not_stop_the_ensemble(
    ensemble: list[ZooKeeperServer],
) -> None:
    """A name of the client's own choice would stand in each of 31 rights of a small request."""
    session = RawSession(ensemble[0].address, ensemble[0].port)
    user = _text(b"digest") + _text(b"u" * 40_000 + b":p")
    session._send(struct.pack("!iii", -4, 100, 0) + user)
    acl = struct.pack("!i", 31)
    acl += b"".join(struct.pack("!i", n) + _text(b"auth") + _text(b"") for n in range(1, 32))
    node = _text(b"/grown") + _text(b"") + acl + struct.pack("!i", 0)
    try:
        session._send(struct.pack("!ii", 1, 1) + node)
        session.outcome()
    except OSError:
        pass  # refused, as it should be
    _goes_on(ensemble, "granted")


def _goes_on(ensemble: list[ZooKeeperServer], word: str) -> None:
    time.sleep(1)
    for server in ensemble:
        assert _make(server, f"/{word}-{server.port}") == 0
    for server in ensemble:
        server.stop()
    _start(ensemble)
    for server in ensemble:
        assert _make(server, f"/again-{server.port}") == 0


@pytest.mark.parametrize(("limits", "warned"), [(LIMITS, False), ((), True)])
def test_the_check_sees_what_a_server_would_read(
    tmp_path: Path, limits: tuple[str, ...], warned: bool
) -> None:
    """No server tells its limit: it is told a length, and ends the connection or does not."""
    need_zookeeper()
    with ZooKeeperServer(tick_ms=500, limits=limits) as server:
        config = tmp_path / "neti.yml"
        config.write_text(
            f'zk_hosts: {{ec2: ["{server.hosts}"]}}\nsite: ec2\n'
            "sites: {ec2: {private: [10.0.0.0/8]}}\nidentity: {id: x, private: 10.9.9.9}\n"
        )
        told = CliRunner().invoke(cli, ["registry", "check", "--json", "-c", str(config)])
        found = {one["code"]: one["severity"] for one in json.loads(told.stdout)["findings"]}
        assert found.get("request-length") == ("warning" if warned else None)
        words = ["registry", "check", "--json", "-c", str(config), "--accept", "request-length"]
        told = CliRunner().invoke(cli, words)
        found = {one["code"]: one["severity"] for one in json.loads(told.stdout)["findings"]}
        assert found.get("request-length") == ("note" if warned else None)


def test_answers_about_many_long_nodes_are_not_kept_and_each_is_read_by_itself(
    own_world: ZooKeeperWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without limits a member makes nodes of 900 kB, and agents ask about many at once."""
    kept: list[int] = []
    parse = MultiRead.deserialize

    def deserialize(reply: bytes, offset: int) -> list[Any] | None:
        kept.append(len(reply))
        return parse(reply, offset)

    registry = own_world.open()
    registry.acquire("a", IPv4Network("192.168.0.0/24"))
    names = [f"long-{number}" for number in range(20)]
    for name in names:
        own_world.client.create(f"{own_world.prefix}/ip-map/{name}", b"x" * 900_000)
    recorder = Recorder()
    registry.watch(recorder)
    recorder.until_fresh()
    monkeypatch.setattr(MultiRead, "deserialize", staticmethod(deserialize))
    registry.ask([*names, "gone"])
    recorder.until(lambda seen: len(seen.of(DataRead)) == len(names) + 1)
    answers = recorder.of(DataRead)
    assert [answer.name for answer in answers] == [*names, "gone"]
    assert [answer.data is None for answer in answers] == [*[False] * len(names), True]
    assert set(registry.data([*names, "gone"])) == set(names)
    assert len(kept) == 2
    assert max(kept) < 100
