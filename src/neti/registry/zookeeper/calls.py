"""Blocking requests to ZooKeeper: many at once, a deadline, and retries over lost connections.

Must never do: leave a request behind that is carried out after the caller was told it failed.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from kazoo.exceptions import (
    AuthFailedError,
    ConnectionClosedError,
    ConnectionLoss,
    InvalidACLError,
    KazooException,
    NoAuthError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
    RuntimeInconsistency,
    SessionExpiredError,
    SessionMovedError,
    UnimplementedError,
)
from kazoo.protocol.serialization import Exists, GetACL, GetData, Sync, Transaction

from neti.errors import RegistryError, RegistryUnavailable
from neti.registry.zookeeper.layout import removal
from neti.registry.zookeeper.requests import EndSession, ListNames, ListWholeNames, reads
from neti.registry.zookeeper.watch import StreamClient
from neti.text import printable

T = TypeVar("T")
# Answers to these do not tell whether the request was carried out: everything here may be repeated.
_LOST: Final = (ConnectionLoss, SessionExpiredError, SessionMovedError)
_AT_A_TIME: Final = 500
_CONTAINER: Final = 1 << 63
_TIME_TO_LIVE: Final = 0xFF0000


class NotAllowed(RegistryError):
    """ZooKeeper's rights forbid it."""


