"""The chains of the encrypted road, where they are, and what a member's road means."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Final

import pytest

from neti.dataplane import wireguard
from neti.dataplane.wireguard import road as road_to_device
from neti.model import Encrypt, Host, Member, Reach, Road, Site
from neti.model.settings import Settings
from neti.ruleset import policy_leftover
from neti.ruleset.delta import Elements
from neti.ruleset.objects import GATEWAY_SETS, NO_TABLE, OPTIONAL, KernelState, Structure
from neti.ruleset.policy import SETS, structure
from neti.ruleset.reach import elements_of, encryption, outside_addresses, road_without_key
from neti.ruleset.replace import replacement
from neti.ruleset.set_names import SetName
from neti.ruleset.surroundings import TUNNEL_DEVICE, Surroundings, Tunnel

OFF, PREFER, REQUIRE = Encrypt
TUNNEL: Final = Tunnel(
    own=IPv4Address("192.168.0.1"), private=IPv4Address("10.0.0.11"), mtu=1420, port=51821
)
HOST: Final = Host(id="me", site="ec2", private=TUNNEL.private, public=None)
MEMBER: Final = Member(
    id="db-1",
    site="vpc",
    private=IPv4Address("10.0.0.11"),
    public=IPv4Address("203.0.113.5"),
    overlay=IPv4Address("192.168.0.5"),
)
# Fields of Structure.chains that a host has only for the tunnel.
CHAINS: Final = {
    "tunnel_in",
    "tunnel_arrived",
    "to_port",
    "tunnel_mark",
    "tunnel_containers",
    "tunnel_source",
    "tunnel_left",
    "tunnel_out",
    "to_overlay",
    "to_overlay_forwarded",
}


AROUND: Final = Surroundings(uplinks=("eth0",), ssh_untracked=True, site="ec2", tunnel=TUNNEL)


SSH: Final = (ip_network("192.168.0.0/18"), ip_network("fd00::/8"))


def around(**values: Any) -> Surroundings:
    return replace(AROUND, **values)


def built(
    own: Encrypt, other: Encrypt, where: Surroundings | None = None, **more: Any
) -> Structure:
    sites = {"ec2": Site(name="ec2", encrypt=own), "vpc": Site(name="vpc", encrypt=other)}
    settings = Settings(path=Path("neti.yml"), sites=sites, tunnel_port=TUNNEL.port, **more)
    return structure(settings, AROUND if where is None else where)


def rules(made: Structure, chain: str) -> tuple[str, ...]:
    return next(c.rules for c in made.chains if c.name == chain)


def names(made: Structure) -> set[str]:
    return {chain.name for chain in made.chains}


# --- where the chains are ---


def test_a_host_that_encrypts_nothing_has_not_one_rule_more() -> None:
    """Byte for byte, whatever else is known of its end of the tunnel."""
    plain = built(OFF, OFF, around(tunnel=None))
    assert built(OFF, OFF) == plain
    assert plain.sets == (*SETS, *policy_leftover.sets(around()))
    assert "tunnel" not in plain.text()
    assert "neti0" not in plain.text()


def test_either_side_of_a_pair_is_enough() -> None:
    assert names(built(OFF, PREFER)) >= CHAINS
    assert names(built(REQUIRE, OFF)) >= CHAINS


@pytest.mark.parametrize(("own", "other"), [(OFF, PREFER), (REQUIRE, OFF)])
def test_the_sets_are_there_before_the_own_overlay_address_is_known(
    own: Encrypt, other: Encrypt
) -> None:
    """Members' roads are elements already. The chains come with it, without a new table."""
    early, late = built(own, other, around(tunnel=None)), built(own, other)
    assert early.sets == late.sets
    assert {where for where in OPTIONAL if early.defines(where)} == OPTIONAL - GATEWAY_SETS
    assert not names(early) & CHAINS
    assert names(late) - names(early) == CHAINS
    assert rules(early, "output")[0].endswith("goto refuse")


def test_the_rules_are_the_same_whatever_the_pair_asks_for() -> None:
    """``prefer`` and ``require`` differ in elements alone."""
    assert built(OFF, PREFER) == built(OFF, REQUIRE) == built(PREFER, REQUIRE)


