"""``neti aws ip-ranges --fleet``: the fleet's own addresses, followed, never lost by mistake."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.aws.conftest import Members, Neti
from tests.support.aws import Account, MotoServer

from neti.aws.ip_ranges import FLEET, Shape
from neti.aws.tunnel_rule import advice, for_gateways
from neti.model import Encrypt, Reach, Site

ADDRESSES = [f"198.51.100.{n}" for n in (1, 2, 3, 4)]


@pytest.fixture(name="group")
def _group(account: Account) -> str:
    """In the VPC of site ec2, so that the members of vpc are let in."""
    return account.group("web")


@pytest.fixture(name="fleet")
def _fleet(members: Members) -> Members:
    for number, public in enumerate(ADDRESSES, 1):
        members.join(f"vpc-{number}", f"10.21.0.{number}", public, site="vpc")
    members.join("ec2-1", "10.0.0.1", "203.0.113.1", site="ec2")
    return members


def _tcp(account: Account, group: str) -> set[str]:
    return {rule[3] for rule in account.rules(group) if rule[0] == "tcp"}


def _cidrs(*addresses: str) -> set[str]:
    return {f"{address}/32" for address in addresses}


def test_the_other_sites_addresses_and_no_others(
    neti: Neti, account: Account, group: str, fleet: Members
) -> None:
    """Neighbours come by private address. Each rule says whose it is."""
    result = neti("aws", "ip-ranges", "--group", group, "--fleet")
    assert result.exit_code == 0, result.output
    assert _tcp(account, group) == _cidrs(*ADDRESSES)
    assert "neti fleet: vpc-1" in {rule[4] for rule in account.rules(group)}
    assert ("icmp", 3, 4, "0.0.0.0/0") in {rule[:4] for rule in account.rules(group)}


@pytest.mark.parametrize("kind", ["rules", "prefix-list"])
def test_it_follows_the_fleet(
    neti: Neti, account: Account, group: str, fleet: Members, kind: str
) -> None:
    """A host that joined comes, one whose lease was released goes; a lost one stays."""
    words = ["aws", "ip-ranges", "--group", group, "--fleet", "--as", kind]
    assert neti(*words).exit_code == 0
    fleet.join("vpc-5", "10.21.0.5", "198.51.100.5", site="vpc")
    fleet.vanish("vpc-1")
    fleet.vanish("vpc-2")
    fleet.release("vpc-2")
    result = neti(*words)
    assert result.exit_code == 0, result.output
    assert "1 addresses stay for hosts that hold a lease" in result.output
    wanted = _cidrs("198.51.100.1", "198.51.100.3", "198.51.100.4", "198.51.100.5")
    if kind == "rules":
        assert _tcp(account, group) == wanted
    else:
        assert account.lists()["neti-fleet-ipv4"]["Cidrs"] == wanted


def test_an_address_that_changed_is_followed(
    neti: Neti, account: Account, group: str, fleet: Members
) -> None:
    """A stopped and started instance has another one; its old one may be a stranger's by now."""
    assert neti("aws", "ip-ranges", "--group", group, "--fleet").exit_code == 0
    fleet.vanish("vpc-1")
    fleet.join("vpc-1", "10.21.0.1", "198.51.100.9", site="vpc")
    assert neti("aws", "ip-ranges", "--group", group, "--fleet").exit_code == 0
    assert _tcp(account, group) == _cidrs("198.51.100.9", *ADDRESSES[1:])


def test_an_empty_registry_takes_nothing_out(
    neti: Neti, account: Account, group: str, fleet: Members, tmp_path: Path
) -> None:
    """It was wiped, or is the wrong one."""
    assert neti("aws", "ip-ranges", "--group", group, "--fleet").exit_code == 0
    before = account.rules(group)
    for number in range(1, 5):
        fleet.vanish(f"vpc-{number}")
        fleet.release(f"vpc-{number}")
    fleet.vanish("ec2-1")
    result = neti("aws", "ip-ranges", "--group", group, "--fleet")
    assert result.exit_code == 1
    assert "the registry has no member" in result.output
    assert account.rules(group) == before


