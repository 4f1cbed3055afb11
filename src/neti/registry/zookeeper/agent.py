"""What an agent does with its session in ZooKeeper. See ``neti.registry.AgentRegistry``.

Must never do: take away what another session made.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from kazoo.exceptions import NoAuthError, NoNodeError
from kazoo.protocol.serialization import Create, Delete, Exists, GetData, SetData, Sync

from neti.errors import RegistryError
from neti.registry import Sink
from neti.registry.leases import check_inside
from neti.registry.untrusted import identity_held
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.calls import Attempt, Calls, session_of
from neti.registry.zookeeper.leases import ANY_VERSION, EPHEMERAL
from neti.registry.zookeeper.session import OneSession, owner


class AgentSide(OneSession):
    def watch(self, sink: Sink) -> None:
        with self._lock:
            self._stream.watch(sink)
            client = self._start()
            # Where other calls came first it is connected already: begin in its own thread.
            client.submit(Sync(self._layout.ip_map), self._stream.on_watch)

    def ask_leases(self, overlays: Iterable[IPv4Address]) -> None:
        self._stream.ask(overlays)

    def ask_data(self, names: Iterable[str]) -> None:
        self._stream.ask(names)

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
                    return check_inside(host_id, overlay, subnet)
                overlay = self._leases.take(attempt, host_id, subnet, prefer)
                if overlay is not None:
                    return overlay

        return self._attempt(operation)

    def register(
        self, *, host_id: str, name: str, data: bytes, detail: bytes, replaces: str | None = None
    ) -> None:
        agent, path = self._layout.agent(host_id), self._layout.name(name)
        old = self._layout.name(replaces) if replaces is not None and replaces != name else None

        def look(attempt: Attempt) -> list[Any]:
            registered = self._check_own(attempt, host_id)
            present, replaced = attempt.each([Exists(path, None), Exists(old or path, None)])
            if owner(present) not in (None, attempt.session_id):
                raise identity_held(host_id, session_of(present), b"")
            of_agent, of_name = attempt.acls([self._layout.agents, self._layout.ip_map])
            may = rights.of_child(of_agent, also=rights.WRITE)
            return [
                SetData(agent, detail, ANY_VERSION)
                if registered
                else _ephemeral(agent, detail, may),
                *([_ephemeral(path, data, rights.of_child(of_name))] if present is None else []),
                *([Delete(old, ANY_VERSION)] if old and self._own(attempt, replaced) else []),
            ]

        def operation(attempt: Attempt) -> None:
            try:
                self._write(attempt, look)
            except NoAuthError:
                if old is None or not self._own(attempt, attempt.one(Exists(old, None))):
                    raise
                # Members may delete nothing here: the old name goes with its session.
                attempt.end_session()

        self._attempt(operation)

    def describe(self, host_id: str, detail: bytes) -> None:
        def operation(attempt: Attempt) -> None:
            path = self._layout.agent(host_id)
            if not self._own(attempt, attempt.one(Exists(path, None))):
                raise RegistryError(f"{host_id} is not registered by this agent: register it first")
            attempt.one(SetData(path, detail, ANY_VERSION))

        self._attempt(operation)

    def leave(self, *, host_id: str, name: str, departure: str) -> None:
        path, farewell = self._layout.name(name), self._layout.name(departure)

        def look(attempt: Attempt) -> list[Any]:
            registered = self._check_own(attempt, host_id)
            present, said = attempt.each([Exists(path, None), Exists(farewell, None)])
            # A farewell beside a name is that of an earlier leave, before a return: watchers must
            # hear this one.
            stale = said is not None and present is not None
            return [
                *([Delete(farewell, ANY_VERSION)] if stale else []),
                *([self._departure(attempt, farewell)] if said is None or stale else []),
                *([Delete(path, ANY_VERSION)] if self._own(attempt, present) else []),
                *([Delete(self._layout.agent(host_id), ANY_VERSION)] if registered else []),
            ]

        def operation(attempt: Attempt) -> None:
            try:
                self._write(attempt, look)
            except NoAuthError:
                self._leave_by_session(attempt, farewell)

        self._attempt(operation)

    def detach(self) -> None:
        self._finish(end_session=False)

    def close(self) -> None:
        self._finish(end_session=True)

    # --- parts of operations ---

    def _departure(self, attempt: Attempt, path: str) -> Create:
        (parent,) = attempt.acls([self._layout.ip_map])
        return _ephemeral(path, b"", rights.of_child(parent))

    def _leave_by_session(self, attempt: Attempt, farewell: str) -> None:
        """Where members may delete nothing: another session says goodbye, then this one ends."""
        if self._farewell is None:
            self._farewell = self._new_client(_Deaf(), None)
            self._farewell.start_async()
        other = Calls(self._farewell, self._timeout, lambda: self._stream.reason)

        def say(saying: Attempt) -> None:
            if not saying.exists(farewell):
                saying.one(self._departure(saying, farewell))

        other.attempt(say)
        attempt.end_session()

    def _check_own(self, attempt: Attempt, host_id: str) -> bool:
        """Whether this session has registered the id; IdentityHeld when another one has."""
        path = self._layout.agent(host_id)
        answer, seen = attempt.each([GetData(path, None), Exists(path, None)])
        if isinstance(answer, NoNodeError):
            return False
        if isinstance(answer, NoAuthError) and seen is not None:
            answer = b"", seen  # its maker lets nobody read it; the session is told all the same
        if isinstance(answer, Exception):
            raise answer
        detail, stat = answer
        if stat.ephemeralOwner != attempt.session_id:
            raise identity_held(host_id, session_of(stat), detail or b"")
        return True

    def _own(self, attempt: Attempt, stat: Any) -> bool:
        return owner(stat) == attempt.session_id


class _Deaf:
    """The listener of a session that only has to be there."""

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
