"""What one member writes costs the fleet what it costs to hear it, however much that is.

Counted are calls of Neti's functions, not seconds: a busy machine changes nothing about them.
"""

import cProfile
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from neti.agent.sparing import A_SECOND, AT_ONCE, TOGETHER_EVERY, Sparing
from neti.fleet.admission import Admission
from neti.fleet.entries import MAX_MORE_BEYOND, MORE_FOR_EACH
from neti.fleet.fleet import Fleet
from neti.fleet.guard import Guard
from neti.model import Member, Site, entry

FEW, MANY = 200, 1_600
OVERLAY = IPv4Network("192.168.0.0/16")
VICTIM = IPv4Address("192.168.0.7")


def admission() -> Admission:
    sites = {"ec2": Site(name="ec2", private=(IPv4Network("10.0.0.0/8"),))}
    return Admission(sites=sites, overlay_subnet=OVERLAY)


def name(
    host_id: str, *, overlay: IPv4Address = VICTIM, private: int = 1, generation: int = 0
) -> str:
    return entry.encode(
        Member(
            id=host_id,
            site="ec2",
            private=IPv4Address((10 << 24) + private),
            public=None,
            overlay=overlay,
            generation=generation,
        )
    )


class World:
    """A fleet, and the leases that it asks about."""

    def __init__(self) -> None:
        self.fleet = Fleet(admission(), linger_seconds=900, guard=Guard())
        self.leases: dict[IPv4Address, str] = {}
        self.asked = 0

    def join(self, host_id: str, overlay: IPv4Address, private: int) -> str:
        self.leases[overlay] = host_id
        made = name(host_id, overlay=overlay, private=private)
        self.fleet.appeared(made)
        self.answer()
        return made

    def answer(self) -> None:
        while questions := self.fleet.questions():
            self.asked += len(questions.leases)
            for overlay in questions.leases:
                self.fleet.lease_read(overlay, self.leases.get(overlay))
            for asked in questions.data:
                self.fleet.data_read(asked, b"")
        self.fleet.take_changes()


def calls(act: Callable[[], None]) -> int:
    """How many of Neti's functions ``act`` calls."""
    profile = cProfile.Profile(builtins=False)
    profile.runcall(act)
    return sum(
        found.callcount
        for found in profile.getstats()
        if not isinstance(found.code, str) and "/neti/" in found.code.co_filename
    )


def of_one_id(world: World, count: int) -> None:
    """As ``left`` and right of a victim's own entry: other addresses, at its overlay address."""
    for number in range(count):
        world.fleet.appeared(name("victim", private=1_000 + number, generation=number % 7))
        world.answer()


def of_one_id_everywhere(world: World, count: int) -> None:
    for number in range(count):
        overlay = IPv4Address(int(VICTIM) + 1_000 + number)
        world.fleet.appeared(name("victim", overlay=overlay, private=1_000 + number))
        world.answer()


def at_one_overlay(world: World, count: int) -> None:
    for number in range(count):
        world.fleet.appeared(name(f"evil-{number}", private=1_000 + number))
        world.answer()


def at_one_private(world: World, count: int) -> None:
    for number in range(count):
        overlay = IPv4Address(int(VICTIM) + 1_000 + number)
        world.join(f"evil-{number}", overlay, 77)


def at_one_private_and_gone(world: World, count: int) -> None:
    made = [world.join(f"evil-{n}", IPv4Address(int(VICTIM) + 1_000 + n), 77) for n in range(count)]
    for each in made:
        world.fleet.vanished(each, now=1_000.0)
        world.answer()


def departures(world: World, count: int) -> None:
    for number in range(count):
        world.fleet.appeared(f"left.{number % 9}.evil-{number}")
        world.answer()


def moves(world: World, count: int) -> None:
    for _ in range(count):
        word = entry.encode_moved(VICTIM, "evil")
        world.fleet.appeared(word)
        world.fleet.vanished(word, now=1_000.0)
        world.answer()


def junk(world: World, count: int) -> None:
    for number in range(count):
        world.fleet.appeared(f"junk-{number}")
        world.answer()


def coming_and_going(world: World, count: int) -> None:
    of_one_id(world, 50)
    for number in range(count):
        made = name("victim", private=9_000, generation=number % 5)
        world.fleet.appeared(made)
        world.fleet.vanished(made, now=1_000.0)
        world.answer()


ACTS = [
    of_one_id,
    of_one_id_everywhere,
    at_one_overlay,
    at_one_private,
    at_one_private_and_gone,
    departures,
    moves,
    junk,
    coming_and_going,
]


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_an_event_costs_the_same_however_many_came_before(
    act: Callable[[World, int], None],
) -> None:
    def cost(count: int) -> float:
        world = World()
        world.join("victim", VICTIM, 1)
        return calls(lambda: act(world, count)) / count

    few, many = cost(FEW), cost(MANY)
    assert many < 1.5 * few + 20, f"{few:.0f} calls an event among {FEW}, {many:.0f} among {MANY}"
    assert many < 600


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_the_victim_stands(act: Callable[[World, int], None]) -> None:
    world = World()
    world.join("victim", VICTIM, 1)
    world.join("other", IPv4Address(int(VICTIM) + 1), 2)
    if act in (of_one_id, coming_and_going):
        return  # whoever may write the host's id with its own lease speaks for it
    act(world, 100)
    assert world.fleet.members["victim"].private == IPv4Address("10.0.0.1")
    assert world.fleet.members["other"].private == IPv4Address("10.0.0.2")


