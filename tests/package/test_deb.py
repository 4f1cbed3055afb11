"""The package on a clean machine with a real systemd and no network to ask anything of: installed,
started, reloaded, killed, upgraded, stopped, removed, purged."""

import json
import os
import re
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from tests.support import machine
from tests.support.machine import Machine, wait
from tests.support.wireguard_pair import module_there, require_wireguard_go

from neti.model import Departure, Member, entry

pytestmark = pytest.mark.package

PRODUCT_UUID = "/sys/class/dmi/id/product_uuid"
NAMES = ("", "-restore", "-leave", "-zk-proxy")
CONFIG = f"{machine.CONFIG}session_seconds: 10\nmetrics_listen: 127.0.0.1:9177\n"
PEER = """\
registry: embedded:/var/lib/neti/registry.db
identity: {id: b, private: 10.0.0.6}
site: ec2
sites: {ec2: {private: [10.0.0.0/8]}, vpc: {private: [10.0.0.0/8]}}
table_files_path: /srv/peer
session_seconds: 10
"""


def network(debian: Machine) -> None:
    """An uplink with the host's private address, and a namespace for another host's agent."""
    debian.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far")
    debian.run("ip", "addr", "add", "10.0.0.5/24", "dev", "eth0")
    debian.run("ip", "link", "set", "eth0", "up")
    debian.run("ip", "netns", "add", "peer")
    debian.run("ip", "link", "set", "far", "netns", "peer", "name", "eth0")
    for words in (
        "addr add 10.0.0.6/24 dev eth0",
        "link set eth0 up",
        "link set lo up",
    ):
        debian.run("ip", "-n", "peer", *words.split())


def hardware(debian: Machine) -> None:
    """An id of the machine's own that only root can read, as DMI has it."""
    debian.run("mount", "-t", "tmpfs", "tmpfs", "/sys/class")
    debian.run("mkdir", "-p", str(Path(PRODUCT_UUID).parent))
    debian.path(PRODUCT_UUID).write_text("UUID-1\n")
    debian.path(PRODUCT_UUID).chmod(0o400)


def installed(debian: Machine) -> None:
    debian.run("dpkg", "-i", "/mnt/files/neti.deb")


def started(debian: Machine) -> None:
    """The agent, and another host's in its own namespace, each with the other as its peer."""
    debian.path("/etc/neti/neti.yml").write_text(CONFIG)
    debian.run("chgrp", "neti", "/etc/neti/neti.yml")
    debian.run("chmod", "640", "/etc/neti/neti.yml")
    debian.path("/srv/peer.yml").write_text(PEER)
    debian.run("systemctl", "start", "neti.service")
    debian.run(
        # Another machine: it does not stop with this one.
        *("systemd-run", "--unit=peer", "--property=DefaultDependencies=no"),
        *("ip", "netns", "exec", "peer"),
        *("neti", "agent", "-c", "/srv/peer.yml"),
    )
    wait(lambda: status(debian)["peers"] == 1 and status(debian)["registered"], "two members")


def status(debian: Machine) -> dict[str, object]:
    """Without an agent the command says what is on disk, which are other things."""
    said = debian.out("neti", "status", "--json", check=False)
    return {"peers": 0, "registered": False, **json.loads(said or "{}")}


def held(debian: Machine) -> str:
    """All that the kernel holds, with the numbers that each writing anew would change."""
    listing = debian.out("nft", "-a", "-s", "list", "ruleset")
    return listing + debian.out("ip", "-4", "route", "show", "table", "all")


def another(debian: Machine, name: str = "other") -> str:
    """A table of somebody else's comes and goes; what nft's monitor says of that."""
    debian.run("nft", f"add table ip {name}")
    debian.run("nft", f"delete table ip {name}")
    time.sleep(0.5)
    return f"delete table ip {name}"


def main_pid(debian: Machine) -> str:
    return debian.out("systemctl", "show", "-P", "MainPID", "neti.service")


