"""The agent's side of the control socket (see ``neti.control.protocol``).

A connection's thread only puts a Request on the loop's queue and waits for the answer: the loop
stays the one who decides. Until the loop runs, every request is answered with what the agent is
waiting for.

Must never do: hand the loop a request whose arguments are not of their types.
"""

import contextlib
import json
import math
import os
import queue
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from neti import log
from neti.control import requests
from neti.control.accepting import Acceptor, Connection, read_line
from neti.control.protocol import (
    ANSWER_SECONDS,
    LOOKS,
    SOCKET_NAME,
    WITHOUT_IT,
    socket_name,
    spare_socket,
)
from neti.control.trouble import Trouble
from neti.host import caller as origin
from neti.state import lock

_LAST_ANSWERS: Final = 1.0  # seconds, when the agent stops
_ON_ITS_WAY: Final = 1.0  # seconds before the caller gives up, so that an answer still gets there
_TURN: Final = 1.0  # seconds that a request waits for one before it that was not sent whole yet
_REQUEST_SECONDS: Final = 10.0  # for all of a request
_AT_ONCE: Final = 64
_MAX_REQUEST: Final = 65536
_MAX_PLACE: Final = 100  # characters


def _never() -> bool:
    return False


def _one() -> "queue.SimpleQueue[None]":
    made: queue.SimpleQueue[None] = queue.SimpleQueue()
    made.put(None)
    return made


@dataclass(frozen=True, slots=True)
class Request:
    """What a command asks for. ``until``: CLOCK_MONOTONIC seconds, when its caller gives up;
    ``hung_up``: whether it has gone before that.

    Either the loop takes it up or it is given up, never both: what a caller was told has failed is
    not done later.
    """

    command: str
    arguments: dict[str, Any]
    until: float = math.inf
    hung_up: Callable[[], bool] = _never
    caller: str = ""  # who asks, and from where; for people
    _answer: "queue.SimpleQueue[dict[str, Any]]" = field(default_factory=queue.SimpleQueue)
    _whose: "queue.SimpleQueue[None]" = field(default_factory=_one)

    @property
    def looks(self) -> bool:
        """Whether it changes nothing."""
        return self.command in LOOKS

    def take(self) -> bool:
        """For the loop: whether the caller still waits for this to be done."""
        if time.monotonic() >= self.until or self.hung_up():
            return False
        return self._first()

    def _first(self) -> bool:
        try:
            self._whose.get_nowait()
        except queue.Empty:
            return False
        return True

    def succeed(self, result: Any) -> None:
        self._answer.put({"result": result})

    def fail(self, message: str, exit_code: int = 1) -> None:
        self._answer.put({"error": message, "exit_code": exit_code})

    def wait(self) -> dict[str, Any]:
        try:
            return self._answer.get(timeout=ANSWER_SECONDS)
        except queue.Empty:
            waited = f"in {ANSWER_SECONDS:.0f} s"
        if self._first() or self.looks:
            return {"error": f"the agent did not answer {waited}\n{WITHOUT_IT}"}
        return {"error": f"the agent began this and did not finish it {waited}\n→ neti status"}