def test_rules_device_and_routes_speak_of_the_same() -> None:
    assert wireguard.DEVICE == TUNNEL_DEVICE
    assert TUNNEL.mark == road_to_device.MARK


# --- what they say ---


def test_what_comes_out_of_the_tunnel_is_for_the_own_overlay_address_or_nothing() -> None:
    """Known senders only; nobody else may send with their addresses, tracked or not."""
    made = built(OFF, REQUIRE)
    assert rules(made, "tunnel_in") == (
        'iifname "neti0" goto tunnel_arrived',
        'ip saddr 192.168.0.0/18 ip saddr @tunnel_peers iif != "lo" drop',
        'udp dport 51821 iif != "lo" meta nfproto ipv4 goto to_port',
    )
    assert rules(made, "tunnel_arrived") == (
        "tcp flags & (syn|rst) == syn tcp option maxseg size set 1380",
        (
            "ip saddr @tunnel_peers ip daddr 192.168.0.1 meta mark set meta mark | 0x1000 "
            "ip daddr set 10.0.0.11 accept"
        ),
        "drop",
    )
    assert [c.hook for c in made.chains if c.name == "tunnel_in"] == [
        "type filter hook prerouting priority -310; policy accept;"
    ]


def test_a_connection_keeps_the_road_on_which_it_began() -> None:
    """What began through the tunnel, then answers, then what began in the clear; overrides are no
    members; only what is new goes by ``tunneled``."""
    nat = {
        IPv4Address("192.168.0.9"): IPv4Address("10.9.9.9"),
        IPv4Address("1.2.3.4"): HOST.private,
    }
    made = built(OFF, PREFER, nat_overrides=nat)
    mark = "meta mark set meta mark | 0x1000"
    assert rules(made, "tunnel_mark") == (
        f"ct status & (confirmed | dnat) == confirmed {mark} accept",
        f"ct state untracked {mark} accept",
        f"ct direction reply {mark} accept",
        "ct status dnat return",
        "ip daddr { 192.168.0.9 } return",
        f"ip daddr @tunneled {mark}",
    )
    for chain in ("translate_output", "translate"):
        assert rules(made, chain)[-3:-1] == (
            "ip daddr @tunneled return",
            "dnat ip to ip daddr map @overlay",
        )


def test_what_leaves_by_the_tunnel_bears_the_own_overlay_address() -> None:
    made = built(OFF, PREFER)
    assert rules(made, "tunnel_source") == (
        'oifname "neti0" ip saddr != 10.0.0.11 snat ip to 10.0.0.11',
    )
    assert rules(made, "tunnel_out") == (
        'oifname "neti0" goto tunnel_left',
        (
            "meta mark & 0x1000 == 0x1000 ip daddr 192.168.0.0/18 ip daddr @tunnel_peers "
            'oif != "lo" drop'
        ),
    )
    assert rules(made, "tunnel_left") == (
        "tcp flags & (syn|rst) == syn tcp option maxseg size set 1380",
        "ip saddr set 192.168.0.1",
    )


def test_only_peers_of_the_tunnel_are_sent_to_and_the_rest_is_refused() -> None:
    made = built(OFF, PREFER)
    assert rules(made, "output")[0] == "ip daddr 192.168.0.0/18 goto to_overlay"
    assert rules(made, "to_overlay") == (
        "ip daddr @tunnel_peers jump tunnel_mark",
        "meta mark & 0x1000 == 0x1000 ip daddr @tunnel_peers accept",
        "goto refuse",
    )
    assert "ip daddr 192.168.0.0/18 goto to_overlay_forwarded" in rules(made, "forward")
    assert rules(made, "to_overlay_forwarded") == (
        'oifname "neti0" ip daddr @tunnel_peers accept',
        "goto refuse",
    )


def test_members_and_wireguard_are_let_in_before_removed_sources_are_judged() -> None:
    """A removed source may share its address with a member. Containers get the same members."""
    made = built(OFF, REQUIRE)
    found = rules(made, "input")
    known = 'iifname "neti0" ip saddr @tunnel_peers counter name "admitted" accept'
    revoked = found.index("ip saddr @revoked4 goto removed")
    assert found.index(known) < revoked
    assert found.index("udp dport 51821 meta nfproto ipv4 accept") < revoked
    # Most packets of a tunnel look no further.
    clear = found.index("meta nfproto @require jump from_clear")
    assert max(found.index(known), found.index("udp dport 51821 meta nfproto ipv4 accept")) < clear
    assert known in rules(made, "published")
    for chain, counter in (
        ("first_asked", "asked"),
        ("first_called", "called"),
        ("first_behind", "arrived"),
    ):
        assert any("tunnel_peers" in r and f'"{counter}"' in r for r in rules(made, chain))


