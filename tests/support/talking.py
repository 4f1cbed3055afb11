"""Talking through a namespace's kernel: UDP echoes, large transfers, forged packets, a sniffer."""

import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import Final

from tests.support.netns import PATIENCE, WAIT, Net

MUCH: Final = 2_000_000  # bytes
FORGED_PORT: Final = 40000
_ALL_PROTOCOLS, _IPV4 = 3, 0x0800  # ETH_P_ALL, ETH_P_IP: packet(7)
_A_MOMENT: Final = 0.05  # seconds


@dataclass
class Echo:
    """Echoes UDP on one port, and remembers who called. ``silent``: only remembers."""

    net: Net
    namespace: str
    port: int
    silent: bool = False
    callers: list[tuple[str, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.socket = self.net.inside(self.namespace, lambda: udp(self.port))
        Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                data, place = self.socket.recvfrom(70000)
                self.callers.append((place[0], data))
                if not self.silent:
                    with suppress(OSError):  # refused
                        self.socket.sendto(data, place)


def udp(port: int = 0, address: str = "0.0.0.0") -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((address, port))
    return made


def caller(net: Net, namespace: str, address: str = "0.0.0.0") -> socket.socket:
    return net.inside(namespace, lambda: udp(0, address))


def echoed(sock: socket.socket, to: str, port: int, data: bytes, seconds: float) -> bool:
    """Whether the datagram comes back, from where it was sent to."""
    try:
        sock.settimeout(seconds)
        sock.sendto(data, (to, port))
        while True:
            got, place = sock.recvfrom(70000)
            if (got, place[0]) == (data, to):
                return True
    except OSError:
        return False


def echoes(
    net: Net, namespace: str, to: str, port: int, *, data: bytes = b"echo", dead: bool = False
) -> bool:
    """The same from a new socket. ``dead``: no answer is expected."""
    with caller(net, namespace) as sock:
        return echoed(sock, to, port, data, WAIT if dead else PATIENCE)


def echoes_in_the_end(net: Net, namespace: str, to: str, port: int, data: bytes) -> bool:
    """Sent again now and then: the first ones may tell the sender what the road carries."""
    with caller(net, namespace) as sock:
        return any(echoed(sock, to, port, data, 1.0) for _ in range(int(PATIENCE)))


@dataclass
class Served:
    """Takes two megabytes on each connection, and sends as many."""

    net: Net
    namespace: str
    port: int

    def __post_init__(self) -> None:
        def listen() -> socket.socket:
            return socket.create_server(("0.0.0.0", self.port))

        self.socket = self.net.inside(self.namespace, listen)
        Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                Thread(target=self._serve, args=(connection,), daemon=True).start()

    @staticmethod
    def _serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            _take(connection)
            connection.sendall(b"x" * MUCH)


def passes(net: Net, namespace: str, to: str, port: int) -> bool:
    """Two megabytes there and two back."""

    def dial() -> socket.socket:
        return socket.create_connection((to, port), PATIENCE)

    try:
        with net.inside(namespace, dial) as connection:
            connection.settimeout(PATIENCE)
            connection.sendall(b"x" * MUCH)
            return _take(connection)
    except TimeoutError:
        return False


def _take(connection: socket.socket) -> bool:
    left = MUCH
    while left > 0 and (part := connection.recv(65536)):
        left -= len(part)
    return left == 0


class Sniffer:
    """Everything that passes an interface of a namespace, until it is asked."""

    def __init__(self, net: Net, namespace: str, interface: str) -> None:
        def listen() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
            made.bind((interface, 0))
            return made

        self._socket = net.inside(namespace, listen)
        self._socket.setblocking(False)

    def heard(self, marker: bytes) -> int:
        """How many of the packets since the last question bear these bytes."""
        found = 0
        with suppress(BlockingIOError):
            while True:
                found += marker in self._socket.recv(70000)
        return found

    def close(self) -> None:
        self._socket.close()


def datagram(source: str, to: str, port: int, data: bytes) -> bytes:
    """An IPv4 packet with UDP from port 40000, from any source address."""
    length = 8 + len(data)
    ends = socket.inet_aton(source) + socket.inet_aton(to)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, 64, socket.IPPROTO_UDP, 0) + ends
    folded = sum(struct.unpack("!10H", head))
    folded = (folded & 0xFFFF) + (folded >> 16)
    folded = ~((folded & 0xFFFF) + (folded >> 16)) & 0xFFFF
    checked = head[:10] + struct.pack("!H", folded) + head[12:]
    return checked + struct.pack("!HHHH", FORGED_PORT, port, length, 0) + data


def send_forged(net: Net, namespace: str, packet: bytes) -> None:
    """By this namespace's routes."""
    to = socket.inet_ntoa(packet[16:20])

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
            sock.sendto(packet, (to, 0))

    net.inside(namespace, send)


def send_out_of(net: Net, namespace: str, interface: str, packet: bytes) -> None:
    """Past all routes and rules, as a hostile host may."""

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_IPV4)) as sock:
            sock.bind((interface, _IPV4))
            sock.send(packet)

    net.inside(namespace, send)


def dialing(net: Net, namespace: str, to: str, port: int) -> Callable[[], socket.socket]:
    """Begins to connect, and returns what waits for it."""
    pool = ThreadPoolExecutor(1)

    def dial() -> socket.socket:
        return socket.create_connection((to, port), PATIENCE)

    begun = pool.submit(net.inside, namespace, dial)
    pool.shutdown(wait=False)
    return begun.result


def wait_until(true: Callable[[], bool]) -> None:
    """Looks now and then; fails when patience ends."""
    for _ in range(int(PATIENCE / _A_MOMENT)):
        if true():
            return
        time.sleep(_A_MOMENT)
    raise AssertionError("it did not come about")
