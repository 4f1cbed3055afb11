"""nft's own compiler in a process of its own: rules in, netlink messages out. The only door to it.

The library opens one socket, to the kernel. That one is replaced here by one end of a pair, whose
other end plays a kernel that holds nothing: so the library neither reads nor writes anybody's
tables, needs no privilege, and what it would have sent is written to standard output. It may hang
or crash: ``compiler`` is its parent, and makes a sentence of that.

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

_LIBRARY = "libnftables.so.1"
_BUFFER = 1 << 24
_HEADER = struct.Struct("=IHHII")
_SOCKADDR_NL_BYTES = 12  # what the library takes for an answer of the kernel comes from such a one
_GETGEN, _NEWGEN = 10 << 8 | 16, 10 << 8 | 15
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_ERROR, _DONE = 2, 3
_ACK, _DUMP = 0x4, 0x300
NO_LIBRARY, REFUSED = 3, 4  # exit codes


def main() -> int:
    """Reads nft commands from standard input. Exit codes: see above, 0 is success."""
    text = sys.stdin.buffer.read()
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
    kernel = _Nothing(opened.pop())
    library.nft_ctx_buffer_error(context)
    library.nft_ctx_buffer_output(context)
    code = library.nft_run_cmd_from_buffer(context, text)
    said: bytes = library.nft_ctx_get_error_buffer(context) or b""
    batch = kernel.close()
    if code != 0:
        _say(said)
        return REFUSED
    sys.stdout.buffer.write(batch)
    sys.stdout.buffer.flush()
    return 0


def _say(what: bytes) -> None:
    os.write(2, what)  # to the parent, who makes a sentence of it


def _declare(library: ctypes.CDLL) -> None:
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_new.restype = ctypes.c_void_p
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    library.nft_ctx_get_error_buffer.argtypes = [ctypes.c_void_p]
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.nft_run_cmd_from_buffer.restype = ctypes.c_int


def _sockets() -> set[int]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                found.add(int(name))
    return found


class _Nothing:
    """Plays a kernel without tables, in place of the socket with this number."""

    def __init__(self, number: int) -> None:
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
        """What the library would have had the kernel do."""
        os.close(self._number)
        self._thread.join()
        return bytes(self._batch)

    def _serve(self) -> None:
        while datagram := self._end.recv(_BUFFER):
            answers = b"".join(self._answers(datagram))
            if answers:
                self._end.send(answers)

    def _answers(self, datagram: bytes) -> "list[bytes]":
        answers: list[bytes] = []
        offset = 0
        in_batch = False
        while offset + _HEADER.size <= len(datagram):
            length, kind, flags, sequence, port = _HEADER.unpack_from(datagram, offset)
            if length < _HEADER.size:
                break
            message = datagram[offset : offset + length]
            offset += (length + 3) & ~3
            in_batch = in_batch or kind == _BATCH_BEGIN
            if in_batch:
                self._batch += message + b"\0" * (-length % 4)
                if flags & _ACK:
                    answers.append(_acknowledged(message, sequence, port))
                in_batch = kind != _BATCH_END
            elif kind == _GETGEN:
                generation = struct.pack("=BBHHH", 0, 0, 0, 8, 1) + struct.pack(">I", 1)
                answers.append(_message(_NEWGEN, 0, sequence, port, generation))
                answers.append(_done(sequence, port))
            elif flags & _DUMP == _DUMP:
                answers.append(_done(sequence, port))
            else:  # one thing asked for by its name: it is not there
                answers.append(_message(_ERROR, 0, sequence, port, _word(-2) + message[:16]))
        return answers


def _message(kind: int, flags: int, sequence: int, port: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, port) + body


def _done(sequence: int, port: int) -> bytes:
    return _message(_DONE, 2, sequence, port, _word(0))


def _acknowledged(message: bytes, sequence: int, port: int) -> bytes:
    return _message(_ERROR, 0, sequence, port, _word(0) + message[:16])


def _word(number: int) -> bytes:
    return struct.pack("=i", number)


if __name__ == "__main__":
    sys.exit(main())
