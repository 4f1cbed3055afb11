"""Looks at links, addresses and routes: how often, where others change them all the time."""

from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from tests.support.agents import Box, FakeMachine, World, world

from neti.agent.fight import LONGEST_PAUSE
from neti.dataplane.monitor import NetworkChanged
from neti.host.network import Network


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


class Router(FakeMachine):
    """With so many routes that a look takes ``seconds``."""

    looks = 0
    seconds = 0.0
    box: Box

    def network(self, overlay_subnet: IPv4Network) -> Network:
        self.looks += 1
        self.box.world.clock.advance(self.seconds)
        return super().network(overlay_subnet)


@pytest.mark.parametrize(("seconds", "most"), [(0.0, 52), (0.05, 20), (0.3, 8)])
def test_routes_that_change_all_the_time_cost_a_bounded_share(
    fleet: World, seconds: float, most: int
) -> None:
    """Twenty changes a second for ten seconds, with 200,000 routes or with few."""
    box = fleet.box(1)
    router = box.machine = Router(box.host.private)
    router.box = box
    box.start()
    fleet.settle()
    router.looks, router.seconds = 0, seconds
    end = fleet.clock.monotonic() + 10
    while fleet.clock.monotonic() < end:
        box.running.tell(NetworkChanged())
        box.running.step()
        fleet.clock.advance(0.05)
    assert 1 < router.looks <= most


def test_after_three_removals_of_the_route_the_next_repair_waits(fleet: World) -> None:
    """Longer each time, and never for more than a quarter of a minute; whoever does it is named."""
    box = fleet.started(1)
    waited = []
    for _ in range(9):
        fleet.pass_time(1)
        box.machine.routes = []
        began = fleet.clock.monotonic()
        box.running.tell(NetworkChanged())
        for _ in range(200):
            box.running.step()
            if box.machine.routes:
                break
            fleet.clock.advance(0.1)
        waited.append(round(fleet.clock.monotonic() - began, 1))
    assert max(waited[:3]) <= 0.4
    assert waited[3:] == sorted(waited[3:])
    assert waited[3] > 0.4
    assert waited[-1] == pytest.approx(LONGEST_PAUSE, abs=0.3)
    assert "fight" in box.problems()
