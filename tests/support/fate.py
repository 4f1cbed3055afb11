"""What a real kernel does with first packets: one namespace, and devices into which a test writes.

A packet that is written to a TUN device has been judged when the call returns, so nobody waits.
What got past every rule of Neti's is noted by a table of the test's own, which then drops it:
nothing is answered, and no connection is left behind. Must never do: touch a table of another
namespace.
"""

import fcntl
import itertools
import os
import re
import struct
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Final, TypeVar

from tests.support.cells import (
    CONTAINER,
    CONTAINER6,
    INSIDE,
    MTU,
    OVERLAY,
    PRIVATE,
    PRIVATE6,
    PUBLISHED,
    Case,
    Cell,
)
from tests.support.packet_model import BRIDGE

from neti.dataplane.nftables import NftablesDataplane
from neti.model import IPAddress
from neti.ruleset.surroundings import TUNNEL_DEVICE
from neti_lab.namespaces import call_inside

T = TypeVar("T")
_TUNSETIFF, _TUN_WITHOUT_HEADER = 0x400454CA, 0x1001  # if_tun.h: IFF_TUN | IFF_NO_PI
_PROTOCOL: Final = {"tcp": 6, "udp": 17}
_FIRST_PORT: Final = 1024  # below are services', of which rules say something
_numbers = itertools.count(1)
# Behind every chain of Neti's: who comes here was let in.
_WATCH: Final = """
table inet watch {{
  set passed {{ type inet_service; }}
  chain input {{ type filter hook input priority 2000; policy accept;
    meta l4proto {{ tcp, udp }} add @passed {{ th sport }}
    drop
  }}
  chain forward {{ type filter hook forward priority 2000; policy accept;
    meta l4proto {{ tcp, udp }} add @passed {{ th sport }}
    drop
  }}
  chain published {{ type nat hook prerouting priority dstnat;
    tcp sport != @of_container return
    ip daddr {private} tcp dport {{ {ports} }} dnat ip to {container}:{inside}
    ip6 daddr {private6} tcp dport {{ {ports} }} dnat ip6 to [{container6}]:{inside}
  }}
  set of_container {{ type inet_service; flags interval; }}
}}
"""
_UNTRACKED: Final = (
    "table inet untracked { chain pre { type filter hook prerouting priority raw; notrack; }; }"
)


class Fate:
    """Not thread-safe."""

    def __init__(self, namespace: str, devices: dict[str, int]) -> None:
        self._namespace, self._devices = namespace, devices
        self.dataplane = self._inside(NftablesDataplane)

    def _inside(self, function: Callable[[], T]) -> T:
        return call_inside(self._namespace, function)

    def nft(self, text: str) -> str:
        words = ["ip", "netns", "exec", self._namespace, "nft", "-f", "-"]
        done = subprocess.run(words, input=text, text=True, check=True, capture_output=True)
        return done.stdout

    def load(self, case: Case) -> None:
        """In place of what an earlier one left."""
        self._inside(self.dataplane.remove)
        self.nft("add table inet untracked; delete table inet untracked")
        if not case.tracked:
            self.nft(_UNTRACKED)
        self._inside(lambda: case.load(self.dataplane, _NoConnections()))

    def of(self, case: Case, cells: Iterable[Cell]) -> dict[Cell, bool]:
        """Whether each gets past all rules."""
        asked = list(cells)
        ports = {cell: _FIRST_PORT + number for number, cell in enumerate(asked)}
        published = ", ".join(str(ports[cell]) for cell in asked if cell.published)
        self.nft(
            "flush set inet watch passed; flush set inet watch of_container;"
            + (f"add element inet watch of_container {{ {published} }}" if published else "")
        )
        for cell, port in ports.items():
            tunnel = case.through_tunnel(cell)
            device = self._devices[TUNNEL_DEVICE if tunnel else "eth0"]
            os.write(device, packet(cell, port, to=OVERLAY if tunnel else ""))
        listed = self.nft("list set inet watch passed")
        found = re.search(r"elements = \{([^}]*)\}", listed)
        passed = set(map(int, found[1].split(","))) if found else set()
        return {cell: port in passed for cell, port in ports.items()}


