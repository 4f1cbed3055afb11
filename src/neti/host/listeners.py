"""Sockets of this machine that wait for others, from /proc; and whose they are. Only reads.

The network namespace is that of the calling thread. Whose a socket is stands in /proc/PID/fd, which
root may read, and an agent with CAP_NET_ADMIN alone may not: the owner is then unknown, not an
error. See proc(5).
"""

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from neti.model import IPAddress
from neti.stage.shadow import Listener, Port
from neti.text import printable

_PROC: Final = Path("/proc")
_TABLES: Final = ("tcp", "tcp6", "udp", "udp6")
_LISTEN: Final = "0A"
_UNCONNECTED: Final = "07"  # a bound UDP socket shows TCP's word for closed
_UNIT_SUFFIXES: Final = (".service", ".scope", ".socket")


def listeners(proc: Path = _PROC) -> list[Listener]:
    """Listening TCP and bound, unconnected UDP sockets, without their owners. A UDP socket that is
    some client's looks the same: it waits for answers."""
    found = []
    for table in _TABLES:
        try:
            with (proc / "thread-self/net" / table).open() as lines:
                next(lines)
                for line in lines:
                    seen = _listener(table[:3], line)
                    if seen is not None:
                        found.append(seen)
                    elif table.startswith("tcp"):
                        break  # the kernel lists listening sockets first, then all connections
        except (OSError, StopIteration):
            continue  # a kernel without IPv6 has no tcp6
    return found


class Listening:
    """Ports of this machine's sockets, look by look. Not thread-safe.

    A UDP port from the range that callers get theirs from is a caller's, more often than not, and
    gone a moment later: it counts from the second look on, so that a busy resolver's sockets do
    not change what the kernel holds each time. At the first look all count.
    """

    def __init__(
        self,
        look: Callable[[], Iterable[Listener]],
        local_ports: Callable[[], tuple[int, int]],
    ) -> None:
        self._look = look
        self._local_ports = local_ports
        self._before: frozenset[Port] | None = None

    def ports(self) -> frozenset[Port]:
        found = frozenset((one.protocol, one.port) for one in self._look())
        before, self._before = self._before, found
        if before is None:
            return found
        low, high = self._local_ports()
        passing = {port for port in found - before if port[0] == "udp" and low <= port[1] <= high}
        return found - passing


def _listener(protocol: str, line: str) -> Listener | None:
    words = line.split()
    if words[3] != (_LISTEN if protocol == "tcp" else _UNCONNECTED):
        return None
    address, _, port = words[1].partition(":")
    return Listener(protocol, int(port, 16), address_of_proc(address), inode=int(words[9]))


def address_of_proc(text: str) -> IPAddress:
    """As /proc/net has them: in hex, each 32 bits in this machine's byte order. A mapped address is
    IPv4's."""
    packed = b"".join(
        struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, len(text), 8)
    )
    if len(packed) == 4:
        return IPv4Address(packed)
    address = IPv6Address(packed)
    return address.ipv4_mapped or address


def with_owners(found: Iterable[Listener], proc: Path = _PROC) -> list[Listener]:
    """The same with pid, name and unit of the process, of the lowest pid where several share the
    socket; unchanged where that cannot be known."""
    found = list(found)
    wanted = {f"socket:[{one.inode}]": one.inode for one in found if one.inode}
    owners: dict[int, int] = {}
    for pid in sorted(_pids(proc)) if wanted else ():
        for name in _sockets(proc / str(pid) / "fd"):
            if name in wanted:
                owners.setdefault(wanted[name], pid)
        if len(owners) == len(wanted):
            break
    return [_owned(one, owners.get(one.inode), proc) for one in found]


def _owned(listener: Listener, pid: int | None, proc: Path) -> Listener:
    if pid is None:
        return listener
    name, unit = _name(proc / str(pid)), _unit(proc / str(pid))
    return replace(listener, pid=pid, process=name, unit=unit)


def _pids(proc: Path) -> Iterator[int]:
    return (int(name) for name in os.listdir(proc) if name.isdigit())


def _sockets(folder: Path) -> Iterator[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return  # it has ended, or is not ours to look at
    for name in names:
        try:
            yield os.readlink(folder / name)
        except OSError:
            continue


def _name(process: Path) -> str | None:
    try:
        text = (process / "comm").read_text(errors="replace").strip()
    except OSError:
        return None
    return printable(text)


def _unit(process: Path) -> str | None:
    """The innermost systemd unit of its control group, in either version's spelling."""
    try:
        lines = (process / "cgroup").read_text(errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        controllers, _, path = line.partition(":")[2].partition(":")
        if controllers in ("", "name=systemd"):
            for part in reversed(path.split("/")):
                if part.endswith(_UNIT_SUFFIXES) and part.isprintable():
                    return part
    return None
