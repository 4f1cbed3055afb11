"""From ZooKeeper's events to the registry's: first a snapshot, then each change, nothing missed.

All of it runs in the connection thread, so that there is one order. After a reconnect, a watch does
not report what happened meanwhile. The whole list is read again only if it is another one
(``told_list``), or if it is short anyway.

Must never do: read the whole list because time has passed, or block.
"""

import random
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from kazoo.exceptions import (
    ConnectionLoss,
    NodeExistsError,
    NoNodeError,
    SessionExpiredError,
    UnimplementedError,
)
from kazoo.protocol.serialization import Create, Exists, GetData, Sync
from kazoo.protocol.states import KeeperState
from kazoo.security import OPEN_ACL_UNSAFE

from neti import threads
from neti.errors import RegistryError
from neti.registry import (
    Appeared,
    Event,
    Fresh,
    HostChanged,
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
from neti.registry.untrusted import (
    bounded_name,
    bounded_setting,
    host_id_text,
)
from neti.registry.zookeeper.layout import Layout
from neti.registry.zookeeper.questions import Questions
from neti.registry.zookeeper.requests import (
    CREATED,
    DELETED,
    PERSISTENT,
    PERSISTENT_RECURSIVE,
    AddWatch,
    ListNames,
    Stat,
)
from neti.registry.zookeeper.told_list import ToldList

# After a gap, readers spread out: 16,000 agents that read 1 MiB each, over 40 s.
_JITTER_SECONDS_PER_NAME: Final = 1 / 400
_LONGEST_JITTER: Final = 40.0
# Until a look that ZooKeeper refused is repeated, from and to: all agents may have been refused.
_LOOK_AGAIN: Final = (10.0, 20.0)
# A list of so many names is read after every gap: it is 32 KiB, and nobody has to wait for it.
_SHORT: Final = 512
NOT_YET: Final = "ZooKeeper has not answered yet"


class Client(Protocol):
    """What the stream needs of a ``StreamClient``."""

    @property
    def session(self) -> tuple[int, bytes]: ...

    @property
    def seen(self) -> int: ...

    def submit(self, request: Any, then: Callable[[Any], None]) -> object: ...


class Stream:
    """The Listener of one client. Without a sink it only keeps the client's state."""

    def __init__(self, layout: Layout, *, lays_out: bool = True) -> None:
        """``lays_out``: make a missing tree, open to everyone. Otherwise an operator has to."""
        self._lays_out = lays_out
        self._client: Client | None = None
        self.reason = NOT_YET  # why there is no connection
        self._layout = layout
        self._settings = layout.settings()
        self._children = f"{layout.ip_map}/"
        self._records = f"{layout.hosts}/"
        self._hosts = False  # HostChanged is told
        self._sink: Sink | None = None
        self._epoch = 0  # counts connections and resyncs: older answers no longer count
        self._connected = False
        self._watching = False  # this connection's watches were asked for
        self._fresh = False
        self._taken = False  # another process uses this session
        self._told_reason: str | None = None
        self._list = ToldList()
        self._fleet: str | None = None  # None: not read on this connection yet
        self._created_parents = False
        self._told: dict[SettingName, bytes | None] = {}  # in this registry:
        self._told_of = ""
        self._settings_due: set[SettingName] = set()
        self._questions = Questions(
            layout,
            submit=self._send,
            tell=self._tell,
            too_old=lambda: self._go_stale("this ZooKeeper is too old: version 3.6 is the oldest"),
        )

    # --- from other threads ---

    def attach(self, client: Client) -> None:
        """Before it is started."""
        self._client = client

    def watch(self, sink: Sink, *, hosts: bool) -> None:
        if self._sink is not None:
            raise RegistryError("this registry is watched already: open another one")
        self._sink, self._hosts = sink, hosts

    def ask(self, questions: Iterable[Question]) -> None:
        if not self._connected:
            self._questions.unanswered = True  # before another look: it may connect right now
        if self._connected and self._sink is not None:
            self._questions.ask(questions)

    # --- the connection's life ---

    def on_watch(self, answer: Any) -> None:
        """In the connection thread, after ``watch``."""
        if self._connected and not self._watching:
            self._resync()

    def on_relist(self, answer: Any) -> None:
        """In the connection thread, after ``relist``. If the connection was lost meanwhile, the
        next one reads the list."""
        self._list.doubt()
        self._told.clear()
        if self._connected and self._watching:
            self._epoch += 1
            self._look_at_parent()

    def on_state(self, state: str) -> None:
        if state in (KeeperState.CONNECTED, KeeperState.CONNECTED_RO):
            self._connected = True
            self._resync()
            return
        self._epoch += 1
        self._list.answered(self._seen)
        was_connected, self._connected = self._connected, False
        self._watching = False
        self._questions.forget()
        if state == KeeperState.EXPIRED_SESSION:
            self._tell(SessionTaken() if self._taken else SessionEnded())
            self._taken = False
            self._go_stale("the ZooKeeper session has ended")
        elif state == KeeperState.CONNECTING and was_connected:
            self._told_reason = None  # each gap is told, because what was seen before it is doubted
            self._go_stale("the connection to ZooKeeper was lost")

    def on_taken(self) -> None:
        self._taken = True

    def on_failure(self, reason: str) -> None:
        self._go_stale(reason)

    def _go_stale(self, reason: str) -> None:
        self.reason = reason
        if self._fresh or reason != self._told_reason:
            self._fresh = False
            self._told_reason = reason
            self._tell(Stale(reason))

    # --- becoming complete ---

    def _resync(self) -> None:
        """Watch again, and check whether anything was missed."""
        self._epoch += 1
        if self._sink is None:
            return
        self._watching = True
        self._submit(Sync(self._layout.ip_map), self._ignore)
        self._submit(AddWatch(self._layout.ip_map, PERSISTENT_RECURSIVE), self._on_watched)
        if self._hosts:
            self._submit(AddWatch(self._layout.hosts, PERSISTENT_RECURSIVE), self._on_watched)
        for path in self._settings:
            self._submit(AddWatch(path, PERSISTENT), self._on_watched)
        self._look_at_parent()

    def _on_watched(self, answer: Any) -> None:
        if isinstance(answer, UnimplementedError):
            self._go_stale("this ZooKeeper knows no recursive watches: version 3.6 is the oldest")
        elif isinstance(answer, Exception):
            self._refused(f"ZooKeeper refuses to watch {self._layout.ip_map}: {answer!r}")

    def _look_at_parent(self) -> None:
        self._fleet = None
        self._settings_due = set()
        self._submit(GetData(self._layout.fleet, None), self._on_fleet)

    def _on_fleet(self, answer: Any) -> None:
        absent = isinstance(answer, NoNodeError)
        if absent and self._lays_out and not self._created_parents:
            self._make_parents()
            return
        if isinstance(answer, Exception) and not absent:
            # Not the same as none: that would be another registry.
            self._refused(f"ZooKeeper does not show {self._layout.fleet}: {answer!r}")
            return
        # If it does not exist and may not be made, it says nothing.
        self._fleet = "" if absent else host_id_text(answer[0] or b"")
        self._submit(Exists(self._layout.ip_map, None), self._on_parent)

    def _on_parent(self, answer: Any) -> None:
        if isinstance(answer, Exception):
            self._refused(f"ZooKeeper does not show {self._layout.ip_map}: {answer!r}")
        elif answer is None:
            self._make_parents()
        elif self._list.cversion is None or (self._list.members <= _SHORT and not self._fresh):
            self._read_list()
        elif self._list.is_still(answer, self._fleet):
            self._read_settings()
        else:
            self._go_stale("changes may have been missed: reading all names again")
            self._read_list_later()

    def _make_parents(self) -> None:
        """Lay out the tree. If that is not allowed, wait until an operator has done it."""
        if self._created_parents:
            return
        self._created_parents = True
        if not self._lays_out:
            self._go_stale(" ".join(self._layout.no_tree.splitlines()))
            return
        for path, data in self._layout.tree():
            self._submit(Create(path, data, OPEN_ACL_UNSAFE, 0), self._on_parent_made)
        self._look_at_parent()

    def _on_parent_made(self, answer: Any) -> None:
        if isinstance(answer, Exception) and not isinstance(answer, NodeExistsError):
            self._go_stale(
                f"ZooKeeper has no {self._layout.ip_map} and it could not be made ({answer!r}): "
                "an operator has to (neti registry init)"
            )

    def _read_list_later(self) -> None:
        # Capped, so that a member that fills the list with junk cannot keep others from reading it.
        seconds = random.uniform(
            0, min(self._list.members * _JITTER_SECONDS_PER_NAME, _LONGEST_JITTER)
        )
        if not self._later(seconds, self._read_list):
            self._read_list()  # nothing else would, on this connection

    def _refused(self, reason: str) -> None:
        """There is a connection, and no event will tell when the refusal ends: rights that an
        operator sets right again, or a server that had too much to do."""
        self._go_stale(reason)
        self._later(random.uniform(*_LOOK_AGAIN), self._look_again)

    def _look_again(self) -> None:
        """In the timer's thread; the look itself is the connection thread's."""
        self._submit(Sync(self._layout.ip_map), lambda _: self._resync())

    def _later(self, seconds: float, act: Callable[[], None]) -> bool:
        """If this connection (or resync) lasts until then. False: this process can have no more
        threads."""
        epoch = self._epoch

        def due() -> None:
            time.sleep(seconds)
            if epoch == self._epoch:
                act()

        try:
            threads.begin(due)
        except RuntimeError:
            return False
        return True

    def _read_list(self) -> None:
        self._submit(ListNames(self._layout.ip_map), self._on_list)

    def _on_list(self, answer: Any) -> None:
        if isinstance(answer, NoNodeError):
            self._look_at_parent()
            return
        if isinstance(answer, Exception):
            self._refused(f"ZooKeeper does not list {self._layout.ip_map}: {answer!r}")
            return
        names: list[str]
        stat: Stat
        names, stat = answer
        origin = self._list.read(len(names), stat, self._fleet or "")
        if origin.fleet != self._told_of:
            self._told_of = origin.fleet
            self._told.clear()
        self._tell(Snapshot(frozenset(names), origin))
        self._read_settings()

    def _read_settings(self) -> None:
        self._created_parents = False
        self._settings_due = set(self._settings.values())
        for path in self._settings:
            self._read_setting(path)

    def _read_setting(self, path: str) -> None:
        setting = self._settings[path]
        self._submit(GetData(path, None), lambda answer: self._on_setting(setting, answer))

    def _on_setting(self, setting: SettingName, answer: Any) -> None:
        failed = isinstance(answer, Exception)
        value = None if failed else bounded_setting(setting, answer[0] or b"")
        if setting not in self._told or self._told[setting] != value:
            self._told[setting] = value
            self._tell(SettingRead(setting, value))
        self._settings_due.discard(setting)
        if not self._settings_due and not self._fresh and self._client is not None:
            self._fresh = True
            self._told_reason = None
            unanswered, self._questions.unanswered = self._questions.unanswered, False
            self._tell(Fresh(Session(*self._client.session), unanswered))

    # --- what changes ---

    def on_event(self, kind: int, path: str) -> None:
        if path.startswith(self._children):
            self._on_child(kind, path.removeprefix(self._children))
        elif path.startswith(self._records):
            # Before the first list nothing is known of anybody; each record is read after it.
            if self._list.cversion is not None:
                self._tell(HostChanged(bounded_name(path.removeprefix(self._records))))
        elif path in self._settings:
            # Not before the list, after which all settings are read: which hosts are gone means
            # something only to an agent that knows the list.
            if self._fresh or self._settings_due:
                self._read_setting(path)
        elif path == self._layout.ip_map and kind in (CREATED, DELETED):
            if kind == DELETED:
                self._go_stale(f"somebody deleted {path}")
            self._epoch += 1
            self._look_at_parent()

    def _on_child(self, kind: int, name: str) -> None:
        if "/" in name or kind not in (CREATED, DELETED):
            return
        event = Appeared if kind == CREATED else Vanished
        if self._list.changed(1 if kind == CREATED else -1, self._seen):
            self._tell(event(bounded_name(name)))

    # --- within ---

    def _submit(self, request: Any, then: Callable[[Any], None]) -> None:
        """Ask; the answer counts only while this connection (or resync) lasts."""
        epoch = self._epoch

        def on_answer(answer: Any) -> None:
            lost = isinstance(answer, ConnectionLoss | SessionExpiredError)
            if epoch == self._epoch and not lost:
                then(answer)

        self._send(request, on_answer)

    def _send(self, request: Any, then: Callable[[Any], None]) -> None:
        def on_answer(answer: Any) -> None:
            self._list.answered(self._seen)
            then(answer)

        if self._client is not None:
            self._client.submit(request, on_answer)

    @property
    def _seen(self) -> int:
        return self._client.seen if self._client is not None else 0

    def _tell(self, event: Event) -> None:
        if self._sink is not None:
            self._sink(event)

    def _ignore(self, answer: Any) -> None:
        return
