"""``neti open``: what is open for a time is so for that time, whatever happens in between."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from tests.support.agents import Box, World, world

from neti.agent import explaining, kept_out, opening
from neti.clock import ManualClock
from neti.dataplane.memory import MemoryDataplane
from neti.model.groups import GroupLine, Groups, MemberPort
from neti.model.openings import LONGEST, MOST
from neti.registry.groups import encode
from neti.registry.memory import MemoryRegistry
from neti.ruleset.objects import AddTimed, Command, KernelState, Transaction
from neti.ruleset.set_names import SetName, opening_set_of

HOUR, DAY = 3600.0, 86_400.0
STRANGER = "203.0.113.9"
KEY = f"{STRANGER} . tcp . 5432"
SET = opening_set_of(4, 32)


class Ticking(MemoryDataplane):
    """Time-outs run, by the clock of the test: they are kept as the moment at which they end."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    def timed(self, where: SetName) -> dict[str, int]:
        now = self._clock.monotonic()
        if self.table is not None:
            held: Mapping[str, int] = self.table.timed.get(where, {})
            self.table.timed[where] = {key: end for key, end in held.items() if end > now}
        return {key: int(end - now) for key, end in super().timed(where).items()}

    def _command(self, command: Command) -> None:
        if isinstance(command, AddTimed):
            now = int(self._clock.monotonic())
            command = AddTimed(command.where, {k: now + s for k, s in command.timeouts.items()})
        super()._command(command)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def started(fleet: World, **changes: Any) -> Box:
    box = fleet.box(1, **changes)
    box.dataplane = Ticking(fleet.clock)
    box.start()
    fleet.settle()
    fleet.started(2)
    fleet.pass_time(1)
    box.ask("enforce", seconds=60)
    box.ask("confirm")
    fleet.pass_time(1)
    assert box.status()["stage"] == "enforced"
    return box


def opens(box: Box, *sources: str, hours: float = 2, port: int = 5432, **more: Any) -> Any:
    said = {"first": port, "last": port, "proto": "tcp", "seconds": int(hours * HOUR)}
    return box.ask("open", sources=list(sources or (STRANGER,)), **{**said, **more})


def left(box: Box, where: str = "opening4_32", key: str = KEY) -> int | None:
    """Seconds that the kernel gives it; None: it does not let it in."""
    found = box.elements(where).get(key)
    return None if found is None else int(found)


def test_the_kernel_has_it_with_its_end_and_the_agent_says_who_opened_it(fleet: World) -> None:
    box = started(fleet)
    before = box.dataplane.structure()
    answer = opens(box)["result"]
    assert answer["notes"] == []
    assert left(box) == 2 * HOUR
    (told,) = box.told().openings
    assert (told.port, told.to, told.seconds_left) == ("5432/tcp", STRANGER, 2 * HOUR)
    assert told.until == fleet.clock.wall() + 2 * HOUR
    assert box.ask("metrics")["result"]["openings"] == 1
    fleet.pass_time(HOUR)
    assert HOUR - 2 <= (left(box) or 0) <= HOUR
    fleet.pass_time(HOUR)
    assert left(box) is None
    assert box.told().openings == ()
    assert box.dataplane.structure() == before  # and the rules are what they were
    assert box.status()["drift"]["repairs"] == 0


def test_it_is_told_to_the_fleet(fleet: World) -> None:
    box = started(fleet)
    opens(box)
    fleet.pass_time(61)
    reports = box.registry.reports(["ec2-1", "ec2-2"]) or ()
    documents = {d.host_id: json.loads(d.document) for d in reports}
    assert [documents[host_id]["openings"] for host_id in ("ec2-1", "ec2-2")] == [1, 0]


def reboot(fleet: World, box: Box, *, off: float, step: float = 0.0) -> None:
    box.stop()
    box.dataplane = Ticking(fleet.clock)
    fleet.boot += "+"
    fleet.clock.now += off
    fleet.clock.set += step
    box.start()
    fleet.settle()


def test_a_restart_changes_nothing(fleet: World) -> None:
    box = started(fleet)
    opens(box)
    box.stop()
    fleet.clock.advance(HOUR)
    for step in (DAY, -3 * DAY):  # nor does somebody who sets the clock
        fleet.clock.set += step
        box.start()
        fleet.settle()
        assert HOUR - 2 <= (left(box) or 0) <= HOUR
        box.stop()
    fleet.clock.advance(HOUR)
    box.start()
    fleet.settle()
    assert left(box) is None
    assert box.told().openings == ()


