"""A reload: what is accepted is kept as the last good configuration, and nothing else is."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from tests.support.agents import World, world

from neti.agent.config_read import ConfigRead
from neti.agent.loop import Reload
from neti.model import Site


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def test_only_what_is_in_force_is_kept_as_the_last_good_one(fleet: World) -> None:
    """Valid, and refused by the agent because most of the fleet would be out by it: at a restart
    without a valid file that must not come in force."""
    box, *_ = [fleet.started(number) for number in range(1, 13)]
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


def test_what_is_written_late_is_what_was_accepted(tmp_path: Path) -> None:
    """A disk that was full is written again later, when another content may have been refused."""
    read = ConfigRead(tmp_path / "neti.yml", b"first")
    read.noted(b"second")
    read.accepted()
    read.noted(b"refused")
    assert read.in_force == b"second"
