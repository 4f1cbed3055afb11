"""Keys of sets of openings, as the kernel has them: source, protocol, port. Pure.

Each part of a concatenation takes up whole registers of four bytes.
"""

import struct
from collections.abc import Callable
from functools import partial
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final

_PROTOCOLS: Final = {"tcp": 6, "udp": 17}
_NAMES: Final = {number: name for name, number in _PROTOCOLS.items()}
_AFTER: Final = struct.Struct(">B3xH2x")  # what follows the address


def packing(where: str) -> tuple[Callable[[str], bytes], int]:
    """How a key of this set is written, and how long it is."""
    six = where.startswith("opening6")
    return partial(_packed, AF_INET6 if six else AF_INET), (16 if six else 4) + _AFTER.size


def _packed(family: int, key: str) -> bytes:
    source, proto, port = key.split(" . ")
    number = _PROTOCOLS[proto] if proto in _PROTOCOLS else int(proto)
    return inet_pton(family, source) + _AFTER.pack(number, int(port))


def text(value: bytes) -> str:
    """The key again. What is not ours may have any protocol, and shows its number."""
    address, (number, port) = value[: -_AFTER.size], _AFTER.unpack(value[-_AFTER.size :])
    source = inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)
    return f"{source} . {_NAMES.get(number, number)} . {port}"