def test_what_the_kernel_lost_while_no_agent_ran_has_the_rest(fleet: World) -> None:
    box = started(fleet)
    opens(box)
    reboot(fleet, box, off=HOUR)
    assert HOUR - 2 <= (left(box) or 0) <= HOUR
    fleet.pass_time(HOUR)
    assert left(box) is None


@pytest.mark.parametrize("step", [-DAY, -30 * DAY])
def test_a_clock_that_went_back_across_reboots_makes_nothing_longer(
    fleet: World, step: float
) -> None:
    """Each time no more than was left some minutes before, however often."""
    box = started(fleet)
    opens(box)
    most = 2 * HOUR
    for _ in range(3):
        for _ in range(4):
            fleet.pass_time(600)
        most -= 4 * 600 - 300
        reboot(fleet, box, off=0, step=step)
        assert (left(box) or 0) <= most
    fleet.pass_time(most)
    assert left(box) is None


def test_a_flush_and_a_longer_time_out_are_mended_and_named(fleet: World) -> None:
    box = started(fleet)
    opens(box)
    table = box.dataplane.table
    assert table is not None
    held = table.timed[SET]
    held.clear()
    box.running.kernel.look_for_drift()
    assert left(box) == 2 * HOUR
    held = table.timed[SET]
    held[KEY] += 1000
    held["203.0.113.99 . tcp . 22"] = 10**7
    box.running.kernel.look_for_drift()
    assert box.elements("opening4_32") == {KEY: str(int(2 * HOUR))}
    assert box.status()["drift"]["repairs"] == 2


def test_an_agent_that_was_stopped_before_it_wrote_makes_nothing_longer(fleet: World) -> None:
    """The kernel counts from when it gets it, and that may be long after it was reckoned."""
    box = started(fleet)
    opens(box)
    stopped: list[Transaction] = []
    dataplane = box.dataplane
    whole = dataplane.apply

    def late(transaction: Transaction) -> None:
        if transaction and not stopped:
            stopped.append(transaction)
            fleet.clock.advance(HOUR)
        whole(transaction)

    dataplane.apply = late  # type: ignore[method-assign]
    assert dataplane.table is not None
    dataplane.table.timed[SET].clear()
    box.running.kernel.look_for_drift()
    assert stopped
    assert HOUR - 2 <= (left(box) or 0) <= HOUR


def test_an_agent_that_is_stopped_again_and_again_makes_nothing_longer(fleet: World) -> None:
    """Also while it puts that right."""
    box = started(fleet)
    opens(box)
    stopped: list[Transaction] = []
    dataplane = box.dataplane
    whole = dataplane.apply

    def late(transaction: Transaction) -> None:
        if transaction and len(stopped) < 3:
            stopped.append(transaction)
            fleet.clock.advance(60.0)
        whole(transaction)

    dataplane.apply = late  # type: ignore[method-assign]
    assert dataplane.table is not None
    dataplane.table.timed[SET].clear()
    box.running.kernel.look_for_drift()
    assert len(stopped) == 3
    assert (left(box) or 0) <= 2 * HOUR - 180
    box.running.kernel.look_for_drift()
    assert box.status()["drift"]["repairs"] == 1  # what it did itself is nobody's doing


def test_time_that_passes_while_the_kernel_is_read_is_no_other_programs_doing(
    fleet: World,
) -> None:
    """On a busy machine a look takes seconds. Three repairs within a minute would be a fight."""
    box = started(fleet)
    opens(box)
    dataplane = box.dataplane
    whole = dataplane.read

    def slowly() -> KernelState:
        held = whole()
        fleet.clock.advance(5.0)
        return held

    dataplane.read = slowly  # type: ignore[method-assign]
    for _ in range(3):
        box.running.kernel.look_for_drift()
    assert box.status()["drift"]["repairs"] == 0
    assert dataplane.table is not None
    dataplane.table.timed[SET][KEY] += 9
    box.running.kernel.look_for_drift()
    assert box.status()["drift"]["repairs"] == 1


def test_said_again_the_new_time_counts(fleet: World) -> None:
    box = started(fleet)
    opens(box)
    opens(box, hours=1)
    assert left(box) == HOUR
    assert len(box.told().openings) == 1
    opens(box, hours=5, last=5433)  # what overlaps has the later end
    assert left(box) == 5 * HOUR
    box.ask("close", first=5432, last=5433, proto="tcp")
    assert left(box) == HOUR


