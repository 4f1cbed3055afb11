"""Who had an address, and until when."""

from dataclasses import replace
from ipaddress import IPv4Address

from neti.fleet.former import MAX_FORMER, FormerAddresses
from neti.fleet.members import Change
from neti.model import Member


def member(host_id: str, number: int, site: str = "ec2") -> Member:
    return Member(
        id=host_id,
        site=site,
        private=IPv4Address("10.0.0.0") + number,
        public=IPv4Address("198.51.0.0") + number,
        overlay=IPv4Address("192.168.0.0") + number,
    )


def who(former: FormerAddresses, address: IPv4Address | None, site: str = "ec2") -> str | None:
    assert address is not None
    had = former.of(address.packed, lambda one: one.site == site)
    return None if had is None else f"{had.member.id} until {had.until:.0f}"


def test_an_address_was_the_last_ones_until_it_went() -> None:
    former, a = FormerAddresses(), member("a", 1)
    former.note([Change("a", None, a)], now=1)
    assert who(former, a.private) is None
    former.note([Change("a", a, None)], now=5)
    assert who(former, a.private) == who(former, a.public) == "a until 5"
    b = replace(member("b", 2), public=a.public)
    former.note([Change("b", None, b)], now=6)
    assert who(former, a.public) is None
    assert who(former, a.private) == "a until 5"


def test_a_private_address_is_asked_about_where_it_means_that_member() -> None:
    former, a = FormerAddresses(), member("a", 1, "vpc")
    former.note([Change("a", a, None)], now=5)
    assert who(former, a.private) is None
    assert who(former, a.public) == "a until 5"


def test_a_change_of_one_address_leaves_the_others() -> None:
    former, a = FormerAddresses(), member("a", 1)
    moved = replace(a, public=IPv4Address("198.51.9.9"))
    former.note([Change("a", a, moved)], now=5)
    assert who(former, a.public) == "a until 5"
    assert who(former, a.private) is None


def test_it_does_not_grow_for_ever() -> None:
    former = FormerAddresses()
    for number in range(MAX_FORMER):
        former.note([Change("a", member("a", number), None)], now=number)
    assert len(former._had) == MAX_FORMER
