"""What an agent does with its session in ZooKeeper. See ``neti.registry.AgentRegistry``.

Must never do: take away what another session made.
"""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final

from kazoo.exceptions import NoAuthError
from kazoo.protocol.serialization import Create, Delete, Exists, Sync

from neti import log
from neti.errors import OtherOwner, RegistryError
from neti.registry import Question, Sink
from neti.registry.leases import check_inside
from neti.registry.record import HostRecord
from neti.registry.untrusted import key_taken, name_taken
from neti.registry.zookeeper import init as zookeeper_init
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.calls import Attempt, Calls
from neti.registry.zookeeper.leases import ANY_VERSION, EPHEMERAL
from neti.registry.zookeeper.own_nodes import (
    DocumentClosed,
    OwnNodes,
    Said,
    other_owner,
    refused_document,
    refused_record,
)
from neti.registry.zookeeper.session import OneSession, owner

# How many former entries of one session may pile up.
_MOST_STANDING: Final = 8


class AgentSide(OneSession):
    # The session that has former entries, and which.
    _standing: tuple[int, set[str]] = (0, set())
    _said_to_all = False  # the log has it that the tree has no place for reports

    def watch(self, sink: Sink, *, hosts: bool = False) -> None:
        with self._lock:
            self._stream.watch(sink, hosts=hosts)
            client = self._start()
            # After other calls it is connected already, so begin in its own thread.
            client.submit(Sync(self._layout.ip_map), self._stream.on_watch)

    def ask(self, questions: Iterable[Question]) -> None:
        self._stream.ask(questions)

    def relist(self) -> None:
        with self._lock:
            client = self._client
        if client is not None:
            client.submit(Sync(self._layout.ip_map), self._stream.on_relist)

    def acquire(
        self, host_id: str, subnet: IPv4Network, *, prefer: IPv4Address | None = None
    ) -> IPv4Address:
        def operation(attempt: Attempt) -> IPv4Address:
            while True:
                overlay = self._leases.held(attempt, host_id)
                if overlay is not None:
                    if overlay != prefer:  # the host had it before, and would be lost without it
                        self._leases.check_rights(attempt, host_id, overlay)
                    return check_inside(host_id, overlay, subnet)
                overlay = self._leases.take(attempt, host_id, subnet, prefer)
                if overlay is not None:
                    return overlay

        return self._attempt(operation)

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
        says = list[bool]()
        path = self._layout.name(name)
        word = HostRecord(overlay=overlay, word=name, machine=machine)

        def look(attempt: Attempt) -> list[Any]:
            own = self._own_nodes(attempt, host_id)
            says[:] = [not own.says_otherwise(attempt.session_id)]
            way = own.way(attempt.session_id, machine)
            former = [n for n in dict.fromkeys((replaces, own.word)) if n and n != name]
            present, *stats = attempt.stats([path, *map(self._layout.name, former)])
            if present is not None and not own.names(present, name, attempt.session_id):
                raise name_taken(name)
            (of_name,) = attempt.acls([self._layout.ip_map])
            gone = []
            for other, stat in zip(former, stats, strict=True):
                match own.former(stat, way, attempt.session_id):
                    case "delete":
                        gone.append(Delete(self._layout.name(other), ANY_VERSION))
                    case "stands":
                        self._note_standing(attempt, other)
            # The first two come together, and in this order: so watchers know that the entry was
            # made by the step that wrote the record.
            entry = _ephemeral(path, data, rights.of_child(of_name))
            has_keys, holding = self._hold_key(attempt, key, host_id) if key else (False, [])
            record = replace(word, key=key) if has_keys else word
            return [
                *([*own.write(record), entry, *holding] if present is None else []),
                *own.describe(self._said(attempt, detail, report), attempt.session_id),
                *gone,
            ]

        def operation(attempt: Attempt) -> None:
            try:
                self._write(
                    attempt, look, refused=refused_record(host_id, *self._own_documents(host_id))
                )
            except DocumentClosed:
                attempt.end_session()
            except OtherOwner as error:
                raise self._with_subjects(attempt, host_id) from error
            except NoAuthError:
                old = self._layout.name(replaces) if replaces is not None else None
                if old is None or not self._own(attempt, attempt.one(Exists(old, None))):
                    raise
                # A tree without records, where members may delete nothing: the old name goes with
                # its session.
                attempt.end_session()

        self._attempt(operation)
        return says == [True]

    def describe(self, host_id: str, detail: bytes, report: bytes = b"") -> bool:
        says = list[bool]()

        def look(attempt: Attempt) -> list[Any]:
            own = self._own_nodes(attempt, host_id)
            if not own.registered(attempt.session_id):
                raise RegistryError(f"{host_id} is not registered by this agent: register it first")
            says[:] = [not own.says_otherwise(attempt.session_id)]
            return own.describe(self._said(attempt, detail, report), attempt.session_id)

        def operation(attempt: Attempt) -> None:
            try:
                refused = refused_document(*self._own_documents(host_id))
                self._write(attempt, look, refused=refused)
            except DocumentClosed:
                attempt.end_session()

        self._attempt(operation)
        return says == [True]

    def leave(self, *, host_id: str, name: str, departure: str) -> None:
        path, farewell = self._layout.name(name), self._layout.name(departure)

        def look(attempt: Attempt) -> list[Any]:
            own = self._own_nodes(attempt, host_id)
            own.way(attempt.session_id, "")
            present, said = attempt.stats([path, farewell])
            # A farewell beside a name is that of an earlier leave, before a return: watchers must
            # hear this one.
            stale = said is not None and present is not None
            return [
                *([Delete(farewell, ANY_VERSION)] if stale else []),
                *(own.say(departure) if said is None or stale else []),
                *([self._departure(attempt, farewell)] if said is None or stale else []),
                *([Delete(path, ANY_VERSION)] if self._own(attempt, present) else []),
                *own.undescribe(attempt.session_id),
            ]

        def operation(attempt: Attempt) -> None:
            try:
                self._write(attempt, look)
            except NoAuthError:
                self._leave_by_session(attempt, host_id, departure)

        self._attempt(operation)

    def detach(self) -> None:
        self._finish(end_session=False)

    def close(self) -> None:
        self._finish(end_session=True)

    # --- parts of operations ---

    def _with_subjects(self, attempt: Attempt, host_id: str) -> OtherOwner:
        """Most often somebody took the wrong file: both names together show it."""
        (held,) = attempt.acls([self._layout.host(host_id)], unread=set())
        owners, own = rights.owners(held), zookeeper_init.subjects_of(attempt, None)
        return other_owner(host_id, *(found[0] if found else "" for found in (owners, own)))

    def _own_nodes(self, attempt: Attempt, host_id: str) -> OwnNodes:
        return OwnNodes.read(attempt, self._layout, host_id, makes_tree=self._files is None)

    def _own_documents(self, host_id: str) -> tuple[str, str]:
        return self._layout.agent(host_id), self._layout.report(host_id)

    def _said(self, attempt: Attempt, detail: bytes, report: bytes) -> Said:
        makes_tree = self._files is None
        said = Said.to(attempt, self._layout, detail, report, makes_tree=makes_tree)
        if report and not said.report and not self._said_to_all:
            self._said_to_all = True
            log.info(
                "report_for_all",
                what="every member may read what this host says of its stage and problems, because "
                "an earlier version laid out the registry's tree: 'neti registry init'",
            )
        return said

    def _hold_key(self, attempt: Attempt, key: str, host_id: str) -> tuple[bool, list[Any]]:
        """Whether the tree has a place for keys, and what makes this one the host's. Raises
        KeyTaken."""
        layout = self._layout
        (of_keys,) = attempt.acls([layout.keys])
        if not of_keys and self._files is not None:
            return False, []  # a tree of an earlier version, until 'neti registry init'
        closed: set[str] = set()
        (holder,) = attempt.read([layout.key(key)], unread=closed)
        if holder is None and not closed:
            made = Create(layout.key(key), host_id.encode(), rights.of_child(of_keys), 0)
            return True, [made]
        if holder != host_id.encode():
            raise key_taken(key, holder or b"somebody who lets nobody read it")
        return True, []

    def _note_standing(self, attempt: Attempt, name: str) -> None:
        """Members may delete nothing here, so former entries of this session pile up. Now and then
        it ends, and they go with it."""
        session, names = self._standing
        names = {name, *names} if session == attempt.session_id else {name}
        self._standing = attempt.session_id, names
        if len(names) > _MOST_STANDING:
            attempt.end_session()

    def _departure(self, attempt: Attempt, path: str) -> Create:
        (parent,) = attempt.acls([self._layout.ip_map])
        return _ephemeral(path, b"", rights.of_child(parent))

    def _leave_by_session(self, attempt: Attempt, host_id: str, departure: str) -> None:
        """Where members may delete nothing: the record says goodbye, and another session, then this
        one ends."""
        farewell = self._layout.name(departure)

        def name_it(attempt: Attempt) -> list[Any]:
            own = self._own_nodes(attempt, host_id)
            own.way(attempt.session_id, "")
            return own.say(departure)

        self._write(attempt, name_it, refused=refused_record(host_id))
        if self._farewell is None:
            self._farewell = self._new_client(_Deaf(), None)
            self._farewell.start_async()
        other = Calls(self._farewell, self._timeout, lambda: self._stream.reason)

        def say(saying: Attempt) -> None:
            if not saying.exists(farewell):
                saying.one(self._departure(saying, farewell))

        other.attempt(say)
        attempt.end_session()

    def _own(self, attempt: Attempt, stat: Any) -> bool:
        return owner(stat) == attempt.session_id


class _Deaf:
    """The listener of a session that only has to exist."""

    def on_event(self, kind: int, path: str) -> None:
        return

    def on_state(self, state: str) -> None:
        return

    def on_failure(self, reason: str) -> None:
        return

    def on_taken(self) -> None:
        return


def _ephemeral(path: str, data: bytes, acl: list[Any]) -> Create:
    return Create(path, data, acl, EPHEMERAL)
