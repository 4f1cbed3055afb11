"""Only a host can speak for itself: what its record names, and what somebody else says of it."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, ip_address
from itertools import permutations

import pytest

from neti.fleet.admission import Admission
from neti.fleet.fleet import Fleet
from neti.fleet.vouching import UNNAMED, Mode
from neti.model import IPAddress, Member, Site, entry
from neti.registry import DataRead, HostRead, LeaseRead
from neti.registry.record import HostRecord

SUBNET = IPv4Network("192.168.0.0/24")
SITE = Site(name="ec2", private=(IPv4Network("10.0.0.0/8"),), public=())
LINGER = 600.0


class World:
    """A registry by hand: names with the steps that made them, and records."""

    def __init__(self, mode: Mode = "strict", *, keys: bool = False) -> None:
        self.fleet = Fleet(
            Admission(sites={"ec2": SITE}, overlay_subnet=SUBNET),
            linger_seconds=LINGER,
            records=mode,
            keys=keys,
        )
        self.made: dict[str, int] = {}
        self.records: dict[str, tuple[HostRecord, int]] = {}
        self.leases: dict[IPv4Address, str] = {}
        self.step = 0
        self.asked_hosts: list[str] = []
        self.asked = 0

    def lease(self, number: int) -> None:
        self.leases[SUBNET[number]] = f"h{number}"

    def name(self, number: int, generation: int = 0, **other: object) -> str:
        member = Member(
            id=f"h{number}",
            site="ec2",
            private=IPv4Address(f"10.0.0.{number}"),
            public=None,
            overlay=SUBNET[number],
            generation=generation,
        )
        return entry.encode(replace(member, **other))  # type: ignore[arg-type]  # fields by name

    def register(self, number: int, generation: int = 0, *, key: str = "", **other: object) -> str:
        """As its own agent does: record and entry in one step."""
        self.lease(number)
        name = self.name(number, generation, **other)
        self.write(f"h{number}", name, key)
        self.made[name] = self.step
        self.fleet.appeared(name)
        self.answer()
        return name

    def write(self, host_id: str, word: str, key: str = "") -> None:
        self.step += 1
        self.records[host_id] = HostRecord(word=word, key=key), self.step
        self.fleet.host_changed(host_id)

    def forge(self, number: int, generation: int, **other: object) -> str:
        """As anybody else does."""
        self.step += 1
        name = self.name(number, generation, **other)
        self.made[name] = self.step
        self.fleet.appeared(name)
        self.answer()
        return name

    def vanish(self, name: str, at: float = 0.0) -> None:
        self.made.pop(name, None)
        self.fleet.vanished(name, now=at)
        self.answer()

    def listed(self) -> None:
        self.fleet.snapshot(list(self.made), now=0.0)
        self.answer()

    def answer(self) -> None:
        while asked := self.fleet.questions():
            self.asked += len(asked.leases) + len(asked.data) + len(asked.hosts)
            for overlay in asked.leases:
                self.fleet.lease_read(overlay, self.leases.get(overlay))
            for host_id in asked.hosts:
                self.asked_hosts.append(host_id)
                record, written = self.records.get(host_id, (None, 0))
                self.fleet.host_read(HostRead(host_id, record, written), now=0.0)
            for name in asked.data:
                self.fleet.data_read(
                    name, b"" if name in self.made else None, self.made.get(name, 0)
                )

    def private(self, number: int) -> str | None:
        member = self.fleet.members.get(f"h{number}")
        return str(member.private) if member is not None else None


def test_a_host_that_registers_itself_is_a_member() -> None:
    world = World()
    world.register(1)
    assert world.private(1) == "10.0.0.1"
    assert not world.fleet.unvouched


def test_a_join_costs_one_look_at_the_lease_and_one_at_the_record() -> None:
    world = World()
    world.register(1)
    assert world.asked == 2


@pytest.mark.parametrize("generation", [0, 1, 36**8 - 1])
def test_a_forged_entry_of_a_live_host_changes_nothing_and_costs_no_look(generation: int) -> None:
    world = World()
    world.register(1)
    asked = world.asked
    forged = world.forge(1, generation, private=IPv4Address("10.9.9.9"))
    assert world.private(1) == "10.0.0.1"
    assert world.asked == asked
    assert list(world.fleet.unvouched) == [forged]
    assert world.fleet.skipped() == {forged: UNNAMED}


def test_a_forged_entry_of_an_absent_host_is_nobodys() -> None:
    world = World()
    world.lease(1)
    world.forge(1, 5)
    assert world.private(1) is None


def test_a_host_whose_address_changes_is_followed_at_once() -> None:
    world = World()
    world.register(1)
    world.register(1, 1, private=IPv4Address("10.0.0.99"))
    assert world.private(1) == "10.0.0.99"
    assert not world.fleet.unvouched  # the former entry stands, and is no fault


def test_a_host_that_registers_again_before_its_record_was_read_stays_a_member() -> None:
    """It comes back by a first entry, moves by a second, and the registry cannot be asked."""
    world = World()
    world.vanish(world.register(1), at=1.0)
    assert world.fleet.lost
    first = world.name(1, 1)
    second = world.name(1, 2, private=IPv4Address("10.0.0.99"))
    for name in (first, second):
        world.write("h1", name)
        world.made[name] = world.step
        world.fleet.appeared(name)
        assert world.private(1) == "10.0.0.1"
    world.fleet.vanished(first, now=2.0)
    assert world.private(1) == "10.0.0.1"
    world.answer()
    assert world.private(1) == "10.0.0.99"
    assert not world.fleet.lost


def test_a_former_entry_that_its_record_does_not_name_any_more_is_not_believed() -> None:
    world = World()
    world.vanish(world.register(1), at=1.0)
    first, second = world.name(1, 1), world.name(1, 2, private=IPv4Address("10.0.0.99"))
    for name in (first, second):
        world.write("h1", name)
        world.made[name] = world.step
        world.fleet.appeared(name)
    world.answer()
    world.vanish(second, at=3.0)
    assert world.fleet.lost
    assert world.private(1) == "10.0.0.99"


def test_a_former_entry_may_vanish_later() -> None:
    world = World()
    old = world.register(1)
    world.register(1, 1, private=IPv4Address("10.0.0.99"))
    world.vanish(old)
    assert world.private(1) == "10.0.0.99"
    assert not world.fleet.lost


@pytest.mark.parametrize("mode", ["off", "report", "strict"])
def test_a_new_entry_keeps_the_hosts_further_addresses_until_its_own_are_read(mode: Mode) -> None:
    world = World(mode)
    more: tuple[IPAddress, ...] = (ip_address("2001:db8::1"),)
    world.lease(1)
    name = world.register(1, extended=True)
    world.fleet.data_read(name, entry.encode_data(more), world.made[name])
    world.fleet.take_changes()
    later = world.name(1, 1, extended=True)
    world.write("h1", later)
    world.made[later] = world.step
    world.fleet.appeared(later)
    asked = world.fleet.questions()
    world.fleet.lease_read(SUBNET[1], "h1")
    world.fleet.host_read(HostRead("h1", *world.records["h1"]), now=0.0)
    assert later in asked.data
    assert world.fleet.members["h1"].more == more
    world.fleet.data_read(later, entry.encode_data(()), world.made[later])
    assert world.fleet.members["h1"].more == ()


def test_generations_decide_nothing() -> None:
    world = World()
    world.register(1, 7)
    world.register(1, 3, private=IPv4Address("10.0.0.99"))
    assert world.private(1) == "10.0.0.99"


def test_a_word_that_somebody_made_again_does_not_bring_the_host_back() -> None:
    world = World()
    word = world.register(1)
    world.vanish(word)
    assert "h1" in world.fleet.lost
    world.step += 1
    world.made[word] = world.step
    world.fleet.appeared(word)
    world.answer()
    assert "h1" in world.fleet.lost


def test_in_a_list_entries_count_once_their_step_is_known() -> None:
    world = World()
    for number in (1, 2):
        world.lease(number)
        world.step += 1
        name = world.name(number)
        world.made[name] = world.step
        world.records[f"h{number}"] = HostRecord(word=name), world.step
    ghost = world.name(2)
    world.made[ghost] += 10  # made again, by somebody else
    world.listed()
    assert world.private(1) == "10.0.0.1"
    assert world.private(2) is None
    assert list(world.fleet.unvouched) == [ghost]


def test_record_lease_and_entry_of_the_only_name_in_a_list_are_asked_about_at_once() -> None:
    world = World()
    for number in (1, 2):
        world.lease(number)
        world.made[world.name(number)] = 5
    other = world.name(2, 1)
    world.made[other] = 5
    world.fleet.snapshot(list(world.made), now=0.0)
    asked = world.fleet.questions()
    assert asked.hosts == {"h1", "h2"}
    assert asked.leases == {SUBNET[1], SUBNET[2]}
    assert asked.data == {world.name(1)}  # of two, the record decides which

    word = HostRead("h1", HostRecord(word=world.name(1)), 5)
    world.fleet.host_read(word, now=0.0)
    assert not world.fleet.questions()  # it is being read already


def test_answers_that_come_together_mean_what_they_mean_one_by_one() -> None:
    """Everything is taken in before anything is decided, so any order of them will do."""
    word = "1.0a00000100000000c0a80001.0.ec2.h1"
    answers: list[DataRead | HostRead | LeaseRead] = [
        HostRead("h1", HostRecord(word=word), 5),
        LeaseRead(SUBNET[1], "h1"),
        DataRead(word, b"", 5),
    ]
    for order in permutations(answers):
        world = World()
        world.fleet.snapshot([word], now=0.0)
        world.fleet.questions()
        world.fleet.answers(order, now=0.0)
        assert world.private(1) == "10.0.0.1"
        assert not world.fleet.questions()


def test_a_member_whose_entry_was_asked_for_while_it_was_away_comes_back_with_it() -> None:
    """An agent starts while the registry is empty, and checks what it believed; then an older copy
    is restored. The very entry that nobody could read is there again, vouched for as before."""
    world = World()
    word = world.name(1)
    world.lease(1)
    world.fleet.remember({word: ()}, lost={"h1": (word, 0.0)}, owners={SUBNET[1]: "h1"})
    world.fleet.snapshot([], now=1.0, doubt="wiped")
    world.fleet.prove_again(["h1"])
    world.fleet.data_read(word, None)
    world.fleet.host_read(HostRead("h1", None, 0), now=1.0)
    world.answer()
    assert world.private(1) == "10.0.0.1"
    world.records["h1"], world.made[word] = (HostRecord(word=word), 5), 5
    world.fleet.snapshot([word], now=2.0, doubt="another one than before", older=False)
    asked = world.fleet.questions()
    assert asked.hosts == {"h1"}
    world.fleet.host_read(HostRead("h1", *world.records["h1"]), now=2.0)
    assert world.private(1) == "10.0.0.1"
    world.answer()
    assert world.fleet.speaks["h1"] == word
    assert "h1" not in world.fleet.lost


def test_a_forged_goodbye_lets_nobody_go() -> None:
    world = World()
    word = world.register(1)
    world.fleet.appeared("left.zz.h1")
    world.answer()
    world.vanish(word)
    assert "h1" in world.fleet.lost


@pytest.mark.parametrize("goodbye_first", [True, False])
def test_a_hosts_own_goodbye_counts(goodbye_first: bool) -> None:
    world = World()
    word = world.register(1)
    world.write("h1", "left.0.h1")
    if goodbye_first:
        world.fleet.appeared("left.0.h1")
        world.answer()
        world.vanish(word)
    else:
        world.vanish(word)
        world.fleet.appeared("left.0.h1")
        world.answer()
    assert world.private(1) is None


def test_the_last_good_state_counts_until_its_record_says_otherwise() -> None:
    world = World()
    name = world.name(1)
    world.lease(1)
    world.fleet.remember({name: ()}, lost={}, owners={SUBNET[1]: "h1"})
    assert world.private(1) == "10.0.0.1"
    world.made[name] = 1
    world.listed()
    assert world.private(1) == "10.0.0.1"
    assert world.asked == 0
    world.fleet.prove_again(["h1"])
    world.answer()
    assert world.private(1) is None


def test_what_was_proved_stays_while_it_stands() -> None:
    world = World()
    world.register(1)
    world.write("h1", "")  # an operator's
    world.answer()
    assert world.private(1) == "10.0.0.1"


def test_what_was_proved_within_a_gap_is_not_asked_about_again() -> None:
    """Hosts that register while the list is still to be read: that was seen on its connection."""
    world = World()
    world.register(1)
    world.fleet.gap_begins()
    world.register(2)
    world.listed()
    world.fleet.doubt_what_was_proved()
    world.fleet.gap_is_over()
    assert world.fleet.unproved == {"h1"}
    world.fleet.doubt_what_was_proved()
    assert world.fleet.unproved == {"h1", "h2"}


def test_where_records_are_only_reported_everybody_is_believed_and_named() -> None:
    world = World("report")
    world.register(1)
    world.lease(2)
    old = world.forge(2, 0)  # an agent that writes no record
    forged = world.forge(1, 9, private=IPv4Address("10.9.9.9"))
    assert world.private(2) == "10.0.0.2"
    assert world.private(1) == "10.9.9.9"
    assert set(world.fleet.unvouched) == {old, forged}


def test_to_become_strict_and_back() -> None:
    world = World("report")
    world.register(1)
    world.lease(2)
    world.forge(2, 0)
    forged = world.forge(1, 9, private=IPv4Address("10.9.9.9"))
    world.fleet.decide_by_records(True)
    world.answer()
    assert world.private(1) == "10.0.0.1"
    assert world.private(2) is None
    world.fleet.decide_by_records(False)
    world.answer()
    assert world.private(1) == "10.9.9.9"
    assert world.private(2) == "10.0.0.2"
    assert forged in world.fleet.unvouched


def test_where_records_are_not_read_nothing_is_asked_or_named() -> None:
    world = World("off")
    world.register(1)
    world.forge(1, 9)
    assert not world.asked_hosts
    assert not world.fleet.unvouched


def test_a_crowd_of_forged_entries_does_not_hide_the_hosts_own() -> None:
    world = World()
    for generation in range(40):
        world.forge(1, 100 + generation)
    world.register(1)
    assert world.private(1) == "10.0.0.1"
    for generation in range(40):
        world.forge(1, 200 + generation)
    world.register(1, 1, private=IPv4Address("10.0.0.99"))
    assert world.private(1) == "10.0.0.99"


# --- what others can make agents read ---


def test_a_record_that_is_written_in_a_loop_is_read_a_few_times_and_then_as_it_is() -> None:
    world = World()
    world.register(1)
    world.asked_hosts.clear()
    for _ in range(1000):
        world.write("h1", "nothing")
        world.answer()
    last = world.name(1, 7)
    world.write("h1", last)
    world.made[last] = world.step
    world.fleet.appeared(last)
    world.answer()
    assert len(world.asked_hosts) < 10
    assert world.fleet.speaks["h1"] != last
    due = world.fleet.next_tick()
    assert due is not None
    world.fleet.tick(now=due)
    world.answer()
    assert world.fleet.speaks["h1"] == last


def test_goodbyes_that_others_say_cost_no_look() -> None:
    world = World()
    world.register(1)
    asked = world.asked
    for generation in range(50):
        world.fleet.appeared(f"left.{generation}.h1")
        world.fleet.appeared(f"left.{generation}.nobody{generation}")
        world.answer()
    assert world.asked == asked


def test_goodbyes_in_a_list_are_looked_at_once_for_each_host_that_is_known() -> None:
    world = World()
    world.register(1)
    asked = world.asked
    for generation in range(50):
        for word in (f"left.{generation}.h1", f"left.{generation}.nobody{generation}"):
            world.made[word] = 1
    world.listed()
    assert world.asked == asked + 2  # its record, and again the step that made its entry


def test_in_a_whole_list_what_nobody_vouches_for_costs_one_look_for_each_host() -> None:
    world = World("report")
    for number in (1, 2):
        world.lease(number)
        for generation in range(10):
            world.made[world.name(number, generation)] = 5
    world.listed()
    assert sorted(world.asked_hosts) == ["h1", "h2"]
    assert world.asked == 4  # and one for each lease


def test_after_strict_a_host_without_a_record_is_believed_that_came_meanwhile() -> None:
    world = World()
    world.lease(1)
    world.forge(1, 0)  # as an agent of a version before records does
    assert world.private(1) is None
    world.fleet.decide_by_records(False)
    world.answer()
    assert world.private(1) == "10.0.0.1"


def test_a_host_that_registers_again_and_again_has_few_of_its_entries_read() -> None:
    """And what the last one says is read in the end, its further addresses included."""
    world, asked = World(), 0
    world.lease(2)
    name = ""
    for number in range(2000):
        world.step += 1
        name = world.name(2, number, extended=True, more=(ip_address("10.1.0.1"),))
        world.records["h2"] = HostRecord(word=name), world.step
        world.fleet.host_changed("h2", now=number / 1000)
        world.fleet.appeared(name, now=number / 1000)
        asked += _answered(world, name)
    assert asked <= 10
    while (at := world.fleet.next_tick()) is not None and at < 100:
        world.fleet.tick(now=at)
        while _answered(world, name):
            pass
    assert world.fleet.speaks["h2"] == name
    assert world.fleet.members["h2"].more == (ip_address("10.1.0.1"),)


def _answered(world: World, word: str) -> int:
    """How many entries were asked about; all that was asked is answered."""
    asked = world.fleet.questions()
    data = entry.encode_data((ip_address("10.1.0.1"),))
    world.fleet.answers(
        [
            *(LeaseRead(overlay, world.leases[overlay]) for overlay in asked.leases),
            *(DataRead(name, data, world.step) for name in asked.data),
            *(HostRead(i, HostRecord(word=word), world.step) for i in asked.hosts),
        ],
        now=0.0,
    )
    return len(asked.data)


# --- all are back at once ---

_MANY = 200


def _all_back(world: World, *, by_list: bool, **other: object) -> list[str]:
    """Every session has ended, and every host registers anew at one moment."""
    before = [world.register(number) for number in range(1, _MANY)]
    world.asked_hosts.clear()
    world.asked = 0
    for name in before:
        world.made.pop(name)
        if not by_list:
            world.fleet.vanished(name, now=0.0)
    for number in range(1, _MANY):
        if not by_list:
            world.register(number, 1, **other)  # type: ignore[arg-type]  # fields by name
            continue
        name = world.name(number, 1, **other)
        world.step += 1
        world.made[name] = world.step
        world.records[f"h{number}"] = HostRecord(word=name), world.step
    if by_list:
        world.listed()
    return world.asked_hosts


@pytest.mark.parametrize("by_list", [False, True])
def test_records_of_hosts_that_are_back_as_they_were_are_read_over_a_minute(by_list: bool) -> None:
    """As after an outage of all sessions: nothing waits for it, and every agent reads them."""
    world = World()
    asked = _all_back(world, by_list=by_list)
    assert len(world.fleet.members) == _MANY - 1
    assert not world.fleet.unvouched
    assert not world.fleet.lost
    seconds = [len(asked)]
    for second in range(62):
        before = len(asked)
        world.fleet.tick(now=float(second))
        world.answer()
        seconds.append(len(asked) - before)
    assert sorted(asked) == sorted(f"h{number}" for number in range(1, _MANY))
    assert seconds[0] <= 16
    assert max(seconds[1:]) <= 8
    assert world.asked < 3 * _MANY
    world.fleet.doubt_what_was_proved()
    assert len(world.fleet.unproved) == _MANY - 1  # each was proved


@pytest.mark.parametrize("by_list", [False, True])
def test_who_is_back_with_other_addresses_is_read_at_once(by_list: bool) -> None:
    world = World()
    asked = _all_back(world, by_list=by_list, private=IPv4Address("10.9.9.9"))
    assert len(asked) == _MANY - 1
    assert {str(one.private) for one in world.fleet.members.values()} == {"10.9.9.9"}


def test_a_host_whose_look_is_put_off_is_read_at_once_when_it_says_something_else() -> None:
    world = World()
    asked = _all_back(world, by_list=False)
    assert f"h{_MANY - 1}" not in asked
    world.register(_MANY - 1, 2, private=IPv4Address("10.9.9.9"))
    assert asked[-1] == f"h{_MANY - 1}"
    assert world.private(_MANY - 1) == "10.9.9.9"


def test_further_addresses_stay_while_the_look_is_put_off() -> None:
    world = World()
    last, more = _MANY - 1, (ip_address("2001:db8::1"),)
    for generation in range(2):
        for number in range(1, _MANY):
            name = world.register(number, generation, extended=number == last)
        if not generation:
            world.fleet.data_read(name, entry.encode_data(more), world.made[name])
            world.fleet.vanished(name, now=0.0)
            world.asked_hosts.clear()
    assert f"h{last}" not in world.asked_hosts
    assert world.fleet.members[f"h{last}"].more == more


def test_where_keys_are_read_nothing_waits() -> None:
    """A host may be back with its first key, or another one, by which alone it is reached."""
    world = World(keys=True)
    key = "A" * 42 + "E="
    for number in range(1, _MANY):
        world.register(number, key=key if number == _MANY - 1 else "")
    world.asked_hosts.clear()
    for number in range(1, _MANY):
        world.register(number, 1)
    assert len(world.asked_hosts) == _MANY - 1