def test_installing_without_a_configuration_starts_nothing(debian: Machine) -> None:
    """No network is asked, the kernel is as before, and everything is in its place."""
    before = held(debian)
    installed(debian)
    assert held(debian) == before
    assert debian.out("systemctl", "is-enabled", "neti.service", "neti-restore.service") == (
        "enabled\nenabled"
    )
    assert debian.out("systemctl", "is-active", "neti.service", check=False) == "inactive"
    assert debian.out("neti", "--version").startswith("neti ")
    owner = debian.out("stat", "-c", "%U:%G %a", "/etc/neti", "/etc/neti/neti.yml.example")
    assert owner == "root:neti 750\nroot:root 640"
    proxy = debian.run("systemctl", "is-enabled", "neti-zk-proxy.service", check=False)
    assert proxy.stdout == "disabled\n"
    leads_somewhere(debian.path("/usr/share/doc/neti"))
    for page in ("neti", "neti-agent", "neti-lease"):
        assert debian.path(f"/usr/share/man/man1/{page}.1.gz").exists()
    assert debian.path("/usr/share/man/man5/neti.yml.5.gz").exists()
    assert "properties" in json.loads(debian.path("/usr/share/neti/neti.schema.json").read_text())
    # AWS's SDK is there, with what Neti calls of it; credentials are the first that it lacks.
    sdk = "import boto3, sys; assert boto3.__file__.startswith('/opt/neti/'); "
    sdk += "[boto3.client(s, region_name='eu-west-1') for s in sys.argv[1:]]"
    debian.run("/opt/neti/bin/python3", "-IBc", sdk, "ec2", "service-quotas", "sts")
    refused = debian.run("neti", "agent", check=False)
    assert refused.returncode == 2
    assert "/etc/neti/neti.yml does not exist" in refused.stderr
    assert "start from /etc/neti/neti.yml.example" in refused.stderr

    # systemd finds no fault in the units, and little that they could do beyond their work.
    units = [f"/lib/systemd/system/neti{name}.service" for name in NAMES]
    verified = debian.run("systemd-analyze", "verify", "--man=no", *units)
    assert verified.stdout + verified.stderr == ""
    # Its program may come later.
    for unit in (*units, "/lib/systemd/system/neti-wireguard.service"):
        debian.run(
            *("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager"),
            unit,
        )


def leads_somewhere(folder: Path) -> None:
    """Each page that the README, the pages and the example refer to is there."""
    pages = [folder / "README.md", *sorted((folder / "docs").rglob("*.md"))]
    assert len(pages) > 20
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), (page, target)
    for named in ("neti-alerts.yml", "neti-dashboard.json", "neti-zk-proxy.service"):
        assert (folder / "deploy" / named).is_file()


def test_a_proxy_is_run_by_the_unit_that_was_left_off(debian: Machine) -> None:
    """Enabled by hand it runs, an upgrade restarts it and leaves it on, a purge leaves nothing."""
    debian.run("ip", "link", "set", "lo", "up")
    installed(debian)
    options = "ARGUMENTS=--listen 127.0.0.1:2181 --server 127.0.0.1:2182\n"
    debian.path("/etc/default/neti-zk-proxy").write_text(options)
    debian.run("systemctl", "enable", "--now", "neti-zk-proxy.service")
    show = ("systemctl", "show", "-P", "MainPID", "neti-zk-proxy.service")
    pid = debian.out(*show)
    debian.run("dpkg", "-i", "/mnt/files/neti-later.deb")
    wait(lambda: debian.out(*show) not in ("0", pid), "the new version runs")
    assert debian.out("systemctl", "is-enabled", "neti-zk-proxy.service") == "enabled"
    assert debian.out("systemctl", "is-active", "neti-zk-proxy.service") == "active"
    debian.run("dpkg", "-P", "neti")
    assert debian.out("systemctl", "is-active", "neti-zk-proxy.service", check=False) == "inactive"
    assert debian.out("find", "/etc/systemd", "/var/lib/systemd", "-name", "*neti*") == ""


