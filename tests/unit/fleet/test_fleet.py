"""Who is a member: named worlds, and random ones against a slow reference."""

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.support.examples import share_of

from neti.errors import EntryError
from neti.fleet.admission import Admission
from neti.fleet.fleet import Fleet
from neti.fleet.guard import Guard
from neti.fleet.known import MAX_NAMED
from neti.fleet.members import Change
from neti.fleet.removal import MAX_GONE
from neti.model import Departure, IPAddress, Member, Moved, Site, entry

LINGER: Final = 600.0
SUBNET: Final = IPv4Network("192.168.0.0/18")
ADMISSION: Final = Admission(
    sites={
        "ec2": Site(name="ec2", private=(IPv4Network("10.0.0.0/8"),)),
        "vpc": Site(name="vpc", private=(IPv4Network("10.0.0.0/8"),)),
    },
    overlay_subnet=SUBNET,
)
# Well-formed or not, none of these is anybody.
JUNK: Final = (
    "",
    "rubbish",
    "left.x",
    "left.00.a",
    "1.0a0000010000000 c0a80001.0.ec2.a",
    "1.7f00000100000000c0a80001.zz.ec2.a",  # the loopback
    "1.0a000001e0000001c0a80001.zz.ec2.a",  # a multicast address as public
    "1.0a00000100000000c0a80000.zz.ec2.a",  # the overlay subnet's own address
    "1.0a0000010000000008080808.zz.ec2.a",  # an overlay address outside the subnet
    "1.0a00000100000000c0a80001.zz.moon.a",  # no such site
    "1.0b00000100000000c0a80001.zz.ec2.b",  # outside the site
    "1.0A00000100000000C0A80001.0.ec2.a",
)


def overlay(number: int) -> IPv4Address:
    return SUBNET.network_address + number


def named(
    host_id: str,
    number: int = 1,
    *,
    private: int | None = None,
    public: int | None = None,
    generation: int = 0,
    site: str = "ec2",
    extended: bool = False,
) -> str:
    """The entry of ``host_id``: overlay address ``number``, private 10.0.0.``private``."""
    return entry.encode(
        Member(
            id=host_id,
            site=site,
            private=IPv4Address("10.0.0.0") + (number if private is None else private),
            public=IPv4Address("198.51.100.0") + public if public is not None else None,
            overlay=overlay(number),
            generation=generation,
            extended=extended,
        )
    )


def member_of(name: str, more: tuple[IPAddress, ...] = ()) -> Member:
    parsed = entry.parse(name)
    assert isinstance(parsed, Member)
    return replace(parsed, more=more)


def left(host_id: str, generation: int = 0) -> str:
    return entry.encode_departure(replace(member_of(named(host_id)), generation=generation))


def empty() -> Fleet:
    # A guard that never objects in a fleet of three: with it, removals take the longer way.
    return Fleet(ADMISSION, linger_seconds=LINGER, guard=Guard(maxchange=10_000))


def join(fleet: Fleet, *names: str) -> None:
    """Each appears, and its lease turns out to be its own."""
    for name in names:
        fleet.appeared(name)
        fleet.lease_read(member_of(name).overlay, member_of(name).id)
    fleet.questions()
    fleet.take_changes()


def depart(fleet: Fleet, name: str, now: float = 0.0) -> None:
    fleet.appeared(left(member_of(name).id, member_of(name).generation))
    fleet.vanished(name, now=now)


def hold(fleet: Fleet) -> dict[str, str]:
    """Accepted members as id -> entry name."""
    return {host_id: entry.encode(member) for host_id, member in fleet.members.items()}


def remains(fleet: Fleet) -> dict[str, int]:
    """Everything that still takes memory, but for the bounded notes of whom an older copy of the
    registry must not bring back, and of who was let go within ten minutes."""
    fleet.take_absence_changes()
    fleet.take_changes()
    fleet.take_new_gone()
    assert len(fleet.gone) <= MAX_GONE
    return {
        f"{type(part).__name__}.{key}": size
        for part in parts(fleet)
        for key, held in vars(part).items()
        if key not in ("gone", "window", "_mode")
        and hasattr(held, "__len__")
        and (size := len(held))
    }


def parts(whole: object) -> Iterator[object]:
    """It, and whatever it is made of, however deep."""
    yield whole
    for held in vars(whole).values():
        if hasattr(held, "__dict__"):
            yield from parts(held)


# --- joining ---


def test_one_who_appears_is_let_in_when_its_lease_is_read() -> None:
    """First sight costs one small read; nobody is believed before it."""
    fleet = empty()
    fleet.appeared(named("a"))
    assert fleet.questions().leases == {overlay(1)}
    assert not fleet.questions()
    assert not fleet.members
    fleet.lease_read(overlay(1), "a")
    assert hold(fleet) == {"a": named("a")}
    assert fleet.take_changes() == [Change("a", None, member_of(named("a")))]
    assert fleet.take_changes() == []


def test_a_snapshot_is_let_in_at_once_and_checked_behind() -> None:
    """A start with sixteen thousand members does not wait for as many reads."""
    fleet = empty()
    fleet.snapshot([named("a", 1), named("b", 2)], now=0)
    assert set(fleet.members) == {"a", "b"}
    assert fleet.questions().leases == {overlay(1), overlay(2)}
    fleet.lease_read(overlay(2), "somebody-else")
    assert set(fleet.members) == {"a"}
    assert fleet.skipped() == {
        named("b", 2): "overlay address 192.168.0.2 is leased to somebody-else"
    }


def test_two_in_one_snapshot_who_dispute_a_lease_both_wait_for_the_read() -> None:
    """Neither takes the other's overlay address, in whatever order they are listed."""
    for names in (
        (named("a", 1, private=1), named("b", 1, private=2)),
        (named("b", 1), named("a", 1, private=2)),
    ):
        fleet = empty()
        fleet.snapshot(names, now=0)
        assert not fleet.members
        fleet.lease_read(overlay(1), "b")
        assert set(fleet.members) == {"b"}
        assert fleet.skipped_count() == 1


