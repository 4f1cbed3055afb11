"""neti.yml: what loads, what is refused, and what the refusal says."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.support.examples import share_of
from tests.support.netns import require_root

from neti.cli.config import config_group, describe, summary
from neti.config import json_schema, load
from neti.errors import ConfigError
from neti.model import Encrypt, Reach, Site
from neti.model.settings import OpenPort, RegistryTLS, Settings, StaticIdentity
from neti.oneshot import encrypting

DATA = Path(__file__).parents[2] / "data"
LOCAL = "registry: embedded:/var/lib/neti/registry.db\n"
BY_GW = "{reached_by: gateway, gateways: [gw-1], encrypt: prefer}"
ENCRYPTED = "sites: {ec2: {encrypt: prefer}}\n"
SECRET = "wJalrXUtnFEMI+nobodys/bPxRfiCYEXAMPLEKEY"

Load = Callable[..., Settings]
Refused = Callable[..., list[str]]


@pytest.fixture(name="load_text")
def _load_text(tmp_path: Path) -> Load:
    def load_text(text: str, *, registry: str = LOCAL) -> Settings:
        path = tmp_path / "neti.yml"
        path.write_text(text + registry)
        path.chmod(0o600)
        return load(path)

    return load_text


@pytest.fixture(name="refused")
def _refused(load_text: Load, tmp_path: Path) -> Refused:
    """The error's lines, without the file's name; a problem's line number stays."""

    def refused(text: str, *, registry: str = LOCAL) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load_text(text, registry=registry)
        prefix = f"{tmp_path / 'neti.yml'}:"
        lines = str(caught.value).splitlines()
        assert all(line.startswith(prefix) for line in lines), lines
        return [line.removeprefix(prefix) for line in lines]

    return refused


def test_a_file_of_2014_loads_unchanged_with_warnings_only() -> None:
    """A file as the 2014 cookbook wrote it needs no edit; what is obsolete in it is a warning."""
    loaded = load(DATA / "neti-2014.yml")

    assert list(loaded.sites) == ["ec2", "vpc"]
    assert not loaded.sites_configured
    assert loaded.zk_hosts["vpc"] == ("172.16.1.11:2181", "172.16.1.12:2181", "172.16.1.13:2181")
    assert loaded.nat_overrides[IPv4Address("192.168.1.1")] == IPv4Address("10.1.2.3")
    assert OpenPort(8000, 8010, "tcp") in loaded.open_ports
    assert loaded.reject_all is False
    assert loaded.aws_key == "AKIAEXAMPLEEXAMPLE"
    for word in ("aws_key", "bin ", "overlay_ip_cache_file_path"):
        assert any(word in warning for warning in loaded.warnings), word


def test_the_complete_example_loads() -> None:
    """A file with every key that is new since 2014 loads, without a warning."""
    loaded = load(DATA / "neti-complete.yml")

    assert loaded.site is None
    assert loaded.sites_configured
    assert loaded.sites["vpc"].vpc_ids == ("vpc-0bb2",)
    assert loaded.sites["vpc"].reached_by is Reach.PUBLIC
    assert loaded.sites["vpc"].encrypt is Encrypt.PREFER
    assert loaded.registry_tls == RegistryTLS(
        ca=Path("/etc/neti/ca.pem"), cert=Path("/etc/neti/host.pem"), key=Path("/etc/neti/host.key")
    )
    assert loaded.session_seconds == 30.0
    assert loaded.metrics_listen is None
    assert loaded.warnings == ()


def test_the_examples_of_the_documentation_are_true(load_text: Load, tmp_path: Path) -> None:
    """An example loads as it stands, or is answered with exactly the lines shown below it."""
    page = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
    form = r"```yaml\n(.*?)```\n(?:\nis answered with\n\n```\n(.*?)```)?"
    examples: list[tuple[str, str]] = re.findall(form, page, re.DOTALL)
    assert examples
    for text, answer in examples:
        own = "" if "zk_hosts:" in text or "registry:" in text else LOCAL
        try:
            load_text(text, registry=own)
            said = ""
        except ConfigError as error:
            said = str(error)
        shown = said.replace(str(tmp_path / "neti.yml"), answer.partition(":")[0])
        assert shown.splitlines() == answer.splitlines()


def test_defaults_are_those_of_settings(load_text: Load) -> None:
    """A key that is left out has the default that Settings documents."""
    loaded = load_text("")
    plain = Settings(path=loaded.path, embedded=loaded.embedded, sites=loaded.sites)
    assert loaded == plain


def test_lists_below_a_site_may_be_null(load_text: Load) -> None:
    """A list below a site or a site's ZooKeeper list that is null is an empty list."""
    loaded = load_text("sites:\n  a: {private: , public: , vpc_ids: }\nzk_hosts:\n  a:\n")
    assert loaded.sites["a"] == Site(name="a")
    assert loaded.zk_hosts["a"] == ()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("rejectall: true\n", "reject_all"),
        ("Reject-All: true\n", "reject_all"),
        ("zk_host: {}\n", "zk_hosts"),
        ("sites: {ec2: {vpc_id: vpc-1}}\n", "vpc_ids"),
        ("identity: {id: a, private: 10.0.0.5, pubic: 198.51.100.5}\n", "public"),
        ("open_ports: [{port: 80, form: [10.0.0.0/8]}]\n", "from"),
        ("registry_tls: {ca: /a, cert: /b, key: /c, certs: /d}\n", "cert"),
    ],
)
def test_an_unknown_key_names_the_nearest(refused: Refused, text: str, meant: str) -> None:
    """A key that is not known, however deep, is refused with the one that was meant."""
    (line,) = refused(text)
    assert "unknown key" in line
    assert f"did you mean {meant}?" in line


def test_a_key_of_a_site_at_the_top_of_the_file_is_told_where_it_belongs(refused: Refused) -> None:
    (line,) = refused("encrypt: require\n")
    assert "encrypt: unknown key: expected it inside a site: sites.NAME.encrypt" in line


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("site: ec2\nsite: ec2\n", "2: site"),
        ("site: ec2\n'site': vpc\n", "2: site"),
        ("sites:\n  a: {}\n  b: {}\n  a: {}\n", "4: sites.a"),
        ("open_ports:\n- port: 80\n  port: 81\n", "3: open_ports[0].port"),
        ("nat_overrides:\n  10.0.0.1: 10.0.0.2\n  10.0.0.1: 10.0.0.3\n", "nat_overrides.10.0.0.1"),
    ],
)
def test_a_key_written_twice_never_replaces_the_first(
    refused: Refused, text: str, place: str
) -> None:
    """A duplicate key, at any depth and in any quotes, is refused with both lines."""
    (line,) = refused(text)
    assert place in line
    assert "given twice (also on line " in line


