"""Other programs' tables: what the walk finds, what the parsers read, what the sentences say."""

import itertools
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, ip_network
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.agents import FakeMachine

from neti.agent.host_network import HostNetwork
from neti.dataplane.foreign import (
    Chain,
    Dropping,
    Extent,
    Rule,
    Table,
    Verdict,
    droppings,
    legacy,
    sentences,
)
from neti.dataplane.foreign.nft import may_be_dormant, parse, tables_to_read
from neti.errors import DataplaneError
from neti.model import Host, Site
from neti.problems import Problems
from neti.settings import Settings

# --- the walk, held against packets ---


def packet(chains: dict[str, Chain], base: str, matches: dict[int, int]) -> str:
    """What becomes of one packet: "accepted" by a rule, "dropped", or "passed" for want of a rule.

    ``matches``: which verdict of a rule it meets, by the rule's identity; absent: none.
    """
    verdict = _walk(chains, base, matches)
    if verdict == "out":
        return "dropped" if chains[base].drops else "passed"
    return verdict


def _walk(chains: dict[str, Chain], name: str, matches: dict[int, int]) -> str:
    for rule in chains[name].rules:
        number = 0 if rule.always else matches.get(id(rule))
        if number is None:
            continue
        verdict, target = rule.verdicts[number]
        match verdict:
            case "drop":
                return "dropped"
            case "accept":
                return "accepted"
            case "return":
                return "out"
            case "goto":
                return _walk(chains, target, matches)
            case "jump":
                inner = _walk(chains, target, matches)
                if inner != "out":
                    return inner
    return "out"


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Three chains, each of which leads to later ones only, as the kernel has it."""
    names = ["base", "b", "c"]
    chains = {}
    for place, name in enumerate(names):
        later = names[place + 1 :]
        plain: list[tuple[Verdict, str]] = [("accept", ""), ("drop", ""), ("return", "")]
        leading: list[tuple[Verdict, str]] = [
            (word, to) for word in ("jump", "goto") for to in later
        ]
        verdict = st.sampled_from(plain + leading)
        always = st.builds(Rule, st.tuples(verdict), st.just(True))
        maybe = st.builds(
            Rule, st.lists(verdict, min_size=1, max_size=2).map(tuple), st.just(False)
        )
        rules = draw(st.lists(st.one_of(always, maybe), max_size=3))
        # Equal rules are different rules: their identity tells which one a packet meets.
        rules = [Rule(rule.verdicts, rule.always) for rule in rules]
        chains[name] = Chain(name, rules=rules)
    chains["base"].hook, chains["base"].drops = "input", draw(st.booleans())
    return Table("inet", "t", "nft", chains)


@given(tables())
def test_the_walk_is_right_about_every_packet(table: Table) -> None:
    """ "Nothing drops": no packet is dropped. "All": none gets by for want of a rule. "Some": one
    is not dropped."""
    chains = dict(table.chains)
    rules = [rule for chain in chains.values() for rule in chain.rules if not rule.always]
    choices = [[None, *range(len(rule.verdicts))] for rule in rules]
    ends = {
        packet(
            chains, "base", {id(r): n for r, n in zip(rules, chosen, strict=True) if n is not None}
        )
        for chosen in itertools.product(*choices)
    }
    found = droppings(table)
    extent = found[0].extent if found else None
    if extent is None:
        assert "dropped" not in ends
    elif extent == "all":
        assert "passed" not in ends
    else:
        assert ends != {"dropped"}


def test_a_jump_in_a_circle_ends() -> None:
    """The kernel refuses it, but what is read while it changes may look so."""
    jump = Rule((("jump", "a"),), always=True)
    assert droppings(Table("ip", "t", "nft", {"a": Chain("a", "input", False, [jump])})) == ()


# --- nftables' JSON, as 1.0.6 prints it ---

MATCH = {
    "match": {
        "op": "==",
        "left": {"payload": {"protocol": "ip", "field": "saddr"}},
        "right": "1.2.3.4",
    }
}
COUNTER = {"counter": {"packets": 0, "bytes": 0}}
COMMENT = {"xt": {"type": "match", "name": "comment"}}


def base(policy: str, *rules: list[Any], hook: str = "input") -> list[dict[str, Any]]:
    chain = {"family": "ip", "table": "t", "name": "IN", "type": "filter", "hook": hook}
    items: list[dict[str, Any]] = [
        {"metainfo": {"version": "1.0.6"}},
        {"table": {"family": "ip", "name": "t", "handle": 1}},
        {"chain": {**chain, "prio": 0, "policy": policy}},
        {"chain": {"family": "ip", "table": "t", "name": "sub", "handle": 2}},
    ]
    items += [
        {"rule": {"family": "ip", "table": "t", "chain": "IN", "handle": n, "expr": expr}}
        for n, expr in enumerate(rules, 3)
    ]
    drop = {"family": "ip", "table": "t", "chain": "sub", "handle": 99, "expr": [{"drop": None}]}
    return [*items, {"rule": drop}]


def extent(
    listed: list[dict[str, Any]], elements: Callable[[str], list[Any]] = lambda _: []
) -> Extent | None:
    found = droppings(parse("ip", "t", listed, elements))
    return found[0].extent if found else None


@pytest.mark.parametrize(
    ("policy", "rules", "expected"),
    [
        ("accept", [], None),
        ("drop", [], "all"),
        ("drop", [[{"accept": None}]], None),
        ("drop", [[MATCH, {"accept": None}]], "all"),
        ("accept", [[MATCH, {"drop": None}]], "some"),
        ("accept", [[COUNTER, {"log": {"prefix": "drop"}}, {"drop": None}]], "all"),
        ("accept", [[COUNTER, {"reject": {"type": "icmpx", "expr": "admin-prohibited"}}]], "all"),
        ("accept", [[MATCH, {"reject": None}]], "some"),
        ("accept", [[COMMENT, COUNTER, {"xt": {"type": "target", "name": "REJECT"}}]], "all"),
        ("accept", [[{"xt": {"type": "match", "name": "statistic"}}, {"drop": None}]], "some"),
        ("accept", [[{"xt": {"type": "target", "name": "LOG"}}], [{"drop": None}]], "all"),
        ("accept", [[{"xt": None}, {"drop": None}]], "some"),
        ("accept", [[MATCH, {"jump": {"target": "sub"}}]], "some"),
        ("accept", [[{"jump": {"target": "sub"}}]], "all"),
        ("accept", [[{"goto": {"target": "sub"}}]], "all"),
        ("accept", [[MATCH, {"return": None}], [{"drop": None}]], "some"),
        ("accept", [[{"limit": {"rate": 5, "per": "second"}}, {"drop": None}]], "some"),
        ("accept", [["notrack"], [{"accept": None}], [{"drop": None}]], None),
        ("accept", [[{"vmap": {"key": {}, "data": {"set": [[22, {"accept": None}]]}}}]], None),
        ("accept", [[{"vmap": {"key": {}, "data": {"set": [[22, {"drop": None}]]}}}]], "some"),
        ("accept", [[{"vmap": {"data": {"set": [[1, {"jump": {"target": "sub"}}]]}}}]], "some"),
        ("accept", [[{"vmap": {"key": {}, "data": "@m"}}]], "some"),
        ("accept", [[{"vmap": {"key": {}, "data": "@empty"}}]], None),
    ],
)  # fmt: skip
def test_extents_from_json(policy: str, rules: list[list[Any]], expected: Extent | None) -> None:
    """Policy, verdicts, xt targets, jumps and verdict maps, with and without conditions."""
    held = {"m": [[5, {"accept": None}], [6, {"drop": None}]], "empty": []}
    assert extent(base(policy, *rules), lambda name: held[name]) == expected


def test_only_tables_that_can_drop_are_read() -> None:
    """Ours, NAT, output and other families' are left out; a NAT chain with policy drop is not."""

    def chain(
        family: str, table: str, kind: str, hook: str, policy: str = "accept"
    ) -> dict[str, Any]:
        named = {"family": family, "table": table, "name": "c", "type": kind, "hook": hook}
        return {"chain": {**named, "prio": 0, "policy": policy}}

    listed = [
        {"metainfo": {}},
        chain("inet", "neti", "filter", "input"),
        chain("ip", "nat", "nat", "prerouting"),
        chain("ip", "odd", "nat", "prerouting", "drop"),
        chain("ip", "out", "filter", "output", "drop"),
        chain("arp", "filter", "filter", "input", "drop"),
        chain("netdev", "early", "filter", "ingress"),
        chain("ip", "filter", "filter", "input"),
        chain("ip", "filter", "filter", "forward"),
        {"chain": {"family": "ip", "table": "plain", "name": "c", "handle": 1}},
    ]
    wanted = [("ip", "odd"), ("netdev", "early"), ("ip", "filter")]
    assert tables_to_read(listed) == wanted


