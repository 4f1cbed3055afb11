"""The looks behind ``neti top``: one at a time, and what happens from one to the next."""

import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.unit.cli.test_top import cell, screen
from tests.unit.oneshot.test_registered import settings

from neti.cli.top_looks import EVERY, Looker
from neti.cli.top_view import Known
from neti.errors import NetiError, RegistryError, RegistryUnavailable
from neti.fleet.picture import EVENTS, Cell, Picture
from neti.fleet.selecting import Choice
from neti.oneshot.watched import Watched
from neti.registry.memory import MemoryRegistry, MemoryServer


class Pictures(Watched):
    """One after the other; an error is raised."""

    def __init__(self, *given: Picture | Exception) -> None:
        self.given = [*given]
        self.seen = None
        self.closed = False

    def look(self) -> Picture:
        one = self.given.pop(0)
        if isinstance(one, Exception):
            raise one
        return one

    def close(self) -> None:
        self.closed = True


def picture(at: float, *cells: Cell, unanswered: str | None = None) -> Picture:
    return Picture(
        at=at, sites=("ec2",), cells={one.id: one for one in cells}, unanswered=unanswered
    )


def looked(*given: Picture | Exception) -> Known:
    looker = Looker(Pictures(*given), Choice())
    for _ in given:
        looker.look()
    return looker.known


def test_events_are_of_the_last_hour_and_the_newest_come_first() -> None:
    made = looked(
        picture(0, cell("a"), cell("b")),
        picture(10, cell("a", shade="shadow"), cell("b")),
        picture(3000, cell("a", shade="down"), cell("b", shade="down")),
    )
    assert [(one.at, one.id) for one in made.events] == [(3000, "a"), (3000, "b"), (10, "a")]
    made = looked(
        picture(0, cell("a")), picture(10, cell("a", shade="shadow")), picture(5000, cell("b"))
    )
    assert {one.at for one in made.events} == {5000}
    assert made.since == 1400


def test_they_are_bounded_and_the_gravest_are_kept() -> None:
    many = [cell(f"h{n:04}") for n in range(2 * EVENTS)]
    worse = [replace(one, shade="trial") for one in many[:-1]]
    made = looked(picture(0, *many), picture(2, *worse, replace(many[-1], shade="down")))
    assert len(made.events) == EVENTS
    assert made.events[0].id == many[-1].id
    assert made.cut


def test_what_happened_while_the_registry_was_away_is_told_when_it_is_back() -> None:
    made = looked(
        picture(0, cell("a")),
        picture(0, cell("a"), unanswered="no"),
        picture(90, cell("a", shade="down")),
    )
    assert [one.what for one in made.events] == ["is down (was enforced)"]


def test_an_error_leaves_the_last_picture() -> None:
    nothing = looked(RegistryUnavailable("no server"))
    assert (nothing.picture, nothing.failed) == (None, "no server")
    made = looked(picture(0, cell("a")), RegistryError("not permitted"))
    assert made.picture is not None
    assert made.picture.unanswered == "not permitted"
    assert looked(RegistryUnavailable("no"), picture(0, cell("a"))).failed is None


def test_the_thread_ends_and_closes_and_an_unexpected_error_is_handed_on() -> None:
    watched = Pictures(picture(0, cell("a")))
    looker = Looker(watched, Choice())
    looker.begin()
    looker.now()  # the second look has no picture left
    looker.end(60)
    assert watched.closed
    watched = Pictures(ValueError("odd"))
    looker = Looker(watched, Choice())
    looker.begin()
    looker.end(60)
    assert isinstance(looker.failure, ValueError)


def test_the_next_look_waits_as_long_as_the_last_one_took() -> None:
    took = iter([0.0, 0.5, 10.0, 17.0])  # two looks, of half a second and of seven
    looker = Looker(Pictures(picture(0), picture(1)), Choice(), clock=lambda: next(took))
    waits: list[float | None] = []

    class Again(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert not self.is_set()  # who asked during a look has that one
            waits.append(timeout)
            looker.now()
            if len(waits) == 2:
                looker._ended.set()
            return True

    looker._again = Again()
    looker.now()
    looker._run()
    assert waits == [EVERY, 7.0]


def test_a_part_of_the_fleet_has_its_own_needs_and_no_events_of_others(tmp_path: Path) -> None:
    server = MemoryServer()
    watched = Watched(settings(tmp_path), lambda _: nullcontext(MemoryRegistry(server)), _nobody)
    looker = Looker(watched, Choice(site="vpc"), only="site=vpc")
    looker.look()
    assert looker.known.picture is not None
    assert looker.known.picture.sites == ("vpc",)
    assert looker.known.events == ()


def test_hosts_that_nobody_could_hear_are_said_to_look_silent(tmp_path: Path) -> None:
    """By this host's agent, and with a certificate that may not read what others say."""
    member = {"id": "a", "site": "vpc", "private": "10.0.0.1", "public": None, "lost": False}

    def ask(_: Path, command: str) -> Any:
        if command == "members":
            return [{**member, "overlay": "192.168.0.9"}]
        raise NetiError("of no matter")

    def away(_: object) -> nullcontext[MemoryRegistry]:
        raise RegistryUnavailable("no server")

    looker = Looker(Watched(settings(tmp_path), away, ask), Choice())
    looker.look()
    shown = screen(looker.known)
    assert "NO ANSWER since" in shown
    assert "this host's agent knows no names, versions and stages" in " ".join(shown.split())
    assert "? silent 1" in shown
    unheard = replace(picture(0, cell("a")), unheard="how hosts are is for operators only")
    looker = Looker(Pictures(unheard), Choice())
    looker.look()
    assert "for operators only" in screen(looker.known)


def _nobody(*_: object) -> None:
    raise AssertionError("the registry answers")