def test_every_list_and_mapping_may_be_null(load_text: Load) -> None:
    """A key whose template rendered nothing is an empty list or mapping."""
    keys = ("sites", "addresses", "zk_hosts", "nat_overrides", "open_ports", "ssh_whitelist")
    loaded = load_text("".join(f"{key}:\n" for key in (*keys, "trusted")))
    assert loaded.open_ports == loaded.ssh_whitelist == loaded.trusted == loaded.addresses == ()
    assert not loaded.nat_overrides
    assert list(loaded.sites) == ["ec2", "vpc"]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("80", OpenPort(80, 80, "tcp")),
        ('"80"', OpenPort(80, 80, "tcp")),
        ("443/tcp", OpenPort(443, 443, "tcp")),
        ('"53/udp"', OpenPort(53, 53, "udp")),
        ("8000-8010", OpenPort(8000, 8010, "tcp")),
        ("8000:8010", OpenPort(8000, 8010, "tcp")),
        ("22:25", OpenPort(22, 25, "tcp")),  # 1345 to YAML 1.1
        ('"8000:8010/udp"', OpenPort(8000, 8010, "udp")),
        ("{port: 80}", OpenPort(80, 80, "tcp")),
        (
            '{port: 5000-5001, proto: udp, from: [10.0.0.0/8, "2001:db8::/32"]}',
            OpenPort(5000, 5001, "udp", (IPv4Network("10.0.0.0/8"), IPv6Network("2001:db8::/32"))),
        ),
    ],
)
def test_open_port_forms(load_text: Load, written: str, expected: OpenPort) -> None:
    """Every documented way to write a port means what it says, whatever YAML 1.1 reads in it."""
    assert load_text(f"open_ports: [{written}]\n").open_ports == (expected,)


def test_open_ports_mix_forms_and_drop_repetitions(load_text: Load) -> None:
    """One port written in several ways is opened once."""
    loaded = load_text("open_ports: [80, '80', 443/tcp, {port: 80}]\n")
    assert loaded.open_ports == (OpenPort(80, 80, "tcp"), OpenPort(443, 443, "tcp"))


@pytest.mark.parametrize(
    "written",
    [
        "0",
        "65536",
        "-80",
        "80.5",
        "true",
        "http",
        "8010-8000",
        "53/icmp",
        "80/TCP",
        '"080"',
        "{proto: udp}",
        "{port: 80, from: []}",
        "{port: 80, from: }",
        "{port: 443/tcp}",
        "{port: 80, from: 10.0.0.0/8}",
        "[80]",
    ],
)
def test_what_is_no_open_port_is_named(refused: Refused, written: str) -> None:
    """A port that cannot be opened is refused with its line and its place in the list."""
    lines = refused(f"open_ports:\n  - {written}\n")
    assert lines[0].startswith("2: open_ports[0]")


def test_an_empty_from_is_never_everyone(refused: Refused) -> None:
    """An empty list of sources never opens a port to the world."""
    (line,) = refused("open_ports: [{port: 80, from: []}]\n")
    assert "leave `from` out to open the port to everyone" in line


@pytest.mark.parametrize("word", ["all", "Any", "'*'"])
def test_a_word_for_everybody_is_told_what_to_leave_out(refused: Refused, word: str) -> None:
    (line,) = refused(f"open_ports: [{{port: 80, from: {word}}}]\n")
    assert "leave `from` out to open the port to everyone" in line
    assert "write:" not in line


def test_a_list_is_proposed_of_what_would_fit_in_it(refused: Refused) -> None:
    """A word in brackets would be refused again."""
    (line,) = refused("open_ports: [{port: 80, from: 10.0.0.0/8}]\n")
    assert "(write: from: [10.0.0.0/8])" in line
    (line,) = refused("ssh_whitelist: office\n")
    assert "a list such as [192.0.2.0/24]" in line
    assert "write:" not in line
    (line,) = refused("sites: {dc: {ipv6: office}}\n")
    assert 'a list such as ["2001:db8:1::/48"]' in line
    assert "write:" not in line
    (line,) = refused("sites: {dc: {gateways: gw-1}}\n")
    assert "a list such as [gw-1, gw-2] (write: gateways: [gw-1])" in line


@pytest.mark.parametrize("word", ["true", "yes", "on", "True", "YES"])
def test_yaml_booleans_are_booleans(load_text: Load, word: str) -> None:
    """YAML's own words for true are true."""
    assert load_text(f"allow_empty_ssh_whitelist: {word}\n").allow_empty_ssh_whitelist is True


def test_check_says_what_is_between_two_sites_and_when(load_text: Load) -> None:
    """That the other side of a pair decides, and that require alone puts nothing in force."""
    settings = load_text("sites: {a: {encrypt: prefer}, b: {}, c: {}}\n")
    said = "\n".join(describe(settings))
    assert "a and b: prefer, because a says so" in said
    assert "b and c" not in said
    assert "acts as prefer" not in said
    stricter = {**settings.sites, "b": replace(settings.sites["b"], encrypt=Encrypt.REQUIRE)}
    said = "\n".join(describe(replace(settings, sites=stricter)))
    assert "a and b: require, because b says so" in said
    assert "b and c: require, because b says so" in said
    assert "require acts as prefer until 'neti enforce'" in said


@pytest.mark.parametrize(
    ("written", "meant"),
    [('"false"', "false"), ("'no'", "false"), ('"True"', "true"), ("0", "false")],
)
def test_a_boolean_that_is_none_shows_what_to_write(
    refused: Refused, written: str, meant: str
) -> None:
    """A quoted boolean is refused, and the error shows the line to write."""
    (line,) = refused(f"reject_all: {written}\n")
    assert line.startswith("1: reject_all: ")
    assert f"(write: reject_all: {meant})" in line


