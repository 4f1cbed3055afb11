"""Questions to ZooKeeper: leases, entries and hosts' records, as many in one request as fit.

Must never do: keep a question for the next connection. Whoever asked asks again.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address
from typing import Any, Final

from kazoo.exceptions import BadArgumentsError, NoAuthError, NoNodeError, UnimplementedError
from kazoo.protocol.serialization import GetData

from neti.registry import DataRead, Event, HostRead, KeyRead, LeaseRead, Question
from neti.registry.record import HostId, KeyName, decode
from neti.registry.untrusted import bounded_data, host_id_text
from neti.registry.zookeeper.layout import Layout
from neti.registry.zookeeper.requests import MultiRead, reads

# A question that comes alone goes at once. Of many each request takes as many as it can, and few
# requests are on their way, so that those that come meanwhile wait for each other.
_REQUESTS_IN_FLIGHT: Final = 4
_FEW_QUESTIONS: Final = 64
_NOT_THERE: Final = (NoNodeError, NoAuthError, BadArgumentsError)


class Questions:
    """Thread-safe. ``submit`` sends a request, ``tell`` gets the answers as events, ``too_old`` is
    called when this ZooKeeper does not know the request."""

    def __init__(
        self,
        layout: Layout,
        *,
        submit: Callable[[Any, Callable[[Any], None]], object],
        tell: Callable[[Event], None],
        too_old: Callable[[], None],
    ) -> None:
        self._layout = layout
        self._submit = submit
        self._tell = tell
        self._too_old = too_old
        self._waiting: deque[Question] = deque()
        self._in_flight = 0
        self._lock = threading.Lock()  # for the two above
        self.unanswered = False  # some will not be, since somebody last set this

    def ask(self, subjects: Iterable[Question]) -> None:
        asked = list(subjects)
        with self._lock:
            if len(asked) <= _FEW_QUESTIONS:
                # A host that joins right after a start with 16,000 members must not wait until all
                # of their leases have been read.
                self._waiting.extendleft(reversed(asked))
            else:
                self._waiting.extend(asked)
        self._ask_more()

    def forget(self) -> None:
        """The connection was lost, and with it what was on its way."""
        with self._lock:
            self.unanswered |= bool(self._waiting or self._in_flight)
            self._waiting.clear()

    def _ask_more(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or self._in_flight >= _REQUESTS_IN_FLIGHT:
                    return
                self._in_flight += 1
                request = next(reads(map(self._path, self._waiting)))
                subjects = [self._waiting.popleft() for _ in request.paths]
            self._ask_some(request, subjects)

    def _ask_some(self, request: MultiRead, subjects: Sequence[Question]) -> None:
        def on_answer(answer: Any) -> None:
            if answer is None:
                self._ask_each(deque(subjects))
                return
            with self._lock:
                self._in_flight -= 1
            if isinstance(answer, UnimplementedError):
                self._too_old()
            if isinstance(answer, Exception):
                self.unanswered = True  # lost with the connection
                return
            for subject, node in zip(subjects, answer, strict=True):
                self._tell(_said(subject, None if isinstance(node, Exception) else node))
            self._ask_more()

        self._submit(request, on_answer)

    def _ask_each(self, subjects: deque[Question]) -> None:
        """One after another: together their answer was too long to be kept."""
        subject = subjects.popleft()

        def on_answer(answer: Any) -> None:
            failed = isinstance(answer, Exception)
            lost = failed and not isinstance(answer, _NOT_THERE)
            if not lost:
                self._tell(_said(subject, None if failed else answer))
            if subjects and not lost:
                self._ask_each(subjects)
                return
            with self._lock:
                self._in_flight -= 1
            if lost:
                self.unanswered = True
            else:
                self._ask_more()

        self._submit(GetData(self._path(subject), None), on_answer)

    def _path(self, subject: Question) -> str:
        if isinstance(subject, IPv4Address):
            return self._layout.by_overlay(subject)
        if isinstance(subject, HostId):
            return self._layout.host(subject.id)
        if isinstance(subject, KeyName):
            return self._layout.key(subject.key)
        return self._layout.name(subject)


def _said(subject: Question, node: tuple[bytes, Any] | None) -> Event:
    """The answer to a question, of a node's data and stat; None: it is not there."""
    data = (node[0] or b"") if node is not None else None
    if isinstance(subject, IPv4Address):
        return LeaseRead(subject, host_id_text(data) if data is not None else None)
    if isinstance(subject, HostId):
        return HostRead(
            subject.id,
            decode(data) if data is not None else None,
            node[1].mzxid if node is not None else 0,
        )
    if isinstance(subject, KeyName):
        return KeyRead(subject.key, host_id_text(data) if data is not None else None)
    return DataRead(
        subject,
        bounded_data(data) if data is not None else None,
        node[1].czxid if node is not None else 0,
    )
