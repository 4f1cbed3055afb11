"""What a gateway carries: the time that a packet takes from its sender's system call to the other
end, through a gateway and through a router without rules. Sending alone is taken off both.

    sender ── veth ── gateway ── veth ── receiver, which counts and drops

All three are on one processor, on which the kernel does all of it within the sender's own system
call. So what is left is what one processor does in one second.
"""

import ctypes
import os
import re
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from benchmarks.figures import US, Line, Report, Times
from benchmarks.scale import Scale, say
from neti.errors import NetiError
from neti.model import Encrypt, Host, Member, Reach, Site
from neti.model.gateways import PORTS
from neti.model.settings import Settings
from neti.ruleset.gateway_part import GatewayPart
from neti.ruleset.policy import structure
from neti.ruleset.surroundings import Surroundings, Tunnel
from neti_lab import namespaces
from neti_lab.wiring import Node, Wiring

NAME: Final = "gateway"
TITLE: Final = "What a gateway carries"
_BYTES: Final = 148  # of each datagram: a small packet within WireGuard's
_AT_ONCE: Final = 64  # datagrams of one system call
_CALLS: Final = 500  # of one round, so that no queue between two namespaces is full
_SITES: Final = ("ec2", "vpc")
_COUNTING: Final = (
    "table ip sink {{ counter came {{ }}; chain in {{ type filter hook prerouting priority -400; "
    'iifname "{interface}" ip protocol udp counter name "came" drop; }}; }}\n'
)
_FIRST_HOST: Final = 16  # its place in the overlay; before it are the gateways


@dataclass(slots=True)
class Street:
    """``to``: where the sender sends; ``sink``: the namespace that counts."""

    sender: str
    sink: str
    to: list[tuple[str, int]]
    cost: Times = field(default_factory=Times)  # seconds for each packet


def run(scale: Scale) -> Report:
    report = Report(TITLE)
    with ExitStack() as stack:
        say("gateway: building")
        kinds = [("alone", 0), ("router", 0), *((f"gateway-{n}", n) for n in scale.sizes)]
        streets = {name: _street(stack, name, size) for name, size in kinds}
        for number in range(max(4, scale.slow_rounds)):
            for name in list(streets) if number % 2 == 0 else reversed(streets):
                say(f"gateway: round {number + 1}, {name}")
                _round(streets[name])
    alone = streets["alone"].cost.median
    router = _less(streets["router"].cost, alone)
    lines, rates = [], []
    for size in scale.sizes:
        ours = _less(streets[f"gateway-{size}"].cost, alone)
        lines.append(Line(f"{size:,} members: passed on", ours, router, US, "µs"))
        rates.append((f"{size:,} members", 1 / ours.median))
    report.compare(lines, ours="gateway", other="router without rules")
    report.say("", "Packets a second on one processor, both directions together:")
    for what, rate in (*rates, ("router without rules", 1 / router.median)):
        report.say(f"  {what:24} {rate:>12,.0f}")
    return report


def _less(cost: Times, alone: float) -> Times:
    return Times([max(each - alone, 1e-9) for each in cost.each])