def test_everything_wrong_is_listed_with_its_line(refused: Refused) -> None:
    """One run names every mistake of the file, each with its line, in the file's order."""
    lines = refused(
        "rejct_all: true\n"
        'reject_all: "false"\n'
        "ssh_port: 70000\n"
        "overlay_subnet: 192.168.1.0/18\n"
        "sites:\n"
        "  ec2: {privat: []}\n"
        "  vpc: {private: [192.168.0.0/16]}\n"
        "ssh_port: 22\n"
    )
    assert [int(line.partition(":")[0]) for line in lines] == [1, 2, 3, 4, 6, 8]
    assert "did you mean reject_all?" in lines[0]
    assert "write: overlay_subnet: 192.168.0.0/18" in lines[3]
    assert "sites.ec2.privat: unknown key" in lines[4]
    assert "did you mean private?" in lines[4]
    assert "given twice (also on line 3)" in lines[5]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ssh_port: 010\n", "YAML reads it as octal 8; write: 10"),
        ("ssh_port: 0x16\n", "write: 22"),
        ('ssh_port: "22"\n', "write: ssh_port: 22"),
        ("ssh_port: 22.0\n", "the number 22.0"),
        ("ssh_port: true\n", "ssh_port: true"),
        ("site: no\n", "site: false"),
        ("nobody_knows_this_key: 1\n", "a key that `neti config schema` lists"),
        ("ssh_whitelist: 10.0.0.0/8\n", "write: ssh_whitelist: [10.0.0.0/8]"),
        ("ssh_whitelist: [10.0.0.1/8]\n", "write: - 10.0.0.0/8"),
        ("ssh_whitelist: [10.0.0.0/255.0.0.0]\n", "write: - 10.0.0.0/8"),
        ('ssh_whitelist: ["::ffff:10.0.0.0/104"]\n', "write: - 10.0.0.0/8"),
        ("ssh_whitelist: [office]\n", "a CIDR such as"),
        ("trusted: [10]\n", "the number 10"),
        ("sites: [ec2]\n", "a mapping such as {ec2: "),
        ("sites: {EC2: {}}\n", "sites.EC2: the text 'EC2': expected a site name"),
        ("sites: {ec2: 5}\n", "a mapping such as {private"),
        ("sites: {ec2: {vpc_ids: [sg-1]}}\n", "a VPC id"),
        ("sites: {ec2: {reached_by: tunnel}}\n", "public, private or gateway"),
        ("sites: {ec2: {private: ['2001:db8::/32']}}\n", "an IPv4 CIDR"),
        ("sites: {a: {vpc_ids: [vpc-1]}, b: {vpc_ids: [vpc-1]}}\n", "it in one site only"),
        ("site: dc\n", "one of the sites: ec2, vpc"),
        ("zk_hosts: {aws: [10.0.0.5]}\n", "one of the sites: ec2, vpc"),
        ("zk_hosts: {ec2: 10.0.0.5}\n", "write: ec2: [10.0.0.5]"),
        ("zk_hosts: {ec2: [10.0.0.5:0]}\n", "a port from 1 to 65535"),
        ('zk_hosts: {ec2: ["2001:db8::5"]}\n', 'write: - "[2001:db8::5]:2181"'),
        ("zk_hosts: {ec2: [10.0.0.256]}\n", "zk_hosts.ec2[0]"),
        ("zk_hosts: {ec2: [192.168.1.5]}\n", "a real address"),
        ("zk_prefix: /neti/\n", "write: zk_prefix: /neti"),
        ("zk_prefix: neti\n", "write: zk_prefix: /neti"),
        ("zk_prefix: /\n", "an absolute znode path"),
        ("zk_prefix: /zookeeper\n", "belongs to ZooKeeper itself"),
        ("zk_prefix: /a/../b\n", "an absolute znode path"),
        ("zk_ip_map_node: a/b\n", "without a slash"),
        ("zk_ip_map_node: /elsewhere/ip-map\n", "without a slash"),
        ("zk_ip_map_node: ip-to-id\n", "a name other than that of zk_iptoid_node"),
        ("registry: redis\n", "zookeeper, or embedded:"),
        ("registry: embedded:registry.db\n", "zookeeper, or embedded:"),
        ("registry_tls: {ca: /a, cert: /b}\n", "registry_tls.key: missing"),
        ("registry_tls: {ca: a, cert: /b, key: /c}\n", "an absolute path"),
        ("session_seconds: 0\n", "seconds from 1 to 600"),
        ("session_seconds: .inf\n", "seconds from 1 to 600"),
        ("identity: aws\n", "auto, ec2, gcp, azure, or a mapping such as"),
        ("identity: {id: db-1}\n", "identity.private: missing"),
        ("identity: {id: 12, private: 10.0.0.5}\n", 'write: id: "12"'),
        ("identity: {id: a b, private: 10.0.0.5}\n", "a host id"),
        ("identity: {id: a, private: 127.0.0.1}\n", "not a loopback one"),
        ("identity: {id: a, private: 224.0.0.1}\n", "one IPv4 address"),
        ("identity: {id: a, private: 192.168.0.5}\n", "outside overlay_subnet"),
        ("identity: {id: a, private: 10.0.0.5, ipv6: 10.0.0.6}\n", "one IPv6 address"),
        ("addresses: ['fe80::1%eth0']\n", "one address"),
        ("addresses: ['fe80::1']\n", "link-local"),
        ("addresses: [192.168.0.9]\n", "outside overlay_subnet"),
        ("overlay_subnet: 10.9.0.0/31\n", "at least a /30"),
        ("overlay_subnet: 169.254.0.0/24\n", "link-local"),
        ("overlay_subnet: 127.9.0.0/16\n", "the loopback"),
        ("overlay_subnet: 'fd00::/64'\n", "an IPv4 CIDR"),
        ("nat_overrides: {192.168.0.1: 192.168.0.2}\n", "outside overlay_subnet"),
        ("nat_overrides: {192.168.0.1: 0.0.0.0}\n", "one IPv4 address"),
        ("nat_overrides: {192.168.0.0/24: 10.0.0.1}\n", "one IPv4 address"),
        ("nat_overrides: [192.168.0.1]\n", "a mapping such as {192.168.0.9: 10.0.0.9}"),
        ("conntrack_max: many\n", "auto, or a whole number"),
        ("verify_port: 22\n", "a port other than ssh_port"),
        ("sites: {ec2: {encrypt: true}}\n", "off, prefer or require (write: encrypt: prefer)"),
        ("sites: {ec2: {encrypt: required}}\n", "sites.ec2.encrypt: the text 'required'"),
        ("sites: {ec2: {encrypt: }}\n", "off, prefer or require"),
        ("sites: {ec2: {encrypt: require}}\n", "because an embedded registry has no TLS"),
        (
            "sites: {ec2: {reached_by: gateway, encrypt: prefer}}\n",
            "sites.ec2.reached_by: the text 'gateway': expected gateways beside it",
        ),
        (
            "sites: {ec2: {gateways: [gw-1, gw-2], encrypt: prefer}}\n",
            "sites.ec2.gateways: gw-1, gw-2: expected reached_by: gateway beside it",
        ),
        (
            "sites: {ec2: {gateways: [gw-1], reached_by: gateway}}\n",
            "expected encrypt: require (or prefer) beside it",
        ),
        ("sites: {ec2: {gateways: [gw/1]}}\n", "sites.ec2.gateways[0]: the text 'gw/1': expected"),
        ("sites: {ec2: {gateways: gw-1}}\n", "a list"),
        (
            f"sites: {{ec2: {BY_GW}, vpc: {BY_GW}}}\n",
            "sites.vpc.gateways[0]: gw-1: expected it in one site only (it is in ec2 too)",
        ),
        (
            f"sites: {{ec2: {BY_GW}}}\noverlay_subnet: 192.168.0.0/17\n",
            "192.168.0.0/17, which has 32768 addresses: expected at most 16384",
        ),
        (
            f"sites: {{ec2: {BY_GW}}}\ntunnel_port: 20000\n",
            "tunnel_port: the number 20000: expected a port outside 16384-32767",
        ),
        (
            f"site: ec2\nsites: {{ec2: {BY_GW}}}\nidentity: {{id: gw-1, private: 10.0.0.5}}\n",
            "identity.id: gw-1, a gateway of site ec2: expected public beside it",
        ),
        ("tunnel_port: 0\n", "a whole number from 1 to 65535"),
        (f"{ENCRYPTED}tunnel_port: 22\n", "a port other than that of ssh_port"),
        (f"{ENCRYPTED}tunnel_port: 7077\n", "a port other than that of verify_port"),
        (
            f"{ENCRYPTED}metrics_listen: '[::1]:51820'\n",
            "tunnel_port: the number 51820: expected a port other than that of metrics_listen",
        ),
        (f"{ENCRYPTED}open_ports: [80, 51820/udp]\n", "open_ports[1]: 51820/udp, which is"),
        ("metrics_listen: '9100'\n", "host:port such as 127.0.0.1:9100"),
        ("metrics_listen: 127.0.0.1\n", "host:port"),
        ("log_file: neti.log\n", "an absolute path"),
    ],
)
def test_one_mistake_is_one_line_that_helps(refused: Refused, text: str, says: str) -> None:
    """A mistake is one line that says what was expected, and is not reported twice."""
    registry = "" if text.startswith("registry:") else LOCAL
    lines = refused(text, registry=registry)
    assert len(lines) == 1, lines
    assert says in lines[0]