def test_a_rival_claim_does_not_disturb_who_is_in_while_the_lease_is_read() -> None:
    """Whoever writes another's overlay address into an entry changes nothing for the other."""
    fleet = empty()
    fleet.snapshot([named("a")], now=0)
    fleet.take_changes()
    fleet.appeared(named("evil", 1, private=66))
    assert fleet.questions().leases == {overlay(1)}
    fleet.lease_read(overlay(1), "a")
    assert fleet.take_changes() == []
    assert "leased to a" in fleet.skipped()[named("evil", 1, private=66)]


def test_an_entry_under_anothers_id_without_its_lease_displaces_nothing() -> None:
    """The highest generation wins among entries that are believed, and only there."""
    fleet = empty()
    join(fleet, named("a", 1))
    forged = named("a", 2, private=66, generation=999)
    fleet.appeared(forged)
    fleet.lease_read(overlay(2), "b")
    assert fleet.take_changes() == []
    assert "leased to b" in fleet.skipped()[forged]
    fleet.vanished(named("a", 1), now=5)
    assert hold(fleet) == {"a": named("a", 1)}
    assert set(fleet.lost) == {"a"}


def test_an_unread_claim_in_a_list_does_not_take_a_lost_members_place() -> None:
    """Its own entry went while the registry was away, and somebody wrote one under its id."""
    fleet = empty()
    join(fleet, named("a", 1))
    fleet.take_changes()
    forged = named("a", 2, private=66, generation=999)
    fleet.snapshot([forged], now=5)
    assert hold(fleet) == {"a": named("a", 1)}
    fleet.lease_read(overlay(2), None)
    assert hold(fleet) == {"a": named("a", 1)}
    assert fleet.take_changes() == []
    assert set(fleet.lost) == {"a"}


def test_nor_that_of_one_who_registered_anew_and_whose_lease_is_not_known() -> None:
    """Remembered from before a restart; it has answered the other with its next generation."""
    fleet = empty()
    fleet.remember({named("a", 1): ()}, lost={}, owners={})
    fleet.take_changes()
    forged = named("a", 2, private=66)
    fleet.snapshot([forged, named("a", 1, generation=1)], now=5)
    assert {member.overlay for member in fleet.members.values()} == {overlay(1)}
    fleet.lease_read(overlay(2), None)
    fleet.lease_read(overlay(1), "a")
    assert hold(fleet) == {"a": named("a", 1, generation=1)}


def test_an_outage_does_not_lengthen_the_time_of_who_was_found_lost_after_it() -> None:
    """The list comes before the word that everything is known again."""
    fleet = empty()
    join(fleet, named("a", 1))
    join(fleet, named("b", 2))
    fleet.vanished(named("b", 2), now=100)
    fleet.snapshot([], now=10_000)
    fleet.time_stood_still(9_000, now=10_000)
    assert {host_id: lost.since for host_id, lost in fleet.lost.items()} == {
        "a": 10_000,
        "b": 9_100,
    }


def test_a_lease_that_nobody_has_lets_nobody_in() -> None:
    """A claim without a lease is named as such."""
    fleet = empty()
    fleet.snapshot([named("a")], now=0)
    fleet.lease_read(overlay(1), None)
    assert not fleet.members
    assert "leased to nobody" in fleet.skipped()[named("a")]


def test_a_lease_that_changed_hands_is_followed() -> None:
    """Released and acquired anew: the new holder is asked for, and gets it."""
    fleet = empty()
    join(fleet, named("old"))
    depart(fleet, named("old"))
    fleet.vanished(left("old"), now=0)
    fleet.appeared(named("new"))
    assert fleet.questions().leases == {overlay(1)}
    fleet.lease_read(overlay(1), "new")
    assert hold(fleet) == {"new": named("new")}


def test_an_older_answer_does_not_use_up_a_newer_question() -> None:
    """A question that was not handed out yet cannot have been answered."""
    fleet = empty()
    fleet.appeared(named("a"))
    fleet.questions()
    fleet.appeared(named("b", 1, private=2))
    fleet.lease_read(overlay(1), "a")
    assert fleet.questions().leases == {overlay(1)}
    fleet.lease_read(overlay(1), "b")
    assert set(fleet.members) == {"b"}


def test_answers_lost_with_a_connection_are_asked_for_again() -> None:
    """What is answered or gone is not asked again."""
    fleet = empty()
    fleet.appeared(named("a", 1, extended=True))
    fleet.appeared(named("b", 2, extended=True))
    fleet.appeared(named("c", 3, extended=True))
    fleet.questions()
    fleet.lease_read(overlay(1), "a")
    fleet.data_read(named("a", 1, extended=True), b"")
    fleet.vanished(named("c", 3, extended=True), now=0)
    assert not fleet.questions()
    fleet.ask_again()
    asked = fleet.questions()
    assert asked.leases == {overlay(2)}
    assert asked.data == {named("b", 2, extended=True)}


# --- leaving and getting lost ---


def test_one_that_left_is_gone_at_once() -> None:
    """A departure and then the end is a word, and there is nothing to linger for."""
    fleet = empty()
    join(fleet, named("a"))
    depart(fleet, named("a"))
    assert not fleet.members
    assert not fleet.lost
    assert fleet.next_tick() is None


def test_one_that_is_lost_stays_until_the_linger_time_is_over() -> None:
    """A dead agent does not take a healthy host off the air."""
    fleet = empty()
    join(fleet, named("a"))
    fleet.vanished(named("a"), now=1000)
    assert fleet.take_changes() == []
    assert fleet.lost["a"].since == 1000
    assert fleet.next_tick() == 1600
    fleet.tick(now=1599)
    assert set(fleet.members) == {"a"}
    fleet.tick(now=1600)
    assert not fleet.members
    assert fleet.take_changes() == [Change("a", member_of(named("a")), None)]


