"""What is missing in kazoo: persistent recursive watches, and one ordered stream in one thread.

ZooKeeper sends the events of a watch and the answers to requests in one order over one connection.
kazoo reads both in its connection thread and then hands them to different threads, where the order
is lost. It also has no watches on a subtree (request 106, ZooKeeper 3.6). Here events, answers and
states all arrive in the connection thread.

Must never do: block in that thread, or let an exception of a listener end it.
"""

import contextlib
import logging
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionDropped, SessionExpiredError
from kazoo.protocol.connection import STOP_CONNECTING, WATCH_XID, ConnectionHandler
from kazoo.protocol.serialization import CloseInstance, Connect, ReplyHeader
from kazoo.protocol.states import KeeperState
from kazoo.retry import KazooRetry

from neti.model.settings import RegistryTLS
from neti.registry.zookeeper import tls
from neti.registry.zookeeper.requests import MOST_ANSWER, MultiRead
from neti.registry.zookeeper.socket import PatientHandler

# kazoo writes session passwords to its log at its finest level: this logger has no such level.
_LOG: Final = logging.getLogger("neti.registry.kazoo")
_LOG.setLevel(logging.ERROR)

_INT: Final = struct.Struct("!i")
_EVENT: Final = struct.Struct("!iii")
_REPLY_HEADER: Final = struct.Struct("!iqi")
_AT_A_TIME: Final = 65_536  # bytes of an answer that is not kept
_CONNECT_REPLY: Final = struct.Struct("!iii")  # length, protocol version, session time-out
# Seconds between two attempts to connect. So changes are in the kernel 2 s after the registry is
# back, however long it was away.
_LONGEST_PAUSE: Final = 1.0
# A session that is taken up this often within this many seconds is used by two processes.
_FOUGHT_OVER: Final = 6
_FOUGHT_WITHIN: Final = 15.0


class Listener(Protocol):
    """Called in the connection thread only."""

    def on_event(self, kind: int, path: str) -> None: ...

    def on_state(self, state: str) -> None:
        """A kazoo KeeperState."""

    def on_failure(self, reason: str) -> None:
        """A connection attempt failed; the next follows."""

    def on_taken(self) -> None:
        """Another process uses this session: we give it up and begin another one."""


class Reply:
    """Passes on the answer, or an exception, in the thread that has read it."""

    __slots__ = ("_then",)

    def __init__(self, then: Callable[[Any], None]) -> None:
        self._then: Callable[[Any], None] | None = then

    def set(self, value: Any = None) -> None:
        then, self._then = self._then, None  # kazoo may report one failure twice
        if then is not None:
            _guarded(then, value)

    set_exception = set