class ControlServer:
    """Answers from ``start`` to ``close``; from ``open`` on by the loop."""

    def __init__(
        self,
        folder: Path,
        tell: Callable[[Request], None],
        trouble: Callable[[Trouble], None] = lambda _trouble: None,
    ) -> None:
        self._folder = folder
        self.path = folder / SOCKET_NAME
        self._tell = tell
        self._trouble = trouble
        self._waits_for: str | None = "it has just begun"
        self._lock = lock.acquire(folder)
        self._told_before = threading.Event()  # the request before the next one was told
        self._told_before.set()
        self._answering, self._answered = 0, threading.Condition()
        self._turns: dict[int, tuple[threading.Event, threading.Event]] = {}
        self.fault: str | None = None  # why there is no socket in the folder
        self._place: os.stat_result | None = None  # of the socket that was made; None: of none
        self._bind_anew()

    def start(self) -> None:
        if self._place is None:
            return
        self._socket.listen(16)
        self._acceptor.start()

    def taken_away(self) -> list[str]:
        """What of the lock and the socket is not in its place any more: somebody has emptied the
        folder, or put another there."""
        gone = [] if lock.is_still_there(self._folder, self._lock) else ["agent.lock"]
        if self._place is not None:
            try:
                there = os.path.samestat(self._place, self.path.lstat())
            except OSError:
                there = False
            gone += [] if there else [self.path.name]
        return gone

    def make_again(self) -> None:
        """Lock and socket, in the folder as it is now. Raises NetiError when another agent has
        begun there meanwhile; this one is then as it was."""
        if not lock.is_still_there(self._folder, self._lock):
            before, self._lock = self._lock, lock.acquire(self._folder)
            os.close(before)
        former = self._acceptor
        self.fault, self.path = None, self._folder / SOCKET_NAME
        self._bind_anew()
        self.start()
        former.close()

    def _bind_anew(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._place = self.path.lstat() if self._bind_somewhere(self._folder) else None
        self._acceptor = Acceptor(
            "control socket",
            self._socket,
            self._serve,
            seconds=_REQUEST_SECONDS,
            at_once=_AT_ONCE,
            per_source=_AT_ONCE,
            tell=self._trouble,
            accepted=self._give_turn,
        )

    def waits_for(self, what: str) -> None:
        """What stands between the agent and its loop, for whoever asks meanwhile."""
        self._waits_for = what

    def open(self) -> None:
        """The loop is about to run: requests are its own from here."""
        self._waits_for = None

    def close(self) -> None:
        self._acceptor.close()
        with contextlib.suppress(OSError):
            # Another agent may have made its own there, after the folder was emptied.
            if self._place is not None and os.path.samestat(self._place, self.path.lstat()):
                self.path.unlink()
        # The answer to what made the agent stop (leave) is on its way: the program waits for it.
        with self._answered:
            self._answered.wait_for(lambda: not self._answering, _LAST_ANSWERS)
        os.close(self._lock)

    def _bind_somewhere(self, folder: Path) -> bool:
        """A disk that is full or read-only takes no socket. The host keeps its rules all the same,
        so its operators must be able to ask what is the matter."""
        try:
            self._bind()
            self._remove_spare(folder)
            return True
        except OSError as error:
            self.fault = f"{self.path}: cannot be made ({error.strerror})"
        self.path = spare_socket(folder)
        try:
            with contextlib.suppress(FileExistsError):
                self.path.parent.mkdir(mode=0o755)
            self._bind()
            self.fault += f": commands reach the agent by {self.path}"
        except OSError as error:
            self.fault += f", nor {self.path} ({error.strerror}): no command reaches the agent"
            log.error("no_control_socket", what=self.fault)
            return False
        log.warning("control_socket_elsewhere", what=self.fault)
        return True

    @staticmethod
    def _remove_spare(folder: Path) -> None:
        """What an earlier agent of this folder left when it was killed. The lock says that no
        other one runs. No reason to fail."""
        with contextlib.suppress(OSError):
            spare_socket(folder).unlink()

    def _bind(self) -> None:
        self.path.unlink(missing_ok=True)
        before = os.umask(0o177)  # there must be no moment in which others may connect
        try:
            with socket_name(self.path) as name:
                self._socket.bind(name)
        finally:
            os.umask(before)

    def _give_turn(self, connection: Connection) -> None:
        """In the thread that accepts: the order is that in which they were accepted."""
        told = threading.Event()
        self._turns[id(connection)] = (self._told_before, told)
        self._told_before = told

    def _serve(self, connection: Connection, _source: str) -> None:
        with self._answered:
            self._answering += 1
        before, told = self._turns.pop(id(connection))
        try:
            answer = self._answer(connection, before, told)
            connection.extend(ANSWER_SECONDS)
            connection.send(json.dumps(answer).encode() + b"\n")
        finally:
            told.set()
            with self._answered:
                self._answering -= 1
                self._answered.notify_all()

    def _answer(
        self, connection: Connection, before: threading.Event, told: threading.Event
    ) -> dict[str, Any]:
        try:
            asked = json.loads(read_line(connection, _MAX_REQUEST))
            request = _request(asked, connection.socket)
        except (ValueError, RecursionError) as error:
            return {"error": f"not a request: {error}", "exit_code": 2}
        if self._waits_for is not None:
            return {"error": f"the agent is starting: {self._waits_for}", "starting": True}
        before.wait(_TURN)
        _log(request, connection.socket, asked)
        self._tell(request)
        told.set()
        return request.wait()


def _request(asked: Any, connection: socket.socket) -> Request:
    """The caller's clock is this machine's: an agent that slept knows how long it was waited for,
    however late it accepts. Raises ValueError."""
    if not isinstance(asked, dict) or not isinstance(asked.get("command"), str):
        raise ValueError("expected an object with the key command")
    said = asked.get("arguments")
    if said is not None and not isinstance(said, dict):
        raise ValueError("arguments: expected an object")
    command, until = asked["command"], requests.deadline(asked.get("until")) - _ON_ITS_WAY
    arguments = requests.checked(command, said or {})

    def hung_up() -> bool:
        poll = select.poll()
        poll.register(connection, 0)  # closed, not only half
        try:
            return any(found & (select.POLLHUP | select.POLLERR) for _, found in poll.poll(0))
        except (OSError, ValueError):
            return True

    caller = ", ".join(f"{key} {value}" for key, value in _who(connection, asked).items())
    return Request(command, arguments, until, hung_up, caller)


def _log(request: Request, connection: socket.socket, asked: Any) -> None:
    """Who changes what, and from where. Read-only requests are not logged."""
    if not request.looks:
        log.info("command", command=request.command, **_who(connection, asked))


def _who(connection: socket.socket, asked: Any) -> dict[str, Any]:
    size = struct.calcsize("3i")
    pid, uid, _ = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return {"uid": uid, "pid": pid, "login": origin.login(pid), **_place(asked.get("place"))}


def _place(said: Any) -> dict[str, str]:
    """As the command itself found it: root may read what the agent's user may not."""
    found = said if isinstance(said, dict) else {}
    return {key: str(found.get(key, "none"))[:_MAX_PLACE] for key in ("terminal", "ssh")}