def test_flags_are_noticed() -> None:
    """1.0.6 prints the library's release name where the table's flags belong."""
    assert may_be_dormant([{"table": {"family": "inet", "name": "t", "flags": "Lester Gooch #5"}}])
    assert not may_be_dormant([{"metainfo": {}}, {"table": {"family": "inet", "name": "t"}}])


def match(left: dict[str, Any], right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}


def dport(right: Any, protocol: str = "tcp") -> dict[str, Any]:
    return match({"payload": {"protocol": protocol, "field": "dport"}}, right)


ACCEPT: dict[str, Any] = {"accept": None}
STATE = {"ct": {"key": "state"}}
ESTABLISHED = match(STATE, ["established", "related"], "in")
LO = match({"meta": {"key": "iifname"}}, "lo")
STATES = {"set": [["established", ACCEPT], ["related", ACCEPT], ["invalid", {"drop": None}]]}


@pytest.mark.parametrize(
    ("rules", "lets_in"),
    [
        ([], ()),
        ([[ESTABLISHED, COUNTER, ACCEPT], [LO, ACCEPT]], ()),
        ([[{"vmap": {"key": STATE, "data": STATES}}]], ()),
        ([[match({"meta": {"key": "l4proto"}}, {"set": ["icmp", "ipv6-icmp"]}), ACCEPT]], ()),
        ([[match({"payload": {"protocol": "icmp", "field": "type"}}, "echo-request"), ACCEPT]], ()),
        ([[match(STATE, [2, 4], "in"), ACCEPT], [match(STATE, 2, "in"), ACCEPT]], ()),
        ([[match(STATE, 8, "in"), dport(22), ACCEPT]], ((22, 22),)),
        ([[dport({"set": [22, {"range": [80, 90]}]}), ACCEPT]], ((22, 22), (80, 90))),
        ([[dport(22), {"jump": {"target": "sub"}}]], ()),
        ([[MATCH, {"drop": None}]], ()),
        # Who sent it is asked, nothing is asked, or it is not understood: perhaps members.
        ([[MATCH, ACCEPT]], None),
        ([[MATCH, dport(22), ACCEPT]], None),
        ([[match(STATE, "new", "in"), ACCEPT]], None),
        ([[match(STATE, [2, 8], "in"), ACCEPT]], None),
        ([[match({"meta": {"key": "l4proto"}}, "tcp"), ACCEPT]], None),
        ([[match({"meta": {"key": "iifname"}}, "eth1"), ACCEPT]], None),
        ([[dport("@open"), ACCEPT]], None),
        ([[{"match": {"op": "!=", "left": STATE, "right": "invalid"}}, ACCEPT]], None),
        ([[{"xt": {"type": "match", "name": "conntrack"}}, ACCEPT]], None),
        ([[{"vmap": {"key": {}, "data": {"set": [[22, ACCEPT]]}}}]], None),
        ([[MATCH, {"return": None}]], None),
    ],
)  # fmt: skip
def test_what_gets_by_a_table_that_drops_all(
    rules: list[list[Any]], lets_in: tuple[tuple[int, int], ...] | None
) -> None:
    (found,) = droppings(parse("ip", "t", base("drop", *rules), lambda _: []))
    assert (found.extent, found.lets_in) == ("all", lets_in)


