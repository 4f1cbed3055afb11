"""Single connections and datagrams of a drill, from inside a namespace. Never retried."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from neti_lab import namespaces

WAIT: Final = 0.8  # seconds without an answer that count as dropped; less than TCP's first retry

_NOBODY_LISTENS: Final = 9


@contextmanager
def connection(
    namespace: str, to: object, port: int, *, source: object = "", patience: float = WAIT
) -> Iterator[socket.socket]:
    """OSError when it does not come about; TimeoutError when it is dropped."""

    def dial() -> socket.socket:
        return socket.create_connection(
            (str(to), port), patience, (str(source), 0) if source else None
        )

    with namespaces.call_inside(namespace, dial) as made:
        yield made


def alive(made: socket.socket) -> bool:
    """Whether what is sent on it comes back."""
    try:
        made.settimeout(WAIT)
        made.sendall(b"ping")
        return made.recv(4) == b"ping"
    except OSError:
        return False


def reaches(
    namespace: str, to: object, port: int, *, source: object = "", patience: float = WAIT
) -> bool:
    """Whether a new connection comes about and carries something."""
    try:
        with connection(namespace, to, port, source=source, patience=patience) as made:
            return alive(made)
    except OSError:
        return False


def answers(namespace: str, to: object) -> bool:
    """Whether the host is there: that it refuses a port at which nobody listens proves it."""
    try:
        with connection(namespace, to, _NOBODY_LISTENS):
            return True
    except ConnectionRefusedError:
        return True
    except OSError:
        return False


def udp_reaches(namespace: str, to: object, port: int, *, source: object = "") -> bool:
    """Whether a datagram comes back."""
    family = socket.AF_INET6 if ":" in str(to) else socket.AF_INET

    def ask() -> bool:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(WAIT)
            if source:
                sock.bind((str(source), 0))
            try:
                sock.sendto(b"ping", (str(to), port))
                return sock.recv(4) == b"ping"
            except OSError:
                return False

    return namespaces.call_inside(namespace, ask)
