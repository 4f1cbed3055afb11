"""Problems that follow from how things stand: they come with it, and end with it."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.agents import Box, World, world

from neti.agent.config_read import ConfigRead
from neti.agent.told import Reload
from neti.monitoring.check import judge
from neti.monitoring.situation import Level, Limits, Situation
from neti.state.folder import StateFolder


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def told(box: Box) -> dict[str, Any]:
    """What the registry tells others of this host."""
    (detail,) = box.registry.reports([box.host.id]) or []
    document: dict[str, Any] = json.loads(detail.document)
    return document


def enforced(fleet: World, **changes: Any) -> Box:
    one = fleet.started(1, **changes)
    fleet.started(2)
    fleet.pass_time(1)
    one.ask("enforce", seconds=60)
    one.ask("confirm")
    fleet.pass_time(1)
    assert one.status()["stage"] == "enforced"
    return one


def test_down_is_a_stage_everywhere(fleet: World) -> None:
    """In the status, the metrics and what others are told, within a turn of the loop."""
    one = enforced(fleet)
    assert told(one)["stage"] == "enforced"
    one.ask("down")
    fleet.pass_time(1)
    assert one.status()["stage"] == told(one)["stage"] == one.ask("metrics")["result"]["stage"]
    assert one.status()["stage"] == "down"
    assert list(one.problems()) == ["down_open"]
    one.ask("up")
    fleet.pass_time(1)
    assert one.status()["stage"] == told(one)["stage"] == "enforced"
    assert one.problems() == {}


def test_down_in_shadow_is_less_grave(fleet: World) -> None:
    """Nothing was kept out before either."""
    one = fleet.started(1)
    one.ask("down")
    assert list(one.problems()) == ["down"]


def test_down_on_disk_is_told_too(fleet: World) -> None:
    """``neti down`` without an agent that answers."""
    one = enforced(fleet)
    one.running.core.out.folder.set_down(True)
    fleet.pass_time(1)
    assert told(one)["stage"] == one.status()["stage"] == "down"


def test_a_host_that_was_relaxed_against_its_file_says_who_and_when(fleet: World) -> None:
    """Until somebody enforces it again, or the file says the same; a restart changes nothing."""
    one = fleet.started(1, reject_all=True)
    fleet.pass_time(1)
    assert "relaxed" not in one.problems()
    one.ask("relax")
    fleet.pass_time(1)
    said = one.problems()["relaxed"]
    assert "neti.yml" in said
    assert " at 19" in said or " at 20" in said
    assert told(one)["problems"] == ["relaxed"]
    assert one.ask("metrics")["result"]["relaxed"] is True
    one.stop()
    one.start()
    fleet.pass_time(1)
    assert one.problems()["relaxed"] == said
    one.new_settings = replace(one.settings, reject_all=False)
    one.running.tell(Reload())
    fleet.pass_time(1)
    assert "relaxed" not in one.problems()
    assert one.ask("metrics")["result"]["relaxed"] is False


def test_relaxed_where_the_file_does_not_ask_for_more_is_no_problem(fleet: World) -> None:
    """Status, check and metrics are at one in that."""
    one = enforced(fleet)
    one.ask("relax")
    assert one.problems() == {}


def test_an_expired_trial_and_lost_members_are_named(fleet: World) -> None:
    """The first is critical, the second a note that leaves the exit code as it is."""
    one = fleet.started(1)
    two = fleet.started(2)
    fleet.pass_time(1)
    one.ask("enforce", seconds=10)
    fleet.pass_time(30)
    assert "trial_expired" in one.problems()
    one.ask("relax")
    assert one.problems() == {}
    two.stop()
    session = StateFolder(two.settings.table_files_path).load("this machine").session
    assert session is not None
    fleet.server.expire(session)
    fleet.pass_time(1)
    assert "ec2-2" in one.problems()["lost"]
    assert judge(Situation(status=one.told()), Limits(lost_warning=1)).level is Level.OK


def test_an_edited_file_is_named_until_it_is_read(tmp_path: Path) -> None:
    """Touched alone it is the same file; away, a folder or a FIFO, nobody can say."""
    path = tmp_path / "neti.yml"
    path.write_text("reject_all: true\n")
    read = ConfigRead(path, path.read_bytes())
    assert read.unread() is None
    path.touch()
    assert read.unread() is None
    path.write_text("reject_all: false\n")
    since = read.unread()
    assert since == path.stat().st_mtime
    assert read.unread() == since
    read.noted(path.read_bytes())
    assert read.unread() is None
    path.unlink()
    assert read.unread() is None
    path.mkdir()
    assert read.unread() is None
    path.rmdir()
    os.mkfifo(path)
    read.unread()  # and does not wait for a writer


def test_an_unread_file_is_a_problem(fleet: World, tmp_path: Path) -> None:
    """With its path and since when."""
    one = fleet.started(1)
    path = tmp_path / "neti.yml"
    path.write_text("a: 1\n")
    one.running.core.out.config_read = ConfigRead(path, b"a: 2\n")
    assert "has not been read since" in one.problems()["config_unread"]
    assert one.problems()["config_unread"].endswith("→ neti reload")


def test_check_says_the_same(fleet: World) -> None:
    """By the very document that the agent gives."""
    one = enforced(fleet)
    one.ask("down")
    verdict = judge(Situation(status=one.told()), Limits())
    assert verdict.level is Level.CRITICAL
    assert "stage=-1" in verdict.line


def test_another_overlay_address_is_a_problem(fleet: World) -> None:
    """Until the former one is this host's again."""
    one = fleet.started(1)
    fleet.pass_time(1)
    before = one.running.core.members.overlay
    assert before is not None
    one.running.registration.lease_held(before + 7)
    assert str(before) in one.running.core.problems.sentence("lease_changed")
    assert str(before + 7) in one.running.core.problems.sentence("lease_changed")
    one.running.registration.lease_held(before)
    assert "lease_changed" not in one.running.core.problems
