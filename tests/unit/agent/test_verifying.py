"""A host's row for ``neti fleet verify``: when it is made, and what it says."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support.agents import Box, World, world

from neti.agent import verifying
from neti.errors import NetiError
from neti.registry import asked, detail
from neti.registry.detail import MAX_MISSED, Verified
from neti.registry.memory import MemoryRegistry

Fails = set[str]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> Fails:
    """Whom nobody reaches; everybody else answers."""
    unreached: Fails = set()

    def verify_all(
        _settings: Any, _itself: Any, members: Sequence[dict[str, Any]], **_: Any
    ) -> list[dict[str, Any]]:
        assert len(members) <= verifying.AT_ONCE
        return [{"id": one["id"], "ok": one["id"] not in unreached} for one in members]

    monkeypatch.setattr(verifying, "verify_all", verify_all)
    return unreached


def row(box: Box) -> Verified | None:
    (held,) = box.registry.reports([box.host.id]) or []
    return detail.decode(held.document).verified


def ask(fleet: World, number: int) -> None:
    MemoryRegistry(fleet.server).change_setting("asked", asked.encode(number, verify=True))
    fleet.settle()


def test_a_host_that_is_asked_says_whom_it_does_not_reach(fleet: World, fails: Fails) -> None:
    boxes = fleet.crowd(range(1, 6))
    fleet.pass_time(61)
    assert [row(box) for box in boxes] == [None] * 5
    fails.add("ec2-3")
    ask(fleet, 7)
    fleet.pass_time(3)
    wall = int(fleet.clock.wall())
    for box in boxes:
        found = row(box)
        assert found is not None
        assert wall - 3 <= found.at <= wall
        missed = () if box.host.id == "ec2-3" else ("ec2-3",)
        assert found == Verified(
            at=found.at, tried=4, reached=4 - len(missed), missed=missed, word="7"
        )


def test_the_word_that_stood_there_and_one_that_does_not_ask_for_it_are_not_answered(
    fleet: World, fails: Fails
) -> None:
    ask(fleet, 7)
    one = fleet.started(1)
    fleet.pass_time(61)
    MemoryRegistry(fleet.server).change_setting("asked", asked.encode(8))
    fleet.pass_time(30)
    assert row(one) is None


def test_it_begins_at_a_moment_of_its_own_and_not_again_at_once(
    fleet: World, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are no rights anybody may write that word, as often as they like."""
    one, _ = fleet.crowd((1, 2))
    fleet.pass_time(61)
    monkeypatch.setattr(verifying, "asked_within", lambda _: 100.0)
    monkeypatch.setattr(one.running.core.out, "chance", lambda below: below // 2)
    ask(fleet, 7)
    fleet.pass_time(49)
    assert row(one) is None
    fleet.pass_time(2)
    found = row(one)
    assert found is not None
    assert found.word == "7"
    monkeypatch.setattr(one.running.core.out, "chance", lambda below: 0)
    ask(fleet, 8)
    fleet.pass_time(10)
    assert row(one) == found
    fleet.pass_time(11)
    found = row(one)
    assert found is not None
    assert found.word == "8"


def test_who_is_lost_is_not_tried_and_who_left_meanwhile_is_not_missed(
    fleet: World, fails: Fails
) -> None:
    one, two, _ = fleet.crowd((1, 2, 3))
    fleet.pass_time(61)
    fails.update({"ec2-2", "ec2-3"})
    session = two.registry._session
    two.stop()
    assert session is not None
    fleet.server.expire(session)
    fleet.settle()
    ask(fleet, 7)
    fleet.pass_time(3)
    found = row(one)
    assert found is not None
    assert (found.tried, found.missed) == (1, ("ec2-3",))


def test_a_host_that_is_down_answers_without_a_row(fleet: World, fails: Fails) -> None:
    one, _ = fleet.crowd((1, 2))
    fleet.pass_time(61)
    one.ask("down")
    fleet.settle()
    ask(fleet, 7)
    fleet.pass_time(3)
    assert row(one) is None


def test_what_could_not_be_tried_to_the_end_is_no_row(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next word is answered."""
    one, _ = fleet.crowd((1, 2))
    fleet.pass_time(61)

    def breaks(*_: Any, **__: Any) -> list[dict[str, Any]]:
        raise NetiError("no thread to be had")

    monkeypatch.setattr(verifying, "verify_all", breaks)
    ask(fleet, 7)
    fleet.pass_time(3)
    assert row(one) is None
    monkeypatch.setattr(verifying, "verify_all", lambda *_, **__: [{"id": "ec2-2", "ok": True}])
    ask(fleet, 8)
    fleet.pass_time(25)
    found = row(one)
    assert found is not None
    assert (found.tried, found.reached) == (1, 1)


def test_what_somebody_finds_by_hand_is_the_row_as_well(fleet: World) -> None:
    """As many as have room are named, the others counted."""
    one = fleet.started(1)
    missed = [f"h-{number:02}" for number in range(MAX_MISSED + 3)]
    assert one.ask("verified", tried=40, missed=missed) == {"result": "kept"}
    found = row(one)
    assert found is not None
    assert (found.tried, found.reached, found.missed_more, found.word) == (40, 25, 3, "")
    assert found.missed == tuple(missed[:MAX_MISSED])
