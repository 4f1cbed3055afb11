"""A registry in ZooKeeper, for real fleets. See ``zookeeper_layout`` for what stands where.

The calls are here; ``zookeeper_stream`` watches, ``zookeeper_calls`` asks, ``zookeeper_watch`` is
what kazoo lacks.

Must never do: write one half of something that belongs together.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final, TypeVar

from kazoo.exceptions import (
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
)
from kazoo.protocol.serialization import Create, Delete, Exists, GetData, SetData, Sync

from neti.errors import RegistryError
from neti.model.settings import RegistryTLS
from neti.registry import Detail, Session, SettingName, Sink
from neti.registry.detail import MAX_DETAIL_BYTES
from neti.registry.leases import DamagedLease, check_inside, check_move
from neti.registry.untrusted import (
    bounded_data,
    bounded_setting,
    host_id_text,
    identity_held,
)
from neti.registry.zookeeper import init as zookeeper_init
from neti.registry.zookeeper import rights, tls
from neti.registry.zookeeper.calls import Attempt, Calls, NotAllowed, Unreadable
from neti.registry.zookeeper.init import InitPlan
from neti.registry.zookeeper.layout import Layout
from neti.registry.zookeeper.leases import ANY_VERSION, EPHEMERAL, Leases, overlay_of
from neti.registry.zookeeper.stream import Stream
from neti.registry.zookeeper.watch import Listener, StreamClient
from neti.words import some

T = TypeVar("T")
# How often the state may change between a look and the write that relies on it.
_LOOKS: Final = 20


class ZooKeeperRegistry:
    """One session with ZooKeeper, begun by the first call. See ``neti.registry.Registry``.

    An operator's command simply does not ``watch``: it reads, and closes.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        *,
        prefix: str = "/neti",
        iptoid: str = "ip-to-id",
        idtoip: str = "id-to-ip",
        ip_map: str = "ip-map",
        interval: str = "interval",
        maxchange: str = "maxchange",
        session: Session | None = None,
        session_seconds: float = 30.0,
        timeout: float = 10.0,
        files: RegistryTLS | None = None,
    ) -> None:
        """``files``: speak TLS, and leave laying out the tree to an operator."""
        self._layout = Layout.below(
            prefix,
            iptoid=iptoid,
            idtoip=idtoip,
            ip_map=ip_map,
            interval=interval,
            maxchange=maxchange,
        )
        self._hosts = ",".join(hosts)
        self._session = session
        self._seconds = session_seconds
        self._timeout = timeout
        self._files = files
        self._stream = Stream(self._layout, lays_out=files is None)
        self._leases = Leases(self._layout, self._make_parents)
        self._farewell: StreamClient | None = None  # the session that holds our departure
        self._client: StreamClient | None = None
        self._gone = False
        self._unread: set[str] = set()
        self._lock = threading.Lock()

    # --- the agent's side ---

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
            if _owner(present) not in (None, attempt.session_id):
                raise identity_held(host_id, present.ephemeralOwner, b"")
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

    def detach(self) -> None:
        self._finish(end_session=False)

    def close(self) -> None:
        self._finish(end_session=True)

    # --- the operator's side ---

    def names(self) -> frozenset[str]:
        return frozenset(self._attempt(lambda attempt: attempt.names(self._layout.ip_map)))

    def data(self, names: Iterable[str]) -> dict[str, bytes]:
        wanted = list(names)

        def operation(attempt: Attempt) -> dict[str, bytes]:
            paths = [self._layout.name(name) for name in wanted]
            found = zip(wanted, attempt.read(paths, unread=self._unread), strict=True)
            return {name: bounded_data(data) for name, data in found if data is not None}

        return self._attempt(operation)

    def details(self) -> list[Detail]:
        def operation(attempt: Attempt) -> list[Detail]:
            ids = sorted(attempt.names(self._layout.agents))
            paths = [self._layout.agent(host_id) for host_id in ids]
            found = zip(ids, attempt.read(paths, unread=self._unread), strict=True)
            return [Detail(i, data[:MAX_DETAIL_BYTES]) for i, data in found if data is not None]

        return self._attempt(operation)

    def leases(self) -> Mapping[IPv4Address, str]:
        def operation(attempt: Attempt) -> dict[IPv4Address, str]:
            taken = self._leases.taken(attempt)
            paths = [self._layout.by_overlay(overlay) for overlay in taken]
            found = zip(taken, attempt.read(paths, unread=self._unread), strict=True)
            return {overlay: host_id_text(data) for overlay, data in found if data is not None}

        return self._attempt(operation)

    def lease_of(self, host_id: str) -> IPv4Address | None:
        def operation(attempt: Attempt) -> IPv4Address | None:
            (data,) = attempt.read([self._layout.by_id(host_id)], unread=self._unread)
            return overlay_of(data) if data is not None else None

        return self._attempt(operation)

    def unreadable(self) -> frozenset[str]:
        return frozenset(self._unread)

    def release(self, host_id: str) -> IPv4Address | DamagedLease | None:
        freed: list[
            IPv4Address | DamagedLease
        ] = []  # known even when the answer to the multi was lost

        def look(attempt: Attempt) -> list[Any]:
            operations, overlay = self._leases.release(attempt, host_id)
            if operations:
                freed[:] = [overlay] if overlay is not None else []
            return operations

        self._attempt_as_operator(lambda attempt: self._write(attempt, look))
        return freed[0] if freed else None

    def move(
        self, old: str, new: str, *, force: bool = False
    ) -> tuple[IPv4Address, IPv4Address | None]:
        check_move(old, new)
        tried: list[tuple[IPv4Address, IPv4Address | None]] = []

        def look(attempt: Attempt) -> list[Any]:
            if tried and self._leases.held(attempt, new) == tried[0][0]:
                return []  # done, only the answer was lost
            operations, outcome = self._leases.move(attempt, old, new, force=force)
            tried[:] = [outcome]
            return operations

        self._attempt_as_operator(lambda attempt: self._write(attempt, look))
        return tried[0]

    def setting(self, setting: SettingName) -> bytes | None:
        path = self._layout.setting(setting)

        def operation(attempt: Attempt) -> bytes | None:
            (value,) = attempt.read([path])
            return bounded_setting(setting, value) if value is not None else None

        return self._attempt(operation)

    def change_setting(self, setting: SettingName, value: bytes | None) -> None:
        path = self._layout.setting(setting)

        def look(attempt: Attempt) -> list[Any]:
            present = attempt.one(Exists(path, None)) is not None
            if value is None:
                return [Delete(path, ANY_VERSION)] if present else []
            if present:
                return [SetData(path, value, ANY_VERSION)]
            (parent,) = attempt.acls([path.rpartition("/")[0] or "/"])
            return [Create(path, value, rights.of_child(parent), 0)]

        self._attempt_as_operator(lambda attempt: self._write(attempt, look))

    def plan_init(self, operators: Sequence[str] = ()) -> InitPlan:
        """What the tree lacks. With TLS, who asks is an operator, and ``operators`` are others."""
        own = None
        if self._files is not None:
            from neti.registry.zookeeper.certificates import subject

            own = subject(self._files.cert)

        def operation(attempt: Attempt) -> InitPlan:
            known = zookeeper_init.subjects_of(attempt, own) if own is not None else ()
            return zookeeper_init.plan(attempt, self._layout, (*known, *operators))

        return self._attempt_as_operator(operation)

    def init(self, planned: InitPlan) -> None:
        self._attempt_as_operator(lambda attempt: zookeeper_init.carry_out(attempt, planned))

    def inspect(self, look: Callable[[Attempt, Layout], T]) -> T:
        """For ``zookeeper_check``, which looks at what no agent needs."""
        return self._attempt(lambda attempt: look(attempt, self._layout))

    def operate(self, change: Callable[[Attempt, Layout], T]) -> T:
        """As ``inspect``, for what operators change."""
        return self._attempt_as_operator(lambda attempt: change(attempt, self._layout))

    # --- parts of operations ---

    def _write(self, attempt: Attempt, look: Callable[[Attempt], list[Any]]) -> None:
        """Look, then write in one step what follows; look again if that has changed meanwhile."""
        for _ in range(_LOOKS):
            operations = look(attempt)
            if not operations:
                return
            failure = attempt.multi(operations)
            if failure is None:
                return
            _, error = failure
            if isinstance(error, NoNodeError):
                self._make_parents(attempt)
            elif not isinstance(error, NodeExistsError | NotEmptyError):
                raise error
        raise RegistryError("ZooKeeper's tree keeps changing under this write: try again")

    def _make_parents(self, attempt: Attempt) -> None:
        if self._files is not None:
            raise RegistryError(
                f"ZooKeeper has no {self._layout.ip_map}, and with registry_tls only an operator "
                "lays out the tree: neti registry init"
            )
        for path, data in self._layout.tree():
            try:
                attempt.one(Create(path, data, rights.OPEN, 0))
            except NodeExistsError:
                continue

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
            raise identity_held(host_id, stat.ephemeralOwner, detail or b"")
        return True

    def _own(self, attempt: Attempt, stat: Any) -> bool:
        return _owner(stat) == attempt.session_id

    # --- the client ---

    def _attempt(self, operation: Callable[[Attempt], T]) -> T:
        with self._lock:
            if self._files is not None and self._client is None:
                tls.context(self._files)  # what is wrong with our own files is known at once
            client = self._start()
        return Calls(client, self._timeout, lambda: self._stream.reason).attempt(operation)

    def _attempt_as_operator(self, operation: Callable[[Attempt], T]) -> T:
        """What members may not do. A refusal says who may."""
        try:
            return self._attempt(operation)
        except Unreadable:
            raise  # it names the node, and no certificate but its maker's would do
        except NotAllowed as error:
            raise RegistryError(
                f"ZooKeeper does not let this client do that: {self._what_is_needed()}"
            ) from error

    def _what_is_needed(self) -> str:
        """As the tree tells, where it may be asked."""
        needed = "an operator's certificate is needed"
        try:
            acl, own = self._attempt(
                lambda attempt: (
                    attempt.acls([self._layout.ip_map])[0],
                    zookeeper_init.subjects_of(attempt, None),
                )
            )
        except RegistryError:
            return needed
        known = sorted(str(one.id) for one in rights.operators(acl))
        if set(own) & set(known):
            return (
                f"{some(own)} is an operator, so a node stands in the way on which operators have "
                "no rights\n→ 'neti registry check' names it"
            )
        return f"{needed} in registry_tls; operators are {some(known)}" if known else needed

    def _start(self) -> StreamClient:
        if self._gone:
            raise RegistryError("this registry was closed: open a new one")
        if self._client is None:
            session = self._session
            saved = (session.id, session.password) if session is not None else None
            self._client = self._new_client(self._stream, saved)
            self._stream.client = self._client
            self._client.start_async()
        return self._client

    def _new_client(self, listener: Listener, session: tuple[int, bytes] | None) -> StreamClient:
        return StreamClient(
            self._hosts,
            listener,
            session_seconds=self._seconds,
            session=session,
            files=self._files,
        )

    def _finish(self, *, end_session: bool) -> None:
        with self._lock:
            if (
                self._client is None
                and self._session is not None
                and end_session
                and not self._gone
            ):
                self._start().wait_connected(self._timeout)  # a saved session is to be ended too
            self._gone = True
            clients, self._client, self._farewell = (self._client, self._farewell), None, None
        for client in clients:
            if client is None:
                continue
            client.finish(end_session=end_session, seconds=self._timeout)


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


def _owner(stat: Any) -> int | None:
    """The session that made a node, 0 when it is not ephemeral; None when there is no node."""
    if isinstance(stat, KazooException):
        raise stat
    return int(stat.ephemeralOwner) if stat is not None else None
