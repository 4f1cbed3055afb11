"""Filters that let nobody through, and hosts of which nobody knows whether they are meant."""

import pytest
from tests.unit.fleet.test_picture import away, row

from neti.fleet.selecting import Choice, left_out, nobody_like

DB = (("tier", "db"),)
ROWS = [
    row("a", problems=["disk"]),
    row("b", labels={"tier": "web", "zone": "1"}, stage="shadow", version="0.2.0"),
    row("c", labels={}, written=None, stage="?", problems=None),
]
AWAY = [away("d", "lost"), {**away("e", "missing"), "site": "vpc"}]


@pytest.mark.parametrize(
    ("choice", "asked", "there"),
    [
        (Choice(where=(("tier", "dp"),)), "tier=dp", "label tier: db, web"),
        (
            Choice(where=(("tier", "db"), ("zone", "1"))),
            "tier=db and zone=1",
            "label tier: db, web; label zone: 1",
        ),
        (Choice(where=(("row", "9"),)), "row=9", "label row: none"),
        (
            Choice(stage="trial", site="ec2"),
            "site ec2 and stage trial",
            "site: ec2, vpc; stage: ?, enforced, shadow",
        ),
        (Choice(state="held"), "state held", "state: lost, missing, registered"),
        (Choice(problem="disc"), "problem disc", "problem: disk"),
        (
            Choice(version="9", version_below="0.1"),
            "version 9 and a version below 0.1",
            "version: 0.1.0, 0.2.0",
        ),
    ],
)
def test_a_filter_that_lets_nobody_through_says_what_there_is(
    choice: Choice, asked: str, there: str
) -> None:
    assert nobody_like(choice, ROWS, AWAY) == f"no host has {asked}. Hosts have {there}"


def test_of_many_values_the_first_are_named() -> None:
    rows = [row(f"h{n}", labels={"tier": f"t{n:02}"}) for n in range(40)]
    assert nobody_like(Choice(where=DB), rows, []).endswith("t08, t09 and 30 more")


def test_who_says_no_labels_is_left_out_by_name() -> None:
    assert left_out(Choice(where=DB), ROWS, AWAY) == ["c", "d", "e"]
    assert left_out(Choice(where=DB, site="ec2"), ROWS, AWAY) == ["c", "d"]
    assert left_out(Choice(stage="shadow"), ROWS, AWAY) == []
