"""The folder of all labs."""

from pathlib import Path

import pytest

from neti_lab import state
from neti_lab.state import LabState
from neti_lab.topology import plan_lab


@pytest.fixture
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Not made yet."""
    labs = tmp_path / "labs"
    monkeypatch.setattr(state, "LABS", labs)
    return labs


def _mode(folder: Path) -> int:
    return folder.stat().st_mode & 0o777


@pytest.mark.parametrize("before", [None, 0o755])
def test_a_lab_command_closes_the_folder(labs: Path, before: int | None) -> None:
    """Somebody may have made it before, with the shell's mode: keys lie below it."""
    if before is not None:
        labs.mkdir()
        labs.chmod(before)
    with state.exclusive(LabState("one")):
        assert _mode(labs) == 0o700


@pytest.mark.parametrize("before", [None, 0o755])
def test_a_lab_that_is_built_closes_the_folder(labs: Path, before: int | None) -> None:
    if before is not None:
        labs.mkdir()
        labs.chmod(before)
    LabState("one").create(plan_lab(name="one", hosts=2))
    assert (_mode(labs), _mode(labs / "one")) == (0o700, 0o700)
