"""Listening sockets in bad company: slow, many, silent; and with no descriptor left."""

import errno
import json
import resource
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from neti.agent import responder
from neti.agent.exporting import Exporter
from neti.agent.responder import TRANSFER_BYTES, Responder
from neti.control import accepting
from neti.control.accepting import Acceptor, Connection
from neti.control.client import AgentStarting, call
from neti.control.protocol import SOCKET_NAME
from neti.control.server import ControlServer, Request
from neti.control.trouble import Trouble
from neti.errors import NetiError


def wait(true: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.01)


def connected(port: int, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0))


def closed(connection: socket.socket, seconds: float = 10.0) -> bool:
    connection.settimeout(seconds)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def echo(connection: Connection, _source: str) -> None:
    while part := connection.receive():
        connection.send(part)


@contextmanager
def acceptor(
    serve: Callable[[Connection, str], None] = echo, **more: Any
) -> Iterator[tuple[int, list[Trouble]]]:
    listener = socket.create_server(("127.0.0.1", 0))
    port = int(listener.getsockname()[1])
    told: list[Trouble] = []
    limits: dict[str, Any] = {"seconds": 0.5, "at_once": 4, "per_source": 2} | more
    running = Acceptor("test", listener, serve, tell=told.append, **limits)
    running.start()
    try:
        yield port, told
    finally:
        running.close()


def test_a_connection_has_one_deadline_for_all_of_it() -> None:
    """However slowly it trickles in: it does not get more time than another."""
    with acceptor() as (port, _), connected(port) as slow:
        served = 0
        with suppress(OSError):
            while served < 50:
                slow.sendall(b"x")
                if not slow.recv(1):
                    break
                served += 1
                time.sleep(0.1)
        assert served <= 6  # in half a second


def test_who_does_not_take_its_answer_is_let_go() -> None:
    def gushes(connection: Connection, _source: str) -> None:
        connection.send(bytes(64 << 20))

    with acceptor(gushes) as (port, _), connected(port) as deaf:
        wait(lambda: _reset(deaf))


def _reset(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"x")
    except OSError:
        return True
    time.sleep(0.05)
    return False


def test_one_source_does_not_get_all_places() -> None:
    with acceptor(seconds=5) as (port, _), ExitStack() as held:
        for _ in range(2):
            held.enter_context(connected(port, "127.0.0.2")).sendall(b"x")
        wait(lambda: closed(held.enter_context(connected(port, "127.0.0.2")), 1))
        with connected(port, "127.0.0.3") as another:
            another.sendall(b"x")
            assert another.recv(1) == b"x"


def test_a_place_is_free_again_when_its_connection_is_over() -> None:
    with acceptor(at_once=1) as (port, _):
        for _ in range(5):
            with connected(port) as one:
                one.sendall(b"x")
                assert one.recv(1) == b"x"
                one.shutdown(socket.SHUT_WR)
                assert closed(one)
                time.sleep(0.05)


def test_whatever_a_connection_raises_the_next_one_is_served() -> None:
    def breaks(connection: Connection, _source: str) -> None:
        if connection.receive() == b"break":
            raise ZeroDivisionError
        connection.send(b"ok")

    with acceptor(breaks) as (port, _):
        for said, answer in ((b"break", b""), (b"x", b"ok")):
            with connected(port) as one:
                one.sendall(said)
                assert one.recv(2) == answer


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EPERM, errno.ECONNABORTED])
def test_the_listener_survives_every_error_of_accept(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It pauses, says so, and takes it back once a connection is served."""
    monkeypatch.setattr(accepting, "_PAUSE", 0.01)
    listener = socket.create_server(("127.0.0.1", 0))
    failing = threading.Event()
    failing.set()

    class Failing:
        def accept(self) -> Any:
            if failing.is_set():
                time.sleep(0.01)
                raise OSError(number, "as the kernel says it")
            return listener.accept()

        def __getattr__(self, name: str) -> Any:
            return getattr(listener, name)

    told: list[Trouble] = []
    socket_like: Any = Failing()
    running = Acceptor(
        "test", socket_like, echo, seconds=5, at_once=4, per_source=4, tell=told.append
    )
    running.start()
    try:
        if number == errno.ECONNABORTED:
            time.sleep(0.1)
            assert told == []
        else:
            code = "thread" if number == errno.EPERM else "descriptors"
            wait(lambda: any(t.code == code and t.sentence for t in told))
        failing.clear()
        with connected(listener.getsockname()[1]) as one:
            one.sendall(b"x")
            assert one.recv(1) == b"x"
        wait(lambda: not told or told[-1].sentence is None)
    finally:
        running.close()


def test_the_last_descriptors_are_the_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that would take one of them is closed, and that is a problem."""
    used = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(accepting, "RESERVED_DESCRIPTORS", 10)
    with acceptor(seconds=5, at_once=1000, per_source=1000) as (port, told), ExitStack() as held:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 40, hard))
        try:
            for _ in range(200):
                if not told:
                    held.enter_context(connected(port))
                    time.sleep(0.02)
            wait(lambda: any(t.code == "descriptors" and t.sentence for t in told))
            with ExitStack() as own:
                for _ in range(5):
                    own.enter_context(Path("/dev/null").open())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_slow_members_do_not_keep_the_responder_from_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(responder, "SECONDS", 1.0)
    answering = Responder(0, "i-1", lambda address: address != IPv4Address("127.0.0.9"))
    answering.start()
    try:
        with ExitStack() as held:
            for number in range(80):
                held.enter_context(connected(answering.port, f"127.0.1.{number % 2}"))
            assert verified(answering.port)["id"] == "i-1"
            assert closed(held.enter_context(connected(answering.port, "127.0.0.9")))
        wait(lambda: verified(answering.port)["id"] == "i-1")
    finally:
        answering.close()


