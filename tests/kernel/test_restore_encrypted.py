"""``neti restore``, ``neti plan`` and ``neti down`` where a site encrypts: with wireguard-go, and
without anything that could encrypt."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from tests.kernel.test_agent_process import ruleset
from tests.support import netns
from tests.support.netns import Net
from tests.support.wireguard_pair import module_there, require_wireguard_go, started

from neti.dataplane.wireguard import road
from neti.dataplane.wireguard.keys import new_key, public_half
from neti.dataplane.wireguard.road import Road
from neti.dataplane.wireguard.uapi import UapiWireGuard
from neti.fleet.remembered import Everybody, Remembered
from neti.identity.machine import fingerprint
from neti.model import Host, Member
from neti.model.entry import encode
from neti.ruleset.peers import Endpoint, Peer, RemovePeer
from neti.ruleset.roads import KEEPALIVE
from neti.stage.stages import Record
from neti.state.folder import StateFolder
from neti.state.records import Self

pytestmark = pytest.mark.kernel

Run = Callable[..., "subprocess.CompletedProcess[str]"]
CONFIG = """\
registry: embedded:{folder}/registry.db
identity: {{id: a, private: 10.0.0.5, public: 198.51.100.5}}
site: ec2
sites: {{ec2: {{private: [10.0.0.0/8], encrypt: prefer}}, vpc: {{private: [10.0.0.0/8]}}}}
ssh_whitelist: [10.0.0.77/32]
table_files_path: {folder}/state
"""
REQUIRED = """\
zk_hosts: {{ec2: [10.0.0.66:2281]}}
registry_tls: {{ca: {folder}/ca.pem, cert: {folder}/host.pem, key: {folder}/host.key}}
""" + CONFIG.partition("\n")[2].replace("prefer", "require")

MTU = 1320  # the test network carries 1400
SUBNET = IPv4Network("192.168.0.0/18")
OWN, THERE = IPv4Address("192.168.0.5"), IPv4Address("192.168.0.9")
MEMBER = Member(
    id="b",
    site="vpc",
    private=IPv4Address("10.0.0.5"),
    public=IPv4Address("203.0.113.9"),
    overlay=THERE,
)
KEY, THEIRS = new_key(), public_half(new_key())


def peer(keepalive: int = KEEPALIVE) -> Peer:
    there = Endpoint(IPv4Address("203.0.113.9"), 51820)
    return Peer(THEIRS, frozenset({IPv4Network(THERE)}), there, keepalive)


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    """As an agent left it."""
    folder = StateFolder(tmp_path / "state")
    folder.load(fingerprint())
    host = Host(id="a", site="ec2", private=IPv4Address(netns.PRIVATE), public=None)
    folder.save_self(Self(overlay=str(OWN), host=host))
    members = {"b": Remembered(encode(MEMBER), leased=True, key=THEIRS)}
    folder.append(dict(members), Everybody(1, members.items()))
    folder.keep_private_key(KEY)
    return folder


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "neti.yml"
    path.write_text(CONFIG.format(folder=tmp_path))
    return path


class WithProgram:
    """wireguard-go in the host's namespace, and a mount namespace with its socket."""

    def __init__(self, stack: ExitStack, net: Net, config: Path) -> None:
        self._config = config
        self.pid, self.door = started(stack, net.host)

    def neti(self, *words: str) -> "subprocess.CompletedProcess[str]":
        inside = ["nsenter", "--target", str(self.pid), "--mount", "--net", "--"]
        line = [*inside, sys.executable, "-m", "neti", *words, "-c", str(self._config)]
        return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def program(net: Net, config: Path) -> Iterator[WithProgram]:
    require_wireguard_go()
    with ExitStack() as stack:
        yield WithProgram(stack, net, config)


