"""What one member means to a host, and the rules in the order that is promised."""

import itertools
import os
import re
import shutil
import subprocess
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests.support.examples import share_of

from neti.model import Encrypt, Host, Member, Reach, Road, Site
from neti.model.settings import IPNetwork, OpenPort, Settings
from neti.ruleset.delta import Elements
from neti.ruleset.enforce import OFF, PERMANENT
from neti.ruleset.objects import NO_TABLE, Structure
from neti.ruleset.policy import structure
from neti.ruleset.reach import (
    Element,
    cross_address,
    elements_of,
    never_revoked,
    own_elements,
    road_mtu,
)
from neti.ruleset.replace import replacement
from neti.ruleset.surroundings import Surroundings, Tunnel

HOST: Final = Host(
    id="me", site="ec2", private=IPv4Address("10.0.0.1"), public=IPv4Address("198.51.100.1")
)
SITES: Final = {
    "ec2": Site(name="ec2", private=(IPv4Network("10.0.0.0/8"),)),
    "vpc": Site(name="vpc", private=(IPv4Network("10.0.0.0/8"),)),
    "peered": Site(name="peered", reached_by=Reach.PRIVATE),
}
ETH: Final = Surroundings(uplinks=("eth0",), ssh_untracked=False)


def member(
    site: str, *, host_id: str = "db-1", public: str | None = "203.0.113.5", more: str = ""
) -> Member:
    return Member(
        id=host_id,
        site=site,
        private=IPv4Address("10.0.0.5"),
        public=IPv4Address(public) if public is not None else None,
        overlay=IPv4Address("192.168.0.5"),
        extended=bool(more),
        more=tuple(ip_address(text) for text in more.split()),
    )


def meaning(who: Member) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for element in elements_of(who, host=HOST, sites=SITES):
        text = f"{element.key} : {element.value}" if element.value else element.key
        found.setdefault(element.where, []).append(text)
    return found


# --- elements ---


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        (
            member("ec2"),
            {
                "overlay": ["192.168.0.5 : 10.0.0.5"],
                "peers4": ["10.0.0.5", "203.0.113.5"],
            },
        ),
        (
            member("ec2", public=None),
            {"overlay": ["192.168.0.5 : 10.0.0.5"], "peers4": ["10.0.0.5"]},
        ),
        (
            member("vpc"),
            {
                "overlay": ["192.168.0.5 : 203.0.113.5"],
                "peers4": ["203.0.113.5"],
                "across4": ["203.0.113.5"],
            },
        ),
        (member("vpc", public=None), {}),
        (
            member("peered"),
            {
                "overlay": ["192.168.0.5 : 10.0.0.5"],
                "peers4": ["10.0.0.5", "203.0.113.5"],
            },
        ),
        (
            member("unknown"),
            {
                "overlay": ["192.168.0.5 : 203.0.113.5"],
                "peers4": ["203.0.113.5"],
                "across4": ["203.0.113.5"],
            },
        ),
        (member("ec2", host_id="me"), {}),
        (
            member("vpc", public=None, more="2001:db8::5 fd12::5 198.51.100.7"),
            {
                "peers6": ["2001:db8::5", "fd12::5"],
                "peers4": ["198.51.100.7"],
                "across6": ["2001:db8::5", "fd12::5"],
                "across4": ["198.51.100.7"],
            },
        ),
    ],
)
def test_a_member_means_where_it_is_reached_and_who_is_let_in(
    who: Member, expected: dict[str, list[str]]
) -> None:
    """Private inside the site or when peered, public across, nothing where there is no way."""
    assert meaning(who) == expected


def test_a_private_address_of_another_site_lets_nobody_in_here() -> None:
    """Private ranges overlap: over there it is the member's, here it may be a stranger's."""
    more = "10.0.0.6 198.51.100.7 2001:db8::5"
    across = meaning(member("vpc", more=more))
    assert across["peers4"] == ["203.0.113.5", "198.51.100.7"]
    assert across["peers6"] == ["2001:db8::5"]
    assert meaning(member("ec2", more=more))["peers4"] == [
        "10.0.0.5",
        "203.0.113.5",
        "10.0.0.6",
        "198.51.100.7",
    ]


