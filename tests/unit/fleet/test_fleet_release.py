"""An operator's release for the whole fleet: who follows it, about whom, and never twice."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.agents import Box, World, world
from tests.unit.fleet.test_guard import crowd, held, vanish

from neti.errors import RegistryError
from neti.oneshot.fleet_release import tell_everybody
from neti.registry.memory import MemoryRegistry
from neti.registry.release import (
    MAX_BYTES,
    MAX_HOSTS,
    MAX_KEPT,
    ReleaseUnreadable,
    added,
    decode,
    encode,
    said,
)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        MemoryRegistry(made.server).change_setting("maxchange", b"5")
        yield made


def say(fleet: World, *ids: str, site: str | None = None) -> list[str]:
    """As the command does, on a machine without an agent."""
    operator = MemoryRegistry(fleet.server)
    settings = fleet.box(250).settings
    told = tell_everybody(settings, operator, ids, site=site)
    operator.close()
    fleet.settle()
    return told


def two_sites(fleet: World) -> tuple[list[Box], list[Box], list[Box]]:
    """Three agents that stay, and six of each site that vanish, are lost, and are then held."""
    stay = fleet.crowd((1, 2, 3))
    gone = {site: fleet.crowd(range(11, 17), site) for site in ("ec2", "vpc")}
    fleet.pass_time(1)
    vanish(fleet, [*gone["ec2"], *gone["vpc"]])
    fleet.pass_time(601)
    assert len(held(stay[0])) == 12
    return stay, gone["ec2"], gone["vpc"]


def ids_of(boxes: list[Box]) -> set[str]:
    return {box.host.id for box in boxes}


# --- in the agents ---


def test_every_agent_follows_a_word_said_once(fleet: World) -> None:
    stay, ec2, vpc = two_sites(fleet)
    assert set(say(fleet)) == ids_of([*ec2, *vpc])
    for box in stay:
        assert held(box) == set()
        assert len(box.elements("peers4")) < 12
        assert box.status()["members"]["lost"] == 0


def test_a_site_alone(fleet: World) -> None:
    stay, ec2, vpc = two_sites(fleet)
    say(fleet, site="vpc")
    for box in stay:
        assert held(box) == ids_of(ec2)
    assert ids_of(vpc).isdisjoint(held(stay[0]))


def test_one_host_by_its_id(fleet: World) -> None:
    stay, ec2, vpc = two_sites(fleet)
    assert say(fleet, "vpc-11", "ec2-1") == ["vpc-11"]  # ec2-1 is registered
    assert all(held(box) == ids_of([*ec2, *vpc]) - {"vpc-11"} for box in stay)


def test_who_is_lost_and_not_held_yet_goes_when_its_time_is_over(fleet: World) -> None:
    """The agents do not hold at one moment: one word is enough for all of them. Also after a
    restart in between."""
    one, others = crowd(fleet, 12)
    vanish(fleet, others[:8])
    fleet.pass_time(300)
    say(fleet)
    assert one.status()["members"]["lost"] == 8
    one.stop()
    one.start()
    fleet.settle()
    fleet.pass_time(301)
    assert held(one) == set()
    assert one.status()["members"]["lost"] == 0


def test_it_is_not_about_those_who_are_lost_later(fleet: World) -> None:
    one, others = crowd(fleet, 20)
    vanish(fleet, others[:6])
    fleet.pass_time(601)
    say(fleet)
    vanish(fleet, others[6:14])
    fleet.pass_time(601)
    one.stop()  # who starts reads it again
    one.start()
    fleet.settle()
    fleet.pass_time(601)
    assert held(one) == ids_of(others[6:14])


def test_one_who_came_back_and_is_lost_again_is_held_like_all_others(fleet: World) -> None:
    """Whether the agent saw that, or starts and finds the old word."""
    one, others = crowd(fleet, 12)
    vanish(fleet, others[:8])
    fleet.pass_time(300)
    say(fleet)
    for box in others[:8]:
        box.start()
    fleet.settle()
    fleet.pass_time(10)
    vanish(fleet, others[:8])
    one.stop()
    one.start()
    fleet.settle()
    fleet.pass_time(601)
    assert held(one) == ids_of(others[:8])


def test_an_agent_that_was_away_follows_it_when_it_is_back(fleet: World) -> None:
    """And about those alone who were gone when it was said, not who went later. Two words, as
    well."""
    one, others = crowd(fleet, 24)
    fleet.server.cut(one.registry)
    vanish(fleet, others[:4])
    fleet.pass_time(300)
    say(fleet)
    vanish(fleet, others[4:8])
    say(fleet, others[4].host.id)
    vanish(fleet, others[8:16])
    fleet.pass_time(601)
    fleet.server.restore(one.registry)
    fleet.settle()
    fleet.pass_time(601)
    assert held(one) == ids_of(others[5:16])


def test_an_agent_that_held_them_before_it_went_away_follows_it(fleet: World) -> None:
    stay, _, _ = two_sites(fleet)
    stay[0].stop()
    say(fleet)
    stay[0].start()
    fleet.settle()
    fleet.pass_time(1)
    assert held(stay[0]) == set()


def test_an_older_copy_of_the_registry_with_an_old_word_frees_nobody(fleet: World) -> None:
    one, others = crowd(fleet, 8)
    vanish(fleet, others[:5])
    fleet.pass_time(601)
    say(fleet)
    copy = fleet.server.copied()
    for box in others[:5]:
        box.start()
    fleet.settle()
    fleet.pass_time(3600)
    for box in others[:5]:
        box.stop()
    fleet.server.stop()
    fleet.settle()
    fleet.server.restore_copy(copy)
    fleet.server.start()
    fleet.settle()
    one.stop()
    one.start()
    fleet.pass_time(86400)
    assert ids_of(others[:5]) <= held(one)


def test_it_ends_the_holds_of_a_registry_that_was_wiped(fleet: World) -> None:
    """No lease names them any more, so the operator does."""
    one, others = crowd(fleet, 6)
    for box in others:
        box.stop()
    fleet.server.stop()
    fleet.settle()
    fleet.server.wipe()
    fleet.server.start()
    fleet.pass_time(1)
    assert held(one) == ids_of(others)
    say(fleet, *ids_of(others))
    assert held(one) == set()


def test_who_was_let_go_does_not_hold_back_a_goodbye_of_the_same_site(fleet: World) -> None:
    one, others = crowd(fleet, 30)
    vanish(fleet, others[:25])
    fleet.pass_time(10)
    say(fleet)
    others[28].ask("leave")
    fleet.settle()
    assert held(one) == set()
    assert others[28].host.id not in one.running.core.members.fleet.members


def test_a_word_that_nobody_can_read_is_ignored_and_named(fleet: World) -> None:
    stay, ec2, vpc = two_sites(fleet)
    operator = MemoryRegistry(fleet.server)
    for junk in (b"\xff", b"[]", b'{"format":2}', b'{"format":1,"releases":[{"id":1}]}'):
        operator.change_setting("release", junk)
        fleet.settle()
        assert held(stay[0]) == ids_of([*ec2, *vpc])
        assert "fleet-wide release" in stay[0].problems()["live_setting"]
    operator.change_setting("release", None)
    fleet.settle()
    assert "live_setting" not in stay[0].problems()


def test_an_operators_release_of_a_lease_ends_a_hold_on_every_host(fleet: World) -> None:
    """At once, and of a host that is only lost as well."""
    stay, ec2, vpc = two_sites(fleet)
    operator = MemoryRegistry(fleet.server)
    overlay = operator.release("ec2-11")
    fleet.settle()
    for box in stay:
        assert held(box) == ids_of([*ec2, *vpc]) - {"ec2-11"}
        assert str(overlay) not in box.elements("overlay")
    vanish(fleet, [stay[2]])
    operator.release("ec2-3")
    fleet.settle()
    assert "ec2-3" not in stay[0].running.core.members.fleet.members


# --- the document ---


@given(st.sets(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", fullmatch=True), max_size=20))
def test_what_is_said_is_read(ids: set[str]) -> None:
    word = said(ids, id="r", site="vpc", by="ann", at=5.0)
    (read,) = decode(encode([word]))
    assert read == word
    assert all(read.about(host_id, "vpc") for host_id in ids)
    assert not any(read.about(host_id, "ec2") for host_id in ids)
    assert not read.about("somebody-else", "vpc")


def test_of_many_the_oldest_make_room() -> None:
    raw = None
    for number in range(MAX_KEPT + 3):
        raw = added(raw, said(["a"], id=str(number), site=None, by="", at=0))
    assert [one.id for one in decode(raw)] == [str(n) for n in range(3, MAX_KEPT + 3)]
    many = [f"i-{number:017x}" for number in range(MAX_HOSTS)]
    raw = added(raw, said(many, id="big", site=None, by="", at=0))
    assert len(raw) <= MAX_BYTES
    assert decode(raw)[-1].about(many[77], "ec2")
    with pytest.raises(RegistryError, match="10000 at most"):
        said([*many, "one-more"], id="r", site=None, by="", at=0)


def test_a_newer_version_may_say_more_and_is_not_written_over() -> None:
    raw = encode([said(["a"], id="r", site=None, by="", at=0)])
    more = raw.replace(b'"by"', b'"why":"new","by"').replace(b'"format"', b'"kind":9,"format"')
    assert decode(more) == decode(raw)
    newer = raw.replace(b'"format":1', b'"format":2')
    with pytest.raises(ReleaseUnreadable, match="format 2"):
        added(newer, said(["b"], id="s", site=None, by="", at=0))


@given(st.binary(max_size=200))
def test_whatever_stands_there_nothing_else_is_raised(raw: bytes) -> None:
    try:
        decode(raw)
    except ReleaseUnreadable:
        return
