"""Other programs' tables: what the walk finds, what the parsers read, what the sentences say."""

import itertools
import struct
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.agents import FakeMachine
from tests.support.compiled_rules import CompiledRules

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
from neti.dataplane.foreign import nft as parser
from neti.dataplane.foreign.nft import BaseChain, base_chain
from neti.dataplane.netlink import attribute, nested
from neti.dataplane.nf_tables import RULE_EXPRESSIONS
from neti.errors import DataplaneError
from neti.model import Encrypt, Host, Site
from neti.model.problems import Problems
from neti.model.settings import Settings

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


# --- nftables' rules, as the kernel would list them ---


def base(policy: str, *rules: str) -> Table:
    """A table of kind ip with these rules at the input hook, and a chain that drops."""
    chain = f"type filter hook input priority 0; policy {policy};"
    lines = [
        "table ip t {",
        "chain sub { drop; }",
        *NAMED,
        f"chain IN {{ {chain}",
        *rules,
        "}",
        "}",
    ]
    held = {"m": [(b"\0\5", verdict(1), 0), (b"\0\6", verdict(0), 0)], "empty": []}
    return CompiledRules("\n".join(lines) + "\n", held).only_table()


NAMED = ("map m { type inet_service : verdict; }", "map empty { type inet_service : verdict; }",
         "set open { type inet_service; }", "counter c { }")  # fmt: skip
TCP = "meta l4proto tcp"
FROM = "ip saddr 1.2.3.4"


def verdict(code: int) -> bytes:
    return nested(2, attribute(1, struct.pack(">i", code)))


@pytest.mark.parametrize(
    ("policy", "rules", "expected"),
    [
        ("accept", [], None),
        ("drop", [], "all"),
        ("drop", ["accept"], None),
        ("drop", [f"{FROM} accept"], "all"),
        ("accept", [f"{FROM} drop"], "some"),
        ("accept", ['counter log prefix "drop" drop'], "all"),
        ("accept", ['counter name "c" meta mark set 5 drop'], "all"),
        ("accept", ["counter reject with icmp admin-prohibited"], "all"),
        ("accept", [f"{FROM} reject"], "some"),
        ("accept", [f"{FROM} jump sub"], "some"),
        ("accept", ["jump sub"], "all"),
        ("accept", ["goto sub"], "all"),
        ("accept", [f"{FROM} return", "drop"], "some"),
        ("accept", ["limit rate 5/second drop"], "some"),
        ("accept", ["notrack", "accept", "drop"], None),
        ("accept", ["tcp dport vmap { 22 : accept }"], None),
        ("accept", ["tcp dport vmap { 22 : drop }"], "some"),
        ("accept", ["tcp dport vmap { 22 : jump sub }"], "some"),
        ("accept", ["tcp dport vmap @m"], "some"),
        ("accept", ["tcp dport vmap @empty"], None),
        ("accept", ["tcp dport @open drop"], "some"),
    ],
)
def test_extents(policy: str, rules: list[str], expected: Extent | None) -> None:
    """Policy, verdicts, jumps and verdict maps, with and without conditions."""
    found = droppings(base(policy, *rules))
    assert (found[0].extent if found else None) == expected


def expression(kind: str, *parts: bytes) -> bytes:
    return nested(1, attribute(1, kind.encode() + b"\0"), nested(2, *parts))


def xt(kind: str, what: str) -> bytes:
    return expression(kind, attribute(1, what.encode() + b"\0"))


COMMENT, LOG, REJECT = xt("match", "comment"), xt("target", "LOG"), xt("target", "REJECT")
DROP = expression("immediate", attribute(1, b"\0\0\0\0"), nested(2, verdict(0)))


