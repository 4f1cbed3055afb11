"""Times that an earlier run wrote: what was left behind in one file moves nothing in the others."""

import pytest

from neti.agent.keeping_time import rebased
from neti.clock import ManualClock, Mark, SteadyClock
from neti.fleet.remembered import Remembered
from neti.state.loaded import Loaded

DAY = 86_400.0


@pytest.mark.parametrize("same_boot", [True, False])
def test_a_future_time_in_one_file(same_boot: bool) -> None:
    """Within one boot it is a leftover; after another one it says that the clock was set back."""
    clock = ManualClock(1_800_000_000.0)
    mark = SteadyClock(clock, "boot").mark()
    steady = SteadyClock(clock, "boot" if same_boot else "next", mark)
    now = steady.now()
    lost = Remembered("1.0a000001c6336401c0a80001.0.ec2.a", lost_since=now - 30)
    loaded = rebased(Loaded(window={"b": now + DAY}, members={"a": lost}, mark=mark), steady)
    assert loaded.window == {"b": now}
    assert loaded.members["a"].lost_since == (now - 30 if same_boot else now - 30 - DAY)


def test_what_is_past_stays_as_it_is() -> None:
    clock = ManualClock(1_800_000_000.0)
    mark = Mark("boot", 0.0, 0.0)
    steady = SteadyClock(clock, "boot", mark)
    lost = Remembered("1.0a000001c6336401c0a80001.0.ec2.a", lost_since=steady.now() - 30)
    loaded = rebased(Loaded(window={"b": steady.now() - 5}, members={"a": lost}), steady)
    assert (loaded.members["a"], loaded.window) == (lost, {"b": steady.now() - 5})
