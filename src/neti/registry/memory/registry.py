"""One session with a registry in this process's memory: the same contract as the real ones.

Must never do: behave better than a real one; the contract tests hold it against them.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from neti.errors import IdentityHeld, RegistryError, RegistryUnavailable
from neti.registry import (
    SETTING_NAMES,
    VERSIONS,
    Detail,
    Event,
    Fresh,
    HostChanged,
    HostRead,
    Origin,
    Question,
    Session,
    SessionEnded,
    SessionTaken,
    SettingName,
    SettingRead,
    Sink,
    Snapshot,
    Stale,
)
from neti.registry.detail import MAX_DETAIL_BYTES
from neti.registry.leases import (
    candidates,
    check_inside,
    check_move,
    exhausted,
    moved_from_nobody,
    moved_while_registered,
)
from neti.registry.memory.server import Holder, MemoryServer
from neti.registry.record import HostRecord, may_take
from neti.registry.untrusted import (
    bounded_data,
    bounded_name,
    bounded_setting,
    identity_held,
    key_taken,
    name_taken,
)

# Former entries of one session that may stand, as with ZooKeeper.
MOST_STANDING: Final = 8


class MemoryRegistry:
    """One session with a ``MemoryServer``. See ``neti.registry.Registry``."""

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
        # The server's fleet and change count that the sink's picture stands for.
        self._seen = ("", -1)
        self._told: dict[SettingName, bytes | None] = {}
        self._hosts = False  # HostChanged is told

    # --- the agent's side ---

    def watch(self, sink: Sink, *, hosts: bool = False) -> None:
        with self._server._step():
            if self._sink is not None:
                raise RegistryError("this registry is watched already: open another one")
            self._sink, self._hosts = sink, hosts
            self._server._registries.append(self)
            if self._server._down or self._cut:
                self._events.append(Stale("the registry is down"))
            else:
                self._connect()

    def ask(self, questions: Iterable[Question]) -> None:
        with self._server._step():
            if self._connected:
                self._events.extend(map(self._server._answer, questions))

    def relist(self) -> None:
        with self._server._step():
            self._seen = ("", -1)
            self._told.clear()
            if self._connected:
                self._connect()

    def acquire(
        self, host_id: str, subnet: IPv4Network, *, prefer: IPv4Address | None = None
    ) -> IPv4Address:
        with self._call():
            held = self._lease(host_id)
            if held is not None:
                return check_inside(host_id, held, subnet)
            for overlay in candidates(host_id, subnet, self._server._leases, prefer=prefer):
                self._server._leases[overlay] = host_id
                return overlay
            raise exhausted(host_id, subnet)

    def register(
        self,
        *,
        host_id: str,
        name: str,
        data: bytes,
        detail: bytes,
        replaces: str | None = None,
        overlay: IPv4Address | None = None,
        machine: str = "",
        key: str = "",
    ) -> None:
        server = self._server
        with self._call():
            held = server._records.get(host_id)
            if server.rights:
                former = {replaces or "", held.record.word if held is not None else ""}
                self._leave_standing(former - {name})
            session_id = self._live_session().id
            holder, alive = server._holders.get(host_id), server._alive(host_id)
            way = may_take(
                held.record if held is not None else None,
                alive=alive is not None,
                own_session=alive is not None and alive.session_id == session_id,
                machine=machine,
            )
            another = holder is not None and holder.session_id != session_id
            # Where there are rights anybody could make the document, and the record is the lock.
            if way == "held" or (way == "free" and another and not server.rights):
                holding = holder.session_id if holder is not None else session_id
                raise identity_held(host_id, holding, holder.detail if holder is not None else b"")
            present = server._names.get(name)
            if present is not None and (present is not alive or way != "ours"):
                raise name_taken(name)
            if present is None and (refusal := server._refusal(host_id, self._owner)):
                raise refusal
            if present is None and key and server._keys.get(key, host_id) != host_id:
                raise key_taken(key, server._keys[key].encode())
            if not (server.rights and another):
                server._holders[host_id] = Holder(session_id, detail, self._owner)
            if present is None:
                step = next(server._steps)
                record = HostRecord(overlay=overlay, word=name, machine=machine, key=key)
                if key:
                    server._keys[key] = host_id
                server._write_record(host_id, record, step)
                server._owners.setdefault(host_id, self._owner)
                server._add(name, session_id, data, step)
            if server.rights:
                return
            if replaces is not None and replaces != name and self._owns(replaces, session_id):
                server._drop(replaces)
            if way in ("ours", "same machine") and held and held.record.word != name:
                server._drop(held.record.word)

    def describe(self, host_id: str, detail: bytes) -> None:
        with self._call():
            session_id = self._live_session().id
            holder, alive = self._server._holders.get(host_id), self._server._alive(host_id)
            ours = holder is not None and holder.session_id == session_id
            if not ours and (alive is None or alive.session_id != session_id):
                raise RegistryError(f"{host_id} is not registered by this agent: register it first")
            if holder is None:
                self._server._holders[host_id] = Holder(session_id, detail, self._owner)
            elif ours or not self._server.rights:
                holder.session_id, holder.detail, holder.owner = session_id, detail, self._owner

    def leave(self, *, host_id: str, name: str, departure: str) -> None:
        server = self._server
        with self._call():
            session_id = self._live_session().id
            if server.rights:
                self._leave_by_session(host_id, name, departure)
                return
            holder = server._holders.get(host_id)
            if holder is not None and holder.session_id != session_id:
                raise identity_held(host_id, holder.session_id, holder.detail)
            if name in server._names:  # else this call is a repetition
                server._drop(departure)  # said before a return: this one must be heard
            if departure not in server._names:
                step = next(server._steps)
                held = server._records.get(host_id)
                before = held.record if held is not None else HostRecord()
                server._write_record(host_id, replace(before, word=departure), step)
                server._add(departure, session_id, b"", step)
            if self._owns(name, session_id):
                server._drop(name)
            server._holders.pop(host_id, None)

    def _leave_standing(self, names: Iterable[str]) -> None:
        """Members may delete nothing. Now and then the session ends, and they go with it."""
        session_id = self._live_session().id
        self._standing = {n for n in {*self._standing, *names} if self._owns(n, session_id)}
        if len(self._standing) > MOST_STANDING:
            self._server._end(session_id)

    def _leave_by_session(self, host_id: str, name: str, departure: str) -> None:
        """Members delete nothing: the record and another session say goodbye, and this one ends."""
        server, session_id = self._server, self._live_session().id
        alive = server._alive(host_id)
        if alive is not None and alive.session_id not in (session_id, self._farewell):
            raise identity_held(host_id, alive.session_id, b"")
        if departure in server._names and name not in server._names:
            return  # a repetition
        if refusal := server._refusal(host_id, self._owner):
            raise refusal
        held = server._records.get(host_id)
        record = replace(held.record if held is not None else HostRecord(), word=departure)
        server._write_record(host_id, record, next(server._steps))
        server._owners.setdefault(host_id, self._owner)
        if self._farewell is None:
            self._farewell = next(server._ids)
            server._sessions[self._farewell] = Session(self._farewell, b"farewell")
        if departure not in server._names:
            server._add(departure, self._farewell, b"")
        server._end(session_id)

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

    # --- the operator's side ---

    def names(self) -> frozenset[str]:
        with self._call():
            return frozenset(map(bounded_name, self._server._names))

    def data(self, names: Iterable[str]) -> dict[str, bytes]:
        with self._call():
            present = self._server._names
            return {name: bounded_data(present[name].data) for name in names if name in present}

    def details(self, host_ids: Iterable[str] | None = None) -> list[Detail]:
        wanted = None if host_ids is None else set(host_ids)
        with self._call():
            holders = sorted(self._server._holders.items())
            return [
                Detail(i, held.detail[:MAX_DETAIL_BYTES])
                for i, held in holders
                if wanted is None or i in wanted
            ]

    def leases(self) -> Mapping[IPv4Address, str]:
        with self._call():
            return dict(self._server._leases)

    def lease_of(self, host_id: str) -> IPv4Address | None:
        with self._call():
            return self._lease(host_id)

    def records(self, host_ids: Iterable[str] | None = None) -> Mapping[str, HostRead]:
        server = self._server
        with self._call():
            wanted = server._records if host_ids is None else host_ids
            return {i: server._host_read(i) for i in wanted if i in server._records}

    def made(self, names: Iterable[str]) -> Mapping[str, int]:
        with self._call():
            present = self._server._names
            return {name: present[name].made for name in names if name in present}

    def unreadable(self) -> frozenset[str]:
        return frozenset()

    def release(self, host_id: str) -> IPv4Address | None:
        with self._call():
            if self._server._registered(host_id):
                raise IdentityHeld(
                    f"{host_id} is registered: its agent has to leave before its lease is released"
                )
            overlay = self._lease(host_id)
            if overlay is not None:
                del self._server._leases[overlay]
                self._server._tell_moved(overlay, host_id)
            self._server._give_up_key(host_id)
            kept = HostRecord() if self._server.admission else None
            if host_id in self._server._records:
                self._server._write_record(host_id, kept, next(self._server._steps))
            return overlay

    def move(
        self, old: str, new: str, *, force: bool = False
    ) -> tuple[IPv4Address, IPv4Address | None]:
        check_move(old, new)
        with self._call():
            overlay, former = self._lease(old), self._lease(new)
            if overlay is None:
                raise moved_from_nobody(old)
            if self._server._registered(old) and not force:
                raise moved_while_registered(old)
            if former is not None:
                del self._server._leases[former]
            del self._server._leases[overlay]  # its place in the order is that of the move
            self._server._leases[overlay] = new
            if old in self._server._records:
                self._server._give_up_key(old)
                self._server._write_record(old, HostRecord(), next(self._server._steps))
            self._server._tell_moved(overlay, new)
            return overlay, former

    def setting(self, setting: SettingName) -> bytes | None:
        with self._call():
            value = self._server._settings.get(setting)
            return bounded_setting(setting, value) if value is not None else None

    def change_setting(self, setting: SettingName, value: bytes | None) -> None:
        with self._call():
            if value is None:
                self._server._settings.pop(setting, None)
            else:
                self._server._settings[setting] = value
            for registry in self._server._registries:
                registry._tell_settings()

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
            self._seen = (self._server.fleet, self._server.changes)

    def _connect(self) -> None:
        known = self._server._sessions.get(self._session.id) if self._session is not None else None
        if self._session is not None and known != self._session:
            self._session = None
            self._events.append(SessionEnded())
        elif self._session is not None and not self._attached:
            self._take_up(self._session)
        self._attached = True
        self._connected = True
        if self._seen != (self._server.fleet, self._server.changes):
            self._seen = (self._server.fleet, self._server.changes)
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