@pytest.mark.parametrize(
    ("expressions", "expected"),
    [
        ((COMMENT, REJECT), Rule((("drop", ""),), always=True)),
        ((xt("match", "statistic"), DROP), Rule((("drop", ""),), always=False)),
        ((xt("match", "conntrack"), DROP), Rule((("drop", ""),), always=False)),
        ((LOG, DROP), Rule((("drop", ""),), always=True)),
        ((LOG,), None),
        ((expression("of a later kernel"), DROP), Rule((("drop", ""),), always=False)),
        ((expression("cmp"), expression("lookup"), DROP), Rule((("drop", ""),), always=False)),
        ((b"\xff\xff\x00\x00junk", DROP), None),
        ((), None),
    ],
)
def test_iptables_own_expressions_and_unknown_ones(
    expressions: tuple[bytes, ...], expected: Rule | None
) -> None:
    """A comment and a target go on to the next; all else is a condition, whatever it is."""
    held = {RULE_EXPRESSIONS: b"".join(expressions)}
    assert parser.rule(held, lambda _: None, lambda name: name.decode()) == expected


@given(st.binary(max_size=200))
def test_no_rule_can_do_harm(junk: bytes) -> None:
    """Whatever bytes stand where a rule's expressions should."""
    for kind in ("cmp", "lookup", "bitwise", "immediate", "meta", "ct", "payload", "range"):
        name = attribute(1, kind.encode())
        held = {RULE_EXPRESSIONS: nested(1, name, nested(2, junk)) + junk}
        parser.rule(held, lambda _: [(junk, junk, 0)], repr)


def chain(family: int, kind: str, hook: int, policy: int = 1) -> BaseChain | None:
    hooked = attribute(1, struct.pack(">I", hook)) + attribute(2, bytes(4))
    held = {1: b"t\0", 3: b"c\0", 4: hooked, 5: struct.pack(">I", policy), 7: kind.encode() + b"\0"}
    return base_chain(family, held)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (chain(2, "nat", 0), False),
        (chain(2, "nat", 0, policy=0), True),
        (chain(2, "filter", 3, policy=0), False),
        (chain(5, "filter", 0), True),
        (chain(2, "filter", 1), True),
        (chain(1, "filter", 2), True),
        (chain(1, "filter", 5), True),
        (chain(1, "filter", 99), False),
    ],
)
def test_only_chains_that_can_drop_what_comes_in_are_read(
    found: BaseChain | None, expected: bool
) -> None:
    """NAT and output are left out; a NAT chain with policy drop is not."""
    assert found is not None
    assert found.may_drop_incoming is expected


def test_other_families_and_plain_chains_do_not_matter() -> None:
    assert chain(3, "filter", 1) is None  # arp
    assert base_chain(2, {1: b"t\0", 3: b"c\0"}) is None


ESTABLISHED = "ct state established,related counter accept"
LO = 'iifname "lo" accept'


@pytest.mark.parametrize(
    ("rules", "lets_in"),
    [
        ([], ()),
        ([ESTABLISHED, LO, 'iif "lo" accept'], ()),
        (["ct state vmap { established : accept, related : accept, invalid : drop }"], ()),
        (["meta l4proto { icmp, ipv6-icmp } accept"], ()),
        (["icmp type echo-request accept"], ()),
        (["ip protocol icmp accept"], ()),
        (["ct state related,established accept", "ct state established accept"], ()),
        (["ct state { established, related } accept"], ()),
        (["ct state new tcp dport 22 accept"], ((22, 22),)),
        (["tcp dport { 22, 80-90 } accept"], ((22, 22), (80, 90))),
        (["tcp dport 80-90 accept"], ((80, 90),)),
        (["tcp dport >= 80 tcp dport < 90 accept"], ((80, 89),)),
        (["tcp dport 22 jump sub"], ()),
        ([f"{FROM} drop"], ()),
        ([f"{FROM} icmp type echo-request accept"], ()),
        # Who sent it is asked, nothing is asked, or it is not understood: perhaps members.
        ([f"{FROM} accept"], None),
        ([f"{FROM} tcp dport 22 accept"], None),
        (["ct state new accept"], None),
        (["ct state established,new accept"], None),
        ([f"{TCP} accept"], None),
        (['iifname "eth1" accept'], None),
        (['iifname "lo*" accept'], None),
        (["tcp dport @open accept"], None),
        (["tcp dport != 22 accept"], None),
        (["tcp dport != { 22, 23 } accept"], None),
        (["ct state != invalid accept"], None),
        (["meta mark 5 accept"], None),
        (["ip daddr . tcp dport { 1.2.3.4 . 22 } accept"], None),
        (["tcp dport vmap { 22 : accept }"], None),
        ([f"{FROM} return"], None),
    ],
)  # fmt: skip
def test_what_gets_by_a_table_that_drops_all(
    rules: list[str], lets_in: tuple[tuple[int, int], ...] | None
) -> None:
    (found,) = droppings(base("drop", *rules))
    assert (found.extent, found.lets_in) == ("all", lets_in)