def test_half_of_the_fleet_does_not_go_at_once(
    neti: Neti, account: Account, group: str, fleet: Members
) -> None:
    """Unless the operator has looked."""
    words = ["aws", "ip-ranges", "--group", group, "--fleet"]
    assert neti(*words).exit_code == 0
    for number in range(1, 4):
        fleet.vanish(f"vpc-{number}")
        fleet.release(f"vpc-{number}")
    refused = neti(*words)
    assert refused.exit_code == 1
    assert "3 of the fleet's 4 authorised addresses would be removed at once" in refused.output
    assert _tcp(account, group) == _cidrs(*ADDRESSES)
    assert neti(*words, "--allow-removals").exit_code == 0
    assert _tcp(account, group) == _cidrs("198.51.100.4")


def test_widened_addresses_stay_while_anybody_is_lost(
    neti: Neti, account: Account, group: str, fleet: Members
) -> None:
    """A widened prefix does not say whose it is, so it goes only when nobody is missing."""
    words = ["aws", "ip-ranges", "--group", group, "--fleet", "--max-rules", "5"]
    assert neti(*words).exit_code == 0
    assert _tcp(account, group) == {"198.51.100.0/30", "198.51.100.4/32"}
    fleet.vanish("vpc-4")
    assert neti(*words).exit_code == 0
    assert "198.51.100.4/32" in _tcp(account, group)
    fleet.release("vpc-4")
    assert neti(*words).exit_code == 0
    assert _tcp(account, group) == {"198.51.100.1/32", "198.51.100.2/31"}


def test_each_source_is_reverted_by_itself(
    neti: Neti, account: Account, group: str, fleet: Members
) -> None:
    """From AWS's ranges to the narrower fleet without a gap: one comes, then the other goes."""
    file = str(Path(__file__).parents[1] / "data/ip-ranges.json")
    ranges = ["--range-region", "us-east-1", "--file", file, "--max-rules", "20"]
    assert neti("aws", "ip-ranges", "--group", group, *ranges).exit_code == 0
    result = neti("aws", "ip-ranges", "--group", group, "--fleet")
    assert result.exit_code == 0, result.output
    assert neti("aws", "ip-ranges", "--group", group, "--revert").exit_code == 0
    assert _tcp(account, group) == _cidrs(*ADDRESSES)
    assert ("icmp", 3, 4, "0.0.0.0/0") in {rule[:4] for rule in account.rules(group)}
    assert neti("aws", "ip-ranges", "--group", group, "--fleet", "--revert").exit_code == 0
    assert account.rules(group) == []


def _encrypt(config: Path, what: str, **more: int) -> None:
    said = config.read_text().replace("vpc: {vpc_ids", f"vpc: {{encrypt: {what}, vpc_ids")
    said += "".join(f"{key}: {value}\n" for key, value in more.items())
    config.write_text(said)


def test_sites_that_encrypt_need_one_port(
    neti: Neti, account: Account, group: str, config: Path, fleet: Members
) -> None:
    """Beside the wide rules, which go in the end; and each is reverted by itself."""
    _encrypt(config, "prefer", tunnel_port=51900)
    words = ["aws", "ip-ranges", "--group", group, "--fleet"]
    assert neti(*words).exit_code == 0
    fleet.join("lab-1", "10.30.0.1", "198.51.100.9", site="lab")  # it does not encrypt
    result = neti(*words, "--encrypted")
    assert result.exit_code == 0, result.output
    tunnel = {rule for rule in account.rules(group) if rule[1] == 51900}
    assert {rule[:4] for rule in tunnel} == {
        ("udp", 51900, 51900, cidr) for cidr in _cidrs(*ADDRESSES)
    }
    assert "neti tunnel: vpc-1" in {rule[4] for rule in tunnel}
    assert _tcp(account, group) == _cidrs(*ADDRESSES)
    assert neti(*words, "--revert").exit_code == 0
    assert {rule[:4] for rule in account.rules(group)} == {
        *(rule[:4] for rule in tunnel),
        ("icmp", 3, 4, "0.0.0.0/0"),
    }
    assert neti(*words, "--encrypted", "--revert").exit_code == 0
    assert account.rules(group) == []


