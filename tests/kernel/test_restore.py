"""``neti restore`` with files that are not whole: what is left is used, the rest is named."""

import json
import subprocess
from contextlib import closing
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from tests.kernel.test_agent_process import Neti, agent, config, line, neti, ruleset, wait
from tests.support import netns
from tests.support.netns import Net

from neti.control import client
from neti.errors import NetiError
from neti.identity.machine import fingerprint
from neti.model import Member, entry
from neti.model.groups import MemberPort
from neti.oneshot.restore import restore_last
from neti.registry.embedded.registry import EmbeddedRegistry
from neti.stage.stages import Record
from neti.state.folder import StateFolder
from neti.state.records import Self

pytestmark = pytest.mark.kernel

__all__ = ["agent", "config", "neti"]
ARMED = "ipv4 : drop"


@pytest.fixture
def state(agent: "subprocess.Popen[bytes]", tmp_path: Path) -> Path:
    """What an agent left that enforced by command and was killed. The rules are still there."""
    folder = tmp_path / "state"
    wait((folder / "members.jsonl").exists)
    client.call(folder, "enforce", seconds=60)
    client.call(folder, "confirm")
    agent.kill()
    agent.wait()
    return folder


def reboot(net: Net) -> None:
    command = ["ip", "netns", "exec", net.host, "nft", "flush", "ruleset"]
    subprocess.run(command, check=True)


def test_an_empty_journal_is_named_and_the_older_one_used(
    net: Net, neti: Neti, state: Path
) -> None:
    (state / "members.jsonl").rename(state / "members.jsonl.old")
    (state / "members.jsonl").touch()
    reboot(net)
    done = neti("restore")
    assert "members.jsonl: is empty" in done.stderr
    assert "members.jsonl.old: used instead" in done.stderr
    assert done.stdout == "restored: 1 member, enforced\n"
    assert ARMED in ruleset(net)


@pytest.mark.parametrize("record", ["whole", "torn"])
def test_over_a_table_that_is_there_nothing_is_lost(
    net: Net, neti: Neti, state: Path, record: str
) -> None:
    """By hand, over rules in force: neither the members nor the stage."""
    (state / "members.jsonl").write_bytes(b"rubbish\n")
    (state / "members.jsonl.old").unlink(missing_ok=True)
    if record == "torn":
        for name in ("stage.json", "stage.json.copy"):
            (state / name).write_bytes(b"rubbish\n")
    before = ruleset(net)
    done = neti("restore")
    assert "those in the kernel stay" in done.stderr
    assert done.stdout == "restored: 1 member, enforced\n"
    after = ruleset(net)
    for kept in (ARMED, " : 10.0.0.5"):
        assert kept in before
        assert kept in after


def test_a_torn_stage_is_read_from_its_copy(net: Net, neti: Neti, state: Path) -> None:
    (state / "stage.json").write_bytes(b"")
    reboot(net)
    done = neti("restore")
    assert "stage.json: torn" in done.stderr
    assert done.stdout == "restored: 1 member, enforced\n"
    (state / "stage.json.copy").write_bytes(b"")
    reboot(net)
    done = neti("restore")
    assert "this host is open and may have been enforced" in done.stderr
    assert done.stdout == "restored: 1 member, shadow\n"


