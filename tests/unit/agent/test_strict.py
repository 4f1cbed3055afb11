"""An operator said that only what hosts' records name is believed: what agents make of it."""

import queue
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from tests.support.agents import Box, World, world

from neti.agent.told import Told
from neti.model.settings import RegistryTLS
from neti.registry import Appeared, HostChanged, Question, Vanished
from neti.registry.memory import MemoryRegistry
from neti.registry.record import HostId

ON, OFF = b"on 2026-11-27T12:00:00Z", b"off 2026-11-27T13:00:00Z"
FORGED = "1.0a00090900000000{overlay}.zzzz.ec2.{id}"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def started(fleet: World, number: int, *, tls: bool = True) -> Box:
    box = fleet.box(number)
    if tls:
        files = RegistryTLS(ca=Path("/ca"), cert=Path("/cert"), key=Path("/key"))
        box.settings = replace(box.settings, registry_tls=files)
    box.start()
    fleet.settle()
    return box


def say(fleet: World, word: bytes | None) -> None:
    MemoryRegistry(fleet.server).change_setting("strict", word)
    fleet.settle()


def forge(fleet: World, box: Box) -> str:
    overlay = box.status()["overlay"]
    digits = "".join(f"{int(part):02x}" for part in overlay.split("."))
    name = FORGED.format(overlay=digits, id=box.host.id)
    fleet.server.put(name)
    fleet.settle()
    return name


def generation_of(name: str) -> str:
    return name.split(".")[2]


def codes(box: Box) -> set[str]:
    return {one["code"] for one in box.status()["problems"]}


def private_of(box: Box, other: Box) -> str | None:
    assert box.agent is not None
    member = box.agent.core.members.fleet.members.get(other.host.id)
    return str(member.private) if member is not None else None


def test_before_it_a_forged_entry_is_believed_and_named(fleet: World) -> None:
    one, two = started(fleet, 1), started(fleet, 2)
    forge(fleet, two)
    assert one.status()["records"] == "report"
    assert private_of(one, two) == "10.0.9.9"
    assert "not_vouched" in codes(one)


def test_from_then_on_a_forged_entry_has_no_effect_and_is_named(fleet: World) -> None:
    one, two = started(fleet, 1), started(fleet, 2)
    say(fleet, ON)
    before = two.status()["entry"]
    forge(fleet, two)
    assert private_of(one, two) == str(two.host.private)
    assert {"forged"} <= codes(one)
    assert "impostor" in codes(two)
    assert two.status()["entry"] == before  # nothing has to be answered


def test_it_is_remembered_by_an_agent_that_starts_anew(fleet: World) -> None:
    one, two = started(fleet, 1), started(fleet, 2)
    say(fleet, ON)
    one.stop()
    forge(fleet, two)
    one.start()
    assert one.status()["records"] == "strict"
    fleet.settle()
    assert private_of(one, two) == str(two.host.private)


def test_off_ends_it(fleet: World) -> None:
    one = started(fleet, 1)
    say(fleet, ON)
    say(fleet, OFF)
    assert one.status()["records"] == "report"


@pytest.mark.parametrize("word", [None, b"", b"nonsense"])
def test_any_other_word_does_not_and_is_named(fleet: World, word: bytes | None) -> None:
    one = started(fleet, 1)
    say(fleet, ON)
    say(fleet, word)
    assert one.status()["records"] == "strict"
    assert "strict_gone" in codes(one)
    say(fleet, ON)
    assert "strict_gone" not in codes(one)


@pytest.mark.parametrize("word", [None, OFF])
def test_a_wiped_registry_does_not_end_it(fleet: World, word: bytes | None) -> None:
    one = started(fleet, 1)
    say(fleet, ON)
    fleet.server.stop()
    fleet.server.wipe()
    fleet.server.start()
    say(fleet, word)
    assert one.status()["records"] == "strict"
    assert "strict_gone" in codes(one)


def test_a_host_without_tls_believes_as_before(fleet: World) -> None:
    one, two = started(fleet, 1, tls=False), started(fleet, 2)
    say(fleet, ON)
    forge(fleet, two)
    assert one.status()["records"] == "off"
    assert private_of(one, two) == "10.0.9.9"