def _with_gateways(config: Path) -> None:
    """The hosts of both sites may be behind gateways; those of lab have a link to ec2."""
    said = config.read_text()
    for site in ("ec2", "vpc"):
        asks = f"encrypt: prefer, reached_by: gateway, gateways: [{site}-1]"
        said = said.replace(f"{site}: {{", f"{site}: {{{asks}, ", 1)
    lab = "  lab: {vpc_ids: [vpc-0cc3], private: [10.30.0.0/16], reached_by: private}\n"
    config.write_text(said.replace("ssh_whitelist", lab + "ssh_whitelist", 1))


def test_the_group_of_gateways_needs_their_ports(
    neti: Neti, account: Account, group: str, config: Path, fleet: Members
) -> None:
    """Beside the one port of the tunnel; from the sites that need gateways, and no others."""
    _with_gateways(config)
    fleet.join("lab-1", "10.30.0.1", "198.51.100.9", site="lab")
    words = ["aws", "ip-ranges", "--group", group, "--fleet"]
    told = neti(*words, "--encrypted")
    assert told.exit_code == 0, told.output
    assert "(--gateways, for the group of gateways)" in told.output
    result = neti(*words, "--gateways")
    assert result.exit_code == 0, result.output
    assert "inside ec2 rules of your own must let in UDP 16384-32767 at gateways" in result.output
    ports = {rule for rule in account.rules(group) if rule[1] == 16384}
    assert {rule[:4] for rule in ports} == {
        ("udp", 16384, 32767, cidr) for cidr in _cidrs(*ADDRESSES)
    }
    assert "neti gateways: vpc-1" in {rule[4] for rule in ports}
    assert "nothing to change" in neti(*words, "--gateways").output
    assert "nothing to change" in neti(*words, "--encrypted").output
    assert neti(*words, "--encrypted", "--revert").exit_code == 0
    assert {rule[:4] for rule in account.rules(group)} == {
        *(rule[:4] for rule in ports),
        ("icmp", 3, 4, "0.0.0.0/0"),
    }
    assert neti(*words, "--gateways", "--revert").exit_code == 0
    assert account.rules(group) == []


def test_the_ports_of_gateways_are_for_sites_that_have_some(
    neti: Neti, group: str, config: Path, fleet: Members
) -> None:
    words = ["aws", "ip-ranges", "--group", group, "--gateways", "--dry-run"]
    refused = neti(*words, "--fleet")
    assert refused.exit_code == 1
    assert "site ec2 has no gateways that another site needs" in refused.output
    for more in (("--range-region", "all"), ("--fleet", "--encrypted")):
        wrong = neti(*words, *more)
        assert wrong.exit_code == 2
        assert "--gateways goes with --fleet, and not with --encrypted" in wrong.output
    ports = neti(*words, "--fleet", "--ports", "80")
    assert "--ports cannot be used with --gateways: that is UDP to 16384-32767" in ports.output


def test_a_lost_host_keeps_its_port(
    neti: Neti, account: Account, group: str, config: Path, fleet: Members
) -> None:
    """As it keeps its other rules; and widened prefixes of both are told apart."""
    _encrypt(config, "prefer")
    wide = ["aws", "ip-ranges", "--group", group, "--fleet"]
    tunnel = [*wide, "--encrypted", "--max-rules", "3"]
    assert neti(*wide).exit_code == 0
    assert neti(*tunnel).exit_code == 0
    fleet.vanish("vpc-1")
    again = neti(*tunnel)
    assert again.exit_code == 0, again.output
    assert "nothing to change" in again.output