def test_a_host_reaches_itself_by_its_private_address() -> None:
    """The own overlay address leads to oneself, whatever the registry says."""
    assert list(own_elements(HOST, IPv4Address("192.168.0.1"))) == [
        Element("overlay", "192.168.0.1", "10.0.0.1")
    ]


@pytest.mark.parametrize(
    ("site", "public", "expected"),
    [
        ("ec2", "203.0.113.5", "10.0.0.5"),
        ("vpc", "203.0.113.5", "203.0.113.5"),
        ("vpc", None, None),
    ],
)
def test_the_cross_address_is_where_the_overlay_leads(
    site: str, public: str | None, expected: str | None
) -> None:
    """One answer to "how do I reach it", the kernel's."""
    found = cross_address(member(site, public=public), host=HOST, sites=SITES)
    assert (str(found) if found is not None else None) == expected


# --- rules ---


def configured(**values: Any) -> Settings:
    return Settings(path=Path("neti.yml"), **values)


def rules(built: Structure, chain: str) -> tuple[str, ...]:
    return next(c.rules for c in built.chains if c.name == chain)


def networks(*texts: str) -> tuple[IPNetwork, ...]:
    return tuple(ip_network(text) for text in texts)


FULL: Final = configured(
    open_ports=(
        OpenPort(80, 80, "tcp"),
        OpenPort(8000, 8010, "udp", networks("10.1.0.0/16", "2001:db8::/32")),
    ),
    ssh_whitelist=networks("198.51.100.0/24", "2001:db8:1::/48"),
    trusted=networks("10.2.0.0/16", "2001:db8:2::/48"),
    nat_overrides={IPv4Address("192.168.0.9"): IPv4Address("10.9.9.9")},
)


def assert_in_order(found: tuple[str, ...], *patterns: str) -> None:
    """Every rule is matched by the next pattern, or by the one that matched the rule before."""
    at = -1
    for rule in found:
        if at >= 0 and re.search(patterns[at], rule):
            continue
        at += 1
        assert at < len(patterns), f"not expected: {rule}"
        assert re.search(patterns[at], rule), f"{rule} is not {patterns[at]}"
    assert at == len(patterns) - 1, f"missing: {patterns[at + 1 :]}"


@pytest.mark.parametrize("ssh_untracked", [True, False])
def test_input_is_judged_in_the_promised_order(ssh_untracked: bool) -> None:
    """Loopback, SSH, peers, what links need, containers, trusted, removed sources, established."""
    built = structure(FULL, Surroundings(uplinks=("eth0",), ssh_untracked=ssh_untracked))
    assert_in_order(
        rules(built, "input"),
        r'^iif "lo" accept$',
        r"jump first_asked$",
        r"^tcp dport 22 ip6? saddr \{ .* \} accept$",
        r"@peers[46] counter name .admitted. accept$",
        r"nd-neighbor-solicit",
        r"mld",
        r"igmp",
        r"udp (s|d)port",
        r"iifkind",
        r"saddr \{ .* \} accept$",
        r"@revoked[46] goto removed$",
        r"^ct state established,related accept$",
        r"^goto judge$",
    )


def test_judgement_is_passed_in_the_promised_order() -> None:
    """Open ports, limited ICMP, grace but for removed sources, the record, the verdict last."""
    built = structure(FULL, ETH)
    assert rules(built, "judge") == ("jump opened", "goto verdict")
    assert_in_order(rules(built, "opened"), r"dport|proto-dst")
    assert_in_order(
        rules(built, "verdict"),
        r"^icmp(v6)? .* limit rate .* accept$",
        r"saddr != @revoked[46] tcp flags .* meta nfproto @grace",
        r"^jump record$",
        r"^counter name .judged. meta nfproto vmap @enforce$",
    )


def test_overrides_come_before_members() -> None:
    """In both directions of translation, as an override wins."""
    built = structure(FULL, ETH)
    for chain in ("translate_output", "translate"):
        found = [rule for rule in rules(built, chain) if "dnat" in rule]
        assert "192.168.0.9 : 10.9.9.9" in found[0]
        assert found[1] == "dnat ip to ip daddr map @overlay"


