"""May a host move, be enforced, be retired: what documents show."""

from dataclasses import replace

import pytest

from neti.fleet.finding import Finding, Known, Light, worst
from neti.fleet.readiness import drained, judged, move_findings
from neti.registry.detail import CallsSeen, Document, Left, Verified
from neti.registry.hurts import Hurts

NOW = 1_800_000_000.0
DAY, HOUR = 86_400, 3_600
LONG = int(NOW) - 20 * DAY


def seen_calls(
    since: int, at: int = int(NOW) - 1, last: int | None = None, open: int | None = None
) -> CallsSeen:
    return CallsSeen(since=since, at=at, last=last, open=open)


SOUND = Document(
    stage="enforced",
    problems=(),
    left=(),
    left_since=LONG,
    calls=seen_calls(since=LONG, last=int(NOW) - 2 * DAY, open=0),
    verified=Verified(at=int(NOW) - HOUR, tried=1, reached=1, missed=(), missed_more=0, word=""),
    written=int(NOW) - 60,
)


def known(**told: Document) -> Known:
    documents = {"db": SOUND, "web": SOUND, **told}
    return Known(members=frozenset(documents), told=documents, away={}, now=NOW)


def lights(seen: Known) -> dict[str, Light]:
    found = list(judged("db", seen))
    return {of: worst(found, of) for of in ("move", "enforce", "retire")}


def said(found: list[Finding], light: Light) -> str:
    return "\n".join(one.what for one in found if one.light == light)


ALL_GREEN = {"move": "green", "enforce": "green", "retire": "green"}


def test_a_host_of_which_all_is_known_and_nothing_is_wrong_is_green() -> None:
    assert lights(known()) == ALL_GREEN


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"calls": None}, {"retire": "yellow"}),
        ({"calls": seen_calls(since=int(NOW) - 3 * HOUR, open=0)}, {"retire": "yellow"}),
        ({"calls": seen_calls(since=LONG, last=int(NOW) - 5, open=0)}, {"retire": "red"}),
        ({"calls": seen_calls(since=LONG, last=None, open=3)}, {"retire": "red"}),
        ({"calls": seen_calls(since=LONG, last=None, open=None)}, {"retire": "yellow"}),
        ({"stage": "shadow"}, {"enforce": "yellow"}),
        ({"stage": "shadow", "hurts": Hurts(ports=2, sources=9)}, {"enforce": "red"}),
        ({"stage": "shadow", "hurts": Hurts(ports=0, sources=0, since=LONG)}, {}),
        (
            {"stage": "shadow", "hurts": Hurts(ports=0, sources=0, since=int(NOW) - 45)},
            {"enforce": "yellow"},
        ),
        (
            {"stage": "shadow", "hurts": Hurts(ports=0, sources=0, since=int(NOW) + HOUR)},
            {"enforce": "yellow"},
        ),
        ({"stage": "shadow", "hurts": Hurts(ports=0, sources=0)}, {"enforce": "yellow"}),
        ({"problems": ("kernel",)}, {"move": "red", "enforce": "red"}),
        ({"problems": ("clock",)}, {"move": "yellow", "enforce": "yellow"}),
        ({"problems": None}, dict.fromkeys(("move", "enforce", "retire"), "yellow")),
        ({"config_unread": int(NOW)}, {"move": "yellow", "enforce": "yellow"}),
        ({"written": int(NOW) - HOUR}, dict.fromkeys(("move", "enforce", "retire"), "yellow")),
        (
            {"left": (Left(to="web", port="80/tcp", calls=3, last=int(NOW) - 9),)},
            {"move": "red"},
        ),
    ],
)
def test_what_it_says_of_itself(change: dict[str, object], expected: dict[str, Light]) -> None:
    """Who is silent is never green."""
    assert lights(known(db=replace(SOUND, **change))) == {**ALL_GREEN, **expected}  # type: ignore[arg-type]


def test_for_how_long_it_has_watched_is_said() -> None:
    young = replace(SOUND, stage="shadow", hurts=Hurts(ports=0, sources=0, since=int(NOW) - 45))
    (found,) = (
        one
        for one in judged("db", known(db=young))
        if one.of == ("enforce",) and one.light != "green"
    )
    assert found.what == (
        "nothing that was in use would be shut, but it has watched for 45 s only: what runs once a "
        "day may not have come yet"
    )


@pytest.mark.parametrize(
    ("change", "expected", "what"),
    [
        (
            {"left": (Left(to="db", port="5432/tcp", calls=214, last=int(NOW) - 4),)},
            "red",
            "web calls its real address, 5432/tcp: 214 connections, the last 4 s ago",
        ),
        (
            {"left": (Left(to="db", port="5432/tcp", calls=1, last=int(NOW) - 3 * DAY),)},
            "yellow",
            "1 connection, the last 3 days ago",
        ),
        ({"left": None}, "yellow", "1 host does not say"),
        ({"written": int(NOW) - HOUR}, "yellow", "1 host does not say"),
        ({"left_more": 4}, "yellow", "1 host calls more real addresses than it has room to say"),
        (
            {"left_since": int(NOW) - HOUR},
            "yellow",
            "1 host has watched whom it calls for less than 24 h",
        ),
        ({"left_since": None}, "yellow", "1 host has watched whom it calls for less than 24 h"),
    ],
)
def test_who_calls_it_by_a_real_address(
    change: dict[str, object], expected: Light, what: str
) -> None:
    seen = known(web=replace(SOUND, **change))  # type: ignore[arg-type]
    assert lights(seen) == {"move": expected, "enforce": "green", "retire": expected}
    assert what in said(list(judged("db", seen)), expected)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"missed": ("db",), "reached": 0}, {"move": "red", "enforce": "red"}),
        ({"missed": ("db",), "reached": 0, "at": LONG}, {"move": "yellow"}),
        ({"missed": ("new",), "reached": 0}, {}),
    ],
)
def test_who_did_not_reach_it(change: dict[str, object], expected: dict[str, Light]) -> None:
    """As the others said when they verified last; what is older than a day says nothing."""
    assert SOUND.verified is not None
    row = replace(SOUND.verified, **change)  # type: ignore[arg-type]
    assert lights(known(web=replace(SOUND, verified=row))) == {**ALL_GREEN, **expected}


