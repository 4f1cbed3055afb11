"""The fleet at one moment: what each host looks like, what needs somebody, what has happened."""

from dataclasses import replace
from typing import Any

import pytest

from neti.fleet import picture
from neti.fleet.needs import needs
from neti.fleet.picture import NO_SITE, Cell, Event, Picture
from neti.registry.detail import Document, Verified

NOW = 1_800_000_000.0


def row(host_id: str, **more: Any) -> dict[str, Any]:
    return {
        "name": host_id,
        "id": host_id,
        "site": "ec2",
        "private": "10.0.0.1",
        "public": None,
        "overlay": "192.168.0.1",
        "version": "0.1.0",
        "stage": "enforced",
        "state": "registered",
        "problems": [],
        "labels": {"tier": "db"},
        "written": NOW - 60,
        "left": [],
        "hurts": {"ports": 0, "sources": 0, "at": []},
        "relaxed": None,
        "config_unread": None,
        **more,
    }


def away(host_id: str, state: str, **more: Any) -> dict[str, Any]:
    nothing: dict[str, Any] = {
        "stage": None,
        "labels": {},
        "written": None,
        "version": None,
        "site": None,
    }
    return row(host_id, **nothing, **{"state": state, "left": None, "hurts": None, **more})


def cell(of: dict[str, Any], told: Document | None = None) -> Cell:
    said = {of["id"]: told} if told is not None else {}
    return picture.cells([of], [], said, key="tier", now=NOW)[of["id"]]


def pictured(*cells: Cell, **more: Any) -> Picture:
    return Picture(at=NOW, sites=("ec2", "vpc"), cells={one.id: one for one in cells}, **more)


def words(before: Picture, after: Picture) -> list[str]:
    return [f"{one.id} {one.what}" for one in picture.happened(before, after)]


def test_what_a_host_looks_like() -> None:
    relaxed = row("a", stage="shadow", relaxed={"by": "root", "at": 1, "until": None})
    assert cell(relaxed).shade == "relaxed"
    assert cell(row("a", stage="shadow")).shade == "shadow"
    assert cell(row("a", stage="down")).shade == "down"
    assert cell(row("a", stage="?", written=None)).shade == "silent"
    assert cell(away("a", "lost")).shade == "lost"
    assert cell(away("a", "held")).shade == "held"
    assert cell(away("a", "never seen")).shade == "away"
    assert cell(away("a", "lost")).site == NO_SITE


def test_a_stage_that_was_said_long_ago_is_not_shown_as_one_of_now() -> None:
    old = cell(row("a", written=NOW - 3600))
    assert (old.shade, old.level) == ("silent", 2)
    assert cell(row("a", written=NOW + 3600)).shade == "silent"


def test_the_level_is_that_of_the_worst_problem() -> None:
    assert cell(row("a")).level == 0
    assert cell(row("a", problems=["disk", "arming"])).level == 3
    assert cell(row("a", problems=["of_a_later_version"])).level == 2


def test_tiers_count_what_hosts_say_and_nothing_else() -> None:
    all_reached = Document(verified=Verified(at=1, tried=3, reached=3))
    some = Document(verified=Verified(at=1, tried=3, reached=2))
    shown = pictured(
        cell(row("db-1"), all_reached),
        cell(row("db-2", site="vpc", left=[{"to": "x", "port": "tcp/1"}]), some),
        cell(row("db-3", stage="shadow", left=None)),
        cell(row("web-1", labels={"tier": "web"}, written=NOW - 3600), all_reached),
        cell(away("db-9", "lost")),
    )
    by = {tier.value: tier for tier in shown.tiers()}
    db = by["db"]
    assert (db.hosts, db.agents, db.reach, db.clean, db.enforced) == (3, 3, 1, 1, 2)
    assert db.sites == {"ec2": 2, "vpc": 1}
    web = by["web"]  # which has said nothing for an hour
    assert (web.agents, web.reach, web.clean, web.enforced) == (1, 0, 0, 0)
    assert (by["?"].hosts, by["?"].agents) == (1, 0)  # who is away has no label that anybody knows


