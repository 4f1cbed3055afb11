"""One SQLite file of the embedded registry: opened, recognised, and its transactions.

Must never do: take over another program's database, or raise an sqlite3 error where ``explained``
stands around.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from neti.errors import RegistryError, RegistryUnavailable

APPLICATION_ID: Final = 0x4E657469  # "Neti", so that another program's database is not taken over
FORMAT: Final = 2


def open_database(path: Path, schema: str, timeout: float) -> sqlite3.Connection:
    """Open the file, made with ``schema`` if it is new; mode 0600, since it holds secrets."""
    with explained(path):
        try:
            # Only a new file is opened here: closing any descriptor of a file that SQLite has
            # open in this process would drop SQLite's locks on it.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            pass
        except OSError as error:
            raise RegistryUnavailable(
                f"cannot open the registry file {path}: {error.strerror}; "
                "make its folder, or give an agent's user the right to write there"
            ) from error
        database = sqlite3.connect(
            path, timeout=timeout, isolation_level=None, check_same_thread=False
        )
        database.text_factory = _text
        try:
            _prepare(database, path, schema, time.monotonic() + timeout)
        except BaseException:
            database.close()
            raise
        return database


def _prepare(database: sqlite3.Connection, path: Path, schema: str, deadline: float) -> None:
    if _pragma(database, "application_id") == 0:
        _use_wal(database, deadline)
        with writing(database):
            if _pragma(database, "application_id") == 0:  # nobody else was faster
                if database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    raise RegistryError(f"{path} belongs to another program: name another file")
                for statement in schema.split(";\n"):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {FORMAT}")
                database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    if _pragma(database, "application_id") != APPLICATION_ID:
        raise RegistryError(f"{path} belongs to another program: name another file")
    if (version := _pragma(database, "user_version")) != FORMAT:
        raise RegistryError(
            f"{path} has format {version} and this Neti knows format {FORMAT}: "
            "use the same version of Neti for all agents of this machine"
        )
    database.execute("PRAGMA synchronous = NORMAL")


def _use_wal(database: sqlite3.Connection, deadline: float) -> None:
    """SQLite does not wait here for others that do the same at this moment, so this does."""
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")


def _pragma(database: sqlite3.Connection, name: str) -> int:
    return int(database.execute(f"PRAGMA {name}").fetchone()[0])


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """sqlite3's errors as the registry's."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise RegistryUnavailable(
            f"the registry file {path} cannot be used now: {error}"
        ) from error
    except sqlite3.DatabaseError as error:
        raise RegistryError(
            f"the registry file {path} is damaged ({error}): stop the agents of this machine, "
            "move the file away, and start them again; they register anew"
        ) from error
    except sqlite3.Error as error:
        raise RegistryError(f"the registry file {path} cannot be used: {error}") from error


@contextmanager
def writing(database: sqlite3.Connection) -> Iterator[None]:
    """One write transaction: all of it, or nothing."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


@contextmanager
def reading(database: sqlite3.Connection) -> Iterator[None]:
    """One view of the file for several reads."""
    database.execute("BEGIN")
    try:
        yield
    finally:
        if database.in_transaction:
            database.execute("COMMIT")