def test_the_same_entry_returning_changes_nothing() -> None:
    """Not even the further addresses flicker while the data are read anew."""
    fleet = empty()
    name = named("a", extended=True)
    join(fleet, name)
    fleet.data_read(name, entry.encode_data((ip_address("2001:db8::1"),)))
    fleet.take_changes()
    fleet.vanished(name, now=0)
    fleet.appeared(name)
    assert fleet.take_changes() == []
    assert not fleet.lost
    asked = fleet.questions()
    assert asked.leases == frozenset()
    assert asked.data == {name}
    fleet.tick(now=1e9)
    assert fleet.members["a"].more == (ip_address("2001:db8::1"),)
    fleet.data_read(name, entry.encode_data((ip_address("2001:db8::2"),)))
    assert fleet.members["a"].more == (ip_address("2001:db8::2"),)


def test_leave_come_back_and_crash_counts_as_lost() -> None:
    """What was said before the return is over, though the old departure still stands there."""
    fleet = empty()
    join(fleet, named("a"))
    depart(fleet, named("a"))
    join(fleet, named("a"))
    fleet.vanished(named("a"), now=7)
    assert set(fleet.lost) == {"a"}
    assert set(fleet.members) == {"a"}


def test_leave_and_return_unseen_then_crash_counts_as_lost() -> None:
    """The same when the leaving and the return fell into a gap, and only the departure is new."""
    fleet = empty()
    join(fleet, named("a"))
    fleet.snapshot([named("a"), left("a")], now=5)
    fleet.vanished(named("a"), now=7)
    assert set(fleet.lost) == {"a"}


def test_leaving_in_a_gap_is_leaving() -> None:
    """A departure in the list beside the missing entry: gone, not lost."""
    fleet = empty()
    join(fleet, named("a", 1), named("b", 2))
    fleet.snapshot([left("a", 3)], now=5)
    assert set(fleet.members) == {"b"}
    assert set(fleet.lost) == {"b"}


def test_a_departure_of_an_older_generation_says_nothing() -> None:
    """Only a word about this entry, or a later one, is about this entry."""
    fleet = empty()
    join(fleet, named("a", generation=3))
    fleet.appeared(left("a", 2))
    fleet.vanished(named("a", generation=3), now=0)
    assert set(fleet.lost) == {"a"}
    fleet.appeared(left("a", 3))
    assert not fleet.members


def test_a_snapshot_after_a_gap_applies_the_difference() -> None:
    """Joined, lost, changed and unchanged in one list."""
    fleet = empty()
    join(fleet, named("same", 1), named("lost", 2), named("moves", 3))
    moved = named("moves", 3, private=33, generation=1)
    fleet.snapshot([named("same", 1), moved, named("joined", 4)], now=9)
    fleet.lease_read(overlay(4), "joined")
    assert hold(fleet) == {
        "same": named("same", 1),
        "lost": named("lost", 2),
        "moves": moved,
        "joined": named("joined", 4),
    }
    assert set(fleet.lost) == {"lost"}
    assert {change.id for change in fleet.take_changes()} == {"moves", "joined"}


@pytest.mark.parametrize("returns", [True, False])
def test_who_only_changed_its_entry_is_not_counted_with_those_who_left(returns: bool) -> None:
    """One of five has said goodbye and goes, also where two others have moved in the same list;
    where these two are gone as well, more than half would be, and all three stay."""
    fleet = Fleet(ADMISSION, linger_seconds=LINGER, guard=Guard())
    join(fleet, *(named(host_id, number) for number, host_id in enumerate("abcde", 1)))
    moved = [
        named("a", 1, private=101, generation=1),
        named("b", 2, private=102, generation=1),
    ]
    stayed = [named("d", 4), named("e", 5)]
    fleet.snapshot([*(moved if returns else ()), left("c"), *stayed], now=5)
    assert (set(fleet.members) == set("abde")) is returns
    assert set(fleet.holds) == (set() if returns else {"c"})
    assert set(fleet.lost) == (set() if returns else set("abc"))


# --- changing address ---


@pytest.mark.parametrize("old_goes_first", [True, False])
def test_an_address_change_keeps_the_member_throughout(old_goes_first: bool) -> None:
    """One change from the old address to the new, in whichever order the events come."""
    fleet = empty()
    old, new = named("a", private=1), named("a", private=2, generation=1)
    join(fleet, old)
    steps: list[Callable[[], None]] = [
        lambda: fleet.appeared(new),
        lambda: fleet.vanished(old, now=0),
    ]
    for step in reversed(steps) if old_goes_first else steps:
        step()
        assert set(fleet.members) == {"a"}
    assert fleet.take_changes() == [Change("a", member_of(old), member_of(new))]
    assert not fleet.lost
    assert not fleet.skipped()


def test_moving_to_another_lease_keeps_the_member_until_it_is_read() -> None:
    """The old address stands until the new one's lease is known."""
    fleet = empty()
    old, new = named("a", 1), named("a", 2, generation=1)
    join(fleet, old)
    fleet.appeared(new)
    fleet.vanished(old, now=0)
    assert hold(fleet) == {"a": old}
    fleet.lease_read(overlay(2), "a")
    assert hold(fleet) == {"a": new}
    assert not fleet.lost


def test_the_highest_generation_wins_and_an_older_one_ends_unnoticed() -> None:
    """A deleted name that is not the current one changes nothing."""
    fleet = empty()
    names = [named("a", private=g + 1, generation=g) for g in range(3)]
    join(fleet, names[1], names[2], names[0])
    assert hold(fleet) == {"a": names[2]}
    fleet.vanished(names[0], now=0)
    fleet.vanished(names[1], now=0)
    assert fleet.take_changes() == []
    assert not fleet.lost


def test_of_two_equal_claims_to_an_id_the_accepted_one_stays_and_the_other_is_named() -> None:
    """A cloned machine does not take over, and the operator learns of it."""
    fleet = empty()
    first, second = named("a", private=2), named("a", private=1)
    join(fleet, first)
    fleet.appeared(second)
    assert fleet.take_changes() == []
    assert fleet.skipped() == {second: f"host id a is claimed twice, also by {first}"}
    fleet.vanished(first, now=0)
    assert hold(fleet) == {"a": second}
    assert not fleet.skipped()