def test_what_comes_from_an_uplink_is_never_translated() -> None:
    """The host is no relay for strangers."""
    (found,) = rules(structure(FULL, ETH), "translate_containers")
    assert found == 'iifname != { "lo", "eth0" } meta iifkind { "bridge", "veth" } goto translate'


def test_an_overlay_address_that_nobody_holds_is_refused_out_and_through() -> None:
    """First rule in forward, only rule in output, whichever interface it came from."""
    built = structure(FULL, ETH)
    refusal = "ip daddr 192.168.0.0/18 goto refuse"
    assert rules(built, "output") == (refusal,)
    assert rules(built, "forward")[0] == refusal


def test_published_ports_pass_the_same_judgement_as_the_hosts_own() -> None:
    """Peers, trusted, removed sources, established, then judge, by the port that was asked for;
    what is open is what the host publishes, not every container's port of that number."""
    built = structure(FULL, ETH)
    peers, rest = rules(built, "published")[:2], rules(built, "published")[2:]
    assert all("@peers" in rule for rule in peers)
    assert set(peers) < set(rules(built, "input"))
    own = tuple(rule.replace("removed_forwarded", "removed") for rule in rest[:-1])
    assert rules(built, "input")[-len(rest) :] == (*own, "goto judge")
    assert rest[-1] == "goto judge_forwarded"
    assert rules(built, "judge_forwarded")[0] == "ct status dnat jump opened"
    asked = [rule for rule in rules(built, "opened") if "ct original proto-dst" in rule]
    assert len(asked) == 3


def test_a_port_with_sources_is_open_to_those_of_either_family_only() -> None:
    """No rule for it without a source."""
    for rule in rules(structure(FULL, ETH), "opened"):
        if "8000-8010" in rule:
            assert rule.startswith(("ip saddr { 10.1.0.0/16 }", "ip6 saddr { 2001:db8::/32 }"))


def test_ssh_bypasses_tracking_only_where_nobody_else_judges_input() -> None:
    """Both directions and both families, never on the loopback; else tracked in input alone."""
    tracked = structure(FULL, ETH)
    assert not any("notrack" in rule for chain in tracked.chains for rule in chain.rules)
    untracked = structure(FULL, Surroundings(uplinks=("eth0",), ssh_untracked=True))
    for chain, loopback in (("untracked_in", 'iif != "lo"'), ("untracked_out", 'oif != "lo"')):
        found = rules(untracked, chain)
        assert [rule.split()[6] for rule in found] == ["ip", "ip6"]
        assert all(f" {loopback} " in rule for rule in found)
        assert all(rule.endswith("notrack accept") for rule in found)
    assert rules(untracked, "input") == rules(tracked, "input")


def test_nothing_configured_is_valid_text() -> None:
    """Empty lists leave rules out instead of writing empty braces."""
    text = structure(configured(), Surroundings(uplinks=(), ssh_untracked=True)).text()
    assert not re.search(r"\{\s*\}", text)
    assert 'iifname != { "lo" }' in text
    assert "notrack" not in text


def test_overlapping_networks_are_merged() -> None:
    """Intervals of one set must not overlap."""
    settings = configured(
        trusted=networks(
            "10.0.0.0/8", "10.1.0.0/16", "10.0.0.0/8", "192.0.2.0/25", "192.0.2.128/25"
        )
    )
    text = structure(settings, ETH).text()
    assert "ip saddr { 10.0.0.0/8, 192.0.2.0/24 } accept" in text


# --- interface names: any bytes but a slash, a colon and spaces, says the kernel ---

interface_names = st.text(
    st.characters(codec="utf-8", exclude_characters="/: \t\n\r\v\f\x00\x85\xa0"),
    min_size=1,
    max_size=15,
)
NAMED: Final = re.compile(r'"([^"]*)"')


