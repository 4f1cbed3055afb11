"""What others do to the table again and again, and to flows that begin while it is away."""

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from threading import Thread

import pytest
from drills.fleet import Fleet
from tests.kernel.test_agent_process import Neti, agent, config, enforced, neti, ruleset, wait
from tests.support import netns
from tests.support.netns import Net
from tests.support.yard import Yard
from tests.support.yard import wait as wait_for

from neti.control import client
from neti.model import Member
from neti.registry.embedded.registry import EmbeddedRegistry

pytestmark = pytest.mark.kernel

__all__ = ["agent", "config", "neti"]

_PORT = 7011
_TRACKS = (
    "table inet other { chain c { type filter hook output priority 0; ct state new accept; }; }"
)


def nft(net: Net, text: str) -> None:
    subprocess.run(["ip", "netns", "exec", net.host, "nft", text], check=True)


def test_a_fight_is_slow_only_while_the_host_is_shut(
    net: Net, agent: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    """Nine deletions of the table in a row: the pause before the last one would be 15 s."""
    state = tmp_path / "state"
    client.call(state, "enforce", seconds=300, wait=True)
    client.call(state, "confirm")
    for _ in range(9):
        nft(net, "delete table inet neti")
        wait(lambda: "map enforce" in ruleset(net) and enforced(net), 7)
    assert client.call(state, "status")["drift"]["fight"]


class Flow:
    """One UDP socket that keeps sending to an overlay address."""

    def __init__(self, net: Net, to: str) -> None:
        def make() -> socket.socket:
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

        self._socket = net.inside(net.host, make)
        self._socket.settimeout(0.05)
        self._to = to

    def answered(self) -> bool:
        try:
            self._socket.sendto(b"ping", (self._to, _PORT))
            return self._socket.recv(4) == b"ping"
        except OSError:
            return False


@contextmanager
def echo(net: Net) -> Iterator[None]:
    def listen() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((netns.PEER, _PORT))
        return sock

    def run() -> None:
        while True:
            sent, place = sock.recvfrom(64)
            if sent == b"end":
                return
            sock.sendto(sent, place)

    sock = net.inside(net.outside, listen)
    thread = Thread(target=run, daemon=True)
    thread.start()
    yield
    sock.sendto(b"end", (netns.PEER, _PORT))
    thread.join()
    sock.close()


@pytest.mark.parametrize("how", ["table deleted", "down and up"])
def test_a_flow_that_began_while_the_table_was_away_comes_alive(
    net: Net, neti: Neti, agent: "subprocess.Popen[bytes]", tmp_path: Path, how: str
) -> None:
    """It never pauses, so what another program tracks of it, untranslated, would never end."""
    nft(net, _TRACKS)
    registry = EmbeddedRegistry(tmp_path / "registry.db", session_seconds=60)
    member = Member(
        id="peer",
        site="ec2",
        private=IPv4Address(netns.PEER),
        public=None,
        overlay=IPv4Address(netns.OVERLAY),
    )
    overlay = str(Fleet(registry).join(member).overlay)
    with echo(net):
        wait(Flow(net, overlay).answered)
        if how == "table deleted":
            agent.send_signal(signal.SIGSTOP)
            nft(net, "delete table inet neti")
        else:
            assert neti("down").returncode == 0
        flow = Flow(net, overlay)
        assert not any(flow.answered() for _ in range(5))
        if how == "table deleted":
            agent.send_signal(signal.SIGCONT)
        else:
            assert neti("up").returncode == 0
        wait(flow.answered)
    registry.close()


def test_a_name_for_our_number_changes_nothing(tmp_path: Path) -> None:
    """Whoever gives route protocol 78 a name in rt_protos: the route stays ours, over a restart."""
    netns.require_root()
    names = tmp_path / "names"
    names.mkdir()
    (names / "rt_protos").write_text("78 neti\n")
    shown = 'mkdir -p /etc/iproute2 && mount --bind "$0" /etc/iproute2 && exec "$@"'
    around = ["unshare", "-m", "sh", "-c", shown, str(names)]
    yard = Yard(tmp_path)
    try:
        one = yard.agent(1)
        words = ["ip", "-N", "-n", one.namespace, "route", "show", "192.168.0.0/18"]
        for _ in range(2):
            yard.start(one, around=around)
            wait_for(lambda: "proto 78" in subprocess.check_output(words, text=True))
            assert one.ask("status")["problems"] == []
            one.end()
    finally:
        yard.close()