def test_close_ends_what_is_meant_and_nothing_else(fleet: World) -> None:
    box = started(fleet)
    opens(box, STRANGER, "198.51.100.0/24")
    opens(box, port=80)
    refused = box.ask("close", first=5433, last=5433, proto="tcp")["error"]
    assert "5432/tcp to 198.51.100.0/24, 5432/tcp to 203.0.113.9, 80/tcp" in refused
    assert "error" in box.ask("close", first=5432, last=5432, proto="udp")
    closed = box.ask("close", first=5432, last=5432, proto="tcp", sources=[STRANGER])["result"]
    assert [one["source"] for one in closed["opened"]] == [f"{STRANGER}/32"]
    assert [one.to for one in box.told().openings] == ["198.51.100.0/24", STRANGER]
    box.ask("close")
    assert box.told().openings == ()
    box.stop()
    box.start()
    fleet.settle()
    assert box.told().openings == ()
    assert left(box) is None


@pytest.mark.parametrize(
    ("other", "still"),
    [
        ({"sources": ["203.0.113.0/24"]}, "5432/tcp to 203.0.113.0/24"),
        ({"last": 5433}, "5432-5433/tcp to 203.0.113.9"),
        ({"sources": ["203.0.113.8"]}, ""),
        ({"sources": ["::/0"]}, ""),
        ({"proto": "udp"}, ""),
        ({"first": 5433, "last": 5440}, ""),
    ],
)
def test_what_another_opening_still_lets_in_is_said(
    fleet: World, other: dict[str, Any], still: str
) -> None:
    box = started(fleet)
    opens(box)
    said = {"sources": [STRANGER], "first": 5432, "last": 5432, "proto": "tcp", **other}
    box.ask("open", seconds=600, **said)
    closed = box.ask("close", first=5432, last=5432, proto="tcp", sources=[STRANGER])["result"]
    assert [one["source"] for one in closed["opened"]] == [f"{STRANGER}/32"]
    notes = " ".join(closed["notes"])
    assert ("STILL OPEN" in notes, still in notes) == (bool(still), True)
    # And the other way round: some of a wider one.
    opens(box)
    closed = box.ask("close", **said)["result"]
    assert bool(closed["notes"]) == bool(still)


def test_it_is_closed_to_whom_it_can_be_opened_to(fleet: World) -> None:
    lines = {"web": (GroupLine("ec2-2"),)}
    MemoryRegistry(fleet.server).change_setting("groups", encode(Groups(lines, 1)))
    box = started(fleet)
    overlay = fleet.boxes[1].status()["overlay"]
    names = ["web", "ec2-2", overlay]
    for by in [*names, "10.0.0.2"]:
        for name in names:
            opens(box, by, STRANGER)
            assert "error" not in box.ask("close", sources=[name]), (by, name)
            assert [one.to for one in box.told().openings] == [STRANGER], (by, name)
    # One that is gone is still known by its id.
    opens(box, "ec2-2")
    fleet.boxes[1].ask("leave")
    fleet.settle()
    assert "ec2-2" not in box.running.core.members.fleet.members
    box.ask("close", sources=["ec2-2"])
    assert [one.to for one in box.told().openings] == [STRANGER]


def test_a_member_means_the_addresses_by_which_it_comes(fleet: World) -> None:
    """Also one that no group lets in; and a group means those who are in it now."""
    lines = {"ops": (GroupLine("vpc-7"),), "web": (GroupLine("ec2-2"), GroupLine("vpc-7"))}
    MemoryRegistry(fleet.server).change_setting("groups", encode(Groups(lines, 1)))
    box = started(fleet, member_ports=(MemberPort(("ops",)),))
    fleet.started(7, "vpc")
    assert not fleet.boxes[0].ask("explain", source="ec2-2", dest="here", port=5432)["result"][
        "answers"
    ][0]["admitted"]
    answer = opens(box, "ec2-2")["result"]
    assert {one["member"] for one in answer["opened"]} == {"ec2-2"}
    assert answer["notes"] == []
    assert "10.0.0.2 . tcp . 5432" in box.elements("opening4_32")
    explained = box.ask("explain", source="ec2-2", dest="here", port=5432)["result"]["answers"]
    assert explained[0]["admitted"]
    assert "'neti open' opened 5432/tcp to ec2-2 (10.0.0.2) until" in explained[0]["by"]
    box.ask("close", sources=["ec2-2"])
    assert box.told().openings == ()
    # By its overlay address the same member is meant.
    overlay = fleet.boxes[1].status()["overlay"]
    assert len(opens(box, overlay)["result"]["opened"]) == len(answer["opened"])
    box.ask("close")
    of_group = opens(box, "web")["result"]["opened"]
    assert {one["member"] for one in of_group} == {"ec2-2", "vpc-7"}
    assert "203.0.113.7 . tcp . 5432" in box.elements("opening4_32")