def test_what_encryption_asks_of_the_groups_is_said(
    neti: Neti, group: str, config: Path, fleet: Members
) -> None:
    """Too little, or soon too much; and nothing where nobody encrypts."""
    words = ["aws", "ip-ranges", "--group", group, "--fleet", "--dry-run"]
    assert "--encrypted" not in neti(*words).output
    refused = neti(*words, "--encrypted")
    assert refused.exit_code == 1
    assert "site ec2 encrypts with no other site" in refused.output
    _encrypt(config, "prefer")
    assert "these rules do not let in UDP 51820" in neti(*words, "--protocol", "tcp").output
    assert "warning" not in neti(*words).output
    assert "warning" not in neti(*words, "--encrypted").output
    both = neti(*words, "--encrypted", "--ports", "80")
    assert both.exit_code == 2
    assert "--ports cannot be used with --encrypted" in both.output


def test_the_rest_can_go_when_encryption_is_required() -> None:
    """And only then: what is preferred may be in the clear."""
    sites = {
        "ec2": Site(name="ec2"),
        "vpc": Site(name="vpc", encrypt=Encrypt.PREFER),
        "lab": Site(name="lab", encrypt=Encrypt.REQUIRE),
    }
    told = advice("ec2", sites, Shape(mark=FLEET), 51820)
    assert told is not None
    assert told.startswith(
        "ec2 requires encryption with lab: once 'neti fleet --require encrypted'"
    )
    del sites["lab"]
    assert advice("ec2", sites, Shape(mark=FLEET), 51820) is None
    assert advice(None, sites, Shape(mark=FLEET, protocols=("tcp",)), 51820) is None


def test_it_stays_and_follows(
    server: MotoServer, account: Account, config: Path, group: str, fleet: Members, tmp_path: Path
) -> None:
    """--follow: a host that joins while it runs is let in, and a failure is tried again."""
    server.fail("AuthorizeSecurityGroupIngress", "UnauthorizedOperation", status=403, times=1)
    command = [sys.executable, "-m", "neti", "aws", "ip-ranges", "--config", str(config)]
    command += ["--group", group, "--fleet", "--follow", "1"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _until(lambda: _tcp(account, group) == _cidrs(*ADDRESSES))
        fleet.join("vpc-5", "10.21.0.5", "198.51.100.5", site="vpc")
        _until(lambda: "198.51.100.5/32" in _tcp(account, group))
    finally:
        process.terminate()
        process.wait(10)
    said = (tmp_path / "log").read_text()
    assert "AuthorizeSecurityGroupIngress is not allowed" in said
    assert "Trying again in 1 s" in said


def test_ctrl_c_in_the_middle_of_a_call_ends_the_following(
    neti: Neti, account: Account, group: str, fleet: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told what was done, and is not taken for a failure to be tried again."""

    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("neti.aws.apply.Applier._call", interrupted)
    result = neti("aws", "ip-ranges", "--group", group, "--fleet", "--follow", "1")
    assert result.exit_code == 130
    assert "perhaps done: +" in result.output
    assert "Trying again" not in result.output


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_what_gateways_need_is_said() -> None:
    """No rule of this command lets it in."""
    sites = {
        "ec2": Site(
            name="ec2", encrypt=Encrypt.REQUIRE, reached_by=Reach.GATEWAY, gateways=("gw",)
        ),
        "vpc": Site(name="vpc"),
        "dc": Site(name="dc", reached_by=Reach.PRIVATE),
    }
    for site, other in (("ec2", "vpc"), ("vpc", "ec2")):
        told = for_gateways(site, sites, 51820)
        assert told is not None
        assert told.startswith(f"{site} and {other} may need gateways between them")
        assert "UDP 16384-32767 at gateways" in told
    assert for_gateways("dc", sites, 51820) is None
    assert for_gateways(None, sites, 51820) is None
    told = advice("ec2", sites, Shape(mark=FLEET), 51820)
    assert told is not None
    assert "UDP 51820, with 16384-32767 at gateways, is enough" in told
