"""What is open for a time, as rules and as elements: what is wanted, held, and the difference."""

from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.model import Encrypt, Site
from neti.model.groups import MemberPort
from neti.model.openings import Opening, Openings
from neti.model.settings import IPNetwork, OpenPort, Settings
from neti.ruleset.objects import AddTimed, DeleteElements, KernelState, Structure
from neti.ruleset.openings import Lengths, commands, differing, left, lengths, until
from neti.ruleset.policy import structure
from neti.ruleset.set_names import (
    OpeningSet,
    SetName,
    group_set,
    opening_set,
    opening_set_of,
)
from neti.ruleset.surroundings import Surroundings

SETTINGS = Settings(path=Path("neti.yml"), sites={"ec2": Site(name="ec2"), "vpc": Site(name="vpc")})
ONE, NET = opening_set_of(4, 32), opening_set_of(4, 24)
KEY = "203.0.113.9 . tcp . 5432"


def opening(source: str = "203.0.113.9", **more: Any) -> Opening:
    network: IPNetwork = ip_network(source)
    known = {"proto": "tcp", "first": 5432, "last": 5432, "until": 100.0, "seconds": 60}
    return Opening(**{"source": network, **known, **more})


def built(used: Lengths, **changes: Any) -> Structure:
    around = Surroundings(uplinks=("eth0",), ssh_untracked=False, site="ec2", openings=used)
    return structure(replace(SETTINGS, **changes), around)


def rules(made: Structure, chain: str) -> tuple[str, ...]:
    return next((one.rules for one in made.chains if one.name == chain), ())


def test_each_end_is_that_of_the_last_that_lets_the_same_in() -> None:
    """Each port is a key; ends are by the clock that the kernel's elements go by."""
    held = (
        opening(first=5432, last=5433),
        opening(until=150.0),
        opening("203.0.113.0/24", until=120.0),
        opening("2001:db8::/64", proto="udp"),
    )
    assert until(held, ahead=-50.0) == {
        ONE: {KEY: 100.0, "203.0.113.9 . tcp . 5433": 50.0},
        NET: {"203.0.113.0 . tcp . 5432": 70.0},
        opening_set_of(6, 64): {"2001:db8:: . udp . 5432": 50.0},
    }
    assert lengths(held) == ((4, 24), (4, 32), (6, 64))


@given(st.floats(0, 1000), st.floats(0, 1000))
def test_nothing_has_more_than_is_left(end: float, now: float) -> None:
    given_ = left({ONE: {KEY: end}}, now)[ONE]
    assert all(now + seconds <= end and seconds > 0 for seconds in given_.values())
    assert (KEY in given_) == (end - now >= 1)


def kernel(**held: dict[str, int]) -> KernelState:
    timed: dict[SetName, dict[str, int]] = {
        opening_set(name) or "revoked4": seconds for name, seconds in held.items()
    }
    return KernelState(structure="", timed=timed)


@pytest.mark.parametrize(
    ("held", "wanted", "expected"),
    [
        ({}, {KEY: 60}, [AddTimed(ONE, {KEY: 60})]),
        ({KEY: 60}, {KEY: 60}, []),
        ({KEY: 58}, {KEY: 60}, []),  # both are rounded
        ({KEY: 63}, {KEY: 60}, [DeleteElements(ONE, (KEY,)), AddTimed(ONE, {KEY: 60})]),
        ({KEY: 40}, {KEY: 60}, [DeleteElements(ONE, (KEY,)), AddTimed(ONE, {KEY: 60})]),
        ({KEY: 60}, {}, [DeleteElements(ONE, (KEY,))]),
    ],
)
def test_what_differs_is_put_right(
    held: dict[str, int], wanted: dict[str, int], expected: list[object]
) -> None:
    assert list(commands({ONE: wanted}, kernel(opening4_32=held))) == expected
    found = differing({ONE: wanted}, {ONE: wanted}, kernel(opening4_32=held))
    assert found == ({ONE: 1} if expected else {})