def registered_as(fleet: World, host_id: str, number: int = 66) -> Box:
    """A member that chose this id itself."""
    box = fleet.box(number)
    box.host = replace(box.host, id=host_id)
    box.start()
    fleet.settle()
    return box


def test_what_is_written_as_an_address_is_never_the_id_of_a_member(fleet: World) -> None:
    """Members choose their ids themselves."""
    box = started(fleet)
    registered_as(fleet, STRANGER)
    registered_as(fleet, "10.0.0.2", 67)
    assert STRANGER in box.running.core.members.fleet.members
    (opened,) = opens(box)["result"]["opened"]
    assert (opened["source"], opened["member"]) == (f"{STRANGER}/32", "")
    said = {"source": STRANGER, "dest": "here", "port": 5432}
    (answer,) = box.ask("explain", **said)["result"]["answers"]
    assert (answer["address"], answer["admitted"]) == (STRANGER, True)
    noted = box.ask("explain", source="here", dest="10.0.0.2", port=1)["result"]["notes"]
    assert any("neti verify ec2-2" in one for one in noted)
    # By what is surely an id it is found as ever: 'neti verify --ports' asks by ids.
    (pair,) = box.ask("explain_many", ids=[STRANGER], ports=["5432/tcp"])["result"]["pairs"]
    assert {one["address"] for one in pair["answers"]} == {"10.0.0.66", "198.51.100.66"}
    box.ask("close", sources=[STRANGER])
    assert box.told().openings == ()


def test_a_host_whose_own_id_is_another_ones_address_does_not_take_it_for_itself(
    fleet: World,
) -> None:
    box = registered_as(fleet, STRANGER)
    assert [one["source"] for one in opens(box)["result"]["opened"]] == [f"{STRANGER}/32"]
    assert "this host itself" in opens(box, "10.0.0.66")["error"]
    assert "this host itself" in opens(box, "127.0.0.1")["error"]


@pytest.mark.parametrize("name", ["web", "ops", "members"])
def test_what_is_both_a_group_and_a_member_is_refused(fleet: World, name: str) -> None:
    """Also a group that only member_ports name, and that of every member."""
    lines = {"web": (GroupLine("ec2-2"), GroupLine("ec2-1"))}
    MemoryRegistry(fleet.server).change_setting("groups", encode(Groups(lines, 1)))
    box = fleet.started(1, member_ports=(MemberPort(("ops",)),))
    fleet.started(2)
    before = opens(box, "web")["result"]["opened"]
    assert {one["member"] for one in before} == {"ec2-2"}
    registered_as(fleet, name)
    refused = opens(box, name, port=80)["error"]
    assert f"{name} is a group, and the id of a member too" in refused
    assert f"neti lookup {name}" in refused
    assert len(box.told().openings) == len(before)
    assert opens(box, "10.0.0.66", port=80)["result"]["opened"]


def test_who_gets_in_anyway_is_said(fleet: World) -> None:
    box = started(fleet, trusted=(IPv4Network("192.0.2.0/24"),))
    assert "gets in to 5432/tcp without this" in opens(box, "192.0.2.7")["result"]["notes"][0]
    assert "members reach every port" in opens(box, "ec2-2")["result"]["notes"][0]


def test_in_shadow_it_is_kept_for_later_and_said(fleet: World) -> None:
    box = fleet.started(1)
    answer = opens(box)["result"]
    assert "nobody is kept out of this host today" in answer["notes"][0]
    assert left(box) == 2 * HOUR


