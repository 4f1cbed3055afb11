"""What is said of a pair and a port is what the rules do."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ruleset.test_member_ports import _policy
from tests.unit.ruleset.test_policy_members import _asked, _members, rules, verdict

from neti.model import Encrypt, Site
from neti.model.groups import MemberPort, MemberPorts
from neti.model.openings import Opening
from neti.model.settings import OpenPort, Settings
from neti.ruleset.set_names import group_sets
from neti.stage.explain import Known, explain

DB: MemberPorts = (MemberPort(("app",), "tcp", 5432, 5432),)
SETTINGS = Settings(
    path=Path("neti.yml"),
    member_ports=DB,
    ssh_whitelist=(ip_network("10.9.0.0/16"),),
    trusted=(ip_network("10.8.0.0/16"),),
    open_ports=(
        OpenPort(80, 80, "tcp"),
        OpenPort(9000, 9010, "udp", sources=(ip_network("10.7.0.0/16"),)),
    ),
)
KNOWN = Known(
    settings=SETTINGS,
    source=ip_address("10.0.0.3"),
    proto="tcp",
    port=5432,
    in_force=DB,
    stage="enforced",
)
WEB: dict[str, Any] = {"ids": ("web-1",), "groups": frozenset({"web"})}
APP: dict[str, Any] = {"ids": ("app-1",), "groups": frozenset({"app"})}


OPENING = Opening(
    source=ip_network("10.0.0.0/24"), proto="tcp", first=5432, last=5432, until=9.0, seconds=60
)
OPEN: dict[str, Any] = {"openings": ((OPENING, "noon"),)}


def asked(**changes: Any) -> tuple[bool, str, str]:
    found = explain(replace(KNOWN, **changes))
    return found.admitted, found.by, found.ahead


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stage": "down"}, "Neti is down"),
        ({"source": None}, "this host itself"),
        ({"source": ip_address("10.9.0.1"), "port": 22}, "ssh_whitelist has 10.9.0.0/16"),
        ({"source": ip_address("10.8.0.1")}, "trusted has 10.8.0.0/16"),
        ({"port": 80}, "open_ports opens 80/tcp to everyone"),
        (
            {"source": ip_address("10.7.0.1"), "proto": "udp", "port": 9001},
            "open_ports opens 9001/udp to 10.7.0.0/16",
        ),
        (APP, "member app-1, in app, which member_ports let in to 5432/tcp"),
        ({**WEB, "port": 7077}, "verify_port"),
        ({**WEB, "port": 80}, "open_ports opens 80/tcp"),
        ({**WEB, "settings": replace(SETTINGS, member_ports=None)}, "reach every port"),
        ({**APP, "clear": "outside", "source": ip_address("10.8.0.1")}, "trusted"),
    ],
)
def test_what_lets_it_in(changes: dict[str, Any], words: str) -> None:
    admitted, by, ahead = asked(**changes)
    assert admitted
    assert words in by
    assert ahead == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "10.0.0.3 is no member's address"),
        ({"source": ip_address("10.9.0.1")}, "is no member's address"),
        ({"source": ip_address("10.7.0.1"), "port": 9001}, "is no member's address"),
        (WEB, "member web-1, in web, and member_ports let only app in to 5432/tcp"),
        ({**WEB, "port": 81}, "member_ports let nobody in to 81/tcp"),
        ({**APP, "clear": "clear"}, "comes in the clear, which required encryption refuses"),
        ({**APP, "clear": "outside"}, "by which it is a stranger"),
    ],
)
def test_what_keeps_it_out_in_each_stage(changes: dict[str, Any], words: str) -> None:
    admitted, by, ahead = asked(**changes)
    assert not admitted
    assert words in by
    assert ahead == ""
    admitted, by, ahead = asked(**changes, stage="trial")
    assert not admitted
    assert "on trial" in by
    admitted, by, ahead = asked(**changes, stage="shadow", in_force=DB)
    assert admitted
    assert words in by
    assert "'neti enforce' would keep it out" in ahead


def test_the_tunnels_port_is_open_by_ipv4() -> None:
    sites = {"a": Site(name="a"), "b": Site(name="b", encrypt=Encrypt.PREFER)}
    changes = {"settings": replace(SETTINGS, sites=sites), "proto": "udp", "port": 51820}
    assert asked(**changes)[:2] == (True, "51820/udp is the tunnel's own port")
    assert not asked(**changes, source=ip_address("2001:db8::9"))[0]


@pytest.mark.parametrize("stage", ["shadow", "trial", "enforced"])
def test_what_waits_is_let_in_and_on_trial_is_not(stage: str) -> None:
    admitted, by, ahead = asked(**WEB, in_force=None, stage=stage)
    assert admitted
    assert "which is not in force yet" in by
    assert "let only app in to 5432/tcp" in ahead
    admitted, by, _ = asked(**WEB, in_force=None, narrows=True, stage=stage)
    assert not admitted
    assert "that is on trial" in by
    assert asked(**APP, in_force=None, narrows=True, stage=stage)[0]


@given(_policy, _policy, _members, _asked, st.booleans())
def test_it_says_what_the_rules_do(
    file: MemberPorts, in_force: MemberPorts, groups: set[str], port: tuple[str, int], narrows: bool
) -> None:
    """Of a member, on a host that enforces."""
    plain = replace(SETTINGS, member_ports=file, open_ports=(), ssh_whitelist=(), trusted=())
    held = rules(file, in_force)
    sets: set[str] = {group_sets(group)[0] for group in groups}
    names = {chain.name for chain in held.chains}
    lets_in = "members" not in names or verdict(held, "members", sets, *port) == "admitted"
    waits = (
        not lets_in
        and "members_before" in names
        and verdict(held, "members_before", sets, *port) == "waiting"
    )
    found = explain(
        Known(
            settings=plain,
            source=ip_address("10.0.0.3"),
            proto=port[0],  # type: ignore[arg-type]
            port=port[1],
            ids=("one",),
            groups=frozenset(groups),
            in_force=in_force,
            narrows=narrows,
            stage="enforced",
        )
    )
    assert found.admitted == (lets_in or (waits and not narrows))
    assert found.lasts == lets_in


@pytest.mark.parametrize("changes", [{"port": 5433}, {"proto": "udp"}, {**APP, "clear": "clear"}])
def test_an_opening_lets_in_nothing_else(changes: dict[str, Any]) -> None:
    """Nor what must be encrypted and comes in the clear."""
    assert not asked(**{**OPEN, **changes})[0]


@pytest.mark.parametrize("who", [{}, WEB], ids=["stranger", "member"])
def test_an_opening_lets_in_until_it_ends(who: dict[str, Any]) -> None:
    admitted, by, ahead = asked(**OPEN, **who)
    assert admitted
    assert "'neti open' opened 5432/tcp to 10.0.0.0/24 until noon" in by
    assert "the kernel ends that by its own clock" in ahead