@given(st.lists(interface_names, max_size=4))
def test_no_interface_name_breaks_out_of_its_quotes(names: list[str]) -> None:
    """The rules around the name stay what they are, and the name is never taken for less."""
    plain = structure(FULL, ETH).text()
    indexes = tuple((name, 7 + at) for at, name in enumerate(dict.fromkeys(names)))
    around = Surroundings(uplinks=tuple(names), ssh_untracked=False, indexes=indexes)
    weird = structure(FULL, around).text()
    skeleton = re.compile(r'[io]ifname != \{ "lo"(, "[^"*\\]+\*?")* \}( [io]if != \{ [0-9, ]+ \})?')
    assert skeleton.sub("{}", weird) == skeleton.sub("{}", plain)
    rule = next(line for line in weird.splitlines() if "oifname" in line)
    said = NAMED.findall(rule)
    for name, index in indexes:
        assert re.search(rf"oif != \{{.*\b{index}\b", rule) or any(
            name == word or (word.endswith("*") and name.startswith(word[:-1])) for word in said
        )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("br-1.2@x", "br-1.2@x"),
        ("eth*", "eth*"),
        ('a" } accept;', "a*"),
        ("a\\", "a*"),
        ("a$b{c}#d;'", "a$b{c}#d;'"),
        ("wlanü", "wlan*"),
    ],
)
def test_a_name_that_nft_cannot_say_becomes_all_that_begin_like_it(name: str, said: str) -> None:
    """Where its index is not known: to take one interface too many for an uplink is the safe
    error."""
    built = structure(configured(), Surroundings(uplinks=(name,), ssh_untracked=False))
    assert f'iifname != {{ "lo", "{said}" }} meta iifkind' in built.text()


@pytest.mark.parametrize("name", ["ü0", "\udcff\udcfe", '"x', "n\udcff"])
def test_a_name_that_nft_cannot_say_is_said_by_its_index(name: str) -> None:
    """And stops nothing else."""
    around = Surroundings(uplinks=(name, "eth0"), ssh_untracked=False, indexes=((name, 7),))
    text = structure(configured(), around).text()
    assert 'iifname != { "lo", "eth0" } iif != { 7 } meta iifkind' in text
    text.encode()


def test_an_uplink_that_nft_cannot_name_at_all_leaves_no_interface_to_containers() -> None:
    """At boot, where an interface that is not there yet has no index: all is judged."""
    around = Surroundings(uplinks=("ü0",), ssh_untracked=False)
    built = structure(configured(), around)
    assert rules(built, "translate_containers") == ()
    assert not any("iifkind" in rule for rule in rules(built, "input"))
    assert rules(built, "toward_containers") == ("goto published",)


def test_the_interfaces_of_containers_can_be_named() -> None:
    """Then no other counts as theirs, an uplink never, and what leads to them is judged."""
    settings = configured(container_interfaces=("docker0", "cali*", "cali7"))
    built = structure(settings, ETH)
    own = 'iifname != { "lo", "eth0" } iifname { "docker0", "cali*" }'
    assert f"{own} accept" in rules(built, "input")
    assert rules(built, "toward_containers") == (f"{own} accept", "goto published")
    assert any('oifname { "docker0", "cali*" } goto toward' in r for r in rules(built, "forward"))
    nobody = structure(configured(container_interfaces=()), ETH)
    assert rules(nobody, "translate_containers") == ()


def test_a_bridge_of_others_is_no_containers() -> None:
    """It is told apart by name, as the uplinks are."""
    around = Surroundings(uplinks=("eth0",), strangers=("br-stor",), ssh_untracked=False)
    text = structure(configured(), around).text()
    assert text.count('{ "lo", "eth0", "br-stor" }') == text.count("ifname != {")


# --- the road to other sites ---

ROADS: Final = {
    "here": Site(name="here"),
    "far": Site(name="far", public=(IPv4Network("203.0.113.0/24"),)),
    "narrow": Site(name="narrow", public=(IPv4Network("198.51.100.0/24"),), mtu=1400),
    "peered": Site(name="peered", reached_by=Reach.PRIVATE),
    "jumbo": Site(
        name="jumbo", private=(IPv4Network("10.9.0.0/16"),), reached_by=Reach.PRIVATE, mtu=8500
    ),
}


