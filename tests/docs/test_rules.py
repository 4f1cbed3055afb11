"""docs/how-it-works.md has the rules of input and judge in the order in which the kernel asks."""

import re
from pathlib import Path

import pytest

from neti.config import load
from neti.ruleset.policy import structure
from neti.ruleset.surroundings import Surroundings

PAGE = (Path(__file__).parents[2] / "docs/how-it-works.md").read_text()
CONFIG = """
zk_hosts: {ec2: ["10.0.0.9:2181"]}
site: ec2
ssh_whitelist: [203.0.113.0/24]
trusted: [172.16.0.0/12]
open_ports: [80]
"""
# What a rule has in it -> what the page's row begins with. Rules that only count or clamp: "".
INPUT = {
    'iif "lo"': "loopback",
    "jump clamp": "",
    "jump first_asked": "",
    "tcp dport 22 ip saddr": "SSH from",
    "saddr @peers": "peers",
    "nd-router-solicit": "IPv6 neighbour discovery",
    "mld-listener-query": "IPv6 multicast listener",
    "ip protocol igmp": "IGMP",
    "udp dport 68": "DHCP",
    "udp dport 546": "DHCP",
    "meta iifkind": "this machine's own containers",
    "172.16.0.0/12": "`trusted`",
    "saddr @revoked": "*sources just removed*",
    "ct state established": "established",
    "goto judge": "everything else",
}
JUDGE = {
    "jump opened": "`open_ports`",
    "goto verdict": "",
    "icmp type": "ICMP",
    "icmpv6 type": "ICMP",
    "@grace": "grace",
    "jump record": "a record",
    "vmap @enforce": "the verdict",
}


def _rows(after: str) -> list[str]:
    """The second cell of each row of the first table behind these words."""
    table = PAGE[PAGE.index(after) :].split("\n\n", 2)[1]
    return [row.split("|")[2].strip() for row in table.splitlines()[2:]]


def _named(rules: tuple[str, ...], words: dict[str, str]) -> list[str]:
    """The page's words for these rules, each once where several rules have the same."""
    found: list[str] = []
    for rule in rules:
        matching = [said for part, said in words.items() if part in rule]
        assert len(matching) == 1, rule
        if matching[0] and matching[0] not in found[-1:]:
            found.append(matching[0])
    return found


@pytest.mark.parametrize(
    ("after", "chains", "words"),
    [
        ("asks, in this order:", ("input",), INPUT),
        ("`judge` has the last word:", ("judge", "verdict"), JUDGE),
    ],
)
def test_the_page_has_the_rules_in_their_order(
    after: str, chains: tuple[str, ...], words: dict[str, str], tmp_path: Path
) -> None:
    """No rule is left out, none is on the page alone, and none stands elsewhere."""
    config = tmp_path / "neti.yml"
    config.write_text(CONFIG)
    around = Surroundings(uplinks=("eth0",), ssh_untracked=True, site="ec2")
    held = {chain.name: chain.rules for chain in structure(load(config), around).chains}
    said = _named(tuple(rule for name in chains for rule in held[name]), words)
    rows = _rows(after)
    assert len(rows) == len(said)
    assert all(row.startswith(begins) for row, begins in zip(rows, said, strict=True)), rows


def test_the_rows_are_numbered() -> None:
    """So that the text can speak of a step by its number."""
    numbers = re.findall(r"^\| (\d+) \| ", PAGE, re.MULTILINE)
    assert numbers == [str(n) for n in (*range(1, 13), *range(1, 6))]
