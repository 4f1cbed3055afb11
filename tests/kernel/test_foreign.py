"""Other programs' tables on a real kernel: what is found is what packets meet; the advice helps."""

import subprocess
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

import pytest
from tests.support import netns
from tests.support.netns import Net, Server, reaches

from neti.dataplane.foreign import Dropping, Extent, legacy, sentences
from neti.dataplane.foreign.look import ForeignTables
from neti.dataplane.foreign.nft import BaseChain
from neti.dataplane.foreign.read import RulesReader

pytestmark = pytest.mark.kernel

PORT = 7000


@pytest.fixture
def looking(net: Net) -> ForeignTables:
    Server(net, net.host, PORT)
    return net.inside(net.host, lambda: ForeignTables(clock=lambda: 0.0))


def run(net: Net, *words: str, text: str | None = None) -> None:
    done = subprocess.run(
        ["ip", "netns", "exec", net.host, *words],
        input=text,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def reached(net: Net) -> bool:
    try:
        return reaches(net, net.outside, netns.PRIVATE, PORT, netns.PEER)
    except ConnectionError:  # rejected
        return False


def follow(net: Net, dropping: Dropping) -> None:
    """Type the advice, as the sentence has it."""
    run(net, "sh", "-euc", dropping.advice.replace("SOURCES", f"{netns.PEER},{netns.PEER_MOVED}"))


POLICY_DROP = """
table ip fw {
  chain in {
    type filter hook input priority 0; policy drop;
  }
}
"""
# What it is: rules, what is found, whether a member gets in.
CASES: dict[str, tuple[str, Extent | None, bool]] = {
    "policy": (POLICY_DROP, "all", False),
    "name with a dash and a dot": (POLICY_DROP.replace(" fw ", " my-fw.1 "), "all", False),
    "dormant": (POLICY_DROP.replace("{\n", "{\n  flags dormant\n", 1), None, True),
    "a host's usual rules": (
        """
table inet fw {
  chain in {
    type filter hook input priority 0; policy drop;
    ct state vmap { established : accept, related : accept, invalid : drop }
    iifname "lo" accept
    meta l4proto { icmp, ipv6-icmp } accept
    ct state new tcp dport { 22, 80-90 } accept
    ip protocol icmp icmp type echo-request limit rate 5/second accept
  }
}
""",
        "all",
        False,
    ),
    "final reject": (
        """
table inet fw {
  chain in {
    type filter hook input priority 0; policy accept;
    ct state established accept
    counter log prefix "accept" reject
  }
}
""",
        "all",
        False,
    ),
    "goto a chain": (
        """
table ip fw {
  chain sub {
    tcp dport 7000 drop
  }
  chain in {
    type filter hook input priority 0; policy accept;
    meta l4proto tcp goto sub
  }
}
""",
        "some",
        False,
    ),
    "verdict map": (
        """
table ip fw {
  chain in {
    type filter hook input priority 0; policy accept;
    tcp dport vmap { 7000 : drop }
  }
}
""",
        "some",
        False,
    ),
    "named verdict map": (
        """
table ip fw {
  map m {
    type inet_service : verdict
    elements = { 7000 : drop }
  }
  chain in {
    type filter hook input priority 0; policy accept;
    tcp dport vmap @m
  }
}
""",
        "some",
        False,
    ),
    "raw prerouting": (
        """
table ip fw {
  chain pre {
    type filter hook prerouting priority raw; policy accept;
    ip saddr 10.0.0.9 drop
  }
}
""",
        "some",
        False,
    ),
    "ingress": (
        """
table netdev fw {
  chain in {
    type filter hook ingress device eth0 priority 0; policy accept;
    ip protocol tcp drop
  }
}
""",
        "some",
        False,
    ),
    "others are dropped": (
        """
table ip fw {
  chain in {
    type filter hook input priority 0; policy accept;
    ip saddr 10.0.0.66 drop
  }
}
""",
        "some",
        True,
    ),
    "a drop that is not reached": (
        """
table ip fw {
  chain unused {
    drop
  }
  chain in {
    type filter hook input priority 0; policy accept;
    accept
  }
}
""",
        None,
        True,
    ),
    "output only": (
        """
table ip fw {
  chain out {
    type filter hook output priority 0; policy accept;
    tcp dport 9 drop
  }
}
""",
        None,
        True,
    ),
}


@pytest.mark.parametrize(("rules", "extent", "gets_in"), CASES.values(), ids=CASES.keys())
def test_found_as_packets_meet_it(
    net: Net, looking: ForeignTables, rules: str, extent: Extent | None, gets_in: bool
) -> None:
    """The extent is right, a member's connection fares so, and the line to add lets it in."""
    assert reached(net)
    run(net, "nft", "-f", "-", text=rules)
    found = looking.look()
    assert [one.extent for one in found] == ([extent] if extent else [])
    assert reached(net) is gets_in
    surely = [one.surely_drops_members(PORT) for one in found]
    assert surely == [one == "all" for one in [extent] if one]
    for dropping in found:
        follow(net, dropping)
        assert reached(net)
    assert not any(one.surely_drops_members(PORT) for one in looking.look())


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
@pytest.mark.parametrize(
    ("words", "extent"),
    [
        ("-P INPUT DROP", "all"),
        ("-A INPUT -m comment --comment last -j REJECT", "all"),
        ("-A INPUT -p tcp -m multiport --dports 1,7000 -j DROP", "some"),
    ],
    ids=["policy", "reject", "some"],
)
def test_found_in_iptables(
    net: Net, looking: ForeignTables, program: str, words: str, extent: Extent
) -> None:
    """Both iptables: nft's, whose tables nft lists, and the old one, which its program shows."""
    run(net, program, *words.split())
    found = net.inside(net.host, looking.look)
    assert [(one.chain, one.hook, one.extent) for one in found] == [("INPUT", "input", extent)]
    assert found[0].advice.startswith(program.replace("-nft", ""))
    assert not reached(net)
    follow(net, found[0])
    assert reached(net)
    assert looking.untold == ()


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
:users - [0:0]
:gone - [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -m comment --comment "never -j ACCEPT this" -j users
-A FORWARD -s 10.0.0.0/8 -j ACCEPT
-A users -i lo -g gone
-A users -j LOG --log-prefix "dropping -j DROP "
-A gone -p tcp -m comment --comment "no target"
-A gone -j DROP
-A users -m comment --comment last -j REJECT --reject-with icmp-port-unreachable
COMMIT
"""


@pytest.mark.parametrize("program", ["iptables-legacy", "ip6tables-legacy"])
def test_legacy_tables(net: Net, looking: ForeignTables, program: str) -> None:
    """Policies, chains and comments that look like rules, in both families; nat and output are no
    matter."""
    text = SAVED
    if program.startswith("ip6"):
        text = text.replace("172.17.0.2/32", "fd00::2").replace("10.0.0.0/8", "fd00::/8")
        text = text.replace("icmp-port", "icmp6-port")
    run(net, f"{program}-restore", text=text)
    found = {(one.table, one.chain): one for one in net.inside(net.host, looking.look)}
    assert {place: one.extent for place, one in found.items()} == {
        (f"{program} table raw", "PREROUTING"): "some",
        (f"{program} table filter", "INPUT"): "all",
        (f"{program} table filter", "FORWARD"): "all",
    }
    advice = found[f"{program} table filter", "INPUT"].advice
    assert advice == f"{program} -t filter -I INPUT -s SOURCES -j ACCEPT"
    assert looking.untold == ()


def test_legacy_rules_one_by_one(net: Net) -> None:
    """Each as iptables-legacy prints it: jump, goto, a rule without a target, a match of a comment
    alone, an unknown target."""
    run(net, "iptables-legacy-restore", text=SAVED)
    tables, untold = net.inside(net.host, legacy.read)
    assert untold == ()
    chains = {table.name: table.chains for table in tables}
    assert chains.keys() == {"raw", "filter"}
    shown = {
        name: [(*rule.verdicts[0], rule.always) for rule in chain.rules]
        for name, chain in chains["filter"].items()
    }
    assert shown == {
        "INPUT": [("accept", "", False), ("jump", "users", True)],
        "FORWARD": [("accept", "", False)],
        "OUTPUT": [],
        "users": [("goto", "gone", False), ("drop", "", True), ("return", "", True)],
        "gone": [("drop", "", True), ("return", "", True)],
    }
    drops = {name: chain.drops for name, chain in chains["filter"].items() if chain.drops}
    assert drops == {"FORWARD": True}


def test_ours_is_not_a_foreign_table(net: Net, looking: ForeignTables) -> None:
    """Whatever our own table holds."""
    run(net, "nft", "-f", "-", text=POLICY_DROP.replace("ip fw", "inet neti"))
    assert looking.look() == ()


def test_the_same_generation_is_not_read_again(net: Net) -> None:
    """And another is: the kernel numbers its rulesets."""

    class Counting(RulesReader):
        looks = 0

        def base_chains(self, *, ours: bool = False) -> list[BaseChain]:
            self.looks += 1
            return super().base_chains(ours=ours)

    reader = net.inside(net.host, Counting)
    looking = net.inside(net.host, lambda: ForeignTables(reader, clock=lambda: 0.0))
    run(net, "nft", "-f", "-", text=POLICY_DROP)
    first, looks = looking.look(), reader.looks
    assert looking.look() == first
    assert reader.looks == looks
    run(net, "nft", "delete table ip fw")
    assert looking.look() == ()
    assert reader.looks > looks


def test_of_ten_thousand_rules_of_kubernetes_half_are_never_read(net: Net) -> None:
    """kube-proxy's NAT rules; those of a filter table of that size are read once in a look."""

    class Counting(RulesReader):
        rules: ClassVar[Counter[bytes]] = Counter()

        def _rules(self, head: bytes, table: bytes, chain: bytes) -> Iterator[bytes]:
            for rule in super()._rules(head, table, chain):
                self.rules[table] += 1
                yield rule

    services = [
        f"-A SVC -d 10.96.{n >> 8}.{n & 255}/32 -p tcp --dport 80 -j SEP" for n in range(5000)
    ]
    filters = [
        f"-A POL -s 10.1.{n >> 8}.{n & 255}/32 -p tcp --dport 80 -j ACCEPT" for n in range(5000)
    ]
    text = "\n".join(
        [
            *("*nat", ":PREROUTING ACCEPT [0:0]", ":SVC - [0:0]", ":SEP - [0:0]"),
            *("-A PREROUTING -j SVC", *services, "COMMIT"),
            *("*filter", ":INPUT ACCEPT [0:0]", ":POL - [0:0]", "-A INPUT -j POL"),
            *("-A POL -m mark --mark 0x8000/0x8000 -j DROP", "COMMIT", ""),
        ]
    )
    run(net, "iptables-nft-restore", text=text)
    reader = net.inside(net.host, Counting)
    looking = net.inside(net.host, lambda: ForeignTables(reader, clock=lambda: 0.0))
    assert [one.extent for one in looking.look()] == ["some"]
    assert reader.rules == {b"filter\0": 2}
    run(net, "iptables-nft-restore", "-n", text="\n".join(["*filter", *filters, "COMMIT", ""]))
    reader.rules.clear()
    assert [one.extent for one in looking.look()] == ["some"]
    assert reader.rules == {b"filter\0": 5002}


def test_what_takes_long_is_rarely_done(net: Net) -> None:
    """After a look of a second, none for five minutes, whatever changes."""
    times = iter([0.0, 1.0, 299.0, 301.0, 301.0])
    looking = net.inside(net.host, lambda: ForeignTables(clock=lambda: next(times)))
    assert looking.look() == ()
    run(net, "nft", "-f", "-", text=POLICY_DROP)
    assert looking.look() == ()
    assert len(looking.look()) == 1
    (sentence,) = sentences(looking._found, ())
    assert sentence.startswith("table ip fw (chain in at input) drops everything")
