"""One agent a host, also where the state folder could not be written when it began."""

import os
from pathlib import Path

import pytest

from neti import files
from neti.errors import NetiError
from neti.state import lock


def _read_only(*_: object) -> int:
    raise PermissionError(13, "Permission denied")


def test_an_agent_that_began_on_a_read_only_disk_keeps_away_a_second_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also once the folder can be written again, where the second one makes the usual file."""
    with monkeypatch.context() as disk:
        disk.setattr(files, "open_or_create", _read_only)
        first = lock.acquire(tmp_path)
    with pytest.raises(NetiError, match="another agent is running"):
        lock.acquire(tmp_path)
    os.close(first)
    os.close(lock.acquire(tmp_path))


def test_a_free_folder_is_taken_once(tmp_path: Path) -> None:
    first = lock.acquire(tmp_path)
    with pytest.raises(NetiError, match="another agent is running"):
        lock.acquire(tmp_path)
    os.close(first)
    os.close(lock.acquire(tmp_path))