# --- iptables-legacy ---

SAVED = """\
# Generated by iptables-save v1.8.9
*nat
:PREROUTING DROP [0:0]
COMMIT
*raw
:PREROUTING ACCEPT [0:0]
-A PREROUTING -d 172.17.0.2/32 ! -i docker0 -j DROP
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT DROP [0:0]
:user - [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -m comment --comment "never -j ACCEPT this" -j user
-A FORWARD -s 10.0.0.0/8 -j ACCEPT
-A user -i lo -g gone
-A user -j LOG --log-prefix "dropping -j DROP "
-A user -m comment --comment last -j REJECT --reject-with icmp-port-unreachable
COMMIT
"""


def test_legacy_tables() -> None:
    """Policies, chains and comments that look like rules; nat and output are no matter."""
    found = {(one.table, one.chain): one for t in legacy.parse("ip", SAVED) for one in droppings(t)}
    assert {place: one.extent for place, one in found.items()} == {
        ("iptables-legacy table raw", "PREROUTING"): "some",
        ("iptables-legacy table filter", "INPUT"): "all",
        ("iptables-legacy table filter", "FORWARD"): "all",
    }
    advice = found["iptables-legacy table filter", "INPUT"].advice
    assert advice == "iptables-legacy -t filter -I INPUT -s SOURCES -j ACCEPT"


