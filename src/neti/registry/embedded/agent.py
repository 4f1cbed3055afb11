"""What an agent does with its session in the file. See ``neti.registry.AgentRegistry``.

Must never do: take away what another machine's session made.
"""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from neti.errors import RegistryError
from neti.registry import Question, Sink
from neti.registry.embedded.calls import OneSession, lease_of, rows
from neti.registry.embedded.files import Files
from neti.registry.embedded.store import (
    add_lease,
    add_name,
    drop_name,
    hold_key,
    keep_report,
    made_in,
    read_record,
    renew_name,
    write_record,
)
from neti.registry.embedded.watch import Watcher
from neti.registry.leases import candidates, check_inside, exhausted
from neti.registry.record import HostRecord, decode, encode, may_take
from neti.registry.untrusted import identity_held, key_taken, name_taken


class AgentSide(OneSession):
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

    def ask(self, questions: Iterable[Question]) -> None:
        if self._watcher is not None:
            self._watcher.ask(questions)

    def relist(self) -> None:
        if self._watcher is not None:
            self._watcher.relist()

    def acquire(
        self, host_id: str, subnet: IPv4Network, *, prefer: IPv4Address | None = None
    ) -> IPv4Address:
        with self._writing() as files:
            held = lease_of(files, host_id)
            if held is not None:
                return check_inside(host_id, held, subnet)
            taken = {IPv4Address(row[0]) for row in rows(files, "SELECT overlay FROM leases")}
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
        report: bytes = b"",
        replaces: str | None = None,
        overlay: IPv4Address | None = None,
        machine: str = "",
        key: str = "",
    ) -> bool:
        session = self._live_session()
        self._reap()
        with self._writing() as files:
            self._check_alive(files, session)
            former = self._make_way(files, host_id, session.id, machine)
            present = rows(files, "SELECT session FROM names WHERE name = ?", name)
            ours = bool(present) and present[0][0] == session.id
            if present and not (ours and self._vouched(files, host_id, name)):
                raise name_taken(name)
            if not present and key and (holder := hold_key(files.store, key, host_id)) != host_id:
                raise key_taken(key, holder.encode())
            files.store.execute("INSERT OR IGNORE INTO owners VALUES (?)", (session.id,))
            files.store.execute(
                "INSERT OR REPLACE INTO holders VALUES (?, ?, ?)", (host_id, session.id, detail)
            )
            keep_report(files.store, host_id, session.id, report)
            if not present:
                record = HostRecord(overlay=overlay, word=name, machine=machine, key=key)
                step = write_record(files.store, host_id, encode(record))
                add_name(files.store, name, session.id, data, step=step)
            if former is not None and former[0] != name:
                drop_name(files.store, *former)
            if replaces is not None and replaces != name:
                drop_name(files.store, replaces, session.id)
        files.ring()
        return True

    def describe(self, host_id: str, detail: bytes, report: bytes = b"") -> bool:
        session = self._live_session()
        with self._writing() as files:
            changed = files.store.execute(
                "UPDATE holders SET detail = ? WHERE host_id = ? AND session = ?",
                (detail, host_id, session.id),
            )
            if not changed.rowcount:
                raise RegistryError(f"{host_id} is not registered by this agent: register it first")
            keep_report(files.store, host_id, session.id, report)
        return True

    def leave(self, *, host_id: str, name: str, departure: str) -> None:
        session = self._live_session()
        self._reap()
        with self._writing() as files:
            self._check_alive(files, session)
            self._make_way(files, host_id, session.id, "")
            files.store.execute("INSERT OR IGNORE INTO owners VALUES (?)", (session.id,))
            if rows(files, "SELECT 1 FROM names WHERE name = ?", name):
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

    def _make_way(
        self, files: Files, host_id: str, session_id: int, machine: str
    ) -> tuple[str, int] | None:
        """Raises IdentityHeld when another machine has the id. Returns the entry that the record
        names, and its session, where it is this machine's: it is to go."""
        held = read_record(files.store, host_id)
        record = decode(held[0]) if held is not None else None
        word = record.word if record is not None else ""
        alive = self._vouched(files, host_id, word)
        whose = rows(files, "SELECT session FROM names WHERE name = ?", word) if alive else []
        own = bool(whose) and whose[0][0] == session_id
        way = may_take(record, alive=bool(whose), own_session=own, machine=machine)
        others = rows(
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


def _say(files: Files, host_id: str, word: str) -> int:
    """The host's record names this word; the number of the step."""
    held = read_record(files.store, host_id)
    before = (decode(held[0]) if held is not None else None) or HostRecord()
    return write_record(files.store, host_id, encode(replace(before, word=word)))