def test_a_list_full_of_one_id_is_taken_in() -> None:
    """Nothing is known yet, and the real entry is one of hundreds, somewhere in the middle."""

    def cost(count: int) -> float:
        world = World()
        world.leases[VICTIM] = "victim"
        names = [
            name("victim", overlay=IPv4Address(int(VICTIM) + 1_000 + n), private=1_000 + n)
            for n in range(count)
        ]
        real = name("victim", private=1_000 + count // 2)

        def act() -> None:
            world.fleet.snapshot([*names, real], now=1_000.0)
            world.answer()

        made = calls(act) / count
        assert world.fleet.names_of("victim")
        assert world.fleet.members["victim"].overlay == VICTIM
        assert world.fleet.skipped_count() == count
        return made

    few, many = cost(FEW), cost(MANY)
    assert many < 1.5 * few + 20


def test_junk_does_not_hide_a_new_address_of_the_host() -> None:
    """The host moves in the middle of the flood: its next generation counts at once."""
    world = World()
    world.join("victim", VICTIM, 1)
    of_one_id_everywhere(world, 300)
    moved = name("victim", private=5, generation=1)
    world.fleet.appeared(moved)
    of_one_id_everywhere(world, 300)
    assert world.fleet.members["victim"].private == IPv4Address("10.0.0.5")


def test_what_was_not_looked_at_is_looked_at_when_there_is_room() -> None:
    world = World()
    world.leases[VICTIM] = "victim"
    junk_names = [
        name("victim", overlay=IPv4Address(int(VICTIM) + 1_000 + n), private=1_000 + n)
        for n in range(100)
    ]
    world.fleet.appeared(name("victim"))
    for each in junk_names:
        world.fleet.appeared(each)
    world.answer()
    assert world.fleet.members["victim"].private == IPv4Address("10.0.0.1")
    for each in junk_names:
        world.fleet.vanished(each, now=1_000.0)
        world.answer()
    assert world.fleet.skipped() == {}
    assert world.fleet.skipped_count() == 0
    assert world.fleet.names_of("victim") == (name("victim"),)


def test_a_crowd_is_one_fault() -> None:
    world = World()
    world.join("victim", VICTIM, 1)
    of_one_id_everywhere(world, 300)
    faults = [fault for fault in world.fleet.skipped().values() if "of one host id" in fault]
    assert len(faults) == 1
    assert world.fleet.skipped_count() == 300


def test_what_is_read_already_is_not_asked_twice() -> None:
    """While the registry is slow, thousands of entries at one address are one question."""
    world = World()
    asked = 0
    for number in range(1_000):
        world.fleet.appeared(name(f"evil-{number}", private=1_000 + number))
        asked += len(world.fleet.questions().leases)
    assert asked == 1
    world.fleet.lease_read(VICTIM, "victim")
    assert world.fleet.questions().leases == {VICTIM}  # it may have changed since it was read


def test_the_log_counts_what_comes_and_goes_all_the_time() -> None:
    sparing, now, said = Sparing(), 0.0, 0
    together: list[dict[str, int]] = []
    for _ in range(6_000):
        now += 0.01
        if sparing.may_say(1, now=now):
            said += 1
        else:
            sparing.count(joined=1)
        if counted := sparing.take_counted(now=now):
            together.append(counted)
    assert said <= AT_ONCE + 60 * A_SECOND
    assert 1 <= len(together) <= 6
    now += TOGETHER_EVERY
    if counted := sparing.take_counted(now=now):
        together.append(counted)
    assert said + sum(counted["joined"] for counted in together) == 6_000


def test_all_further_addresses_together_have_a_limit() -> None:
    """Hundreds of entries with 64 addresses each: everybody keeps a few."""
    fleet = Fleet(admission(), linger_seconds=900)

    def join(number: int, count: int) -> Member:
        overlay = IPv4Address(int(VICTIM) + 1_000 + number)
        more = tuple(IPv4Address((10 << 24) + (number << 8) + n) for n in range(count))
        plain = entry.parse(name(f"evil-{number}", overlay=overlay, private=(9 << 16) + number))
        assert isinstance(plain, Member)
        told = entry.encode(replace(plain, extended=True))
        fleet.appeared(told)
        fleet.lease_read(overlay, plain.id)
        fleet.data_read(told, entry.encode_data(more))
        return fleet.members[plain.id]

    total = sum(len(join(number, 64).more) for number in range(400))
    assert total == MAX_MORE_BEYOND + 400 * MORE_FOR_EACH
    assert len(join(500, 3).more) == 3
    assert any("all hosts together" in fault for fault in fleet.skipped().values())
