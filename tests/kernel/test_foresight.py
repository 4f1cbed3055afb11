"""Foresight: does Neti name beforehand what enforcing a host would break, and what a move would?

Ten hosts (``tests/support/foresight_hosts.py``), each with a real agent in shadow, real listeners,
real callers, and lists that were written down beforehand. Then the host is enforced, and who cannot
come any more must be just who was named.
"""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from threading import Thread
from typing import Any, Final

import pytest
import yaml
from tests.kernel.test_agent_process import wait
from tests.support import foresight_hosts as hosts
from tests.support import netns
from tests.support.control_groups import control_group, entering
from tests.support.foresight_hosts import TEN, Found, Left, Program, Service, Shut, Visit
from tests.support.netns import Net, Server, reaches

from neti.control import client
from neti.host.cgroups import unit_of
from neti.model import Member, entry
from neti.registry.embedded.registry import EmbeddedRegistry

pytestmark = pytest.mark.kernel

_SUBNET: Final = IPv4Network("192.168.0.0/18")
_ANSWER_SECONDS: Final = 1.0  # without one a datagram counts as dropped
_CALLS: Final = """
import socket, sys
for _ in range(int(sys.argv[3])):
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 10).close()
"""
_PUBLISHED: Final = """
table ip docker {{
  chain in {{
    type nat hook prerouting priority dstnat;
    ip daddr {host} tcp dport {port} dnat to {container}:80
  }}
}}
"""


@pytest.mark.parametrize("found", TEN, ids=[one.name for one in TEN])
def test_what_will_break_is_named_and_nothing_else(net: Net, tmp_path: Path, found: Found) -> None:
    with _host(net, tmp_path, found) as host:
        for visit in found.visits:
            for _ in range(visit.times):
                assert _comes(net, visit), visit
        _scan(net)
        for program in found.programs:
            _run(host, program)
        shown, left = host.told("preview"), host.told("leftovers")
        used = [row for row in shown["ports"] if row["rank"] in ("used", "heard")]
        assert {shut for row in used for shut in _shut(row)} == found.shut
        assert {_left(row) for row in left["rows"]} == found.left
        assert _port(used[0]) == (found.instead or found.first)
        assert _left(left["rows"][0])[0] == found.first_left
        # And it is true: who cannot come once it is enforced is who was named.
        host.enforce()
        stopped = {(f"{v.port}/{v.protocol}", v.source): v for v in found.visits}
        gone = {one for one, visit in stopped.items() if not _comes(net, visit, one in found.shut)}
        assert gone == found.shut


def test_the_first_line_is_the_right_one_in_nine_of_ten() -> None:
    assert len([one for one in TEN if one.instead]) <= len(TEN) // 10


# --- a host ---


class _Host:
    def __init__(self, net: Net, folder: Path, overlays: dict[str, IPv4Address]) -> None:
        self.net, self.overlays = net, overlays
        self.config, self._state = folder / "neti.yml", folder / "state"
        self.units: dict[str, Path] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._line("agent"), stderr=subprocess.DEVNULL)
        wait(lambda: bool(client.call(self._state, "status")["registered"]))

    def _line(self, *words: str) -> list[str]:
        # Not by ip-netns(8): it mounts /sys anew, without the control groups.
        neti = [sys.executable, "-m", "neti", *words, "-c", str(self.config)]
        return ["nsenter", f"--net=/run/netns/{self.net.host}", *neti]

    def told(self, command: str) -> dict[str, Any]:
        words = self._line(command, "--json")
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def enforce(self) -> None:
        """In the kernel, past the agent, which would not enforce what breaks that much."""
        self.end()
        verdicts = "ipv4 : drop, ipv6 : drop"
        words = ["nft", f"add element inet neti enforce {{ {verdicts} }}"]
        subprocess.run(["ip", "netns", "exec", self.net.host, *words], check=True)

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()


@contextmanager
def _host(net: Net, folder: Path, found: Found) -> Iterator[_Host]:
    with ExitStack() as stack:
        _give_addresses(net)
        overlays = _register_members(stack, folder)
        host = _Host(net, folder, overlays)
        document = {
            "registry": f"embedded:{folder}/registry.db",
            "identity": {"id": "me", "private": netns.PRIVATE},
            "site": "ec2",
            "sites": {"ec2": {"private": ["10.0.0.0/24"]}},
            "ssh_whitelist": [f"{hosts.BASTION}/32"],
            "table_files_path": f"{folder}/state",
            **found.keys,
        }
        host.config.write_text(yaml.safe_dump(document))
        for service in found.services:
            _serve(net, service, stack)
        for port in {program.port for program in found.programs}:
            stack.callback(Server(net, net.outside, port).close)
        for unit in {one.unit for one in found.programs} - {hosts.CONTAINER}:
            host.units[unit] = stack.enter_context(control_group(unit))
        stack.callback(host.end)
        host.start()
        yield host