def test_wireguards_packets_are_tracked_where_another_table_judges_input() -> None:
    """Their answers would be dropped there, as SSH's would."""
    tracked = built(OFF, PREFER, around(ssh_untracked=False), ssh_whitelist=SSH)
    assert not any("notrack" in rule for chain in tracked.chains for rule in chain.rules)
    assert not {"tunnel_untracked", "to_port"} & names(tracked)
    assert rules(tracked, "tunnel_arrived")[-2].endswith(" ip daddr set 10.0.0.11 accept")
    assert rules(built(OFF, PREFER), "to_port") == (
        "ip daddr 10.0.0.11 notrack accept",
        "fib daddr type local notrack accept",
    )
    assert rules(built(OFF, PREFER), "from_port") == (
        "meta mark & 0x2000 == 0 jump from_port_unmarked",
        'oif != "lo" notrack accept',
    )


def test_answers_of_whitelisted_ssh_are_untracked_on_their_way_into_the_tunnel() -> None:
    """They are routed to lo first, which is no exception there."""
    made = built(OFF, PREFER, ssh_whitelist=SSH)
    assert rules(made, "sent") == (
        "udp sport 51821 meta nfproto ipv4 goto from_port",
        'tcp sport 22 oif != "lo" ip daddr { 192.168.0.0/18 } notrack accept',
        "tcp sport 22 ip daddr @tunnel_peers ip daddr { 192.168.0.0/18 } notrack accept",
        'tcp sport 22 oif != "lo" ip6 daddr { fd00::/8 } notrack accept',
    )
    assert rules(made, "tunnel_arrived")[-2].endswith(
        " ip daddr set 10.0.0.11 goto tunnel_untracked"
    )
    assert rules(made, "tunnel_untracked") == rules(made, "tunnel_in")[-2:]
    assert all(rule.startswith("tcp dport 22 ") for rule in rules(made, "tunnel_untracked"))


@pytest.mark.parametrize("own", [OFF, PREFER])
def test_a_hook_has_no_more_chains_than_it_needs(own: Encrypt) -> None:
    """A chain more at one costs each packet as much as several rules, inside a site too."""
    found: dict[str, list[str]] = {}
    for chain in built(own, own, None if own is PREFER else around(tunnel=None)).chains:
        if chain.hook is not None:
            kind, where = chain.hook.split()[1], chain.hook.split()[3]
            if kind != "nat":  # these see a connection's first packet alone
                found.setdefault(where, []).append(chain.name)
    assert (
        found
        == {
            OFF: {
                "output": ["output"],
                "input": ["input", "first_arrived"],
                "forward": ["forward"],
            },
            PREFER: {
                "prerouting": ["tunnel_in", "tunnel_containers"],
                "output": ["sent", "output"],
                "postrouting": ["tunnel_out"],
                "input": ["input", "first_arrived"],
                "forward": ["forward"],
            },
        }[own]
    )


def test_no_container_means_no_rule_for_one() -> None:
    made = built(OFF, PREFER, container_interfaces=())
    assert len(rules(made, "tunnel_containers")) == 1


# --- what a member means ---


@pytest.mark.parametrize(
    ("road", "expected"),
    [
        (Road.PLAIN, {"overlay", "peers4", "across4"}),
        (Road.TRYING, {"overlay", "peers4", "across4", "tunnel_peers"}),
        (Road.PREFERRED, {"overlay", "peers4", "across4", "tunnel_peers", "tunneled"}),
        (Road.REQUIRED, {"tunnel_peers", "tunneled"}),
        (Road.NONE, set()),
    ],
)
def test_a_members_road_says_which_sets_it_is_in(road: Road, expected: set[str]) -> None:
    found = list(elements_of(MEMBER, host=HOST, sites={}, road=road))
    assert {element.where for element in found} == expected
    assert all(e.key == "192.168.0.5" for e in found if e.where in OPTIONAL)


