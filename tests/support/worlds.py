"""One registry of each kind, with the levers that the contract tests pull."""

import sqlite3
from collections import deque
from ipaddress import IPv4Network
from pathlib import Path
from typing import Protocol

from simulation.gate import Gate
from simulation.registry import SimulatedRegistry

from neti.registry import Event, Registry, Session, Sink
from neti.registry.embedded.registry import EmbeddedRegistry
from neti.registry.memory import MemoryRegistry, MemoryServer


class World(Protocol):
    """A registry service that starts empty."""

    deletes: bool  # a member may delete what it made; else it goes with its session

    def open(self, session: Session | None = None) -> Registry: ...

    def operator(self) -> Registry:
        """One who may read all of it."""

    def expire(self, session: Session) -> None:
        """The session ends without a word, as if its time-out had passed."""

    def put_junk(self, name: str) -> None:
        """A name that no agent would write."""

    def close(self) -> None: ...


class ClosedWorld(World, Protocol):
    """One with rights: hosts ``a``, ``b`` and ``c`` have certificates."""

    def open_as(self, stem: str, session: Session | None = None) -> Registry:
        """By the certificate of ``host-a``, say, or of ``operator-chief``."""

    def need_admission(self) -> None:
        """Only operators begin a host from now on."""

    def admit(self, host_id: str, stem: str) -> None: ...


class MemoryWorld:
    deletes = True

    def __init__(self, *, rights: bool = False) -> None:
        self.server = MemoryServer(rights=rights)
        self.deletes = not rights

    def open(self, session: Session | None = None) -> Registry:
        return self.open_as("host-a", session)

    def open_as(self, stem: str, session: Session | None = None) -> Registry:
        owner = "" if stem.startswith("operator-") else stem
        return MemoryRegistry(self.server, session=session, owner=owner)

    def operator(self) -> Registry:
        return self.open_as("operator-chief")

    def need_admission(self) -> None:
        self.server.admission = True

    def admit(self, host_id: str, stem: str) -> None:
        self.server.admit(host_id, stem, IPv4Network("192.168.0.0/24"))

    def expire(self, session: Session) -> None:
        self.server.expire(session)

    def put_junk(self, name: str) -> None:
        self.server.put(name)

    def close(self) -> None:
        return None


class _HandedOver(deque[Event]):
    """An inbox that hands over at once what the scheduler would hand over later."""

    sink: Sink

    def append(self, event: Event) -> None:
        self.sink(event)


class _Simulated(SimulatedRegistry):
    def watch(self, sink: Sink, *, hosts: bool = False) -> None:
        assert isinstance(self._inbox, _HandedOver)
        self._inbox.sink = sink
        super().watch(sink, hosts=hosts)


class SimulatedWorld(MemoryWorld):
    """Each call passes a gate, and what is told waits in an inbox."""

    def open(self, session: Session | None = None) -> Registry:
        return _Simulated(self.server, Gate(), _HandedOver(), session)


class EmbeddedWorld:
    deletes = True

    def __init__(self, folder: Path, *, session_seconds: float = 4.0) -> None:
        self.path = folder / "registry.db"
        self._seconds = session_seconds
        self._open: list[Registry] = []

    def open(self, session: Session | None = None) -> Registry:
        registry = EmbeddedRegistry(self.path, session=session, session_seconds=self._seconds)
        self._open.append(registry)
        return registry

    def operator(self) -> Registry:
        return self.open()

    def expire(self, session: Session) -> None:
        sessions = sqlite3.connect(f"{self.path}-sessions", isolation_level=None, timeout=10)
        sessions.execute("UPDATE sessions SET deadline = 0 WHERE id = ?", (session.id,))
        sessions.close()

    def put_junk(self, name: str) -> None:
        store = sqlite3.connect(self.path, isolation_level=None, timeout=10)
        store.execute("BEGIN IMMEDIATE")
        store.execute("INSERT INTO names VALUES (?, 0, x'')", (name,))
        store.execute("INSERT INTO changes (kind, subject) VALUES ('+', ?)", (name,))
        store.execute("COMMIT")
        store.close()

    def close(self) -> None:
        for registry in self._open:
            registry.close()