def test_who_is_away_stays_in_the_tier_that_it_was_in() -> None:
    before = {"a": cell(row("a", site="vpc"))}
    gone = away("a", "lost")
    (shown,) = picture.cells([], [gone], {}, key="tier", now=NOW, before=before).values()
    assert (shown.tier, shown.site, shown.shade) == ("db", "vpc", "lost")
    (unknown,) = picture.cells([], [gone], {}, key="tier", now=NOW).values()
    assert (unknown.tier, unknown.site) == ("?", NO_SITE)


def test_the_label_that_most_hosts_have_tells_tiers_apart() -> None:
    rows = [row("a", labels={"tier": "db", "az": "1"}), row("b", labels={"tier": "web"})]
    assert picture.key_of(rows) == "tier"
    assert picture.key_of([row("a", labels={})]) == ""
    alone = [*(row(f"h{number}", labels={"team": "x"}) for number in range(9)), row("a")]
    assert picture.key_of(alone) == "team"  # one host with a tier decides nothing


def test_codes_that_nobody_knows_are_one_need_and_no_other_ones() -> None:
    odd = row("a", problems=["trial", "hurts", "leftovers", "constructor"])
    found = {one.code: one for one in needs([odd, row("b", stage="trial")], [], {}, now=NOW)}
    assert found.keys() == {"unknown_problems", "trial"}
    assert found["trial"].hosts == ("b",)
    assert found["unknown_problems"].hosts == ("a",)


def test_one_host_does_not_push_the_others_events_out() -> None:
    noisy = [Event(at=1, id="a", name="a", site="x", what=str(number)) for number in range(100)]
    other = Event(at=1, id="b", name="b", site="x", what="joined")
    kept = picture.fair([], [*noisy, other])
    assert len(kept) == 22
    assert kept[-1] == other
    assert "more events" in kept[-2].what
    assert picture.fair(kept, noisy) == []


def test_what_happened_is_told_once_and_in_words() -> None:
    before = pictured(
        cell(row("a")), cell(row("b")), cell(away("c", "lost")), cell(row("d", stage="shadow"))
    )
    after = pictured(
        cell(away("a", "lost")),
        cell(row("c")),
        cell(row("d", stage="trial", problems=["disk"])),
        cell(row("e", site="vpc")),
    )
    assert words(before, after) == [
        "a is lost: its session with the registry ended",
        "c is back: enforced",
        "d is on trial (was in shadow)",
        "d has a problem: disk",
        "e joined, in vpc",
        "b is in the registry no more, with its lease",
    ]
    assert words(after, after) == []


def then(before: Cell, of: dict[str, Any]) -> Cell:
    """As it looks at the next look."""
    there, gone = ([of], []) if of["state"] == "registered" else ([], [of])
    seen = picture.cells(there, gone, {}, key="tier", now=NOW, before={before.id: before})
    return seen[before.id]


@pytest.mark.parametrize("was", ["enforced", "trial"])
@pytest.mark.parametrize("stage", ["shadow", "down"])
def test_a_stage_that_was_lost_is_told_and_is_a_warning(was: str, stage: str) -> None:
    """Its file is gone, or a trial has ended by itself: nobody said a word that would be told."""
    before, after = cell(row("a", stage=was)), cell(row("a", stage=stage, problems=["stage_lost"]))
    first, second = picture.happened(pictured(before), pictured(after))
    assert (first.level, second.what) == (2, "has a problem: stage_lost")
    assert first.what.endswith(f"(was {'on trial' if was == 'trial' else was})")


@pytest.mark.parametrize(
    ("between", "told"),
    [
        (away("a", "lost"), "is back: in shadow (was enforced)"),
        (away("a", "missing"), "is back: in shadow (was enforced)"),
        (row("a", stage="?"), "is in shadow (was silent, and enforced before that)"),
        (
            row("a", written=NOW - 3600),
            "is in shadow (was silent, and enforced before that)",
        ),
    ],
)
def test_nor_is_one_that_was_lost_while_nobody_heard_of_the_host(
    between: dict[str, Any], told: str
) -> None:
    gone = then(then(cell(row("a")), between), between)
    assert gone.was == "enforced"
    back, as_before = then(gone, row("a", stage="shadow")), then(gone, row("a"))
    (event,) = picture.happened(pictured(gone), pictured(back))
    assert (event.what, event.level) == (told, 2)
    (event,) = picture.happened(pictured(gone), pictured(as_before))
    assert event.level == 0
    assert "was enforced" not in event.what


