"""What the kernel does with one packet of the encrypted road, part by part: the rule that routes by
a mark, connection tracking, Neti's table.

No wireguard-go and no cipher: this program is at the device's other end. Each packet is taken out
again before the next is sent, so nothing waits, and a machine that others use says nearly the same.
All ways are there at the same time and take turns, each second time in the opposite order.
"""

import fcntl
import os
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import yaml

from benchmarks import road_stage
from benchmarks.figures import US, Line, Report, Times
from benchmarks.pairs import TRACKED
from benchmarks.road_stage import MTU, OVERLAY, PORT, PRIVATE, SITE
from benchmarks.scale import Scale, say
from neti.config import load
from neti.dataplane.wireguard import DEVICE, road, rule
from neti.host.network import set_overlay_route
from neti.ruleset.policy import structure
from neti.ruleset.surroundings import SENT_MARK, Surroundings, Tunnel
from neti_lab import namespaces

NAME: Final = "road_packets"
TITLE: Final = "One packet of the encrypted road"
_WAYS: Final = {
    "bare": "the overlay's address on the device, and no rule of anybody",
    "rule": "the same, with an ip rule that routes by a mark",
    "marked": "the overlay leads to lo; a chain marks, and the kernel routes again by that rule",
    "tracked": "the same as bare, with connections tracked",
    "neti": "Neti, enforced",
}
_OWN: Final = {"a": OVERLAY[1], "b": OVERLAY[2]}
_MARKED: Final = f"""
table ip marked {{
    chain output {{
        type route hook output priority 0;
        ip daddr {OVERLAY} ip daddr != {_OWN["a"]} meta mark set meta mark | {rule.MARK:#x};
    }}
}}
"""
_ENDS: Final = (("a", "b"), ("b", "a"))
_BURST: Final = 50  # packets, until it is another way's turn
_PACKET: Final = 1392  # bytes, with the IPv4 header: near the device's MTU
_HEADERS: Final = 28
_DATAGRAM: Final = 1452  # what WireGuard makes of it
_TAKEN: Final = 7001
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN_NO_PI: Final = 0x1001


@dataclass(frozen=True, slots=True)
class Ends:
    """``tunnel``: the device's other end; ``far``: WireGuard's socket on the other host."""

    tunnel: int
    into: socket.socket
    out_of: socket.socket
    own: socket.socket
    far: socket.socket

    def send(self) -> None:
        """A program's packet, until WireGuard has it."""
        self.into.send(bytes(_PACKET - _HEADERS))
        os.read(self.tunnel, 2048)

    def take(self) -> None:
        """What WireGuard has decrypted, until a program has it."""
        os.write(self.tunnel, _ARRIVING)
        self.out_of.recv(2048)

    def carry(self) -> None:
        """WireGuard's own datagram, from one host to the other."""
        self.own.sendto(bytes(_DATAGRAM), (str(PRIVATE["b"]), PORT))
        self.far.recv(2048)


_STEPS: Final[Mapping[str, Callable[[Ends], None]]] = {
    "into the tunnel": Ends.send,
    "out of the tunnel": Ends.take,
    "WireGuard's datagram": Ends.carry,
}


def run(scale: Scale) -> Report:
    report = Report(TITLE)
    with ExitStack() as stack:
        say("road_packets: building")
        ends = {way: _built(stack, way) for way in _WAYS}
        seen = {way: {step: Times() for step in _STEPS} for way in _WAYS}
        for number in range(scale.rounds * 4):
            for step, act in _STEPS.items():
                for way in list(_WAYS) if number % 2 == 0 else reversed(_WAYS):
                    seen[way][step].each.append(_burst(ends[way], act))
    for way in list(_WAYS)[1:]:
        report.say(f"{way}: {_WAYS[way]}")
        lines = [Line(step, seen[way][step], seen["bare"][step], US, "µs") for step in _STEPS]
        report.compare(lines, ours=way, other="bare")
        report.say("")
    report.say("Median of the rounds' own differences to bare, µs:")
    for way in list(_WAYS)[1:]:
        more = [_more(seen[way][step], seen["bare"][step]) * US for step in _STEPS]
        report.say(f"  {way:10}" + "".join(f"{one:+8.2f}" for one in (*more, sum(more))))
    return report


