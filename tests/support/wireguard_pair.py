"""Two WireGuard devices that can reach each other: in memory, by wireguard-go, by the kernel's
module.

    192.168.0.1 neti0 ── 10.9.0.1 ══ veth ══ 10.9.0.2 ── neti0 192.168.0.2
"""

import itertools
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final, Protocol

import pytest
from tests.support.netns import PATIENCE, WAIT, require_root

from neti.dataplane.wireguard import WireGuard, netlink, road
from neti.dataplane.wireguard.keys import new_key, public_half
from neti.dataplane.wireguard.memory import MemoryWireGuard
from neti.dataplane.wireguard.netlink import KernelWireGuard
from neti.dataplane.wireguard.uapi import UapiWireGuard
from neti.errors import DataplaneError
from neti.model.wireguard_key import PrivateKey, PublicKey
from neti.ruleset.peers import Endpoint, Peer
from neti_lab.namespaces import call_inside

PORT: Final = 51871
MTU: Final = 1420
SUBNET: Final = IPv4Network("192.168.0.0/18")
_TALK: Final = 7000
_numbers = itertools.count(1)


def kinds() -> list[object]:
    """What the contract is tried on. The module only where the kernel has it; scripts/kernel-test
    says that it must be there."""
    found: list[object] = ["memory", pytest.param("wireguard-go", marks=pytest.mark.kernel)]
    if module_there():
        found.append(pytest.param("module", marks=pytest.mark.kernel))
    return found


def module_there() -> bool:
    if os.environ.get("NETI_WIREGUARD") == "module":
        return True
    with suppress(DataplaneError, OSError):
        return netlink.module_there()
    return False


@dataclass
class End:
    """One of the two. ``namespace``: empty in memory."""

    door: WireGuard
    overlay: IPv4Address
    endpoint: Endpoint
    private: PrivateKey
    namespace: str = ""

    @property
    def key(self) -> PublicKey:
        return public_half(self.private)

    def as_peer(self, *, keepalive: int = 0) -> Peer:
        allowed = frozenset({IPv4Network(self.overlay)})
        return Peer(self.key, allowed, self.endpoint, keepalive)


class Pair(Protocol):
    """``missing``: a door to a device that is not there."""

    @property
    def ends(self) -> tuple[End, End]: ...

    @property
    def missing(self) -> WireGuard: ...

    def arrives(self, sender: End, to: End, source: IPv4Address | None = None) -> bool:
        """Whether a packet to the other's overlay address comes in there; from another source than
        its own, if given."""

    def meant_to(self, sender: End, to: End, source: IPv4Address | None = None) -> None:
        """As ``arrives``, for one that must."""

    def take_port(self, end: End, port: int) -> None:
        """Another program listens there from now on."""


class MemoryPair:
    def __init__(self) -> None:
        self._now = 1_800_000_000.0
        self._doors = (MemoryWireGuard(), MemoryWireGuard())
        first, second = (_end(number, door) for number, door in enumerate(self._doors, 1))
        self.ends = first, second
        gone = MemoryWireGuard()
        gone.vanish()
        self.missing: WireGuard = gone

    def arrives(self, sender: End, to: End, source: IPv4Address | None = None) -> bool:
        by = {end.overlay: door for end, door in zip(self.ends, self._doors, strict=True)}
        mine, theirs = by[sender.overlay], by[to.overlay]
        led = mine.leads(to.overlay)
        held, other = mine.device(), theirs.device()
        if held is None or other is None or led is None or led != other.public_key:
            return False
        if held.public_key is None or held.public_key not in other.peers:
            return False
        self._now += 1
        for door, key in ((mine, led), (theirs, held.public_key)):
            door.shake_hands(key, self._now)
        return theirs.leads(source or sender.overlay) == held.public_key

    def meant_to(self, sender: End, to: End, source: IPv4Address | None = None) -> None:
        assert self.arrives(sender, to, source)

    def take_port(self, end: End, port: int) -> None:
        raise NotImplementedError("a memory has no ports")