def test_legacy_that_cannot_be_read_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Tables are there and the program that shows them is not."""
    names = tmp_path / "names"
    names.write_text("filter\nmangle\n")
    programs = (("ip", "iptables-legacy-save", names), ("ip6", "none", tmp_path / "absent"))
    monkeypatch.setattr(legacy, "_PROGRAMS", programs)
    monkeypatch.setattr("shutil.which", lambda *_args, **_more: None)
    tables, untold = legacy.read()
    assert tables == ()
    assert len(untold) == 1
    assert "(filter, mangle)" in untold[0]
    assert "cannot be told" in untold[0]


# --- sentences ---

_FIREWALL_CMD = "firewall-cmd --permanent --zone=trusted"


@pytest.mark.parametrize(
    ("family", "name", "chains", "advice"),
    [
        ("inet", "fw", ["in"], "nft insert rule inet fw in ip saddr '{ SOURCES }' accept"),
        ("ip6", "fw", ["in"], "nft insert rule ip6 fw in ip6 saddr '{ SOURCES }' accept"),
        ("ip", "filter", ["INPUT"], "iptables -t filter -I INPUT -s SOURCES -j ACCEPT"),
        ("ip6", "filter", ["INPUT"], "ip6tables -t filter -I INPUT -s SOURCES -j ACCEPT"),
        ("ip", "filter", ["INPUT", "ufw-before-input"], "ufw allow from SOURCES (one at a time)"),
        ("inet", "firewalld", ["x"], f"{_FIREWALL_CMD} --add-source=SOURCES (one at a time)"),
    ],
)
def test_the_line_to_add_is_its_keepers_own(
    family: str, name: str, chains: list[str], advice: str
) -> None:
    """nft's, iptables', ufw's and firewalld's."""
    held = {chain: Chain(chain) for chain in chains}
    held[chains[0]].hook, held[chains[0]].drops = "input", True
    assert droppings(Table(family, name, "nft", held))[0].advice == advice


def test_one_sentence_a_table() -> None:
    """The worst chains are named, with the members' networks of that family in the command."""
    found = [
        Dropping("table inet fw", "in", "input", "all", 4, "nft … '{ SOURCES }' accept"),
        Dropping("table inet fw", "fwd", "forward", "all", 4, "nft fwd SOURCES"),
        Dropping("table inet fw", "pre", "prerouting", "some", 4, "nft pre SOURCES"),
        Dropping("table ip6 ban", "in", "input", "some", 6, "nft six SOURCES"),
    ]
    networks = (ip_network("10.0.0.0/8"), ip_network("192.0.2.0/24"))
    first, second = sentences(found, networks)
    assert first == (
        "table inet fw (chain in at input, chain fwd at forward) drops everything that no rule of "
        "its own accepts, members' packets too: let them through there as well (this opens whole "
        "ranges: who else is in them gets in too, unless Neti enforces): "
        "nft … '{ 10.0.0.0/8,192.0.2.0/24 }' accept"
    )
    assert "drops some packets" in second
    assert second.endswith("nft six IPV6-ADDRESSES-OF-MEMBERS")
    assert sentences([], networks) == ()
    (narrow,) = sentences(found[:1], [ip_network("10.0.0.9/32")])
    assert "whole ranges" not in narrow
    (forwarded,) = sentences(found[1:2], networks)
    assert "drops everything forwarded that no rule" in forwarded