def test_connections_to_other_sites_are_told_what_the_road_carries() -> None:
    """Both directions and families; each site's own road where it has ranges, else the narrowest;
    a peered site only where its road is said; never this host's own site."""
    around = Surroundings(uplinks=("eth0",), ssh_untracked=False, site="here")
    built = structure(configured(sites=ROADS), around)
    found = rules(built, "clamp")
    assert [rule for rule in found if "daddr" in rule] == [
        "ip daddr { 198.51.100.0/24 } tcp option maxseg size set 1360",
        "ip daddr { 203.0.113.0/24 } tcp option maxseg size set 1460",
        "ip daddr { 10.9.0.0/16 } tcp option maxseg size set 8460",
        "ip daddr @across4 tcp option maxseg size set 1360",
        "ip6 daddr @across6 tcp option maxseg size set 1340",
    ]
    assert [r.replace("saddr", "daddr") for r in found if "saddr" in r] == [
        r for r in found if "daddr" in r
    ]
    for chain in ("input", "output", "forward"):
        assert rules(built, chain).count("tcp flags & (syn|rst) == syn jump clamp") == 1


def test_one_site_alone_clamps_nothing() -> None:
    """There is no road between sites."""
    around = Surroundings(uplinks=("eth0",), ssh_untracked=False, site="here")
    text = structure(configured(sites={"here": ROADS["here"]}), around).text()
    assert "clamp" not in text


@pytest.mark.parametrize(
    ("site", "own", "mtu"),
    [
        ("far", "here", 1500),
        ("narrow", "here", 1400),
        ("far", "narrow", 1400),
        ("peered", "here", None),
        ("peered", "narrow", 1400),
        ("jumbo", "here", 8500),
        ("unknown", "here", 1500),
    ],
)
def test_a_road_is_as_narrow_as_its_narrower_end(site: str, own: str, mtu: int | None) -> None:
    """What is not said is the internet's 1500, and unknown between peered networks."""
    assert road_mtu(ROADS.get(site), ROADS.get(own)) == mtu


# --- who is never a removed source ---


def test_what_this_host_lives_by_is_never_a_removed_source() -> None:
    """Own addresses, gateways, resolvers, ZooKeeper's, the clouds' own, whoever claimed them."""
    own = (IPv4Address("10.0.0.1"), IPv6Address("2001:db8::1"))
    spared = never_revoked(HOST, own, (IPv4Address("10.0.0.254"),))
    assert {"10.0.0.1", "2001:db8::1", "10.0.0.254", "169.254.169.254"} <= spared
    assert "10.0.0.5" not in spared


# --- does nft take it? ---

HAVE_NFT: Final = os.geteuid() == 0 and shutil.which("nft") and shutil.which("unshare")
needs_nft = pytest.mark.skipif(
    not HAVE_NFT and os.environ.get("CI") != "true",
    reason="needs root, nft (Debian: nftables) and unshare (util-linux)",
)
v4_networks = st.builds(
    lambda address, prefix: ip_network((int(address), prefix), strict=False),
    st.ip_addresses(v=4),
    st.integers(0, 32),
)
v6_networks = st.builds(
    lambda address, prefix: ip_network((address, prefix), strict=False),
    st.ip_addresses(v=6),
    st.integers(0, 128),
)
cidrs = st.lists(st.one_of(v4_networks, v6_networks), max_size=4).map(tuple)
ports = st.builds(
    lambda ends, proto, sources: OpenPort(min(ends), max(ends), proto, sources),
    st.tuples(st.integers(1, 65535), st.integers(1, 65535)),
    st.sampled_from(("tcp", "udp")),
    cidrs,
)
v4_addresses = st.ip_addresses(v=4)
TUNNELED: Final = {"far": Site(name="far", encrypt=Encrypt.REQUIRE)}
whole_settings = st.builds(
    configured,
    open_ports=st.lists(ports, max_size=4).map(tuple),
    ssh_whitelist=cidrs,
    trusted=cidrs,
    ssh_port=st.integers(1, 65535),
    nat_overrides=st.dictionaries(v4_addresses, v4_addresses, max_size=3),
    sites=st.sampled_from(({}, TUNNELED)),
    overlay_subnet=st.integers(8, 30).map(lambda n: IPv4Network(f"100.64.0.0/{max(n, 10)}")),
)
surroundings = st.builds(
    Surroundings,
    uplinks=st.lists(interface_names, max_size=3).map(tuple),
    strangers=st.lists(interface_names, max_size=2).map(tuple),
    ssh_untracked=st.booleans(),
    tunnel=st.none()
    | st.builds(Tunnel, own=v4_addresses, private=v4_addresses, mtu=st.integers(576, 1420)),
)


