"""The chains for members by member_ports, read as the kernel reads them."""

import re
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ruleset.test_member_ports import _policy

from neti.model import Encrypt, Site
from neti.model.groups import EVERY_MEMBER, MemberPort, MemberPorts
from neti.model.settings import OpenPort, Settings
from neti.ruleset.member_ports import admits, admits_everybody, covers, needed
from neti.ruleset.objects import Structure
from neti.ruleset.policy import structure
from neti.ruleset.set_names import group_sets
from neti.ruleset.surroundings import Surroundings, Tunnel

PLAIN: Final = Settings(
    path=Path("neti.yml"),
    sites={"ec2": Site(name="ec2", encrypt=Encrypt.REQUIRE), "vpc": Site(name="vpc")},
    open_ports=(OpenPort(80, 80, "tcp"),),
)
AROUND: Final = Surroundings(
    uplinks=("eth0",),
    ssh_untracked=True,
    site="ec2",
    tunnel=Tunnel(own=IPv4Address("192.168.0.1"), private=IPv4Address("10.0.0.1"), mtu=1400),
)
PORTS: Final[MemberPorts] = (MemberPort(("app",), "tcp", 5432, 5432),)
_MAP: Final = re.compile(r"meta l4proto (tcp|udp) ct original proto-dst vmap \{ (.*) \}")
_SOURCE: Final = re.compile(r"ip saddr @(group_\w+_4) (.*)")


def rules(file: MemberPorts, in_force: MemberPorts) -> Structure:
    return structure(replace(PLAIN, member_ports=file), replace(AROUND, member_ports=in_force))


def verdict(held: Structure, chain: str, sets: set[str], proto: str, port: int) -> str:
    """What becomes of a new packet of a member in these sets: admitted, waiting, or nothing."""
    chains = {one.name: one.rules for one in held.chains}
    for rule in chains[chain]:
        if (found := _MAP.fullmatch(rule)) and found[1] == proto:
            for element in found[2].split(", "):
                span, _, then = element.partition(" : ")
                first, _, last = span.partition("-")
                here = int(first) <= port <= int(last or first)
                if here and (said := _then(held, then, sets, proto, port)):
                    return said
        elif (found := _SOURCE.fullmatch(rule)) and found[1] in sets:
            return _then(held, found[2], sets, proto, port)
        elif rule.startswith(("counter", "goto")):
            return _then(held, rule, sets, proto, port)
    return ""


def _then(held: Structure, said: str, sets: set[str], proto: str, port: int) -> str:
    if said == 'counter name "admitted" accept':
        return "admitted"
    if said == "goto narrowing":
        return "waiting"
    where = said.removeprefix("jump ")
    if where == "narrowing":
        return "waiting"
    return verdict(held, where, sets, proto, port)


_members = st.sets(st.sampled_from(("app", "db", "web")))
_asked = st.tuples(
    st.sampled_from(("tcp", "udp")), st.integers(1, 20) | st.sampled_from((30000, 65534, 65535))
)


@given(_policy, _policy, _members, _asked)
def test_the_rules_say_what_the_policies_say(
    file: MemberPorts, in_force: MemberPorts, groups: set[str], asked: tuple[str, int]
) -> None:
    """Of a member in these groups, to this port: by the file, by what is in force, or by none."""
    held = rules(file, in_force)
    sets: set[str] = {group_sets(group)[0] for group in groups}
    names = {chain.name for chain in held.chains}
    if admits_everybody(file):
        assert "members" not in names
        return
    assert (verdict(held, "members", sets, *asked) == "admitted") == admits(file, groups, *asked)
    assert ("members_before" in names) == (not covers(file, in_force))
    if "members_before" in names:
        before = verdict(held, "members_before", sets, *asked)
        assert (before == "waiting") == admits(in_force, groups, *asked)
    looked_at = needed(file, in_force if "members_before" in names else file)
    assert {name for name, _ in held.sets if name.startswith("set group_")} >= {
        f"set {where}" for group in looked_at for where in group_sets(group)
    }


def test_verify_port_is_for_every_member() -> None:
    held = rules(PORTS, PORTS)
    assert verdict(held, "members", set(), "tcp", 7077) == "admitted"
    assert verdict(held, "members", set(), "tcp", 7078) == ""


@given(_policy)
def test_without_member_ports_the_table_is_what_it_was(in_force: MemberPorts) -> None:
    plain = rules(None, None)
    for everybody in (None, (), (MemberPort((EVERY_MEMBER,)),)):
        assert rules(everybody, in_force) == plain
    text = plain.text()
    assert not re.search("group_|members|narrow|unasked|unadmitted", text)


@given(_policy, _policy)
def test_nothing_of_it_drops_but_map_narrowed(file: MemberPorts, in_force: MemberPorts) -> None:
    plain = {chain.name: chain for chain in rules(None, None).chains}
    for chain in rules(file, in_force).chains:
        if chain == plain.get(chain.name):
            continue
        for rule in chain.rules:
            known = rule in plain[chain.name].rules if chain.name in plain else False
            assert known or not re.search(r"\b(drop|reject)\b", rule)
            assert "@narrowed" not in rule or chain.name == "narrowing"


def test_a_member_is_judged_as_a_stranger_behind_all_that_lets_him_in() -> None:
    """What only the policy in force admits is looked at behind trusted, established and opened."""
    chains = {one.name: one.rules for one in rules(PORTS, None).chains}
    for name, opened in (("input", "jump opened"), ("published", "ct status dnat jump opened")):
        held = list(chains[name])
        waits = held.index("ip saddr @peers4 jump members_before")
        assert held.index("ip saddr @peers4 jump members") < held.index(opened) < waits
        assert max(n for n, rule in enumerate(held) if rule.endswith(" accept")) < waits
        assert held[-1].startswith("goto judge")


def test_the_chains_that_every_first_packet_takes_do_not_grow() -> None:
    """With more ports and groups maps grow, and chains of the ports that are not asked for."""
    many = tuple(
        MemberPort((f"g{n}", f"h{n}"), "tcp", 1000 + 2 * n, 1000 + 2 * n) for n in range(200)
    )
    few, more = rules(PORTS, PORTS), rules(many, many)
    lengths = [
        {chain.name: len(chain.rules) for chain in one.chains if "reach_" not in chain.name}
        for one in (few, more)
    ]
    assert lengths[0] == lengths[1]
    # A chain for each kind of groups, not for each port.
    same = tuple(MemberPort(("app",), "tcp", 1000 + 2 * n, 1000 + 2 * n) for n in range(200))
    assert sum(chain.name.startswith("reach_") for chain in rules(same, same).chains) == 1


_AFTER_A_SET: Final = re.compile(r"meta nfproto @\w+ .*\b(ip|ip6|icmp|icmpv6) ")


@given(_policy, _policy)
def test_no_rule_names_a_family_after_it_was_looked_up_in_a_set(
    file: MemberPorts, in_force: MemberPorts
) -> None:
    """libnftables 1.1 (Debian 13) takes that for a conflict, and refuses the whole table."""
    for chain in rules(file, in_force).chains:
        for rule in chain.rules:
            assert not _AFTER_A_SET.search(rule), (chain.name, rule)
