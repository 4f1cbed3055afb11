"""Real agents, two sites with gateways: hosts without a public address reach each other.

The sites are those of ``tests.support.gateway_net``; the agents do everything else.
"""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from tests.kernel.test_two_agents import Machine, wait
from tests.support.gateway_net import EC2_1, OPEN, SITES, VPC_1, A, B, Fleet, networks
from tests.support.netns import PATIENCE, Net, require_root
from tests.support.talking import Echo, Served, echoes, passes
from tests.support.tunnel_device import require_wireguard
from tests.support.tunnel_net import End, nft, sysctl

from neti.model import Member
from neti_lab.namespaces import call_inside

pytestmark = pytest.mark.kernel

_SITE: Final = (
    "{{private: [10.0.0.0/24], public: [{net}.0/24], reached_by: gateway, gateways: [{gateway}], "
    "encrypt: prefer}}"
)

_ONE_EACH: Final[Mapping[str, str]] = {"ec2": "ec2-1", "vpc": "vpc-1"}


def _config(member: Member, named: Mapping[str, str], session: int) -> str:
    """With braces as ``str.format`` wants them. ``named``: each site's gateways."""
    public = f", public: {member.public}" if member.public else ""
    sites = {
        site: _SITE.format(net=SITES[site], gateway=gateway) for site, gateway in named.items()
    }
    lines = (
        "registry: embedded:{folder}/registry.db",
        f"identity: {{id: {member.id}, private: {member.private}{public}}}",
        f"site: {member.site}",
        f"session_seconds: {session}",
        "sites:",
        *(f"  {name}: {site}" for name, site in sites.items()),
        "ssh_whitelist: [192.0.2.77/32]",
    )
    text = "\n".join(lines).replace("{", "{{").replace("}", "}}").replace("{{folder}}", "{folder}")
    return text + "\ntable_files_path: {folder}/{end.site}\n"


class Hosts:
    def __init__(
        self,
        net: Fleet,
        folder: Path,
        programs: contextlib.ExitStack,
        named: Mapping[str, str] = _ONE_EACH,
        session: int = 3,
    ) -> None:
        self.net = net
        self.machines: dict[str, Machine] = {}
        for one in net.members:
            end = End(one.id, str(one.public), "", "", "")
            name = net.names[one.id]
            sysctl(name, net__ipv4__conf__eth0__forwarding=0)
            made = Machine(end, name, folder, programs, _config(one, named, session))
            made.start_wireguard()
            made.start_agent()
            self.machines[one.id] = made

    def __getitem__(self, one: Member) -> Machine:
        return self.machines[one.id]

    def at(self, one: Member) -> tuple[Net, str]:
        name = self.net.names[one.id]
        return Net(name, self.net.road, ""), name

    def forwards(self, one: Member) -> bool:
        path = Path("/proc/sys/net/ipv4/conf/eth0/forwarding")
        return call_inside(self.net.names[one.id], path.read_text).strip() == "1"

    def passes(self, one: Member, other: Member) -> bool:
        """By TCP, large packets too."""
        return passes(*self.at(one), self[other].overlay, 7200)

    def echoes(self, one: Member, other: Member, *, dead: bool = False) -> bool:
        return echoes(*self.at(one), self[other].overlay, 7300, dead=dead)

    def echoes_at(self, one: Member, other: Member, port: int) -> bool:
        return echoes(*self.at(one), self[other].overlay, port)

    def planned(self, one: Member) -> list[str]:
        """But for the ports of this test's servers."""
        lines = self[one].said("plan").splitlines()
        nothing = "nothing to change: the kernel holds what it should"
        return [line for line in lines if "_listening" not in line and line != nothing]

    def problem(self, one: Member, code: str) -> str:
        return "; ".join(p["sentence"] for p in self[one].status()["problems"] if p["code"] == code)

    def shaken(self, one: Member, peers: int) -> bool:
        encryption = self[one].status()["encryption"] or {}
        return bool(encryption.get("shaken") == peers)


@pytest.fixture(name="hosts")
def _hosts(tmp_path: Path) -> Iterator[Hosts]:
    require_root()
    require_wireguard()
    if shutil.which("nsenter") is None:
        pytest.skip("nsenter (util-linux) is missing")
    members = (EC2_1, VPC_1, A, B, OPEN)
    with networks(*members) as net, contextlib.ExitStack() as programs:
        made = Hosts(net, tmp_path, programs)
        for one, peers in ((A, 3), (B, 2), (OPEN, 2), (EC2_1, 3), (VPC_1, 2)):
            wait(partial(made.shaken, one, peers), 6 * PATIENCE)
        for one in (A, B, OPEN):
            Served(*made.at(one), 7200)
            Echo(*made.at(one), 7300)
        yield made


