"""What all registries in one process's memory share: names, records, leases, sessions; and the
levers by which a test disturbs them.

Must never do: behave better than a real one; the contract tests hold it against them.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from threading import RLock
from typing import TYPE_CHECKING

from neti.errors import NotAdmitted, OtherOwner, RegistryError
from neti.model.entry import encode_moved
from neti.registry import (
    Appeared,
    DataRead,
    Event,
    HostChanged,
    HostRead,
    KeyRead,
    LeaseRead,
    Question,
    Session,
    SettingName,
    Vanished,
)
from neti.registry.leases import candidates
from neti.registry.record import HostId, HostRecord, KeyName
from neti.registry.untrusted import bounded_data, bounded_name

if TYPE_CHECKING:
    from neti.registry.memory.session import OneSession


@dataclass(slots=True)
class Name:
    session_id: int
    data: bytes
    made: int = 0


@dataclass(slots=True)
class Holder:
    """Of a host's document, and its report. ``owner``: by whose certificate they were made."""

    session_id: int
    detail: bytes
    report: bytes = b""
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    record: HostRecord
    written: int


@dataclass(frozen=True, slots=True)
class Copy:
    """What ``MemoryServer.copied`` keeps."""

    fleet: str
    changes: int
    names: dict[str, Name]
    leases: dict[IPv4Address, str]
    settings: dict[SettingName, bytes]
    records: dict[str, Record]
    owners: dict[str, str]
    keys: dict[str, str]