# --- sharing addresses ---


def test_two_claims_on_one_private_address_are_both_let_in_and_named() -> None:
    """Neither takes the other's overlay address, and another site's equal address is no clash."""
    fleet = empty()
    join(
        fleet,
        named("a", 1, private=9),
        named("b", 2, private=9),
        named("c", 3, private=9, site="vpc"),
    )
    assert set(fleet.members) == {"a", "b", "c"}
    assert fleet.shared_private() == [("ec2", IPv4Address("10.0.0.9"), ("a", "b"))]
    depart(fleet, named("a", 1, private=9))
    assert fleet.shared_private() == []


def test_an_entry_that_is_not_believed_shares_no_address() -> None:
    """Nobody is named as sharing an address with junk."""
    fleet = empty()
    join(fleet, named("a", 1, private=9))
    fleet.appeared(named("b", 2, private=9))
    fleet.lease_read(overlay(2), "c")
    assert fleet.shared_private() == []


def test_whose_lease_is_anothers_now_is_gone_at_once() -> None:
    """The overlay address is somebody else's; what the dead one had there is over."""
    fleet = empty()
    join(fleet, named("dead", 1, private=1, public=7))
    fleet.vanished(named("dead", 1, private=1, public=7), now=0)
    fleet.appeared(named("new", 1, private=3))
    assert set(fleet.members) == {"dead"}
    fleet.lease_read(overlay(1), "new")
    assert set(fleet.members) == {"new"}
    assert not fleet.lost


@pytest.mark.parametrize("first", [False, True], ids=["claimed after", "claimed before"])
def test_a_claim_on_a_lost_ones_addresses_takes_nothing_from_it(first: bool) -> None:
    """Any host can claim any address of its site. One certificate must not end the time of a whole
    site whose agents are away for a moment."""
    fleet = empty()
    ghosts = (named("x", 8, private=1), named("y", 9, private=5, public=7))
    join(fleet, named("away", 1, private=1, public=7))
    if first:
        join(fleet, *ghosts)
    fleet.vanished(named("away", 1, private=1, public=7), now=0)
    join(fleet, *ghosts)
    assert set(fleet.members) == {"away", "x", "y"}
    assert set(fleet.lost) == {"away"}
    assert fleet.shared_private() == [("ec2", IPv4Address("10.0.0.1"), ("away", "x"))]
    fleet.tick(now=LINGER)
    assert set(fleet.members) == {"x", "y"}


def test_a_claim_without_a_lease_ends_nobodys_linger_time() -> None:
    """Junk on a lost member's address, id or lease leaves it where it is."""
    fleet = empty()
    join(fleet, named("dead", 1, private=1, public=7))
    fleet.vanished(named("dead", 1, private=1, public=7), now=0)
    for number, junk in enumerate(
        (
            named("x", 1, private=3),
            named("x", 2, private=1),
            named("x", 3, private=5, public=7),
            named("dead", 4, private=6, generation=9),
        )
    ):
        fleet.appeared(junk)
        fleet.lease_read(overlay(number + 1), "dead" if number == 0 else "nobody-here")
    assert set(fleet.members) == {"dead"}
    assert fleet.take_changes() == []


def test_a_nat_in_front_of_many_takes_none_of_them_away() -> None:
    """A public address that others shared already is no proof that its owner is gone."""
    fleet = empty()
    join(fleet, named("a", 1, public=7), named("b", 2, public=7))
    fleet.vanished(named("a", 1, public=7), now=0)
    join(fleet, named("c", 3, public=7))
    assert set(fleet.members) == {"a", "b", "c"}
    fleet.vanished(named("b", 2, public=7), now=1)
    fleet.vanished(named("c", 3, public=7), now=1)
    assert set(fleet.lost) == {"a", "b", "c"}
    depart(fleet, named("c", 3, public=7))
    fleet.appeared(left("c"))
    assert set(fleet.members) == {"a", "b"}


# --- the disk ---


def test_what_was_remembered_stands_until_the_registry_says_otherwise() -> None:
    """A restart shows no change; the list that follows is applied as after any gap."""
    fleet = empty()
    more = (ip_address("2001:db8::1"),)
    fleet.remember(
        {named("a", 1, extended=True): more, named("b", 2): (), named("d", 4, extended=True): more},
        lost={"c": (named("c", 3), 100.0), "d": (named("d", 4, extended=True), 50.0)},
        owners={overlay(1): "a", overlay(3): "c", overlay(9): "nobody-here"},
    )
    assert set(fleet.members) == {"a", "b", "c", "d"}
    assert set(fleet.lost) == {"c", "d"}
    assert fleet.members["a"].more == fleet.members["d"].more == more
    assert fleet.owners == {overlay(1): "a", overlay(3): "c"}
    asked = fleet.questions()
    assert asked.leases == {overlay(2)}
    assert not asked.data
    fleet.take_changes()
    fleet.snapshot([named("a", 1, extended=True), named("c", 3)], now=200)
    assert set(fleet.lost) == {"d", "b"}
    assert fleet.take_changes() == []
    assert fleet.next_tick() == 650
    fleet.tick(now=650)
    assert set(fleet.members) == {"a", "b", "c"}


def test_further_addresses_that_were_not_read_yet_are_asked_for_after_a_restart() -> None:
    """The agent ended between a member's entry and its data: both on disk as if it had none."""
    fleet, name, more = empty(), named("a", extended=True), (ip_address("2001:db8::1"),)
    fleet.remember({name: ()}, lost={}, owners={overlay(1): "a"})
    fleet.snapshot([name], now=1)
    assert fleet.questions().data == {name}
    fleet.data_read(name, entry.encode_data(more))
    assert fleet.members["a"].more == more
    assert not fleet.questions()


def test_a_lost_member_behind_a_nat_survives_a_restart() -> None:
    """Its neighbours behind the same public address were there before it was lost."""
    fleet = empty()
    fleet.remember(
        {named("a", 1, public=7): ()}, lost={"b": (named("b", 2, public=7), 5.0)}, owners={}
    )
    assert set(fleet.members) == {"a", "b"}


