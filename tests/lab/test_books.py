"""Requests, troubles and phases become a table; nothing runs here."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from neti_lab import busy
from neti_lab.migrate.books import Line, as_text, lines_of
from neti_lab.migrate.chaos import Trouble
from neti_lab.migrate.journey import Phase
from neti_lab.migrate.story import _LAST, _MOVING, _PREPARING, _TIERS
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
    assert text.split() == ["moved", "3.0", "1,200", "2", "(+3)", "2.0", "-", "0", "(+2)"]


def test_the_table_fits_80_columns_and_says_who_kept_the_scanner_out() -> None:
    """Three of them are the story's indentation."""
    titles = [title for _, title, _ in (*_PREPARING, *_MOVING, *_LAST, *_TIERS.values())]
    widest = max(titles, key=len)
    figures = Figures(widest, 123_456, 12, 1000.1, 12_345.6, 12_345.6)
    groups = Line(1234.5, figures, 2, 12, 2, step="15")
    lines = as_text([groups, replace(groups, step="16", by_neti=True)])
    assert all(len(line) <= 77 for line in lines)
    assert "only Neti keeps the scanner out" in lines[2]
    assert [line.split()[0] for line in lines] == ["PHASE", "15", "---", "16"]


def test_phases_have_the_runbooks_numbers() -> None:
    """Whoever has played it finds each phase on the page; 2 and 3 are one."""
    page = (Path(__file__).parents[2] / "docs/runbook.md").read_text()
    there = re.findall(r"^## (\d+)\. ", page, re.MULTILINE)
    played = [step for step, _, _ in (*_PREPARING, *_MOVING, *_LAST)]
    assert played == [one for one in there if one not in ("3", "17")]


@pytest.mark.parametrize(
    ("load", "processors", "factor"),
    [(0.0, 2, 1.0), (2.0, 2, 1.0), (5.0, 2, 2.5), (90.0, 2, 4.0)],
)
def test_time_outs_follow_how_busy_the_machine_is(
    load: float, processors: int, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETI_LAB_STRETCH", "1")
    monkeypatch.setattr(busy, "measure", lambda: (load, processors))
    assert ("BUSY" in busy.stretch_time_outs()) == (factor > 1)
    assert busy.stretched(5.0) == 5.0 * factor