@dataclass(slots=True)
class MemoryServer:
    """What all ``MemoryRegistry`` objects of one test share, and the levers to disturb them.

    ``rights``: as in a closed tree, a record belongs to the owner who made it, members delete
    nothing, and only who comes without an owner reads reports. ``admission``: and only operators
    begin a host. ``wall``: the clock of operators' machines, Unix seconds.
    """

    changes: int = 0
    fleet: str = "fleet-1"
    course: int = 0  # another one with each copy that is restored
    rights: bool = False
    admission: bool = False
    wall: Callable[[], float] = time.time
    _names: dict[str, Name] = field(default_factory=dict)
    _holders: dict[str, Holder] = field(default_factory=dict)
    _leases: dict[IPv4Address, str] = field(default_factory=dict)
    _settings: dict[SettingName, bytes] = field(default_factory=dict)
    _records: dict[str, Record] = field(default_factory=dict)
    _owners: dict[str, str] = field(default_factory=dict)  # by host id: whose its record is
    _keys: dict[str, str] = field(default_factory=dict)  # public key -> host id
    _steps: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _sessions: dict[int, Session] = field(default_factory=dict)
    _registries: list["OneSession"] = field(default_factory=list)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _lock: RLock = field(default_factory=RLock)
    _down: bool = False

    @property
    def at(self) -> tuple[str, int, int]:
        """Which registry this is, and how far along it is."""
        return self.fleet, self.course, self.changes

    # --- levers ---

    def expire(self, session: Session) -> None:
        """End a session as the registry does when it is not renewed."""
        with self._step():
            self._end(session.id)

    def cut(self, *registries: "OneSession") -> None:
        """Lose the connections of these registries, or of all."""
        with self._step():
            for registry in registries or tuple(self._registries):
                registry._disconnect("connection lost")

    def restore(self, *registries: "OneSession") -> None:
        with self._step():
            for registry in registries or tuple(self._registries):
                registry._reconnect()

    def stop(self) -> None:
        """Nobody reaches the registry until ``start``."""
        with self._step():
            self._down = True
            for registry in self._registries:
                registry._disconnect("the registry is down")

    def start(self) -> None:
        with self._step():
            self._down = False
            for registry in self._registries:
                registry._reconnect()

    def wipe(self) -> None:
        """While it is stopped: everything is lost, and the fleet is another one."""
        self._empty()
        self._leases.clear()
        self._settings.clear()
        self._records.clear()
        self._owners.clear()
        self._keys.clear()
        self.changes = 0
        self.fleet = f"fleet-{next(self._ids)}"

    def copied(self) -> "Copy":
        """A backup; sessions are no part of what is worth keeping."""
        return Copy(
            self.fleet,
            self.changes,
            dict(self._names),
            dict(self._leases),
            dict(self._settings),
            dict(self._records),
            dict(self._owners),
            dict(self._keys),
        )

    def restore_copy(self, copy: "Copy") -> None:
        """While it is stopped: as it was then. Names whose sessions are over vanish soon after
        (``expire_orphans``)."""
        self._empty()
        self.fleet, self.changes = copy.fleet, copy.changes
        self.course += 1
        self._names.update(copy.names)
        self._leases.clear()
        self._leases.update(copy.leases)
        self._settings.clear()
        self._settings.update(copy.settings)
        self._records.clear()
        self._records.update(copy.records)
        self._owners.clear()
        self._owners.update(copy.owners)
        self._keys.clear()
        self._keys.update(copy.keys)

    def expire_orphans(self) -> None:
        with self._step():
            for name, held in list(self._names.items()):
                if held.session_id and held.session_id not in self._sessions:
                    self._drop(name)

    def _empty(self) -> None:
        self._names.clear()
        self._holders.clear()
        self._sessions.clear()

    def put(self, name: str, data: bytes = b"") -> None:
        """A name that no agent wrote (junk, say); it stays until ``remove``."""
        with self._step():
            self._add(name, 0, data)

    def remove(self, name: str) -> None:
        with self._step():
            self._drop(name)

    def put_word(self, host_id: str, word: str) -> None:
        """An entry, or a goodbye, that a host makes with its record; it stays until ``remove``.
        Nothing when it is there."""
        with self._step():
            if word in self._names:
                return
            step = next(self._steps)
            self._write_record(host_id, HostRecord(word=word), step)
            self._add(word, 0, b"", step)

    def put_record(self, host_id: str, record: HostRecord) -> None:
        """A record without an entry, as an operator makes it."""
        with self._step():
            self._write_record(host_id, record, next(self._steps))

    def admit(self, host_id: str, owner: str, subnet: IPv4Network) -> None:
        """As an operator does it: the record is this owner's, and says what it said before. Who was
        never here gets a lease as well."""
        with self._step():
            if host_id not in self._records:
                self._write_record(host_id, HostRecord(), next(self._steps))
            self._owners[host_id] = owner
            came = self._records[host_id].record != HostRecord()
            if not came and host_id not in self._leases.values():
                self._leases[next(candidates(host_id, subnet, self._leases))] = host_id

    # --- the state, with the lock held ---

    @contextmanager
    def _step(self) -> Iterator[None]:
        """One atomic change; what it caused is delivered after the lock is released."""
        with self._lock:
            yield
            listeners = tuple(self._registries)
        for registry in listeners:
            registry._deliver()

    def _tell(self, event: Event) -> None:
        for registry in self._registries:
            registry._hear(event)

    def _add(self, name: str, session_id: int, data: bytes, made: int = 0) -> None:
        if name not in self._names:
            self._names[name] = Name(session_id, data, made or next(self._steps))
            self.changes += 1
            self._tell(Appeared(bounded_name(name)))

    def _drop(self, name: str) -> None:
        if self._names.pop(name, None) is not None:
            self.changes += 1
            self._tell(Vanished(bounded_name(name)))

    def _write_record(self, host_id: str, record: HostRecord | None, step: int) -> None:
        if record is not None:
            self._records[host_id] = Record(record, step)
        elif self._records.pop(host_id, None) is None:
            return
        else:
            self._owners.pop(host_id, None)
        self._tell(HostChanged(host_id))

    def _give_up_key(self, host_id: str) -> None:
        """Nobody holds the key that the host's record says."""
        held = self._records.get(host_id)
        if held is not None and self._keys.get(held.record.key) == host_id:
            del self._keys[held.record.key]

    def _alive(self, host_id: str) -> Name | None:
        """The entry that the host's record names, if it stands and was made with it."""
        held = self._records.get(host_id)
        named = self._names.get(held.record.word) if held is not None else None
        return named if held and named and named.made == held.written else None

    def _refusal(self, host_id: str, owner: str) -> RegistryError | None:
        """Why this owner may not write the host's record, in a tree with rights."""
        if not self.rights or self._owners.get(host_id) == owner:
            return None
        if host_id in self._records:
            return OtherOwner(f"host id {host_id} belongs to another certificate in this registry")
        if self.admission:
            return NotAdmitted(f"host id {host_id} is not admitted to this registry")
        return None

    def _registered(self, host_id: str) -> bool:
        """For an operator. A document that another than the record's owner made says nothing."""
        holder, owner = self._holders.get(host_id), self._owners.get(host_id)
        if self.rights and self._alive(host_id) is not None:
            return True
        return holder is not None and (not self.rights or owner in (None, holder.owner))

    def _answer(self, question: Question) -> Event:
        if isinstance(question, IPv4Address):
            return LeaseRead(question, self._leases.get(question))
        if isinstance(question, HostId):
            return self._host_read(question.id)
        if isinstance(question, KeyName):
            return KeyRead(question.key, self._keys.get(question.key))
        held = self._names.get(question)
        data = bounded_data(held.data) if held is not None else None
        return DataRead(question, data, held.made if held is not None else 0)

    def _host_read(self, host_id: str) -> HostRead:
        held = self._records.get(host_id)
        return HostRead(host_id, held.record, held.written) if held else HostRead(host_id, None)

    def _tell_moved(self, overlay: IPv4Address, host_id: str) -> None:
        word = encode_moved(overlay, host_id)
        self._add(word, 0, b"")
        self._drop(word)

    def _end(self, session_id: int) -> None:
        self._sessions.pop(session_id, None)
        affected = [registry for registry in self._registries if registry._suspend(session_id)]
        for host_id in [
            i for i, holder in self._holders.items() if holder.session_id == session_id
        ]:
            del self._holders[host_id]
        for name in [n for n, held in self._names.items() if held.session_id == session_id]:
            self._drop(name)
        for registry in affected:
            registry._connect()