def _burst(ends: Ends, act: Callable[[Ends], None]) -> float:
    """Seconds for a packet."""
    began = time.perf_counter()
    for _ in range(_BURST):
        act(ends)
    return (time.perf_counter() - began) / _BURST


def _more(ours: Times, other: Times) -> float:
    return median(a - b for a, b in zip(ours.each, other.each, strict=True))


def _built(stack: ExitStack, way: str) -> Ends:
    at = road_stage.built(stack, f"packets-{way}", ("a", "b"))
    for name, peer in _ENDS:
        if way == "neti":
            namespaces.load_rules(at[name], _rules(name, peer))
            namespaces.call_inside(at[name], partial(_routes, name))
        elif way in ("rule", "marked"):
            namespaces.call_inside(at[name], rule.set_rule)
        elif way == "tracked":
            namespaces.load_rules(at[name], TRACKED)
    tunnel = namespaces.call_inside(at["a"], _tunnel)
    stack.callback(os.close, tunnel)
    namespaces.call_inside(at["a"], partial(road.set_link, MTU))
    if way in ("neti", "marked"):
        namespaces.call_inside(at["a"], partial(road.set_route, OVERLAY))
    if way != "neti":
        road_stage.onto_device(at["a"], _OWN["a"], "lo" if way == "marked" else DEVICE)
    if way == "marked":
        namespaces.load_rules(at["a"], _MARKED)
    sockets = [
        stack.enter_context(namespaces.call_inside(at[end], partial(_socket, port, mark)))
        for end, port, mark in (("a", 0, 0), ("a", _TAKEN, 0), ("a", PORT, 1), ("b", PORT, 1))
    ]
    sockets[0].connect((str(_OWN["b"]), 9))
    return Ends(tunnel, *sockets)


def _rules(name: str, peer: str) -> str:
    """What an agent has written once it is enforced and its only member answers."""
    with tempfile.TemporaryDirectory(prefix="neti-bench-") as folder:
        file = Path(folder) / "neti.yml"
        words = road_stage.configuration(name, Path(folder), "prefer") | {"tunnel_port": PORT}
        file.write_text(yaml.safe_dump(words))
        settings = load(file)
    tunnel = Tunnel(own=_OWN[name], private=PRIVATE[name], mtu=MTU, port=PORT)
    around = Surroundings(uplinks=("eth0",), ssh_untracked=True, site=SITE[name], tunnel=tunnel)
    real = PRIVATE[peer]
    held: dict[str, Any] = {
        "peers4": real,
        "overlay": f"{_OWN[peer]} : {real}",
        "tunnel_peers": _OWN[peer],
        "tunneled": _OWN[peer],
        "enforce": "ipv4 : drop, ipv6 : drop",
    }
    elements = (f"add element inet neti {where} {{ {what} }}\n" for where, what in held.items())
    return structure(settings, around).text() + "".join(elements)


def _routes(name: str) -> None:
    set_overlay_route(OVERLAY, PRIVATE[name], 1500, anew=True)
    rule.set_rule()


def _tunnel() -> int:
    """As wireguard-go makes it. It ends with its descriptor."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN_NO_PI))
    return device


def _socket(port: int, wireguards: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(10)
    if wireguards:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, SENT_MARK)
    made.bind(("", port))
    return made


def _arriving() -> bytes:
    """A datagram of the other host's, for ``_TAKEN``. Without a checksum, which UDP allows."""
    addresses = _OWN["b"].packed + _OWN["a"].packed
    first = struct.pack("!BBHHHBBH", 0x45, 0, _PACKET, 0, 0, 64, socket.IPPROTO_UDP, 0)
    total = sum(struct.unpack("!10H", first + addresses))
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    udp = struct.pack("!HHHH", 8, _TAKEN, _PACKET - 20, 0)
    header: bytes = first[:10] + checksum.to_bytes(2, "big") + addresses
    return header + udp + bytes(_PACKET - _HEADERS)


_ARRIVING: Final = _arriving()
