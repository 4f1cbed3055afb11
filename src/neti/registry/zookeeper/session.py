"""One session with ZooKeeper, begun by the first call, and what both sides' calls are made of.

Must never do: write one half of something that belongs together.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from kazoo.exceptions import (
    BadVersionError,
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
)
from kazoo.protocol.serialization import Create

from neti.errors import RegistryError
from neti.model.settings import RegistryTLS
from neti.registry import Session
from neti.registry.zookeeper import init as zookeeper_init
from neti.registry.zookeeper import rights, tls
from neti.registry.zookeeper.calls import Attempt, Calls, NotAllowed, Unreadable
from neti.registry.zookeeper.layout import Layout
from neti.registry.zookeeper.leases import Leases
from neti.registry.zookeeper.stream import NOT_YET, Stream
from neti.registry.zookeeper.watch import Listener, StreamClient
from neti.words import some

T = TypeVar("T")
# How often the tree may change between a look and the write that relies on it.
_LOOKS: Final = 20


class OneSession:
    """What both sides share. Thread-safe."""

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

    # --- parts of operations ---

    def _write(
        self,
        attempt: Attempt,
        look: Callable[[Attempt], list[Any]],
        *,
        refused: Callable[[Any], RegistryError | None] = lambda _operation: None,
    ) -> None:
        """Look, then write in one step what follows from it; look again if something has changed
        meanwhile. ``refused``: what to say when this operation is not allowed."""
        for _ in range(_LOOKS):
            operations = look(attempt)
            if not operations:
                return
            failure = attempt.multi(operations)
            if failure is None:
                return
            index, error = failure
            if isinstance(error, NoAuthError) and (said := refused(operations[index])) is not None:
                raise said from error
            if isinstance(error, NoNodeError):
                self._make_parents(attempt)
            elif not isinstance(error, NodeExistsError | NotEmptyError | BadVersionError):
                raise error
        raise RegistryError("ZooKeeper's tree keeps changing under this write: try again")

    def _make_parents(self, attempt: Attempt) -> None:
        if self._files is not None:
            raise RegistryError(self._layout.no_tree)
        for path, data in self._layout.tree():
            try:
                attempt.one(Create(path, data, rights.OPEN, 0))
            except NodeExistsError:
                continue

    # --- the client ---

    def in_the_way(self) -> str:
        """Why there is no connection, as far as that is known by now; empty: it is not."""
        reason = self._stream.reason
        return reason if reason != NOT_YET else ""

    def _attempt(self, operation: Callable[[Attempt], T]) -> T:
        with self._lock:
            if self._files is not None and self._client is None:
                tls.context(self._files)  # so that a fault in our own files is known at once
            client = self._start()
        return Calls(client, self._timeout, lambda: self._stream.reason).attempt(operation)

    def _attempt_as_operator(self, operation: Callable[[Attempt], T]) -> T:
        """For what members may not do. A refusal says who may."""
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
            self._stream.attach(self._client)
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


def owner(stat: Any) -> int | None:
    """The session that made a node, 0 when it is not ephemeral; None when there is no node."""
    if isinstance(stat, KazooException):
        raise stat
    return int(stat.ephemeralOwner) if stat is not None else None