def test_unusable_memories_are_passed_over_and_leave_nothing() -> None:
    """A configuration that changed, or an edited file, takes none of the rest with it."""
    fleet = empty()
    fleet.remember(
        {named("a", 1): (), "rubbish": (), named("b", 2, site="moon"): ()},
        lost={
            "a": (named("a", 1, private=5), 5.0),
            "c": ("junk", 5.0),
            "e": (left("e"), 5.0),
            "f": (named("f", 6, site="moon"), 5.0),
        },
        owners={},
    )
    assert hold(fleet) == {"a": named("a", 1)}
    assert not fleet.lost
    depart(fleet, named("a", 1))
    fleet.snapshot([], now=6)
    assert remains(fleet) == {}


def test_a_clock_that_was_set_back_keeps_nobody_longer() -> None:
    """Lost in the future counts as lost now, and nobody waits for it."""
    fleet = empty()
    join(fleet, named("a", 1), named("b", 2))
    fleet.vanished(named("a", 1), now=1e9)
    fleet.vanished(named("b", 2), now=1000)
    assert fleet.next_tick() == 1600
    fleet.tick(now=1100)
    fleet.tick(now=1600)
    assert set(fleet.members) == {"a"}
    fleet.tick(now=1700)
    assert not fleet.members


# --- further addresses ---


def test_further_addresses_are_asked_for_and_come_with_the_member() -> None:
    """One small read for an entry that says it has more, and one change when they come."""
    fleet = empty()
    name = named("a", extended=True)
    fleet.appeared(name)
    asked = fleet.questions()
    assert asked.data == {name}
    more = (ip_address("2001:db8::1"), ip_address("10.0.0.77"))
    fleet.data_read(name, entry.encode_data(more))
    assert not fleet.members
    fleet.lease_read(overlay(1), "a")
    assert fleet.members["a"].more == more


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"[]",
        b"[" * 4000,
        b'{"more": ["10.0.0.0/8"]}',
        b'{"more": ["127.0.0.1"]}',
        b'{"more": ["fe80::1"]}',
        b'{"more": ["192.168.0.7"]}',
        b'{"more": [1]}',
        b'{"more": "10.0.0.1"}',
        b"x" * 5000,
    ],
)
def test_hostile_data_are_named_and_cost_the_member_nothing_else(data: bytes) -> None:
    """No further address is let in, and the member itself stays."""
    fleet = empty()
    name = named("a", extended=True)
    join(fleet, name)
    fleet.data_read(name, data)
    assert fleet.take_changes() == []
    assert fleet.skipped()[name].startswith("further addresses are not let in: ")
    assert fleet.skipped_count() == 1
    fleet.data_read(name, b"")
    assert not fleet.skipped()


def test_data_of_somebody_else_change_nothing() -> None:
    """An answer for an entry that is gone, or never had more, is dropped."""
    fleet = empty()
    join(fleet, named("a"))
    for name in (named("a"), named("b", extended=True), "rubbish", left("a")):
        fleet.data_read(name, entry.encode_data((ip_address("2001:db8::1"),)))
        fleet.data_read(name, None)
    assert fleet.take_changes() == []


# --- junk ---


def test_junk_is_counted_and_named_with_the_reason_up_to_a_hundred() -> None:
    """Whoever fills the registry with junk does not fill the status page."""
    fleet = empty()
    names = [f"junk-{number:03}" for number in range(150)]
    fleet.snapshot(names, now=0)
    assert fleet.skipped_count() == 150
    assert len(fleet.skipped()) == MAX_NAMED
    assert set(fleet.skipped().values()) == {"not an entry of format 1"}
    for name in sorted(fleet.skipped()):
        fleet.vanished(name, now=0)
    assert fleet.skipped_count() == len(fleet.skipped()) == 50


@given(st.lists(st.text(max_size=80), max_size=8))
def test_no_name_whatever_raises(names: list[str]) -> None:
    """Untrusted text is judged, never obeyed."""
    fleet = empty()
    join(fleet, named("a"))
    fleet.snapshot([named("a"), *names], now=0)
    for name in names:
        fleet.vanished(name, now=0)
        fleet.appeared(name)
        fleet.data_read(name, name.encode(errors="replace"))
    assert set(fleet.skipped()) == {name for name in names if name != named("a")}
    fleet.snapshot([named("a")], now=0)
    assert fleet.take_changes() == []
    assert fleet.skipped_count() == 0


def test_a_goodbye_that_is_gone_from_the_same_list_was_said() -> None:
    """Its owner's entry and the goodbye vanish in one snapshot: he left, he is not lost."""
    fleet = empty()
    join(fleet, named("a", 1), named("b", 2))
    fleet.appeared(left("a"))
    fleet.snapshot([named("b", 2)], now=1)
    assert set(fleet.members) == {"b"}
    assert not fleet.lost


def test_who_shared_an_address_with_one_who_left_and_came_back_is_only_lost() -> None:
    """The order of names in one list must not decide: b's goodbye sorts before a's loss."""
    a, b = "1.0a000001c6336402c0a80002.0.vpc.a", "1.0a000001c6336402c0a80001.0.ec2.b"
    fleet = empty()
    fleet.snapshot([a, b], now=0)
    assert set(fleet.members) == {"a", "b"}
    fleet.snapshot(["left.0.b", "1.0a000001c6336402c0a80001.1.ec2.b"], now=0)
    assert set(fleet.members) == {"a", "b"}
    assert set(fleet.lost) == {"a"}


def test_an_entry_that_is_nobodys_gives_way_to_another_of_its_host() -> None:
    """Both came in one list, and neither's lease was read. What speaks for a host is not moved by
    the other; when it turns out to be nobody's, the other may speak, whatever came first."""
    first, second = named("a", 1), named("a", 2)
    fleet = empty()
    fleet.snapshot([first, second], now=0)
    speaks = fleet.members["a"].overlay
    other = ({overlay(1), overlay(2)} - {speaks}).pop()
    fleet.lease_read(speaks, "b")
    assert {host_id: member.overlay for host_id, member in fleet.members.items()} == {"a": other}


