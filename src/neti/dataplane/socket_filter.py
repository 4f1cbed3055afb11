"""What the kernel keeps out of a socket's buffer: classic BPF, by SO_ATTACH_FILTER (socket(7)).

Who floods a socket fills its buffer, and what is meant for it finds no place there. What a filter
turns away takes none.

Must never do: know what a program is for.
"""

import ctypes
import socket
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

_SO_ATTACH_FILTER: Final = 26
_INSTRUCTION: Final = struct.Struct("=HBBI")  # linux/filter.h: struct sock_filter
_PROGRAM: Final = struct.Struct("@HP")  # struct sock_fprog
_EVERYTHING: Final = 0xFFFFFFFF


class Step(NamedTuple):
    """``then``, ``otherwise``: how many steps to pass over, of a comparison. Loads are in network
    order."""

    code: int
    then: int
    otherwise: int
    value: int


def load16(offset: int) -> Step:
    return Step(0x28, 0, 0, offset)


def load32(offset: int) -> Step:
    """Of a datagram that ends before that, nothing is kept."""
    return Step(0x20, 0, 0, offset)


def equals(value: int, then: int, otherwise: int) -> Step:
    return Step(0x15, then, otherwise, value)


KEEP: Final = Step(0x06, 0, 0, _EVERYTHING)
DROP: Final = Step(0x06, 0, 0, 0)


def attach(sock: socket.socket, steps: Sequence[Step]) -> None:
    """In place of the filter that it has, if any. What is in the buffer stays. Raises OSError."""
    code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*step) for step in steps))
    program = _PROGRAM.pack(len(steps), ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