# --- iptables-legacy ---


def test_legacy_that_cannot_be_read_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Tables are said to be there, and the kernel does not know them: one that is gone by now."""
    names = tmp_path / "names"
    names.write_text("gone\nfilter\n")
    layout = replace(legacy._LAYOUTS[0], names=names)
    monkeypatch.setattr(legacy, "_LAYOUTS", (layout, replace(layout, names=tmp_path / "absent")))
    tables, untold = legacy.read()
    assert tables == ()
    assert len(untold) == 1
    assert "(filter, gone)" in untold[0]
    assert "it is not known whether they drop" in untold[0]


@pytest.mark.parametrize(
    ("modules", "program", "may_be"),
    [
        (("ip_tables", "iptable_filter"), False, True),
        (("ip6_tables", "ip6table_raw"), True, True),
        (("ip_tables", "ip6_tables"), True, False),
        ((), True, True),
        ((), False, False),
    ],
)
def test_an_agent_that_is_not_root_takes_it_that_legacy_may_be_used(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    modules: tuple[str, ...],
    program: bool,
    may_be: bool,
) -> None:
    """By its modules, or by the program where the kernel has them built in: otherwise SSH would be
    kept out of tracking, and their rules by state would lock it out."""

    def refused(*_args: object) -> str:
        raise PermissionError

    for module in modules:
        (tmp_path / module).mkdir()
    monkeypatch.setattr(legacy, "_MODULES", tmp_path)
    monkeypatch.setattr("shutil.which", lambda *_args, **_more: "/it" if program else None)
    monkeypatch.setattr(Path, "read_text", refused)
    tables, untold = legacy.read()
    assert tables == ()
    assert legacy.in_use() == may_be == bool(untold)
    assert all("only root can read" in sentence for sentence in untold)


# --- sentences ---

_FIREWALL_CMD = "firewall-cmd --permanent --zone=trusted"
_CSCLI = (
    "cscli decisions delete --ip ADDRESS (the member's), and a whitelist of SOURCES, so that it "
    "stays away"
)


@pytest.mark.parametrize(
    ("family", "name", "chains", "advice"),
    [
        ("inet", "fw", ["in"], "nft insert rule inet fw in ip saddr '{ SOURCES }' accept"),
        ("ip6", "fw", ["in"], "nft insert rule ip6 fw in ip6 saddr '{ SOURCES }' accept"),
        ("ip", "filter", ["INPUT"], "iptables -t filter -I INPUT -s SOURCES -j ACCEPT"),
        ("ip6", "filter", ["INPUT"], "ip6tables -t filter -I INPUT -s SOURCES -j ACCEPT"),
        ("ip", "filter", ["INPUT", "ufw-before-input"], "ufw allow from SOURCES (one at a time)"),
        (
            *("inet", "firewalld", ["x"]),
            f"{_FIREWALL_CMD} --add-source=SOURCES (one at a time), then firewall-cmd --reload",
        ),
        (
            *("ip", "crowdsec", ["crowdsec-chain"]),
            _CSCLI,
        ),
    ],
)
def test_the_line_to_add_is_its_keepers_own(
    family: str, name: str, chains: list[str], advice: str
) -> None:
    """nft's, iptables', ufw's, firewalld's and CrowdSec's."""
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
    # By IPv6 too, and out of the tunnel they come from overlay addresses.
    site = replace(site, ipv6=(IPv6Network("2001:db8::/56"),), encrypt=Encrypt.PREFER)
    machine.dropping += (Dropping("table ip6 fw", "in", "input", "all", 6, "let SOURCES in"),)
    network.look(replace(settings, sites={"ec2": site}), host)
    assert [words.rpartition(": ")[2] for words in network.drops] == [
        "let 10.0.0.0/16,192.168.0.0/18 in",
        "let 2001:db8::/56 in",
    ]
    machine.dropping = ()
    network.look(settings, host)
    assert network.drops == ()
    refused = HostNetwork(Refusing(private), problems)
    assert refused.look(settings, host).uplinks == ("eth0",)
    assert "No buffer space" in problems.sentence("tables")


