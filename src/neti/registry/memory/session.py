"""One session with a registry in memory, and what both sides' calls are made of.

Must never do: behave better than a real one; the contract tests hold it against them.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

from neti.errors import RegistryError, RegistryUnavailable
from neti.registry import (
    SETTING_NAMES,
    VERSIONS,
    Event,
    Fresh,
    HostChanged,
    Origin,
    Session,
    SessionEnded,
    SessionTaken,
    SettingName,
    SettingRead,
    Sink,
    Snapshot,
    Stale,
)
from neti.registry.memory.server import MemoryServer
from neti.registry.untrusted import (
    bounded_name,
    bounded_setting,
)


class OneSession:
    """What both sides share. Thread-safe."""

    def __init__(
        self, server: MemoryServer, *, session: Session | None = None, owner: str = ""
    ) -> None:
        """``owner``: by which certificate it comes, where the server has rights."""
        self._server = server
        self._owner = owner
        self._standing: set[str] = set()  # former entries of this session, which may not be deleted
        self._farewell: int | None = None  # the session that says goodbye, where none is deleted
        self._session = session
        self._sink: Sink | None = None
        self._events: deque[Event] = deque()
        self._delivering = False
        self._connected = False
        self._cut = False
        self._gone = False
        self._attached = False  # the session given to the constructor was taken up
        # The server's fleet, course and change count that the sink's picture stands for.
        self._seen = ("", 0, -1)
        self._told: dict[SettingName, bytes | None] = {}
        self._hosts = False  # HostChanged is told

    def detach(self) -> None:
        with self._server._step():
            self._retire()

    def close(self) -> None:
        with self._server._step():
            session, reachable = self._session, not (self._server._down or self._cut)
            self._retire()
            for number in (session.id if session is not None else None, self._farewell):
                if number is not None and reachable:
                    self._server._end(number)

    # --- with the server's lock held ---

    @contextmanager
    def _call(self) -> Iterator[None]:
        with self._server._step():
            if self._gone:
                raise RegistryError("this registry was closed: open a new one")
            if self._server._down or self._cut:
                raise RegistryUnavailable("the registry is down: try again")
            yield

    def _live_session(self) -> Session:
        if self._session is None or self._session.id not in self._server._sessions:
            number = next(self._server._ids)
            self._session = Session(number, b"password-%d" % number)
            self._server._sessions[number] = self._session
        return self._session

    def _owns(self, name: str, session_id: int) -> bool:
        held = self._server._names.get(name)
        return held is not None and held.session_id == session_id

    def _lease(self, host_id: str) -> IPv4Address | None:
        return next((o for o, i in self._server._leases.items() if i == host_id), None)

    def _hear(self, event: Event) -> None:
        if self._connected and (self._hosts or not isinstance(event, HostChanged)):
            self._events.append(event)
            self._seen = self._server.at

    def _connect(self) -> None:
        known = self._server._sessions.get(self._session.id) if self._session is not None else None
        if self._session is not None and known != self._session:
            self._session = None
            self._events.append(SessionEnded())
        elif self._session is not None and not self._attached:
            self._take_up(self._session)
        self._attached = True
        self._connected = True
        if self._seen != self._server.at:
            if self._seen[0] != self._server.fleet:
                self._told.clear()
            self._seen = self._server.at
            names = frozenset(map(bounded_name, self._server._names))
            origin = Origin(self._server.fleet, self._server.changes % VERSIONS)
            self._events.append(Snapshot(names, origin))
        self._tell_settings()
        self._events.append(Fresh(self._live_session()))

    def _take_up(self, session: Session) -> None:
        """Two never share one."""
        for other in self._server._registries:
            if other is not self and other._session == session:
                other._suspend(session.id)
                other._session = None
                other._events.append(SessionTaken())
                other._connect()

    def _tell_settings(self) -> None:
        if not self._connected:
            return
        for setting in SETTING_NAMES:
            value = self._server._settings.get(setting)
            value = bounded_setting(setting, value) if value is not None else None
            if setting not in self._told or self._told[setting] != value:
                self._told[setting] = value
                self._events.append(SettingRead(setting, value))

    def _disconnect(self, reason: str) -> None:
        self._cut = True
        if self._connected:
            self._connected = False
            self._events.append(Stale(reason))

    def _reconnect(self) -> None:
        self._cut = False
        if self._sink is not None and not self._connected and not self._server._down:
            self._connect()

    def _suspend(self, session_id: int) -> bool:
        """Hear nothing while this session ends; whether it is this registry's at all."""
        ours = self._connected and self._session is not None and self._session.id == session_id
        if ours:
            self._connected = False
            self._events.append(Stale("the session has ended"))
        return ours

    def _retire(self) -> None:
        self._gone = True
        self._connected = False
        self._events.clear()
        if self in self._server._registries:
            self._server._registries.remove(self)

    def _deliver(self) -> None:
        """Hand over what is waiting, in order, without the lock; one thread at a time."""
        while True:
            with self._server._lock:
                if self._delivering or not self._events or self._sink is None:
                    return
                self._delivering = True
                event = self._events.popleft()
            try:
                self._sink(event)
            finally:
                self._delivering = False