def test_a_host_that_left_is_gone_at_once(fleet: World) -> None:
    one, two = started(fleet, 1), started(fleet, 2)
    say(fleet, ON)
    two.ask("leave")
    fleet.settle()
    assert private_of(one, two) is None


def test_a_forged_goodbye_of_a_later_generation_does_not_hide_its_own(fleet: World) -> None:
    one, two = started(fleet, 1), started(fleet, 2)
    say(fleet, ON)
    fleet.server.put(f"left.zzzz.{two.host.id}")
    fleet.settle()
    two.ask("leave")
    fleet.settle()
    assert private_of(one, two) is None


def test_a_forged_entry_of_an_earlier_generation_is_not_answered(fleet: World) -> None:
    from neti.registry.record import HostRecord

    two = started(fleet, 2)
    say(fleet, ON)
    fleet.server.put_record(two.host.id, HostRecord())  # so that there is an earlier one
    fleet.pass_time(2)
    before = two.status()["entry"]
    fleet.server.put(
        before.replace(f".{generation_of(before)}.", ".0.").replace("1.0a0000", "1.0a0009")
    )
    fleet.pass_time(2)
    assert generation_of(before) != "0"
    assert two.status()["entry"] == before


@pytest.mark.parametrize("forged", ["1.0a00090900000000{overlay}.zzy.ec2.{id}", "left.zzy.{id}"])
def test_what_others_say_of_it_does_not_drive_up_its_generation(fleet: World, forged: str) -> None:
    """Otherwise one entry is enough, and the next name is longer than names may be."""
    from neti.registry.record import HostRecord

    two = started(fleet, 2)
    say(fleet, ON)
    before = two.status()["entry"]
    fleet.server.put(forged.format(overlay=before[18:26], id=two.host.id))
    fleet.settle()
    fleet.server.put_record(two.host.id, HostRecord())
    fleet.pass_time(2)
    assert two.status()["entry"] != before
    assert len(generation_of(two.status()["entry"])) == 1


def test_a_record_that_an_operator_wrote_over_makes_its_host_register_anew(fleet: World) -> None:
    from neti.registry.record import HostRecord

    one, two = started(fleet, 1), started(fleet, 2)
    say(fleet, ON)
    before = two.status()["entry"]
    fleet.server.put_record(two.host.id, HostRecord())
    fleet.pass_time(2)
    assert two.status()["entry"] != before
    assert private_of(one, two) == str(two.host.private)
    assert "forged" not in codes(one)


def test_after_a_restart_what_was_remembered_is_proved_again(fleet: World) -> None:
    """It is believed meanwhile, and for no longer."""
    one, two = started(fleet, 1), started(fleet, 2)
    say(fleet, ON)
    fleet.pass_time(2)
    one.stop()
    entry = two.status()["entry"]
    two.stop()
    assert two.registry is not None
    fleet.server.expire(two.registry._live_session())
    fleet.server.put(entry)  # somebody makes it look alive
    one.start()
    assert private_of(one, two) == str(two.host.private)
    for _ in range(5):
        fleet.pass_time(1)
    assert private_of(one, two) is None
    assert "forged" in codes(one)


# --- a list, and the word that comes right after it ---


def heard_by(box: Box) -> list[Told]:
    """What was told and not taken in yet."""
    told = []
    while not box.running.queue.empty():
        told.append(box.running.queue.get_nowait())
    return told


def taken_in_one_by_one(fleet: World, box: Box, told: list[Told]) -> list[set[str]]:
    """Which private addresses it lets in after each of these, by itself, reached its loop."""
    let_in = []
    for each in told:
        box.running.tell(each)
        box.running.step()
        fleet.clock.advance(1)  # nothing is gathered
        box.running.step()
        let_in.append(set(box.elements("peers4")))
    return let_in


def test_who_starts_for_the_first_time_never_believes_what_no_record_names(fleet: World) -> None:
    two = started(fleet, 2)
    forge(fleet, two)
    say(fleet, ON)
    one = fleet.box(1)
    files = RegistryTLS(ca=Path("/ca"), cert=Path("/cert"), key=Path("/key"))
    one.settings = replace(one.settings, registry_tls=files)
    one.start()
    let_in = taken_in_one_by_one(fleet, one, heard_by(one))
    assert not [seen for seen in let_in if "10.0.9.9" in seen]
    fleet.settle()
    assert one.status()["records"] == "strict"
    assert private_of(one, two) == str(two.host.private)