def _street(stack: ExitStack, name: str, size: int) -> Street:
    tag = f"neti-bench-{os.getpid()}-{name}"
    sender, middle, receiver = f"{tag}-s", f"{tag}-m", f"{tag}-r"
    stack.callback(namespaces.delete, (sender, middle, receiver))
    up = "link set lo up"
    namespaces.build(
        Wiring(
            create=(sender, middle, receiver),
            links=(
                f"link add eth0 netns {sender} type veth peer name eth0 netns {middle}",
                f"link add eth1 netns {middle} type veth peer name eth0 netns {receiver}",
            ),
            nodes=(
                Node(
                    namespace=sender,
                    commands=(
                        *(up, "link set eth0 up", "address add 10.0.0.11/16 dev eth0"),
                        "route add default via 10.0.0.2",
                    ),
                ),
                Node(
                    namespace=middle,
                    sysctls={"ip_forward": "1", "rp_filter": "0", "send_redirects": "0"},
                    commands=(
                        *(up, "link set eth0 up", "link set eth1 up"),
                        *("address add 10.0.0.2/16 dev eth0", "address add 10.9.0.1/30 dev eth1"),
                        "route add default via 10.9.0.2",
                    ),
                ),
                Node(
                    namespace=receiver,
                    commands=(up, "link set eth0 up", "address add 10.9.0.2/30 dev eth0"),
                ),
            ),
        )
    )
    sink = middle if name == "alone" else receiver
    namespaces.load_rules(sink, _COUNTING.format(interface="eth0"))
    if size:
        namespaces.load_rules(middle, _table(size))
    # Hosts of the other site, from all over the fleet.
    others = [2 * (number * max(size, 2) // (2 * _AT_ONCE)) + 1 for number in range(_AT_ONCE)]
    to = "10.0.0.2" if size else "203.0.113.1"
    return Street(sender, sink, [(to, PORTS.first + _FIRST_HOST + one) for one in others])


def _table(size: int) -> str:
    """That of a gateway in a fleet of so many, all of them behind gateways."""
    sites = {
        name: Site(
            name=name,
            encrypt=Encrypt.REQUIRE,
            reached_by=Reach.GATEWAY,
            gateways=tuple(f"{name}-gw-{number}" for number in range(4)),
        )
        for name in _SITES
    }
    settings = Settings(path=Path("neti.yml"), sites=sites, sites_configured=True)
    subnet = settings.overlay_subnet
    own = Host(id="ec2-gw-0", site="ec2", private=IPv4Address("10.0.0.2"), public=_public("ec2", 0))
    members = {}
    for at, site in enumerate(_SITES):
        for number in range(4):
            one = Member(
                id=f"{site}-gw-{number}",
                site=site,
                private=IPv4Address("10.0.0.2") + number,
                public=_public(site, number),
                overlay=subnet[2 + 4 * at + number],
            )
            members[one.id] = one
    for number in range(size):
        site = _SITES[number % 2]
        one = Member(
            id=f"host-{number}",
            site=site,
            private=IPv4Address("10.0.0.11") + number // 2,
            public=None,
            overlay=subnet[_FIRST_HOST + number],
        )
        members[one.id] = one
    part = GatewayPart(settings, own)
    _, elements, _ = part.renew(members, (), members[own.id].overlay)
    around = Surroundings(
        uplinks=("eth0", "eth1"),
        ssh_untracked=True,
        site="ec2",
        tunnel=Tunnel(own=members[own.id].overlay, private=own.private, mtu=1420),
        gateway=part.end(("eth0", "eth1")),
    )
    held: dict[str, list[str]] = {}
    for element in elements:
        words = f"{element.key} : {element.value}" if element.value else element.key
        held.setdefault(element.where, []).append(words)
    lines = [structure(settings, around).text()]
    lines += [f"add element inet neti {w} {{ {', '.join(each)} }}" for w, each in held.items()]
    return "\n".join(lines) + "\n"


def _public(site: str, number: int) -> IPv4Address:
    return IPv4Address("198.51.100.1" if site == "ec2" else "203.0.113.1") + number


# --- sending ---


class _Address(ctypes.Structure):
    """sockaddr_in, see ip(7)."""

    _fields_ = (
        ("family", ctypes.c_uint16),
        ("port", ctypes.c_uint16),
        ("address", ctypes.c_ubyte * 4),
        ("zero", ctypes.c_ubyte * 8),
    )


class _Part(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr, see sendmsg(2)."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("parts", ctypes.c_void_p),
        ("part_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr, see sendmmsg(2)."""

    _fields_ = (("header", _Header), ("sent", ctypes.c_uint32))


def _round(street: Street) -> None:
    before = _came(street)
    took = namespaces.call_inside(street.sender, partial(_send, street.to))
    sent = _AT_ONCE * _CALLS
    came = _came(street) - before
    if came < sent * 0.99:
        raise NetiError(f"of {sent} packets {came} came: the figures would mean nothing")
    street.cost.each.append(took / came)


def _send(to: Sequence[tuple[str, int]]) -> float:
    """Seconds of this thread's processor, on one processor alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    data = ctypes.create_string_buffer(_BYTES)
    part = _Part(ctypes.addressof(data), _BYTES)
    addresses = (_Address * len(to))()
    messages = (_Message * len(to))()
    for one, message, (address, port) in zip(addresses, messages, to, strict=True):
        one.family, one.port = socket.AF_INET, socket.htons(port)
        one.address[:] = socket.inet_aton(address)
        header = message.header
        header.name, header.name_length = ctypes.addressof(one), ctypes.sizeof(one)
        header.parts, header.part_count = ctypes.addressof(part), 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("10.0.0.11", 51820))
        number = sock.fileno()
        libc.sendmmsg(number, messages, len(to), 0)  # what is found out once: neighbours, routes
        time.sleep(0.05)
        begun = time.thread_time()
        for _ in range(_CALLS):
            if libc.sendmmsg(number, messages, len(to), 0) != len(to):
                raise NetiError(f"sendmmsg: {os.strerror(ctypes.get_errno())}")
        return time.thread_time() - begun


def _came(street: Street) -> int:
    words = namespaces.command_inside(street.sink, ["nft", "list", "counter", "ip", "sink", "came"])
    found = subprocess.run(words, capture_output=True, text=True, check=True)
    match = re.search(r"packets (\d+)", found.stdout)
    return int(match[1]) if match else 0
