"""Two ends of a conversation, each a process inside a namespace: ``python -m benchmarks.talk``.

    talk server                        accepts on port 7000 and echoes
    talk connect ADDRESS COUNT         connections one by one; prints the microseconds of each
    talk echo ADDRESS COUNT            one byte there and back on one connection; the same
    talk peer ADDRESS -                what getpeername says once it is connected
    talk endless ADDRESS               connections without end; prints time, duration, success

A connection is measured from connect() to its return: the handshake is the kernel's alone, and the
other process has no part in it. It ends by a reset, so that no address runs out of ports.
"""

import contextlib
import json
import os
import socket
import struct
import sys
import threading
import time
from typing import Final

PORT: Final = 7000
_AT_ONCE: Final = struct.pack("ii", 1, 0)
_WARM: Final = 20
_PATIENCE: Final = 5.0


def main() -> int:
    match sys.argv[1:]:
        case ["server"]:
            _serve()
        case ["connect", address, count]:
            os.sched_setaffinity(0, {0})
            times = [_connect(address) for _ in range(_WARM + int(count))]
            print(json.dumps(times[_WARM:]))
        case ["echo", address, count]:
            os.sched_setaffinity(0, {0})
            print(json.dumps(_echo(address, _WARM + int(count))[_WARM:]))
        case ["peer", address, _]:
            with socket.create_connection((address, PORT), _PATIENCE) as connection:
                print(connection.getpeername()[0])
        case ["endless", address]:
            _endless(address)
        case _:
            return 2
    return 0


def _connect(address: str) -> float:
    with socket.socket() as connection:
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        place = (address, PORT)
        began = time.perf_counter_ns()
        connection.connect(place)
        return (time.perf_counter_ns() - began) / 1e9


def _echo(address: str, count: int) -> list[float]:
    times = []
    with socket.create_connection((address, PORT), _PATIENCE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        connection.settimeout(None)
        for _ in range(count):
            began = time.perf_counter_ns()
            connection.send(b"x")
            connection.recv(1)
            times.append((time.perf_counter_ns() - began) / 1e9)
    return times


def _endless(address: str) -> None:
    """Paced, so that it leaves a processor to what it disturbs. Nothing fails without a line."""
    while True:
        at = time.perf_counter()
        began, good = time.perf_counter_ns(), False
        with socket.socket() as connection, contextlib.suppress(OSError):
            connection.settimeout(_PATIENCE)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            connection.connect((address, PORT))
            good = True
        print(f"{at} {(time.perf_counter_ns() - began) / 1e9} {int(good)}", flush=True)
        time.sleep(0.002)


def _serve() -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", PORT))
    listener.listen(4096)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while part := connection.recv(65536):
            connection.sendall(part)


if __name__ == "__main__":
    sys.exit(main())