# --- in the agent ---


@pytest.mark.parametrize(
    ("lets_in", "hook", "version", "problem"),
    [
        ((), "input", 4, True),
        (((22, 22), (7078, 7099)), "input", 4, True),
        (((7000, 7099),), "input", 4, False),
        (None, "input", 4, False),
        ((), "prerouting", 4, True),
        ((), "forward", 4, False),
        ((), "input", 6, False),
    ],
)
def test_a_table_that_surely_keeps_members_out_is_a_problem(
    lets_in: tuple[tuple[int, int], ...] | None, hook: str, version: Literal[4, 6], problem: bool
) -> None:
    """Where it perhaps lets them in, at verify_port at least, it is only noted."""
    private = IPv4Address("10.0.0.5")
    host = Host(id="a", site="ec2", private=private, public=None)
    problems = Problems()
    machine = FakeMachine(private)
    machine.dropping = (Dropping("table ip fw", "in", hook, "all", version, "add", lets_in),)
    network = HostNetwork(machine, problems)
    network.look(Settings(path=Path("neti.yml")), host)
    told = problems.sentence("tables_drop")
    assert ("table ip fw (chain in at" in told, len(network.drops)) == (problem, int(not problem))
    machine.dropping = ()
    network.look(Settings(path=Path("neti.yml")), host)
    assert (len(problems), network.drops) == (0, ())


class Refusing(FakeMachine):
    """Whose kernel does not let others' tables be read."""

    def foreign_drops(self) -> tuple[tuple[Dropping, ...], tuple[str, ...]]:
        raise DataplaneError("netlink: No buffer space available")


def test_the_agent_names_them_and_goes_on_without() -> None:
    """Each look names what is there now; a look that fails is a problem, and ours is looked at."""
    private = IPv4Address("10.0.0.5")
    host = Host(id="a", site="ec2", private=private, public=None)
    site = Site(name="ec2", private=(IPv4Network("10.0.0.0/16"),))
    settings = Settings(path=Path("neti.yml"), sites={"ec2": site})
    problems = Problems()
    machine = FakeMachine(private)
    machine.dropping = (Dropping("table inet fw", "in", "input", "all", 4, "let SOURCES in"),)
    network = HostNetwork(machine, problems)
    network.look(settings, host)
    assert [words.rpartition(": ")[2] for words in network.drops] == ["let 10.0.0.0/16 in"]
    machine.dropping = ()
    network.look(settings, host)
    assert network.drops == ()
    refused = HostNetwork(Refusing(private), problems)
    assert refused.look(settings, host).uplinks == ("eth0",)
    assert "No buffer space" in problems.sentence("tables")