class RealPair:
    def __init__(self, stack: ExitStack, start: Callable[[ExitStack, str], WireGuard]) -> None:
        self._stack = stack
        tag = f"netiwg-{os.getpid()}-{next(_numbers)}"
        names = f"{tag}-1", f"{tag}-2"
        for name in names:
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "delete", name)
        _ip(
            "link",
            "add",
            "eth0",
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "eth0",
            "netns",
            names[1],
        )
        made = []
        for number, name in enumerate(names, 1):
            for words in (
                "link set lo up",
                "link set eth0 up",
                f"addr add 10.9.0.{number}/24 dev eth0",
            ):
                _ip("-n", name, *words.split())
            end = _end(number, start(stack, name), name)
            call_inside(name, partial(road.set_link, MTU))
            for source in (end.overlay, _spoofed(end.overlay)):
                _ip("-n", name, "addr", "add", f"{source}/32", "dev", "neti0")
            _ip("-n", name, "route", "add", str(SUBNET), "dev", "neti0")
            made.append(end)
        self.ends = made[0], made[1]
        self._ears = {end.overlay: self._ear(end) for end in made}
        self.missing: WireGuard = UapiWireGuard(Path(f"/run/{tag}.sock"))

    def _ear(self, end: End) -> socket.socket:
        return self._stack.enter_context(closing(self._udp(end, end.overlay, _TALK)))

    @staticmethod
    def _udp(end: End, address: IPv4Address, port: int) -> socket.socket:
        def opened() -> socket.socket:
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.bind((str(address), port))
            return made

        return call_inside(end.namespace, opened)

    def arrives(self, sender: End, to: End, source: IPv4Address | None = None) -> bool:
        return self._sent(sender, to, source, WAIT)

    def meant_to(self, sender: End, to: End, source: IPv4Address | None = None) -> None:
        assert self._sent(sender, to, source, PATIENCE)

    def _sent(self, sender: End, to: End, source: IPv4Address | None, seconds: float) -> bool:
        ear, word = self._ears[to.overlay], os.urandom(8)
        with closing(self._udp(sender, source or sender.overlay, 0)) as mouth:
            with suppress(OSError):  # what the device has no peer for may be refused right here
                mouth.sendto(word, (str(to.overlay), _TALK))
            ear.settimeout(seconds)
            try:
                while ear.recv(99) != word:
                    pass
            except TimeoutError:
                return False
        return True

    def take_port(self, end: End, port: int) -> None:
        self._stack.enter_context(closing(self._udp(end, IPv4Address(0), port)))


@contextmanager
def pair(kind: str) -> Iterator[Pair]:
    if kind == "memory":
        yield MemoryPair()
        return
    require_root()
    if kind == "wireguard-go":
        require_wireguard_go()
    with ExitStack() as stack:
        yield RealPair(stack, {"module": _by_module, "wireguard-go": by_program}[kind])


def _end(number: int, door: WireGuard, namespace: str = "") -> End:
    private = new_key()
    door.configure(private, PORT)
    return End(
        door,
        IPv4Address(f"192.168.0.{number}"),
        Endpoint(IPv4Address(f"10.9.0.{number}"), PORT),
        private,
        namespace,
    )


def _spoofed(own: IPv4Address) -> IPv4Address:
    return own + 100


def _by_module(stack: ExitStack, namespace: str) -> WireGuard:
    call_inside(namespace, road.make_link)
    door = call_inside(namespace, KernelWireGuard)
    stack.callback(door.close)
    return door


def require_wireguard_go() -> None:
    if shutil.which("wireguard-go") is None:
        reason = "wireguard-go is not installed: scripts/system-packages installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(f"cannot run in CI: {reason}")
        pytest.skip(reason)


def by_program(stack: ExitStack, namespace: str) -> UapiWireGuard:
    """wireguard-go with neti0 in this namespace. ``ip netns exec`` gives it a mount namespace too,
    so its socket is where it always is, and nobody else sees it."""
    _, door = started(stack, namespace)
    return door


def started(stack: ExitStack, namespace: str) -> tuple[int, UapiWireGuard]:
    """Its process id too."""
    script = "mount -t tmpfs none /run && mkdir /run/wireguard && exec wireguard-go -f neti0"
    program = subprocess.Popen(
        ["ip", "netns", "exec", namespace, "sh", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    stack.callback(program.wait)
    stack.callback(program.terminate)
    door = UapiWireGuard(Path("/proc", str(program.pid), "root", "run/wireguard/neti0.sock"))
    for _ in range(int(PATIENCE * 50)):
        device = door.device()
        if device is not None and device.port:
            return program.pid, door
        assert program.poll() is None, "wireguard-go has ended"
        time.sleep(0.02)
    raise AssertionError("wireguard-go does not listen")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