@pytest.mark.parametrize(
    ("written", "meant"),
    [("Require", "require"), ("PREFER", "prefer"), ("required", "require"), ("yes", "prefer")],
)
def test_what_was_meant_by_encrypt_is_offered(refused: Refused, written: str, meant: str) -> None:
    (line,) = refused(f"sites: {{ec2: {{encrypt: {written}}}}}\n", registry=LOCAL)
    assert f"(write: encrypt: {meant})" in line


@pytest.mark.parametrize("off", ["off", '"off"', "Off", "false"])
def test_encryption_that_is_off_may_be_written_as_yaml_has_it(load_text: Load, off: str) -> None:
    """YAML takes off without quotes for false, and templates write it so."""
    assert load_text(f"sites: {{ec2: {{encrypt: {off}}}}}\n").sites["ec2"].encrypt is Encrypt.OFF


@pytest.mark.parametrize(
    "text",
    [
        "tunnel_port: 7077\n",
        "verify_port: 51820\nopen_ports: [51820/udp]\n",
        "sites: {a: {encrypt: prefer}}\nopen_ports: [51820, 50000-60000/udp]\n",
    ],
)
def test_the_tunnels_port_is_in_nobodys_way(load_text: Load, text: str) -> None:
    """Where nothing is encrypted, nor among TCP ports, nor inside a range."""
    assert load_text(text)


def test_encryption_is_required_only_with_keys_that_nobody_can_replace(
    load_text: Load, refused: Refused
) -> None:
    """In a registry without TLS anybody on the way could put another key in its place."""
    text = "zk_hosts: {ec2: [10.0.0.5]}\nsites: {ec2: {encrypt: require}}\n"
    (line,) = refused(text, registry="")
    assert "sites.ec2.encrypt: the text 'require': expected off or prefer" in line
    assert "write registry_tls first" in line
    tls = "registry_tls: {ca: /a, cert: /b, key: /c}\n"
    assert load_text(text + tls, registry="").sites["ec2"].encrypt is Encrypt.REQUIRE


def test_gateways_are_used_only_with_keys_that_nobody_can_replace(
    load_text: Load, refused: Refused
) -> None:
    """Otherwise a gateway could be sent what is encrypted for a key of its own."""
    text = f"zk_hosts: {{ec2: [10.0.0.5]}}\nsites: {{ec2: {BY_GW}}}\n"
    (line,) = refused(text, registry="")
    assert "sites.ec2.reached_by: the text 'gateway': expected public or private" in line
    assert "write registry_tls first" in line
    site = load_text(f"{text}registry_tls: {{ca: /a, cert: /b, key: /c}}\n", registry="").sites
    assert site["ec2"].reached_by is Reach.GATEWAY
    assert site["ec2"].gateways == ("gw-1",)


def test_check_says_which_sites_are_reached_by_gateways(load_text: Load) -> None:
    settings = load_text(f"sites: {{ec2: {BY_GW}, vpc: {{}}}}\n")
    (line,) = [line for line in describe(settings) if line.startswith("  gateways")]
    assert "ec2 by gw-1; UDP ports 16384-32767" in line
    assert summary(settings)["sites"]["ec2"]["gateways"] == ["gw-1"]
    assert not [line for line in describe(load_text("sites: {a: {}}\n")) if "gateways" in line]


def test_check_says_by_which_way_each_pair_of_sites_reach_each_other(load_text: Load) -> None:
    """Unless all do by public address."""
    link = "{private: [10.9.0.0/16], reached_by: private}"
    also = "{private: [10.8.0.0/16], reached_by: private, encrypt: off}"
    text = f"sites: {{ec2: {BY_GW}, vpc: {{}}, dc: {link}, lab: {also}, far: {{}}}}\n"
    said = describe(load_text(text))
    (at,) = [n for n, line in enumerate(said) if line.startswith("  between")]
    lines = [line[14:] for line in said[at : at + 10]]
    gateways = "by public address, and by gateways where a host has none of its own"
    assert lines == [
        f"ec2 and vpc: {gateways}; encrypted or not at all",
        "ec2 and dc: by private address, both ways; encrypt prefer",
        "ec2 and lab: by private address, both ways; encrypt prefer",
        f"ec2 and far: {gateways}; encrypted or not at all",
        "vpc and dc: vpc to dc by private address, back by public address; in the clear",
        "vpc and lab: vpc to lab by private address, back by public address; in the clear",
        "vpc and far: by public address; in the clear",
        "dc and lab: by private address, both ways; in the clear",
        "dc and far: far to dc by private address, back by public address; in the clear",
        "lab and far: far to lab by private address, back by public address; in the clear",
    ]
    assert "between" not in str(describe(load_text("sites: {a: {}, b: {}}\n")))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "1: nothing in the file"),
        ("# nothing but this\n", "1: nothing in the file"),
        ("- ec2\n- vpc\n", "a list: expected keys"),
        ("just text\n", "the text 'just text': expected keys"),
        ("site: ec2\n---\nsite: vpc\n", "2: a second document"),
        ("sites:\n\tec2: {}\n", "2: a tab at the beginning"),
        ("sites: {ec2: {}\n", "not YAML"),
        ("a: \x01\n", "not YAML"),
        ("? [a, b]\n: c\n", "a key that is not plain text"),
        ("? {a: b}\n: c\n", "a key that is not plain text"),
        ("site: !!python/object/apply:os.system [id]\n", "a YAML tag"),
        ("site: *nowhere\n", "an alias (*) without its anchor"),
        ("sites: &a {ec2: *a}\n", "an alias (*) without its anchor"),
        ("base: &b {private: []}\nsites: {ec2: {<<: *b}}\n", "a merge (<<)"),
        ("trusted: " + "[" * 500 + "]" * 500 + "\n", "more than 32 levels"),
    ],
)
def test_what_is_not_a_plain_yaml_mapping(refused: Refused, text: str, says: str) -> None:
    """What is not a plain mapping of keys is refused in words, with its line."""
    assert any(says in line for line in refused(text, registry=""))


