"""What is open to somebody for a time: real packets, both families, and the kernel's own clock."""

import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from tests.kernel.test_agent_process import agent, config, line, neti, ruleset, wait
from tests.kernel.test_groups import MEMBER2, OTHER, OTHER6, PORTS, Grouped
from tests.kernel.test_packets import PEER, SETTINGS
from tests.support import netns
from tests.support.netns import PATIENCE, WAIT, Net, Server, alive, connect, reaches
from tests.support.talking import Echo, echoed, udp

from neti.control import client
from neti.dataplane.conntrack import Conntrack
from neti.dataplane.reconciler import Resync
from neti.model.openings import Opening
from neti.model.settings import IPNetwork
from neti.ruleset.openings import lengths, until
from neti.ruleset.plan import Rewrite
from neti.ruleset.policy import structure
from neti.ruleset.surroundings import Surroundings

pytestmark = pytest.mark.kernel

__all__ = ["agent", "config", "neti"]
FAMILIES = [(netns.STRANGER, OTHER), (netns.STRANGER6, netns.ADMIN6)]
LONG = 3600.0


def opening(source: str, port: int, seconds: float = LONG, **more: object) -> Opening:
    network: IPNetwork = ip_network(source)
    found = Opening(source=network, proto="tcp", first=port, last=port, until=seconds, seconds=60)
    return replace(found, **more)  # type: ignore[arg-type]


@dataclass
class Opened(Grouped):
    """``now``: CLOCK_MONOTONIC when what is open was said, by which its ends are counted.
    ``drift``: what the last look found and mended."""

    held: tuple[Opening, ...] = ()
    now: float = 0.0
    drift: tuple[str, ...] = ()

    def opens(self, *held: Opening) -> Rewrite:
        self.held, self.now = held, time.monotonic()
        return self.written()

    def written(self) -> Rewrite:
        around = Surroundings(
            uplinks=("eth0",),
            ssh_untracked=self.untracked,
            member_ports=self.in_force,
            openings=lengths(self.held),
        )
        self.members.take_changes()
        self.members.admit_by(self.in_force)
        self.members.elements.openings = until(self.held, self.now)
        rules = structure(self.settings, around)
        done: Resync = self.reconciler.resync(rules, self.members.elements)
        self.drift = done.drift
        return done.planned.structure


@pytest.fixture(name="host")
def _host(net: Net) -> Opened:
    made = Opened(net, replace(SETTINGS, ssh_whitelist=()), False)
    made.enforce()
    return made


def comes(net: Net, port: int, source: str) -> bool:
    to = netns.PRIVATE6 if ":" in source else netns.PRIVATE
    return reaches(net, net.outside, to, port, source)


def until_shut(net: Net, port: int, source: str) -> None:
    """Only a hang lets this fail: each try that is let in is one before the end."""
    deadline = time.monotonic() + PATIENCE
    while comes(net, port, source):
        assert time.monotonic() < deadline, "still open"


