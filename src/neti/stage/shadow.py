"""What the shadow is made of: sightings of the kernel, listening sockets, ports in words. Pure.

The shadow is what reached this host and no rule lets in. ``record`` remembers it, ``losses`` says
what a trial refused of it, and ``preview`` makes it readable.

Must never do: read a clock, or anything outside.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from neti.model import IPAddress

STEADY_PACKETS: Final = 3  # a scanner sends fewer from one source

PROTOCOLS: Final = {
    2: "igmp",
    4: "ipip",
    6: "tcp",
    17: "udp",
    33: "dccp",
    41: "ipv6",
    47: "gre",
    50: "esp",
    51: "ah",
    89: "ospf",
    103: "pim",
    112: "vrrp",
    115: "l2tp",
    132: "sctp",
    136: "udplite",
}

Port = tuple[str, int]  # protocol and port of the packet; 0 for a protocol without ports


@dataclass(frozen=True, slots=True)
class Sighting:
    """One counter of the kernel. ``idle``: seconds since the last packet. ``forwarded``: the port
    leads to a container. ``redirected``: it leads to another port, here or in a container.
    ``heard``: it is in the set for ports where something listens. ``packets`` 0: a packet did
    come, but this kernel does not count (seen with Linux 4.18 and 5.4)."""

    source: IPAddress
    protocol: str
    port: int
    packets: int
    idle: float
    forwarded: bool = False
    redirected: int | None = None
    heard: bool = False


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket of this machine. ``pid`` None: the process could not be seen."""

    protocol: str
    port: int
    address: IPAddress
    inode: int = 0
    pid: int | None = None
    process: str | None = None
    unit: str | None = None

    def __str__(self) -> str:
        if self.pid is None:
            return "unknown process"
        unit = f", {self.unit}" if self.unit else ""
        return f"{self.process or '?'} (pid {self.pid}{unit})"


@dataclass(slots=True)
class Seen:
    """``packets`` from one source to one port; ``first`` and ``last`` in steady seconds."""

    packets: int
    first: float
    last: float


@dataclass(slots=True)
class PortUse:
    """All that is recorded of one port. Sources are packed: a full record holds 65,536 of them."""

    sources: dict[bytes, Seen] = field(default_factory=dict)
    forwarded: bool = False
    redirected: int | None = None


def answering(port: Port, use: PortUse, listening: Iterable[Listener]) -> list[Listener]:
    """The sockets of this machine that receive what is sent to ``port``. One that is bound to
    loopback receives nothing from outside, except by redirection."""
    protocol, number = port
    return [
        one
        for one in listening
        if one.protocol == protocol
        and (
            one.port == use.redirected
            if use.redirected is not None
            else one.port == number and not one.address.is_loopback
        )
    ]


# --- words ---


def port_name(port: Port) -> str:
    """``8080/tcp``, as open_ports writes it."""
    return f"{port[1]}/{port[0]}"


def parse_port(text: str) -> Port:
    """``8080/tcp`` or ``53/udp``. ValueError says what was expected."""
    number, _, protocol = text.partition("/")
    if not (number.isascii() and number.isdigit() and 0 <= int(number) <= 65535 and protocol):
        raise ValueError(f"{text!r}: expected a port and its protocol, such as 8080/tcp")
    return protocol, int(number)


def address_of(packed: bytes) -> IPAddress:
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


def is_private(packed: bytes) -> bool:
    """Whether a source is not of the internet: RFC 1918, 6598, 3927, unique local and
    link-local."""
    first, second = packed[0], packed[1]
    if len(packed) == 16:
        return first & 0xFE == 0xFC or (first == 0xFE and second & 0xC0 == 0x80)
    return (
        first == 10
        or (first, second) in ((192, 168), (169, 254))
        or (first == 172 and second & 0xF0 == 16)
        or (first == 100 and second & 0xC0 == 64)
    )