def test_aliases_that_grow_are_refused_quickly(refused: Refused) -> None:
    """A few lines of aliases cannot take the program's memory or time."""
    text = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    for level in range(1, 9):
        text += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"
    assert any("expand to too many values" in line for line in refused(text))


def test_anchors_work(load_text: Load) -> None:
    """An anchor and its alias are one value written once."""
    loaded = load_text("ssh_whitelist: &office [203.0.113.0/24]\ntrusted: *office\n")
    assert loaded.trusted == loaded.ssh_whitelist == (IPv4Network("203.0.113.0/24"),)


@pytest.mark.parametrize("name", ["ip-map", "/ip-map", "/neti/ip-map"])
def test_node_names_of_2014_may_be_paths(load_text: Load, name: str) -> None:
    """A znode's name may be written as 2014 files did, with the root before it."""
    assert load_text(f"zk_ip_map_node: {name}\n").zk_ip_map_node == "ip-map"


def test_node_paths_follow_the_prefix(load_text: Load) -> None:
    """A znode's path below another root is its name below that root."""
    loaded = load_text("zk_prefix: /fleet/neti\nzk_ip_map_node: /fleet/neti/map\n")
    assert (loaded.zk_prefix, loaded.zk_ip_map_node) == ("/fleet/neti", "map")


def test_zookeeper_hosts_get_their_port_and_brackets(load_text: Load) -> None:
    """A ZooKeeper host without a port has the stock port, in either family."""
    hosts = '[10.0.0.5, zk.example.com:2182, "[2001:db8::5]"]'
    loaded = load_text(f"zk_hosts: {{ec2: {hosts}}}\n", registry="")
    assert loaded.embedded is None
    assert loaded.zk_hosts["ec2"] == ("10.0.0.5:2181", "zk.example.com:2182", "[2001:db8::5]:2181")


def test_the_registry_key_wins_over_zk_hosts(load_text: Load) -> None:
    """With both registries written, the key registry decides, and a warning says so."""
    loaded = load_text("zk_hosts: {ec2: [10.0.0.5]}\n")
    assert loaded.embedded == Path("/var/lib/neti/registry.db")
    assert any("zk_hosts is not used" in warning for warning in loaded.warnings)


def test_without_any_registry_the_error_says_what_to_write(refused: Refused) -> None:
    """A file with neither registry is refused with both ways to name one."""
    for text in ("site: auto\n", "zk_hosts:\n", "zk_hosts: {ec2: [], vpc: }\n"):
        (line,) = refused(text, registry="")
        assert "per site; or, to try Neti on one machine, registry: embedded:" in line


def test_the_own_site_needs_a_zookeeper_list(refused: Refused) -> None:
    """A ZooKeeper list that leaves out the own site is refused with the line to add."""
    (line,) = refused("site: vpc\nzk_hosts: {ec2: [10.0.0.5]}\n", registry="")
    assert "no hosts for this host's own site 'vpc'" in line


def test_overlay_apart_from_every_site_range(refused: Refused) -> None:
    """Every range of a site that overlaps the overlay is refused, each by its place."""
    lines = refused(
        "overlay_subnet: 10.21.0.0/18\n"
        "sites:\n"
        "  ec2: {private: [10.0.0.0/8]}\n"
        "  vpc:\n"
        "    private: [172.16.0.0/12]\n"
        "    public: [192.0.2.0/24, 10.21.9.0/24]\n"
    )
    assert [line.partition(": ")[2].partition(":")[0] for line in lines] == [
        "sites.ec2.private[0]",
        "sites.vpc.public[1]",
    ]


def test_identity_and_site_must_fit_one_entry(refused: Refused, load_text: Load) -> None:
    """An id and a site too long for one registry entry are refused before anything registers."""
    host, site = "h" * 20, "s" * 16
    (line,) = refused(
        f"site: {site}\nsites: {{{site}: }}\nidentity: {{id: {host}, private: 10.0.0.5}}\n".replace(
            ": }", ": {}}"
        )
    )
    assert "too long together" in line
    assert load_text(f"identity: {{id: {'i-' + '0' * 17}, private: 10.0.0.5}}\n").identity


def test_static_identity(load_text: Load) -> None:
    """A static identity and further addresses load as written, repetitions dropped."""
    loaded = load_text(
        "identity: {id: db-1, private: 10.0.0.5, public: 198.51.100.5, ipv6: '2001:db8::5'}\n"
        "addresses: [10.0.0.6, '2001:db8::6', 10.0.0.6]\n"
    )
    assert loaded.identity == StaticIdentity(
        id="db-1",
        private=IPv4Address("10.0.0.5"),
        public=IPv4Address("198.51.100.5"),
        ipv6=IPv6Address("2001:db8::5"),
    )
    assert loaded.addresses == (IPv4Address("10.0.0.6"), IPv6Address("2001:db8::6"))


def test_too_many_addresses(refused: Refused) -> None:
    """More addresses than one registry entry holds are refused."""
    listed = ", ".join(f"10.0.1.{number}" for number in range(65))
    (line,) = refused(f"addresses: [{listed}]\n")
    assert "at most 64" in line


def test_reject_all_without_a_way_in_is_a_warning(load_text: Load) -> None:
    """Keeping everyone out without a way in for SSH is warned about."""
    assert any(
        "this host will refuse to enforce" in w for w in load_text("reject_all: true\n").warnings
    )
    for covered in ("ssh_whitelist: [10.0.0.0/8]\n", "allow_empty_ssh_whitelist: true\n"):
        assert not load_text(f"reject_all: true\n{covered}").warnings


def test_a_site_without_ipv6_ranges_is_a_warning_where_encryption_is_required(
    load_text: Load,
) -> None:
    def warned(encrypt: str) -> list[str]:
        text = (
            "zk_hosts: {ec2: [10.0.0.5:2181]}\n"
            f"sites: {{ec2: {{public: [198.51.100.0/24], encrypt: {encrypt}, "
            "ipv6: [2001:db8::/32]}, vpc: {public: [203.0.113.0/24]}}\n"
            "registry_tls: {ca: /a, cert: /b, key: /c}\n"
        )
        warnings = load_text(text, registry="").warnings
        return [one for one in warnings if "no ipv6 ranges" in one]

    assert warned("prefer") == []
    (said,) = warned("require")
    assert said.startswith("sites.vpc has no ipv6 ranges, and encryption is required")


def test_trusting_everyone_is_a_warning(load_text: Load) -> None:
    """Trusting the whole of a family is warned about."""
    assert "everyone gets in" in load_text("trusted: ['::/0']\n").warnings[0]


