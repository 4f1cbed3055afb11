"""Two machines with one id and one state: one of them is the host, the other says what is wrong."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from tests.support.agents import Box, World, world

from neti.errors import OtherOwner
from neti.registry.memory import MemoryRegistry


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def cloned(fleet: World, box: Box, *, last: int) -> Box:
    """A copy of the running host's disk, at another address."""
    clone = fleet.box(int(box.host.id.rpartition("-")[2]), box.host.site)
    clone.host = replace(clone.host, private=IPv4Address(f"10.0.0.{last}"))
    clone.machine.private = clone.host.private
    shutil.copytree(box.settings.table_files_path, clone.settings.table_files_path)
    return clone


@pytest.mark.parametrize("last", [77, 1], ids=["another address", "the same address"])
def test_a_clone_is_named_and_spares_the_peers(fleet: World, last: int) -> None:
    one, peer = fleet.started(1), fleet.started(2)
    fleet.pass_time(2)
    clone = cloned(fleet, one, last=last)
    clone.start()
    changes = fleet.server.changes
    for _ in range(120):
        fleet.pass_time(1)
    assert fleet.server.changes - changes <= 4, "peers are told again and again"
    problems = [str(box.status()["problems"]) for box in (one, clone)]
    assert sum("another machine is running as this host" in each for each in problems) == 1
    assert [box.running.registration.entry is None for box in (one, clone)].count(True) == 1
    assert peer.status()["problems"] == []


def test_the_host_is_itself_again_when_the_clone_has_gone(fleet: World) -> None:
    one = fleet.started(1)
    fleet.pass_time(2)
    clone = cloned(fleet, one, last=77)
    clone.start()
    fleet.pass_time(5)
    session = clone.registry._session
    assert session is not None
    clone.stop()
    fleet.server.expire(session)
    for _ in range(10):
        fleet.pass_time(31)
    assert one.status()["problems"] == []
    assert one.running.registration.entry is not None


def test_a_second_machine_of_one_id_is_named_too(fleet: World) -> None:
    """With no copy of the state there is nothing to take over, and still nobody to register."""
    fleet.started(1)
    second = fleet.box(1)
    second.start()
    for _ in range(10):
        fleet.pass_time(15)
    assert "another machine is running as this host" in str(second.status()["problems"])


def test_an_id_of_another_certificate_is_no_second_machine(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = fleet.box(1)

    def refuse(_self: MemoryRegistry, **_: object) -> None:
        raise OtherOwner("it belongs to another certificate\n→ an operator can change that")

    monkeypatch.setattr(MemoryRegistry, "register", refuse)
    box.start()
    for _ in range(10):
        fleet.pass_time(15)
    assert [one["code"] for one in box.status()["problems"]] == ["registration"]