def test_hosts_without_a_public_address_reach_each_other(hosts: Hosts) -> None:
    for one, other in ((A, B), (B, A), (A, OPEN), (OPEN, A)):
        assert hosts.passes(one, other), (one.id, other.id)
        assert hosts.echoes(one, other), (one.id, other.id)
    # Only gateways forward, and it is said by which way a member is reached.
    assert [one.id for one in hosts.net.members if hosts.forwards(one)] == ["ec2-1", "vpc-1"]
    verified = {line.split()[0]: line for line in hosts[A].said("verify").splitlines()}
    assert "encrypted by gateway ec2-1, then vpc-1" in verified["b"]
    assert "encrypted by gateway ec2-1," in verified["open"]
    assert "encrypted by gateway ec2-1," in verified["vpc-1"]
    assert "inside the site" in verified["ec2-1"]
    assert "none: reached by gateway ec2-1" in hosts[A].said("status")
    listed = {line.split()[0]: line.split()[-1] for line in hosts[A].said("fleet").splitlines()}
    assert listed["NAME"] == "GATEWAY"
    assert [listed[one] for one in ("a", "b", "open")] == ["ec2-1", "vpc-1", "-"]
    assert "a gateway of its site, for 1 host behind it" in hosts[EC2_1].said("status")
    for one in (A, EC2_1, OPEN):
        assert hosts.planned(one) == [], one.id


def test_a_gateways_table_is_repaired_and_needs_no_agent(hosts: Hosts) -> None:
    name = hosts.net.names["vpc-1"]
    hosts[VPC_1].kill_agent()
    assert hosts.passes(A, B)
    nft(name, "flush map inet neti gateway_inside")
    sysctl(name, net__ipv4__conf__eth0__forwarding=0)
    assert not hosts.echoes(A, B, dead=True)
    # Its session ends, and others hear of it; what works goes on.
    wait(lambda: "vpc-1 is lost" in hosts.problem(A, "gateways_gone"), 6 * PATIENCE)
    hosts[VPC_1].start_agent()
    wait(lambda: hosts.echoes(A, B), 6 * PATIENCE)
    wait(lambda: not hosts.problem(A, "gateways_gone"), 6 * PATIENCE)
    nft(name, "flush map inet neti gateway_own")
    wait(lambda: hosts.echoes(B, A), 6 * PATIENCE)
    assert hosts.passes(B, A)


def test_another_programs_drop_is_named_with_the_line_that_ends_it(hosts: Hosts) -> None:
    """As Docker does it: iptables -P FORWARD DROP."""
    inside = ("ip", "netns", "exec", hosts.net.names["ec2-1"])
    subprocess.run([*inside, "iptables", "-P", "FORWARD", "DROP"], check=True)
    assert not hosts.echoes(A, B, dead=True)
    # On a busy machine the others' rules may take longer to read than a look has.
    wait(lambda: "(chain FORWARD)" in hosts.problem(EC2_1, "gateway_kept_out"), 12 * PATIENCE)
    said = hosts.problem(EC2_1, "gateway_kept_out")
    _, _, line = said.partition("table ip filter (chain FORWARD): ")
    assert line.startswith("iptables -t filter -I FORWARD "), said
    subprocess.run([*inside, *line.split()], check=True)
    wait(lambda: hosts.echoes(A, B))
    wait(lambda: not hosts.problem(EC2_1, "gateway_kept_out"), 12 * PATIENCE)


def test_down_takes_forwarding_back_and_up_brings_it_again(hosts: Hosts) -> None:
    hosts[EC2_1].neti("down")
    assert not hosts.forwards(EC2_1)
    assert not hosts.echoes(A, B, dead=True)
    hosts[EC2_1].neti("up")
    wait(lambda: hosts.forwards(EC2_1))
    wait(lambda: hosts.echoes(A, B))
    # The same without an agent.
    hosts[EC2_1].kill_agent()
    hosts[EC2_1].neti("down")
    assert not hosts.forwards(EC2_1)


def test_restore_brings_a_gateway_back_before_its_agent(hosts: Hosts) -> None:
    overlay = hosts[A].overlay
    for one in (A, VPC_1):
        hosts[one].kill_agent()
        nft(hosts.net.names[one.id], "delete table inet neti")
    sysctl(hosts.net.names["vpc-1"], net__ipv4__conf__eth0__forwarding=0)
    assert not hosts.echoes(A, B, dead=True)
    for one in (A, VPC_1):
        hosts[one].neti("restore")
    assert hosts.forwards(VPC_1)
    assert hosts.echoes(A, B)
    assert passes(*hosts.at(B), overlay, 7200)
