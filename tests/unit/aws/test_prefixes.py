"""Aggregation and widening of prefixes: right, and as little too much as possible."""

import itertools
import json
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import share_of

from neti.aws.prefixes import aggregate, widen
from neti.aws.published import Choice, choose, parse
from neti.model.settings import IPNetwork

DATA = Path(__file__).parents[2] / "data/ip-ranges.json"
BASE = 0x0A000000  # 10.0.0.0: the small worlds below are its last bits
BITS = 4

# All prefixes of a world of 16 addresses.
EVERY = [
    IPv4Network((BASE + start, 32 - BITS + length))
    for length in range(BITS + 1)
    for start in range(0, 1 << BITS, 1 << (BITS - length))
]
networks = st.lists(st.sampled_from(EVERY), min_size=1, max_size=8)


def addresses(prefixes: Iterable[IPNetwork]) -> set[int]:
    return {
        int(network.network_address) + n
        for network in prefixes
        for n in range(network.num_addresses)
    }


def least_surplus(asked: set[int], at_most: int) -> int:
    """By trying every choice of so many prefixes."""
    return min(
        len(covered - asked)
        for count in range(1, at_most + 1)
        for chosen in itertools.combinations(EVERY, count)
        if asked <= (covered := addresses(chosen))
    )


@given(networks, st.integers(1, 3))
@settings(max_examples=share_of(60), deadline=None)
def test_no_other_choice_of_so_few_prefixes_has_less_surplus(
    chosen: Sequence[IPv4Network], at_most: int
) -> None:
    """Held against all choices of up to three of the 31 prefixes."""
    widened = widen(chosen, at_most)
    asked = addresses(chosen)
    assert len(widened.prefixes) <= at_most
    assert asked <= addresses(widened.prefixes)
    assert len(addresses(widened.prefixes) - asked) == widened.surplus
    assert widened.surplus == least_surplus(asked, at_most)


wide = st.lists(
    st.builds(
        lambda base, length: ip_network((base >> (32 - length) << (32 - length), length)),
        st.integers(0, 2**32 - 1),
        st.integers(6, 32),
    ),
    min_size=1,
    max_size=40,
)


@given(wide, st.integers(1, 20))
@settings(deadline=None)
def test_widening_covers_counts_and_never_overlaps(chosen: list[IPv4Network], at_most: int) -> None:
    """On any prefixes: all are covered, the surplus is what is said, no prefix is in another."""
    widened = widen(chosen, at_most)
    assert len(widened.prefixes) <= at_most
    assert all(any(c.subnet_of(w) for w in widened.prefixes) for c in chosen)  # type: ignore[arg-type]  # all are IPv4
    assert not any(a.overlaps(b) for a, b in itertools.combinations(widened.prefixes, 2))
    size = sum(w.num_addresses for w in widened.prefixes)
    assert size - sum(a.num_addresses for a in aggregate(chosen)) == widened.surplus


@given(wide, st.integers(1, 20))
@settings(deadline=None)
def test_more_prefixes_never_cost_more(chosen: list[IPv4Network], at_most: int) -> None:
    """And with as many as exact aggregation needs there is no surplus."""
    assert widen(chosen, at_most + 1).surplus <= widen(chosen, at_most).surplus
    exact = aggregate(chosen)
    assert widen(chosen, len(exact)) == widen(chosen, len(exact) + 5)
    assert widen(chosen, len(exact)).prefixes == exact


def test_a_greedy_merge_would_not_do() -> None:
    """The cheapest single merge (of the last two, for one address) spends a step that the first
    three use better: their first merge costs two addresses, and their second nothing."""
    first = ["10.0.0.0/32", "10.0.0.3/32", "10.0.0.4/30"]
    last = ["10.0.1.0/31", "10.0.1.2/32"]
    chosen = [ip_network(text) for text in first + last]
    assert widen(chosen, 4).surplus == 1
    widened = widen(chosen, 3)
    assert [str(p) for p in widened.prefixes] == ["10.0.0.0/29", *last]
    assert widened.surplus == 2


