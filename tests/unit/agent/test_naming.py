"""The hosts file that an agent keeps: how often it is written, and what stands in it."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.agents import Box, World, world

from neti.agent import naming
from neti.fleet.names import HEADER
from neti.model.names import Names
from neti.registry.memory import MemoryRegistry
from neti.registry.names import encode
from neti.registry.retired import Retired
from neti.registry.retired import encode as encode_retired
from neti.state.hosts_file import HostsFile


class Counted(HostsFile):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.kept = 0

    def keep(self, content: bytes) -> None:
        self.kept += 1
        super().keep(content)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def started(fleet: World, number: int) -> tuple[Box, Counted]:
    box = fleet.box(number)
    box.settings.table_files_path.mkdir(parents=True, exist_ok=True)
    box.hosts_file = file = Counted(box.settings.table_files_path / "hosts")
    box.start()
    fleet.settle()
    fleet.pass_time(5.0)
    return box, file


def say(fleet: World, value: Names | bytes | None) -> None:
    raw = encode(value) if isinstance(value, Names) else value
    MemoryRegistry(fleet.server).change_setting("names", raw)
    fleet.settle()
    fleet.pass_time(5.0)


def names(file: HostsFile) -> dict[str, str]:
    lines = [line for line in file.path.read_text().splitlines() if not line.startswith("#")]
    return {name: line.split()[0] for line in lines for name in line.split()[1:]}


def overlay(box: Box) -> str:
    told = box.status()["overlay"]
    assert isinstance(told, str)
    return told


def test_without_a_word_of_operators_it_has_no_names(fleet: World) -> None:
    _, file = started(fleet, 1)
    assert file.path.read_text().startswith(HEADER)
    assert names(file) == {}
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o644


def test_it_follows_operators_and_members(fleet: World) -> None:
    one, file = started(fleet, 1)
    two = fleet.started(2)
    say(fleet, Names("neti.internal", {"db": two.host.id}, 1))
    both = {
        f"{one.host.id}.neti.internal": overlay(one),
        f"{two.host.id}.neti.internal": overlay(two),
        "db": overlay(two),
        "db.neti.internal": overlay(two),
    }
    assert names(file) == both
    two.ask("leave")
    fleet.pass_time(5.0)
    assert list(names(file)) == [f"{one.host.id}.neti.internal"]


def test_a_burst_of_joins_is_few_writes_and_rest_is_none(fleet: World) -> None:
    _, file = started(fleet, 1)
    say(fleet, Names("neti.internal", {}, 1))
    before = file.kept
    for number in range(2, 22):
        fleet.started(number)
        fleet.pass_time(0.1)
    fleet.pass_time(5.0)
    assert len(names(file)) == 21
    assert 1 <= file.kept - before <= 3
    before = file.kept
    for _ in range(20):
        fleet.pass_time(10.0)
    assert file.kept == before


def test_while_neti_is_down_nobody_is_named(fleet: World) -> None:
    box, file = started(fleet, 1)
    say(fleet, Names("neti.internal", {}, 1))
    assert names(file)
    box.ask("down")
    fleet.pass_time(5.0)
    assert names(file) == {}
    box.ask("up")
    fleet.pass_time(5.0)
    assert names(file)


def test_a_host_that_left_names_nobody(fleet: World) -> None:
    box, file = started(fleet, 1)
    say(fleet, Names("neti.internal", {}, 1))
    box.ask("leave")
    fleet.settle()
    assert names(file) == {}


def test_a_retired_host_names_nobody_after_a_boot_either(fleet: World) -> None:
    box, file = started(fleet, 1)
    fleet.started(2)
    say(fleet, Names("neti.internal", {}, 1))
    retire(fleet, {box.host.id: Retired(at=1_700_000_000, by="chief")})
    assert names(file) == {}
    box.stop()
    file.path.unlink()
    _, file = started_again(fleet, box)
    fleet.pass_time(5.0)
    assert names(file) == {}
    retire(fleet, {}, back={box.host.id: 1_700_000_001})
    assert len(names(file)) == 2


def retire(fleet: World, words: dict[str, Retired], *, back: dict[str, int] | None = None) -> None:
    MemoryRegistry(fleet.server).change_setting("retired", encode_retired(words, back))
    fleet.settle()
    fleet.pass_time(5.0)


def test_a_restart_while_the_registry_is_away_keeps_every_name(fleet: World) -> None:
    box, file = started(fleet, 1)
    fleet.started(2)
    say(fleet, Names("neti.internal", {"db": box.host.id}, 1))
    before = file.path.read_text()
    assert "db.neti.internal" in before
    box.stop()
    file.path.unlink()
    fleet.server.stop()
    _, file = started_again(fleet, box)
    assert file.path.read_text() == before


def started_again(fleet: World, box: Box) -> tuple[Box, Counted]:
    box.hosts_file = file = Counted(box.settings.table_files_path / "hosts")
    box.start()
    fleet.settle()
    fleet.pass_time(1.0)
    return box, file


def test_a_registry_that_was_wiped_takes_no_name_away_until_operators_speak(fleet: World) -> None:
    box, file = started(fleet, 1)
    say(fleet, Names("neti.internal", {"db": box.host.id}, 7))
    say(fleet, None)
    assert "db" in names(file)
    assert "edition 7, which stays in force" in box.problems()["live_setting"]
    say(fleet, Names("neti.internal", {}, 8))
    assert "db" not in names(file)
    assert "live_setting" not in box.problems()


def test_what_somebody_else_wrote_there_is_written_over(fleet: World) -> None:
    box, file = started(fleet, 1)
    say(fleet, Names("neti.internal", {"db": box.host.id}, 1))
    file.path.write_text("192.0.2.1 db\n")
    fleet.pass_time(40.0)
    fleet.pass_time(5.0)
    assert names(file)["db"] == overlay(box)


def test_many_members_are_written_more_seldom(
    monkeypatch: pytest.MonkeyPatch, fleet: World
) -> None:
    """Each costs the agent, and whoever serves the file."""
    monkeypatch.setattr(naming, "_MEMBERS_A_SECOND", 0.1)
    box, file = started(fleet, 1)
    fleet.pass_time(60.0)
    before = file.kept
    say(fleet, Names("neti.internal", {}, 1))
    say(fleet, Names("neti.internal", {"db": box.host.id}, 2))
    assert file.kept == before + 1
    fleet.pass_time(10.0)
    assert "db" in names(file)
