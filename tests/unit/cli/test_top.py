"""What ``neti top`` draws and what its keys do, without a terminal."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from neti.cli.top_lines import drawn
from neti.cli.top_pages import then_of
from neti.cli.top_spans import safe
from neti.cli.top_view import Known, Page, View, pressed, shown_of
from neti.fleet.needs import Need
from neti.fleet.picture import SHADES, Cell, Event, Picture
from neti.model.problem_codes import Severity

AT = 1_700_000_000.0
SIZES = [(80, 24), (200, 60), (60, 18)]


def cell(host_id: str, **more: Any) -> Cell:
    said: dict[str, Any] = {
        "name": host_id,
        "site": "ec2",
        "shade": "enforced",
        "level": 0,
        "tier": "db",
        "overlay": "192.168.0.9",
        "private": "10.0.0.1",
        "public": None,
        "version": "0.1.0",
        "labels": {"tier": "db"},
        "problems": (),
        "state": "registered",
    }
    return Cell(id=host_id, **{**said, **more})


def need(code: str, **more: Any) -> Need:
    said: dict[str, Any] = {"severity": Severity.WARNING, "what": f"{code} it is", "count": 1}
    return Need(code=code, **{**said, **more})


def known(*cells: Cell, events: Iterable[Event] = (), **more: Any) -> Known:
    sites = tuple(sorted({one.site for one in cells}))
    said: dict[str, Any] = {"at": AT, "sites": sites, "key": "tier"}
    picture = Picture(cells={one.id: one for one in cells}, **{**said, **more})
    return Known(picture=picture, events=tuple(events), since=AT)


def screen(
    of: Known, view: View | None = None, width: int = 80, height: int = 24, now: float = AT
) -> str:
    view = view or View()
    frame = drawn(of, shown_of(of, view.filter), view, width, height, now)
    assert len(frame.lines) == height
    lines = ["".join(part.text for part in line) for line in frame.lines]
    assert all(len(line) <= width for line in lines)
    assert all(safe(line) == line for line in lines)
    return "\n".join(line.rstrip() for line in lines)


def after(of: Known, *keys: str, view: View | None = None) -> View:
    view = view or View()
    for key in keys:
        frame = drawn(of, shown_of(of, view.filter), view, 80, 24, AT)
        shown = shown_of(of, view.filter)
        view, _ = pressed(view, key, shown, page=frame.page, most=frame.most)
    return view


FEW = known(
    cell("db-1"),
    cell("db-2", site="vpc", shade="lost", level=2, state="lost", tier="?"),
    cell("web-1", shade="down", level=2, tier="web", name="shop"),
    cell("web-2", site="vpc", level=3, tier="web", problems=("down_open", "of_tomorrow")),
    needs=(
        need("down_open", severity=Severity.CRITICAL, hosts=("web-2",), then=("there: neti up",)),
        need("lost", hosts=("db-2",), then=("neti fleet --state lost",)),
    ),
    events=[
        Event(at=AT, id="web-1", name="shop", site="ec2", what="down (was enforced)", level=2),
        Event(at=AT - 9, id="db-2", name="db-2", site="vpc", what="is lost", level=2),
    ],
)


# --- what is drawn ---


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_all_of_it_is_on_one_screen(width: int, height: int) -> None:
    shown = screen(FEW, width=width, height=height)
    for word in (
        *("4 hosts, 3 registered", "22:13:20 UTC, 0 s ago", "e enforced 2", "L lost 1"),
        *("ec2 2 hosts: 1 warning", "vpc 2", ": 1 critical, 1 warning"[: width // 5]),
        *("NO LEFTOVERS", "web", "What needs attention 2", "on web-2: neti up"),
    ):
        assert word in shown
    assert ("is lost" in shown) == (height == 60)  # there is room for two lists


def test_each_shade_has_a_letter_of_its_own_and_a_problem_makes_it_capital() -> None:
    every = known(*(cell(f"h{n}", shade=shade) for n, shade in enumerate(SHADES)))
    assert "\netsrd?lha\n" in screen(every)
    bad = known(*(cell(f"h{n}", shade=shade, level=2) for n, shade in enumerate(SHADES)))
    assert "\nETSRD?LHA\n" in screen(bad)
    critical = known(cell("a", level=3), cell("b", level=2), cell("c", level=1))
    frame = drawn(critical, shown_of(critical, ""), View(), 80, 24, AT)
    marks = next(line for line in frame.lines if "".join(p.text for p in line) == "EEe")
    assert [(part.text, part.style.reverse) for part in marks if part.text] == [
        ("E", True),
        ("E", False),
        ("e", False),
    ]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("sites", [1, 2, 7, 60])
def test_a_letter_stands_for_the_worst_of_those_that_it_stands_for(
    width: int, height: int, sites: int
) -> None:
    many = {f"h{n:05}": cell(f"h{n:05}", site=f"s{n % sites}") for n in range(16_000)}
    many["h07000"] = replace(many["h07000"], shade="held", level=3)
    shown = screen(known(*many.values()), width=width, height=height)
    assert "one letter: the worst of " in shown
    assert "16000 hosts, 16000 registered" in shown
    above = shown.partition("TIER")[0].splitlines()
    assert sum(line.count("H") for line in above if set(line) <= {*"eH "}) == 1
    assert "h07000" in screen(known(*many.values()), after(known(), "tab"), width, height)


def test_where_not_all_sites_fit_the_worst_do_and_the_rest_is_counted() -> None:
    many = [cell(f"h{n:03}", site=f"s{n:03}") for n in range(100)]
    many[70] = replace(many[70], level=3)
    many[80] = replace(many[80], level=2)
    shown = screen(known(*many))
    assert "s070 1 host: 1 critical" in shown
    assert "s080 1 host: 1 warning" in shown
    assert "more sites: " in shown


def test_a_tier_for_the_rest_where_there_are_too_many() -> None:
    many = known(*(cell(f"h{n}", tier=f"t{n:02}") for n in range(30)))
    assert "(the rest)" in screen(many)
    odd = known(cell("a", tier=""), cell("b", tier="?"), cell("c", tier="db  9  9"))
    shown = screen(odd)
    assert "(none)" in shown
    assert "(not reported)" in shown
    assert '"db  9  9"' in shown
    assert "(no labels)" in screen(known(cell("a", tier=""), key=""))


def test_before_the_first_look_and_while_there_is_no_registry() -> None:
    assert "asking the registry..." in screen(Known())
    shown = screen(Known(failed="no server answered\n→ is it up?"))
    assert "NO ANSWER: no server answered" in shown
    old = replace(FEW, picture=replace(FEW.picture, unanswered="no server"))  # type: ignore[type-var]
    shown = screen(old, now=AT + 180)
    assert "NO ANSWER since 22:13:20 UTC, so all of this is 3 min old: no server" in shown
    assert "What needs attention 2" in shown
    assert "NO ANSWER" in screen(old, after(FEW, "enter"), now=AT + 180)


def test_a_part_of_the_fleet_is_said_to_be_one() -> None:
    shown = screen(replace(FEW, only="site=vpc tier=db", unsaid=2))
    assert "only site=vpc tier=db" in shown
    assert "2 hosts say no labels" in shown


@pytest.mark.parametrize("size", [(59, 24), (80, 17), (5, 2), (1, 1)])
def test_a_window_that_is_too_small_is_told_so(size: tuple[int, int]) -> None:
    shown = screen(FEW, width=size[0], height=size[1])
    assert "The window is too small"[: size[0] - 1].rstrip("~") in shown


HOSTILE = "\033[2J\a\r\nx\u202e\u4f60\u597d\ud800e\u0301\u0301\u0301\ufe0f\u200b\U0001f525{}%s"


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_what_hosts_say_stays_in_its_place(width: int, height: int) -> None:
    """``screen`` looks at each line: its letters take one column each."""
    bad = cell(
        "id",
        name=HOSTILE,
        site=HOSTILE,
        tier=HOSTILE,
        version=HOSTILE,
        overlay=HOSTILE,
        labels={"tier": HOSTILE * 9},
        problems=(HOSTILE,),
        state=HOSTILE,
        level=2,
    )
    event = Event(at=1e300, id=HOSTILE, name=HOSTILE, site=HOSTILE, what=HOSTILE * 50)
    hostile = need(HOSTILE, what=HOSTILE * 9, hosts=(HOSTILE,), then=(HOSTILE,), remedy=HOSTILE)
    of = known(bad, events=[event], key="tier", needs=(hostile,))
    of = replace(of, only=HOSTILE)
    for keys in ((), ("tab",), ("tab", "tab"), ("enter",), ("tab", "enter"), ("enter", "enter")):
        assert "\033" not in screen(of, after(of, *keys), width, height)
    assert safe("\u00fc") == "\u00fc"
    assert safe("\u4f60") == "\\u4f60"


# --- keys ---


def test_a_need_leads_to_its_hosts() -> None:
    view = after(FEW, "enter")
    shown = screen(FEW, view)
    assert "critical: down_open it is" in shown
    assert "E web-2" in shown
    shown = screen(FEW, after(FEW, "enter", view=view))
    for word in ("down_open (critical): ", "of_tomorrow: a problem of a later", "neti ready web-2"):
        assert word in shown
    back = after(FEW, "enter", "esc", "esc", view=view)
    assert back == View()
    assert "What needs attention" in screen(FEW, back)


def test_moving_follows_what_is_selected_and_stays_at_the_top() -> None:
    view = after(FEW, "tab", "j", "down")
    assert screen(FEW, after(FEW, "enter", view=view)).splitlines()[2].startswith("web-1  shop")
    worse = known(*FEW.picture.cells.values(), cell("a", level=3, shade="held"))  # type: ignore[union-attr]
    assert screen(worse, after(worse, "enter", view=view)).splitlines()[2].startswith("web-1")
    fewer = known(cell("db-1"))
    assert screen(fewer, after(fewer, "enter", view=view)).splitlines()[2].startswith("db-1")
    assert after(FEW, "home", view=view).chosen == {}
    assert after(FEW, "tab", "end", "pageup", "k").chosen == {}
    assert after(known(), "enter", "j", "tab", "enter", "tab", "G") == View(pane="events")


def test_a_filter_finds_hosts_by_all_that_is_shown_of_them() -> None:
    for typed, found in (
        ("web-1", {"web-1"}),
        ("SHOP", {"web-1"}),
        ("vpc", {"db-2", "web-2"}),
        ("web enforced", {"web-2"}),
        ("lost", {"db-2"}),
        ("down_open", {"web-2"}),
        ("critical", {"web-2"}),
        ("nothing", set()),
    ):
        view = after(FEW, "/", *typed)
        assert {one.id for one in shown_of(FEW, view.filter).hosts} == found, typed
        assert f"Hosts {len(found)} of 4" in screen(FEW, view)
    view = after(FEW, "/", *"xy", "backspace", "enter")
    assert (view.filter, view.typing, view.pane) == ("x", None, "hosts")
    assert "The filter lets nothing through" in screen(FEW, view)
    assert "on web-2: neti up" in screen(FEW, after(FEW, "backtab", view=view))
    assert after(FEW, "/", "z", "esc", view=view).filter == "x"
    assert after(FEW, "/", "ctrl-u", "enter", view=view).filter == ""
    assert after(FEW, "esc", view=view).filter == ""
    events = after(FEW, "tab", "tab", "/", *"lost")
    assert "Last hour 1 of 2" in screen(FEW, events)


def test_letters_are_keys_only_where_nobody_types() -> None:
    shown = shown_of(FEW, "")
    assert pressed(View(), "q", shown)[1] == "quit"
    assert pressed(View(), "r", shown)[1] == "look"
    typing = after(FEW, "/", "q")
    assert typing.filter == "q"
    assert pressed(typing, "q", shown)[1] == ""
    assert after(FEW, "?", "?").pages == after(FEW, "?").pages
    assert "Ctrl-C" in screen(FEW, after(FEW, "?"))


def test_a_long_page_can_be_read_to_its_end() -> None:
    many = known(cell("a", level=2, problems=("down_open", "clone", "drops", "arming") * 3))
    view = after(many, "tab", "enter")
    assert "more lines: arrow down" in screen(many, view)
    assert "neti ready a" not in screen(many, view)
    end = after(many, "end", view=view)
    assert "neti ready a" in screen(many, end)
    assert screen(many, after(many, "down", "up", view=end)) != screen(many, end)


def test_a_host_that_is_gone_is_said_to_be() -> None:
    view = after(FEW, "tab", "enter")
    assert "not in the fleet" in screen(known(cell("db-1")), view)
    gone = after(FEW, "enter")
    assert "nothing needs you there any more" in screen(known(cell("db-1")), gone)


def test_where_to_type_a_command() -> None:
    assert then_of("neti fleet", need("a")) == "neti fleet"
    assert then_of("there: neti up", need("a", hosts=("x",))) == "on x: neti up"
    assert then_of("there: neti up", need("a", hosts=("x", "y"), count=2)).startswith("on each")


@pytest.mark.parametrize("shade", ["silent", "lost", "held", "away"])
def test_of_who_says_nothing_no_page_says_that_nothing_is_wrong(shade: str) -> None:
    of = known(cell("a"), cell("b", shade=shade, level=2))
    shown = {i: screen(of, View(pages=(Page(kind="host", of=i),))) for i in ("a", "b")}
    assert "It names no problem." in shown["a"]
    assert "It names no problem." not in shown["b"]
    assert "What is wrong there, nobody knows." in shown["b"]
