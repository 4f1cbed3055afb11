"""Two real agents whose sites prefer encryption: what packets do, through kills and repairs.

Their registry is the embedded one. Their device is the kernel's module's where that is there, and
agents make it; elsewhere it is wireguard-go's, as neti-wireguard.service starts it: each host has a
/run of its own, as a machine has.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support.netns import PATIENCE, Net, require_root
from tests.support.talking import Served, passes
from tests.support.tunnel_net import A, B, End, namespaces, nft, sysctl
from tests.support.wireguard_pair import module_there

from neti.control import client
from neti.dataplane.nftables import NftablesDataplane
from neti.dataplane.wireguard.netlink import KernelWireGuard
from neti.dataplane.wireguard.uapi import UapiWireGuard
from neti.errors import NetiError
from neti_lab.namespaces import call_inside

pytestmark = pytest.mark.kernel

PORT = 8080
UDP_PORT = 8081
# WireGuard itself tries again after five seconds: less than that is what the agents do. A machine
# that is busy just then may take longer, so each end has some attempts.
AWAY = 4.0
ATTEMPTS = 3
RETRY = 30.0  # the longest pause before the agent asks a device again that said nothing
CONFIG = """\
registry: embedded:{folder}/registry.db
identity: {{id: {end.site}, private: 10.0.0.11, public: {end.public}}}
site: {end.site}
sites:
  ec2: {{private: [10.0.0.0/8], public: [198.51.100.0/24]}}
  vpc: {{private: [10.0.0.0/8], public: [203.0.113.0/24], encrypt: prefer}}
