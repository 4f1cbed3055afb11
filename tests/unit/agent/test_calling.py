"""Who calls a host: what its agent tells a command, and what its report says."""

from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.support.agents import Box, World

from neti.dataplane.memory import MemoryDataplane
from neti.errors import DataplaneError
from neti.monitoring.called import Called, Caller, called_of
from neti.registry import detail
from neti.registry.detail import CallsSeen
from neti.stage.in_the_clear import Tracked

TCP, UDP = 6, 17


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def called(box: Box) -> Called:
    return called_of(box.ask("callers")["result"])


def opened(source: str, port: int, protocol: int = TCP, *, passing: bool = False) -> Tracked:
    to = ip_address("10.0.0.1")
    return Tracked(
        protocol=protocol,
        source=ip_address(source),
        to=to,
        answers=to,
        port=port,
        passing=passing,
    )


def report(box: Box) -> detail.Document:
    (held,) = box.registry.reports([box.host.id]) or []
    return detail.decode(held.document)


def test_members_that_are_connected_are_named_with_their_ports(world: World) -> None:
    here, near, far = world.started(1), world.started(2), world.started(3, "vpc")
    here.connections.tracked = [
        opened("10.0.0.2", 5432),
        opened("10.0.0.2", 5432),
        opened("203.0.113.3", 5432),
        opened(str(far.running.core.members.overlay), 80),  # through the tunnel
        opened("10.0.0.2", 22, passing=True),
        opened("10.0.0.2", here.settings.verify_port),
        opened("10.0.0.2", 53, UDP),  # nobody knows when it ends
        opened("10.0.0.1", 5432),  # of this host itself
        opened("8.8.8.8", 5432),
    ]
    found = called(here)
    assert found.callers == (
        Caller(ids=(near.host.id,), protocol="tcp", port=5432, connections=2),
        Caller(ids=(far.host.id,), protocol="tcp", port=5432, connections=1),
        Caller(ids=(far.host.id,), protocol="tcp", port=80, connections=1),
    )
    assert found.fault == ""


def test_the_report_says_when_it_was_called_and_how_many_are_connected(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _ = world.started(1), world.started(2)
    counted = {"called": 5}
    monkeypatch.setattr(MemoryDataplane, "counters", lambda self: dict(counted))
    world.pass_time(20)
    began = called(here).since
    assert began is not None
    assert called(here).last is None
    counted["called"] = 6
    world.pass_time(20)
    last = called(here).last
    assert last is not None
    assert last > began
    here.connections.tracked = [opened("10.0.0.2", 5432)]
    world.pass_time(700)
    seen = report(here).calls
    assert seen is not None
    assert seen == CallsSeen(since=int(began), at=seen.at, last=int(last), open=1)
    assert world.clock.wall() - seen.at < 700


def test_writing_for_another_reason_does_not_make_a_count_newer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Problems that come and go, oftener than it is counted, neither put off the counting nor
    pass for it."""
    here = world.started(1)
    monkeypatch.setattr(MemoryDataplane, "counters", lambda self: {"called": 0})
    world.pass_time(100)
    first = report(here).calls
    assert first is not None
    for _ in range(8):
        here.running.core.problems.set("lease_changed", "it is another one")
        world.pass_time(100)
        here.running.core.problems.clear("lease_changed")
        world.pass_time(100)
        written, calls = report(here).written, report(here).calls
        assert written is not None
        assert world.clock.wall() - written <= 110
        assert calls is not None
        assert world.clock.wall() - calls.at < 640
    assert calls is not None
    assert calls.at > first.at


def test_counters_that_cannot_be_read_make_no_count_newer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = world.started(1)
    monkeypatch.setattr(MemoryDataplane, "counters", lambda self: {"called": 0})
    world.pass_time(20)
    counted = called(here).at

    def refuses(self: MemoryDataplane) -> dict[str, int]:
        raise DataplaneError("no room for the answer")

    monkeypatch.setattr(MemoryDataplane, "counters", refuses)
    world.pass_time(700)
    seen = report(here).calls
    assert counted is not None
    assert called(here).at == counted
    assert seen is not None
    assert seen.at == int(counted)


def test_what_the_kernel_does_not_tell_is_not_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = world.started(1)
    monkeypatch.setattr(MemoryDataplane, "counters", lambda self: {"called": 0})

    def refuses(sources: object) -> list[Tracked]:
        raise DataplaneError("no room for the answer")

    monkeypatch.setattr(here.connections, "opened_by", refuses)
    world.pass_time(700)
    assert called(here).fault == "no room for the answer"
    seen = report(here).calls
    assert seen is not None
    assert seen.open is None


def test_while_neti_is_down_nothing_is_watched(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = world.started(1)
    monkeypatch.setattr(MemoryDataplane, "counters", lambda self: {"called": 0})
    world.pass_time(20)
    assert called(here).since is not None
    here.ask("down")
    world.pass_time(700)
    assert called(here).since is None
    assert report(here).calls is None
