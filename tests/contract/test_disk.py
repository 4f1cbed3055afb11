"""The simulation's disk does what a real folder does, as far as the state's files go."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from simulation.gate import Gate, Killed

from neti import durable, files
from neti.fleet.remembered import Everybody, Remembered
from neti.model.said import Said
from neti.stage.stages import Record
from neti.state import marks
from neti.state.folder import StateFolder
from neti.state.loaded import StateError
from neti.state.records import Self
from simulation import disk, doors

_A = Remembered("1.0a000001c6336401c0a80001.0.ec2.ec2-1", (), None, True, None)


@pytest.fixture(params=["real", "simulated"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param == "real":
        yield tmp_path
        return
    with doors.shut(), disk.mounted("contract", disk.Disk(Gate())) as path:
        yield path


def test_a_file_is_replaced_and_read(folder: Path) -> None:
    for content in (b"one", b"two, and longer"):
        durable.replace(folder / "file", content, 0o640)
        assert files.read(folder / "file", 100) == content
    assert not (folder / ".file.new").exists()


def test_what_is_not_there(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.read(folder / "file", 100)
    assert not marks.present(folder, marks.DOWN)
    marks.take_away(folder, marks.DOWN)


def test_a_file_that_is_too_long(folder: Path) -> None:
    durable.replace(folder / "file", b"x" * 11, 0o640)
    with pytest.raises(OSError, match="longer than 10 bytes"):
        files.read(folder / "file", 10)


def test_the_folder_is_there(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    with pytest.raises(FileExistsError):
        folder.mkdir(parents=True)
    assert folder.is_dir()


def test_marks(folder: Path) -> None:
    marks.leave(folder, marks.RELAXED, Said(1.0, "operator", None))
    assert marks.read(folder, marks.RELAXED) == Said(1.0, "operator", None)
    marks.take_away(folder, marks.RELAXED)
    assert not marks.present(folder, marks.RELAXED)


def test_all_of_the_state(folder: Path) -> None:
    state = StateFolder(folder)
    state.load("machine")
    state.save_self(Self(overlay="192.168.0.1"))
    state.save_record(Record(wished=True, confirmed=True))
    state.append({"ec2-1": _A}, Everybody(1, [("ec2-1", _A)]))
    state.append({"ec2-2": _A}, Everybody(2, []))
    loaded = StateFolder(folder).load("machine")
    assert loaded.faults == []
    assert loaded.itself.overlay == "192.168.0.1"
    assert loaded.record == Record(wished=True, confirmed=True)
    assert loaded.members.keys() == {"ec2-1", "ec2-2"}
    other = StateFolder(folder)
    assert other.load("another machine").foreign
    other.discard()
    assert StateFolder(folder).load("machine").record is None


# --- what only the simulated one can be asked to do ---


@pytest.fixture
def simulated() -> Iterator[tuple[disk.Disk, Path]]:
    made = disk.Disk(Gate())
    with doors.shut(), disk.mounted("alone", made) as path:
        yield made, path


def test_what_was_replaced_outlasts_a_power_cut(simulated: tuple[disk.Disk, Path]) -> None:
    made, path = simulated
    durable.replace(path / "file", b"one", 0o640)
    made.lose_power()
    assert files.read(path / "file", 100) == b"one"


def test_what_was_not_synced_does_not(simulated: tuple[disk.Disk, Path]) -> None:
    made, path = simulated
    durable.replace(path / "file", b"one", 0o640)
    made.lying = True
    durable.replace(path / "file", b"two", 0o640)
    made.lose_power()
    assert files.read(path / "file", 100) == b"one"


def test_but_after_a_while_the_kernel_has_written_it_back(
    simulated: tuple[disk.Disk, Path],
) -> None:
    made, path = simulated
    now = 0.0
    made.now = lambda: now
    durable.replace(path / "file", b"one", 0o640)
    with (path / "file").open("ab") as file:
        file.write(b", two")
    now = disk.WRITTEN_BACK
    made.lose_power()
    assert files.read(path / "file", 100) == b"one, two"


@pytest.mark.parametrize("fault", ["full", "read_only"])
def test_a_disk_that_takes_nothing(simulated: tuple[disk.Disk, Path], fault: str) -> None:
    made, path = simulated
    state = StateFolder(path)
    state.load("machine")
    state.save_record(Record())
    setattr(made, fault, True)
    with pytest.raises(StateError):
        state.save_record(Record(wished=True))
    assert StateFolder(path).load("machine").record == Record()


@pytest.mark.parametrize("effects", range(1, 6))
def test_a_kill_leaves_the_old_file_or_the_new_one(
    simulated: tuple[disk.Disk, Path], effects: int
) -> None:
    made, path = simulated
    durable.replace(path / "file", b"one", 0o640)
    made.gate.arm(effects, made.gate.kill)

    with pytest.raises(Killed):
        durable.replace(path / "file", b"two", 0o640)
    made.gate.dead = False
    assert files.read(path / "file", 100) in (b"one", b"two")
    made.lose_power()
    assert files.read(path / "file", 100) in (b"one", b"two")
