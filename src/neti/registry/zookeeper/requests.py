"""Requests that kazoo does not know, or not in this form, in ZooKeeper's own words. Pure.

Must never do: fail as a whole because one name in an answer makes no sense.
"""

import struct
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple

from kazoo.protocol.serialization import CloseInstance

from neti.registry.untrusted import bounded_name

# The kinds of a watch's events, and the modes of a watch.
CREATED: Final = 1
DELETED: Final = 2
CHANGED: Final = 3
PERSISTENT: Final = 0
PERSISTENT_RECURSIVE: Final = 1

_INT: Final = struct.Struct("!i")
_STAT: Final = struct.Struct("!qqqqiiiqiiq")


class Stat(NamedTuple):
    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    ephemeral_owner: int
    data_length: int
    children: int
    pzxid: int


@dataclass(frozen=True, slots=True)
class AddWatch:
    """Watch ``path``, in mode PERSISTENT_RECURSIVE all below it too, until the connection ends."""

    path: str
    mode: int
    type: ClassVar[int] = 106

    def serialize(self) -> bytes:
        return _string(self.path) + _INT.pack(self.mode)

    @classmethod
    def deserialize(cls, reply: bytes, offset: int) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class ListNames:
    """All children and their parent's Stat in one answer; over-long names come bounded.

    kazoo's own request fails as a whole where one name is not UTF-8.
    """

    path: str
    type: ClassVar[int] = 12

    def serialize(self) -> bytes:
        return _string(self.path) + b"\0"

    @classmethod
    def deserialize(cls, reply: bytes, offset: int) -> tuple[list[str], Stat]:
        (count,) = _INT.unpack_from(reply, offset)
        offset += 4
        names = []
        for _ in range(count):
            (length,) = _INT.unpack_from(reply, offset)
            start, offset = offset + 4, offset + 4 + max(length, 0)
            names.append(cls.name_of(reply[start:offset].decode(errors="replace")))
        return names, Stat(*_STAT.unpack_from(reply, offset))

    @staticmethod
    def name_of(whole: str) -> str:
        return bounded_name(whole)


class ListWholeNames(ListNames):
    """The same with each name as it is, for whoever has to find the node again."""

    @staticmethod
    def name_of(whole: str) -> str:
        return whole


@dataclass(frozen=True, slots=True)
class EndSession:
    """End this session and go on: the client then begins another. kazoo's own ends the client."""

    type: ClassVar[int] = CloseInstance.type

    def serialize(self) -> bytes:
        return b""

    @classmethod
    def deserialize(cls, reply: bytes, offset: int) -> bool:
        return True


def _string(text: str) -> bytes:
    raw = text.encode()
    return _INT.pack(len(raw)) + raw