def test_who_was_away_when_it_was_said_does_not_either(fleet: World) -> None:
    one, two = started(fleet, 1), started(fleet, 2)
    assert one.registry is not None
    fleet.server.cut(one.registry)
    fleet.settle()
    say(fleet, ON)
    forge(fleet, two)
    fleet.server.restore(one.registry)
    let_in = taken_in_one_by_one(fleet, one, heard_by(one))
    assert {frozenset(seen) for seen in let_in} == {frozenset(one.elements("peers4"))}
    assert private_of(one, two) == str(two.host.private)
    assert one.status()["records"] == "strict"


def test_where_it_was_never_said_a_list_does_not_wait_for_long(fleet: World) -> None:
    started(fleet, 2)
    one = started(fleet, 1)
    assert one.registry is not None
    fleet.server.cut(one.registry)
    fleet.settle()
    three = started(fleet, 3)
    fleet.server.restore(one.registry)
    fleet.settle()
    assert private_of(one, three) == str(three.host.private)


def test_a_copy_that_says_off_is_doubted_before_it_is_believed(fleet: World) -> None:
    """An older copy of the same fleet: whoever is strict stays so."""
    one = started(fleet, 1)
    copy = fleet.server.copied()
    started(fleet, 2)
    say(fleet, ON)
    fleet.server.stop()
    fleet.server.restore_copy(copy)
    fleet.server.start()
    fleet.settle()
    assert one.status()["records"] == "strict"


def test_lease_and_record_of_a_host_that_joins_are_asked_for_together(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = started(fleet, 1)
    say(fleet, ON)
    asked: list[list[Question]] = []
    monkeypatch.setattr(one.registry, "ask", lambda questions: asked.append(list(questions)))
    two = started(fleet, 2)
    overlay = IPv4Address(two.status()["overlay"])
    assert asked == [[overlay, HostId(two.host.id)]]


def test_a_host_whose_names_are_made_before_it_says_so_and_goes_on_until_it_is_in(
    fleet: World,
) -> None:
    one = started(fleet, 1)
    say(fleet, ON)
    name = str(one.status()["entry"])
    one.stop()
    fleet.server.remove(name)
    format_, addresses, _, rest = name.split(".", 3)
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    squatted = [f"{format_}.{addresses}.{digit}.{rest}" for digit in digits[:9]]
    for each in squatted:
        fleet.server.put(each)
    one.start()
    fleet.settle()
    assert "registration" not in codes(one)  # a few may be chance
    for _ in range(8):
        fleet.pass_time(2.0)
    assert "registration" in codes(one)
    for _ in range(8):
        fleet.pass_time(30.0)
    assert one.status()["registered"]
    assert "registration" not in codes(one)


class Behind(queue.SimpleQueue[Told]):
    """What comes a moment after the first thing told is there only for whoever waits for it."""

    def __init__(self, *told: Told) -> None:
        super().__init__()
        self.later = list(told)

    def get(self, block: bool = True, timeout: float | None = None) -> Told:
        if block and self.empty() and self.later:
            return self.later.pop(0)
        return super().get(block=False)

    def get_nowait(self) -> Told:
        return super().get(block=False)


def test_record_and_entry_of_a_host_that_joins_are_taken_in_by_one_turn(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = started(fleet, 1)
    say(fleet, ON)
    asked: list[list[Question]] = []
    monkeypatch.setattr(one.registry, "ask", lambda questions: asked.append(list(questions)))
    name = "1.0a000003c6336403c0a80003.0.ec2.ec2-3"
    for before in ((), (Vanished("nobody"),)):
        asked.clear()
        one.running.queue = Behind(Appeared(name))
        for each in (*before, HostChanged("ec2-3")):
            one.running.tell(each)
        one.running.step(block=True)
        assert asked[0] == [IPv4Address("192.168.0.3"), HostId("ec2-3")]
        one.running.core.members.fleet.vanished(name, now=0.0)
