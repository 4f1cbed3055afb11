"""One session with the file, begun when it is needed, and what both sides' calls are made of.

Must never do: leave a transaction open when a call returns.
"""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from neti.clock import Clock, SystemClock
from neti.errors import RegistryError, RegistryUnavailable
from neti.registry import Session
from neti.registry.embedded.database import explained, reading, writing
from neti.registry.embedded.files import Files
from neti.registry.embedded.watch import Watcher


class OneSession:
    """What both sides share. Thread-safe."""

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

    def detach(self) -> None:
        self._retire(end=False)

    def close(self) -> None:
        self._retire(end=True)

    # --- files ---

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

    # --- the session ---

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


def rows(files: Files, query: str, *arguments: object) -> list[Any]:
    return files.store.execute(query, arguments).fetchall()


def lease_of(files: Files, host_id: str) -> IPv4Address | None:
    held = rows(files, "SELECT overlay FROM leases WHERE host_id = ?", host_id)
    return IPv4Address(held[0][0]) if held else None
