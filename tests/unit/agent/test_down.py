"""``neti down`` that no disk takes, and the ``neti up`` that ends it without reaching the agent."""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.agents import Box, World, world

from neti import durable
from neti.dataplane.monitor import RulesChanged
from neti.ruleset.objects import RELAXED_MARK, KernelState
from neti.state import marks


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def refused(*_: object) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


@pytest.fixture(params=["by the agent", "without it"])
def down(
    request: pytest.FixtureRequest, fleet: World, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Box, pytest.MonkeyPatch]]:
    """An enforced host that is down, by the kernel's word alone."""
    box = fleet.started(1)
    box.ask("enforce", wait=True)
    box.ask("confirm")
    with monkeypatch.context() as broken:
        broken.setattr(durable, "replace", refused)
        if request.param == "by the agent":
            assert box.ask("down")["result"]["unsaved"]
        else:
            box.dataplane.mark_down()
            box.machine.routes = []
            box.running.tell(RulesChanged(1, "neti"))
            fleet.settle()
            fleet.pass_time(1)
        assert box.status()["down"]
        assert box.dataplane.marked_down()
        yield box, broken


def test_up_said_in_the_kernel_is_heard(fleet: World, down: tuple[Box, pytest.MonkeyPatch]) -> None:
    box, _ = down
    fleet.pass_time(100)
    assert box.status()["down"]
    box.dataplane.remove()
    box.running.tell(RulesChanged(1, "neti"))
    fleet.settle()
    assert not box.status()["down"]
    assert box.elements("enforce") == {"ipv4": "drop", "ipv6": "drop"}


def test_a_disk_that_is_writable_again_takes_no_word_that_was_ended(
    fleet: World, down: tuple[Box, pytest.MonkeyPatch]
) -> None:
    """Not even before the loop has heard of it."""
    box, broken = down
    folder = box.running.core.out.folder
    box.dataplane.remove()
    broken.undo()
    box.running.core.disk.keep_what_is_behind()
    assert not folder.is_down
    fleet.pass_time(100)
    assert not folder.is_down
    assert not box.status()["down"]


def test_what_the_disk_takes_at_last_stands_without_the_kernel(
    fleet: World, down: tuple[Box, pytest.MonkeyPatch]
) -> None:
    box, broken = down
    broken.undo()
    fleet.pass_time(100)
    assert box.running.core.out.folder.is_down
    assert box.dataplane.table is None
    assert box.status()["down"]


@pytest.mark.parametrize("when", ["before the kernel is read", "before it is written"])
@pytest.mark.parametrize("word", ["down", "relaxed"])
def test_a_word_that_comes_in_the_middle_of_a_look_is_not_written_over(
    fleet: World, monkeypatch: pytest.MonkeyPatch, word: str, when: str
) -> None:
    """The agent was stopped there, and no disk takes the word."""
    box = fleet.started(1)
    box.ask("enforce", wait=True)
    box.ask("confirm")
    table, read = box.dataplane.table, box.dataplane.read
    assert table is not None
    table.sets = table.sets[1:]  # somebody took one out, so the table is to be made anew
    said = [{"down": box.dataplane.mark_down, "relaxed": box.dataplane.disarm}[word]]

    def stopped() -> KernelState:
        if when == "before it is written":
            found = read()
        if said:
            said.pop()()
        return read() if when == "before the kernel is read" else found

    monkeypatch.setattr(durable, "replace", refused)
    monkeypatch.setattr(box.dataplane, "read", stopped)
    box.running.tell(RulesChanged(1, "nft"))
    fleet.settle()
    fleet.pass_time(10)
    assert not said
    if word == "down":
        assert box.status()["down"]
        assert box.dataplane.marked_down()
    else:
        assert box.status()["stage"] == "shadow"
        assert list(box.elements("enforce")) == [RELAXED_MARK]


def test_nothing_is_taken_away_where_nothing_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only disk refuses an unlink before it looks whether the name is there."""
    monkeypatch.setattr(Path, "unlink", refused)
    marks.take_away(tmp_path, marks.DOWN)


def test_a_folder_that_is_emptied_does_not_end_it(fleet: World) -> None:
    """Nobody said 'neti up': the lock and the socket are gone as well."""
    box = fleet.started(1)
    box.ask("enforce", wait=True)
    box.ask("confirm")
    box.ask("down")
    core, gone = box.running.core, ["agent.lock", "agent.sock"]
    core.out.taken_away = lambda: gone
    core.out.make_again = gone.clear
    shutil.rmtree(box.settings.table_files_path)
    fleet.settle()
    assert box.status()["down"]
    fleet.pass_time(40)
    assert box.status()["down"]
    assert core.out.folder.is_down
    assert "state_emptied" in box.problems()
    core.out.folder.set_down(False)  # as 'neti up' without the agent
    fleet.pass_time(1)
    assert not box.status()["down"]


def test_a_command_that_met_another_word_does_not_say_that_it_was_done(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = fleet.started(1)
    box.ask("enforce", wait=True)
    box.ask("confirm")
    read, said = box.dataplane.read, [box.dataplane.mark_down]

    def stopped() -> KernelState:
        if said:
            said.pop()()
        return read()

    monkeypatch.setattr(durable, "replace", refused)
    monkeypatch.setattr(box.dataplane, "read", stopped)
    answer = box.ask("enforce", wait=True)
    assert not said
    assert "this host is down" in answer["error"]