def test_a_life(debian: Machine) -> None:
    """Start, reload, a kill, an upgrade, removal and purge; what the kernel holds tells all."""
    network(debian)
    hardware(debian)
    empty = held(debian)
    installed(debian)
    started(debian)

    # As its own user, with one capability, and a state folder that is its own.
    pid = main_pid(debian)
    words = dict(
        line.split(":\t", 1)
        for line in debian.path(f"/proc/{pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert words["Uid"].split()[0] == debian.out("id", "-u", "neti") != "0"
    assert int(words["CapEff"], 16) == int(words["CapBnd"], 16) == 1 << 12  # CAP_NET_ADMIN
    assert debian.out("find", "/var/lib/neti", "!", "-user", "neti") == ""
    as_agent = ("setpriv", "--reuid=neti", "--regid=neti", "--clear-groups", "cat")
    assert debian.run(*as_agent, PRODUCT_UUID, check=False).returncode != 0
    assert debian.out(*as_agent, "/run/credentials/neti.service/product_uuid") == "UUID-1"
    assert "in step" in debian.out("systemctl", "show", "-P", "StatusText", "neti.service")
    table = held(debian)
    assert "10.0.0.6" in table
    assert "proto 78" in table

    # Root's commands take the state for this machine's, as the agent does, and leave nothing
    # that the agent could not replace.
    assert debian.out("neti", "plan").startswith("nothing to change")
    assert "neti_members" in debian.out("neti", "metrics")
    debian.run("neti", "metrics", "--textfile", "/tmp/neti.prom")
    debian.run("neti", "relax")
    assert debian.out("find", "/var/lib/neti", "!", "-user", "neti") == ""

    # A reload, and a broken one.
    debian.run("systemctl", "reload", "neti.service")
    assert main_pid(debian) == pid
    config = debian.path("/etc/neti/neti.yml")
    config.write_text(CONFIG + "ssh_port: many\n")
    # The reload has failed with it, and the agent goes on.
    assert debian.run("systemctl", "reload", "neti.service", check=False).returncode != 0
    assert debian.out("systemctl", "is-active", "neti.service") == "active"
    assert main_pid(debian) == pid
    assert "ssh_port" in debian.out("journalctl", "-u", "neti", "-o", "cat")
    debian.path("/etc/neti/before.yml").write_text(CONFIG)  # commands read the file too
    refused = ("neti", "status", "--json", "-c", "/etc/neti/before.yml")
    wait(lambda: "ssh_port" in debian.out(*refused, check=False), "the reload is refused")
    debian.path("/etc/neti/before.yml").unlink()
    config.write_text(CONFIG)
    debian.run("systemctl", "reload", "neti.service")
    wait(lambda: not status(debian)["problems"], "the good one is taken")
    assert debian.out("systemctl", "is-active", "neti.service") == "active"

    # One that was killed is back by itself.
    debian.run("sh", "-c", f"kill -KILL {pid}")
    wait(lambda: main_pid(debian) not in ("0", pid), "the agent is back")
    wait(lambda: status(debian)["registered"], "registered again")

    # An upgrade: another process, the same kernel, and no peer has noticed.
    before, pid = held(debian), main_pid(debian)
    watched = debian.files / "changes"
    watching = ("--unit=watch", f"--property=StandardOutput=file:/mnt/files/{watched.name}")
    debian.run("systemd-run", *watching, "stdbuf", "-oL", "nft", "monitor")
    wait(lambda: another(debian) in watched.read_text(), "changes are seen")
    debian.run("dpkg", "-i", "/mnt/files/neti-later.deb")
    wait(lambda: main_pid(debian) not in ("0", pid), "the new version runs")
    wait(lambda: status(debian)["registered"], "registered again")
    assert another(debian, "behind") in watched.read_text()
    assert "inet neti" not in watched.read_text()
    assert held(debian) == before
    assert "-2" in debian.out("dpkg-query", "-W", "neti")
    time.sleep(11)  # longer than a session lasts
    peer = debian.out("journalctl", "-u", "peer", "-o", "cat")
    assert "member_joined id=a" in peer
    for word in ("member_lost", "member_gone", "member_changed"):
        assert f"{word} id=a" not in peer

    # Removal: the host as it was found. Then nothing is left at all.
    debian.run("dpkg", "-r", "neti")
    assert held(debian) == empty
    assert debian.path("/var/lib/neti/members.jsonl").exists()
    assert not debian.path("/var/lib/neti/down").exists()
    assert not debian.path("/opt/neti").exists()
    debian.run("systemctl", "stop", "peer", check=False)
    debian.run("dpkg", "-P", "neti")
    for left in ("/var/lib/neti", "/etc/neti", "/var/log/neti"):
        assert not debian.path(left).exists()
    assert debian.run("id", "neti", check=False).returncode != 0
    assert debian.out("find", "/etc/systemd", "/var/lib/systemd", "-name", "*neti*") == ""


def test_wireguard_go_without_root(debian: Machine) -> None:
    """The agent's first question at systemd's socket starts it, as a user of its own. A host that
    encrypts nothing asks nothing, and a crash costs a moment."""
    if module_there():
        pytest.skip("this kernel has the module: nobody asks wireguard-go")
    require_wireguard_go()
    network(debian)
    installed(debian)
    active = ("systemctl", "is-active")
    socket, service = "neti-wireguard.socket", "neti-wireguard.service"
    assert debian.out(*active, socket, check=False) == "inactive"  # there is no such program
    shutil.copy("/usr/bin/wireguard-go", debian.path("/usr/bin/wireguard-go"))
    debian.run("sh", "-c", "mkdir -p /dev/net && mknod -m 666 /dev/net/tun c 10 200")
    verify = ("systemd-analyze", "verify", "--man=no")
    verified = debian.run(*verify, *(f"/lib/systemd/system/{unit}" for unit in (socket, service)))
    assert verified.stdout + verified.stderr == ""
    debian.run("systemctl", "start", socket)
    started(debian)
    assert debian.out(*active, service, check=False) == "inactive"
    assert debian.out("stat", "-c", "%U:%G %a", "/run/wireguard/neti0.sock") == (
        "neti-wireguard:neti 660"
    )

    config = debian.path("/etc/neti/neti.yml")
    config.write_text(CONFIG.replace("[10.0.0.0/8]}, vpc", "[10.0.0.0/8], encrypt: prefer}, vpc"))
    debian.run("systemctl", "restart", "neti.service")
    wait(lambda: encrypts(debian), "a device that is right")
    assert debian.out(*active, service) == "active"
    pid = debian.out("systemctl", "show", "-P", "MainPID", service)
    assert debian.out("stat", "-c", "%U", f"/proc/{pid}") == "neti-wireguard"
    assert debian.out("stat", "-c", "%U:%G %a", "/var/lib/neti/wireguard.key") == "neti:neti 600"

    debian.run("sh", "-c", f"kill -KILL {pid}")
    wait(lambda: debian.out("systemctl", "show", "-P", "MainPID", service) not in ("0", pid), "new")
    wait(lambda: encrypts(debian), "its key and route are back", 90)
    debian.run("neti", "down")
    wait(lambda: debian.out(*active, service, check=False) == "inactive", "it ends with its link")
    assert debian.run("ip", "link", "show", "neti0", check=False).returncode != 0
    debian.run("neti", "up")
    wait(lambda: encrypts(debian), "and is back", 90)

    debian.run("dpkg", "-P", "neti")
    assert debian.run("ip", "link", "show", "neti0", check=False).returncode != 0
    assert "proto 78" not in debian.out("ip", "rule") + debian.out(
        "ip", "route", "show", "table", "all"
    )
    assert not debian.path("/run/wireguard/neti0.sock").exists()
    assert debian.run("id", "neti-wireguard", check=False).returncode != 0


def encrypts(debian: Machine) -> bool:
    """The route leads to the device, and the agent has nothing to say against it."""
    led = debian.run("ip", "route", "show", "table", "78", check=False).stdout
    return "dev neti0" in led and "WireGuard" not in str(status(debian).get("problems"))


def test_the_log_file_is_rotated(debian: Machine) -> None:
    """By what the package ships: the next line goes to a new file of the agent's, and the journal
    has no complaint."""
    network(debian)
    installed(debian)
    started(debian)
    log = debian.path("/var/log/neti/neti.log")
    debian.path("/etc/neti/neti.yml").write_text(CONFIG + f"log_file: /var/log/neti/{log.name}\n")
    debian.run("systemctl", "restart", "neti.service")
    wait(lambda: log.exists() and status(debian)["registered"], "lines in the log file")
    first = log.stat().st_ino
    debian.run("logrotate", "--force", "/etc/logrotate.d/neti")
    assert log.with_name("neti.log.1").stat().st_ino == first
    debian.run("systemctl", "reload", "neti.service")
    wait(lambda: log.exists() and "reloaded" in log.read_text(), "the next line")
    assert debian.out("stat", "-c", "%U:%G", "/var/log/neti/neti.log") == "neti:neti"
    journal = debian.out("journalctl", "-u", "neti.service", "-o", "cat", check=False)
    assert "log_file" not in journal


def test_a_loop_that_hangs_is_replaced(debian: Machine) -> None:
    """The watchdog's time is over when the process is stopped; the rules stay meanwhile."""
    network(debian)
    installed(debian)
    started(debian)
    folder = debian.path("/etc/systemd/system/neti.service.d")
    folder.mkdir(parents=True)
    (folder / "short.conf").write_text("[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\n")
    debian.run("systemctl", "daemon-reload")
    debian.run("systemctl", "restart", "neti.service")
    wait(lambda: status(debian)["registered"], "registered")
    pid, before = main_pid(debian), held(debian)
    time.sleep(5)
    assert main_pid(debian) == pid  # an idle loop is fed
    debian.run("sh", "-c", f"kill -STOP {pid}")
    wait(lambda: main_pid(debian) not in ("0", pid), "the watchdog has replaced it")
    wait(lambda: status(debian)["registered"], "registered again")
    assert held(debian) == before


def test_a_restart_is_no_leave_and_a_shutdown_is(debian: Machine, tmp_path: Path) -> None:
    """Peers hear a farewell when the machine stops, behind its services, and only then."""
    network(debian)
    installed(debian)
    started(debian)
    log = debian.files / "service.log"
    unit = debian.path("/etc/systemd/system/serving.service")
    unit.write_text(
        "[Unit]\nAfter=network.target\n[Service]\nType=oneshot\nRemainAfterExit=yes\n"
        "ExecStart=/bin/true\n"
        "ExecStop=/bin/sh -c 'sleep 2; date +%%s.%%N >/mnt/files/service.log'\n"
    )
    debian.run("systemctl", "daemon-reload")
    debian.run("systemctl", "start", "serving.service")
    peer = ("journalctl", "-u", "peer", "-o", "cat")
    debian.run("systemctl", "restart", "neti.service")
    debian.run("systemctl", "restart", "neti-leave.service")
    wait(lambda: status(debian)["registered"], "registered again")
    time.sleep(1)
    assert "member_gone" not in debian.out(*peer)
    # What is last heard of this host is in the registry's file, which outlives the machine's
    # processes as long as it is held open here.
    state = os.open(debian.path("/var/lib/neti"), os.O_PATH | os.O_DIRECTORY)
    try:
        machine.stop(debian)
        left = shutil.copytree(f"/proc/self/fd/{state}", tmp_path / "state")
        written = (Path(f"/proc/self/fd/{state}") / "registry.db-bell").stat().st_mtime
    finally:
        os.close(state)
    with closing(sqlite3.connect(f"{left}/registry.db")) as registry:
        names = [entry.parse(name) for (name,) in registry.execute("SELECT name FROM names")]
    assert [name.id for name in names if isinstance(name, Departure)] == ["a"]
    assert [name.id for name in names if isinstance(name, Member)] == ["b"]
    assert written > float(log.read_text())


def test_the_file_that_switches_neti_off(debian: Machine) -> None:
    """The console's way in: with it nobody loads anything, by unit or by hand."""
    network(debian)
    installed(debian)
    started(debian)
    debian.run("systemctl", "stop", "neti.service")
    debian.run("nft", "delete", "table", "inet", "neti")
    debian.path("/etc/neti/disabled").touch()
    nothing_is_loaded(debian)


@pytest.mark.parametrize("debian", ["neti=off"], indirect=True)
def test_the_word_on_the_kernels_command_line(debian: Machine) -> None:
    """The same, for whoever gets no further than the boot loader."""
    # systemd in a container takes its own arguments for the kernel's; neti reads the kernel's.
    line = debian.files / "cmdline"
    line.write_text(Path("/proc/cmdline").read_text().strip() + " neti=off\n")
    debian.run("mount", "--bind", "/mnt/files/cmdline", "/proc/cmdline")
    network(debian)
    installed(debian)
    debian.path("/etc/neti/neti.yml").write_text(CONFIG)
    nothing_is_loaded(debian)


def nothing_is_loaded(debian: Machine) -> None:
    for unit in ("neti-restore.service", "neti.service"):
        debian.run("systemctl", "start", unit)
        assert debian.out("systemctl", "show", "-P", "ConditionResult", unit) == "no"
        assert debian.out("systemctl", "is-active", unit, check=False) == "inactive"
    assert "switched off" in debian.out("neti", "restore")
    assert "switched off" in debian.run("neti", "agent", check=False).stderr
    assert "table inet neti" not in held(debian)


def test_the_rules_are_there_before_the_network(debian: Machine) -> None:
    """restore runs as the agent's user, and leaves what the agent goes on from. On another machine,
    by root or by the unit, the same disk loads nothing."""
    network(debian)
    hardware(debian)
    installed(debian)
    started(debian)
    debian.run("systemctl", "stop", "neti.service")
    # Without elements: those of open sockets come and go, and nft breaks lines by their number.
    rules = ("nft", "--stateless", "--terse", "list", "table", "inet", "neti")
    before = debian.out(*rules)
    debian.run("nft", "delete", "table", "inet", "neti")
    debian.run("systemctl", "start", "neti-restore.service")
    assert "10.0.0.6" in debian.out("nft", "list", "table", "inet", "neti")
    assert debian.out(*rules) == before
    order = debian.out("systemctl", "show", "-P", "Before", "neti-restore.service").split()
    assert {"network-pre.target", "neti.service"} <= set(order)
    debian.run("systemctl", "start", "neti.service")
    wait(lambda: status(debian)["registered"], "registered")
    assert debian.out("find", "/var/lib/neti", "!", "-user", "neti") == ""
    debian.run("systemctl", "stop", "neti.service", "neti-restore.service")
    debian.run("nft", "delete", "table", "inet", "neti")
    debian.run("rm", PRODUCT_UUID)
    debian.path(PRODUCT_UUID).write_text("UUID-2\n")
    debian.path(PRODUCT_UUID).chmod(0o400)
    assert "written on another machine" in debian.out("neti", "restore")
    debian.run("systemctl", "start", "neti-restore.service")
    said = debian.out("journalctl", "-u", "neti-restore", "-o", "cat")
    assert "written on another machine" in said
    assert "table inet neti" not in held(debian)
