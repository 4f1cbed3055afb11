"""A reload: what is accepted is kept as the last good configuration, and nothing else is."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from tests.support.agents import World, world

from neti import log
from neti.agent.config_read import ConfigRead
from neti.agent.reloading import _lines, _one, changed
from neti.agent.told import Reload
from neti.errors import ConfigError
from neti.model import Site


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def test_only_what_is_in_force_is_kept_as_the_last_good_one(fleet: World) -> None:
    """Valid, and refused by the agent because most of the fleet would be out by it: at a restart
    without a valid file that must not come in force."""
    box, *_ = fleet.crowd(range(1, 13))
    emptied = {
        name: Site(name=name, private=(IPv4Network("172.16.0.0/16"),)) for name in fleet.sites
    }
    box.new_settings = replace(box.settings, sites=emptied)
    box.running.tell(Reload())
    fleet.settle()
    assert "reload" in box.problems()
    assert box.kept == []
    box.new_settings = replace(box.settings, linger_seconds=7)
    box.running.tell(Reload())
    fleet.settle()
    assert box.kept == [box.new_settings]


def test_who_asks_for_a_reload_is_told_what_came_of_it(fleet: World) -> None:
    box = fleet.started(1)
    box.new_settings = replace(box.settings, linger_seconds=7, verify_port=7078)
    assert box.ask("reload")["result"] == {
        "changed": ["linger_seconds"],
        "restart": ["verify_port"],
        "waiting": [],
        "refused": None,
        "stage": "shadow",
        "reject_all": False,
        "trial_seconds": box.settings.trial_seconds,
        "encryption_ended": False,
        "ports_wait": False,
        "require_waits": [],
        "would_be_lost": [],
    }
    assert "verify_port" in box.problems()["reload"]
    box.new_settings = None  # not valid
    answer = box.ask("reload")
    assert "refused, the old one stays in force: neti.yml:3: reject_all" in answer["error"]
    assert "→ fix the file" in answer["error"]
    assert box.running.core.settings.linger_seconds == 7


def test_keys_are_named_as_the_file_has_them(fleet: World) -> None:
    old = fleet.box(1).settings
    assert changed(old, old) == []
    assert changed(old, replace(old, path=Path("other"), warnings=("x",))) == []
    new = replace(old, embedded=Path("/r.db"), sites={}, sites_configured=False)
    assert changed(old, new) == ["registry", "sites"]


def test_a_reload_names_a_log_file_that_cannot_be_written(fleet: World, tmp_path: Path) -> None:
    box = fleet.started(1)
    box.new_settings = box.settings
    log.configure(tmp_path / "gone" / "neti.log")
    try:
        box.ask("reload")
        assert "cannot be written" in box.problems()["log"]
        (tmp_path / "gone").mkdir()
        box.ask("reload")
        assert "log" not in box.problems()
    finally:
        log.configure(None)


def test_what_is_written_late_is_what_was_accepted(tmp_path: Path) -> None:
    """A disk that was full is written again later, when another content may have been refused."""
    read = ConfigRead(tmp_path / "neti.yml", b"first")
    read.noted(b"second")
    read.accepted()
    read.noted(b"refused")
    assert read.in_force == b"second"


def test_several_mistakes_are_a_line_each() -> None:
    """Among the problems, where there is only one line, the first one stands."""
    two = ConfigError("neti.yml:1: a: b\nneti.yml:2: c: d")
    assert _lines(two) == "\nneti.yml:1: a: b\nneti.yml:2: c: d"
    assert _one(two) == "neti.yml:1: a: b (and 1 more: neti config check)"
    one = ConfigError("neti.yml:1: a: b\n→ do that")
    assert _lines(one) == " neti.yml:1: a: b\n→ do that"
    assert _one(one) == "neti.yml:1: a: b"