def test_from_a_folder_that_cannot_be_written(net: Net, neti: Neti, state: Path) -> None:
    """As on a root file system that came up read-only: what can be read is loaded."""
    reboot(net)
    subprocess.run(["mount", "--bind", str(state), str(state)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(state)], check=True)
        done = neti("restore")
    finally:
        subprocess.run(["umount", "-l", str(state)], check=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "restored: 1 member, enforced\n"
    assert ARMED in ruleset(net)


def test_relaxed_without_an_agent_stays_relaxed_over_a_boot(
    net: Net, neti: Neti, state: Path
) -> None:
    """The mark is there, and no agent has seen it before the power went."""
    (state / "relaxed").touch()
    reboot(net)
    done = neti("restore")
    assert done.stdout == "restored: 1 member, shadow\n"
    assert ARMED not in ruleset(net)
    assert (state / "relaxed").exists()


@pytest.mark.parametrize("network", ["up", "down"])
def test_grace_is_for_connections_that_may_be_older(
    net: Net, neti: Neti, state: Path, network: str
) -> None:
    """Before the network is up nobody can have connected: no lone ACK gets past an enforced host
    for hours after each boot."""
    reboot(net)
    if network == "down":
        links = ["ip", "-n", net.host, "-o", "link"]
        shown = subprocess.run(links, capture_output=True, text=True, check=True).stdout
        for line in shown.splitlines():
            device = line.split()[1].partition("@")[0].rstrip(":")
            flush = ["ip", "-n", net.host, "address", "flush", "dev", device]
            subprocess.run(flush, check=True)
    done = neti("restore")
    assert done.stdout == "restored: 1 member, enforced\n", done.stderr
    shown = ruleset(net).partition("set grace {")[2].partition("}")[0]
    assert ("elements" in shown) is (network == "up")


IDENTITY: dict[str, object] = {
    "id": "i-0123",
    "private": netns.PRIVATE,
    "public": None,
    "ipv6": [],
    "vpc_id": None,
}


@pytest.mark.parametrize("remembered", [True, False])
def test_a_torn_self_is_named_and_the_identity_remembered(
    net: Net, tmp_path: Path, remembered: bool
) -> None:
    """On a host whose identity comes from the metadata service, which is not asked."""
    config = tmp_path / "neti.yml"
    config.write_text(
        f"registry: embedded:{tmp_path}/registry.db\nsite: ec2\n"
        f"table_files_path: {tmp_path}/state\n"
    )
    folder = StateFolder(tmp_path / "state")
    folder.load(fingerprint())
    folder.save_self(Self(overlay="192.168.0.7"))
    (tmp_path / "state" / "self.json").write_bytes(b"rubbish\n")
    if remembered:
        document = {"format": 1, "machine": fingerprint(), "at": 0.0, "identity": IDENTITY}
        (tmp_path / "state" / "identity.json").write_text(json.dumps(document))
    if remembered:
        done = net.inside(net.host, lambda: restore_last(config))
        assert done.reason is None
        assert any("self.json" in note for note in done.notes)
        assert "table inet neti" in ruleset(net)
    else:
        with pytest.raises(NetiError, match=r"does not say who this host is: .*self\.json: torn"):
            net.inside(net.host, lambda: restore_last(config))


def test_who_is_in_a_group_is_back_before_the_registry_is(
    net: Net, neti: Neti, config: Path, tmp_path: Path
) -> None:
    """Groups that operators define reach the kernel of an agent that runs; a boot has them by the
    disk; and without that file no port is shut."""
    config.write_text(config.read_text() + "member_ports: {5432/tcp: [db]}\n")
    subnet = IPv4Network("192.168.0.0/18")
    with closing(EmbeddedRegistry(tmp_path / "registry.db")) as registry:
        peer = Member(
            id="b",
            site="ec2",
            private=IPv4Address("10.0.0.77"),
            public=None,
            overlay=registry.acquire("b", subnet),
        )
        name = entry.encode(peer)
        registry.register(host_id="b", name=name, data=b"", detail=b"{}", overlay=peer.overlay)
        running = subprocess.Popen(line(net, config, "agent"))
        try:
            wait(lambda: client.call(tmp_path / "state", "status")["registered"])
            done = neti("group", "set", "db", "b", "--until", "1h")
            assert done.stdout.startswith("group db: 1 member"), done.stderr
            wait(lambda: "10.0.0.77" in group_of(net))
        finally:
            running.kill()
            running.wait()
        reboot(net)
        assert neti("restore").returncode == 0
        assert "10.0.0.77" in group_of(net)
        only_in_force(tmp_path / "state", config)
        assert neti("restore").returncode == 0
        assert "10.0.0.77" in group_of(net)
        for path in (tmp_path / "state").glob("members.jsonl*"):
            path.write_bytes(b"rubbish\n")
        assert "those in the kernel stay" in neti("restore").stderr
        assert "10.0.0.77" in group_of(net)
        reboot(net)
        (tmp_path / "state" / "groups.json").write_bytes(b"rubbish\n")
        done = neti("restore")
        assert "groups.json: torn" in done.stderr
        assert done.returncode == 0
        assert "10.0.0.77" not in group_of(net)
        assert neti("plan").returncode == 0


def only_in_force(state: Path, config: Path) -> None:
    """From now on the file does not name the group any more; what is in force does."""
    folder = StateFolder(state)
    folder.load(fingerprint())
    ports = (MemberPort(("db",), "tcp", 5432, 5432),)
    folder.save_record(Record(wished=True, by="command", confirmed=True, member_ports=ports))
    config.write_text(config.read_text().replace("5432/tcp: [db]", "80/tcp: [web]"))


def group_of(net: Net) -> str:
    """Of the real addresses in group db."""
    command = ["ip", "netns", "exec", net.host, "nft", "list", "set", "inet", "neti", "group_db_4"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