def accepted_by_nft(text: str) -> None:
    done = subprocess.run(
        ["unshare", "-n", "nft", "-c", "-f", "-"],
        input=text.encode(),
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, f"{done.stderr.decode()}\n{text}"


def listed_by_nft(text: str) -> str:
    """How nft lists what it has loaded from this text, in a namespace of its own."""
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", "nft -f - && nft list ruleset"],
        input=text.encode(),
        capture_output=True,
        check=True,
        timeout=30,
    )
    return done.stdout.decode()


@pytest.mark.kernel
@needs_nft
@hypothesis_settings(
    max_examples=share_of(60), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(whole_settings, surroundings, st.booleans())
def test_nft_takes_every_structure(
    settings: Settings, around: Surroundings, reject_all: bool
) -> None:
    """Whatever is configured and wherever it runs, with members of both families in the sets."""
    built = structure(settings, around)
    elements = Elements(revoke_seconds=60)
    everybody = member("ec2", more="2001:db8::5 198.51.100.7")
    for element in (
        *elements_of(everybody, host=HOST, sites=SITES, road=Road.PREFERRED),
        *own_elements(HOST, IPv4Address("192.168.0.1")),
    ):
        elements.want(element.where, element.key, element.value)
    elements.enforce(PERMANENT if reject_all else OFF)
    accepted_by_nft(replacement(built, elements, NO_TABLE, grace_seconds=60).text())


@pytest.mark.kernel
@needs_nft
def test_nft_takes_every_kind_of_change() -> None:
    """Adding, changing, revoking and pardoning, in one go after the table that they change."""
    elements = Elements(revoke_seconds=60)
    first, second = (
        member("ec2", more="2001:db8::5"),
        member("vpc", more=str(IPv6Address(1 << 125))),
    )
    script = [structure(FULL, ETH).text()]
    members: list[Member | None] = [None, first, second, None, first]
    for before, after in itertools.pairwise(members):
        for who, act in ((before, elements.unwant), (after, elements.want)):
            for element in elements_of(who, host=HOST, sites=SITES) if who is not None else ():
                act(element.where, element.key, element.value)
        changes = elements.changes()
        script.extend(map(str, changes.commands()))
        elements.applied(changes)
    accepted_by_nft("\n".join(script) + "\n")


@pytest.mark.kernel
@needs_nft
def test_nft_reads_again_what_it_lists() -> None:
    """A saved ruleset, ours among it, must load: else all of a host's rules would be missing."""
    listed = listed_by_nft(structure(FULL, ETH).text())
    assert "table inet neti" in listed
    accepted_by_nft(listed)


def test_no_two_chains_have_one_name() -> None:
    """The kernel would take them for one chain with the rules of both."""
    names = [chain.name for chain in structure(FULL, ETH).chains]
    assert len(names) == len(set(names))


def test_protocols_are_words_of_nfts_own() -> None:
    """nft looks any other name up in /etc/protocols, which a minimal Debian does not have."""
    own = {"tcp", "udp", "udplite", "sctp", "dccp", "icmp", "icmpv6", "igmp", "esp", "ah", "gre"}
    text = structure(FULL, Surroundings(uplinks=("eth0",), ssh_untracked=True)).text()
    said = " ".join(re.findall(r"(?:l4proto|ip protocol) (?:!= )?(\{[^}]*\}|[a-z][\w-]*)", text))
    named = set(re.findall(r"[\w-]+", said)) - {"counter"}
    assert {"tcp", "udp"} < named <= own