class Unreadable(NotAllowed):
    """This node's rights, which its maker chose, keep this client from reading it."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{printable(path)} does not let this client read it: no agent makes such a node\n"
            f"→ {removal(path)}"
        )


class Calls:
    """One operation after another, or several from several threads."""

    def __init__(self, client: StreamClient, timeout: float, reason: Callable[[], str]) -> None:
        self._client = client
        self._timeout = timeout
        self._reason = reason

    def attempt(self, operation: Callable[["Attempt"], T]) -> T:
        """Run ``operation``, again from its start when the connection is lost, until the deadline.

        Raises RegistryUnavailable at the deadline, and RegistryError for ZooKeeper's refusals.
        """
        deadline = time.monotonic() + self._timeout
        while True:
            if not self._client.wait_connected(deadline - time.monotonic()):
                raise RegistryUnavailable(
                    f"ZooKeeper could not be asked within {self._timeout:g} s: {self._reason()}"
                )
            try:
                return operation(Attempt(self._client, deadline, self._timeout))
            except _LOST:
                # The event that says "connected" may lag behind the loss for a moment.
                time.sleep(0.02)
            except (NoAuthError, AuthFailedError) as error:
                raise NotAllowed(
                    "ZooKeeper's rights (ACL) do not let this client do that\n"
                    "→ 'neti registry check' shows nodes that stand in the way"
                ) from error
            except InvalidACLError as error:
                raise RegistryError(
                    "this tree gives rights by certificate, and ZooKeeper knows none of this "
                    "client: configure registry_tls and the TLS port in zk_hosts"
                ) from error
            except ConnectionClosedError as error:
                raise RegistryError("this registry was closed: open a new one") from error
            except NotEmptyError as error:
                raise RegistryError(
                    "a node that has to go has others below it, which no agent makes, so "
                    "ZooKeeper does not delete it\n→ 'neti registry check' names it"
                ) from error
            except KazooException as error:
                raise RegistryError(
                    f"ZooKeeper refused this request ({type(error).__name__})"
                ) from error


class Attempt:
    """The requests of one operation, all before one deadline."""

    def __init__(self, client: StreamClient, deadline: float, timeout: float) -> None:
        self._client = client
        self._deadline = deadline
        self._timeout = timeout

    @property
    def session_id(self) -> int:
        return self._client.session[0] or 0

    def go_on(self) -> None:
        """Begin a new deadline now. For reads that take as long as members like, because they can
        make any number of nodes: the server answers, so it is not away."""
        self._deadline = time.monotonic() + self._timeout

    def each(self, requests: Sequence[Any]) -> list[Any]:
        """The answers, in order; an answer may be an exception, but no lost connection."""
        answers: list[Any] = []
        for first in range(0, len(requests), _AT_A_TIME):
            answers += self._batch(requests[first : first + _AT_A_TIME])
        return answers

    def one(self, request: Any) -> Any:
        """The answer, or its exception raised."""
        (answer,) = self.each([request])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def multi(self, operations: Sequence[Any]) -> tuple[int, Exception] | None:
        """All of ``operations`` or none. Returns which one failed and why, or None."""
        try:
            answers = self.one(Transaction(list(operations)))
        except _LOST:
            raise
        except KazooException as error:
            return -1, error
        for index, answer in enumerate(answers):
            if isinstance(answer, Exception) and not isinstance(
                answer, RolledBackError | RuntimeInconsistency
            ):
                return index, answer
        return None

    # --- reading ---

    def read(self, paths: Sequence[str], *, unread: set[str] | None = None) -> list[bytes | None]:
        """Each node's data, None where there is no node. A node that may not be read is None too,
        and gets into ``unread``; without that it raises Unreadable."""
        return [None if node is None else node[0] for node in self.nodes(paths, unread=unread)]

    def nodes(
        self, paths: Sequence[str], *, unread: set[str] | None = None
    ) -> list[tuple[bytes, Any] | None]:
        """Like ``read``, with each node's stat."""
        return [
            None if (held := _held(answer, path, unread)) is None else (held[0] or b"", held[1])
            for path, answer in zip(paths, self._read_all(paths), strict=True)
        ]

    def names(self, path: str, *, whole: bool = False) -> list[str]:
        """The names below, as they are when everybody's earlier writes are seen. Names that are
        too long for an agent's come bounded, unless they are to come ``whole``."""
        listing = ListWholeNames(path) if whole else ListNames(path)
        _, answer = self.each([Sync(path), listing])
        if isinstance(answer, NoNodeError):
            return []
        if isinstance(answer, Exception):
            raise answer
        names: list[str] = answer[0]
        return names

    def exists(self, path: str) -> bool:
        return self.one(Exists(path, None)) is not None

    def stats(self, paths: Sequence[str]) -> list[Any]:
        """Each node's stat, which needs no right to read it; None where there is no node."""
        answers = self.each([Exists(path, None) for path in paths])
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def acls(self, paths: Sequence[str], *, unread: set[str] | None = None) -> list[list[Any]]:
        """Each node's rights; none where there is no node. ``unread``: as for ``read``."""
        answers = self.each([GetACL(path) for path in paths])
        return [
            [] if (held := _held(answer, path, unread)) is None else held[0]
            for path, answer in zip(paths, answers, strict=True)
        ]

    def end_session(self) -> None:
        """What this session made vanishes; the caller goes on in another, from its start."""
        self.each([EndSession()])
        raise SessionExpiredError

    def _read_all(self, paths: Sequence[str]) -> list[Any]:
        if len(paths) == 1:
            return self.each([GetData(paths[0], None)])
        found: list[Any] = []
        requests = list(reads(paths))
        for request, answer in zip(requests, self.each(requests), strict=True):
            if isinstance(answer, UnimplementedError):  # before 3.6, where no agent works
                return self.each([GetData(path, None) for path in paths])
            if isinstance(answer, Exception):
                raise answer
            each = [GetData(path, None) for path in request.paths] if answer is None else []
            found += self.each(each) if each else answer
        return found

    def _batch(self, requests: Sequence[Any]) -> list[Any]:
        answers: list[Any] = [None] * len(requests)
        missing = len(requests)
        complete = threading.Event()

        def receiver(index: int) -> Callable[[Any], None]:
            def receive(answer: Any) -> None:  # in the connection thread, one after another
                nonlocal missing
                answers[index] = answer
                missing -= 1
                if not missing:
                    complete.set()

            return receive

        replies = [
            self._client.submit(request, receiver(index)) for index, request in enumerate(requests)
        ]
        if not complete.wait(max(0.0, self._deadline - time.monotonic())):
            for reply in replies:
                self._client.withdraw(reply)
            raise RegistryUnavailable(f"ZooKeeper did not answer within {self._timeout:g} s")
        for answer in answers:
            if isinstance(answer, _LOST):
                raise answer
        return answers


def session_of(stat: Any) -> int:
    """The session with whose end a node goes; 0 for one that outlasts any. Containers and nodes
    with a time to live say so in the same field, which would pass for a session's number."""
    owner = int(stat.ephemeralOwner) & 0xFFFFFFFFFFFFFFFF
    return 0 if owner == _CONTAINER or owner >> 40 == _TIME_TO_LIVE else owner


def _held(answer: Any, path: str, unread: set[str] | None) -> Any:
    """The answer; None where there is no node, or one that may be left out."""
    if isinstance(answer, NoAuthError):
        if unread is None:
            raise Unreadable(path) from answer
        unread.add(path)
        return None
    if isinstance(answer, NoNodeError):
        return None
    if isinstance(answer, Exception):
        raise answer
    return answer
