"""Kills a program right after its N-th write: ``python tracer.py N FOLDER RESULT COMMAND …``.

A write is a system call that changes something outside the program: a file below FOLDER (but for a
log), a route or rule (netlink), or what a server holds (TCP). All threads and children count as
one. The whole of it is killed with -9 while the thread that wrote is still stopped on its way out
of the call, so nothing comes behind the N-th write. N = 0 only counts. RESULT gets one JSON line.

SIGHUP and SIGTERM are passed on. See ptrace(2), PTRACE_GET_SYSCALL_INFO. Standard library only.
"""

import ctypes
import json
import os
import platform
import signal
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_TRACEME, _SYSCALL, _SETOPTIONS, _SYSCALL_INFO = 0, 24, 0x4200, 0x420E
# TRACESYSGOOD, TRACEFORK, TRACEVFORK, TRACECLONE, TRACEEXEC, EXITKILL
_OPTIONS: Final = 1 | 2 | 4 | 8 | 0x10 | 0x100000
_WALL: Final = 0x40000000
_SYSCALL_STOP: Final = signal.SIGTRAP | 0x80
_INFO_BYTES: Final = 88
_ENTRY, _EXIT = 1, 2
_PIDFD_GETFD: Final = 438
_NLMSG_BYTES, _NLM_F_REQUEST, _NLM_F_ACK = 16, 1, 4  # linux/netlink.h
_NFTABLES: Final = 10  # NFNL_SUBSYS_NFTABLES
_NOT_RETURNED: Final = -4095  # the lowest error number, linux/err.h