def nft(net: Net, *words: str) -> str:
    command = ["ip", "netns", "exec", net.host, "nft", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(("source", "other"), FAMILIES, ids=["ipv4", "ipv6"])
def test_who_is_let_in_for_a_time_gets_in_and_nobody_else(
    net: Net, host: Opened, source: str, other: str
) -> None:
    for port in (5432, 5433):
        Server(net, net.host, port)
    assert not comes(net, 5432, source)
    assert host.opens(opening(source, 5432)) is Rewrite.ALL  # the first brings its set along
    assert [comes(net, port, source) for port in (5432, 5433)] == [True, False]
    assert not comes(net, 5432, other)
    # One more of the same length is an element and no rule.
    assert host.opens(opening(source, 5432), opening(other, 5433)) is Rewrite.NOTHING
    assert [comes(net, port, other) for port in (5432, 5433)] == [False, True]
    assert host.opens() is Rewrite.ALL
    assert not comes(net, 5432, source)
    assert "opening" not in nft(net, "list", "table", "inet", "neti")


@pytest.mark.parametrize(("source", "other"), FAMILIES, ids=["ipv4", "ipv6"])
def test_the_kernel_ends_it_by_its_own_clock(
    net: Net, host: Opened, source: str, other: str
) -> None:
    """Nobody writes to the kernel meanwhile, as where the agent was killed. What is established by
    then goes on."""
    Server(net, net.host, 5432)
    host.opens(opening(source, 5432, 3), opening(other, 5432))
    with connect(net, net.outside, _own(source), 5432, source) as held:
        until_shut(net, 5432, source)
        assert alive(held)
    assert comes(net, 5432, other)


@pytest.mark.parametrize("source", [netns.STRANGER, netns.STRANGER6], ids=["ipv4", "ipv6"])
def test_what_goes_on_ends_when_its_socket_is_killed_and_not_when_tracking_forgets_it(
    net: Net, host: Opened, source: str
) -> None:
    """As docs/operations.md says. Tracking takes up again what this host sends, and the peer's
    answers count as established with it. The socket is one of both families, as most are."""
    listening = net.inside(net.host, _dual_stack)
    host.opens(opening(source, 5432))
    with listening, connect(net, net.outside, _own(source), 5432, source) as held:
        own, _ = listening.accept()
        host.opens()
        nft(net, "flush", "set", "inet", "neti", "grace")  # as it is two hours after the start
        assert net.inside(net.host, Conntrack).end_those(lambda one: True) > 0
        own.sendall(b"word")
        assert held.recv(4) == b"word"
        held.sendall(b"back")
        own.settimeout(PATIENCE)
        assert own.recv(4) == b"back"
        command = ["ip", "netns", "exec", net.host, "ss", "-K", "-t"]
        command += ["dst", f"[{source}]" if ":" in source else source, "sport", "=", ":5432"]
        subprocess.run(command, check=True, capture_output=True)
        with pytest.raises(ConnectionError):
            held.recv(4)
        own.close()
    assert not comes(net, 5432, source)


def _dual_stack() -> socket.socket:
    return socket.create_server(("::", 5432), family=socket.AF_INET6, dualstack_ipv6=True)


def _own(source: str) -> str:
    return netns.PRIVATE6 if ":" in source else netns.PRIVATE


def test_networks_may_lie_within_each_other(net: Net, host: Opened) -> None:
    """Each ends by itself. A network of one length opens nothing to one of another."""
    Server(net, net.host, 5432)
    host.opens(opening("10.0.0.64/28", 5432, 3), opening(netns.STRANGER, 5432))
    assert comes(net, 5432, netns.STRANGER)
    assert comes(net, 5432, netns.ADMIN)  # 10.0.0.77, in the network alone
    assert not comes(net, 5432, netns.PEER)
    until_shut(net, 5432, netns.ADMIN)
    assert comes(net, 5432, netns.STRANGER)
    host.opens(opening("10.0.0.64/32", 5432), opening("10.0.0.0/28", 5433))
    assert not comes(net, 5432, netns.STRANGER)  # its network's first address is not it
    host.opens(opening("0.0.0.0/0", 5432))
    assert comes(net, 5432, netns.STRANGER)
    assert not comes(net, 5432, netns.STRANGER6)
    host.opens(opening("::/0", 5432), opening("fd00:5::/64", 5433))
    assert comes(net, 5432, netns.STRANGER6)
    assert not comes(net, 5432, netns.STRANGER)


def test_a_range_and_udp(net: Net, host: Opened) -> None:
    for port in (8000, 8003, 8004):
        Server(net, net.host, port)
    echo = Echo(net, net.host, 8000)
    host.opens(opening(netns.STRANGER, 8000, last=8003))
    assert [comes(net, port, netns.STRANGER) for port in (8000, 8003, 8004)] == [True, True, False]
    with net.inside(net.outside, lambda: udp(0, netns.STRANGER)) as sock:
        assert not echoed(sock, netns.PRIVATE, 8000, b"ask", WAIT)
    host.opens(opening(netns.STRANGER, 8000, proto="udp"))
    with net.inside(net.outside, lambda: udp(0, netns.STRANGER)) as sock:
        assert echoed(sock, netns.PRIVATE, 8000, b"ask", PATIENCE)
    assert not comes(net, 8000, netns.STRANGER)
    assert echo is not None


def test_the_whole_table_anew_carries_over_what_is_left(net: Net, host: Opened) -> None:
    """A reload that needs other sets, somebody's flush of the set, of the table, of everything, and
    an element that somebody made longer or added: none of them ends it, or makes it longer."""
    Server(net, net.host, 5432)
    host.opens(opening(netns.STRANGER, 5432, 9))
    end = time.monotonic() + 9
    for words in (
        ("flush", "set", "inet", "neti", "opening4_32"),
        ("delete", "table", "inet", "neti"),
        ("flush", "ruleset"),
    ):
        nft(net, *words)
        host.written()
        assert comes(net, 5432, netns.STRANGER)
        assert _left(net) <= end - time.monotonic() + 0.1
    key = f"{netns.STRANGER} . tcp . 5432"
    other = f"{netns.ADMIN} . tcp . 5432"
    nft(net, "delete", "element", "inet", "neti", "opening4_32", f"{{ {key} }}")
    new = f"{{ {key} timeout 1h, {other} timeout 1h }}"
    nft(net, "add", "element", "inet", "neti", "opening4_32", new)
    host.written()
    assert list(host.drift) == ["2 in opening4_32"]
    assert _left(net) <= end - time.monotonic() + 0.1
    assert not comes(net, 5432, netns.ADMIN)
    until_shut(net, 5432, netns.STRANGER)
    host.written()  # what is over is not written back
    assert list(host.drift) == []
    assert not comes(net, 5432, netns.STRANGER)


def _left(net: Net) -> float:
    """Seconds that the kernel gives what is open to the stranger."""
    listed = nft(net, "-j", "list", "set", "inet", "neti", "opening4_32")
    assert listed.count('"expires"') == 1, listed
    return float(listed.partition('"expires": ')[2].partition("}")[0])


@pytest.mark.parametrize("waits", [False, True], ids=["in force", "waiting"])
def test_a_member_whom_no_group_lets_in(net: Net, waits: bool) -> None:
    """By both families; also on trial, when what is in force before admits it to other ports."""
    add = f"-n {net.outside} address add {OTHER6}/64 dev eth0 nodad"
    subprocess.run(["ip", *add.split()], check=False, capture_output=True)
    settings = replace(SETTINGS, ssh_whitelist=(), member_ports=PORTS)
    host = Opened(net, settings, False, None if waits else PORTS)
    for member in (PEER, MEMBER2):
        host.joins(member)
    host.groups(app="peer", web="", ops="")
    for port in (5432, 40001):
        Server(net, net.host, port)
    host.enforce()
    if waits:
        host.trial()
    assert not comes(net, 5432, OTHER)
    host.opens(opening(OTHER, 5432), opening(OTHER6, 5432))
    for source in (OTHER, OTHER6):
        assert [comes(net, port, source) for port in (5432, 40001)] == [True, False]


def test_a_published_port_is_the_one_that_was_asked_for(net: Net, host: Opened) -> None:
    Server(net, net.container, 80)
    publish = (
        "table ip docker { chain pre { type nat hook prerouting priority dstnat; "
        f"tcp dport 8080 dnat to {netns.CONTAINER}:80; }}; }}"
    )
    nft(net, publish)
    assert not comes(net, 8080, netns.STRANGER)
    host.opens(opening(netns.STRANGER, 80))  # the container's own port opens nothing
    assert not comes(net, 8080, netns.STRANGER)
    host.opens(opening(netns.STRANGER, 8080))
    assert comes(net, 8080, netns.STRANGER)


def test_what_is_not_tracked_goes_by_the_port_in_the_packet(net: Net, host: Opened) -> None:
    Server(net, net.host, 5432)
    chains = "".join(
        f"chain {hook} {{ type filter hook {hook} priority raw; tcp {port} 5432 notrack; }}; "
        for hook, port in (("prerouting", "dport"), ("output", "sport"))
    )
    nft(net, f"table inet other {{ {chains} }}")
    assert not comes(net, 5432, netns.STRANGER)
    host.opens(opening(netns.STRANGER, 5432))
    assert comes(net, 5432, netns.STRANGER)


def test_it_is_there_whatever_becomes_of_the_agent(
    net: Net,
    neti: "Callable[..., subprocess.CompletedProcess[str]]",
    config: Path,
    agent: "subprocess.Popen[bytes]",
    tmp_path: Path,
) -> None:
    """Killed, started again, and after a reboot: for as long as was said, and no longer."""
    state = tmp_path / "state"
    Server(net, net.host, 5432)
    client.call(state, "enforce", seconds=60)
    client.call(state, "confirm")
    assert not comes(net, 5432, netns.STRANGER)
    done = neti("open", "5432", "--from", netns.STRANGER, "--for", "10m")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"open: 5432/tcp to {netns.STRANGER} until ")
    end = time.monotonic() + 600
    assert comes(net, 5432, netns.STRANGER)
    agent.send_signal(signal.SIGKILL)
    agent.wait()
    assert comes(net, 5432, netns.STRANGER)
    shown = neti("open")
    assert shown.stdout.startswith(f"5432/tcp to {netns.STRANGER}: 9 min left, by ")
    assert "stage: enforced" in shown.stdout
    assert "the agent does not answer: this is what the kernel holds" in shown.stderr
    # All that has changed is that the agent's own port has no listener any more.
    assert neti("plan").stdout == "delete element inet neti tcp_listening { 7077 }\n"
    assert (
        f"add element inet neti opening4_32 {{ {netns.STRANGER} . tcp"
        in neti("plan", "--full").stdout
    )
    nft(net, "flush", "ruleset")
    gone = neti("open")
    assert gone.stdout == "nothing is open for a time\n"
    assert f"5432/tcp to {netns.STRANGER} is on disk, and not in the kernel" in gone.stderr
    assert neti("restore").returncode == 0
    assert not comes(net, 5433, netns.STRANGER)
    assert comes(net, 5432, netns.STRANGER)
    assert _left(net) <= end - time.monotonic() + 0.1
    with (tmp_path / "again").open("wb") as log:
        again = subprocess.Popen(line(net, config, "agent"), stderr=log)
    try:
        wait(lambda: client.call(state, "status")["registered"])
        assert comes(net, 5432, netns.STRANGER)
        assert _left(net) <= end - time.monotonic() + 0.1
        explained = neti("explain", netns.STRANGER, "here", "5432")
        assert "'neti open' opened 5432/tcp" in explained.stdout
        assert f"open      5432/tcp to {netns.STRANGER}: 9 min left" in neti("status").stdout
        assert neti("open", "5432", "--close").returncode == 0
        assert not comes(net, 5432, netns.STRANGER)
        assert "opening" not in ruleset(net)
    finally:
        again.kill()
        again.wait()
    nft(net, "flush", "ruleset")
    assert neti("restore").returncode == 0
    assert not comes(net, 5432, netns.STRANGER)
