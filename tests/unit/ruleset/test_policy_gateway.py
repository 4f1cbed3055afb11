"""The rules of gateways, read as text: what a reviewer would look for. Packets try them in
tests/kernel/test_gateway.py."""

import re
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Final

import pytest

from neti.model.gateways import GatewayPorts
from neti.ruleset.policy_gateway import gateway_chains, gateway_sets, probes_sent
from neti.ruleset.surroundings import GatewayEnd

PORTS: Final = GatewayPorts(IPv4Network("192.168.0.0/18"), 51820)
BEHIND: Final = GatewayEnd(
    ports=PORTS, private=IPv4Address("10.0.0.11"), via=IPv4Address("10.0.0.2"), behind=True
)
OPEN: Final = GatewayEnd(
    ports=PORTS, private=IPv4Address("10.0.0.21"), via=IPv4Address("203.0.113.2")
)
GATEWAY: Final = replace(OPEN, private=IPv4Address("10.0.0.2"), uplinks=("eth0", "eth1"))
KINDS: Final = (BEHIND, OPEN, GATEWAY, replace(GATEWAY, via=None), replace(GATEWAY, uplinks=()))


def rules(end: GatewayEnd) -> dict[str, tuple[str, ...]]:
    return {chain.name: chain.rules for chain in gateway_chains(end)}


@pytest.mark.parametrize("end", KINDS)
def test_rules_use_the_sets_that_are_there_and_each_of_these(end: GatewayEnd) -> None:
    """And lead to chains that are."""
    text = "\n".join(rule for chain in rules(end).values() for rule in chain)
    there = {name.split()[1] for name, _ in gateway_sets(end)}
    used = set(re.findall(r"@(\w+)", text)) | set(re.findall(r'counter name "(\w+)"', text))
    assert used <= there
    # A gateway whose uplinks are not known yet has no chain that keeps others from passing.
    rest = {"relayed", "gateway_foreign"} if end.uplinks == () else set()
    assert used == there - rest or end.via is None
    assert set(re.findall(r"(?:goto|jump) (\w+)", text)) <= rules(end).keys()


def test_a_host_passes_nothing_on() -> None:
    for end in (BEHIND, OPEN):
        assert rules(end).keys() == {"gateway_in", "gateway_to", "gateway_probed"}
        text = str(rules(end))
        assert "accept" not in text
        assert "drop" not in text
        assert "notrack" not in text


def test_a_host_behind_sends_all_to_one_gateway_and_an_open_one_by_port() -> None:
    (behind,), (is_open,) = rules(BEHIND)["gateway_to"], rules(OPEN)["gateway_to"]
    assert behind == (
        "ip daddr 10.0.0.2 udp sport 51820 udp dport 16385-32767 "
        "ip daddr set ip protocol map @gateway_near"
    )
    assert is_open == (
        "ip daddr 203.0.113.2 udp sport 51820 udp dport 16385-32767 "
        "ip daddr set udp dport map @gateway_far"
    )


def test_whatever_is_let_through_was_named_by_a_map_and_is_not_tracked() -> None:
    made = rules(GATEWAY)
    accepting = [rule for chain in made.values() for rule in chain if rule.endswith("accept")]
    back = "udp dport 16384 udp sport set 16384 ip daddr set ip saddr "
    back += 'counter name "probes" udp dport set 51820 notrack accept'
    assert accepting.count(back) == 2
    assert len(accepting) == 6
    for rule in accepting:
        if rule not in made["gateway_relayed"] and rule != back:
            assert re.search(r"ip daddr set udp dport map @\w+ .*notrack accept$", rule)
    assert [r.split()[-1] for r in made["gateway_relayed"]] == ["accept", "drop"]


def test_a_gateway_that_is_cut_off_drops_probes_of_its_own_site_only() -> None:
    """Who claims a gateway elsewhere as private does not keep its probes unanswered."""
    made = rules(replace(GATEWAY, cut_off=True))
    *_, elsewhere, own, unknown = made["gateway_outward"]
    assert elsewhere == "udp sport set ip saddr map @gateway_public goto gateway_inward"
    assert own == "udp dport 16384 drop"
    assert unknown == made["gateway_inward"][-1]
    assert any('counter name "probes"' in rule for rule in made["gateway_inward"])
    assert 'counter name "probes"' not in str(made["gateway_outward"])


def test_the_source_address_is_set_behind_routing_only() -> None:
    """In prerouting it would be a martian."""
    setting = {
        name: rule
        for name, chain in rules(GATEWAY).items()
        for rule in chain
        if f"ip saddr set {GATEWAY.private}" in rule
    }
    assert setting.keys() == {"gateway_out"}
    assert "ct state untracked" in setting["gateway_out"]


def test_no_rule_adds_an_element() -> None:
    for end in KINDS:
        text = str(rules(end)) + str(gateway_sets(end))
        for word in ("add @", "update @", "dynamic", "dnat", "snat"):
            assert word not in text


def test_a_probe_is_told_from_wireguards_packets_by_the_first_port_alone() -> None:
    """Which no host has; and by who sends it, and who sends it back."""
    assert PORTS.overlay(PORTS.probe) == PORTS.subnet.network_address
    for end in (BEHIND, OPEN, GATEWAY):
        assert rules(end)["gateway_probed"] == (
            "udp dport 51820 udp sport 16384 ip saddr @gateways udp dport set 16384",
        )
        sent = "udp sport 16384 udp dport 16384 meta mark & 0x2000 != 0 ip daddr @gateways"
        assert probes_sent(end) == (f"{sent} udp sport set 51820",)
    assert probes_sent(None) == probes_sent(replace(OPEN, via=None)) == ()


def test_without_peers_behind_gateways_nothing_is_sent_to_any() -> None:
    assert rules(replace(OPEN, via=None)) == {"gateway_in": ()}


def test_what_cannot_be_a_gateway_is_refused() -> None:
    with pytest.raises(ValueError, match="public address of its own"):
        replace(BEHIND, uplinks=("eth0",))
    with pytest.raises(ValueError, match="cannot name the uplink"):
        replace(GATEWAY, uplinks=("eth0", 'e"0'))
