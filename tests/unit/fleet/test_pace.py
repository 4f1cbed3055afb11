"""How often a record is looked at that its host writes again and again."""

import pytest

from neti.fleet.pace import Pace


def looks(pace: Pace, host_id: str, *, seconds: float, every: float) -> list[float]:
    """When its record is looked at, of a host that writes it every so many seconds; and after the
    last of its writes."""
    seen, now, last = [], 0.0, 0.0
    while now < seconds:
        seen += [now for _ in pace.due(now=now)]
        if pace.may(host_id, now=now):
            seen.append(now)
        last, now = now, now + every
    while (at := pace.next()) is not None:
        seen += [at for _ in pace.due(now=at)]
    assert max(seen) >= last  # what was written last was looked at
    return seen


@pytest.mark.parametrize(("members", "most"), [(3, 112), (16_000, 14)])
def test_a_tight_loop_costs_a_few_looks_and_the_last_write_is_seen(members: int, most: int) -> None:
    seen = looks(Pace("a", lambda: members), "m", seconds=100.0, every=0.01)
    assert len(seen) <= most


def test_an_honest_host_is_looked_at_at_once() -> None:
    pace = Pace("a", lambda: 16_000)
    assert all(pace.may("m", now=60.0 * number) for number in range(100))
    assert all(pace.may(f"h{number}", now=0.0) for number in range(5000))


def test_one_hosts_writes_delay_nobody_else() -> None:
    pace = Pace("a", lambda: 3)
    for _ in range(100):
        pace.may("m", now=0.0)
    assert pace.waits("m")
    assert pace.may("h", now=0.0)


def test_agents_do_not_look_at_the_same_moment() -> None:
    paces = [Pace(f"host-{number}", lambda: 1000) for number in range(100)]
    for pace in paces:
        for _ in range(10):
            pace.may("m", now=0.0)
    times = [pace.next() for pace in paces]
    assert len(set(times)) > 90


def test_a_host_that_nobody_knows_any_more_is_not_looked_at() -> None:
    pace = Pace("a", lambda: 3)
    for _ in range(10):
        pace.may("m", now=0.0)
    pace.forget("m")
    assert pace.next() is None
    assert not pace.due(now=100.0)


def test_a_host_that_comes_back_again_and_again_keeps_its_turn_and_delays_nobody() -> None:
    pace, seen = Pace("a", lambda: 100), list[str]()
    assert sum(pace.may_unhurried(f"h{number}", now=0.0) for number in range(100)) == 16
    for step in range(2400):
        seen += pace.due(now=step / 4)
        pace.hurry("m")
        if pace.may_unhurried("m", now=step / 4):
            seen.append("m")
    assert len({*seen} - {"m"}) == 84
    assert seen.count("m") > 10
    late = [f"late{number}" for number in range(40)]
    assert any(not pace.may_unhurried(one, now=600.0) for one in late)
    assert {*late, "m"} >= {*pace.due(now=661.0)}
    assert pace.next() is None


def test_what_is_not_put_off_any_more_takes_no_room() -> None:
    pace = Pace("a", lambda: 100)
    for number in range(40_000):
        if not pace.may_unhurried(f"h{number}", now=0.0):
            pace.forget(f"h{number}")
    assert len(pace._order) < 2_000
