"""A registry in ZooKeeper, for real fleets. See ``zookeeper_layout`` for what stands where.

The calls are here; ``zookeeper_stream`` watches, ``zookeeper_calls`` asks, ``zookeeper_watch`` is
what kazoo lacks.

Must never do: write one half of something that belongs together.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final, TypeVar

from kazoo.exceptions import KazooException, NodeExistsError, NoNodeError
from kazoo.protocol.serialization import Create, Delete, Exists, GetData, SetData, Sync
from kazoo.security import OPEN_ACL_UNSAFE

from neti.errors import IdentityHeld, LeaseConflict, RegistryError
from neti.registry import Detail, Session, SettingName, Sink
from neti.registry.leases import candidates, check_inside, exhausted
from neti.registry.untrusted import (
    MAX_DETAIL_BYTES,
    bounded_data,
    host_id_text,
    identity_held,
)
from neti.registry.zookeeper_calls import Attempt, Calls
from neti.registry.zookeeper_layout import Layout
from neti.registry.zookeeper_stream import Stream
from neti.registry.zookeeper_watch import ListNames, StreamClient

T = TypeVar("T")
_EPHEMERAL: Final = 1
_ANY_VERSION: Final = -1
# After so many addresses that others took meanwhile, look again which are free.
_PROBES_PER_LISTING: Final = 16
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
    ) -> None:
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
        self._stream = Stream(self._layout)
        self._client: StreamClient | None = None
        self._gone = False
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

    def acquire(
        self, host_id: str, subnet: IPv4Network, *, prefer: IPv4Address | None = None
    ) -> IPv4Address:
        def operation(attempt: Attempt) -> IPv4Address:
            while True:
                overlay = self._held_lease(attempt, host_id)
                if overlay is not None:
                    return check_inside(host_id, overlay, subnet)
                if (overlay := self._take_lease(attempt, host_id, subnet, prefer)) is not None:
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
            return [
                SetData(agent, detail, _ANY_VERSION) if registered else _ephemeral(agent, detail),
                *([_ephemeral(path, data)] if present is None else []),
                *([Delete(old, _ANY_VERSION)] if old and self._own(attempt, replaced) else []),
            ]

        self._attempt(lambda attempt: self._write(attempt, look))

    def describe(self, host_id: str, detail: bytes) -> None:
        def operation(attempt: Attempt) -> None:
            path = self._layout.agent(host_id)
            if not self._own(attempt, attempt.one(Exists(path, None))):
                raise RegistryError(f"{host_id} is not registered by this agent: register it first")
            attempt.one(SetData(path, detail, _ANY_VERSION))

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
                *([Delete(farewell, _ANY_VERSION)] if stale else []),
                *([_ephemeral(farewell, b"")] if said is None or stale else []),
                *([Delete(path, _ANY_VERSION)] if self._own(attempt, present) else []),
                *([Delete(self._layout.agent(host_id), _ANY_VERSION)] if registered else []),
            ]

        self._attempt(lambda attempt: self._write(attempt, look))

    def detach(self) -> None:
        self._finish(end_session=False)

    def close(self) -> None:
        self._finish(end_session=True)

    # --- the operator's side ---

    def names(self) -> frozenset[str]:
        return frozenset(self._attempt(lambda attempt: self._list(attempt, self._layout.ip_map)))

    def data(self, names: Iterable[str]) -> dict[str, bytes]:
        wanted = list(names)

        def operation(attempt: Attempt) -> dict[str, bytes]:
            paths = [self._layout.name(name) for name in wanted]
            found = zip(wanted, _read(attempt, paths), strict=True)
            return {name: bounded_data(data) for name, data in found if data is not None}

        return self._attempt(operation)

    def details(self) -> list[Detail]:
        def operation(attempt: Attempt) -> list[Detail]:
            ids = sorted(self._list(attempt, self._layout.agents))
            found = zip(ids, _read(attempt, [self._layout.agent(i) for i in ids]), strict=True)
            return [Detail(i, data[:MAX_DETAIL_BYTES]) for i, data in found if data is not None]

        return self._attempt(operation)

    def leases(self) -> Mapping[IPv4Address, str]:
        def operation(attempt: Attempt) -> dict[IPv4Address, str]:
            taken = self._taken(attempt)
            paths = [self._layout.by_overlay(overlay) for overlay in taken]
            found = zip(taken, _read(attempt, paths), strict=True)
            return {overlay: host_id_text(data) for overlay, data in found if data is not None}

        return self._attempt(operation)

    def lease_of(self, host_id: str) -> IPv4Address | None:
        def operation(attempt: Attempt) -> IPv4Address | None:
            (data,) = _read(attempt, [self._layout.by_id(host_id)])
            return _overlay(data) if data is not None else None

        return self._attempt(operation)

    def release(self, host_id: str) -> IPv4Address | None:
        freed: list[IPv4Address] = []  # known even when the answer to the multi was lost

        def look(attempt: Attempt) -> list[Any]:
            by_id, agent = self._layout.by_id(host_id), self._layout.agent(host_id)
            half, registered = attempt.each([GetData(by_id, None), Exists(agent, None)])
            if registered is not None:
                raise IdentityHeld(
                    f"{host_id} is registered: its agent has to leave before its lease is released"
                )
            if isinstance(half, NoNodeError):
                return []
            # Made and deleted in the same step: so that nobody registers in between.
            operations = [_ephemeral(agent, b""), Delete(agent, _ANY_VERSION)]
            operations.append(Delete(by_id, _ANY_VERSION))
            overlay = _overlay(_value(half) or b"")
            if overlay is not None:
                other = self._layout.by_overlay(overlay)
                # The other half goes only if it agrees: else it is somebody else's.
                if _read(attempt, [other]) == [host_id.encode()]:
                    operations.append(Delete(other, _ANY_VERSION))
                freed[:] = [overlay]
            return operations

        self._attempt(lambda attempt: self._write(attempt, look))
        return freed[0] if freed else None

    def change_setting(self, setting: SettingName, value: bytes | None) -> None:
        path = self._layout.setting(setting)

        def look(attempt: Attempt) -> list[Any]:
            present = attempt.one(Exists(path, None)) is not None
            if value is None:
                return [Delete(path, _ANY_VERSION)] if present else []
            if present:
                return [SetData(path, value, _ANY_VERSION)]
            return [Create(path, value, OPEN_ACL_UNSAFE, 0)]

        self._attempt(lambda attempt: self._write(attempt, look))

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
            elif not isinstance(error, NodeExistsError):
                raise error
        raise RegistryError("ZooKeeper's tree keeps changing under this write: try again")

    def _make_parents(self, attempt: Attempt) -> None:
        for path, data in self._layout.tree():
            try:
                attempt.one(Create(path, data, OPEN_ACL_UNSAFE, 0))
            except NodeExistsError:
                continue

    def _check_own(self, attempt: Attempt, host_id: str) -> bool:
        """Whether this session has registered the id; IdentityHeld when another one has."""
        answer = attempt.each([GetData(self._layout.agent(host_id), None)])[0]
        if isinstance(answer, NoNodeError):
            return False
        if isinstance(answer, Exception):
            raise answer
        detail, stat = answer
        if stat.ephemeralOwner != attempt.session_id:
            raise identity_held(host_id, stat.ephemeralOwner, detail or b"")
        return True

    def _own(self, attempt: Attempt, stat: Any) -> bool:
        return _owner(stat) == attempt.session_id

    def _held_lease(self, attempt: Attempt, host_id: str) -> IPv4Address | None:
        (data,) = _read(attempt, [self._layout.by_id(host_id)])
        if data is None:
            return None
        overlay = _overlay(data)
        holder = _read(attempt, [self._layout.by_overlay(overlay)])[0] if overlay else None
        if overlay is None or holder != host_id.encode():
            other = host_id_text(holder) if holder is not None else "nobody"
            raise LeaseConflict(
                f"{self._layout.by_id(host_id)} says {host_id_text(data)!r}, "
                f"which belongs to {other} by the other half of the lease: "
                f"give it up (neti lease release {host_id}) and start the agent again"
            )
        return overlay

    def _take_lease(
        self, attempt: Attempt, host_id: str, subnet: IPv4Network, prefer: IPv4Address | None
    ) -> IPv4Address | None:
        """A free address, taken; None when the caller should look again."""
        probes = 0
        for overlay in candidates(host_id, subnet, self._taken(attempt), prefer=prefer):
            failure = attempt.multi(
                [
                    _persistent(self._layout.by_id(host_id), str(overlay).encode()),
                    _persistent(self._layout.by_overlay(overlay), host_id.encode()),
                ]
            )
            if failure is None:
                return overlay
            index, error = failure
            if isinstance(error, NoNodeError):
                self._make_parents(attempt)
                return None
            if not isinstance(error, NodeExistsError):
                raise error
            probes += 1
            if index == 0 or probes == _PROBES_PER_LISTING:
                return None  # this id has a lease now, or many addresses went meanwhile
        if probes:
            return None
        raise exhausted(host_id, subnet)

    def _taken(self, attempt: Attempt) -> set[IPv4Address]:
        listed = (_overlay(name.encode()) for name in self._list(attempt, self._layout.ip_to_id))
        return {overlay for overlay in listed if overlay is not None}

    def _list(self, attempt: Attempt, path: str) -> list[str]:
        _, answer = attempt.each([Sync(path), ListNames(path)])
        if isinstance(answer, NoNodeError):
            return []
        if isinstance(answer, Exception):
            raise answer
        names: list[str] = answer[0]
        return names

    # --- the client ---

    def _attempt(self, operation: Callable[[Attempt], T]) -> T:
        with self._lock:
            client = self._start()
        return Calls(client, self._timeout, lambda: self._stream.reason).attempt(operation)

    def _start(self) -> StreamClient:
        if self._gone:
            raise RegistryError("this registry was closed: open a new one")
        if self._client is None:
            session = self._session
            self._client = StreamClient(
                self._hosts,
                self._stream,
                session_seconds=self._seconds,
                session=(session.id, session.password) if session is not None else None,
            )
            self._stream.client = self._client
            self._client.start_async()
        return self._client

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
            client, self._client = self._client, None
        if client is not None:
            client.finish(end_session=end_session, seconds=self._timeout)


def _ephemeral(path: str, data: bytes) -> Create:
    return Create(path, data, OPEN_ACL_UNSAFE, _EPHEMERAL)


def _persistent(path: str, data: bytes) -> Create:
    return Create(path, data, OPEN_ACL_UNSAFE, 0)


def _owner(stat: Any) -> int | None:
    """The session that made a node, 0 when it is not ephemeral; None when there is no node."""
    if isinstance(stat, KazooException):
        raise stat
    return int(stat.ephemeralOwner) if stat is not None else None


def _read(attempt: Attempt, paths: Sequence[str]) -> list[bytes | None]:
    """Each node's data, None where there is no node."""
    return [_value(answer) for answer in attempt.each([GetData(path, None) for path in paths])]


def _value(answer: Any) -> bytes | None:
    if isinstance(answer, NoNodeError):
        return None
    if isinstance(answer, Exception):
        raise answer
    data: bytes = answer[0] or b""
    return data


def _overlay(data: bytes) -> IPv4Address | None:
    try:
        return IPv4Address(data[:64].decode("ascii").strip())
    except ValueError:
        return None
