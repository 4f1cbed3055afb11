"""Control groups by the inodes of their folders."""

import os
from pathlib import Path

import pytest

from neti.host.cgroups import ControlGroups, unit_of


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    root = tmp_path / "cgroup"
    (root / "system.slice" / "app.service").mkdir(parents=True)
    lines = ["22 1 0:20 / /sys rw - sysfs sysfs rw", f"30 22 0:26 / {root} rw - cgroup2 none rw"]
    (tmp_path / "mountinfo").write_text("\n".join(lines))
    return root


def test_a_group_is_found_and_keeps_its_name(mounted: Path) -> None:
    group = mounted / "system.slice" / "app.service"
    number, groups = group.stat().st_ino, ControlGroups(mounted.parent / "mountinfo")
    assert groups.named({number}) == {number: "/system.slice/app.service"}
    group.rmdir()
    assert groups.named({number}) == {number: "/system.slice/app.service"}
    assert groups.named({1}) == {}


def test_what_was_not_found_is_not_looked_for_again(
    mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a group that has ended would cost a walk at each look."""
    groups = ControlGroups(mounted.parent / "mountinfo")
    looked: list[object] = []
    scandir = os.scandir

    def noted(path: str) -> object:
        looked.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", noted)
    groups.named({1})
    walked = len(looked)
    groups.named({1})
    assert walked == len(looked) == 3


def test_without_the_hierarchy_nothing_is_said_to_have_ended(tmp_path: Path) -> None:
    assert ControlGroups(tmp_path / "none").named({5}) == {5: ""}


def test_a_hostile_name_is_shown_harmlessly(mounted: Path) -> None:
    group = mounted / "a\x1b[2Jb"
    group.mkdir()
    number = group.stat().st_ino
    (path,) = ControlGroups(mounted.parent / "mountinfo").named({number}).values()
    assert "\x1b" not in path


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/system.slice/app.service", "app.service"),
        ("/system.slice/app.service/worker-1", "app.service"),
        ("/user.slice/user-0.slice/session-3.scope", "session-3.scope"),
        ("/docker/0123abcd", "0123abcd"),
        ("", ""),
    ],
)
def test_a_unit_is_the_innermost_one(path: str, unit: str) -> None:
    assert unit_of(path) == unit
