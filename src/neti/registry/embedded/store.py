"""The embedded registry's tables: what they hold, and each statement about them. No threads, no
waiting.

Names, holders, leases and settings live here; sessions and their renewals in a file of their own
(``sessions``), so that a renewal is not a change. Every write is one transaction, so a
process killed anywhere leaves the state before it or the state after it.

Must never do: show half a change.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from neti.registry.embedded.database import explained, open_database, writing

# Enough to bridge a watcher that was stopped for a while; one that fell further behind reads all.
CHANGES_KEPT: Final = 10_000

Kind = Literal["+", "-", "s", "h"]

# ``owners`` are the sessions that have a name or an id here: short to look through at every tick.
_SCHEMA: Final = """
CREATE TABLE names (
    name TEXT PRIMARY KEY, session INTEGER NOT NULL, data BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX names_of_session ON names (session);
CREATE TABLE holders (host_id TEXT PRIMARY KEY, session INTEGER NOT NULL, detail BLOB NOT NULL);
CREATE INDEX holders_of_session ON holders (session);
CREATE TABLE owners (session INTEGER PRIMARY KEY);
CREATE TABLE leases (overlay INTEGER PRIMARY KEY, host_id TEXT NOT NULL UNIQUE);
CREATE TABLE fleet (id TEXT NOT NULL);
INSERT INTO fleet VALUES (lower(hex(randomblob(16))));
CREATE TABLE settings (setting TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE changes (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, subject TEXT NOT NULL
);
"""


# Which lease is older. A file of an earlier version has no such table, and its leases come first.
_ORDER: Final = "lease_order"
_ORDER_OF_LEASES: Final = f"""
CREATE TABLE IF NOT EXISTS {_ORDER} (
    number INTEGER PRIMARY KEY AUTOINCREMENT, overlay INTEGER NOT NULL, host_id TEXT NOT NULL UNIQUE
)
"""


# Hosts' records, and in which step each name was made, numbered as ``changes``; which host holds
# which public key; reports, which go with the documents in ``holders``. As above.
_RECORDS: Final = """
CREATE TABLE IF NOT EXISTS records (
    host_id TEXT PRIMARY KEY, record BLOB NOT NULL, written INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS made (
    name TEXT PRIMARY KEY, step INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keys (
    key TEXT PRIMARY KEY, host_id TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reports (
    host_id TEXT PRIMARY KEY, session INTEGER NOT NULL, report BLOB NOT NULL
) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS unreported AFTER DELETE ON holders
    BEGIN DELETE FROM reports WHERE host_id = OLD.host_id; END;
CREATE TRIGGER IF NOT EXISTS unmade AFTER DELETE ON names
    BEGIN DELETE FROM made WHERE name = OLD.name; END
"""


def open_store(path: Path, timeout: float) -> sqlite3.Connection:
    store = open_database(path, _SCHEMA, timeout)
    with explained(path):
        try:
            added = f"name IN ('{_ORDER}', 'unmade', 'keys', 'unreported')"
            present = store.execute(f"SELECT count(*) FROM sqlite_master WHERE {added}").fetchone()
            if present[0] < 4:
                with writing(store):
                    store.execute(_ORDER_OF_LEASES)
                    for statement in _RECORDS.split(";\n"):
                        store.execute(statement)
        except BaseException:
            store.close()
            raise
    return store


# --- within a write transaction ---


def add_name(
    database: sqlite3.Connection, name: str, session_id: int, data: bytes, *, step: int = 0
) -> None:
    """Nothing when it is there already. ``step``: of ``write_record``, which it belongs to."""
    added = database.execute(
        "INSERT OR IGNORE INTO names VALUES (?, ?, ?)", (name, session_id, data)
    )
    if added.rowcount:
        number = log_change(database, "+", name)
        database.execute("INSERT OR REPLACE INTO made VALUES (?, ?)", (name, step or number))


def write_record(database: sqlite3.Connection, host_id: str, record: bytes | None) -> int:
    """Returns the number of this step; None takes the record away."""
    number = log_change(database, "h", host_id)
    if record is None:
        database.execute("DELETE FROM records WHERE host_id = ?", (host_id,))
    else:
        database.execute(
            "INSERT OR REPLACE INTO records VALUES (?, ?, ?)", (host_id, record, number)
        )
    return number


def keep_report(database: sqlite3.Connection, host_id: str, session_id: int, report: bytes) -> None:
    """Beside its document, with which it goes; empty: there is none."""
    database.execute("DELETE FROM reports WHERE host_id = ?", (host_id,))
    if report:
        database.execute("INSERT INTO reports VALUES (?, ?, ?)", (host_id, session_id, report))


def hold_key(database: sqlite3.Connection, key: str, host_id: str) -> str:
    """The host that holds this public key; nobody held it: this one."""
    database.execute("INSERT OR IGNORE INTO keys VALUES (?, ?)", (key, host_id))
    return key_holder(database, key) or host_id


def drop_key(database: sqlite3.Connection, key: str, host_id: str) -> None:
    """Nothing when it is another host's."""
    database.execute("DELETE FROM keys WHERE key = ? AND host_id = ?", (key, host_id))


def revoke_key(database: sqlite3.Connection, key: str, holder: str) -> None:
    """``holder`` has the key from now on, whoever had it."""
    database.execute("DELETE FROM keys WHERE key = ?", (key,))
    database.execute("INSERT INTO keys (key, host_id) VALUES (?, ?)", (key, holder))


def take_name(database: sqlite3.Connection, name: str) -> None:
    """Whoever has it has it no more. Nothing when nobody does."""
    if database.execute("DELETE FROM names WHERE name = ?", (name,)).rowcount:
        log_change(database, "-", name)


def add_lease(database: sqlite3.Connection, overlay: int, host_id: str) -> None:
    database.execute("INSERT INTO leases VALUES (?, ?)", (overlay, host_id))
    database.execute(
        f"INSERT OR REPLACE INTO {_ORDER} (overlay, host_id) VALUES (?, ?)", (overlay, host_id)
    )


def drop_lease(database: sqlite3.Connection, host_id: str) -> None:
    """Nothing when there is none."""
    database.execute("DELETE FROM leases WHERE host_id = ?", (host_id,))
    database.execute(f"DELETE FROM {_ORDER} WHERE host_id = ?", (host_id,))


def drop_name(database: sqlite3.Connection, name: str, session_id: int) -> None:
    """Nothing when this session does not have it."""
    dropped = database.execute(
        "DELETE FROM names WHERE name = ? AND session = ?", (name, session_id)
    )
    if dropped.rowcount:
        log_change(database, "-", name)


def renew_name(database: sqlite3.Connection, name: str, session_id: int, *, step: int = 0) -> None:
    """Write it as if it had not been there, so that watchers hear of it once more."""
    if database.execute("DELETE FROM names WHERE name = ?", (name,)).rowcount:
        log_change(database, "-", name)
    add_name(database, name, session_id, b"", step=step)


def drop_sessions(database: sqlite3.Connection, session_ids: list[int]) -> None:
    """All that these sessions registered."""
    for session_id in session_ids:
        for (name,) in database.execute(
            "SELECT name FROM names WHERE session = ? ORDER BY name", (session_id,)
        ).fetchall():
            drop_name(database, name, session_id)
        database.execute("DELETE FROM holders WHERE session = ?", (session_id,))
        database.execute("DELETE FROM owners WHERE session = ?", (session_id,))


def log_change(database: sqlite3.Connection, kind: Kind, subject: str) -> int:
    """Returns its number."""
    added = database.execute("INSERT INTO changes (kind, subject) VALUES (?, ?)", (kind, subject))
    number = added.lastrowid or 0
    database.execute("DELETE FROM changes WHERE sequence <= ?", (number - CHANGES_KEPT,))
    return number


# --- within any transaction ---


def all_leases(database: sqlite3.Connection) -> list[tuple[int, str]]:
    """The oldest first."""
    rows = database.execute(
        f"SELECT overlay, host_id FROM leases LEFT JOIN {_ORDER} USING (overlay, host_id)"
        " ORDER BY number IS NOT NULL, number, overlay"
    )
    return [(int(overlay), str(host_id)) for overlay, host_id in rows]


def read_record(database: sqlite3.Connection, host_id: str) -> tuple[bytes, int] | None:
    """The record, and the step that wrote it."""
    row = database.execute(
        "SELECT record, written FROM records WHERE host_id = ?", (host_id,)
    ).fetchone()
    return (bytes(row[0]), int(row[1])) if row is not None else None


def key_holder(database: sqlite3.Connection, key: str) -> str | None:
    row = database.execute("SELECT host_id FROM keys WHERE key = ?", (key,)).fetchone()
    return str(row[0]) if row is not None else None


def made_in(database: sqlite3.Connection, name: str) -> int:
    """The step that made this name; 0 when it is not there."""
    row = database.execute("SELECT step FROM made WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row is not None else 0


def owners(database: sqlite3.Connection) -> list[int]:
    return [row[0] for row in database.execute("SELECT session FROM owners")]


def head(database: sqlite3.Connection) -> int:
    """The sequence number of the last change ever."""
    row = database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'changes'").fetchone()
    return int(row[0]) if row is not None else 0


def fleet_id(database: sqlite3.Connection) -> str:
    """Made by chance with the file."""
    row = database.execute("SELECT id FROM fleet").fetchone()
    return str(row[0]) if row is not None else ""


def all_names(database: sqlite3.Connection) -> Iterator[str]:
    return (row[0] for row in database.execute("SELECT name FROM names"))


def changes_after(database: sqlite3.Connection, sequence: int) -> list[tuple[Kind, str]] | None:
    """What changed since, in order; None when part of it is no longer in the log."""
    rows = database.execute(
        "SELECT sequence, kind, subject FROM changes WHERE sequence > ? ORDER BY sequence",
        (sequence,),
    ).fetchall()
    if head(database) != sequence + len(rows):
        return None
    return [(kind, subject) for _, kind, subject in rows]
