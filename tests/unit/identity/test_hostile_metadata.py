"""Whatever answers in the metadata service's place: each answer ends, in time, as IdentityError."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.examples import share_of
from tests.support.recorder import PATIENCE

from neti.errors import IdentityError
from neti.identity.ec2 import Ec2Source
from neti.identity.imds import MetadataClient
from neti.identity.source import SourceSilent

Behave = Callable[[socket.socket], None]


@contextmanager
def answering(behave: Behave) -> Iterator[str]:
    """An endpoint at which each connection is handed to ``behave`` once a request is read."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.recv(65536)
                behave(connection)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def client(endpoint: str, timeout: float = 0.2, patience: float = 30.0) -> MetadataClient:
    return MetadataClient(endpoint, timeout=timeout, patience=patience, sleep=lambda _seconds: None)


def sends(answer: bytes) -> Behave:
    return lambda connection: connection.sendall(answer)


def trickles(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n")
    while True:
        connection.sendall(b"a")
        time.sleep(0.05)


def trickles_its_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def never_ends(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"a" * 65536)


def goes_on_continuing(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "behave",
    [
        sends(CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n"),
        sends(CHUNKED + b"ffffffffffffffff\r\nhello"),
        sends(CHUNKED + b"zz\r\nhello\r\n"),
        sends(CHUNKED + b"1\r\na\r\n" * 50_000),
        sends(HEAD + b"Content-Length: -1\r\n\r\nhello"),
        sends(HEAD + b"Content-Length: 99999999999999999999\r\n\r\nhello"),
        sends(HEAD + b"".join(b"H%d: x\r\n" % n for n in range(5000)) + b"\r\n"),
        sends(HEAD + b"H: " + b"x" * 1_000_000 + b"\r\n\r\n"),
        sends(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
        sends(b"HTTP/1.1 999999 OK\r\n\r\n"),
        sends(b"\xff\xfe\x00\x1b]0;hello\x07\r\n\r\n"),
        sends(b""),
        sends(HEAD + b"Content-Length: 4\r\n\r\n\xff\xfe\x1b\x00"),
        trickles,
        trickles_its_headers,
        never_ends,
        goes_on_continuing,
    ],
)
def test_a_hostile_answer_is_an_error_in_time(behave: Behave) -> None:
    """Nothing but IdentityError, printable, and no later than its four tries may take."""
    with answering(behave) as endpoint:
        begun = time.monotonic()
        with pytest.raises(IdentityError) as caught:
            Ec2Source(client(endpoint)).read()
        assert time.monotonic() - begun < PATIENCE
        assert str(caught.value).isprintable()


def test_all_that_is_asked_ends_in_time_however_often_it_fails() -> None:
    """A service that is slow with each answer does not add up to minutes."""
    tries = []

    def noted(connection: socket.socket) -> None:
        tries.append(connection)
        trickles(connection)

    with answering(noted) as endpoint:
        asked = client(endpoint, timeout=0.3, patience=0.5)
        for _ in range(5):
            with pytest.raises(SourceSilent):
                asked.get("/latest/meta-data/instance-id")
    assert len(tries) <= 2  # in half a second, of 20


@settings(max_examples=share_of(100), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=200), st.sampled_from([b"", HEAD, CHUNKED, HEAD + b"\r\n"]))
def test_no_bytes_raise_anything_else(answer: bytes, before: bytes) -> None:
    with answering(sends(before + answer)) as endpoint, suppress(IdentityError):
        client(endpoint).get("/latest/meta-data/instance-id")
