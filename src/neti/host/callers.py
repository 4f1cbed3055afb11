"""Processes of this machine that have a connection open to given addresses, from /proc. Only reads.

Whose a socket is, only root may know of others' processes: who is not known is left out. See
proc(5).
"""

import re
from collections.abc import Collection
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from neti.host.listeners import address_of_proc, with_owners
from neti.model import IPAddress
from neti.stage.shadow import Listener
from neti.text import printable

_PROC: Final = Path("/proc")
_PASSWD: Final = Path("/etc/passwd")
_TABLES: Final = ("tcp", "tcp6", "udp", "udp6")
_NOT_OPEN: Final = frozenset({"06", "0A"})  # TIME-WAIT, LISTEN
_USER: Final = re.compile(r"([^:]*):[^:]*:([0-9]+):", re.ASCII)

Target = tuple[IPAddress, str, int, int]  # address, protocol, port, and the user who calls


def connected(targets: Collection[Target], proc: Path = _PROC) -> dict[Target, list[Listener]]:
    """Sockets of this network namespace with their owners, by whom they are connected to."""
    found: list[tuple[Target, Listener]] = []
    for table in _TABLES:
        try:
            lines = (proc / "thread-self/net" / table).read_text().splitlines()[1:]
        except OSError:
            continue  # a kernel without IPv6 has no tcp6
        for line in lines:
            words = line.split()
            if len(words) < 10 or words[3] in _NOT_OPEN:
                continue
            address, _, port = words[2].partition(":")
            target = address_of_proc(address), table[:3], int(port, 16), int(words[7])
            if target in targets:
                socket = Listener(table[:3], target[2], IPv4Address(0), inode=int(words[9]))
                found.append((target, socket))
    owned = with_owners((socket for _, socket in found), proc)
    by_target: dict[Target, list[Listener]] = {}
    for (target, _), socket in zip(found, owned, strict=True):
        if socket.pid is not None:
            by_target.setdefault(target, []).append(socket)
    return by_target


def users(passwd: Path = _PASSWD) -> dict[int, str]:
    """Names by number, of passwd(5) alone: a directory service may not answer."""
    try:
        lines = passwd.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    return {int(one[2]): printable(one[1]) for line in lines if (one := _USER.match(line))}