def test_what_a_host_does_not_say_any_more_is_not_solved() -> None:
    ill, silent = cell(row("a", stage="?", problems=["disk"])), cell(row("a", stage="?"))
    assert words(pictured(ill), pictured(silent)) == []


def test_of_who_says_nothing_nobody_knows_that_all_is_well() -> None:
    for nothing in (row("a", stage="?", problems=None), row("a", stage="?", written=None)):
        assert (cell(nothing).shade, cell(nothing).level) == ("silent", 2)


def test_that_nobody_can_be_asked_whether_a_host_is_lost_is_no_news() -> None:
    """This machine's agent, which knows, hangs."""
    lost, held, missing = (cell(away("a", state)) for state in ("lost", "held", "missing"))
    assert words(pictured(lost), pictured(missing)) == []
    assert words(pictured(held), pictured(missing)) == []
    assert words(pictured(missing), pictured(held)) == ["a is lost, and its removal is held"]


def test_a_registry_that_does_not_answer_is_no_news() -> None:
    before = pictured(cell(row("a")))
    assert words(before, pictured(unanswered="away")) == []
    assert words(replace(before, unanswered="away"), pictured()) == []


def test_the_gravest_need_comes_first_and_names_its_hosts() -> None:
    rows = [
        row("a", problems=["disk"]),
        row("b", problems=["arming", "disk"]),
        row("c", stage="down"),
        row("d", stage="shadow", hurts={"ports": 2, "sources": 1, "at": []}),
        row("e", left=[{"to": "db-1", "port": "tcp/5432"}]),
        row("f", written=NOW - 3600, problems=["disk"]),
        row("g", stage="trial"),
    ]
    missed = {"a": Document(verified=Verified(at=1, tried=3, reached=2))}
    found = needs(rows, [away("x", "held"), away("y", "lost")], missed, now=NOW, skipped=2)
    by = {one.code: one for one in found}
    assert [one.severity.rank for one in found] == sorted(
        (one.severity.rank for one in found), reverse=True
    )
    assert {"held", "problem arming"} == {one.code for one in found if one.severity == "critical"}
    assert by["problem disk"].hosts == ("a", "b")  # what f said an hour ago does not count
    assert by["problem disk"].then[0] == "neti fleet --problem disk"
    assert by["silent"].hosts == ("f",)
    assert "neti release --fleet x" in by["held"].then  # to be pasted as it stands
    assert by["down"].then == ("there: neti up",)
    assert by["hurts"].hosts == ("d",)
    assert "db-1" in by["leftovers"].what
    assert by["unreached"].hosts == ("a",)
    assert by["skipped"].count == 2
    assert by["trial"].severity == "note"


def test_a_host_that_is_down_and_should_be_enforced_is_said_once() -> None:
    rows = [row("a", stage="down", problems=["down_open"]), row("b", stage="down")]
    found = {one.code: one for one in needs(rows, [], {}, now=NOW)}
    assert {code: one.hosts for code, one in found.items()} == {"down_open": ("a",), "down": ("b",)}
    assert found["down_open"].severity == "critical"


def test_nothing_is_needed_where_all_is_well() -> None:
    assert needs([row("a"), row("b")], [], {}, now=NOW) == []


def test_a_fleet_of_nobody_is_no_fleet_in_which_all_is_well() -> None:
    (found,) = needs([], [], {}, now=NOW)
    assert (found.code, found.then) == ("nobody", ("neti registry check",))
    assert needs([], [away("x", "left")], {}, now=NOW) == []


def test_whoever_speaks_and_does_not_say_its_stage_is_named() -> None:
    """It looks like one that is silent. Who may not read how hosts are knows of none."""
    rows = [row("a", stage="purple"), row("b", stage="")]
    (found,) = needs(rows, [], {}, now=NOW)
    assert (found.code, found.hosts) == ("no_stage", ("a", "b"))
    assert needs(rows, [], {}, now=NOW, in_part=True) == []


def test_braces_in_what_a_host_says_do_no_harm() -> None:
    found = needs([row("a", left=[{"to": "{0}{x}", "port": "tcp/1"}])], [], {}, now=NOW)
    assert "{0}{x}" in found[0].what


def test_a_cell_as_values_has_all_of_it() -> None:
    made = dict(zip(picture.COLUMNS, picture.values(cell(row("a"))), strict=True))
    assert made["id"] == "a"
    assert made["labels"] == {"tier": "db"}
