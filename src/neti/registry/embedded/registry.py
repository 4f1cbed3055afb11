"""A registry in a file, for many agents on one machine: SQLite in WAL mode.

The calls are here; the thread is in ``embedded_watch``, what is on disk in ``embedded_files``.

Must never do: leave a state behind, at whatever instruction it is killed, that others stumble over.
"""

import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from neti.clock import Clock, SystemClock
from neti.errors import IdentityHeld, RegistryError, RegistryUnavailable
from neti.model.entry import encode_moved
from neti.registry import Detail, HostRead, Session, SettingName, Sink
from neti.registry.detail import MAX_DETAIL_BYTES
from neti.registry.embedded.files import Files
from neti.registry.embedded.store import (
    add_lease,
    add_name,
    all_leases,
    all_names,
    drop_lease,
    drop_name,
    explained,
    log_change,
    made_in,
    read_record,
    reading,
    renew_name,
    write_record,
    writing,
)
from neti.registry.embedded.watch import Watcher, host_read
from neti.registry.leases import (
    candidates,
    check_inside,
    check_move,
    exhausted,
    moved_from_nobody,
    moved_while_registered,
)
from neti.registry.record import HostId, HostRecord, decode, encode, may_take
from neti.registry.untrusted import (
    bounded_data,
    bounded_name,
    bounded_setting,
    host_id_text,
    identity_held,
    name_taken,
)


