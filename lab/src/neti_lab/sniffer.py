"""What an eavesdropper sees: all bytes of all packets that enter a namespace, searched for marks.

As a program (``python -m neti_lab.sniffer PORT SITE=NETWORK[,NETWORK]…``) it is started inside a
namespace that forwards. For each line on its standard input it prints what it saw since the last
one, and it ends when its standard input does. PORT: the UDP port of the encrypted road.

Must never do: call something unseen when the kernel had to drop packets before it could look.
"""

import json
import select
import socket
import struct
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

from neti_lab.marks import MARKS
from neti_lab.traffic import ProbeProcess

CLEAR: Final = "in the clear"
TUNNEL: Final = "encrypted"
_ELSEWHERE: Final = "elsewhere"

_ETH_P_ALL: Final = 0x0003
_SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h
_SOL_PACKET: Final = 263  # linux/socket.h
_PACKET_STATISTICS: Final = 6  # linux/if_packet.h
_PACKET_OUTGOING: Final = 4
_BUFFER_BYTES: Final = 64 << 20
_FRAME_BYTES: Final = 1 << 18  # a link between namespaces hands on segments that were not cut yet
_AT_ONCE: Final = 10_000
_ETHERNET: Final = 14
_HEADERS: Final = 58  # Ethernet's, IPv4's, UDP's and WireGuard's: what a sample begins behind
_SAMPLE_BYTES: Final = 64
_IPV4, _IPV6, _UDP, _ICMP = 0x0800, 0x86DD, 17, 1
_ICMP_ERRORS: Final = (b"\x03", b"\x0b")  # unreachable, time exceeded

_GATEWAY_PORTS: Final = range(16384, 32768)  # what gateways send each other, between sites

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Heading:
    """Whose packet it is: from which site to which, and by which road."""

    source: str
    target: str
    road: str


@dataclass(slots=True)
class Count:
    packets: int = 0
    octets: int = 0
    marked: dict[str, int] = field(default_factory=dict)  # mark -> packets that hold it
    sample: str = ""  # a few bytes, those around a mark if there is one

    def add(self, frame: bytes) -> None:
        self.packets += 1
        self.octets += len(frame)
        for name, mark in MARKS.items():
            if mark in frame:
                if not self.marked:
                    self.sample = _legible(frame[max(0, frame.index(mark) - 25) :])
                self.marked[name] = self.marked.get(name, 0) + 1
        if not self.sample and len(frame) > _HEADERS + _SAMPLE_BYTES:
            self.sample = _legible(frame[_HEADERS:])


@dataclass(frozen=True, slots=True)
class Sighting:
    """All packets of a span of time. ``dropped``: those that could not be looked at."""

    counts: Mapping[Heading, Count]
    dropped: int

    def between_sites(self, road: str) -> Count:
        """Both directions together."""
        total = Count()
        for heading, count in self.counts.items():
            if heading.road == road and heading.source != heading.target and _at_sites(heading):
                total.sample = count.sample if count.marked else total.sample or count.sample
                total.packets += count.packets
                total.octets += count.octets
                for name, packets in count.marked.items():
                    total.marked[name] = total.marked.get(name, 0) + packets
        return total

    def marks(self, source: str, target: str) -> Mapping[str, int]:
        """Mark -> packets from one site to another that showed it, by whatever road."""
        found: dict[str, int] = defaultdict(int)
        for heading, count in self.counts.items():
            if (heading.source, heading.target) == (source, target):
                for name, packets in count.marked.items():
                    found[name] += packets
        return dict(found)

    @property
    def marked(self) -> int:
        """Packets with a mark, of anybody, anywhere."""
        return sum(sum(count.marked.values()) for count in self.counts.values())


class Places:
    """Which site an address belongs to."""

    def __init__(self, sites: Mapping[str, Sequence[Network]]) -> None:
        self._sites = sites
        self._known: dict[bytes, str] = {}

    def of(self, packed: bytes) -> str:
        if packed not in self._known:
            self._known[packed] = self._find(ip_address(packed))
        return self._known[packed]

    def _find(self, address: IPv4Address | IPv6Address) -> str:
        for name, networks in self._sites.items():
            if any(address in network for network in networks):
                return name
        return _ELSEWHERE


def heading(frame: bytes, places: Places, port: int) -> Heading | None:
    """Of an Ethernet frame; None when it is neither IPv4 nor IPv6. Pure."""
    return _heading(int.from_bytes(frame[12:14]), frame[_ETHERNET:], places, port)


