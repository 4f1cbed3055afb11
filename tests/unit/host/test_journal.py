"""The journal's last lines: by the host's journalctl, and by nobody else's."""

import os
from pathlib import Path

import pytest

from neti.errors import NetiError
from neti.host import journal


def test_a_program_of_the_working_directory_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By exec(3) it would be, with an empty PATH, and by root."""
    program = tmp_path / "journalctl"
    program.write_text("#!/bin/sh\necho here\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(os, "defpath", "/nonexistent")
    with pytest.raises(NetiError, match="there is no journalctl"):
        journal.last_lines("neti.service")
    monkeypatch.setattr(os, "defpath", str(tmp_path))
    assert journal.last_lines("neti.service") == "here\n"