def test_however_many_are_named_the_fleet_is_looked_at_once_and_few_notes_come(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the agent's loop, and fleets have 10,000 members."""
    box = started(fleet, trusted=(IPv4Network("192.0.2.0/24"),))
    look = Mock(wraps=kept_out.peers_at)
    monkeypatch.setattr(opening, "peers_at", look)
    monkeypatch.setattr(explaining, "peers_at", look)
    many = [f"192.0.2.{number}" for number in range(1, 41)]
    notes = opens(box, *many, STRANGER, "ec2-2")["result"]["notes"]
    assert look.call_count == 1
    (one,) = (note for note in notes if note.startswith("192.0.2.1, "))
    assert " and 35 more get in to 5432/tcp without this" in one
    assert len(notes) < 5


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"sources": ["nobody-knows"]}, "no member that this host knows"),
        ({"sources": ["203.0.113.9/24"]}, "is no network"),
        ({"sources": ["fe80::1%eth0/128"]}, "is no network"),
        ({"sources": ["224.0.0.0/4"]}, "nobody comes to this host from"),
        ({"sources": ["::ffff:1.2.3.4"]}, "nobody comes to this host from"),
        ({"sources": ["10.0.0.1"]}, "this host itself"),
        ({"sources": []}, "nothing is opened without end"),
        ({"first": 9, "last": 8}, "nothing is opened without end"),
        ({"last": 5432 + MOST}, f"at most {MOST}"),
        ({"seconds": None}, "nothing is opened without end"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    fleet: World, said: dict[str, Any], why: str
) -> None:
    box = started(fleet)
    arguments = {"sources": [STRANGER], "first": 5432, "last": 5432, "proto": "tcp"}
    arguments |= {"seconds": 60, **said}
    answer = box.ask("open", **{k: v for k, v in arguments.items() if v is not None})
    assert why in answer["error"]
    assert box.told().openings == ()
    assert "opening" not in (box.dataplane.structure() or "")


def test_what_the_kernel_refuses_is_not_open(fleet: World) -> None:
    box = started(fleet)
    opens(box, hours=1)
    box.dataplane.failing = "no such thing in this kernel"
    assert "nothing was opened: no such thing" in opens(box, hours=5)["error"]
    box.dataplane.failing = None
    fleet.pass_time(60)
    assert HOUR - 62 <= (left(box) or 0) <= HOUR - 60


def test_down_opens_nothing_and_up_brings_the_rest(fleet: World) -> None:
    box = started(fleet)
    opens(box)
    box.ask("down")
    assert "Neti is down" in opens(box, port=80)["error"]
    fleet.pass_time(HOUR)
    box.ask("up")
    fleet.pass_time(1)
    assert HOUR - 4 <= (left(box) or 0) <= HOUR


def test_it_outlives_a_reload_and_new_addresses(fleet: World) -> None:
    box = started(fleet)
    opens(box)
    box.new_settings = replace(box.settings, trusted=(IPv4Network("192.0.2.0/24"),))
    assert box.ask("reload")["result"]["refused"] is None
    assert left(box) == 2 * HOUR
    assert box.status()["stage"] == "enforced"


def test_a_trial_is_confirmed_beside_it(fleet: World) -> None:
    box = fleet.box(1)
    box.dataplane = Ticking(fleet.clock)
    box.start()
    fleet.settle()
    fleet.started(2)
    box.ask("enforce", seconds=60, wait=True)
    opens(box)
    assert box.status()["stage"] == "trial"
    box.ask("confirm")
    assert box.status()["stage"] == "enforced"
    assert left(box) == 2 * HOUR


def test_a_torn_file_closes_and_is_named_until_it_is_written(fleet: World, tmp_path: Path) -> None:
    box = started(fleet)
    opens(box)
    box.stop()
    (box.settings.table_files_path / "openings.json").write_bytes(b"rubbish\n")
    box.start()
    fleet.settle()
    assert left(box) is None
    assert "state" not in box.problems()
    box.stop()
    box.start()
    fleet.settle()
    assert "state" not in box.problems()


def test_a_disk_that_takes_nothing_is_said(fleet: World) -> None:
    box = started(fleet)
    folder = box.running.core.out.folder
    path = folder.path / "openings.json"
    path.mkdir()
    answer = opens(box)["result"]
    assert "openings.json" in answer["unsaved"]
    assert left(box) == 2 * HOUR
    path.rmdir()
    fleet.pass_time(60)
    assert path.is_file()


def test_at_most_a_week(fleet: World) -> None:
    """Whatever a file says, somebody's or a later version's."""
    box = started(fleet)
    opens(box, hours=LONGEST / HOUR)
    assert left(box) == LONGEST
