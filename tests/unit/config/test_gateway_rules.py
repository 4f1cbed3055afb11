"""Mistakes with gateways and overlapping sites, each of which cuts off a site."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from neti.cli import cli
from neti.config import load
from neti.errors import ConfigError
from neti.model.settings import Settings

LOCAL = "registry: embedded:/tmp/neti.db\n"
ENCRYPTED = "encrypt: prefer, reached_by: gateway"
BOTH = (
    f"sites:\n  ec2: {{private: [10.0.0.0/16], public: [198.51.100.0/24], {ENCRYPTED},"
    " gateways: [gw-1, gw-2]}\n"
    f"  vpc: {{private: [10.0.0.0/16], public: [203.0.113.0/24], {ENCRYPTED}, gateways: [gw-3]}}\n"
)
GW_1 = "identity: {id: gw-1, private: 10.0.0.5, public: 198.51.100.5}\n"
SUSPECT = ("gateways", "overlap", ": expected ")

Load = Callable[[str], Settings]


@pytest.fixture(name="load_text")
def _load_text(tmp_path: Path) -> Load:
    def load_text(text: str) -> Settings:
        path = tmp_path / "neti.yml"
        path.write_text(text + LOCAL)
        return load(path)

    return load_text


def _site(**keys: str) -> str:
    said = {"private": "[10.0.0.0/16]", "gateways": "[gw-1]"} | keys
    inside = ", ".join(f"{key}: {value}" for key, value in said.items())
    return f"sites: {{ec2: {{{inside}, {ENCRYPTED}}}, vpc: {{private: [10.1.0.0/16]}}}}\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            f"site: vpc\n{BOTH}{GW_1}".replace("198.51.100.5", "203.0.113.5"),
            (
                "sites.ec2.gateways[0]: gw-1, this host's id: expected a host of ec2, because "
                "this one is in site vpc"
            ),
        ),
        (
            _site() + "identity: {id: gw-1, private: 10.1.0.5, public: 198.51.100.5}\n",
            (
                "sites.ec2.gateways[0]: gw-1, this host's id: expected a host of ec2, because "
                "this one has 10.1.0.5, outside that site's private ranges"
            ),
        ),
        (
            _site(gateways="[gw-1, 10.0.0.5]"),
            "sites.ec2.gateways[1]: 10.0.0.5: expected the id of a host, not its address",
        ),
        (
            _site(gateways="[gw-1, gw-2, gw-1]"),
            "sites.ec2.gateways: gw-1 more than once: expected each id once",
        ),
        (
            _site(public="[10.0.0.0/24, 10.0.1.0/24]", gateways="[gw-1, gw-2]"),
            (
                "sites.ec2.public: 10.0.0.0/24, 10.0.1.0/24, within its private ranges: "
                "expected the ranges of the public addresses of gw-1, gw-2"
            ),
        ),
        (
            f"site: ec2\n{_site()}{GW_1}".replace("198.51.100.5", "10.0.0.5"),
            "identity.public: 10.0.0.5: expected an address apart from private",
        ),
        (
            f"{_site()}open_ports: [80, 16384/udp]\n",
            "open_ports[1]: 16384/udp: expected another port, because Neti probes gateways",
        ),
        # What the machine is asked for is as wrong, as far as the file tells.
        (
            f"site: ec2\n{BOTH}identity: {{id: gw-1, private: eth0, public: same}}\n",
            "identity.public: same: expected an address apart from private",
        ),
        (
            f"site: ec2\n{BOTH}identity: {{id: gw-1, private: eth0, public: 203.0.113.5}}\n",
            "identity.public: 203.0.113.5: expected an address in sites.ec2.public",
        ),
        (
            f"site: ec2\n{BOTH}identity: {{id: gw-1, private: eth0}}\n",
            "identity.id: gw-1, a gateway of site ec2: expected public beside it",
        ),
        (
            f"site: vpc\n{BOTH}identity: {{id: gw-1, private: 10.0.0.0/16, public: same}}\n",
            "sites.ec2.gateways[0]: gw-1, this host's id: expected a host of ec2, because this one",
        ),
    ],
)
def test_what_cuts_off_a_site_is_a_warning(
    load_text: Load, tmp_path: Path, text: str, says: str
) -> None:
    """A version before ran with each: refused, the upgrade of an enforced host would leave it
    without agent and, after a reboot, without rules."""
    (line,) = [said for said in load_text(text).warnings if ": expected " in said]
    assert line.startswith(says)
    told = CliRunner().invoke(cli, ["config", "check", "-c", f"{tmp_path}/neti.yml"])
    assert (told.exit_code, f"warning: {line}" in told.stderr) == (0, True)


def test_a_gateway_without_a_public_address_is_refused(load_text: Load) -> None:
    with pytest.raises(ConfigError, match=r"5: identity\.id: gw-1, a gateway of site ec2"):
        load_text(f"site: ec2\n{BOTH}{GW_1}".replace(", public: 198.51.100.5}", "}"))


def test_a_public_address_outside_the_ranges_is_for_the_agent_to_refuse(
    load_text: Load, tmp_path: Path
) -> None:
    """As it always has, at its start. The table is restored all the same."""
    said = load_text(f"site: ec2\n{BOTH}{GW_1}".replace("198.51.100.5", "203.0.113.5")).warnings
    assert (
        "identity.public: 203.0.113.5: expected an address in sites.ec2.public (198.51.100.0/24): "
        "peers believe no other"
    ) in said
    told = CliRunner().invoke(cli, ["config", "check", "-c", f"{tmp_path}/neti.yml"])
    assert told.exit_code == 2
    assert "203.0.113.5" in told.stderr


def test_an_id_that_is_named_twice_is_one_gateway(load_text: Load) -> None:
    named = load_text(_site(gateways="[gw-1, gw-2, gw-1]")).sites["ec2"].gateways
    assert named == ("gw-1", "gw-2")


@pytest.mark.parametrize(
    "text",
    [
        f"site: ec2\n{BOTH}{GW_1}",
        f"site: vpc\n{BOTH}identity: {{id: db-1, private: 10.0.0.5}}\n",
        # Site auto, which its address tells.
        _site() + "identity: {id: gw-1, private: 10.0.0.5, public: 198.51.100.5}\n",
        # A fleet whose ids are addresses.
        _site(gateways="[10.0.0.5]") + "identity: {id: 10.0.0.9, private: 10.0.0.9}\n",
        _site(gateways="[10.0.0.5]") + "identity: {id: 10.0.0.9, private: eth0}\n",
        # Public ranges of which one is the gateways'.
        _site(public="[10.0.0.0/24, 198.51.100.0/24]"),
        # A range of ports that contains the probes' as well; TCP; and a fleet without gateways.
        _site() + "open_ports: [16000-17000/udp, 16384]\n",
        "sites: {ec2: {}, vpc: {}}\nopen_ports: [16384/udp]\n",
    ],
)
def test_what_is_well_is_not_warned_of(load_text: Load, text: str) -> None:
    warnings = load_text(text).warnings
    assert not [one for one in warnings if any(word in one for word in SUSPECT)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            f"site: ec2\n{BOTH}{GW_1}open_ports: [80, 20000-20010/udp]\n",
            "open_ports contains 20000-20010/udp, and this host, gw-1, is a gateway",
        ),
        (
            (
                f"site: ec2\n{BOTH}identity: {{id: gw-1, private: eth0, public: 198.51.100.5}}\n"
                "open_ports: [20000/udp]\n"
            ),
            "open_ports contains 20000/udp, and this host, gw-1, is a gateway",
        ),
        (
            (
                "site: ec2\nsites: {ec2: {private: [10.0.0.0/16], reached_by: private},"
                " vpc: {private: [10.0.128.0/17]}}\n"
            ),
            (
                "sites.ec2 is reached_by private, and sites.ec2.private 10.0.0.0/16 and "
                "sites.vpc.private 10.0.128.0/17 overlap"
            ),
        ),
        (
            BOTH,
            (
                "site is auto, and sites.ec2.private 10.0.0.0/16 and sites.vpc.private 10.0.0.0/16 "
                "overlap: a host with an address in both cannot tell its site by it (neither "
                "counts)"
            ),
        ),
        (
            f"{BOTH}{GW_1}".replace("[10.0.0.0/16]", "[10.0.0.0/24]", 1),
            "(the longer range counts, whichever is meant). Expected site: ec2 or vpc",
        ),
        (
            _site(vpc_ids="[vpc-1]", gateways="[i-0123456789abcdef0, gw-1]"),
            "sites.ec2.gateways contains gw-1, and the site lists vpc_ids",
        ),
        (
            f"sites: {{ec2: {{private: [10.0.0.0/16], gateways: [gw-1], {ENCRYPTED}}}}}\n",
            "sites.ec2.gateways pass nothing on: there is no other site",
        ),
        (
            _site().replace("vpc: {", "vpc: {reached_by: private, "),
            "sites.ec2.gateways pass nothing on: a link wins, and vpc is reached_by private",
        ),
    ],
)
def test_what_is_most_likely_not_meant_is_a_warning(load_text: Load, text: str, says: str) -> None:
    (said,) = [one for one in load_text(text).warnings if says in one]
    assert "xpected" in said


def test_public_ranges_of_a_site_with_gateways_are_the_gateways(tmp_path: Path) -> None:
    """To write the private ranges again, as without gateways, would cut it off."""
    path = tmp_path / "neti.yml"
    tls = "registry_tls: {ca: /a, cert: /b, key: /c}\n"
    path.write_text(f"{_site()}zk_hosts: {{ec2: [10.0.0.9], vpc: [10.1.0.9]}}\n{tls}")
    one, other = [said for said in load(path).warnings if "has no public ranges" in said]
    assert "sites.ec2" in one
    assert "with the ranges its hosts have (those of its gateways alone)" in one
    assert "sites.vpc" in other
    assert "its private ranges again" in other


@pytest.mark.parametrize(
    "text",
    [
        BOTH.replace("private: [10.0.0.0/16]", "private: [10.0.0.0/16], vpc_ids: [vpc-1]", 1),
        f"site: ec2\n{BOTH}",
        f"{BOTH}identity: {{id: a, private: 10.9.0.5}}\n",
    ],
)
def test_ranges_may_overlap_where_something_else_tells_the_site(load_text: Load, text: str) -> None:
    assert not [one for one in load_text(text).warnings if "overlap" in one]


@pytest.mark.parametrize(
    ("identity", "says"),
    [
        ("{id: a, private: 10.0.0.5}", "10.0.0.0/16 is a private range of ec2 and of vpc"),
        ("{id: a, private: 10.9.0.5}", "10.9.0.5, which is in no site's private range"),
    ],
)
def test_check_refuses_what_the_agent_would(tmp_path: Path, identity: str, says: str) -> None:
    """Where the file has the identity, it tells the site, or that nobody can."""
    path = tmp_path / "neti.yml"
    path.write_text(f"{BOTH}identity: {identity}\n{LOCAL}")
    plain = CliRunner().invoke(cli, ["config", "check", "-c", str(path)])
    assert (plain.exit_code, plain.stdout) == (2, "")
    assert says in plain.stderr
    document = CliRunner().invoke(cli, ["config", "check", "--json", "-c", str(path)])
    assert document.exit_code == 2
    told = json.loads(document.stdout)
    assert told["valid"] is False
    assert says in told["errors"][0]


def test_check_says_the_site_that_the_address_tells(tmp_path: Path) -> None:
    path = tmp_path / "neti.yml"
    path.write_text(f"{_site()}identity: {{id: a, private: 10.1.0.5}}\n{LOCAL}")
    said = CliRunner().invoke(cli, ["config", "check", "-c", str(path)]).stdout
    assert "this host's site: vpc" in said