def _heading(kind: int, packet: bytes, places: Places, port: int) -> Heading | None:
    if kind == _IPV4 and len(packet) >= 20:
        source, target, protocol = packet[12:16], packet[16:20], packet[9]
        whole = not int.from_bytes(packet[6:8]) & 0x3FFF  # a later fragment has no ports
        inner = packet[(packet[0] & 0xF) * 4 :]
    elif kind == _IPV6 and len(packet) >= 40:
        source, target, protocol, whole = packet[8:24], packet[24:40], packet[6], True
        inner = packet[40:]
    else:
        return None
    if (kind, protocol) == (_IPV4, _ICMP) and whole and inner[:1] in _ICMP_ERRORS:
        # It goes by the road of the packet that it is about, whose beginning is in it.
        about = _heading(_IPV4, inner[8:], places, port)
        return Heading(places.of(source), places.of(target), about.road if about else CLEAR)
    ports = struct.unpack("!HH", inner[:4]) if protocol == _UDP and len(inner) >= 4 else ()
    tunnel = whole and ports and all(one == port or one in _GATEWAY_PORTS for one in ports)
    road = TUNNEL if tunnel else CLEAR
    return Heading(places.of(source), places.of(target), road)


class Sniffer(ProbeProcess):
    """The program inside a namespace. ``sites``: name to networks, as the namespace sees them."""

    def __init__(
        self, namespace: str, sites: Mapping[str, Iterable[Network]], *, port: int
    ) -> None:
        words = [f"{name}={','.join(map(str, networks))}" for name, networks in sites.items()]
        command = [sys.executable, "-m", "neti_lab.sniffer", str(port), *words]
        super().__init__(namespace, command, node="the sniffer")

    def look(self) -> Sighting:
        """What it saw since the last look, or its start."""
        return from_document(self.ask("look"))


def to_document(sighting: Sighting) -> dict[str, Any]:
    return {
        "dropped": sighting.dropped,
        "counts": [
            {
                "source": heading.source,
                "target": heading.target,
                "road": heading.road,
                "packets": count.packets,
                "octets": count.octets,
                "marked": count.marked,
                "sample": count.sample,
            }
            for heading, count in sighting.counts.items()
        ],
    }


def from_document(document: Mapping[str, Any]) -> Sighting:
    counts = {
        Heading(one["source"], one["target"], one["road"]): Count(
            one["packets"], one["octets"], dict(one["marked"]), one["sample"]
        )
        for one in document["counts"]
    }
    return Sighting(counts, document["dropped"])


def _at_sites(heading: Heading) -> bool:
    return _ELSEWHERE not in (heading.source, heading.target)


def _legible(part: bytes) -> str:
    """What of it is ASCII, and a dot for every other byte."""
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part[:_SAMPLE_BYTES])


class _Ear:
    """The socket, and what came in by it. Only one thread uses it."""

    def __init__(self, places: Places, port: int) -> None:
        self._places, self._port = places, port
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        self.socket.setblocking(False)
        self._counts: dict[Heading, Count] = {}

    def listen(self) -> None:
        """Look at what has come in by now."""
        for _ in range(_AT_ONCE):
            try:
                frame, sender = self.socket.recvfrom(_FRAME_BYTES)
            except BlockingIOError:
                return
            # What is forwarded is seen once as it comes in, and once as it leaves.
            if sender[2] == _PACKET_OUTGOING:
                continue
            whose = heading(frame, self._places, self._port)
            if whose is not None:
                self._counts.setdefault(whose, Count()).add(frame)

    def take(self) -> Sighting:
        """And begin to count anew."""
        self.listen()
        counts, self._counts = self._counts, {}
        # Reading them sets them to 0.
        raw = self.socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        return Sighting(counts, struct.unpack("=II", raw)[1])


def main() -> None:
    port = int(sys.argv[1])
    sites = {}
    for word in sys.argv[2:]:
        name, _, networks = word.partition("=")
        sites[name] = [ip_network(network) for network in networks.split(",")]
    ear = _Ear(Places(sites), port)
    print("ready", flush=True)
    while True:
        readable, _, _ = select.select([ear.socket, sys.stdin], [], [])
        ear.listen()
        if sys.stdin in readable:
            if not sys.stdin.readline():
                break
            print(json.dumps(to_document(ear.take())), flush=True)
    print(json.dumps(to_document(ear.take())))


if __name__ == "__main__":
    main()
