"""A small network for packet tests: a host under test, the outside world, and a container.

    outside ── eth0 host (10.0.0.5, uplink) ── c0 ── container (172.31.0.2)

The outside has many addresses, so that it can be a peer, a stranger or an administrator at will.
"""

import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Final, TypeVar

import pytest

from neti_lab.namespaces import call_inside

T = TypeVar("T")
_numbers = itertools.count(1)
WAIT: Final = 0.4  # seconds without an answer that count as dropped
# Seconds for an answer that must come, however busy the machine is; more on one that is emulated.
PATIENCE: Final = 10.0 * float(os.environ.get("NETI_PATIENCE", "1"))

PRIVATE, PRIVATE6 = "10.0.0.5", "fd00:5::5"
PEER, PEER6 = "10.0.0.9", "fd00:5::9"
PEER_MOVED = "10.0.0.10"
STRANGER, STRANGER6 = "10.0.0.66", "fd00:5::66"
ADMIN, ADMIN6 = "10.0.0.77", "fd00:5::77"
CONTAINER = "172.31.0.2"
OVERLAY, OWN_OVERLAY, NOBODY = "192.168.0.9", "192.168.0.5", "192.168.0.99"


@dataclass(frozen=True)
class Net:
    host: str
    outside: str
    container: str

    def inside(self, namespace: str, function: Callable[[], T]) -> T:
        return call_inside(namespace, function)


def require_root() -> None:
    reason = None
    if os.geteuid() != 0:
        reason = "network namespaces need root"
    elif shutil.which("ip") is None:
        reason = "iproute2 is not installed"
    if reason is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"cannot run in CI: {reason}")
        pytest.skip(reason)


@contextmanager
def network() -> Iterator[Net]:
    """Made anew, and gone afterwards with everything in it."""
    tag = f"netitest-{os.getpid()}-{next(_numbers)}"
    net = Net(f"{tag}-host", f"{tag}-out", f"{tag}-con")
    try:
        _batch("", [f"netns add {name}" for name in (net.host, net.outside, net.container)])
        _batch(net.host, _host_commands(net))
        _batch(net.outside, _outside_commands())
        _batch(net.container, _container_commands())
        for name in (net.host, net.outside):
            words = ["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"]
            if name == net.host:
                subprocess.run(["ip", "netns", "exec", name, *words], check=True)
        yield net
    finally:
        for name in (net.host, net.outside, net.container):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def _host_commands(net: Net) -> list[str]:
    return [
        "link set lo up",
        f"link add eth0 type veth peer name eth0 netns {net.outside}",
        f"link add c0 type veth peer name eth0 netns {net.container}",
        "link set eth0 mtu 1400 up",
        "link set c0 up",
        f"address add {PRIVATE}/24 dev eth0",
        f"address add {PRIVATE6}/64 dev eth0 nodad",
        "address add 172.31.0.1/24 dev c0",
        "route add default via 10.0.0.1",
    ]


def _outside_commands() -> list[str]:
    v4 = ("10.0.0.1", PEER, PEER_MOVED, STRANGER, ADMIN)
    return [
        "link set lo up",
        "link set eth0 mtu 1400 up",
        *(f"address add {address}/24 dev eth0" for address in v4),
        *(f"address add {address}/64 dev eth0 nodad" for address in (PEER6, STRANGER6, ADMIN6)),
        f"route add 172.31.0.0/24 via {PRIVATE}",
        # Whatever is sent to an overlay address comes to the host, as from a mistaken neighbour.
        f"route add 192.168.0.0/18 via {PRIVATE}",
    ]


def _container_commands() -> list[str]:
    return [
        "link set lo up",
        "link set eth0 up",
        f"address add {CONTAINER}/24 dev eth0",
        "route add default via 172.31.0.1",
    ]


def _batch(namespace: str, commands: list[str]) -> None:
    inside = ["-n", namespace] if namespace else []
    subprocess.run(["ip", *inside, "-batch", "-"], input="\n".join(commands), text=True, check=True)


# --- talking ---


class Server:
    """Echoes on one TCP port and remembers who called."""

    def __init__(self, net: Net, namespace: str, port: int, address: str = "::") -> None:
        def listen() -> socket.socket:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if address == "::":
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind((address, port))
            sock.listen(64)
            return sock

        self.callers: list[str] = []
        self._socket = net.inside(namespace, listen)
        Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, place = self._socket.accept()
            except OSError:
                return
            self.callers.append(place[0].removeprefix("::ffff:"))
            Thread(target=self._echo, args=(connection,), daemon=True).start()

    @staticmethod
    def _echo(connection: socket.socket) -> None:
        with connection:
            try:
                while part := connection.recv(65536):
                    connection.sendall(part)
            except OSError:
                return

    def close(self) -> None:
        self._socket.close()


def connect(net: Net, namespace: str, to: str, port: int, source: str = "") -> socket.socket:
    """A connection from inside the namespace; dropped: TimeoutError."""

    def dial() -> socket.socket:
        return socket.create_connection((to, port), WAIT, (source, 0) if source else None)

    return net.inside(namespace, dial)


def reaches(net: Net, namespace: str, to: str, port: int, source: str = "") -> bool:
    """Whether a connection is accepted and carries data; False when dropped; raises if refused."""
    try:
        with connect(net, namespace, to, port, source) as connection:
            return alive(connection)
    except TimeoutError:
        return False


def alive(connection: socket.socket, seconds: float = PATIENCE) -> bool:
    """Whether what is sent comes back. ``seconds``: shorter for one that is expected to be dead."""
    try:
        connection.settimeout(seconds)
        connection.sendall(b"ping")
        return connection.recv(4) == b"ping"
    except OSError:
        return False