class EmbeddedRegistry:
    """One session with the registry in the file ``path``. See ``neti.registry.Registry``.

    Without ``watch`` nothing renews the session: it lives for its time-out after the last call.
    """

    def __init__(
        self,
        path: Path,
        *,
        session: Session | None = None,
        session_seconds: float = 30.0,
        clock: Clock | None = None,
        timeout: float = 10.0,
        make: bool = True,
    ) -> None:
        """``make`` False: the files must be there."""
        self._path = path
        self._make = make
        self._seconds = session_seconds
        self._clock = clock or SystemClock()
        self._timeout = timeout
        self._session = session
        self._attached = False  # the session given to the constructor was taken up
        self._taker = secrets.token_bytes(16)
        self._watcher: Watcher | None = None
        self._files: Files | None = None
        self._gone = False
        self._lock = threading.RLock()

    # --- the agent's side ---

    def watch(self, sink: Sink, *, hosts: bool = False) -> None:
        with self._lock:
            self._check_open()
            if self._watcher is not None:
                raise RegistryError("this registry is watched already: open another one")
            self._watcher = Watcher(
                self._open_files,
                sink,
                session=self._session,
                session_seconds=self._seconds,
                clock=self._clock,
                hosts=hosts,
            )
            self._watcher.start()

    def ask_leases(self, overlays: Iterable[IPv4Address]) -> None:
        if self._watcher is not None:
            self._watcher.ask(overlays)

    def ask_data(self, names: Iterable[str]) -> None:
        if self._watcher is not None:
            self._watcher.ask(names)

    def ask_hosts(self, host_ids: Iterable[str]) -> None:
        if self._watcher is not None:
            self._watcher.ask(map(HostId, host_ids))

    def relist(self) -> None:
        if self._watcher is not None:
            self._watcher.relist()

    def acquire(
        self, host_id: str, subnet: IPv4Network, *, prefer: IPv4Address | None = None
    ) -> IPv4Address:
        with self._writing() as files:
            held = _lease_of(files, host_id)
            if held is not None:
                return check_inside(host_id, held, subnet)
            taken = {IPv4Address(row[0]) for row in _rows(files, "SELECT overlay FROM leases")}
            for overlay in candidates(host_id, subnet, taken, prefer=prefer):
                add_lease(files.store, int(overlay), host_id)
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
    ) -> None:
        session = self._live_session()
        self._reap()
        with self._writing() as files:
            self._check_alive(files, session)
            former = self._make_way(files, host_id, session.id, machine)
            present = _rows(files, "SELECT session FROM names WHERE name = ?", name)
            ours = bool(present) and present[0][0] == session.id
            if present and not (ours and self._vouched(files, host_id, name)):
                raise name_taken(name)
            files.store.execute("INSERT OR IGNORE INTO owners VALUES (?)", (session.id,))
            files.store.execute(
                "INSERT OR REPLACE INTO holders VALUES (?, ?, ?)", (host_id, session.id, detail)
            )
            if not present:
                record = HostRecord(overlay=overlay, word=name, machine=machine)
                step = write_record(files.store, host_id, encode(record))
                add_name(files.store, name, session.id, data, step=step)
            if former is not None and former[0] != name:
                drop_name(files.store, *former)
            if replaces is not None and replaces != name:
                drop_name(files.store, replaces, session.id)
        files.ring()

    def describe(self, host_id: str, detail: bytes) -> None:
        session = self._live_session()
        with self._writing() as files:
            changed = files.store.execute(
                "UPDATE holders SET detail = ? WHERE host_id = ? AND session = ?",
                (detail, host_id, session.id),
            )
            if not changed.rowcount:
                raise RegistryError(f"{host_id} is not registered by this agent: register it first")

    def leave(self, *, host_id: str, name: str, departure: str) -> None:
        session = self._live_session()
        self._reap()
        with self._writing() as files:
            self._check_alive(files, session)
            self._make_way(files, host_id, session.id, "")
            files.store.execute("INSERT OR IGNORE INTO owners VALUES (?)", (session.id,))
            if _rows(files, "SELECT 1 FROM names WHERE name = ?", name):
                # A departure beside a name is that of an earlier leave, before a return: watchers
                # must hear this one.
                step = _say(files, host_id, departure)
                renew_name(files.store, departure, session.id, step=step)
            elif not made_in(files.store, departure):
                step = _say(files, host_id, departure)
                add_name(files.store, departure, session.id, b"", step=step)
            drop_name(files.store, name, session.id)
            files.store.execute("DELETE FROM holders WHERE host_id = ?", (host_id,))
        files.ring()

    def detach(self) -> None:
        self._retire(end=False)

    def close(self) -> None:
        self._retire(end=True)

    # --- the operator's side ---

    def names(self) -> frozenset[str]:
        with self._reading() as files:
            return frozenset(map(bounded_name, all_names(files.store)))

    def data(self, names: Iterable[str]) -> dict[str, bytes]:
        with self._reading() as files:
            found = {}
            for name in names:
                for (data,) in _rows(files, "SELECT data FROM names WHERE name = ?", name):
                    found[name] = bounded_data(data)
            return found

    def details(self, host_ids: Iterable[str] | None = None) -> list[Detail]:
        wanted = None if host_ids is None else set(host_ids)
        with self._reading() as files:
            rows = _rows(files, "SELECT host_id, detail FROM holders ORDER BY host_id")
            return [
                Detail(host_id, detail[:MAX_DETAIL_BYTES])
                for host_id, detail in rows
                if wanted is None or host_id in wanted
            ]

    def leases(self) -> Mapping[IPv4Address, str]:
        with self._reading() as files:
            held = all_leases(files.store)
            return {IPv4Address(overlay): host_id_text(host.encode()) for overlay, host in held}

    def lease_of(self, host_id: str) -> IPv4Address | None:
        with self._reading() as files:
            return _lease_of(files, host_id)

    def records(self, host_ids: Iterable[str] | None = None) -> Mapping[str, HostRead]:
        with self._reading() as files:
            wanted = host_ids
            if wanted is None:
                wanted = [row[0] for row in _rows(files, "SELECT host_id FROM records")]
            found = (host_read(files, host_id) for host_id in wanted)
            return {one.host_id: one for one in found if one.written}

    def made(self, names: Iterable[str]) -> Mapping[str, int]:
        with self._reading() as files:
            return {name: step for name in names if (step := made_in(files.store, name))}

    def unreadable(self) -> frozenset[str]:
        return frozenset()

    def release(self, host_id: str) -> IPv4Address | None:
        self._reap()
        with self._writing() as files:
            if _rows(files, "SELECT 1 FROM holders WHERE host_id = ?", host_id):
                raise IdentityHeld(
                    f"{host_id} is registered: its agent has to leave before its lease is released"
                )
            overlay = _lease_of(files, host_id)
            drop_lease(files.store, host_id)
            if read_record(files.store, host_id) is not None:
                write_record(files.store, host_id, None)
            if overlay is not None:
                _tell_moved(files, overlay, host_id)
        files.ring()
        return overlay

    def move(
        self, old: str, new: str, *, force: bool = False
    ) -> tuple[IPv4Address, IPv4Address | None]:
        check_move(old, new)
        self._reap()
        with self._writing() as files:
            overlay, former = _lease_of(files, old), _lease_of(files, new)
            if overlay is None:
                raise moved_from_nobody(old)
            if not force and _rows(files, "SELECT 1 FROM holders WHERE host_id = ?", old):
                raise moved_while_registered(old)
            drop_lease(files.store, old)
            drop_lease(files.store, new)
            add_lease(files.store, int(overlay), new)
            if read_record(files.store, old) is not None:
                write_record(files.store, old, encode(HostRecord()))
            _tell_moved(files, overlay, new)
        files.ring()
        return overlay, former

    def setting(self, setting: SettingName) -> bytes | None:
        with self._reading() as files:
            rows = _rows(files, "SELECT value FROM settings WHERE setting = ?", setting)
            return bounded_setting(setting, bytes(rows[0][0])) if rows else None

    def change_setting(self, setting: SettingName, value: bytes | None) -> None:
        with self._writing() as files:
            files.store.execute("DELETE FROM settings WHERE setting = ?", (setting,))
            if value is not None:
                files.store.execute("INSERT INTO settings VALUES (?, ?)", (setting, value))
            log_change(files.store, "s", setting)
        files.ring()

    # --- files and session ---

    def _open_files(self) -> Files:
        if not self._make and not self._path.exists():
            raise RegistryUnavailable(
                f"there is no registry file {self._path}: no agent of this machine has made it yet"
            )
        return Files(
            self._path,
            session_seconds=self._seconds,
            clock=self._clock,
            timeout=self._timeout,
            taker=self._taker,
        )

    @contextmanager
    def _usable_files(self) -> Iterator[Files]:
        with self._lock, explained(self._path):
            self._check_open()
            if self._files is not None and not self._files.intact():
                self._files.close()
                self._files = None
            if self._files is None:
                self._files = self._open_files()
            yield self._files

    def _reap(self) -> None:
        """So that a host that is just overdue does not stand in anyone's way."""
        with self._usable_files() as files:
            files.reap()

    @contextmanager
    def _reading(self) -> Iterator[Files]:
        with self._usable_files() as files, reading(files.store):
            yield files

    @contextmanager
    def _writing(self) -> Iterator[Files]:
        with self._usable_files() as files, writing(files.store):
            yield files

    def _check_open(self) -> None:
        if self._gone:
            raise RegistryError("this registry was closed: open a new one")

    def _live_session(self) -> Session:
        """The watcher's, which keeps it; without one, this object's own, begun when needed."""
        if self._watcher is not None:
            return self._watcher.session(self._timeout)
        with self._usable_files() as files:
            known = self._session
            keep = files.sessions.renew if self._attached else files.sessions.attach
            self._attached = True
            if known is None or not keep(known):
                known = self._session = files.sessions.begin()
            return known

    def _check_alive(self, files: Files, session: Session) -> None:
        """Within the store's transaction, so that a reaper comes wholly before or after it."""
        if not files.sessions.renew(session):
            if self._watcher is not None:
                self._watcher.session_doubted()
            raise RegistryUnavailable("this agent's session has just ended: try again")

    def _make_way(
        self, files: Files, host_id: str, session_id: int, machine: str
    ) -> tuple[str, int] | None:
        """Raises IdentityHeld when another machine has the id. Returns the entry that the record
        names, and its session, where it is this machine's: it is to go."""
        held = read_record(files.store, host_id)
        record = decode(held[0]) if held is not None else None
        word = record.word if record is not None else ""
        alive = self._vouched(files, host_id, word)
        whose = _rows(files, "SELECT session FROM names WHERE name = ?", word) if alive else []
        own = bool(whose) and whose[0][0] == session_id
        way = may_take(record, alive=bool(whose), own_session=own, machine=machine)
        others = _rows(
            files,
            "SELECT session, detail FROM holders WHERE host_id = ? AND session != ?",
            *(host_id, session_id),
        )
        if others and way in ("held", "free"):
            raise identity_held(host_id, *others[0])
        if way == "held":
            raise identity_held(host_id, whose[0][0], b"")
        return (word, whose[0][0]) if way in ("ours", "same machine") else None

    def _vouched(self, files: Files, host_id: str, name: str) -> bool:
        held = read_record(files.store, host_id)
        record = decode(held[0]) if held is not None else None
        if held is None or record is None:
            return False
        return record.word == name and made_in(files.store, name) == held[1]

    def _retire(self, *, end: bool) -> None:
        with self._lock:
            if self._gone:
                return
            session = self._session
            if self._watcher is not None:
                session = self._watcher.stop()
            try:
                if session is not None:
                    self._release_session(session, end=end)
            finally:
                self._gone = True
                if self._files is not None:
                    self._files.close()

    def _release_session(self, session: Session, *, end: bool) -> None:
        with self._usable_files() as files:
            if end:
                files.sessions.end(session)
                files.reap()
            else:
                files.sessions.renew(session)


def _rows(files: Files, query: str, *arguments: object) -> list[Any]:
    return files.store.execute(query, arguments).fetchall()


def _say(files: Files, host_id: str, word: str) -> int:
    """The host's record names this word; the number of the step."""
    held = read_record(files.store, host_id)
    before = (decode(held[0]) if held is not None else None) or HostRecord()
    return write_record(files.store, host_id, encode(replace(before, word=word)))


def _tell_moved(files: Files, overlay: IPv4Address, host_id: str) -> None:
    word = encode_moved(overlay, host_id)
    # Whoever made a name of this spelling must not keep watchers from hearing it.
    files.store.execute("DELETE FROM names WHERE name = ?", (word,))
    log_change(files.store, "+", word)
    log_change(files.store, "-", word)


def _lease_of(files: Files, host_id: str) -> IPv4Address | None:
    rows = _rows(files, "SELECT overlay FROM leases WHERE host_id = ?", host_id)
    return IPv4Address(rows[0][0]) if rows else None
