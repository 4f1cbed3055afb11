"""Finds the SSH connection that a command was typed in, whatever sudo did to its environment.

It walks from a process up to the SSH server that it came from, and reads which connection that
server holds. Reads /proc, changes nothing.

Must never do: take a guess for knowledge. What the environment alone says is marked as unsure.
"""

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from itertools import takewhile
from pathlib import Path
from typing import Final, Literal

from neti.model import IPAddress
from neti.stage.way_in import OperatorSession

# OpenSSH up to 9.7 is sshd all the way; from 9.8 on, sshd-session serves the connection.
_SSH_SERVERS: Final = frozenset({"sshd", "sshd-session", "dropbear"})
_STATES: Final = {"established": "01", "listening": "0A"}  # include/net/tcp_states.h
_DEPTH: Final = 64  # processes between a command and init; more would be a loop

_Ends = tuple[IPAddress, int, IPAddress, int]  # client, its port, local address, local port


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    name: str


@dataclass(frozen=True, slots=True)
class _Said:
    ends: _Ends
    by: _Process


def _is_local(address: IPAddress) -> bool:
    """Whether the address is this host's, in the caller's network namespace."""
    family = socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((str(address), 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True


def find(
    pid: int | None = None,
    *,
    proc: Path = Path("/proc"),
    is_local: Callable[[IPAddress], bool] = _is_local,
) -> OperatorSession | None:
    """The SSH session below which a process (this one) runs. None: there is none (the console,
    cron), or it comes in by another network namespace, whose packets are judged elsewhere."""
    line = list(_ancestors(proc, pid if pid is not None else os.getpid()))
    if not line:
        return None
    first = next((n for n, one in enumerate(line) if one.name in _SSH_SERVERS), None)
    said = _said_by_environment(proc, line[:first])
    if first is None:
        here = said is not None and is_local(said.ends[2])
        return _detached(proc, line[0], said) if here else None
    servers = list(takewhile(lambda one: one.name in _SSH_SERVERS, line[first:]))
    if _namespace(proc, servers[0].pid) not in (None, _namespace(proc, line[0].pid)):
        return None
    candidates = _candidates(proc, servers, said)
    if candidates:
        how = f"the connection of process {servers[0].pid} ({servers[0].name})"
        if len(candidates) > 1:
            how += f", which has {len(candidates)} that it could be"
        return _session(candidates[0], "connection", len(candidates) == 1, how)
    if said is None:
        return None
    return _session(
        said.ends,
        "environment",
        _is_open(proc, line[0].pid, said.ends),
        f"SSH_CONNECTION of process {said.by.pid} ({said.by.name}), because the connection of "
        f"process {servers[0].pid} ({servers[0].name}) may not be read without root",
    )


def open_sessions(
    ports: Collection[int],
    *,
    proc: Path = Path("/proc"),
    is_local: Callable[[IPAddress], bool] = _is_local,
) -> list[OperatorSession]:
    """Connections of others that are established at these ports of this host, in this thread's
    network namespace. Who may see no process sees them too: whether somebody has logged in by one
    is not known."""
    ends = [*_established_at(proc, {f"{port:04X}" for port in ports})]
    return [
        _session(one, "connection", True, f"an open connection to port {one[3]}")
        for one in ends
        if not one[0].is_loopback and one[0] != one[2] and not is_local(one[0])
    ]


def _established_at(proc: Path, ports: Collection[str]) -> Iterator[_Ends]:
    """``ports`` as /proc has them. A server with very many connections has each as a line."""
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), (proc / "thread-self/net" / name).open() as lines:
            for line in lines:
                words = line.split(None, 4)
                if words[1][-4:] in ports and words[3] == _STATES["established"]:
                    yield (*_end(words[2]), *_end(words[1]))


def _candidates(proc: Path, servers: list[_Process], said: _Said | None) -> list[_Ends]:
    """The SSH connection itself: one, or several when it cannot be told from those that are
    forwarded through it.

    sshd says which it is in the environment of what it starts. Without that: the process that
    serves a user shares it, and nothing else, with the privileged one above; the one that serves
    root has no such one above, but the one that listens on the port by which it came in.
    """
    sockets = [_sockets(proc, server.pid) for server in servers]
    held = [_tcp(proc, servers[0].pid, "established", inodes) for inodes in sockets]
    if said is not None and any(said.ends in ends for ends in held):
        return [said.ends]
    above = held[1] if len(held) > 1 else []
    outer = frozenset().union(*sockets[1:])
    ports = {end[3] for end in _tcp(proc, servers[0].pid, "listening", outer)}
    shared = [ends for ends in held[0] if ends in above]
    by_port = [ends for ends in held[0] if ends[3] in ports]
    return shared or by_port or held[0]


# --- the environment ---


def _detached(proc: Path, command: _Process, said: _Said | None) -> OperatorSession | None:
    if said is None:
        return None
    still = "is still open" if _is_open(proc, command.pid, said.ends) else "is no longer open here"
    return _session(
        said.ends,
        "environment",
        False,
        f"SSH_CONNECTION of process {said.by.pid} ({said.by.name}), which does not run below an "
        f"SSH server (tmux, screen, at): that connection {still}, but you may have come by another",
    )


def _said_by_environment(proc: Path, line: list[_Process]) -> _Said | None:
    """SSH_CONNECTION of the nearest process that has it: sudo takes it away from its child."""
    for one in line:
        try:
            environ = (proc / str(one.pid) / "environ").read_bytes()
        except OSError:
            continue
        for pair in environ.split(b"\0"):
            name, _, value = pair.partition(b"=")
            if name == b"SSH_CONNECTION":
                ends = _parsed(value.decode("ascii", "replace"))
                if ends is not None:
                    return _Said(ends, one)
    return None


def _parsed(value: str) -> _Ends | None:
    try:
        client, client_port, local, local_port = value.split()
        return _address(client), int(client_port), _address(local), int(local_port)
    except ValueError:
        return None


def _session(
    ends: _Ends, found: Literal["connection", "environment"], sure: bool, how: str
) -> OperatorSession:
    client, client_port, local, local_port = ends
    return OperatorSession(
        client=client,
        client_port=client_port,
        local=local,
        local_port=local_port,
        found=found,
        sure=sure,
        how=how,
    )


# --- /proc ---


def _ancestors(proc: Path, pid: int) -> Iterator[_Process]:
    """The process, its parent, and so on, to init."""
    for _ in range(_DEPTH):
        try:
            stat = (proc / str(pid) / "stat").read_text(errors="replace")
        except OSError:
            return
        # "pid (name) state parent …": the name may hold blanks and brackets of its own.
        name, _, rest = stat.partition("(")[2].rpartition(")")
        one = _Process(pid, int(rest.split()[1]), name)
        yield one
        if one.parent <= 0:
            return
        pid = one.parent


def _namespace(proc: Path, pid: int) -> str | None:
    try:
        return str((proc / str(pid) / "ns/net").readlink())
    except OSError:
        return None


def _sockets(proc: Path, pid: int) -> frozenset[str]:
    """Inodes of the sockets that a process holds; none when that may not be read."""
    found = set()
    with contextlib.suppress(OSError):
        for entry in (proc / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(entry.readlink())
                if target.startswith("socket:["):
                    found.add(target.removeprefix("socket:[").removesuffix("]"))
    return frozenset(found)


def _is_open(proc: Path, pid: int, ends: _Ends) -> bool:
    return ends in _tcp(proc, pid, "established", None)


def _tcp(
    proc: Path,
    pid: int,
    state: Literal["established", "listening"],
    inodes: frozenset[str] | None,
) -> list[_Ends]:
    """TCP sockets of the process's network namespace (proc(5)) that have one of these inodes."""
    found = []
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc / str(pid) / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if words[3] == _STATES[state] and (inodes is None or words[9] in inodes):
                found.append((*_end(words[2]), *_end(words[1])))
    return found


def _end(text: str) -> tuple[IPAddress, int]:
    """ "0500000A:0016": the address as words in the machine's own byte order."""
    digits, _, port = text.partition(":")
    words = [int(digits[n : n + 8], 16) for n in range(0, len(digits), 8)]
    packed = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    return _plain(ip_address(packed)), int(port, 16)


def _address(text: str) -> IPAddress:
    return _plain(ip_address(text.partition("%")[0]))


def _plain(address: IPAddress) -> IPAddress:
    """A server that listens on both families shows IPv4 as ::ffff:a.b.c.d."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped if mapped is not None else address