def test_an_overlay_address_is_never_a_removed_source() -> None:
    """Whatever becomes of its road: those are real addresses."""
    elements = Elements(revoke_seconds=60)
    roads: list[Road | None] = [None, *Road, *reversed(Road), None]
    for before, after in itertools.pairwise(roads):
        for road, act in ((before, elements.unwant), (after, elements.want)):
            for one in elements_of(MEMBER, host=HOST, sites={}, road=road) if road else ():
                act(one.where, one.key, one.value)
        changes = elements.changes()
        assert {k for held in changes.revoked.values() for k in held} <= {"203.0.113.5"}
        elements.applied(changes)


NEAR: Final = Member(
    id="near",
    site="ec2",
    private=IPv4Address("10.0.0.12"),
    public=IPv4Address("198.51.100.12"),
    overlay=IPv4Address("192.168.0.12"),
    more=(
        IPv4Address("10.0.1.12"),
        IPv4Address("198.51.100.13"),
        IPv6Address("2001:db8::12"),
    ),
)
CLAIMS: Final = replace(MEMBER, public=NEAR.public, more=(*NEAR.more, IPv4Address("203.0.113.6")))
SITES: Final = {
    "ec2": Site(
        name="ec2",
        private=(IPv4Network("10.0.0.0/16"),),
        public=(IPv4Network("198.51.100.0/24"),),
        ipv6=(IPv6Network("2001:db8::/64"),),
    ),
    "vpc": Site(name="vpc", encrypt=REQUIRE),
}


@pytest.mark.parametrize("order", list(itertools.permutations([MEMBER, CLAIMS, NEAR])))
@pytest.mark.parametrize("in_kernel", [False, True])
def test_the_own_sites_addresses_are_not_refused_whoever_claims_them(
    order: tuple[Member, ...], in_kernel: bool
) -> None:
    """Whoever came first, and whatever the kernel holds; they are when their member has gone."""
    elements = Elements(revoke_seconds=60)

    def tell(member: Member, act: Callable[[SetName, str, str], None]) -> None:
        for one in elements_of(member, host=HOST, sites=SITES, road=Road.PREFERRED):
            if one.where in ("clear4", "clear6", "outside4"):
                act(one.where, one.key, one.value)

    def held() -> set[str]:
        changes = elements.changes()
        assert all(not v for items in changes.added.values() for v in items.values())
        elements.applied(changes)
        return {*elements.kernel["clear4"], *elements.kernel["clear6"]}

    for member in order:
        tell(member, elements.want)
        if not in_kernel:
            held()
    if in_kernel:
        claimed = dict.fromkeys(map(str, (NEAR.private, NEAR.public)), "")
        elements.kernel_is(KernelState(structure="x", elements={"clear4": claimed}))
    assert held() == {"203.0.113.5", "203.0.113.6"}
    assert elements.kernel["outside4"].keys() == {"198.51.100.12", "198.51.100.13"}
    assert not elements.wants("clear4", str(NEAR.public))
    tell(NEAR, elements.unwant)
    assert held() == {*map(str, (MEMBER.public, CLAIMS.public, *CLAIMS.more))}
    assert elements.kernel["outside4"] == {}


def test_an_address_outside_the_own_sites_ranges_is_refused_if_another_site_claims_it() -> None:
    """Whoever says that it is of the own site would have what goes there sent in the clear."""
    sites = {**SITES, "ec2": Site(name="ec2")}
    elements = Elements(revoke_seconds=60)
    for member in (CLAIMS, NEAR):
        for one in elements_of(member, host=HOST, sites=sites, road=Road.PREFERRED):
            if one.where in ("clear4", "clear6"):
                elements.want(one.where, one.key, one.value)
    refused = {key for held in elements.changes().added.values() for key in held}
    assert refused == {*map(str, (CLAIMS.public, *CLAIMS.more))}
    assert not elements.wants("clear4", str(NEAR.private))


def test_where_nothing_is_required_the_own_sites_members_cost_nothing_more() -> None:
    sites = {**SITES, "vpc": Site(name="vpc", encrypt=PREFER)}
    found = {one.where for one in elements_of(NEAR, host=HOST, sites=sites)}
    assert found == {"overlay", "peers4", "peers6"}