class _NoConnections:
    def end_connections_to(self, *_: object) -> int:
        return 0


@contextmanager
def fates() -> Iterator[Fate]:
    namespace = f"netitest-{os.getpid()}-fate-{next(_numbers)}"
    ip = ["ip", "-n", namespace, "-batch", "-"]
    with ExitStack() as stack:
        subprocess.run(["ip", "netns", "add", namespace], check=True)
        stack.callback(subprocess.run, ["ip", "netns", "delete", namespace], check=False)
        devices = {}
        for name in ("eth0", TUNNEL_DEVICE):
            devices[name] = call_inside(namespace, lambda name=name: _tun(name))  # type: ignore[misc]
            stack.callback(os.close, devices[name])
        subprocess.run(ip, input="\n".join(_links()), text=True, check=True)
        made = Fate(namespace, devices)
        made.nft(
            _WATCH.format(
                private=PRIVATE,
                private6=PRIVATE6,
                ports=", ".join(map(str, PUBLISHED)),
                container=CONTAINER,
                container6=CONTAINER6,
                inside=INSIDE,
            )
        )
        call_inside(namespace, _forwards)
        yield made


def _tun(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", name.encode(), _TUN_WITHOUT_HEADER))
    return device


def _links() -> Iterator[str]:
    yield "link set lo up"
    for name in ("eth0", TUNNEL_DEVICE):
        yield f"link set {name} mtu {MTU} up"
    yield f"address add {PRIVATE}/32 dev eth0"
    yield f"address add {PRIVATE6}/128 dev eth0 nodad"
    yield f"link add {BRIDGE} type veth peer name inside"
    yield "link set inside up"
    yield f"link set {BRIDGE} up"
    yield f"address add 172.31.0.1/24 dev {BRIDGE}"
    yield f"address add fd00:31::1/64 dev {BRIDGE} nodad"
    yield "route add default dev eth0"
    yield "route add ::/0 dev eth0"


def _forwards() -> None:
    for where in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        Path("/proc/sys/net", where).write_text("1")
    for device in ("all", "eth0", TUNNEL_DEVICE):
        Path("/proc/sys/net/ipv4/conf", device, "rp_filter").write_text("0")


# --- packets: RFC 791, 8200, 9293, 768 ---


def packet(cell: Cell, port: int, to: str = "") -> bytes:
    """From this port of the caller. ``to``: if not this host's address of the source's family."""
    source = cell.source
    dest = ip_address(to or (PRIVATE if source.version == 4 else PRIVATE6))
    body = _body(cell, port, source, dest)
    number = _PROTOCOL[cell.proto]
    if isinstance(source, IPv4Address):
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, number, 0)
        head += source.packed + dest.packed
        return head[:10] + struct.pack("!H", _sum(head)) + head[12:] + body
    return (
        struct.pack("!IHBB", 0x60000000, len(body), number, 64) + source.packed + dest.packed + body
    )


def _body(cell: Cell, port: int, source: IPAddress, dest: IPAddress) -> bytes:
    syn = 0x02
    rest, at = (
        (struct.pack("!IIBBHHH", 1, 0, 5 << 4, syn, 64240, 0, 0), 16)
        if cell.proto == "tcp"
        else (struct.pack("!HH", 8, 0), 6)
    )
    body = struct.pack("!HH", port, cell.port) + rest
    pseudo = source.packed + dest.packed + struct.pack("!II", len(body), _PROTOCOL[cell.proto])
    return body[:at] + struct.pack("!H", _sum(pseudo + body) or 0xFFFF) + body[at + 2 :]


def _sum(data: bytes) -> int:
    """RFC 1071, of whole words."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
