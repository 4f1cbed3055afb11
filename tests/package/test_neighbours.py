"""Other firewalls and network programs beside the package, each the real one: what
docs/neighbours.md says of them. Docker and CrowdSec were tried by hand."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.package.conftest import ROOTS
from tests.package.test_deb import installed, network, started
from tests.support import machine
from tests.support.machine import Machine, wait

pytestmark = pytest.mark.package

NEIGHBOURS = ROOTS / "neighbours"
SERVED = "8000"
AUDIT = 100.0  # seconds; what sends no event is seen by a look once a minute
UPLINK = "[Match]\nName=eth0\n[Network]\nAddress=10.0.0.5/24\n"
LEAVES_OURS = "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n"
PROFILE = """\
[connection]
id=eth0
type=ethernet
interface-name=eth0
[ipv4]
method=manual
address1=10.0.0.5/24
[ipv6]
method=link-local
"""
BY_STATE = """
iptables-legacy -A INPUT -i lo -j ACCEPT
iptables-legacy -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
iptables-legacy -A INPUT -p tcp --dport 22 -m conntrack --ctstate NEW -j ACCEPT
iptables-legacy -P INPUT DROP
"""


@pytest.fixture(name="host")
def _host(debs: list[Path]) -> Iterator[Machine]:
    """Enforced, with another member, and something that is served."""
    if not (NEIGHBOURS / ".complete").exists():
        pytest.skip("the root file system with neighbours is not built: make package-test")
    folder = Path(tempfile.mkdtemp(prefix="neti-machine-"))
    (folder / "files").mkdir()
    shutil.copy(debs[0], folder / "files/neti.deb")
    os.chmod(folder, 0o755)
    try:
        with machine.booted(NEIGHBOURS, folder, degraded=True) as host:
            network(host)
            installed(host)
            started(host)
            host.run("neti", "enforce", "--trial", "30", "--anyway", "--no-follow")
            host.run("neti", "confirm")
            for port in (SERVED, "22"):
                host.run("systemd-run", "nc", "-lk", port)
            wait(lambda: reaches(host), "a member gets in")
            yield host
    finally:
        shutil.rmtree(folder)


def reaches(host: Machine, port: str = SERVED, source: str = "10.0.0.6") -> bool:
    words = ("nc", "-z", "-w", "2", "-s", source, "10.0.0.5", port)
    return host.run("ip", "netns", "exec", "peer", *words, check=False).returncode == 0


def table(host: Machine) -> str:
    """Each making anew gives another handle."""
    words = ("nft", "-a", "-s", "-t", "list", "table", "inet", "neti")
    return host.out(*words, check=False).partition("\n")[0]


def is_routed(host: Machine) -> bool:
    return "proto 78" in host.out("ip", "route")


def test_ufw(host: Machine) -> None:
    before = table(host)
    assert "handle" in before
    host.run("ufw", "allow", "22/tcp")
    host.run("ufw", "--force", "enable")
    assert not reaches(host)
    host.run("ufw", "allow", "from", "10.0.0.0/8")
    assert reaches(host)
    host.run("ufw", "reload")
    assert reaches(host)
    assert table(host) == before


def test_firewalld(host: Machine) -> None:
    before = table(host)
    host.run("systemctl", "start", "firewalld")
    assert not reaches(host)
    host.run("firewall-cmd", "--permanent", "--zone=trusted", "--add-source=10.0.0.0/8")
    for words in (["firewall-cmd", "--reload"], ["systemctl", "restart", "firewalld"]):
        host.run(*words)
        assert reaches(host)
    host.run("systemctl", "stop", "firewalld")
    assert table(host) == before


def test_rules_of_iptables_legacy_by_state_do_not_lock_ssh_out(host: Machine) -> None:
    """Who is on ``ssh_whitelist``; the agent, who is not root, cannot read them."""
    host.run("ip", "-n", "peer", "addr", "add", "10.0.0.77/24", "dev", "eth0")
    assert reaches(host, "22", "10.0.0.77")
    host.run("sh", "-c", BY_STATE)
    assert not reaches(host)
    wait(lambda: reaches(host, "22", "10.0.0.77"), "SSH is tracked", AUDIT)
    assert "iptables-legacy" in host.out("neti", "status")
    host.run("iptables-legacy", "-I", "INPUT", "-s", "10.0.0.0/8", "-j", "ACCEPT")
    assert reaches(host)


def test_a_flush_is_mended(host: Machine) -> None:
    before = table(host)
    host.run("nft", "flush", "ruleset")
    wait(lambda: table(host) not in ("", before), "the table is back")
    assert reaches(host)


def test_networkd_takes_the_route_and_two_lines_end_that(host: Machine) -> None:
    host.path("/etc/systemd/network/10-eth0.network").write_text(UPLINK)
    seen = host.files / "seen"
    watch = f"exec ip -4 monitor route rule >/mnt/files/{seen.name}"
    host.run("systemd-run", "--unit=watch", "sh", "-c", watch)
    gone = "Deleted 78:"
    # As the tunnel has it, which this host has none of.
    rule = ("ip", "rule", "add", "fwmark", "0x1000/0x1000", "table", "78", "pref", "78")
    host.run("systemctl", "start", "systemd-networkd")
    wait(lambda: is_routed(host), "the overlay's route")
    host.run(*rule, "protocol", "78")
    host.run("systemctl", "restart", "systemd-networkd")
    wait(lambda: gone in seen.read_text(), "networkd takes the rule out")
    dropin = host.path("/etc/systemd/networkd.conf.d")
    dropin.mkdir(parents=True)
    (dropin / "neti.conf").write_text(LEAVES_OURS)
    host.run("systemctl", "restart", "systemd-networkd")
    host.run(*rule, "protocol", "78")
    before = seen.read_text().count("Deleted")
    host.run("systemctl", "restart", "systemd-networkd")
    host.run("networkctl", "reconfigure", "eth0")
    wait(lambda: "configured" in host.out("networkctl", "--no-pager", "list", "eth0"), "done")
    assert seen.read_text().count("Deleted") == before
    assert reaches(host)


def test_network_manager_leaves_it_alone(host: Machine) -> None:
    profile = host.path("/etc/NetworkManager/system-connections/eth0.nmconnection")
    profile.write_text(PROFILE)
    profile.chmod(0o600)
    host.run("systemctl", "start", "NetworkManager")
    host.run("nmcli", "connection", "up", "eth0")
    wait(lambda: is_routed(host), "the overlay's route")
    host.run("systemctl", "restart", "NetworkManager")
    assert is_routed(host)
    assert reaches(host)
