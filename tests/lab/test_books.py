"""Requests, troubles and phases become a table; nothing runs here."""

from neti_lab.migrate.books import Line, as_text, lines_of
from neti_lab.migrate.chaos import Trouble
from neti_lab.migrate.journey import Phase
from neti_lab.shop.figures import Figures, Traced

PHASES = (Phase("first", 10.0, 20.0), Phase("second", 21.0, 30.0))


def one(at: float, milliseconds: float = 5.0, ok: bool = True) -> Traced:
    return Traced(at, milliseconds, ok)


def test_a_request_counts_to_the_phase_in_which_it_was_due() -> None:
    """Also one between two phases, and the scanner's hits; what came before all is left out."""
    requests = [one(9.0), one(10.0), one(20.5), one(21.0), one(99.0, ok=False)]
    first, second = lines_of(PHASES, requests, [12.0, 25.0, 26.0])
    assert (first.figures.requests, first.figures.failures, first.hits) == (2, 0, 1)
    assert (second.figures.requests, second.figures.failures, second.hits) == (2, 1, 2)
    assert (first.seconds, second.seconds) == (10.0, 9.0)


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
    first, second = lines_of(PHASES, requests, [12.1, 16.0], troubles)
    assert (first.figures.failures, first.excused) == (5, 2)
    assert (first.hits, first.excused_hits) == (2, 1)
    assert (second.excused, second.excused_hits) == (0, 0)


def test_the_table_shows_what_was_excused_beside_what_was_not() -> None:
    phase = Figures("moved", 1200, 5, 1.0, 2.0, None)
    text = as_text([Line(3.0, phase, 3, 2, 2)])[1]
    assert text.split() == ["moved", "3.0", "1,200", "2", "(+3)", "1.0", "2.0", "-", "0", "(+2)"]