@pytest.mark.parametrize(
    ("text", "registry", "says"),
    [
        ("aws_key: AKIA\n", LOCAL, "one alone is not used"),
        ("aws_secret_key: x\n", LOCAL, "one alone is not used"),
        ("session_seconds: 60\n", "zk_hosts: {ec2: [10.0.0.5]}\n", "after 40 s at most"),
        ("registry_tls: {ca: /a, cert: /b, key: /c}\n", LOCAL, "registry_tls is not used"),
        ("bin: /usr/local/bin/neti\n", LOCAL, "bin has no effect any more"),
        ("ssh_whitelist: [0.0.0.0/0]\n", LOCAL, "everyone can connect to SSH"),
        ("sites: {a: {private: [10.0.0.0/8]}}\n", "zk_hosts: {a: [10.0.0.5]}\n", "any public"),
        ("", "zk_hosts: {ec2: [10.0.0.5]}\n", "members may claim any address"),
        ("", "zk_hosts: {ec2: [10.0.0.5], vpc: []}\n", "agents in site vpc cannot start"),
        ("site: production\nsites: {production: {}}\n", LOCAL, "no instance in this site"),
        ("sites: {production: {}}\n", LOCAL, "no instance in this site"),
        ("addresses: ['2002:808:808::1']\n", LOCAL, "an address of 6to4 (2002::/16)"),
        (
            "site: a\nsites: {a: {ipv6: ['2001:db8:1::/48']}}\naddresses: ['2001:db8:2::1']\n",
            LOCAL,
            "outside sites.a.ipv6",
        ),
        (
            f"identity: {{id: {'x' * 22}, private: 10.0.0.1}}\nsites: {{a: {{}}, site-7x: {{}}}}\n",
            LOCAL,
            "in that site this host could not be registered",
        ),
    ],
)
def test_what_a_valid_file_does_not_do_is_a_warning(
    load_text: Load, text: str, registry: str, says: str
) -> None:
    """A key that will have no effect, or less than it says, is named in a warning."""
    assert any(says in warning for warning in load_text(text, registry=registry).warnings)


def test_a_site_with_public_ranges_and_a_short_name_is_no_warning(load_text: Load) -> None:
    """What is as it should be is silent; a long name counts only where instances can be."""
    here = "a: {public: [198.51.100.0/24], vpc_ids: [vpc-1]}"
    sites = f"sites: {{{here}, a-data-center: {{public: [10.0.0.0/8]}}}}\n"
    assert not load_text(sites, registry="zk_hosts: {a: [10.0.0.5]}\n").warnings


@pytest.mark.parametrize("text", ["10.0.0.0/8", "2002:808:808::/48", "64:ff9b::/96"])
def test_ipv6_ranges_are_those_of_hosts(refused: Refused, text: str) -> None:
    """Neither IPv4 nor what stands for it is a range of a site's IPv6 addresses."""
    (line,) = refused(f"sites: {{a: {{ipv6: ['{text}']}}}}\n")
    assert "sites.a.ipv6[0]" in line
    assert "an IPv6 CIDR" in line


def test_a_long_session_of_the_embedded_registry_is_granted(load_text: Load) -> None:
    """The warning about a stock ZooKeeper's limit is for ZooKeeper only."""
    assert not load_text("session_seconds: 60\n").warnings


def test_keys_in_a_file_that_all_may_read(load_text: Load, tmp_path: Path) -> None:
    """AWS keys in a file that everyone can read are warned about, and only then."""
    loaded = load_text(f"aws_key: AKIA\naws_secret_key: {SECRET}\n")
    assert not any("everyone on this host can read it" in w for w in loaded.warnings)
    (tmp_path / "neti.yml").chmod(0o640)
    assert load(loaded.path).warnings == loaded.warnings
    (tmp_path / "neti.yml").chmod(0o644)
    assert any("everyone on this host can read it" in w for w in load(loaded.path).warnings)


def test_secrets_are_in_no_repr_and_no_warning(load_text: Load) -> None:
    """Neither the settings' repr nor a warning shows an AWS key."""
    loaded = load_text(f"aws_key: AKIANOBODY\naws_secret_key: {SECRET}\n")
    assert loaded.aws_secret_key == SECRET
    shown = repr(loaded) + "".join(loaded.warnings)
    assert SECRET not in shown
    assert "AKIANOBODY" not in shown


@pytest.mark.parametrize(
    "text",
    [
        f"aws_secret_key: [{SECRET}]\n",
        f"aws_secret_key: {{{SECRET}: 1}}\n",
        f"aws_secret_key: !{SECRET} x\n",
        f"aws_secret_key: *{SECRET[:13]}\n",
        f"aws_secret_key: {SECRET}: {SECRET}\n",
        f'aws_secret_key: "{SECRET}\n',
        f"aws_secret_key: %{SECRET}\n",
        f"aws_secret_kye: {SECRET}\n",
        "aws_secret_key: 0777123\n",
        "aws_secret_key: 777123\n",
        f"aws_secret_key: {SECRET}\naws_secret_key: {SECRET}\n",
        f"aws_secret_key: {SECRET}\nssh_port: x\n",
        f"aws_secret_key: {{{SECRET}: 1, {SECRET}: 2}}\n",
        f"aws_secret_key: {{{SECRET}: 010}}\n",
        f"aws_secret_key: {{{SECRET}: !x 1}}\n",
        f"zk_hosts:\n  ec2: [10.0.0.5]\n  aws_secret_key: {SECRET}\n",  # one indent too many
        f"sites:\n  aws_secret_key: {SECRET}\n",
        f"nat_overrides:\n  aws_secret_key: {SECRET}\n",
        f"zk_hosts: {{AWS_SECRET_ACCESS_KEY: {SECRET}}}\n",
        f"identity: {{id: a, private: 10.0.0.5, aws_secret_key: {SECRET}}}\n",
        "sites: {aws_secret_key: 0777123}\n",
        f"site: aws_secret_key={SECRET}\n",
    ],
)
def test_no_error_shows_a_secret(refused: Refused, text: str) -> None:
    """No mistake around a secret makes an error show it."""
    lines = "\n".join(refused(text))
    assert SECRET[:13] not in lines
    assert "777123" not in lines


@pytest.mark.parametrize(
    "text",
    [
        f"aws_secret_key={SECRET}\n",  # an ini file's way
        f"aws_secret_key {SECRET}\n",
        f"site=ec2\naws_secret_key={SECRET}\n",
        f"{{aws_secret_key:{SECRET}, site: ec2}}\n",  # without the blank, all of it is the key
        f"{{aws_secret_key:{SECRET[:13]}, site: ec2}}\n",
        f"- aws_secret_key: {SECRET}\n",
    ],
)
def test_a_file_that_is_no_mapping_shows_no_secret(refused: Refused, text: str) -> None:
    """What was meant as a secret's line, but is none in YAML, is cut short in the error."""
    assert SECRET[:13] not in "\n".join(refused(text, registry=""))


