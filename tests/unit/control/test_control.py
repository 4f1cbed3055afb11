"""The socket by which commands talk to the agent."""

import errno
import json
import queue
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neti import files
from neti.control import client, protocol, server
from neti.control.client import AgentSilent, AgentStarting, AgentUnreachable
from neti.control.protocol import SOCKET_NAME
from neti.control.server import ControlServer, Request
from neti.errors import NetiError
from neti.state import lock

# An agent that stops at once when it is asked to leave, while the thread that answers is slow.
STOPS = """
import queue, sys, time
from pathlib import Path
from neti.control.server import ControlServer, Request
wait = Request.wait
Request.wait = lambda self: (wait(self), time.sleep(0.3))[0]
told = queue.SimpleQueue()
server = ControlServer(Path(sys.argv[1]), told.put)
server.start()
server.open()
told.get().succeed("left")
server.close()
"""


def test_who_asks_the_agent_to_stop_is_answered(tmp_path: Path) -> None:
    """The program does not end before its last answer is given."""
    agent = subprocess.Popen([sys.executable, "-c", STOPS, str(tmp_path)])
    deadline = time.monotonic() + 20
    while True:
        try:
            assert client.call(tmp_path, "leave") == "left"
            break
        except AgentUnreachable as error:
            begins = isinstance(error, AgentStarting) or "no agent is running" in str(error)
            if not begins or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    assert agent.wait(20) == 0


def send(folder: Path, command: str, **more: object) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(str(folder / SOCKET_NAME))
    connection.sendall(json.dumps({"command": command, **more}).encode() + b"\n")
    return connection


def test_an_agent_whose_folder_takes_no_socket_is_reached_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that is full or read-only; the fault says where it is."""
    monkeypatch.setattr(protocol, "RUN", tmp_path / "run")
    folder = tmp_path / "state"
    (folder / SOCKET_NAME).mkdir(parents=True)
    with pytest.raises(AgentUnreachable, match="no agent is running"):
        client.call(folder, "status")
    server = ControlServer(folder, lambda request: request.succeed("well"))
    server.start()
    server.open()
    assert server.fault is not None
    assert str(server.path) in server.fault
    assert server.path.stat().st_mode & 0o777 == 0o600
    assert client.call(folder, "status") == "well"
    with pytest.raises(AgentUnreachable, match="no agent is running"):
        client.call(tmp_path, "status")  # it is not another's
    server.close()
    assert not server.path.exists()


def test_what_a_killed_agent_left_beside_the_folder_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the next one of the same folder; another's stays."""
    monkeypatch.setattr(protocol, "RUN", tmp_path / "run")
    (tmp_path / "run").mkdir()
    folder = tmp_path / "state"
    folder.mkdir()
    stale, others = protocol.spare_socket(folder), protocol.spare_socket(tmp_path / "other")
    for path in (stale, others):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as killed:
            killed.bind(str(path))
    server = ControlServer(folder, lambda request: request.succeed("well"))
    assert (stale.exists(), others.exists()) == (False, True)
    server.start()
    server.close()


@pytest.mark.parametrize("replaced", [False, True])
def test_lock_and_socket_are_made_again_in_an_emptied_folder(
    tmp_path: Path, replaced: bool
) -> None:
    """Emptied, or removed as a whole: no second agent begins, and commands reach this one."""
    folder = tmp_path / "state"
    folder.mkdir()
    server = ControlServer(folder, lambda request: request.succeed("well"))
    server.start()
    server.open()
    assert server.taken_away() == []
    for name in ("agent.lock", SOCKET_NAME):
        (folder / name).unlink()
    if replaced:
        folder.rename(tmp_path / "former")
        folder.mkdir()
    assert server.taken_away() == ["agent.lock", SOCKET_NAME]
    server.make_again()
    assert server.taken_away() == []
    assert client.call(folder, "status") == "well"
    with pytest.raises(NetiError, match="another agent is running"), lock.only_one(folder):
        pass
    server.close()


def test_in_a_folder_that_cannot_be_written_there_is_one_agent_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(path: Path, _flags: int, _mode: int) -> int:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(files, "open_or_create", read_only)
    with (
        lock.only_one(tmp_path),
        pytest.raises(NetiError, match="another agent is running"),
        lock.only_one(tmp_path),
    ):
        pass


def test_an_emptied_folder_in_which_another_agent_has_begun_stays_its_own(tmp_path: Path) -> None:
    """Two agents, one folder: the second one's lock and socket are not taken away from it."""
    first = ControlServer(tmp_path, lambda request: request.succeed("first"))
    first.start()
    first.open()
    for name in ("agent.lock", SOCKET_NAME):
        (tmp_path / name).unlink()
    second = ControlServer(tmp_path, lambda request: request.succeed("second"))
    second.start()
    second.open()
    with pytest.raises(NetiError, match="another agent is running"):
        first.make_again()
    assert client.call(tmp_path, "status") == "second"
    second.close()
    first.close()


def test_what_a_caller_has_given_up_is_not_taken_up(tmp_path: Path) -> None:
    """Accepted late or lying in the queue: it has failed, as its caller was told or saw."""
    told: queue.SimpleQueue[Request] = queue.SimpleQueue()
    server = ControlServer(tmp_path, told.put)
    server.start()
    server.open()
    try:
        with pytest.raises(AgentSilent, match="'neti relax' and 'neti down' work without it"):
            client.call(tmp_path, "enforce", within=0.3)
        assert not told.get(timeout=5).take()
        send(tmp_path, "confirm").close()
        interrupted = told.get(timeout=5)
        assert not interrupted.take()
        with send(tmp_path, "late", until=time.monotonic() - 1):
            assert not told.get(timeout=5).take()
        with send(tmp_path, "relax", until=time.monotonic() + 30):
            assert told.get(timeout=5).take()
    finally:
        server.close()


def test_requests_are_told_in_the_order_in_which_they_were_accepted(tmp_path: Path) -> None:
    told: queue.SimpleQueue[Request] = queue.SimpleQueue()
    server = ControlServer(tmp_path, told.put)
    server.start()
    server.open()
    first = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    first.connect(str(server.path))
    second = send(tmp_path, "relax")
    time.sleep(0.2)
    first.sendall(b'{"command": "enforce"}\n')
    try:
        assert [told.get(timeout=5).command for _ in range(2)] == ["enforce", "relax"]
    finally:
        first.close()
        second.close()
        server.close()


def test_what_was_answered_as_failed_is_not_done_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Either the loop takes it or the answer says that nothing was done, never both."""
    monkeypatch.setattr(server, "ANSWER_SECONDS", 0.01)
    request = Request("enforce", {})
    assert "did not answer" in request.wait()["error"]
    assert not request.take()
    begun = Request("enforce", {})
    assert begun.take()
    assert "began this and did not finish it" in begun.wait()["error"]