def neti_without(net: Net, config: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    hidden = 'mount -t tmpfs none /run && exec "$@"'
    inside = ["ip", "netns", "exec", net.host, "sh", "-c", hidden, "sh"]
    line = [*inside, sys.executable, "-m", "neti", *words, "-c", str(config)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


def elements(net: Net, name: str) -> str:
    """Of a set or map."""
    return ruleset(net).partition(f"{name} {{")[2].partition("\n\t}")[0]


def is_whole(net: Net, door: UapiWireGuard, held: Peer) -> None:
    device = door.device()
    assert device is not None
    assert (device.public_key, device.port) == (public_half(KEY), 51820)
    assert {key: one.peer for key, one in device.peers.items()} == {held.key: held}
    found: Road = net.inside(net.host, road.read)
    assert found.faults(SUBNET, MTU) == ()


def test_the_device_is_made_from_disk_and_plan_and_down_know_it(
    net: Net, state: StateFolder, program: WithProgram
) -> None:
    planned = program.neti("plan")
    assert "WireGuard: its key is missing" in planned.stdout
    assert "WireGuard: peers missing: 1" in planned.stdout
    assert program.door.device().public_key is None  # type: ignore[union-attr]  # it is there

    done = program.neti("restore")
    assert done.stdout == "restored: 1 member, shadow, 1 WireGuard peer\n", done.stderr
    is_whole(net, program.door, peer())
    assert str(THERE) in elements(net, "set tunnel_peers")
    assert str(THERE) not in elements(net, "set tunneled")  # nobody has answered yet
    assert str(THERE) in elements(net, "map overlay")
    before = ruleset(net)
    assert program.neti("restore").returncode == 0
    assert ruleset(net).count("\n") == before.count("\n")
    planned = program.neti("plan")
    assert "WireGuard" not in planned.stdout, planned.stdout

    program.door.apply([RemovePeer(THEIRS)])
    net.inside(net.host, road.delete_routes)
    planned = program.neti("plan")
    assert "WireGuard: peers missing: 1" in planned.stdout
    assert "WireGuard: the route in table 78 is missing or another" in planned.stdout
    assert "WireGuard" not in program.neti("plan", "--full").stdout
    assert "tunnel_in" in program.neti("plan", "--full").stdout

    assert program.neti("down").returncode == 0
    assert net.inside(net.host, road.read) == Road(None)


def test_what_is_required_goes_through_the_tunnel_from_the_first_packet(
    net: Net, state: StateFolder, config: Path, program: WithProgram, tmp_path: Path
) -> None:
    config.write_text(REQUIRED.format(folder=tmp_path))
    state.save_record(Record(configured=False, wished=True, confirmed=True, requires=True))
    done = program.neti("restore")
    assert done.stdout == "restored: 1 member, enforced, 1 WireGuard peer\n", done.stderr
    device = program.door.device()
    assert device is not None
    assert set(device.peers) == {THEIRS}
    assert str(THERE) in elements(net, "set tunneled")
    assert str(THERE) not in elements(net, "map overlay")
    assert "203.0.113.9" not in elements(net, "set peers4")


@pytest.mark.parametrize("required", [False, True])
def test_without_anything_that_encrypts_the_rules_are_loaded_all_the_same(
    net: Net, state: StateFolder, config: Path, tmp_path: Path, required: bool
) -> None:
    """And it is said. What is required is not reached then; what is preferred is, in the clear."""
    if module_there():
        pytest.skip("this kernel has the module")
    if required:
        config.write_text(REQUIRED.format(folder=tmp_path))
        state.save_record(Record(configured=False, wished=True, confirmed=True, requires=True))
    done = neti_without(net, config, "restore")
    assert done.returncode == 0
    assert "so nothing is encrypted: this kernel has no WireGuard module" in done.stderr
    stage = "enforced" if required else "shadow"
    assert done.stdout == f"restored: 1 member, {stage}\n"
    assert (str(THERE) in elements(net, "map overlay")) is not required
    assert str(THERE) not in elements(net, "set tunneled")


def test_a_host_without_a_key_says_so(net: Net, state: StateFolder, config: Path) -> None:
    (state.path / "wireguard.key").unlink()
    done = neti_without(net, config, "restore")
    assert "this host has no WireGuard key yet" in done.stderr
    assert done.stdout == "restored: 1 member, shadow\n"
    assert net.inside(net.host, road.read).link is None


def test_without_the_key_on_disk_a_device_that_works_goes_on(
    net: Net, state: StateFolder, config: Path, program: WithProgram, tmp_path: Path
) -> None:
    """By hand, over rules in force: what the kernel has leads to a device that has its own key."""
    config.write_text(REQUIRED.format(folder=tmp_path))
    state.save_record(Record(configured=False, wished=True, confirmed=True, requires=True))
    assert program.neti("restore").returncode == 0
    (state.path / "wireguard.key").unlink()
    planned = program.neti("plan")
    assert "tunnel" not in planned.stdout, planned.stdout
    done = program.neti("restore")
    assert done.stdout == "restored: 1 member, enforced, 1 WireGuard peer\n", done.stderr
    assert "the device goes on with the key and the peers that it has" in done.stderr
    assert str(THERE) in elements(net, "set tunneled")
    assert str(THERE) in elements(net, "set tunnel_peers")
    device = program.door.device()
    assert device is not None
    assert device.public_key == public_half(KEY)

    program.door.apply([RemovePeer(THEIRS)])
    done = program.neti("restore")
    assert done.stdout == "restored: 1 member, enforced\n", done.stderr
    assert str(THERE) not in elements(net, "set tunneled")
