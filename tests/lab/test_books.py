"""Requests, troubles and phases become a table; nothing runs here."""

import pytest

from neti.lab.migrate.books import PhaseFigures, Request, figures, lines, rank
from neti.lab.migrate.chaos import Trouble
from neti.lab.migrate.journey import Phase

PHASES = (Phase("first", 10.0, 20.0), Phase("second", 21.0, 30.0))


def one(at: float, milliseconds: float = 5.0, ok: bool = True) -> Request:
    return Request(at, milliseconds, ok)


def test_a_request_counts_to_the_phase_in_which_it_began() -> None:
    """Also one between two phases, and the scanner's hits; what came before all is left out."""
    requests = [one(9.0), one(10.0), one(20.5), one(21.0), one(99.0, ok=False)]
    first, second = figures(PHASES, requests, [12.0, 25.0, 26.0])
    assert (first.requests, first.failures, first.hits) == (2, 0, 1)
    assert (second.requests, second.failures, second.hits) == (2, 1, 2)
    assert (first.seconds, second.seconds) == (10.0, 9.0)


def test_failed_requests_have_no_share_in_the_latency() -> None:
    """A time-out is a failure, not a slow answer."""
    (first, _) = figures(PHASES, [one(11, 3), one(12, 7), one(13, 5000, ok=False)], [])
    assert (first.p50, first.p99, first.slowest) == (3, 7, 7)


def test_only_what_a_flush_may_have_broken_is_excused() -> None:
    """From the first moment without rules until a repair may last; nothing else's, ever."""
    troubles = [
        Trouble("flush", "ec2-1", 12.0, 12.2),
        Trouble("agent", "ec2-1", 15.0, 18.0),
    ]
    requests = [
        one(11.9, 200, ok=False),  # began before, and ran into it
        one(12.1, 5, ok=False),
        one(14.5, 5, ok=False),  # later than any repair may take
        one(15.5, 5, ok=False),  # an agent's death excuses nothing
        one(11.0, 50, ok=False),  # over before it
    ]
    (first, _) = figures(PHASES, requests, [12.1, 16.0], troubles)
    assert (first.failures, first.excused) == (5, 2)
    assert (first.hits, first.excused_hits) == (2, 1)


@pytest.mark.parametrize(
    ("numbers", "share", "expected"),
    [
        ([], 0.5, None),
        ([1.0], 0.99, 1.0),
        ([1.0, 2.0], 0.5, 1.0),
        (list(map(float, range(1, 101))), 0.99, 99.0),
        (list(map(float, range(1, 101))), 1.0, 100.0),
        (list(map(float, range(1, 102))), 0.99, 100.0),
    ],
)
def test_percentiles_are_by_nearest_rank(
    numbers: list[float], share: float, expected: float | None
) -> None:
    assert rank(numbers, share) == expected


def test_the_table_shows_what_was_excused_beside_what_was_not() -> None:
    phase = PhaseFigures("moved", 3.0, 1200, 5, 3, 1.0, 2.0, None, 2, 2)
    assert lines([phase], with_chaos=True)[1].split("  ")[0] == "moved"
    assert "2 (+3)" in lines([phase], with_chaos=True)[1]
    assert lines([phase], with_chaos=True)[1].endswith("0 (+2)")
    assert "(+" not in lines([phase], with_chaos=False)[1]
