"""Files of a folder that another user owns."""

import os
from pathlib import Path

import pytest

from neti import files


def test_a_small_file_is_read_in_pieces_whatever_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where memory is limited, room for the whole limit is not to be had."""
    asked = list[int]()
    whole = os.read

    def read(number: int, count: int) -> bytes:
        asked.append(count)
        return whole(number, count)

    monkeypatch.setattr(os, "read", read)
    (tmp_path / "members.jsonl").write_bytes(b"x" * 3_000_000)
    assert files.read(tmp_path / "members.jsonl", 256 * 1024 * 1024) == b"x" * 3_000_000
    assert max(asked) <= 1024 * 1024