# --- the slow reference ---

HOSTS: Final = ("a", "b", "c")


@dataclass(frozen=True, slots=True)
class Gone:
    name: str
    since: float


@dataclass(slots=True)
class Reference:
    """SPEC's sentences one by one, looking at everybody each time. No index, no shortcut."""

    present: set[str] = field(default_factory=set)
    listed: set[str] = field(default_factory=set)
    departures: dict[str, int] = field(default_factory=dict)
    leases: dict[IPv4Address, str | None] = field(default_factory=dict)
    more: dict[str, tuple[IPAddress, ...]] = field(default_factory=dict)
    speaks: dict[str, str] = field(default_factory=dict)
    lost: dict[str, Gone] = field(default_factory=dict)
    # Of entries whose further addresses nobody has read yet: those of the entry before.
    former: dict[str, tuple[IPAddress, ...]] = field(default_factory=dict)

    def members(self) -> dict[str, Member]:
        return {i: member_of(name, self.further(name)) for i, name in self.speaks.items()}

    def further(self, name: str) -> tuple[IPAddress, ...]:
        return self.more.get(name, self.former.get(name, ()))

    def appeared(self, name: str, *, bulk: bool = False) -> None:
        if name in self.present:
            return
        self.present.add(name)
        parsed = admissible(name)
        if isinstance(parsed, Departure):
            self.departures[parsed.id] = max(parsed.generation, self.departures.get(parsed.id, -1))
            gone = self.lost.get(parsed.id)
            if gone is not None and member_of(gone.name).generation <= parsed.generation:
                self.forget(parsed.id)
        elif parsed is not None:
            self.departures.pop(parsed.id, None)
            if bulk:
                self.listed.add(name)

    def vanished(self, name: str, now: float) -> None:
        if name not in self.present:
            return
        parsed = admissible(name)
        if isinstance(parsed, Member) and self.speaks.get(parsed.id) == name:
            if self.departures.get(parsed.id, -1) >= parsed.generation:
                del self.speaks[parsed.id]
            else:
                self.lost[parsed.id] = Gone(name, now)
        self.present.discard(name)
        self.listed.discard(name)
        if isinstance(parsed, Departure) and self.departures.get(parsed.id) == parsed.generation:
            del self.departures[parsed.id]

    def snapshot(self, names: Iterable[str], now: float) -> None:
        names = set(names)
        new = names - self.present
        for name in new:
            if isinstance(admissible(name), Departure):
                self.appeared(name)
        for name in self.present - names:
            if isinstance(admissible(name), Member):
                self.vanished(name, now)
        for name in self.present - names:
            self.vanished(name, now)
        for name in new:
            self.appeared(name, bulk=True)
        for member in self.live().values():
            self.departures.pop(member.id, None)

    def tick(self, now: float) -> None:
        for host_id in [i for i, gone in self.lost.items() if gone.since + LINGER <= now]:
            self.forget(host_id)

    def forget(self, host_id: str) -> None:
        del self.lost[host_id], self.speaks[host_id]

    def live(self) -> dict[str, Member]:
        return {
            name: parsed for name in self.present if isinstance(parsed := admissible(name), Member)
        }

    def settle(self) -> None:
        """Until nothing moves: who speaks for each id, and which lost ones have no lease."""
        before: Any = None
        while before != (self.speaks, self.lost):
            before = (dict(self.speaks), dict(self.lost))
            claimed = {**self.live(), **{g.name: member_of(g.name) for g in self.lost.values()}}
            overlays = {member.overlay for member in claimed.values()}
            self.leases = {o: i for o, i in self.leases.items() if o in overlays}
            self.more = {name: more for name, more in self.more.items() if name in claimed}
            self.former = {name: more for name, more in self.former.items() if name in claimed}
            chosen = {host_id: self.speaker(host_id, claimed) for host_id in HOSTS}
            for host_id, name in chosen.items():
                if name is not None:
                    was = self.speaks.get(host_id)
                    if was is not None and was != name and member_of(name).extended:
                        self.former[name] = self.further(was)
                    self.speaks[host_id] = name
                    self.lost.pop(host_id, None)
                elif host_id not in self.lost:
                    self.speaks.pop(host_id, None)
            for host_id in [i for i in self.lost if self.without_lease(i)]:
                self.forget(host_id)

    def speaker(self, host_id: str, claimed: dict[str, Member]) -> str | None:
        believed = [
            (member.generation, name == self.speaks.get(host_id), name)
            for name, member in self.live().items()
            if member.id == host_id and self.believed(name, member, claimed)
        ]
        if not believed:
            return None
        best = max(believed)[:2]
        return min(name for *rank, name in believed if tuple(rank) == best)

    def believed(self, name: str, member: Member, claimed: dict[str, Member]) -> bool:
        if member.overlay in self.leases:
            return self.leases[member.overlay] == member.id
        rivals = {m.id for m in claimed.values() if m.overlay == member.overlay} - {member.id}
        speaks = self.speaks.get(member.id)
        if speaks is not None and member_of(speaks).overlay != member.overlay:
            return False
        return speaks == name or (name in self.listed and not rivals)

    def without_lease(self, host_id: str) -> bool:
        member = member_of(self.lost[host_id].name)
        return self.leases.get(member.overlay, host_id) != host_id


@functools.cache  # the reference asks about every name at every step
def admissible(name: str) -> Member | Departure | Moved | None:
    try:
        parsed = entry.parse(name)
    except EntryError:
        return None
    return None if isinstance(parsed, Member) and ADMISSION.objection(parsed) else parsed


