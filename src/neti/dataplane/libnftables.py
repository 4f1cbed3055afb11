"""nft's own compiler in a process of its own: rules in, netlink messages out. The only door to it.

The library opens one socket, to the kernel. We replace it by one end of a pair, and the other end
plays a kernel that holds nothing. So the library neither reads nor writes anybody's tables and
needs no privilege; what it would have sent goes to standard output. It may hang or crash: its
parent, ``compiler``, turns that into a sentence.

With a command as its argument it prints instead: standard input has the messages in which a real
kernel told what it holds, and standard output gets what the library says to the command.

Run as a file, by a Python that has not loaded Neti. Flags are those of nftables/libnftables.h.

Must never do: let a message of the library reach the kernel.
"""

import contextlib
import ctypes
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator

_LIBRARY = "libnftables.so.1"
_BUFFER = 1 << 24
_HEADER = struct.Struct("=IHHII")
_SOCKADDR_NL_BYTES = 12  # the library believes only what comes from an address of this length
_GETGEN, _NEWGEN = 10 << 8 | 16, 10 << 8 | 15
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_ERROR, _DONE = 2, 3
_MULTI, _ACK, _DUMP = 0x2, 0x4, 0x300
_GETSETELEM = 10 << 8 | 13
_NFGEN_BYTES, _ELEMENTS_OF = 4, 2  # NFTA_SET_ELEM_LIST_SET
_AT_ONCE = 1 << 15  # bytes in one datagram, which the library's buffer takes
# NFT_CTX_OUTPUT_STATELESS: no values of counters. NFT_CTX_OUTPUT_HANDLE: each rule has its number.
_OUTPUT = 1 << 2 | 1 << 3
NO_LIBRARY, REFUSED = 3, 4  # exit codes


def main() -> int:
    """Reads nft commands from standard input. Exit codes: see above, 0 is success."""
    given = sys.stdin.buffer.read()
    printing = len(sys.argv) > 1
    text, holds = (sys.argv[1].encode(), given) if printing else (given, b"")
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        _say(str(error).encode())
        return NO_LIBRARY
    _declare(library)
    before = _sockets()
    context = library.nft_ctx_new(0)
    opened = _sockets() - before
    if not context or len(opened) != 1:
        _say(b"the library opened %d sockets where it opened one so far" % len(opened))
        return REFUSED
    kernel = _Played(opened.pop(), holds)
    library.nft_ctx_buffer_error(context)
    library.nft_ctx_buffer_output(context)
    if printing:
        library.nft_ctx_output_set_flags(context, _OUTPUT)
    code = library.nft_run_cmd_from_buffer(context, text)
    said: bytes = library.nft_ctx_get_error_buffer(context) or b""
    batch = kernel.close()
    if code != 0:
        _say(said)
        return REFUSED
    printed: bytes = library.nft_ctx_get_output_buffer(context) or b""
    sys.stdout.buffer.write(printed if printing else batch)
    sys.stdout.buffer.flush()
    return 0


def _say(what: bytes) -> None:
    os.write(2, what)  # to the parent, which turns it into a sentence


def _declare(library: ctypes.CDLL) -> None:
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_new.restype = ctypes.c_void_p
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    for name in ("nft_ctx_get_error_buffer", "nft_ctx_get_output_buffer"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
        getattr(library, name).restype = ctypes.c_char_p
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    library.nft_ctx_output_set_flags.restype = None
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.nft_run_cmd_from_buffer.restype = ctypes.c_int


def _sockets() -> set[int]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                found.add(int(name))
    return found


class _Played:
    """Plays a kernel in place of the socket with this number. It holds what the messages ``holds``
    say, and takes no change."""

    def __init__(self, number: int, holds: bytes) -> None:
        self._holds = list(_messages(holds))
        self._end, library = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for one in (self._end, library):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        name = b"\0" + os.urandom(5).hex()[: _SOCKADDR_NL_BYTES - 3].encode()
        self._end.bind(name)
        os.dup2(library.fileno(), number)
        os.set_blocking(number, True)
        library.close()
        self._number = number
        self._batch = bytearray()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> bytes:
        """What the library wanted the kernel to do."""
        os.close(self._number)
        self._thread.join()
        return bytes(self._batch)

    def _serve(self) -> None:
        while datagram := self._end.recv(_BUFFER):
            answers = b""
            for each in self._answers(datagram):
                if len(answers) + len(each) > _AT_ONCE:
                    self._end.send(answers)
                    answers = b""
                answers += each
            if answers:
                self._end.send(answers)

    def _answers(self, datagram: bytes) -> "list[bytes]":
        answers: list[bytes] = []
        in_batch = False
        for kind, flags, sequence, port, message in _messages(datagram):
            in_batch = in_batch or kind == _BATCH_BEGIN
            if in_batch:
                self._batch += message + b"\0" * (-len(message) % 4)
                if flags & _ACK:
                    answers.append(_acknowledged(message, sequence, port))
                in_batch = kind != _BATCH_END
            elif kind == _GETGEN:
                generation = struct.pack("=BBHHH", 0, 0, 0, 8, 1) + struct.pack(">I", 1)
                answers.append(_message(_NEWGEN, 0, sequence, port, generation))
                answers.append(_done(sequence, port))
            elif flags & _DUMP == _DUMP:
                answers += [
                    _message(kind - 1, _MULTI, sequence, port, body)
                    for body in self._held(kind, message)
                ]
                answers.append(_done(sequence, port))
            elif found := self._held(kind, message):  # the table is asked for by its name
                answers.append(_message(kind - 1, 0, sequence, port, found[0]))
                if flags & _ACK:
                    answers.append(_acknowledged(message, sequence, port))
            else:  # one thing asked for by its name: it is not there
                answers.append(_message(_ERROR, 0, sequence, port, _word(-2) + message[:16]))
        return answers

    def _held(self, asked: int, question: bytes) -> "list[bytes]":
        """What answers the question: a kind of message has the number before its question's."""
        found = [message[_HEADER.size :] for kind, *_, message in self._holds if kind == asked - 1]
        if asked != _GETSETELEM:
            return found
        which = _attribute(question[_HEADER.size :], _ELEMENTS_OF)
        return [body for body in found if _attribute(body, _ELEMENTS_OF) == which]


def _messages(datagram: bytes) -> Iterator[tuple[int, int, int, int, bytes]]:
    """Type, flags, sequence and port of each message, and all of it."""
    offset = 0
    while offset + _HEADER.size <= len(datagram):
        length, kind, flags, sequence, port = _HEADER.unpack_from(datagram, offset)
        if length < _HEADER.size:
            return
        yield kind, flags, sequence, port, datagram[offset : offset + length]
        offset += (length + 3) & ~3


def _attribute(body: bytes, wanted: int) -> bytes:
    offset = _NFGEN_BYTES
    while offset + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, offset)
        if length < 4:
            break
        if kind & 0x3FFF == wanted:
            return body[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return b""


def _message(kind: int, flags: int, sequence: int, port: int, body: bytes) -> bytes:
    length = _HEADER.size + len(body)
    return _HEADER.pack(length, kind, flags, sequence, port) + body + b"\0" * (-length % 4)


def _done(sequence: int, port: int) -> bytes:
    return _message(_DONE, 2, sequence, port, _word(0))


def _acknowledged(message: bytes, sequence: int, port: int) -> bytes:
    return _message(_ERROR, 0, sequence, port, _word(0) + message[:16])


def _word(number: int) -> bytes:
    return struct.pack("=i", number)


if __name__ == "__main__":
    sys.exit(main())
