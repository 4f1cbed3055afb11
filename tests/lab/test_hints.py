"""What the lab says at the end of a run, and what to type next."""

from pathlib import Path

import pytest

from neti_lab import LabError, lifecycle, state
from neti_lab.report import status_lines
from neti_lab.stage import one_line, verdict
from neti_lab.state import LabState
from neti_lab.topology import lab_command


def test_the_last_line_counts_what_passed_and_names_what_failed() -> None:
    """Whoever reads only this line knows where to look."""
    assert verdict(33, []) == "All 33 checks passed."
    one = verdict(33, ["7 the host is open"])
    assert one == "32 of 33 checks passed. Failed: 7 the host is open."


def test_an_error_in_a_table_is_one_line() -> None:
    assert one_line(LabError("it is not up\n→ neti lab up")) == "it is not up; neti lab up"


@pytest.mark.parametrize(("name", "suffix"), [("lab", ""), ("big", " --name big")])
def test_hints_are_about_the_lab_that_was_named(
    name: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hint that is copied must not act on another lab."""
    assert lab_command(name, "down") == f"neti lab down{suffix}"
    monkeypatch.setattr(state, "LABS", tmp_path)
    said = [str(lifecycle.already_up(name))]
    with pytest.raises(LabError) as not_up:
        LabState(name).plan()
    said.append(str(not_up.value).replace("→ neti lab up", "→ 'neti lab up") + "'")
    half = {"name": name, "up": False, "registry": "", "folder": "", "hosts": [], "others": []}
    said += status_lines(half)
    commands = [part for text in said for part in text.split("'") if part.startswith("neti lab")]
    assert commands
    assert all(command.endswith(suffix) for command in commands)
