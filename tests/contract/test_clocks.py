"""The simulation's clocks run as Linux's do (clock_gettime(2)), as far as Neti goes by them."""

from collections.abc import Callable
from typing import Final

import pytest
from simulation.clock import HostClock, Time

from neti.clock import Clock, ManualClock, SystemClock

_2024: Final = 1_704_067_200.0
MAKERS: Final[dict[str, Callable[[], Clock]]] = {
    "real": SystemClock,
    "simulated": lambda: HostClock(Time()),
    "manual": ManualClock,
}


@pytest.fixture(params=MAKERS)
def clock(request: pytest.FixtureRequest) -> Clock:
    return MAKERS[request.param]()


def test_what_orders_events_never_goes_back(clock: Clock) -> None:
    for read in (clock.monotonic, clock.boottime):
        times = [read() for _ in range(100)]
        assert times == sorted(times)


def test_boot_time_counts_sleep_as_well(clock: Clock) -> None:
    assert clock.monotonic() <= clock.boottime() + 0.001


def test_boot_time_is_of_this_boot(clock: Clock) -> None:
    """It says nothing of the year, and the wall clock does."""
    assert 0 <= clock.boottime() < _2024 or isinstance(clock, ManualClock)
    if not isinstance(clock, ManualClock):
        assert clock.wall() > _2024


# --- what nobody does to the clock of the machine that runs the tests ---


@pytest.fixture
def simulated() -> HostClock:
    return HostClock(Time())


def shown(clock: HostClock) -> tuple[float, float, float]:
    return clock.monotonic(), clock.boottime(), clock.wall()


def test_who_sets_the_clock_sets_the_wall_clock_only(simulated: HostClock) -> None:
    monotonic, boottime, wall = shown(simulated)
    simulated.set -= 86_400
    assert shown(simulated) == (monotonic, boottime, wall - 86_400)


def test_time_runs_in_all_of_them(simulated: HostClock) -> None:
    before = shown(simulated)
    simulated.time.now += 61
    assert shown(simulated) == tuple(each + 61 for each in before)


def test_asleep_the_monotonic_clock_stands_still(simulated: HostClock) -> None:
    monotonic, boottime, wall = shown(simulated)
    simulated.slept += 100
    simulated.time.now += 100
    assert shown(simulated) == (monotonic, boottime + 100, wall + 100)


def test_a_boot_begins_anew_and_the_wall_clock_goes_on(simulated: HostClock) -> None:
    simulated.slept, simulated.set = 50, 7
    wall = simulated.wall()
    simulated.boot()
    assert simulated.monotonic() == simulated.boottime() < 60
    assert simulated.wall() == wall
