"""Which instances an operator admits, and how they are followed."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import MappingProxyType

import pytest
from click.testing import CliRunner

from neti.aws.admit import asked
from neti.aws.calls import Place
from neti.aws.instances import Instance
from neti.cli import cli
from neti.model import Site
from neti.model.settings import Settings
from neti.registry.admitted import Asked

SETTINGS = Settings(
    path=Path("neti.yml"),
    sites=MappingProxyType(
        {
            "ec2": Site(name="ec2", private=(IPv4Network("10.0.0.0/16"),), vpc_ids=("vpc-0aa1",)),
            "vpc": Site(name="vpc", private=(IPv4Network("10.1.0.0/16"),), vpc_ids=("vpc-0bb2",)),
        }
    ),
)
ONE = Instance(
    id="i-0123456789abcdef0",
    place=Place("default", "us-east-1"),
    state="running",
    vpc_id="vpc-0bb2",
    privates=(IPv4Address("10.1.0.1"),),
)


@pytest.mark.parametrize("state", ["running", "pending"])
def test_an_instance_in_a_site_is_admitted_before_its_agent_starts(state: str) -> None:
    assert asked([replace(ONE, state=state)], SETTINGS) == [Asked(ONE.id)]


@pytest.mark.parametrize(
    "other",
    [
        replace(ONE, state="terminated"),
        replace(ONE, state="stopped"),
        replace(ONE, vpc_id="vpc-0cc3", privates=(IPv4Address("10.9.0.1"),)),
        replace(ONE, privates=()),
    ],
)
def test_any_other_is_not(other: Instance) -> None:
    assert asked([other], SETTINGS) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--aws"], "--aws needs --subject"),
        (["a", "--region", "us-east-1"], "go with --aws"),
        (["a", "CN=a", "--follow", "9"], "--follow goes with --aws"),
        (["--aws", "--subject", "CN={id}", "--follow", "9", "--json"], "--follow goes with"),
        ([], "name at least one ID"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_asked(
    options: list[str], said: str, tmp_path: Path
) -> None:
    config = tmp_path / "neti.yml"
    config.write_text("zk_hosts: {ec2: ['127.0.0.1:1']}\nsite: ec2\n")
    done = CliRunner().invoke(cli, ["registry", "admit", *options, "-c", str(config)])
    assert done.exit_code == 2
    assert said in done.stderr