@pytest.mark.parametrize(
    ("change", "came", "what"),
    [
        # It tried one member less than there are, which may be this one.
        ({"tried": 1}, 0, "may be one that web did not try"),
        ({"missed": ("new",), "missed_more": 3, "reached": 0}, 0, "did not try, or did not name"),
        ({"tried": 2}, int(NOW) - 60, "no other host has tried it"),
    ],
)
def test_who_cannot_have_tried_it_says_nothing_for_it(
    change: dict[str, object], came: int, what: str
) -> None:
    """A host that came, or came back, after the others verified was reached by nobody yet."""
    assert SOUND.verified is not None
    row = replace(SOUND.verified, **{"tried": 2, "reached": 2, **change})  # type: ignore[arg-type]
    web, new = replace(SOUND, verified=row), replace(SOUND, verified=None)
    seen = known(db=replace(SOUND, verified=None, config_read=came), web=web, new=new)
    assert lights(seen)["move"] == "yellow"
    assert what in said(list(judged("db", seen)), "yellow")
    sure = replace(SOUND.verified, tried=2, reached=2)
    both = known(db=replace(SOUND, verified=None), web=replace(web, verified=sure), new=new)
    assert lights(both)["move"] == "green"
    assert "1 host tried it within a day, and reached it" in said(list(judged("db", both)), "green")


def test_a_gateway_in_use_has_to_be_drained_first() -> None:
    seen = replace(known(), gateways=frozenset({"db"}))
    assert lights(seen) == {"move": "red", "enforce": "green", "retire": "red"}


def test_a_host_that_is_not_there_says_nothing() -> None:
    seen = Known(members=frozenset({"web"}), told={"web": SOUND}, away={"db": "lost"}, now=NOW)
    assert set(lights(seen).values()) == {"red"}
    assert "it is lost" in said(list(judged("db", seen)), "red")


@pytest.mark.parametrize(
    ("away", "expected"),
    [
        ({"db": "left"}, "green"),
        ({"db": "gone"}, "green"),
        ({"db": "lost"}, "yellow"),
        ({"db": "missing"}, "yellow"),
        ({"db": "held"}, "yellow"),
        ({"db": "not believed"}, "yellow"),
        ({}, "yellow"),
    ],
)
def test_who_is_silent_is_not_drained_unless_peers_let_go_of_it(
    away: dict[str, str], expected: Light
) -> None:
    """A dead agent's host may have its clients."""
    seen = Known(members=frozenset({"web"}), told={"web": SOUND}, away=away, now=NOW)
    assert worst(drained("db", seen)) == expected


def test_drained_is_asked_with_a_patience_of_its_own() -> None:
    calls = seen_calls(since=int(NOW) - 2 * HOUR, last=int(NOW) - 2 * HOUR, open=0)
    seen = known(db=replace(SOUND, calls=calls))
    assert worst(drained("db", seen)) == "red"
    assert worst(drained("db", replace(seen, quiet=float(HOUR)))) == "green"


@pytest.mark.parametrize(
    ("at", "last", "expected"),
    [
        (0, 700, "green"),
        (590, 1300, "green"),
        (595, 605, "yellow"),  # and called each second, for all that anybody knows
        (595, 700, "yellow"),
        (0, 595, "red"),
        (595, 599, "red"),
        (800, 4000, "yellow"),  # nothing that works lets it become so old
        (-800, 4000, "yellow"),
    ],
)
def test_what_came_after_a_host_counted_nobody_knows(at: int, last: int, expected: Light) -> None:
    """However fresh the document is, which is written for other reasons, too."""
    now = int(NOW)
    calls = seen_calls(since=LONG, at=now - at, last=now - last, open=0)
    seen = replace(known(db=replace(SOUND, calls=calls, written=now)), quiet=600.0)
    assert worst(drained("db", seen)) == expected


def move(seen: Known, *, holds: bool = True, behind: tuple[str, ...] = ()) -> list[Finding]:
    return list(move_findings("db", "new", seen, holds=holds, behind=behind))


def test_what_stands_against_a_move() -> None:
    sound = known(new=SOUND)
    assert worst(move(sound)) == "green"
    assert worst(move(sound, holds=False)) == "red"
    assert "db is a gateway of its site" in said(
        move(replace(sound, gateways=frozenset({"db"}))), "red"
    )
    assert worst(move(replace(sound, gateways=frozenset({"web"})))) == "green"
    assert worst(move(sound, behind=("db",))) == "yellow"
    assert "nobody would answer at the address" in said(move(known()), "red")
    for change, light in (
        ({"stage": "shadow"}, "yellow"),
        ({"problems": ("registration",)}, "red"),
        ({"written": 5}, "red"),
        ({"calls": seen_calls(since=LONG, open=2)}, "yellow"),
    ):
        assert worst(move(known(new=replace(SOUND, **change)))) == light, change