def verified(port: int) -> dict[str, str]:
    with connected(port) as one:
        one.sendall(bytes(TRANSFER_BYTES))
        received = bytearray()
        while b"\n" not in received:
            part = one.recv(1000)
            assert part
            received += part
        line, _, rest = bytes(received).partition(b"\n")
        left = TRANSFER_BYTES - len(rest)
        while left:
            part = one.recv(left)
            assert part
            left -= len(part)
    answer: dict[str, str] = json.loads(line)
    return answer


def test_many_scrapes_are_one_question_and_odd_requests_are_answered() -> None:
    asked: list[None] = []

    def render() -> bytes:
        asked.append(None)
        return b"neti_up 1\n"

    exporter = Exporter("127.0.0.1:0", render)
    try:
        where = f"http://127.0.0.1:{exporter.port}"
        for _ in range(20):
            with urllib.request.urlopen(f"{where}/metrics?x=1", timeout=20) as answer:
                assert answer.read() == b"neti_up 1\n"
        assert len(asked) <= 3
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{where}/other", timeout=20)
        with pytest.raises(urllib.error.HTTPError, match="405"):
            urllib.request.urlopen(f"{where}/metrics", data=b"x", timeout=20)
        for odd in (b"\r\n\r\n", b"\xff\x00\r\n\r\n", b"GET " + b"x" * 40_000, b"GET\r\n\r\n"):
            with connected(exporter.port) as one:
                with suppress(OSError):
                    one.sendall(odd)
                with suppress(OSError):
                    one.recv(100)
        with urllib.request.urlopen(f"{where}/metrics", timeout=20) as answer:
            assert answer.status == 200
    finally:
        exporter.close()


ODD: list[Any] = [
    5,
    [],
    {},
    {"command": 5},
    {"command": None},
    {"command": "enforce", "arguments": [1]},
    {"command": "enforce", "arguments": "x"},
    {"command": "enforce", "arguments": {"seconds": "abc"}},
    {"command": "enforce", "arguments": {"seconds": 1e999}},
    {"command": "enforce", "arguments": {"seconds": float("nan")}},
    {"command": "enforce", "arguments": {"seconds": -5}},
    {"command": "enforce", "arguments": {"seconds": 0}},
    {"command": "enforce", "arguments": {"seconds": True}},
    {"command": "enforce", "arguments": {"seconds": 10**400}},
    {"command": "enforce", "arguments": {"wait": "yes"}},
    {"command": "enforce", "arguments": {"session": "x"}},
    {"command": "enforce", "arguments": {"at once": True}},
    {"command": "release", "arguments": {"ids": 5}},
    {"command": "release", "arguments": {"ids": "i-1"}},
    {"command": "release", "arguments": {"ids": [5]}},
    {"command": "release", "arguments": {"ids": [""]}},
    {"command": "preview", "arguments": {"all": 1}},
    {"command": "enforce", "arguments": {"anyway": 1}},
    {"command": "relax", "arguments": {"until": "soon"}},
    {"command": "relax", "arguments": {"until": True}},
    {"command": "relax", "arguments": {"until": float("nan")}},
    {"command": "relax", "arguments": {"until": float("inf")}},
    {"command": "relax", "arguments": {"until": 10**400}},
    {"command": "status", "arguments": {"x": 1}},
    {"command": "status", "until": "soon"},
    {"command": "status", "until": float("inf")},
    {"command": "status", "until": 10**400},
    {"command": "status", "until": True},
]


@pytest.mark.parametrize("asked", ODD, ids=repr)
def test_odd_requests_are_answered_and_told_to_nobody(asked: Any, tmp_path: Path) -> None:
    told: list[Request] = []
    server = ControlServer(tmp_path, told.append)
    server.start()
    server.open()
    try:
        answer = raw(tmp_path, json.dumps(asked).encode() + b"\n")
        assert "not a request" in answer["error"]
        assert answer["error"].isprintable()
        assert told == []
        assert "not a request" in raw(tmp_path, b"[" * 60_000 + b"\n")["error"]
        assert "not a request" in raw(tmp_path, b"\xff\xfe\n")["error"]
    finally:
        server.close()


def raw(folder: Path, sent: bytes) -> dict[str, str]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.settimeout(20)
        one.connect(str(folder / SOCKET_NAME))
        one.sendall(sent)
        answer: dict[str, str] = json.loads(one.makefile("rb").readline())
        return answer


def test_an_agent_that_starts_says_what_it_waits_for(tmp_path: Path) -> None:
    told: list[Request] = []
    server = ControlServer(tmp_path, told.append)
    server.start()
    try:
        server.waits_for("the metadata service does not answer")
        with pytest.raises(AgentStarting, match="the metadata service does not answer"):
            call(tmp_path, "status")
        assert told == []
        server.open()

        def loop() -> None:
            wait(lambda: told)
            told[0].succeed({"id": "i-1"})

        threading.Thread(target=loop, daemon=True).start()
        assert call(tmp_path, "status") == {"id": "i-1"}
        with pytest.raises(NetiError, match="expected a whole number from 5 to 86400"):
            call(tmp_path, "enforce", seconds=3)
    finally:
        server.close()


def test_an_agent_that_ends_takes_away_its_own_socket_and_no_other(tmp_path: Path) -> None:
    """A second agent may have begun, after the folder was emptied under the first."""
    first = ControlServer(tmp_path, lambda _: None)
    first.start()
    for held in tmp_path.iterdir():
        held.unlink()
    second = ControlServer(tmp_path, lambda _: None)
    second.start()
    first.close()
    assert (tmp_path / SOCKET_NAME).is_socket()
    second.close()
    assert not (tmp_path / SOCKET_NAME).exists()