def test_an_error_has_no_cause_that_shows_a_secret(load_text: Load) -> None:
    """A traceback of the error shows no earlier exception that quotes the file."""
    with pytest.raises(ConfigError) as caught:
        load_text(f"aws_secret_key: [{SECRET}]\n")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_state_folder_that_all_may_write_to_is_refused(refused: Refused, tmp_path: Path) -> None:
    """State is never kept where everyone may write, sticky bit or not."""
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(0o1777)
    (line,) = refused(f"table_files_path: {folder}\n")
    assert "everyone can write to" in line


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A file that is missing, a folder, no UTF-8 or too long is one clear error."""
    latin = tmp_path / "latin.yml"
    latin.write_bytes(b"site: ec2\nlog_file: /var/log/n\xe4ti\n")
    huge = tmp_path / "huge.yml"
    huge.write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    for path, says in (
        (tmp_path / "none.yml", "does not exist"),
        (tmp_path, "a directory"),
        (latin, ":2: byte 0xe4 is not UTF-8"),
        (huge, "larger than 4 MiB"),
        (tmp_path / "none.yml" / "below", "cannot be read|no such file"),
        (Path("a\0b"), "cannot be read"),
    ):
        if path == huge.parent / "none.yml" / "below":
            (tmp_path / "none.yml").write_text("")
        with pytest.raises(ConfigError, match=says):
            load(path)


def test_a_pipe_is_read_and_never_waited_for_without_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``-c /dev/stdin`` works, and a pipe to which nobody writes is one clear error."""
    monkeypatch.setattr("neti.config.file._PATIENCE", 0.05)
    path = tmp_path / "neti.yml"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match=r"neti\.yml is a pipe.*expected a file"):
        load(path)
    both_ways = os.open(path, os.O_RDWR)
    with pytest.raises(ConfigError, match=r"neti\.yml is a pipe.*expected a file"):
        load(path)
    os.close(both_ways)
    reader, writer = os.pipe()
    os.write(writer, LOCAL.encode())
    os.close(writer)
    assert load(Path(f"/dev/fd/{reader}")).embedded is not None
    os.close(reader)


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    """A file that this user may not read is one clear error."""
    require_root()  # to become somebody else
    path = tmp_path / "neti.yml"
    path.write_text(LOCAL)
    path.chmod(0o600)
    tmp_path.chmod(0o755)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        os.setresuid(65534, 65534, 65534)
        try:
            load(path)
        except ConfigError as error:
            os.write(writer, str(error).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    said = os.read(reader, 4096).decode()
    os.close(reader)
    assert "cannot be read by this user" in said or "Permission denied" in said


def test_a_byte_order_mark_is_no_key(tmp_path: Path) -> None:
    """A byte order mark that an editor wrote does no harm."""
    path = tmp_path / "neti.yml"
    path.write_bytes(b"\xef\xbb\xbf" + LOCAL.encode())
    assert load(path).embedded is not None


_WORDS = st.sampled_from(
    [
        *json_schema()["properties"],
        "ec2",
        "vpc",
        "<<",
        "null",
        "true",
        "010",
        "22:25",
        "[key]",
        "<static>",
    ]
)
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | _WORDS
_TREES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_WORDS, inner, max_size=4),
    max_leaves=12,
)
_ONCE_PER_TEST = [HealthCheck.function_scoped_fixture]


def _loads_or_says_why(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    said = [f"{path}: loads"]
    try:
        load(path)
    except ConfigError as error:
        said = str(error).splitlines()
    assert said
    for line in said:
        assert re.match(rf"{re.escape(str(path))}:(\d+:)? ", line), line


@settings(suppress_health_check=_ONCE_PER_TEST, max_examples=share_of(200), deadline=None)
@given(st.binary(max_size=200))
@example(b"\xff\xfe")
@example(b"a: \x85b")
def test_no_bytes_raise_anything_but_config_error(tmp_path: Path, content: bytes) -> None:
    """Whatever bytes the file holds, it loads or ConfigError says why."""
    _loads_or_says_why(tmp_path / "neti.yml", content)


@settings(suppress_health_check=_ONCE_PER_TEST, max_examples=share_of(200), deadline=None)
@given(st.text(alphabet=st.sampled_from("abc:-[]{}&*!|>%@`'\"#,? \n\t01.~<="), max_size=60))
@example("0" * 5000)
@example("ssh_port: " + "9" * 5000)
@example("? ? ? a")
def test_no_yaml_raises_anything_but_config_error(tmp_path: Path, text: str) -> None:
    """Whatever YAML-like text the file holds, it loads or ConfigError says why."""
    _loads_or_says_why(tmp_path / "neti.yml", text.encode())


_EXAMPLES = [(DATA / name).read_text() for name in ("neti-2014.yml", "neti-complete.yml")]


@settings(suppress_health_check=_ONCE_PER_TEST, max_examples=share_of(100), deadline=None)
@given(st.sampled_from(_EXAMPLES), st.integers(0, 2000), st.integers(0, 30), st.text(max_size=10))
def test_no_slip_of_the_pen_raises_anything_but_config_error(
    tmp_path: Path, text: str, start: int, length: int, typed: str
) -> None:
    """A good file with something cut out and typed in loads, or ConfigError says why."""
    edited = text[:start] + typed + text[start + length :]
    _loads_or_says_why(tmp_path / "neti.yml", edited.encode(errors="surrogatepass"))


@settings(suppress_health_check=_ONCE_PER_TEST, max_examples=share_of(200), deadline=None)
@given(st.dictionaries(_WORDS, _TREES, max_size=5))
def test_no_document_raises_anything_but_config_error(
    tmp_path: Path, document: dict[str, Any]
) -> None:
    """Whatever values known keys have, the file loads or ConfigError says why."""
    text = (
        json.dumps(document, ensure_ascii=True).replace("NaN", ".nan").replace("Infinity", ".inf")
    )
    _loads_or_says_why(tmp_path / "neti.yml", text.encode())


_MISPLACED = st.recursive(
    st.sampled_from(
        [
            {"aws_secret_key": SECRET},
            {"aws_key": [SECRET]},
            {"aws_secret_key": {SECRET: 10}},
            {"aws_secret": {"a": [SECRET]}},
        ]
    ),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_WORDS, inner, max_size=3),
    max_leaves=4,
)


@settings(suppress_health_check=_ONCE_PER_TEST, max_examples=share_of(100), deadline=None)
@given(st.dictionaries(_WORDS.filter(lambda key: key != "bin"), _MISPLACED, max_size=3))
def test_no_place_makes_an_error_show_a_secret(tmp_path: Path, document: dict[str, Any]) -> None:
    """Wherever in the file a secret came to stand, the errors do not show it."""
    path = tmp_path / "neti.yml"
    path.write_text(json.dumps(document))
    said = ""
    try:
        load(path)
    except ConfigError as error:
        said = str(error)
    assert SECRET[:13] not in said


def test_the_schema_knows_every_key_of_the_examples() -> None:
    """The JSON Schema lists every key that loads, and refuses others as loading does."""
    properties = json_schema()["properties"]
    for name in ("neti-2014.yml", "neti-complete.yml"):
        keys = re.findall(r"^([a-z_0-9]+):", (DATA / name).read_text(), re.MULTILINE)
        assert keys
        assert set(keys) <= set(properties)
    assert json_schema()["additionalProperties"] is False


