"""The embedded registry's files, opened together: the store, the sessions, and the bell.

    PATH             names, holders, leases, settings, the change log
    PATH-sessions    who is alive
    PATH-bell        empty; touched after a change. SQLite shows a commit a moment after it wrote
                     it, so whoever listened to the database file would wake too early.

Must never do: be used by two threads at a time.
"""

from pathlib import Path

from neti.clock import Clock
from neti.registry.embedded.database import explained, writing
from neti.registry.embedded.inotify import ring
from neti.registry.embedded.sessions import Sessions
from neti.registry.embedded.store import drop_sessions, open_store, owners


class Files:
    """Raises RegistryError where a file cannot be used, and nothing else."""

    def __init__(
        self, path: Path, *, session_seconds: float, clock: Clock, timeout: float, taker: bytes
    ) -> None:
        self.path = path
        self.bell = path.with_name(f"{path.name}-bell")
        self._sessions_path = path.with_name(f"{path.name}-sessions")
        self.store = open_store(path, timeout)
        try:
            self.sessions = Sessions(
                self._sessions_path,
                seconds=session_seconds,
                clock=clock,
                timeout=timeout,
                taker=taker,
            )
        except BaseException:
            self.store.close()
            raise
        self.identity = self._on_disk()

    def intact(self) -> bool:
        """Whether these are still the files that others find under the same names."""
        return None not in self.identity and self.identity == self._on_disk()

    def ring(self) -> None:
        ring(self.bell)

    def reap(self) -> None:
        """End what is overdue and remove what has no session. Any process may, at any time."""
        with explained(self.path):
            self.sessions.end_overdue()
            if not self.sessions.ended(owners(self.store)):
                return
            with writing(self.store):
                # Looked up again with the store locked: a registration that is made at this moment
                # either came first and is removed with its session, or finds its session ended.
                drop_sessions(self.store, self.sessions.ended(owners(self.store)))
        self.ring()

    def close(self) -> None:
        self.sessions.close()
        self.store.close()

    def _on_disk(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(_inode(path) for path in (self.path, self._sessions_path))


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