claims = st.builds(
    named,
    st.sampled_from(HOSTS),
    st.integers(1, 3),
    private=st.integers(1, 3),
    public=st.sampled_from((None, 1, 2)),
    generation=st.integers(0, 2),
    site=st.sampled_from(("ec2", "ec2", "vpc")),
    extended=st.booleans(),
)
departures = st.builds(left, st.sampled_from(HOSTS), st.integers(0, 2))
some_names = st.one_of(claims, claims, claims, departures, st.sampled_from(JUNK))
owners = st.sampled_from((*HOSTS, None, "stranger"))
further = st.sampled_from(((), ("2001:db8::1",), ("10.0.0.9", "2001:db8::2")))


class AgainstTheReference(RuleBasedStateMachine):
    """Any sequence of what a registry may tell, told to both."""

    def __init__(self) -> None:
        super().__init__()
        self.fleet = empty()
        self.slow = Reference()
        self.now = 0.0
        self.followed: dict[str, Member] = {}

    def both(self, fast: Callable[[], None], slow: Callable[[], None]) -> None:
        """Twice, as doing it twice changes nothing."""
        fast()
        slow()
        self.slow.settle()
        before = dict(self.fleet.members), dict(self.fleet.lost), self.fleet.skipped()
        fast()
        assert before == (dict(self.fleet.members), dict(self.fleet.lost), self.fleet.skipped())

    @rule(name=some_names)
    def appear(self, name: str) -> None:
        self.both(lambda: self.fleet.appeared(name), lambda: self.slow.appeared(name))

    @rule(data=st.data())
    def vanish(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.fleet.names) or [""]))
        self.both(
            lambda: self.fleet.vanished(name, now=self.now),
            lambda: self.slow.vanished(name, self.now),
        )

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        names = sorted(self.slow.speaks.values())
        if names:
            name = data.draw(st.sampled_from(names))
            word = left(member_of(name).id, member_of(name).generation)
            self.appear(word)
            self.both(
                lambda: self.fleet.vanished(name, now=self.now),
                lambda: self.slow.vanished(name, self.now),
            )

    @rule(names=st.lists(some_names, max_size=6), data=st.data())
    def snapshot(self, names: list[str], data: st.DataObject) -> None:
        kept = data.draw(st.lists(st.sampled_from(sorted(self.fleet.names) or [""]), max_size=6))
        self.both(
            lambda: self.fleet.snapshot(names + kept, now=self.now),
            lambda: self.slow.snapshot(names + kept, self.now),
        )

    @rule(number=st.integers(1, 4), owner=owners)
    def lease(self, number: int, owner: str | None) -> None:
        self.both(
            lambda: self.fleet.lease_read(overlay(number), owner),
            lambda: self.slow.leases.update({overlay(number): owner}),
        )

    @rule(data=st.data(), texts=further)
    def data(self, data: st.DataObject, texts: tuple[str, ...]) -> None:
        name = data.draw(st.sampled_from(sorted(self.fleet.names) or [""]))
        more = tuple(ip_address(text) for text in texts)

        def slow() -> None:
            parsed = admissible(name)
            if isinstance(parsed, Member) and parsed.extended:
                self.slow.more[name] = more

        # A registry answers what it was asked: until then a host's former addresses stand.
        self.fleet.questions()
        self.both(lambda: self.fleet.data_read(name, entry.encode_data(more)), slow)

    @rule(seconds=st.sampled_from((1.0, 200.0, 700.0)))
    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.both(lambda: self.fleet.tick(now=self.now), lambda: self.slow.tick(self.now))

    @rule()
    def take_changes(self) -> None:
        for change in self.fleet.take_changes():
            assert change.before != change.after
            assert self.followed.get(change.id) == change.before
            if change.after is None:
                del self.followed[change.id]
            else:
                self.followed[change.id] = change.after
        assert self.followed == self.fleet.members

    @rule()
    def restart(self) -> None:
        """What a restarted agent remembers stands as it stood."""
        again = empty()
        live = {i: m for i, m in self.fleet.members.items() if i not in self.fleet.lost}
        again.remember(
            {entry.encode(m): m.more for m in self.fleet.members.values()},
            lost={i: (entry.encode(g.member), g.since) for i, g in self.fleet.lost.items()},
            owners={o: i for o, i in self.fleet.owners.items() if i is not None},
        )
        # An overlay address whose lease was not read is disputed anew by two who had it.
        if all(member.overlay in self.fleet.owners for member in live.values()):
            assert again.members == self.fleet.members
            assert {i: g.since for i, g in again.lost.items()} == {
                i: g.since for i, g in self.fleet.lost.items()
            }

    @invariant()
    def same_members(self) -> None:
        assert dict(self.fleet.members) == self.slow.members()
        assert {i: g.since for i, g in self.fleet.lost.items()} == {
            i: g.since for i, g in self.slow.lost.items()
        }
        assert self.fleet.names == self.slow.present
        assert self.fleet.owners == self.slow.leases

    @invariant()
    def everything_is_named_that_is_not_believed_for_good(self) -> None:
        skipped = self.fleet.skipped()
        assert self.fleet.skipped_count() == len(skipped)
        assert all(name in self.fleet.names for name in skipped)
        assert {n for n in self.fleet.names if admissible(n) is None} <= skipped.keys()
        assert not skipped.keys() & {
            n for i, n in self.slow.speaks.items() if not self.fleet.members[i].extended
        }

    @invariant()
    def shared_addresses_are_those_of_members(self) -> None:
        places: dict[tuple[str, IPv4Address], list[str]] = {}
        for host_id, member in sorted(self.fleet.members.items()):
            places.setdefault((member.site, member.private), []).append(host_id)
        assert self.fleet.shared_private() == [
            (*place, tuple(ids)) for place, ids in sorted(places.items()) if len(ids) > 1
        ]

    def teardown(self) -> None:
        """When all have vanished and no linger time runs, nothing takes memory any more."""
        self.take_changes()
        self.fleet.take_now_leased()
        self.fleet.snapshot([], now=self.now)
        self.fleet.tick(now=self.now + LINGER)
        assert remains(self.fleet) == {}


TestAgainstTheReference = AgainstTheReference.TestCase
TestAgainstTheReference.settings = settings(
    max_examples=share_of(120), stateful_step_count=40, deadline=None
)


# --- properties ---