def test_the_schema_describes_every_key() -> None:
    """An editor shows what a key means, and knows its limits, however deep it is."""

    def properties(part: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        if isinstance(part, dict):
            yield from part.get("properties", {}).items()
            for each in part.values():
                yield from properties(each)
        elif isinstance(part, list):
            for each in part:
                yield from properties(each)

    schema = json_schema()
    found = list(properties(schema))
    assert {"sites", "private", "from", "cert"} <= {key for key, _ in found}
    assert not [key for key, told in found if not told.get("description")]
    text = json.dumps(schema)
    assert '"ge"' not in text
    assert '"minimum": 576' in text


def test_the_program_gets_by_without_pydantic_until_it_loads() -> None:
    """Only this package may import pydantic, and only once a file is read."""
    code = "import sys, neti.model.settings, neti.config; print('pydantic' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


def test_no_plugin_of_another_distribution_runs(tmp_path: Path) -> None:
    """pydantic would run any that is installed, in an agent that is root."""
    made = tmp_path / "stranger-1.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1\n")
    (made / "entry_points.txt").write_text("[pydantic]\nstranger = stranger:plugin\n")
    (tmp_path / "stranger.py").write_text("print('it runs')\nplugin = None\n")
    environment = {k: v for k, v in os.environ.items() if k != "PYDANTIC_DISABLE_PLUGINS"}
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    code = f"from neti.config import load, Path; load(Path({str(DATA / 'neti-2014.yml')!r}))"
    shown = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**environment, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == ""


def test_check_says_what_the_file_means() -> None:
    """config check prints what a valid file means, and its warnings on stderr."""
    result = CliRunner().invoke(config_group, ["check", "-c", str(DATA / "neti-2014.yml")])
    assert result.exit_code == 0
    assert "8000-8010/tcp" in result.stdout
    assert "warning: aws_key" in result.stderr


def test_check_lists_mistakes_on_stderr(tmp_path: Path) -> None:
    """config check refuses a bad file with exit code 2 and prints nothing on stdout."""
    path = tmp_path / "neti.yml"
    path.write_text('reject_all: "false"\n' + LOCAL)
    result = CliRunner().invoke(config_group, ["check", "-c", str(path)])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"{path}:1: reject_all: ")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('reject_all: "false"\nsit: ec2\n' + LOCAL, [1, 2]),
        ("- a list\n", [1]),
        ("sites: {\n", [2]),
    ],
)
def test_the_program_prints_the_mistakes_and_nothing_else(
    tmp_path: Path, text: str, lines: list[int]
) -> None:
    """The program itself ends with 2 and a line per mistake on stderr, without a traceback."""
    path = tmp_path / "neti.yml"
    path.write_text(text)
    command = [sys.executable, "-m", "neti", "config", "check", "-c", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    said = ended.stderr.splitlines()
    assert len(said) == len(lines)
    for line, number in zip(said, lines, strict=True):
        assert line.startswith(f"{path}:{number}: ")


def test_a_missing_file_is_one_line_of_the_program(tmp_path: Path) -> None:
    """A file that is not there ends with 2 and one line that says where to begin."""
    result = CliRunner().invoke(config_group, ["check", "-c", str(tmp_path / "none.yml")])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "does not exist" in line
    assert "-c" in line


def test_check_in_json(tmp_path: Path) -> None:
    """config check --json is one JSON document for a good file and for a bad one."""
    good = CliRunner().invoke(config_group, ["check", "--json", "-c", str(DATA / "neti-2014.yml")])
    document = json.loads(good.stdout)
    assert document["valid"] is True
    assert document["open_ports"] == ["80/tcp", "443/tcp", "8000-8010/tcp"]
    assert "AKIAEXAMPLE" not in good.output
    bad = CliRunner().invoke(config_group, ["check", "--json", "-c", str(tmp_path / "none.yml")])
    assert bad.exit_code == 2
    assert json.loads(bad.stdout)["errors"]


def test_schema_is_json() -> None:
    """config schema prints one JSON document."""
    result = CliRunner().invoke(config_group, ["schema"])
    assert json.loads(result.stdout)["title"] == "neti.yml"


def test_the_road_to_a_site_and_the_interfaces_of_containers(load_text: Load) -> None:
    """Neither is said by default, and an empty list is not auto."""
    plain = load_text("sites: {a: {private: [10.0.0.0/8]}}\n")
    assert plain.sites["a"].mtu is None
    assert plain.container_interfaces is None
    interfaces = "container_interfaces: [docker0, 'cali*', docker0]\n"
    said = load_text(f"sites: {{a: {{mtu: 1400}}}}\n{interfaces}")
    assert said.sites["a"].mtu == 1400
    assert said.container_interfaces == ("docker0", "cali*")
    assert load_text("container_interfaces: []\n").container_interfaces == ()
    assert load_text("container_interfaces: auto\n").container_interfaces is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sites: {a: {mtu: 100}}\n", "a whole number from 576 to 9216"),
        ("sites: {a: {mtu: '1400'}}\n", "without quotes"),
        ("container_interfaces: docker0\n", "auto, or a list of interfaces"),
        ("container_interfaces: ['*']\n", "a prefix such as cali*"),
        ("container_interfaces: ['a\"b']\n", "an interface name such as docker0"),
        ("container_interfaces: [5]\n", "an interface name such as docker0"),
        ("container_interfaces:\n", "auto, or a list of interfaces"),
    ],
)
def test_what_is_no_road_and_no_interface_is_said(
    load_text: Load, text: str, expected: str
) -> None:
    """With what was expected."""
    with pytest.raises(ConfigError, match=re.escape(expected)):
        load_text(text)


def test_a_file_that_everyone_can_write_is_said(tmp_path: Path) -> None:
    """Whoever can write it decides whom this host lets in."""
    path = tmp_path / "neti.yml"
    path.write_text("registry: embedded:/var/lib/neti/r.db\nsite: ec2\n")
    path.chmod(0o666)
    assert any(f"chmod o-w {path}" in warning for warning in load(path).warnings)
    path.chmod(0o664)
    assert not any("chmod" in warning for warning in load(path).warnings)


@pytest.mark.parametrize(
    ("found", "says", "warns"),
    [
        ("module", "UDP port 51820, by this kernel's module\n", ""),
        ("wireguard-go", "by wireguard-go, which is slower", ""),
        (None, "by nothing on this machine", "Install the package wireguard-go"),
    ],
)
def test_check_says_what_this_machine_would_encrypt_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str | None, says: str, warns: str
) -> None:
    """Nobody should learn after the roll-out that a host has nothing to encrypt with."""
    monkeypatch.setattr(encrypting, "implementation", lambda: found)
    path = tmp_path / "neti.yml"
    path.write_text(LOCAL + ENCRYPTED)
    result = CliRunner().invoke(config_group, ["check", "-c", str(path)])
    assert result.exit_code == 0
    assert says in result.stdout
    assert (warns in result.stderr) if warns else "wireguard" not in result.stderr
    document = json.loads(
        CliRunner().invoke(config_group, ["check", "--json", "-c", str(path)]).stdout
    )
    assert document["wireguard"] == found
    assert document["sites"]["ec2"]["encrypt"] == "prefer"
    path.write_text(LOCAL)
    assert "WireGuard" not in CliRunner().invoke(config_group, ["check", "-c", str(path)]).output
