"""Under which name a host registers, whatever others make before it."""

import random
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from neti.agent.own_entry import own_member
from neti.model import Host, Member, entry

OVERLAY = IPv4Address("192.168.0.7")
TOP = 36**3


def host(site: str = "us-east-1") -> Host:
    return Host(
        id="i-0123456789abcdef0", site=site, private=IPv4Address("10.0.0.7"), public=None, more=()
    )


def named(of: Host, generation: int, private: str = "10.0.0.7") -> str:
    member = Member(
        id=of.id, site=of.site, private=IPv4Address(private), public=None, overlay=OVERLAY
    )
    return entry.encode(replace(member, generation=generation))


def tries(of: Host, squatted: range, *, former: str | None = None) -> int:
    """How many names it tries until it has one that nobody has made."""
    chance, taken = random.Random(7), set[str]()
    while True:
        own = own_member(
            of,
            OVERLAY,
            (former, *taken),
            ours={former, *taken} if former is not None else taken,
            taken=taken,
            anywhere=chance.randrange,
        )
        name = entry.encode(own)
        if own.generation not in squatted:
            return len(taken) + 1
        taken.add(name)
        assert len(taken) < 500


def test_who_makes_tens_of_thousands_of_its_next_names_keeps_no_host_out() -> None:
    assert tries(host(), range(40_000)) < 30
    assert tries(host("use1"), range(60_000)) == 1
    assert tries(host(), range(40_000), former=named(host(), 20_000)) < 30


@pytest.mark.parametrize("generation", [TOP - 2, TOP - 1])
def test_after_the_last_generation_comes_the_first(generation: int) -> None:
    former = named(host(), generation, "10.0.0.8")
    for _ in range(100):
        own = own_member(
            host(), OVERLAY, (former,), ours={former}, skip=random.Random(7).randrange(7776)
        )
        entry.encode(own)
        assert own.generation != generation


def test_a_huge_generation_of_its_own_counts_and_one_that_others_forged_does_not() -> None:
    of = host("use1")
    huge = named(of, 36**5, "10.0.0.8")
    assert own_member(of, OVERLAY, (huge,), ours={huge}).generation == 36**5 + 1
    assert own_member(of, OVERLAY, (huge,)).generation == 0