@given(st.lists(claims, unique=True, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(names: list[str], random: Any) -> None:
    """But for two equal claims to one id, where the first one stays."""
    generations = [(member_of(name).id, member_of(name).generation) for name in names]
    names = [n for n, g in zip(names, generations, strict=True) if generations.count(g) == 1]
    leases = {overlay(number): HOSTS[number - 1] for number in (1, 2, 3)}

    def outcome(told: list[tuple[str, Any]]) -> tuple[Any, ...]:
        fleet = empty()
        fleet.appeared("left.0.nobody")
        for kind, what in told:
            if kind == "name":
                fleet.appeared(what)
        for kind, what in told:
            if kind == "lease":
                fleet.lease_read(what, leases[what])
        return dict(fleet.members), fleet.skipped(), fleet.shared_private()

    told: list[tuple[str, Any]] = [("name", name) for name in names]
    told += [("lease", o) for o in leases]
    expected = outcome(told)
    random.shuffle(told)
    assert outcome(told) == expected
    snapshot = empty()
    snapshot.snapshot(names, now=0)
    for kind, what in told:
        if kind == "lease":
            snapshot.lease_read(what, leases[what])
    assert (dict(snapshot.members), snapshot.skipped(), snapshot.shared_private()) == expected


LEASED: Final = {overlay(1): "a", overlay(2): "b", overlay(3): "c"}
honest_names = st.builds(
    lambda host_id, generation, private, extended: named(
        host_id,
        HOSTS.index(host_id) + 1,
        private=private,
        generation=generation,
        extended=extended,
    ),
    st.sampled_from(HOSTS),
    st.integers(0, 2),
    st.integers(1, 4),
    st.booleans(),
)
# Claims on an overlay address that the registry has leased to another, under any id.
stolen = claims.filter(lambda name: LEASED[member_of(name).overlay] != member_of(name).id)
strange = st.builds(
    named, st.sampled_from(("x", "y")), st.integers(1, 3), private=st.integers(1, 4)
)
junk_names = st.one_of(st.sampled_from(JUNK), stolen, strange, st.text(max_size=8))
steps = st.one_of(
    st.tuples(st.just("appeared"), honest_names),
    st.tuples(st.just("vanished"), honest_names),
    st.tuples(st.just("left"), honest_names),
    st.tuples(st.just("tick"), st.sampled_from((1.0, 700.0))),
)
junk_steps = st.tuples(st.sampled_from(("appeared", "vanished", "data")), junk_names)


@settings(max_examples=share_of(300), deadline=None)
@given(st.lists(st.tuples(steps, st.lists(junk_steps, max_size=3)), max_size=20))
def test_junk_changes_nothing_for_the_others(
    story: list[tuple[tuple[str, Any], list[tuple[str, str]]]],
) -> None:
    """The run with hostile entries between equals the run without, at every step."""
    clean, dirty = empty(), empty()
    now = 0.0

    def tell(fleet: Fleet, kind: str, what: Any) -> None:
        if kind == "appeared":
            fleet.appeared(what)
        elif kind == "vanished":
            fleet.vanished(what, now=now)
        elif kind == "left":
            depart(fleet, what, now)
            fleet.vanished(left(member_of(what).id, member_of(what).generation), now=now)
        elif kind == "data":
            fleet.data_read(what, b"\xff")
        else:
            fleet.tick(now=now)
        for asked in fleet.questions().leases:
            fleet.lease_read(asked, LEASED[asked])

    for (kind, what), junk in story:
        for junk_kind, junk_name in junk:
            tell(dirty, junk_kind, junk_name)
        now += what if kind == "tick" else 0.0
        tell(clean, kind, what)
        tell(dirty, kind, what)
        assert clean.members == dirty.members
        assert clean.lost == dirty.lost
        assert clean.shared_private() == dirty.shared_private()
        assert clean.skipped().items() <= dirty.skipped().items()


# --- size ---


def crowd(count: int, *, nat: bool) -> list[str]:
    return [
        entry.encode(
            Member(
                id=f"i-{number:05}",
                site="ec2",
                private=IPv4Address("10.0.0.0") + number,
                public=IPv4Address("203.0.113.1") + (0 if nat else number),
                overlay=overlay(number),
            )
        )
        for number in range(1, count + 1)
    ]


def full(names: list[str]) -> Fleet:
    fleet = empty()
    fleet.snapshot(names, now=0)
    for asked in fleet.questions().leases:
        fleet.lease_read(asked, f"i-{int(asked) - int(SUBNET.network_address):05}")
    return fleet


def seconds_for_a_change(fleet: Fleet, names: list[str]) -> float:
    best = float("inf")
    for _ in range(5):
        before = time.thread_time()  # of a processor, whatever else it does meanwhile
        for name in names[:20]:
            fleet.vanished(name, now=1)
            fleet.appeared(name)
            fleet.take_changes()
        best = min(best, time.thread_time() - before)
    return best


@pytest.mark.parametrize("nat", [False, True])
def test_one_change_costs_the_same_with_a_hundred_and_with_sixteen_thousand(nat: bool) -> None:
    """Also when all stand behind one public address."""
    few, many = crowd(100, nat=nat), crowd(16_382, nat=nat)
    small, large = full(few), full(many)
    assert len(large.members) == 16_382
    assert len(large.take_changes()) == 16_382
    ratio = seconds_for_a_change(large, many) / seconds_for_a_change(small, few)
    assert ratio < 20  # were it proportional, it would be 160


def test_flapping_takes_no_memory() -> None:
    """Names that come and go, each but once, leave nothing behind."""
    fleet = empty()
    for generation in range(300):
        name = named("a", 1 + generation % 50, generation=generation, private=generation % 200 + 1)
        join(fleet, name)
        fleet.vanished(name, now=generation)
        fleet.appeared(f"junk-{generation}")
        fleet.vanished(f"junk-{generation}", now=generation)
        fleet.appeared(left("b", generation))
        fleet.vanished(left("b", generation), now=generation)
    fleet.tick(now=1e6)
    assert remains(fleet) == {}