def test_what_is_about_to_end_may_have_and_other_sets_are_others() -> None:
    assert differing({ONE: {KEY: 2}}, {ONE: {KEY: 2}}, kernel(opening4_32={})) == {}
    held = kernel(revoked4={"203.0.113.7": 500})
    assert list(commands({ONE: {KEY: 60}}, held)) == []  # the table has no such set yet
    assert differing({}, {}, held) == {}


@pytest.mark.parametrize(
    ("held", "most", "least", "wrong"),
    [
        (60, 60, 51, False),
        (51, 60, 51, False),
        (63, 60, 51, True),
        (48, 60, 51, True),
        (None, 60, 51, True),
        (None, 9, 1, False),
        (9, 9, None, False),  # it ended while the rest was read
    ],
)
def test_time_that_goes_on_while_the_kernel_is_read_is_nobodys_doing(
    held: int | None, most: int, least: int | None, wrong: bool
) -> None:
    def one(seconds: int | None) -> dict[str, int]:
        return {} if seconds is None else {KEY: seconds}

    found = differing({ONE: one(most)}, {ONE: one(least)}, kernel(opening4_32=one(held)))
    assert found == ({ONE: 1} if wrong else {})


def test_with_nothing_open_there_is_no_trace_of_it() -> None:
    assert "opening" not in built(()).text()


@pytest.mark.parametrize("open_ports", [(), (OpenPort(80, 80, "tcp"),)])
def test_it_stands_where_open_ports_does(open_ports: tuple[OpenPort, ...]) -> None:
    made = built(((4, 24), (6, 128)), open_ports=open_ports)
    assert made.has("set opening4_24")
    assert made.has("set opening6_128")
    opened = ("jump opened",) if open_ports else ()
    assert rules(made, "judge") == (*opened, "jump openings", "goto verdict")
    published = tuple(f"ct status dnat {rule}" for rule in (*opened, "jump openings"))
    assert rules(made, "judge_forwarded") == (*published, "goto verdict")
    looked = "\n".join(rules(made, "openings"))
    assert "tcp ip saddr & 255.255.255.0 . meta l4proto . ct original proto-dst @opening4_24" in (
        looked
    )
    assert "udp ip6 saddr . meta l4proto . ct original proto-dst @opening6_128 accept" in looked


def test_members_whose_ports_wait_pass_it_before_they_are_judged() -> None:
    """Otherwise a trial would keep them out although somebody opened the port to them."""
    waits = built(((4, 32),), member_ports=(MemberPort(("app",), "tcp", 5432, 5432),))
    chain = rules(waits, "input")
    assert chain.index("jump openings") < chain.index("ip saddr @peers4 jump members_before")
    published = rules(waits, "published")
    at = published.index("ct status dnat jump openings")
    assert at < published.index("ip saddr @peers4 jump members_before")


def test_what_must_be_encrypted_does_not_pass_it() -> None:
    sites = {name: Site(name=name, encrypt=Encrypt.REQUIRE) for name in ("ec2", "vpc")}
    made = built(((4, 32),), sites=sites)
    for chain in ("clear_in", "clear_forwarded", "clear_verdict"):
        assert rules(made, chain)
        assert not [rule for rule in rules(made, chain) if "openings" in rule]


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("opening4_32", True),
        ("opening6_128", True),
        ("opening4_128", False),
        ("opening5_32", False),
        ("openings", False),
        ("group_opening4_32_4", False),
    ],
)
def test_no_other_set_is_taken_for_one(name: str, known: bool) -> None:
    assert opening_set(name) == (OpeningSet(name) if known else None)
    assert group_set(name) is None or not known


def test_a_clock_that_moved_gives_none_more_than_was_said() -> None:
    before = Openings(as_of=90.0, held=(opening(until=100.0, seconds=60),))
    assert before.moved(5.0, now=95.0).held[0].until == 105.0
    assert before.moved(5000.0, now=95.0).held[0].until == 155.0
    assert before.moved(-50.0, now=40.0).held[0].until == 50.0
