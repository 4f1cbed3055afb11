"""From the last release to today's code and back, live and over a reboot, with packets all the
while: an enforced host loses none of its members', and lets in no stranger's."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from threading import Event, Thread

import pytest
from drills.fleet import Fleet, generated
from tests.kernel.test_agent_process import CONFIG
from tests.support import netns, released
from tests.support.agent_process import AgentProcess
from tests.support.netns import Net
from tests.support.yard import codes, overlays, wait

from neti.model import Member
from neti.registry.embedded.registry import EmbeddedRegistry

pytestmark = pytest.mark.kernel

_PORT = 7031
_PAUSE = 0.005
_PATIENCE = 2.0  # for an answer that must come
_STRANGERS_SHARE = 40  # one of so many packets is a stranger's


@dataclass
class Counted:
    """Packets to the host and from it; ``let_in``: of the strangers'."""

    inward: int = 0
    outward: int = 0
    lost: list[str] = field(default_factory=list)
    strangers: int = 0
    let_in: int = 0


@contextmanager
def echo(net: Net, namespace: str, address: str) -> Iterator[None]:
    def listen() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((address, _PORT))
        return sock

    def run() -> None:
        while True:
            sent, place = sock.recvfrom(64)
            if sent == b"end":
                return
            sock.sendto(sent, place)

    def stop() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"end", (address, _PORT))

    sock = net.inside(namespace, listen)
    thread = Thread(target=run, daemon=True)
    thread.start()
    yield
    net.inside(namespace, stop)
    thread.join()
    sock.close()


def answered(to: str, source: str, patience: float) -> bool:
    """A packet from a new socket of this thread's namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        sock.settimeout(patience)
        try:
            sock.sendto(b"ping", (to, _PORT))
            return sock.recv(4) == b"ping"
        except OSError:
            return False


@contextmanager
def packets(net: Net, overlay: str) -> Iterator[Counted]:
    """A member calls the host and the host calls the member's overlay address, each packet from a
    new socket and so a new connection; now and then a stranger calls the host."""
    count, done = Counted(), Event()

    def inward() -> None:
        while not done.wait(_PAUSE):
            count.inward += 1
            if not answered(netns.PRIVATE, netns.PEER, _PATIENCE):
                count.lost.append(f"inward {count.inward}")
            if count.inward % _STRANGERS_SHARE == 1:
                count.strangers += 1
                count.let_in += answered(netns.PRIVATE, netns.STRANGER, netns.WAIT)

    def outward() -> None:
        while not done.wait(_PAUSE):
            count.outward += 1
            if not answered(overlay, "", _PATIENCE):
                count.lost.append(f"outward {count.outward}")

    with echo(net, net.host, netns.PRIVATE), echo(net, net.outside, netns.PEER):
        threads = [
            Thread(target=net.inside, args=(net.outside, inward)),
            Thread(target=net.inside, args=(net.host, outward)),
        ]
        for thread in threads:
            thread.start()
        yield count
        done.set()
        for thread in threads:
            thread.join()


@dataclass
class Upgraded:
    """The host, and who is in the registry beside it."""

    net: Net
    agent: AgentProcess
    fleet: Fleet
    joined: int = 0

    def start(self, around: list[str]) -> None:
        self.agent.start(around)
        wait(lambda: self.agent.check() or self.agent.ask("status")["registered"])  # type: ignore[func-returns-value]  # check returns None

    def in_step(self) -> None:
        """It hears of a new member, knows all the others, and finds nothing wrong."""
        self.joined += 1
        overlay = str(self.fleet.join(generated(self.joined)).overlay)
        wait(lambda: overlay in overlays(self.agent))
        everybody = {str(member.overlay) for member in self.fleet.members.values()}
        own = self.agent.ask("status")["overlay"]
        assert overlays(self.agent) == everybody | {own}
        assert codes(self.agent) == set()
        assert self.agent.ask("status")["stage"] == "enforced"

    def asks(self, source: str) -> bool:
        """Whether the host answers it."""
        return self.net.inside(
            self.net.outside, lambda: answered(netns.PRIVATE, source, netns.PATIENCE / 5)
        )

    def reboot(self, around: list[str]) -> str:
        """An empty kernel, and what the unit does before there is a network."""
        self.agent.end()
        inside = ["ip", "netns", "exec", self.net.host]
        subprocess.run([*inside, "nft", "flush", "ruleset"], check=True)
        words = [sys.executable, "-m", "neti", "restore", "-c", str(self.agent.config)]
        return subprocess.run(
            [*inside, *around, *words], capture_output=True, text=True, check=True
        ).stdout


@pytest.fixture
def host(net: Net, tmp_path: Path) -> Iterator[Upgraded]:
    config = tmp_path / "neti.yml"
    config.write_text(CONFIG.format(folder=tmp_path))
    agent = AgentProcess(net.host, config=config, state=tmp_path / "state", log=tmp_path / "log")
    registry = EmbeddedRegistry(tmp_path / "registry.db", session_seconds=60)
    yield Upgraded(net, agent, Fleet(registry))
    agent.kill()
    registry.close()


def test_up_and_down_again(host: Upgraded, tmp_path: Path) -> None:
    before, today = released.unpack(tmp_path / "released"), ["env"]
    host.start(before)
    peer = Member(
        id="peer",
        site="ec2",
        private=IPv4Address(netns.PEER),
        public=None,
        overlay=IPv4Address(netns.OVERLAY),
    )
    overlay = str(host.fleet.join(peer).overlay)
    wait(lambda: overlay in overlays(host.agent))
    host.agent.ask("enforce", seconds=300, wait=True)
    host.agent.ask("confirm")
    host.in_step()
    with packets(host.net, overlay) as live:
        for version in (today, before, today):
            host.agent.end()
            host.start(version)
            host.in_step()
    assert (live.lost, live.let_in) == ([], 0)
    assert min(live.inward, live.outward) > 100
    for version in (before, today):
        members = len(host.fleet.members) + 1
        assert host.reboot(version) == f"restored: {members} members, enforced\n"
        with echo(host.net, host.net.host, netns.PRIVATE):
            assert host.asks(netns.PEER)
            assert not host.asks(netns.STRANGER)
        host.start(version)
        host.in_step()