class StreamClient(KazooClient):  # type: ignore[misc]  # kazoo has no types
    """A kazoo client whose ``listener`` hears everything in order; it never gives up connecting."""

    def __init__(
        self,
        hosts: str,
        listener: Listener,
        *,
        session_seconds: float,
        session: tuple[int, bytes] | None,
        files: RegistryTLS | None = None,
    ) -> None:
        pause = min(session_seconds / 4, _LONGEST_PAUSE)
        # kazoo varies a pause by 40 %, so that this is the longest.
        retry = KazooRetry(max_tries=-1, delay=0.05, max_delay=pause / 1.4)
        super().__init__(
            hosts=hosts,
            timeout=session_seconds,
            client_id=session,
            handler=PatientHandler(session_seconds / 4, files),
            connection_retry=retry,
            logger=_LOG,
        )
        self.listener = listener
        self.files = files
        self.seen = 0  # the newest step (zxid) that an answer came with, in this process
        self._connection = _StreamConnection(self, self._conn_retry.copy(), logger=_LOG)

    @property
    def session(self) -> tuple[int, bytes]:
        """Call it in the connection thread, while connected."""
        return self._session_id, self._session_passwd

    def submit(self, request: Any, then: Callable[[Any], None]) -> object:
        """Send a request; ``then`` gets the answer or an exception, in the connection thread.

        Within that thread not many at a time: kazoo wakes itself through a socket that fills.
        """
        reply = Reply(then)
        self._call(request, reply)
        return reply

    def withdraw(self, reply: object) -> None:
        """Take back a request that is not sent yet."""
        for waiting in tuple(self._queue):
            if waiting[1] is reply:
                try:
                    self._queue.remove(waiting)
                except ValueError:
                    return

    def wait_connected(self, seconds: float) -> bool:
        return bool(self._live.wait(max(0.0, seconds)))

    def finish(self, *, end_session: bool, seconds: float) -> None:
        """Stop, with or without ending the session. kazoo's ``stop`` can only end it."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        if end_session and self.connected:
            self._queue.append((CloseInstance, None))
            self._connection.poke()
            self._connection.connection_stopped.wait(seconds)
        self._connection.drop()
        if self._connection.stop(seconds):
            self._connection.close()
        self.handler.stop()

    def _session_callback(self, state: str) -> None:
        if state == KeeperState.CLOSED and not self._stopped.is_set():
            state = KeeperState.CONNECTING  # its thread broke and begins anew, with its session
        changed = state != self._state
        super()._session_callback(state)
        if changed:
            _guarded(self.listener.on_state, state)


class _StreamConnection(ConnectionHandler):  # type: ignore[misc]  # as above
    """Reads watch events for the listener, and can be dropped without ending the session."""

    _connection_routine: threading.Thread | None
    _turned_away_since: float | None = None

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._resumed: deque[float] = deque(maxlen=_FOUGHT_OVER)

    def zk_loop(self) -> None:
        """Runs until stopped. If it is out of memory or descriptors for a moment, it starts again,
        because nobody else would restart it."""
        while True:
            try:
                super().zk_loop()
            except InterruptedError:
                return  # stopped in a pause between two attempts
            except Exception as error:
                with contextlib.suppress(Exception):  # what is missing may be missing here too
                    self._broke(error)
            else:
                return
            with contextlib.suppress(Exception):
                if self.client._stopped.wait(_LONGEST_PAUSE):
                    return

    def _broke(self, error: Exception) -> None:
        _LOG.exception("event=zookeeper_thread_broke")
        words = getattr(error, "strerror", None) or type(error).__name__
        _guarded(
            self.client.listener.on_failure,
            f"the connection to ZooKeeper broke off ({words}) and is made again",
        )

    def drop(self) -> None:
        """After ``_stopped``: end the connection, if there is one."""
        connection = self._socket
        if connection is not None:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                return

    def poke(self) -> None:
        try:
            self._write_sock.send(b"\0")
        except OSError:
            return

    def stop(self, timeout: float | None = None) -> bool:
        # kazoo's waits for its thread without a limit.
        stopped = bool(self.connection_stopped.wait(timeout))
        if stopped and self._connection_routine is not None:
            self._connection_routine.join(timeout)
            self._connection_routine = None
        return stopped

    def _connect_attempt(self, host: str, hostip: str, port: int, retry: Any) -> Any:
        if self.client._stopped.is_set():
            return STOP_CONNECTING
        try:
            status = super()._connect_attempt(host, hostip, port, retry)
        except Exception as error:  # kazoo's thread would end here, and nobody would notice
            _LOG.exception("event=zookeeper_connection_failed")
            _guarded(self.client.listener.on_failure, f"internal error: {error!r}")
            self.client._session_callback(KeeperState.CONNECTING)
            status = None
        return STOP_CONNECTING if self.client._stopped.is_set() else status

    def _invoke(self, timeout: float, request: Any, xid: int | None = None) -> Any:
        # A server that is just starting may accept and never answer (3.8.0 does), and kazoo would
        # wait for that until the session is over.
        patience = self.client._session_timeout / 1000 / 4
        return super()._invoke(min(timeout, patience), request, xid)

    def _connect(self, host: str, hostip: str, port: int) -> Any:
        if self._is_fought_over():
            _guarded(self.client.listener.on_taken)
            raise SessionExpiredError("another process uses this session")
        session_id = self.client._session_id
        try:
            connected = super()._connect(host, hostip, port)
        except Exception as error:  # told and raised again: kazoo decides what it means
            files = self.client.files
            insecure = tls.refusal(error, files) if files is not None else None
            text = insecure or _in_words(error, secure=files is not None)
            _guarded(self.client.listener.on_failure, f"ZooKeeper at {host}:{port}: {text}")
            dropped = isinstance(error, ConnectionDropped) and insecure is None
            if dropped and self._is_turned_away(host, hostip, port):
                raise SessionExpiredError("this server can never take the session back") from error
            raise
        self._turned_away_since = None
        if session_id and self.client._session_id == session_id:
            self._resumed.append(time.monotonic())
        if self.client._stopped.is_set():
            self.drop()  # there was no socket to drop yet when we were stopped
        return connected

    def _is_fought_over(self) -> bool:
        """Whether the session was taken up again and again within a few seconds. A server gives a
        session to one connection, and closes the one that had it before: two processes with the
        same session would take it from each other for ever."""
        resumed, now = self._resumed, time.monotonic()
        if len(resumed) < _FOUGHT_OVER or now - resumed[0] > _FOUGHT_WITHIN:
            return False
        resumed.clear()
        return True

    def _is_turned_away(self, host: str, hostip: str, port: int) -> bool:
        """Whether the server serves others, but has not served us for a whole session time-out.

        A server closes the connection of a client that has seen a later state than its own. One
        that was wiped or restored from an older copy does so for ever. One without a quorum does it
        to all clients, which proves nothing.
        """
        now = time.monotonic()
        if self._turned_away_since is None:
            self._turned_away_since = now
        if now - self._turned_away_since < self.client._session_timeout / 1000:
            return False
        self._turned_away_since = now  # not at every attempt
        return self._serves_a_new_client(host, hostip, port)

    def _serves_a_new_client(self, host: str, hostip: str, port: int) -> bool:
        client = self.client
        try:
            sock = self.handler.create_connection(
                address=(hostip, port),
                hostname=host,
                timeout=client._session_timeout / 1000.0,
                use_ssl=client.use_ssl,
                keyfile=client.keyfile,
                certfile=client.certfile,
                ca=client.ca,
                keyfile_password=client.keyfile_password,
                verify_certs=client.verify_certs,
                check_hostname=client.check_hostname,
            )
            with sock:
                sock.settimeout(client._session_timeout / 4000)
                hello = Connect(0, 0, client._session_timeout, 0, bytes(16), False).serialize()
                sock.sendall(_INT.pack(len(hello)) + hello)
                reply = sock.recv(_CONNECT_REPLY.size)
                if len(reply) < _CONNECT_REPLY.size:
                    return False
                _, _, granted = _CONNECT_REPLY.unpack(reply)
                # It made a session for this: close it again.
                sock.sendall(_INT.pack(8) + _INT.pack(1) + _INT.pack(CloseInstance.type))
                return bool(granted > 0)
        except (OSError, client.handler.timeout_exception):
            return False

    def _read_header(self, timeout: float) -> Any:
        """Like kazoo's, but reads and drops an answer about many nodes that is too long."""
        (length,) = _INT.unpack(self._read(_INT.size, timeout))
        pending = self.client._pending
        asked = pending[0][0] if pending else None
        kept = length
        if length > MOST_ANSWER and isinstance(asked, MultiRead):
            kept = _REPLY_HEADER.size
        raw = self._read(kept, timeout)
        left = length - kept
        while left > 0:
            left -= len(self._read(min(left, _AT_A_TIME), timeout))
        header, offset = ReplyHeader.deserialize(raw, 0)
        if header.zxid > 0 and header.xid != WATCH_XID:
            self.client.seen = header.zxid
        return header, raw, offset

    def _read_watch_event(self, buffer: bytes, offset: int) -> None:
        kind, _state, length = _EVENT.unpack_from(buffer, offset)
        start = offset + _EVENT.size
        path = buffer[start : start + max(length, 0)].decode(errors="replace")
        if not self.client._stopped.is_set():
            _guarded(self.client.listener.on_event, kind, path)


def _in_words(error: BaseException, *, secure: bool = True) -> str:
    """kazoo says "socket connection error: None" for errors without a number, such as time-outs,
    and "socket connection broken" for a server that hangs up."""
    cause = error.__context__
    if isinstance(error, ConnectionDropped) and isinstance(cause, OSError):
        if isinstance(cause, TimeoutError):
            return "no answer in time"
        return cause.strerror or str(cause) or type(cause).__name__
    if isinstance(error, ConnectionDropped):
        tls_port = "" if secure else ", or expects TLS (registry_tls)"
        return (
            "the server ended the connection: it serves nobody now, has too many clients "
            f"(maxClientCnxns){tls_port}"
        )
    return str(error) or type(error).__name__


def _guarded(function: Callable[..., None], *arguments: Any) -> None:
    try:
        function(*arguments)
    except Exception:  # the listener's fault must not end kazoo's connection thread
        _LOG.exception("event=registry_listener_failed")
