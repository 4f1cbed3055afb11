"""``metrics_listen``: a small HTTP server that asks the loop, as a command does.

It answers one request per connection, from anyone who can reach the address. So the number of
connections, the size of a request and the time for all of it are bounded, and the loop is asked
once a second at most.

Must never do: ask the loop by anything but its queue, or listen on an address that was not named.
"""

import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from neti import log
from neti.control.accepting import Acceptor, Connection
from neti.control.server import Request
from neti.control.trouble import Trouble
from neti.errors import NetiError
from neti.model.document import read
from neti.monitoring.figures import Figures

if TYPE_CHECKING:
    from neti.agent.loop import Agent

Render = Callable[[], bytes]

_SECONDS: Final = 10.0  # for a request, and again for its answer
_AT_ONCE: Final = 16
_PER_SOURCE: Final = 8
_MAX_REQUEST: Final = 16 * 1024
_FRESH_SECONDS: Final = 1.0
_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_PLAIN: Final = "text/plain; charset=utf-8"


class Exporter:
    """``http://LISTEN/metrics``. ``render`` is called by a connection's thread."""

    def __init__(
        self, listen: str, render: Render, tell: Callable[[Trouble], None] = lambda _trouble: None
    ) -> None:
        host, _, port = listen.rpartition(":")
        try:
            family, kind, _, _, address = socket.getaddrinfo(
                host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listener = _listener(family, kind, address)
        except OSError as error:
            raise NetiError(
                f"metrics_listen {listen}: cannot be listened on: {error.strerror}"
            ) from error
        self.port = int(listener.getsockname()[1])
        self._render = render
        self._once = threading.Lock()
        self._rendered: tuple[float, bytes] | None = None
        self._acceptor = Acceptor(
            "metrics",
            listener,
            self._serve,
            seconds=_SECONDS,
            at_once=_AT_ONCE,
            per_source=_PER_SOURCE,
            tell=tell,
        )
        self._acceptor.start()

    def close(self) -> None:
        self._acceptor.close()

    def _serve(self, connection: Connection, _source: str) -> None:
        status, kind, body = self._answer(_request_line(connection))
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        connection.extend(_SECONDS)
        connection.send(head.encode("ascii") + body)

    def _answer(self, line: bytes) -> tuple[str, str, bytes]:
        words = line.split()
        if len(words) != 3 or not words[2].startswith(b"HTTP/"):
            return "400 Bad Request", _PLAIN, b"expected an HTTP request\n"
        if words[0] != b"GET":
            return "405 Method Not Allowed", _PLAIN, b"expected GET /metrics\n"
        if words[1].partition(b"?")[0] not in (b"/metrics", b"/"):
            return "404 Not Found", _PLAIN, b"expected GET /metrics\n"
        try:
            return "200 OK", _CONTENT_TYPE, self._figures()
        except NetiError as error:
            return "500 Internal Server Error", _PLAIN, f"{error}\n".encode(errors="replace")

    def _figures(self) -> bytes:
        with self._once:
            now = time.monotonic()
            if self._rendered is None or now - self._rendered[0] >= _FRESH_SECONDS:
                self._rendered = None  # if this raises, there are no figures, not old ones
                self._rendered = (now, self._render())
            return self._rendered[1]


def _listener(family: int, kind: int, address: Any) -> socket.socket:
    listener = socket.socket(family, kind)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(64)
    except OSError:
        listener.close()
        raise
    return listener


def _request_line(connection: Connection) -> bytes:
    """Reads the whole request, so that closing the connection does not cut off the answer."""
    received = bytearray()
    while b"\r\n\r\n" not in received and b"\n\n" not in received:
        part = connection.receive()
        received += part
        if not part or len(received) > _MAX_REQUEST:
            break
    return bytes(received).partition(b"\n")[0].rstrip(b"\r")


def exporter(agent: "Agent") -> Exporter | None:
    """None if no metrics are wanted, or if the address cannot be used: that is a problem, but no
    reason to go without rules."""
    listen = agent.core.settings.metrics_listen
    if listen is None:
        return None

    def render() -> bytes:
        from neti.monitoring import exposition  # takes 4 MiB, so only those who want it pay

        request = Request("metrics", {})
        agent.tell(request)
        answer = request.wait()
        if "error" in answer:
            raise NetiError(str(answer["error"]))
        return exposition.text(read(Figures, answer["result"]))

    try:
        return Exporter(listen, render, agent.tell)
    except NetiError as error:
        agent.core.problems.set("metrics", str(error))
        log.warning("no_metrics", what=str(error))
        return None
