"""Sessions of the embedded registry: who is alive, in a file that nobody watches.

A deadline is the machine's monotonic clock, which all its processes share and no administrator
can set, together with the boot it belongs to: what an earlier boot wrote has ended.

This file decides: a session is alive while its row is here and its deadline lies ahead. Ending one
deletes its row first; whatever it had registered is an orphan from then on, and everybody who
finds an orphan may remove it. So a renewal and a reaper never both succeed, and a reaper killed
half-way is finished by the next.

Must never do: bring a session back whose deadline has passed.
"""

import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from neti.clock import Clock, boot_id
from neti.registry import Session
from neti.registry.embedded.database import explained, open_database, writing

_SCHEMA: Final = """
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY, password BLOB NOT NULL, boot TEXT NOT NULL, deadline REAL NOT NULL
);
"""


class Sessions:
    """The sessions file."""

    def __init__(
        self, path: Path, *, seconds: float, clock: Clock, timeout: float, taker: bytes
    ) -> None:
        """``taker``: random, by which this process recognises itself."""
        self._taker = taker
        self._path = path
        self._seconds = seconds
        self._clock = clock
        self._boot = boot_id()
        self._database = open_database(path, _SCHEMA, timeout)
        with explained(path):
            # A renewal lost with the machine's power is no loss: the boot ends the session anyway.
            self._database.execute("PRAGMA synchronous = OFF")
            # Beside the schema, as files of earlier versions have no such table.
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS takers (id INTEGER PRIMARY KEY, taker BLOB NOT NULL)"
            )

    def begin(self) -> Session:
        session = Session(secrets.randbits(62) | 1, secrets.token_bytes(16))
        with explained(self._path), writing(self._database):
            deadline = self._clock.monotonic() + self._seconds
            self._database.execute(
                "INSERT INTO sessions VALUES (?, ?, ?, ?)",
                (session.id, session.password, self._boot, deadline),
            )
        return session

    def renew(self, session: Session) -> bool:
        """Returns whether it is still alive. If so, its time-out begins again."""
        with explained(self._path), writing(self._database):
            return self._renew(
                session,
                self._clock.monotonic(),
                " AND NOT EXISTS (SELECT 1 FROM takers WHERE id = sessions.id AND taker != ?)",
                self._taker,
            )

    def attach(self, session: Session) -> bool:
        """Take up a session that an earlier process left; whether it is alive. From now on it is
        this process's alone: two that have a copy of it never share it, and the one that had it
        before finds it ``taken``."""
        with explained(self._path), writing(self._database):
            if not self._renew(session, self._clock.monotonic()):
                return False
            self._database.execute(
                "INSERT OR REPLACE INTO takers VALUES (?, ?)", (session.id, self._taker)
            )
            return True

    def taken(self, session: Session) -> bool:
        """Whether another process has taken it up."""
        with explained(self._path):
            query = (
                "SELECT 1 FROM sessions JOIN takers USING (id)"
                " WHERE id = ? AND password = ? AND taker != ?"
            )
            values = (session.id, session.password, self._taker)
            return bool(self._database.execute(query, values).fetchone())

    def _renew(self, session: Session, now: float, condition: str = "", *values: object) -> bool:
        renewed = self._database.execute(
            "UPDATE sessions SET deadline = ?"
            " WHERE id = ? AND password = ? AND boot = ? AND deadline >= ?" + condition,
            (now + self._seconds, session.id, session.password, self._boot, now, *values),
        )
        return renewed.rowcount == 1

    def end(self, session: Session) -> None:
        with explained(self._path), writing(self._database):
            self._database.execute(
                "DELETE FROM sessions WHERE id = ? AND password = ?",
                (session.id, session.password),
            )

    def end_overdue(self) -> None:
        """End every session that was not renewed in time. Cheap when there is none."""
        with explained(self._path):
            overdue = "FROM sessions WHERE boot != ? OR deadline < ?"
            now = self._clock.monotonic()
            if self._database.execute(f"SELECT 1 {overdue} LIMIT 1", (self._boot, now)).fetchone():
                with writing(self._database):
                    now = self._clock.monotonic()
                    self._database.execute(f"DELETE {overdue}", (self._boot, now))
                    self._database.execute(
                        "DELETE FROM takers WHERE id NOT IN (SELECT id FROM sessions)"
                    )

    def ended(self, session_ids: Iterable[int]) -> list[int]:
        """Those of ``session_ids`` whose rows are gone."""
        with explained(self._path):
            present = {row[0] for row in self._database.execute("SELECT id FROM sessions")}
        return [session_id for session_id in session_ids if session_id not in present]

    def close(self) -> None:
        self._database.close()