def _give_addresses(net: Net) -> None:
    outside = [
        *(f"address add {address}/24 dev eth0" for address in hosts.OUTSIDERS),
        *(f"address add {address}/32 dev eth0" for address in hosts.INTERNET),
    ]
    words = ["ip", "-n", net.outside, "-batch", "-"]
    subprocess.run(words, input="\n".join(outside), text=True, check=True)


def _register_members(stack: ExitStack, folder: Path) -> dict[str, IPv4Address]:
    overlays = {}
    for host_id, private in hosts.MEMBERS.items():
        registry = EmbeddedRegistry(folder / "registry.db", session_seconds=600)
        stack.callback(registry.close)
        overlays[host_id] = registry.acquire(host_id, _SUBNET)
        member = Member(
            id=host_id,
            site="ec2",
            private=IPv4Address(private),
            public=None,
            overlay=overlays[host_id],
        )
        registry.register(host_id=host_id, name=entry.encode(member), data=b"", detail=b"{}")
    return overlays


def _serve(net: Net, service: Service, stack: ExitStack) -> None:
    if service.protocol == "udp":
        stack.callback(_echo_datagrams(net, service.port).close)
    elif service.published:
        stack.callback(Server(net, net.container, 80).close)
        rules = _PUBLISHED.format(host=netns.PRIVATE, port=service.port, container=netns.CONTAINER)
        words = ["ip", "netns", "exec", net.host, "nft", "-f", "-"]
        subprocess.run(words, input=rules, text=True, check=True)
    else:
        stack.callback(Server(net, net.host, service.port, service.at).close)


def _echo_datagrams(net: Net, port: int) -> socket.socket:
    def listen() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("0.0.0.0", port))
        return made

    opened = net.inside(net.host, listen)

    def echo() -> None:
        with suppress(OSError):
            while True:
                data, sender = opened.recvfrom(2048)
                opened.sendto(data, sender)

    Thread(target=echo, daemon=True).start()
    return opened


# --- who comes, and who calls ---


def _comes(net: Net, visit: Visit, refused: bool = False) -> bool:
    """``refused``: as it is expected, so that nobody waits long for an answer."""
    six = ":" in visit.source
    to = netns.PRIVATE6 if six else netns.PRIVATE
    if visit.protocol == "tcp":
        return reaches(net, net.outside, to, visit.port, visit.source)

    def ask() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((visit.source, 0))
            sock.settimeout(_ANSWER_SECONDS if refused else netns.PATIENCE)
            sock.sendto(b"?", (to, visit.port))
            try:
                return sock.recv(16) == b"?"
            except TimeoutError:
                return False

    return net.inside(net.outside, ask)


def _scan(net: Net) -> None:
    """Somebody always does. Nothing listens there, so nothing breaks."""
    for port in (23, 445, 3389, 5900):
        with suppress(ConnectionRefusedError):
            reaches(net, net.outside, netns.PRIVATE, port, hosts.SCANNER)


def _run(host: _Host, program: Program) -> None:
    net = host.net
    to = str(host.overlays[program.member]) if program.overlay else hosts.MEMBERS[program.member]
    if program.unit == hosts.CONTAINER:
        for _ in range(program.times):
            assert reaches(net, net.container, to, program.port)
        return
    words = [sys.executable, "-I", "-S", "-c", _CALLS, to, str(program.port), str(program.times)]
    group = host.units[program.unit]

    def call() -> None:
        subprocess.run(words, check=True, timeout=60, preexec_fn=entering(group))

    net.inside(net.host, call)


# --- what Neti says ---


def _port(row: dict[str, Any]) -> str:
    return f"{row['port']}/{row['protocol']}"


def _shut(row: dict[str, Any]) -> Iterator[Shut]:
    for source in row["top"]:
        yield _port(row), source["address"]


def _left(row: dict[str, Any]) -> Left:
    caller = unit_of(row["group"]) if row["container"] is None else f"container {row['container']}"
    return caller or "?", row["member"], row["port"]