ssh_whitelist: [192.0.2.77/32]
table_files_path: {folder}/{end.site}
"""


@dataclass
class Machine:
    """``inside``: a process whose namespaces all of this host's programs share."""

    end: End
    namespace: str
    folder: Path
    programs: contextlib.ExitStack
    text: str = CONFIG
    wireguard: "subprocess.Popen[bytes] | None" = None
    agent: "subprocess.Popen[bytes] | None" = None
    inside: "subprocess.Popen[bytes]" = field(init=False)

    def __post_init__(self) -> None:
        script = "mount -t tmpfs none /run && mkdir /run/wireguard && echo . && exec sleep infinity"
        self.inside = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, "sh", "-c", script], stdout=subprocess.PIPE
        )
        self.programs.callback(self.inside.wait)
        self.programs.callback(self.inside.kill)
        assert self.inside.stdout is not None
        assert self.inside.stdout.read(1) == b"."
        self.config.write_text(self.text.format(folder=self.folder, end=self.end))

    @property
    def config(self) -> Path:
        return self.folder / f"{self.end.site}.yml"

    def _start(self, *words: str) -> "subprocess.Popen[bytes]":
        entered = ["nsenter", "-t", str(self.inside.pid), "-m", "-n", "--", *words]
        log = (self.folder / f"{self.end.site}.log").open("ab")
        with log:
            made = subprocess.Popen(
                entered, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self.programs.callback(made.wait)
        self.programs.callback(made.kill)
        return made

    def start_wireguard(self) -> None:
        """Where no module makes it unnecessary."""
        if not module_there():
            self.wireguard = self._start("wireguard-go", "-f", "neti0")

    def start_agent(self) -> None:
        self.agent = self._start(sys.executable, "-m", "neti", "agent", "-c", str(self.config))

    def kill_agent(self) -> None:
        assert self.agent is not None
        self.agent.send_signal(signal.SIGKILL)
        self.agent.wait()

    def neti(self, *words: str) -> None:
        done = self._start(sys.executable, "-m", "neti", *words, "-c", str(self.config))
        assert done.wait(60) == 0

    def said(self, *words: str) -> str:
        """By a command of this host's, which must succeed."""
        code, said = self.answered(*words)
        assert code == 0, said
        return said

    def answered(self, *words: str) -> tuple[int, str]:
        """A command's exit code, and what it says; where it fails, on stderr as well."""
        entered = ["nsenter", "-t", str(self.inside.pid), "-m", "-n", "--", sys.executable]
        asked = [*entered, "-m", "neti", *words, "-c", str(self.config)]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + (done.stderr if done.returncode else "")

    def ip(self, *words: str) -> str:
        done = subprocess.run(
            ["ip", "-n", self.namespace, *words], capture_output=True, text=True, check=False
        )
        return done.stdout

    def peers(self) -> set[str]:
        """Public keys of the peers that its device holds."""
        if module_there():
            with contextlib.closing(call_inside(self.namespace, KernelWireGuard)) as kernel:
                device = kernel.device()
        else:
            path = Path("/proc", str(self.inside.pid), "root", "run", "wireguard", "neti0.sock")
            with contextlib.closing(UapiWireGuard(path)) as door:
                device = door.device()
        assert device is not None
        return set(map(str, device.peers))

    # --- what it says ---

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = client.call(self.folder / self.end.site, "status")
        return answer

    def roads(self) -> dict[str, int]:
        """To the other site: how many members are on which."""
        sites = (self.status()["encryption"] or {}).get("sites") or {}
        counts = (pair for site in sites.values() for pair in site.items())
        return {road: n for road, n in counts if road != "asked" and n}

    def prefers(self) -> bool:
        """And the kernel knows: changes are gathered for a moment."""
        return self.roads().get("preferred") == 1 and len(self.tunneled()) == 1

    def judges(self) -> bool:
        """Whether the kernel has the rules for what comes in."""
        words = ["ip", "netns", "exec", self.namespace, "nft", "list", "chain", "inet", "neti"]
        shown = subprocess.run([*words, "input"], capture_output=True, text=True, check=True).stdout
        return "jump" in shown

    def tunneled(self) -> Mapping[str, str]:
        held = call_inside(self.namespace, NftablesDataplane).read()
        return held.elements.get("tunneled", {})

    @property
    def overlay(self) -> str:
        return str(self.status()["overlay"])


def wait(true: Callable[[], bool], seconds: float = 3 * PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(NetiError):
            if true():
                return
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.1)


@dataclass
class Both:
    a: Machine
    b: Machine

    def encrypted(self) -> None:
        wait(lambda: self.a.prefers() and self.b.prefers())

    @contextlib.contextmanager
    def listening(self, port: int = PORT) -> Iterator[socket.socket]:
        made = call_inside(
            self.b.namespace, lambda: socket.create_server(("0.0.0.0", port), backlog=16)
        )
        with made:
            made.settimeout(PATIENCE)
            yield made

    def connected(self, to: str, port: int = PORT) -> socket.socket:
        return call_inside(
            self.a.namespace, lambda: socket.create_connection((to, port), timeout=PATIENCE)
        )

    def source(self, server: socket.socket, to: str) -> str:
        """What the receiver sees of a connection that is made now."""
        with self.connected(to, server.getsockname()[1]):
            accepted, address = server.accept()
            accepted.close()
        return str(address[0])


@pytest.fixture(name="both")
def _both(tmp_path: Path) -> Iterator[Both]:
    with _agents(tmp_path) as both:
        yield both


@contextlib.contextmanager
def _agents(
    folder: Path, mtus: tuple[int, int] = (1500, 1500), rp_filter: int = 0
) -> Iterator[Both]:
    """``mtus``: of the hosts' own networks; the road between carries 1500. ``rp_filter``: of each
    interface, which is there or still to be made."""
    require_root()
    if shutil.which("nsenter") is None:
        assert os.environ.get("CI") != "true", "nsenter (util-linux) is missing"
        pytest.skip("nsenter (util-linux) is missing")
    with namespaces(mtus) as (_road, names), contextlib.ExitStack() as programs:
        made = [Machine(end, names[end.site][0], folder, programs) for end in (A, B)]
        for machine in made:
            for which in ("all", "default", "eth0"):
                sysctl(machine.namespace, **{f"net__ipv4__conf__{which}__rp_filter": rp_filter})
            machine.start_wireguard()
            machine.start_agent()
        both = Both(*made)
        both.encrypted()
        yield both


def echoed(client_end: socket.socket, server_end: socket.socket) -> bool:
    client_end.sendall(b"word")
    server_end.settimeout(PATIENCE)
    return server_end.recv(4) == b"word"


def test_traffic_between_sites_goes_through_the_tunnel_whatever_becomes_of_the_agent(
    both: Both,
) -> None:
    a, b = both.a, both.b
    caller, to = a.overlay, b.overlay
    with both.listening() as server:
        assert both.source(server, to) == caller
        with both.connected(to) as mine:
            theirs, _ = server.accept()
            with theirs:
                a.kill_agent()
                assert echoed(mine, theirs)
                assert both.source(server, to) == caller
                a.start_agent()
                both.encrypted()
                assert echoed(mine, theirs)
                assert both.source(server, to) == caller


def test_a_device_that_is_gone_costs_encryption_until_it_is_back(both: Both) -> None:
    a, b = both.a, both.b
    caller, to = a.overlay, b.overlay
    a.ip("link", "delete", "neti0")
    with both.listening() as server:
        if a.wireguard is not None:  # the module's is made anew at once
            a.wireguard.wait(PATIENCE)  # it ends with its device
            wait(lambda: a.roads() == {"plain": 1})
            assert both.source(server, to) == A.public
            a.start_wireguard()
        wait(lambda: both.source(server, to) == caller)
        both.encrypted()


def test_one_that_hangs_costs_encryption_until_it_goes_on_and_no_repair(both: Both) -> None:
    a, b = both.a, both.b
    caller, to = a.overlay, b.overlay
    if a.wireguard is None:
        pytest.skip("the module does not hang by itself")
    a.wireguard.send_signal(signal.SIGSTOP)
    try:
        for _ in range(3):
            nft(a.namespace, "flush chain inet neti input")
            began = time.monotonic()
            wait(a.judges)
            print(f"rules were away for {time.monotonic() - began:.1f} s")
        wait(lambda: a.roads() == {"plain": 1})
        with both.listening() as server:
            assert both.source(server, to) == A.public
    finally:
        a.wireguard.send_signal(signal.SIGCONT)
    wait(a.prefers, seconds=RETRY + PATIENCE)
    both.encrypted()
    with both.listening() as server:
        assert both.source(server, to) == caller


def test_down_takes_the_road_out_and_up_brings_it_back(both: Both) -> None:
    a, b = both.a, both.b
    caller, to = a.overlay, b.overlay
    a.neti("down")
    assert "neti0" not in a.ip("link")
    assert "fwmark" not in a.ip("rule")
    a.start_wireguard()
    a.neti("up")
    both.encrypted()
    with both.listening() as server:
        assert both.source(server, to) == caller


def test_commands_see_who_is_encrypted(both: Both) -> None:
    """By what the other host saw, and by the kernel; and what each tells the registry."""
    a, b = both.a, both.b
    (result,) = [
        one for one in json.loads(a.said("verify", "--json"))["results"] if one["id"] == b.end.site
    ]
    assert (result["ok"], result["encrypted"]) == (True, True), result
    assert result["seen_from"] == a.overlay
    assert "1 encrypted" in a.said("verify")
    assert "NETI OK" in a.said("check")
    assert "vpc: prefer: 1 encrypted, 0 in the clear" in a.said("status")
    assert "2 hosts, all able to encrypt" in a.said("fleet", "--require", "can-encrypt")
    assert 'neti_encryption_peers{handshake="yes"} 1.0' in a.said("metrics")


def test_an_operator_sees_from_one_place_whom_the_fleet_does_not_reach(both: Both) -> None:
    """By the rows of both; the agents themselves reach for each other."""
    a, b = both.a, both.b
    assert a.answered("fleet", "verify")[0] == 1, "nobody has verified"
    assert "2 of 2 hosts verified" in (said := a.said("fleet", "verify", "--wait"))
    assert "2 of 2 tries reached their member" in said
    nft(b.namespace, "table ip shut { chain input { type filter hook input priority -5; }; }")
    nft(b.namespace, "add rule ip shut input tcp dport 7077 drop")
    code, said = a.answered("fleet", "verify", "--wait")
    assert code == 1
    assert said.splitlines()[0] == f"{b.end.site}: not reached by 1 of 1: {a.end.site}"
    assert "1 of 2 tries reached their member" in said
    nft(b.namespace, "delete table ip shut")
    a.neti("verify")
    assert "2 of 2 tries reached their member" in b.said("fleet", "verify"), "typed by hand"
    b.neti("down")
    code, said = a.answered("fleet", "verify", "--wait")
    assert code == 1
    assert f"no row: 1 host: {b.end.site}" in said


class Datagrams:
    """Goes back and forth between the two hosts until it is stopped; ``seen``: when each of them
    was back."""

    def __init__(self, both: Both, to: str) -> None:
        self.seen: list[float] = []
        self._over = threading.Event()
        self._server = call_inside(both.b.namespace, _datagram_socket)
        self._server.bind(("0.0.0.0", UDP_PORT))
        self._client = call_inside(both.a.namespace, _datagram_socket)
        self._client.connect((to, UDP_PORT))
        self._threads = [threading.Thread(target=one) for one in (self._echo, self._send)]
        for thread in self._threads:
            thread.start()

    def _echo(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(OSError):
                said, address = self._server.recvfrom(64)
                self._server.sendto(said, address)

    def _send(self) -> None:
        while not self._over.wait(0.02):
            with contextlib.suppress(OSError):
                self._client.send(b"word")
                self._client.recv(64)
                self.seen.append(time.monotonic())

    def more(self) -> None:
        """Until some more are back."""
        before = len(self.seen)
        wait(lambda: len(self.seen) >= before + 20)

    def longest(self, since: int) -> float:
        """Seconds between two that came back, of those after so many."""
        pairs = zip(self.seen[since:], self.seen[since + 1 :], strict=False)
        return max(later - earlier for earlier, later in pairs)

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._server.close()
        self._client.close()


def _datagram_socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(0.1)
    return made


def _apart(machine: Machine, keys: set[str]) -> bool:
    return not machine.peers() & keys


@contextlib.contextmanager
def crossing(both: Both) -> Iterator[None]:
    """Handshakes go as those do that both ends begin at one moment: no answer is heeded."""
    chain = "add chain ip crossing in { type filter hook prerouting priority -400; }"
    rule = "add rule ip crossing in udp length 100 @th,64,8 2 counter drop"
    for one in (both.a, both.b):
        for command in ("add table ip crossing", chain, rule):
            nft(one.namespace, command)
    try:
        yield
        wait(lambda: any(map(_dropped, (both.a, both.b))))
    finally:
        for one in (both.a, both.b):
            nft(one.namespace, "delete table ip crossing")


def _dropped(machine: Machine) -> bool:
    words = ["ip", "netns", "exec", machine.namespace, "nft", "list", "table", "ip", "crossing"]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return "counter packets 0" not in shown


@pytest.mark.parametrize("meanwhile", [contextlib.nullcontext, crossing], ids=["", "crossed"])
def test_a_new_key_costs_no_connection_and_datagrams_for_a_moment(
    both: Both, meanwhile: Callable[[Both], contextlib.AbstractContextManager[None]]
) -> None:
    """Of the end that calls, and then of the one that answers. Who has the former key is nobody's
    peer any more."""
    a, b = both.a, both.b
    to = b.overlay
    datagrams = Datagrams(both, to)
    try:
        with both.listening() as server, both.connected(to) as mine:
            theirs, _ = server.accept()
            with theirs:
                for one, other in ((a, b), (b, a)):
                    away = [AWAY]
                    while away[-1] >= AWAY and len(away) <= ATTEMPTS:
                        datagrams.more()
                        before, seen = other.peers(), len(datagrams.seen)
                        with meanwhile(both):
                            one.neti("key", "rotate")
                            wait(partial(_apart, other, before))
                        assert other.peers() == {one.status()["encryption"]["public_key"]}
                        datagrams.more()
                        away.append(datagrams.longest(seen - 1))
                        assert echoed(mine, theirs)
                        assert echoed(theirs, mine)
                        both.encrypted()
                    print(f"datagrams were away for {away[1:]} s")
                    assert away[-1] < AWAY
    finally:
        datagrams.stop()


def test_a_rule_that_another_program_adds_cuts_nobody_off(both: Both) -> None:
    """As a host with two cards has it, added without a priority: the kernel puts it first."""
    a, b = both.a, both.b
    caller, to = a.overlay, b.overlay
    a.ip("route", "add", "default", "via", "10.0.0.1", "table", "100")
    a.ip("rule", "add", "from", "10.0.0.11", "lookup", "100")
    wait(lambda: "lookup 78" in a.ip("rule").splitlines()[1])
    with both.listening() as server:
        assert both.source(server, to) == caller


def test_what_another_program_takes_from_the_road_is_back_at_once(both: Both) -> None:
    a, b = both.a, both.b
    caller, to = a.overlay, b.overlay
    for words, shown, there in (
        (("rule", "delete", "priority", "78"), ("rule",), "fwmark 0x1000/0x1000 lookup 78"),
        (("route", "flush", "table", "78"), ("route", "show", "table", "78"), "dev neti0"),
        (("link", "set", "neti0", "mtu", "1300"), ("link", "show", "neti0"), "mtu 1420"),
        (("link", "set", "neti0", "down"), ("route", "show", "table", "78"), "dev neti0"),
    ):
        a.ip(*words)
        wait(lambda shown=shown, there=there: there in a.ip(*shown))  # type: ignore[misc]
    both.encrypted()
    with both.listening() as server:
        assert both.source(server, to) == caller


@pytest.mark.parametrize("rp_filter", [0, 1, 2])
@pytest.mark.parametrize("mtus", [(9001, 9001), (1500, 9001)])
def test_large_transfers_pass_on_jumbo_uplinks_whatever_rp_filter_is(
    tmp_path: Path, mtus: tuple[int, int], rp_filter: int
) -> None:
    """Two megabytes each way and in each direction, by what the agents found and made."""
    with _agents(tmp_path, mtus, rp_filter) as both:
        overlays = [machine.overlay for machine in (both.a, both.b)]
        for machine, to in ((both.a, overlays[1]), (both.b, overlays[0])):
            other = both.b if machine is both.a else both.a
            net = Net(other.namespace, "", "")
            Served(net, other.namespace, PORT)
            assert passes(net, machine.namespace, to, PORT)
            shown = machine.ip("link", "show", "neti0")
            assert "mtu 1420" in shown
        with both.listening(PORT + 10) as server:
            assert both.source(server, overlays[1]) == overlays[0]