@pytest.mark.parametrize(
    ("table", "line"),
    [
        (
            Table("ip", "filter", "nft", {"FORWARD": Chain("FORWARD", "forward", True)}),
            (
                "iptables -t filter -I FORWARD -p udp --sport 16384:32767 -m conntrack "
                "--ctstate UNTRACKED -j ACCEPT"
            ),
        ),
        (
            Table(
                "ip", "filter", "iptables-legacy", {"FORWARD": Chain("FORWARD", "forward", True)}
            ),
            (
                "iptables-legacy -t filter -I FORWARD -p udp --sport 16384:32767 -m conntrack "
                "--ctstate UNTRACKED -j ACCEPT"
            ),
        ),
        (
            Table("inet", "fw", "nft", {"pass": Chain("pass", "forward", True)}),
            (
                "nft insert rule inet fw pass meta nfproto ipv4 ct state untracked udp sport "
                "16384-32767 accept"
            ),
        ),
        (
            Table(
                *("ip", "filter", "nft"),
                {
                    "FORWARD": Chain("FORWARD", "forward", True),
                    "ufw-before-forward": Chain("ufw-before-forward"),
                },
            ),
            "ufw route allow proto udp from any port 16384:32767",
        ),
        (
            Table("inet", "firewalld", "nft", {"f": Chain("f", "forward", True)}),
            (
                "firewall-cmd --permanent --zone=ZONE --add-interface=UPLINK; "
                "firewall-cmd --permanent --zone=ZONE --add-forward; "
                "firewall-cmd --reload (ZONE: the uplink's)"
            ),
        ),
        (
            Table("inet", "f;id", "nft", {"f": Chain("f", "forward", True)}),
            (
                "a rule 'meta nfproto ipv4 ct state untracked udp sport 16384-32767 accept' (no "
                "command: its names are no plain words)"
            ),
        ),
        (Table("ip6", "filter", "nft", {"FORWARD": Chain("FORWARD", "forward", True)}), ""),
        (Table("ip", "filter", "nft", {"INPUT": Chain("INPUT", "input", True)}), ""),
    ],
)
def test_what_lets_through_what_a_gateway_passes_on(table: Table, line: str) -> None:
    """Only IPv4 is passed on, and only at forward."""
    assert [one.relaying for one in droppings(table)] == [line]


@pytest.mark.parametrize("family", ["inet", "ip"])
@pytest.mark.parametrize(
    ("table", "chain"),
    [("f$(id>&2);reboot #", "in"), ("filter", "a b`id`"), ("f;reboot", "INPUT"), ("-f", "in")],
)
def test_a_name_that_a_shell_would_act_on_stands_in_no_command(
    family: str, table: str, chain: str
) -> None:
    """A container with the host's network can make such a table; the line is there to be pasted."""
    held = {chain: Chain(chain, "input", True, [])}
    (found,) = droppings(Table(family, table, "nft", held))
    assert table not in found.advice or table == "filter"
    assert "`" not in found.advice
    assert "$" not in found.advice
    assert ";" not in found.advice
    assert found.advice.startswith("a rule that accepts SOURCES")