_BY_MACHINE: Final = {
    "x86_64": {
        "write": 1, "pwrite64": 18, "writev": 20, "pwritev": 296, "sendto": 44, "sendmsg": 46,
        "sendmmsg": 307, "openat": 257, "ftruncate": 77, "rename": 82, "renameat": 264,
        "renameat2": 316, "unlink": 87, "unlinkat": 263, "mkdir": 83, "mkdirat": 258,
    },
    "aarch64": {
        "write": 64, "pwrite64": 68, "writev": 66, "pwritev": 70, "sendto": 206, "sendmsg": 211,
        "sendmmsg": 269, "openat": 56, "ftruncate": 46, "renameat": 38, "renameat2": 276,
        "unlinkat": 35, "mkdirat": 34,
    },
}  # fmt: skip
_TO_DESCRIPTOR: Final = frozenset(
    ("write", "pwrite64", "writev", "pwritev", "sendto", "sendmsg", "sendmmsg", "ftruncate")
)
_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def ptrace(request: int, pid: int, address: int = 0, value: object = None) -> None:
    """ProcessLookupError when the thread is gone."""
    data = ctypes.c_void_p(value) if isinstance(value, int) else value
    if _libc.ptrace(request, pid, ctypes.c_void_p(address), data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@dataclass
class Tracer:
    after: int
    folder: str
    names: dict[int, str]
    root: int
    writes: int = 0
    last: str = "nothing"
    entered: dict[int, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)

    def run(self) -> None:
        """Until nobody is left."""
        while True:
            try:
                thread, status = os.waitpid(-1, _WALL)
            except ChildProcessError:
                return
            if not os.WIFSTOPPED(status):
                self.known.discard(thread)
                continue
            deliver = self._stopped(thread, os.WSTOPSIG(status), status >> 16)
            if deliver is None:
                self._kill()
                continue
            try:
                ptrace(_SYSCALL, thread, 0, deliver)
            except ProcessLookupError:
                continue

    def _stopped(self, thread: int, number: int, event: int) -> int | None:
        """The signal to go on with; None: it is the moment to kill."""
        new = thread not in self.known
        self.known.add(thread)
        if number == _SYSCALL_STOP:
            return None if self._syscall(thread) else 0
        if event or (new and number == signal.SIGSTOP):
            return 0
        return number

    def _syscall(self, thread: int) -> bool:
        """Whether that was the N-th write."""
        raw = ctypes.create_string_buffer(_INFO_BYTES)
        try:
            ptrace(_SYSCALL_INFO, thread, _INFO_BYTES, raw)
        except ProcessLookupError:
            return False
        kind = raw.raw[0]
        if kind == _ENTRY:
            number, *arguments = struct.unpack_from("=7Q", raw.raw, 24)
            name = self.names.get(number)
            if name is not None:
                self.entered[thread] = name, tuple(arguments)
            return False
        entered = self.entered.pop(thread, None)
        if kind != _EXIT or entered is None:
            return False
        (returned,) = struct.unpack_from("=q", raw.raw, 24)
        what = self._what(thread, *entered, returned) if returned > _NOT_RETURNED else None
        if what is None or (returned < 0):
            return False
        self.writes += 1
        self.last = f"{entered[0]} {what}"
        return self.writes == self.after

    def _what(
        self, thread: int, name: str, arguments: tuple[int, ...], returned: int
    ) -> str | None:
        """What was written to; None when that is nothing that counts."""
        if name == "sendto" and _only_asks(thread, arguments[1]):
            return None
        if name in _TO_DESCRIPTOR:
            return self._descriptor(thread, arguments[0])
        if name == "openat":
            return self._descriptor(thread, returned) if arguments[2] & os.O_CREAT else None
        return "a name"

    def _descriptor(self, thread: int, number: int) -> str | None:
        try:
            target = os.readlink(f"/proc/{thread}/fd/{number}")
        except OSError:
            return None
        if target.startswith(self.folder):
            return None if target.endswith("/log") else target.removeprefix(self.folder)
        if not target.startswith("socket:"):
            return None
        family = _family(_process_of(thread), number)
        named = {int(socket.AF_NETLINK): "netlink", int(socket.AF_INET): "TCP"}
        return named.get(family) if family is not None else None

    def _kill(self) -> None:
        """All of it; a killed thread that is stopped in a call does not come back from it."""
        for process in {_process_of(thread) for thread in self.known} | {self.root}:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _only_asks(thread: int, buffer: int) -> bool:
    """Whether a netlink request wants to be told something: who changes something asks for an
    acknowledgement. What goes to other sockets may look like either, and then counts."""
    try:
        with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
            memory.seek(buffer)
            header = memory.read(_NLMSG_BYTES)
    except (OSError, ValueError, OverflowError):
        return False
    if len(header) < _NLMSG_BYTES:
        return False
    length, kind, flags, _, port = struct.unpack("=IHHII", header)
    plausible = _NLMSG_BYTES <= length < 1 << 16 and port == 0 and flags & _NLM_F_REQUEST
    # nftables' changes go in batches, by sendmsg; a single message asks.
    return bool(plausible) and (not flags & _NLM_F_ACK or kind >> 8 == _NFTABLES)


def _process_of(thread: int) -> int:
    try:
        for line in Path(f"/proc/{thread}/status").read_text().splitlines():
            if line.startswith("Tgid:"):
                return int(line.split()[1])
    except OSError:
        pass
    return thread


def _family(process: int, number: int) -> int | None:
    """The address family of another process's socket."""
    try:
        pidfd = os.pidfd_open(process)
    except OSError:
        return None
    try:
        copy = _libc.syscall(_PIDFD_GETFD, pidfd, number, 0)
        if copy < 0:
            return None
        with socket.socket(fileno=copy) as held:
            return int(held.family)
    except OSError:
        return None
    finally:
        os.close(pidfd)


def _start(command: list[str]) -> int:
    """The program, stopped before its first instruction and traced with its children."""
    child = os.fork()
    if child == 0:
        try:
            ptrace(_TRACEME, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
            os.execvp(command[0], command)
        finally:
            os._exit(127)
    os.waitpid(child, 0)
    ptrace(_SETOPTIONS, child, 0, _OPTIONS)
    ptrace(_SYSCALL, child, 0, 0)
    return child


def main() -> None:
    after, folder, result, *command = sys.argv[1:]
    numbers = _BY_MACHINE.get(platform.machine())
    if numbers is None:
        sys.exit(f"tracer: the system calls of {platform.machine()} are not known here")
    root = _start(command)
    names = {number: name for name, number in numbers.items()}
    tracer = Tracer(int(after), folder, names, root, known={root})
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, _passed_on(root))
    tracer.run()
    document = {"writes": tracer.writes, "last": tracer.last}
    Path(result).write_text(json.dumps(document))


def _passed_on(root: int) -> Callable[[int, object], None]:
    def handler(number: int, frame: object) -> None:
        try:
            os.kill(root, number)
        except ProcessLookupError:
            return

    return handler


if __name__ == "__main__":
    main()