def test_a_split_that_gains_nothing_may_be_needed_for_the_next() -> None:
    """Two prefixes are no better than one here, and three are."""
    chosen = [ip_network(f"10.0.0.{n}/32") for n in (0, 7, 8, 15)]
    assert [widen(chosen, count).surplus for count in (1, 2, 3, 4)] == [12, 12, 6, 0]


def test_ipv6_is_no_different() -> None:
    """The same over 128 bits."""
    chosen = [ip_network(text) for text in ("2001:db8::/64", "2001:db8:0:3::/64", "2600::/40")]
    widened = widen(chosen, 2)
    assert [str(p) for p in widened.prefixes] == ["2001:db8::/62", "2600::/40"]
    assert widened.surplus == 2 * 2**64


def test_no_prefix_at_all_is_refused() -> None:
    """Room for none covers nothing."""
    with pytest.raises(ValueError, match="at least one"):
        widen([ip_network("10.0.0.0/8")], 0)


def _ec2(family: int = 4) -> list[IPNetwork]:
    choice = Choice(services=["EC2"], regions=["us-east-1"])
    return choose(parse(DATA.read_bytes(), str(DATA)), choice, family)


def test_ec2_of_us_east_1_does_not_fit_a_group() -> None:
    """The published file of 2025-10-31: 266 prefixes, 212 when aggregated, and 60 rules there
    are."""
    ranges = _ec2()
    assert (len(ranges), len(aggregate(ranges))) == (266, 212)
    assert sum(network.num_addresses for network in aggregate(ranges)) == 19_381_664
    widened = widen(ranges, 59)
    assert len(widened.prefixes) == 59
    assert widened.surplus == 87_230_048


def test_thousands_of_prefixes_into_a_full_prefix_list() -> None:
    """5,000 scattered /24 into 1,000 prefixes (0.6 s on two cores)."""
    chosen = [IPv4Network(((n * 2654435761) % 2**32 >> 8 << 8, 24)) for n in range(5_000)]
    widened = widen(chosen, 1_000)
    assert len(widened.prefixes) == 1_000
    assert 0 < widened.surplus < 2**32 - 5_000 * 256


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>", "JSONDecodeError"),
        (b"[]", "TypeError"),
        (b"{}", "KeyError: 'prefixes'"),
        (json.dumps({"prefixes": {}, "ipv6_prefixes": []}).encode(), "not a list"),
        (
            json.dumps(
                {
                    "prefixes": [
                        {
                            "ip_prefix": "10.0.0.1/8",
                            "region": "r",
                            "service": "s",
                            "network_border_group": "g",
                        }
                    ],
                    "ipv6_prefixes": [],
                }
            ).encode(),
            "host bits set",
        ),
    ],
)
def test_what_is_not_the_published_file_is_refused_whole(content: bytes, said: str) -> None:
    """Half a list would take the other half's rules out."""
    with pytest.raises(Exception, match=said):
        parse(content, "ip-ranges.json")


def test_a_filter_that_matches_nothing_is_a_mistake() -> None:
    """The error lists what there is."""
    published = parse(DATA.read_bytes(), str(DATA))
    for choice, said in (
        (Choice(services=["ec2"]), "no service 'ec2': expected one of .*EC2"),
        (Choice(services=["EC2"], regions=["us-east"]), "no region 'us-east': .*us-east-1"),
        (Choice(services=["EC2"], border_groups=["x"]), "no border group 'x'"),
    ):
        with pytest.raises(Exception, match=said):
            choose(published, choice, 4)


def test_a_border_group_is_a_part_of_its_region() -> None:
    """Local zones can be left out."""
    published = parse(DATA.read_bytes(), str(DATA))
    parts = {e.border_group for e in published.entries if e.region == "us-east-1"}
    chosen = Choice(services=["EC2"], border_groups=["us-east-1"])
    assert len(choose(published, chosen, 4)) == 177
    assert len(parts) > 20
