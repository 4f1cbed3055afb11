"""What ``neti check`` looks at itself, and not by the agent's word."""

from dataclasses import replace
from pathlib import Path

import pytest

from neti.dataplane.wireguard import road
from neti.dataplane.wireguard.road import Road
from neti.errors import DataplaneError
from neti.model.settings import Settings
from neti.monitoring.encryption import Encryption
from neti.monitoring.status import Registry, Status
from neti.oneshot.look import _road

SETTINGS = Settings(path=Path("/etc/neti/neti.yml"))
PLAIN = Status(version="1", id="a", site="ec2", private="10.0.0.1", registry=Registry(fresh=True))
TOLD = replace(PLAIN, encryption=Encryption(implementation="module", mtu=1420))


def test_the_road_is_looked_at_where_the_agent_says_that_it_encrypts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(road, "read", lambda: Road(None))
    blind: list[str] = []
    assert "the device is missing" in _road(SETTINGS, TOLD, blind)
    assert _road(SETTINGS, PLAIN, blind) == ()
    assert _road(SETTINGS, None, blind) == ()
    assert blind == []


def test_a_road_that_cannot_be_looked_at_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts as unknown, and not as well."""

    def refuse() -> Road:
        raise DataplaneError("no")

    monkeypatch.setattr(road, "read", refuse)
    blind: list[str] = []
    assert _road(SETTINGS, TOLD, blind) == ()
    assert blind == ["the encrypted road cannot be looked at: no"]
