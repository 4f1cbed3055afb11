"""What gets by other programs' filters is decided by packets, and not by few."""

from ipaddress import IPv4Address
from pathlib import Path

import pytest
from tests.support.agents import FakeMachine

from neti.agent.host_network import HostNetwork
from neti.dataplane.foreign import Dropping
from neti.model import Host
from neti.model.problems import Problems
from neti.model.settings import Settings
from neti.monitoring.arrivals import Arrivals, Calls


@pytest.mark.parametrize(
    ("counts", "kept_out", "get_in"),
    [
        ([(0, 0)], 0, False),
        ([(4, 0)], 0, False),
        ([(5, 0)], 5, False),
        ([(5, 0), (9, 0)], 9, False),
        ([(9, 0), (10, 1)], 0, False),
        ([(9, 0), (20, 11)], 0, False),
        ([(5, 5)], 0, True),
        ([(100, 98)], 0, True),
        ([(100, 50)], 0, False),
        ([(3, 3), (4, 4)], 0, False),
        ([(50, 50), (54, 50)], 0, True),
        ([(50, 50), (55, 50)], 5, False),
        ([(50, 50), (3, 0)], 0, True),
        ([(50, 50), (6, 0)], 6, False),
    ],
)
def test_by_packets(counts: list[tuple[int, int]], kept_out: int, get_in: bool) -> None:
    """None of many: kept out. Nearly all: they get in. Few, or a table made anew: not known yet."""
    seen = Arrivals()
    for asked, arrived in counts:
        seen.look(asked, arrived)
    assert (seen.kept_out, seen.get_in) == (kept_out, get_in)


def test_what_our_own_table_refuses_is_not_kept_out_by_others() -> None:
    """Members that no group lets in do not arrive, and nobody else is to blame."""
    seen = Arrivals()
    seen.look(9, 0, 9)
    assert (seen.kept_out, seen.get_in) == (0, False)
    seen.look(30, 11, 19)
    assert (seen.kept_out, seen.get_in) == (0, True)
    seen.look(50, 11, 29)
    assert (seen.kept_out, seen.get_in) == (10, False)


def test_a_packet_on_its_way_while_counters_are_read_is_no_new_table() -> None:
    seen = Arrivals()
    seen.look(50, 40, 9)
    seen.look(50, 40, 10)
    seen.look(55, 40, 10)
    assert (seen.kept_out, seen.get_in) == (0, True)
    seen.look(56, 40, 10)
    assert (seen.kept_out, seen.get_in) == (5, False)


@pytest.mark.parametrize("surely", [True, False])
def test_packets_count_for_more_than_rules(surely: bool) -> None:
    """A note, or a warning, until packets show that members get in, or that they do not."""
    problems = Problems()
    private = IPv4Address("10.0.0.5")
    machine = FakeMachine(private)
    lets_in = () if surely else None
    machine.dropping = (Dropping("table ip fw", "in", "input", "all", 4, "add", lets_in),)
    network = HostNetwork(machine, problems)
    host = Host(id="a", site="ec2", private=private, public=None)
    network.look(Settings(path=Path("neti.yml")), host)
    assert ("tables_drop" in problems, bool(network.perhaps)) == (surely, not surely)
    network.arrived({"asked": 7, "arrived": 0})
    assert [one.code for one in problems] == ["kept_out"]
    assert "table ip fw" in problems.sentence("kept_out")
    assert network.perhaps == ()
    network.look(Settings(path=Path("neti.yml")), host)
    assert [one.code for one in problems] == ["kept_out"]
    network.arrived({"asked": 17, "arrived": 10})
    network.arrived({"asked": 27, "arrived": 20})
    assert not list(problems)
    assert network.perhaps == ()


@pytest.mark.parametrize(
    ("counts", "last"),
    [
        ([9], None),  # whatever was counted before may be of any time
        ([9, 9, 9], None),
        ([9, 10, 10], 1.0),
        ([9, 10, 0, 0], 1.0),  # the table was made again, and nobody called
        ([9, 0, 4], 2.0),
        ([9, 4], 1.0),  # made again, and called since
    ],
)
def test_when_a_member_last_called(counts: list[int], last: float | None) -> None:
    calls = Calls()
    for now, asked in enumerate(counts):
        calls.look(asked, float(now))
    assert (calls.since, calls.last, calls.at) == (0.0, last, len(counts) - 1.0)
    calls.stop()
    assert (calls.since, calls.last, calls.at) == (None, None, None)
    calls.look(3, 7.0)
    assert (calls.since, calls.last, calls.at) == (7.0, None, 7.0)
