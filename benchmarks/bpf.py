"""The smallest connect hook: eleven instructions, loaded by bpf(2) without a compiler.

An experiment for ``connect_hook``; see docs/design/ebpf.md. The program looks the destination of a
connect() up in a hash map of the kernel and, where it is there, puts the value in its place.

Must never do: attach to a cgroup that the benchmark did not make.
"""

import ctypes
import os
import platform
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from neti.errors import NetiError

_NUMBERS: Final = {"x86_64": 321, "aarch64": 280}
_MAP_CREATE, _MAP_UPDATE, _PROG_LOAD, _ATTACH, _DETACH = 0, 2, 5, 8, 9
_HASH: Final = 1
_SOCK_ADDR: Final = 18
_INET4_CONNECT: Final = 10
_libc: Final = ctypes.CDLL(None, use_errno=True)


def _instruction(code: int, target: int, source: int, offset: int, value: int) -> bytes:
    return struct.pack("=BBhi", code, target | source << 4, offset, value)


def _program(map_fd: int) -> bytes:
    return b"".join(
        (
            _instruction(0xBF, 6, 1, 0, 0),  # r6 = the context
            _instruction(0x61, 1, 6, 4, 0),  # r1 = its user_ip4
            _instruction(0x63, 10, 1, -4, 0),  # on the stack,
            _instruction(0xBF, 2, 10, 0, 0),
            _instruction(0x07, 2, 0, 0, -4),  # r2 = where that is
            _instruction(0x18, 1, 1, 0, map_fd),
            _instruction(0, 0, 0, 0, 0),  # r1 = the map (two words)
            _instruction(0x85, 0, 0, 0, 1),  # r0 = map_lookup_elem(r1, r2)
            _instruction(0x15, 0, 0, 2, 0),  # nothing there: leave the address
            _instruction(0x61, 1, 0, 0, 0),
            _instruction(0x63, 6, 1, 4, 0),  # user_ip4 = what was found
            _instruction(0xB7, 0, 0, 0, 1),
            _instruction(0x95, 0, 0, 0, 0),  # return 1: go on
        )
    )


class ConnectHook:
    """On a new cgroup below ``cgroup2``, which goes with it."""

    def __init__(self, pairs: Iterable[tuple[IPv4Address, IPv4Address]]) -> None:
        self.folder = _cgroup2() / f"neti-bench-{os.getpid()}"
        self._open: list[int] = []
        self._pairs = list(pairs)

    def __enter__(self) -> Self:
        self.folder.mkdir()
        try:
            self._load()
        except BaseException:
            self._remove()
            raise
        return self

    def _load(self) -> None:
        made = struct.pack("=IIIII", _HASH, 4, 4, max(1, len(self._pairs)), 0)
        self._map = self._keep(_bpf(_MAP_CREATE, made))
        for overlay, real in self._pairs:
            self.put(overlay, real)
        code = ctypes.create_string_buffer(_program(self._map))
        licence = ctypes.create_string_buffer(b"BSD")
        loaded = struct.pack(
            "=IIQQIIQII16sII",
            _SOCK_ADDR, 13, ctypes.addressof(code), ctypes.addressof(licence),
            0, 0, 0, 0, 0, b"connect", 0, _INET4_CONNECT,
        )  # fmt: skip
        self._program = self._keep(_bpf(_PROG_LOAD, loaded))
        self._cgroup = self._keep(os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY))
        _bpf(_ATTACH, struct.pack("=IIII", self._cgroup, self._program, _INET4_CONNECT, 0))

    def put(self, overlay: IPv4Address, real: IPv4Address) -> None:
        key = ctypes.create_string_buffer(overlay.packed, 4)
        value = ctypes.create_string_buffer(real.packed, 4)
        places = (ctypes.addressof(key), ctypes.addressof(value))
        _bpf(_MAP_UPDATE, struct.pack("=IIQQQ", self._map, 0, *places, 0))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _bpf(_DETACH, struct.pack("=IIII", self._cgroup, self._program, _INET4_CONNECT, 0))
        self._remove()

    def _keep(self, descriptor: int) -> int:
        self._open.append(descriptor)
        return descriptor

    def _remove(self) -> None:
        for descriptor in self._open:
            os.close(descriptor)
        self.folder.rmdir()


def _cgroup2() -> Path:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise NetiError("no cgroup2 is mounted: a connect hook has nothing to be attached to")


def _bpf(command: int, attributes: bytes) -> int:
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise NetiError(f"bpf(2) has no number here for {platform.machine()}")
    held = ctypes.create_string_buffer(attributes, len(attributes))
    done: int = _libc.syscall(number, command, held, len(attributes))
    if done < 0:
        raise NetiError(f"bpf(2), command {command}: {os.strerror(ctypes.get_errno())}")
    return done
