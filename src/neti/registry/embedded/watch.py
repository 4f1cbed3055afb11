"""The embedded registry's one thread: keeps the session, reaps others', reports what changed.

Must never do: call the sink with a lock or a transaction held, or report out of order.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address
from typing import Final

from neti.clock import Clock
from neti.errors import RegistryError, RegistryUnavailable
from neti.registry import (
    SETTING_NAMES,
    VERSIONS,
    Appeared,
    DataRead,
    Event,
    Fresh,
    HostChanged,
    HostRead,
    KeyRead,
    LeaseRead,
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
    Vanished,
)
from neti.registry.embedded.database import explained, reading
from neti.registry.embedded.files import Files
from neti.registry.embedded.inotify import Doorbell
from neti.registry.embedded.store import (
    all_names,
    changes_after,
    fleet_id,
    head,
    key_holder,
    made_in,
    read_record,
)
from neti.registry.record import HostId, KeyName, decode
from neti.registry.untrusted import (
    bounded_data,
    bounded_name,
    bounded_setting,
    host_id_text,
)

_LOG: Final = logging.getLogger(__name__)
# In case the bell does not ring: a writer may be killed after its commit and before it rings.
_TICK_SECONDS: Final = 1.0


class Watcher:
    """Owns its files and its thread from ``start`` to ``stop``."""

    def __init__(
        self,
        open_files: Callable[[], Files],
        sink: Sink,
        *,
        session: Session | None,
        session_seconds: float,
        clock: Clock,
        hosts: bool = False,
    ) -> None:
        self._open_files = open_files
        self._sink = sink
        self._clock = clock
        self._hosts = hosts
        self._tick = min(_TICK_SECONDS, session_seconds / 4)
        self._renewal_seconds = session_seconds / 3
        self._next_renewal = 0.0
        self._next_reaping = 0.0
        self._files: Files | None = None
        self._identity: object = None
        self._seen: int | None = None  # the last change that the sink knows of
        self._told: dict[SettingName, bytes | None] = {}  # in this registry:
        self._told_of = ""
        self._fresh = False
        self._reason: str | None = None  # why it is stale, as last told
        self._again = False  # everything is to be told anew
        self._asked: deque[Question] = deque()
        self._stopping = False
        self._bell = Doorbell()
        # Set while it is alive as far as we know; given but not yet looked up, it is the candidate.
        self._candidate = session
        self._session: Session | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="neti-registry", daemon=True)

    # --- from other threads ---

    def start(self) -> None:
        self._thread.start()

    def ask(self, questions: Iterable[Question]) -> None:
        self._asked.extend(questions)
        self._bell.wake()

    def relist(self) -> None:
        self._again = True
        self._bell.wake()

    def session(self, timeout: float) -> Session:
        """The live session, waited for; RegistryUnavailable with what is in the way."""
        with self._changed:
            self._changed.wait_for(lambda: self._session is not None or self._stopping, timeout)
            if self._session is None:
                raise RegistryUnavailable(self._reason or "the registry file does not answer")
            return self._session

    def session_doubted(self) -> None:
        """Somebody saw the session refused: look now."""
        self._next_renewal = 0.0
        self._bell.wake()

    def stop(self) -> Session | None:
        """End the thread; the session, if it was alive. Must not be called from the sink."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._bell.wake()
        self._thread.join()
        self._bell.close()
        return self._session or self._candidate

    # --- in the thread ---

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._step()
            except RegistryError as error:
                self._go_stale(str(error))
            except Exception as error:  # a dead watcher is silent, as if nothing had happened
                _LOG.exception("event=registry_watch_failed")
                self._go_stale(f"internal error: {error!r}")
            self._bell.wait(self._tick)
        if self._files is not None:
            self._files.close()

    def _step(self) -> None:
        files = self._usable_files()
        if self._again:
            self._again, self._fresh, self._seen = False, False, None
            self._told.clear()
        self._keep_session_if_due(files)
        if (now := self._clock.monotonic()) >= self._next_reaping:
            self._next_reaping = now + self._tick
            files.reap()
        events = self._look(files)
        # Again, because this process may have been stopped in between: if its session is over, that
        # is the news, and what others made of it comes after.
        looked_in = self._session
        self._keep_session_if_due(files)
        if self._session is not looked_in:
            # It slept between the look and now: what it saw is old, and Fresh would be untrue.
            events.extend(self._look(files))
        for event in events:
            self._sink(event)
        if not self._fresh and self._session is not None:
            self._fresh = True
            self._reason = None
            self._sink(Fresh(self._session))

    def _usable_files(self) -> Files:
        if self._files is not None and not self._files.intact():
            self._go_stale(f"the registry file {self._files.path} was removed or replaced")
        if self._files is None:
            files = self._open_files()
            if files.identity != self._identity:
                self._identity, self._seen = files.identity, None
            self._files = files
            try:
                self._bell.listen(files.bell)
            except OSError as error:
                raise RegistryUnavailable(
                    f"cannot listen to {files.bell}: {error.strerror}"
                ) from error
        return self._files

    def _keep_session_if_due(self, files: Files) -> None:
        now = self._clock.monotonic()
        if self._session is None or now >= self._next_renewal:
            self._keep_session(files)
            self._next_renewal = now + self._renewal_seconds

    def _keep_session(self, files: Files) -> None:
        known = self._session or self._candidate
        alive: Session | None = None
        if self._session is not None:
            alive = self._session if files.sessions.renew(self._session) else None
        elif self._candidate is not None:
            alive = self._candidate if files.sessions.attach(self._candidate) else None
        if alive is None:
            self._set_session(None)
            self._candidate = None
            self._fresh = False
            if known is not None:
                taken = files.sessions.taken(known)
                self._sink(SessionTaken() if taken else SessionEnded())
            alive = files.sessions.begin()
        self._set_session(alive)

    def _look(self, files: Files) -> list[Event]:
        """What changed, then the answers to what was asked, from one view of the file."""
        store = files.store
        events: list[Event] = []
        with explained(files.path), reading(store):
            asked = [self._asked.popleft() for _ in range(len(self._asked))]
            changes = changes_after(store, self._seen) if self._seen is not None else None
            if changes is None:
                self._seen = head(store)
                names = frozenset(map(bounded_name, all_names(store)))
                origin = Origin(fleet_id(store), self._seen % VERSIONS)
                events.append(Snapshot(names, origin))
                if origin.fleet != self._told_of:
                    self._told_of = origin.fleet
                    self._told.clear()
                events.extend(self._settings(files, SETTING_NAMES))
            else:
                self._seen = (self._seen or 0) + len(changes)
                for kind, subject in changes:
                    if kind == "+":
                        events.append(Appeared(bounded_name(subject)))
                    elif kind == "-":
                        events.append(Vanished(bounded_name(subject)))
                    elif kind == "h":
                        events.extend([HostChanged(subject)] if self._hosts else [])
                    else:
                        events.extend(self._settings(files, SETTING_NAMES))
            events.extend(_answer(files, subject) for subject in asked)
        return events

    def _settings(self, files: Files, settings: tuple[SettingName, ...]) -> list[Event]:
        """The settings that are not as they were told last."""
        events: list[Event] = []
        for setting in settings:
            row = files.store.execute(
                "SELECT value FROM settings WHERE setting = ?", (setting,)
            ).fetchone()
            value = bounded_setting(setting, bytes(row[0])) if row is not None else None
            if setting not in self._told or self._told[setting] != value:
                self._told[setting] = value
                events.append(SettingRead(setting, value))
        return events

    def _go_stale(self, reason: str) -> None:
        if self._files is not None:
            self._files.close()
            self._files = None
        # Kept for when the file is back, but not given to callers: nobody renews it now.
        self._candidate = self._session or self._candidate
        self._asked.clear()
        self._fresh = False
        self._set_session(None)
        if reason != self._reason:
            self._reason = reason
            self._sink(Stale(reason))

    def _set_session(self, session: Session | None) -> None:
        with self._changed:
            self._session = session
            self._changed.notify_all()


def _answer(files: Files, subject: Question) -> Event:
    if isinstance(subject, HostId):
        return host_read(files, subject.id)
    if isinstance(subject, KeyName):
        holder = key_holder(files.store, subject.key)
        return KeyRead(subject.key, host_id_text(holder.encode()) if holder is not None else None)
    if isinstance(subject, IPv4Address):
        row = files.store.execute(
            "SELECT host_id FROM leases WHERE overlay = ?", (int(subject),)
        ).fetchone()
        return LeaseRead(subject, host_id_text(row[0].encode()) if row is not None else None)
    row = files.store.execute("SELECT data FROM names WHERE name = ?", (subject,)).fetchone()
    data = bounded_data(row[0]) if row is not None else None
    return DataRead(subject, data, made_in(files.store, subject))


def host_read(files: Files, host_id: str) -> HostRead:
    held = read_record(files.store, host_id)
    return HostRead(host_id, decode(held[0]), held[1]) if held else HostRead(host_id, None)