def test_without_ranges_only_the_public_address_is_known_to_be_outside() -> None:
    sites = {**SITES, "ec2": Site(name="ec2")}
    assert list(outside_addresses(NEAR, sites=sites)) == [NEAR.public]
    assert list(outside_addresses(replace(NEAR, public=NEAR.private), sites=sites)) == []


@pytest.mark.parametrize("own", Encrypt)
@pytest.mark.parametrize("other", Encrypt)
def test_the_stricter_side_of_a_pair_decides(own: Encrypt, other: Encrypt) -> None:
    here, there = Site(name="ec2", encrypt=own), Site(name="vpc", encrypt=other)
    expected = max(own, other, key=(OFF, PREFER, REQUIRE).index)
    assert encryption(here, there) is encryption(there, here) is expected
    assert encryption(here, here) is OFF
    assert encryption(here, None) is own


def test_of_whom_nothing_is_known_is_never_reached_by_a_road_that_is_not_allowed() -> None:
    sites = {"ec2": Site(name="ec2"), "vpc": Site(name="vpc", encrypt=REQUIRE)}
    assert road_without_key(MEMBER, host=HOST, sites=sites) is Road.NONE
    sites["vpc"] = Site(name="vpc", encrypt=PREFER, reached_by=Reach.PRIVATE)
    assert road_without_key(MEMBER, host=HOST, sites=sites) is Road.PLAIN
    sites["ec2"] = Site(name="ec2", encrypt=REQUIRE)
    own = Host(id="me", site="vpc", private=HOST.private, public=None)
    assert road_without_key(MEMBER, host=own, sites=sites) is Road.PLAIN


# --- sets that are not in every table ---


def test_what_has_no_set_in_the_kernel_waits_for_a_new_table() -> None:
    """A refused structure must not keep members out that need nothing of it."""
    elements = Elements(revoke_seconds=60)
    for one in elements_of(MEMBER, host=HOST, sites={}, road=Road.PREFERRED):
        elements.want(one.where, one.key, one.value)
    elements.kernel_is(KernelState(structure="old", missing=OPTIONAL))
    changes = elements.changes()
    assert set(changes.added) == {"overlay", "peers4", "across4"}
    elements.applied(changes)
    assert not elements.pending
    empty, heir = Elements(revoke_seconds=60), Elements(revoke_seconds=60)
    empty.kernel_is(KernelState(structure="old", missing=OPTIONAL))
    heir.believe(empty)
    heir.want("tunneled", "192.168.0.5")
    assert not heir.pending
    elements.kernel_is(KernelState(structure="new"))
    assert set(elements.changes().added) >= {"tunnel_peers", "tunneled"}


def test_a_table_without_the_sets_is_written_without_their_elements() -> None:
    """What was adopted from the kernel of a host that encrypted."""
    elements = Elements(revoke_seconds=60)
    elements.want("tunneled", "192.168.0.5")
    assert (
        "tunneled" not in replacement(built(OFF, OFF), elements, NO_TABLE, grace_seconds=0).text()
    )
    assert (
        "192.168.0.5" in replacement(built(OFF, PREFER), elements, NO_TABLE, grace_seconds=0).text()
    )


# --- which connections may go on ---

OVERLAY, REAL, ELSEWHERE = MEMBER.overlay, MEMBER.public, IPv4Address("203.0.113.6")


@pytest.mark.parametrize(
    ("road", "clear", "tunneled"),
    [
        (Road.PLAIN, True, False),
        (Road.TRYING, True, True),
        (Road.PREFERRED, True, True),
        (Road.REQUIRED, False, True),
        (Road.NONE, False, False),
    ],
)
def test_a_connection_goes_on_by_a_road_that_is_allowed(
    road: Road, clear: bool, tunneled: bool
) -> None:
    """In the clear to where the address leads; through the tunnel while there is a peer. One
    without an answer begins anew."""
    elements = Elements(revoke_seconds=60)
    for one in elements_of(MEMBER, host=HOST, sites={}, road=road):
        elements.want(one.where, one.key, one.value)
    assert elements.goes_on(OVERLAY, REAL, True) is clear
    assert elements.goes_on(OVERLAY, OVERLAY, True) is tunneled
    assert not elements.goes_on(OVERLAY, OVERLAY, False)
    assert not elements.goes_on(OVERLAY, ELSEWHERE, True)
    assert not elements.goes_on(OVERLAY, None, True)
