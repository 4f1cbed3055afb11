"""Requests that kazoo does not know, or not in this form, as ZooKeeper spells them. Pure.

Must never do: fail as a whole because one name in an answer makes no sense.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

from kazoo.exceptions import EXCEPTIONS
from kazoo.protocol.serialization import CloseInstance, GetData
from kazoo.protocol.states import ZnodeStat

from neti.registry.untrusted import bounded_name

# The kinds of a watch's events, and the modes of a watch.
CREATED: Final = 1
DELETED: Final = 2
CHANGED: Final = 3
PERSISTENT: Final = 0
PERSISTENT_RECURSIVE: Final = 1

_INT: Final = struct.Struct("!i")
_STAT: Final = struct.Struct("!qqqqiiiqiiq")
_PART: Final = struct.Struct("!i?i")  # before each part of a multi: its type, the end, an error
_PART_OF_ANSWER: Final = struct.Struct("!i?ii")  # and the length of its data, or the error again
_END: Final = _PART.pack(-1, True, -1)
_ERROR: Final = -1
_AROUND_PATH: Final = _PART.size + _INT.size + 1  # of one read among many: see ``_get_data``
# A server with jute.maxbuffer at 64 KiB takes this, with room for what one path may add.
_MOST_BYTES: Final = 32_768
# Details have up to 16 KiB each, so an answer has at most 2 MiB where agents wrote all of it.
_MOST_NODES: Final = 128
# But any member can make nodes of 1 MB, where a server lets it.
MOST_ANSWER: Final = 4 * 2**20


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
    """The same with each name as it is, for callers that have to find the node again."""

    @staticmethod
    def name_of(whole: str) -> str:
        return whole


@dataclass(frozen=True, slots=True)
class MultiRead:
    """Data and stat of many nodes in one answer, since ZooKeeper 3.6. What cannot be read is an
    exception in its place. The nodes are not of one moment. An answer of more than MOST_ANSWER
    bytes is not kept (see ``watch``): then each has to be read by itself."""

    paths: tuple[str, ...]
    type: ClassVar[int] = 22

    def serialize(self) -> bytes:
        return b"".join([*map(_get_data, self.paths), _END])

    @classmethod
    def deserialize(cls, reply: bytes, offset: int) -> list[Any] | None:
        """(data, stat) or an exception for each; None: the answer was not kept."""
        if offset == len(reply):
            return None
        found: list[Any] = []
        last = len(reply) - _PART.size  # where the part that ends all of them begins
        while offset < last:
            kind, _, _, number = _PART_OF_ANSWER.unpack_from(reply, offset)
            offset += _PART_OF_ANSWER.size
            if kind == _ERROR:
                found.append(EXCEPTIONS[number]())
                continue
            start, offset = offset, offset + max(number, 0)
            data = reply[start:offset] if number >= 0 else None
            found.append((data, ZnodeStat(*_STAT.unpack_from(reply, offset))))
            offset += _STAT.size
        return found


def reads(paths: Iterable[str]) -> Iterator[MultiRead]:
    """These, in order, in as few requests as fit a server. One path that is too long for that goes
    alone: no server has a node with a name that it would not take."""
    part: list[str] = []
    room = _MOST_BYTES
    for path in paths:
        size = _AROUND_PATH + len(path.encode())
        if part and (size > room or len(part) == _MOST_NODES):
            yield MultiRead(tuple(part))
            part, room = [], _MOST_BYTES
        part.append(path)
        room -= size
    if part:
        yield MultiRead(tuple(part))


@dataclass(frozen=True, slots=True)
class EndSession:
    """End this session and go on: the client then begins another. kazoo's own ends the client."""

    type: ClassVar[int] = CloseInstance.type

    def serialize(self) -> bytes:
        return b""

    @classmethod
    def deserialize(cls, reply: bytes, offset: int) -> bool:
        return True


def _get_data(path: str) -> bytes:
    return _PART.pack(GetData.type, False, -1) + _string(path) + b"\0"


def _string(text: str) -> bytes:
    raw = text.encode()
    return _INT.pack(len(raw)) + raw
