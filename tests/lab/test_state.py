"""The folder of all labs."""

from pathlib import Path

import pytest

from neti.lab import state
from neti.lab.state import LabState


def test_a_folder_that_was_open_to_all_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody made it before, with the shell's mode: keys lie below it."""
    labs = tmp_path / "labs"
    labs.mkdir()
    labs.chmod(0o755)
    monkeypatch.setattr(state, "LABS", labs)
    with state.exclusive(LabState("one")):
        assert labs.stat().st_mode & 0o777 == 0o700
