"""Which file 'neti registry import' takes."""

import os
from pathlib import Path

import pytest

from neti.errors import NetiError
from neti.oneshot import transfer
from neti.registry.export import Export, Pin


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "export.json"
    transfer.write(made, Export(leases=(), hosts=(Pin("a", "CN=a"),)))
    return made


def test_what_was_exported_here_is_taken(file: Path) -> None:
    assert transfer.read(file).hosts == (Pin("a", "CN=a"),)


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_may_write_to_is_not(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(NetiError, match="may be changed by others, and decides who is who"):
        transfer.read(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_file_is_not(file: Path) -> None:
    os.chown(file, 12345, 12345)
    with pytest.raises(NetiError, match="may be changed by user 12345"):
        transfer.read(file)
