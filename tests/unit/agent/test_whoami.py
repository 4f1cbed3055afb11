"""Who this host is, while the agent runs: an address that is gone is believed the second time."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from tests.support.agents import Box, World, world

from neti.model.settings import StaticIdentity


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def entry(box: Box) -> str:
    return str(box.status()["entry"])


def test_one_answer_without_the_public_address_registers_nothing(fleet: World) -> None:
    """A 404 of the metadata service that is none a moment later."""
    box = fleet.started(1)
    before, host = entry(box), box.host
    box.host = replace(host, public=None)
    fleet.pass_time(61)
    assert entry(box) == before
    box.host = host
    fleet.pass_time(11)
    box.host = replace(host, public=None)
    fleet.pass_time(61)  # the first one again, not the second
    assert entry(box) == before


def test_an_address_that_stays_away_is_believed_the_second_time(fleet: World) -> None:
    more = replace(fleet.box(1).host, more=(IPv6Address("2001:db8::1"),))
    box = fleet.boxes[0]
    box.host = more
    box.start()
    fleet.settle()
    before = entry(box)
    box.host = replace(more, more=())
    fleet.pass_time(61)
    assert entry(box) == before
    fleet.pass_time(11)
    assert entry(box) != before
    assert box.status()["more"] == []


def test_another_address_in_place_of_one_is_believed_at_once(fleet: World) -> None:
    box = fleet.started(1)
    before = entry(box)
    box.host = replace(box.host, public=IPv4Address("198.51.100.99"))
    fleet.pass_time(61)
    assert entry(box) != before


def test_what_the_configuration_says_is_believed_at_once(fleet: World) -> None:
    box = fleet.box(1)
    static = StaticIdentity(id=box.host.id, private=box.host.private, public=None)
    box.settings = replace(box.settings, identity=static)
    box.start()
    fleet.settle()
    box.host = replace(box.host, public=None)
    fleet.pass_time(61)
    assert box.status()["public"] is None


def test_a_temporary_address_that_no_peer_knows_is_a_problem(fleet: World) -> None:
    """Only where this host speaks IPv6 with its peers; over when it is gone or registered."""
    box = fleet.box(1)
    temporary = IPv6Address("2001:db8::abcd")
    box.machine.temporary = (temporary,)
    box.start()
    fleet.settle()
    assert "temporary_address" not in box.problems()
    box.host = replace(box.host, more=(IPv6Address("2001:db8::1"),))
    fleet.pass_time(61)
    assert "2001:db8::abcd" in box.problems()["temporary_address"]
    box.host = replace(box.host, more=(IPv6Address("2001:db8::1"), temporary))
    fleet.pass_time(61)
    assert "temporary_address" not in box.problems()
