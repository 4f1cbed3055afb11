"""One bounded HTTP request to a cloud's metadata service, retried where that may help.

Standard library only, and no proxy: behind http_proxy, a link-local address would be another
machine's service. Redirects are not followed. The caller judges the status, and must still check
the text that is returned.

Must never wait longer than its deadlines for a whole answer, even if it trickles in; read more than
its limit; or raise anything but IdentityError because of an answer.
"""

import http.client
import io
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast
from urllib.parse import urlsplit

from neti.errors import IdentityError
from neti.identity.source import SourceSilent

DEFAULT_ENDPOINT: Final = "http://169.254.169.254"
_MAX_BYTES: Final = 64 * 1024
_MAX_ANSWER: Final = 128 * 1024  # including headers and framing
_PAUSES: Final = (0.2, 0.5, 1.0)  # before the second, third and fourth try
_WORTH_ANOTHER_TRY: Final = frozenset({408, 410, 429, *range(500, 600)})


@dataclass(frozen=True, slots=True)
class Answer:
    """``headers``: by their names in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str]


@dataclass(slots=True)
class MetadataHttp:
    """Not thread-safe. ``endpoint``: http://HOST[:PORT], by the variable ``named``, if any;
    ``timeout``: seconds for one whole answer; ``patience``: seconds for all requests together.
    ``sleep`` is passed in so that tests do not wait."""

    endpoint: str
    timeout: float = 2.0
    patience: float = 30.0
    sleep: Callable[[float], None] = time.sleep
    named: str = "the endpoint"
    _until: float = field(default=0.0, repr=False)

    def __post_init__(self) -> None:
        self._until = time.monotonic() + self.patience
        self.endpoint = self.endpoint.rstrip("/")
        try:
            _place(self.endpoint)
        except ValueError as error:
            raise IdentityError(
                f"{self.named} is {self.endpoint[:80]!r}: expected http://HOST[:PORT]"
            ) from error

    def ask(self, method: str, path: str, headers: Mapping[str, str]) -> Answer:
        """Raises SourceSilent when it does not answer or keeps failing for what may be a short
        time, IdentityError when the answer is too long."""
        failure: SourceSilent | None = None
        for pause in (0.0, *_PAUSES):
            if pause:
                self.sleep(pause)
            if time.monotonic() >= self._until:
                break
            try:
                answer = self._once(method, path, headers)
            except IdentityError:
                raise
            except Exception as error:  # http.client may raise anything for a hostile answer
                failure = SourceSilent(f"{self.where(path)} does not answer: {_why(error)}")
                failure.__cause__ = error
                continue
            if answer.status not in _WORTH_ANOTHER_TRY:
                return answer
            failure = SourceSilent(self.said(path, answer.status))
        raise failure or SourceSilent(
            f"{self.where(path)} did not answer all requests within {self.patience:.0f} s"
        )

    def _once(self, method: str, path: str, headers: Mapping[str, str]) -> Answer:
        host, port = _place(self.endpoint)
        until = min(self._until, time.monotonic() + self.timeout)
        with socket.create_connection((host, port), timeout=self.timeout) as connection:
            connection.settimeout(max(0.01, until - time.monotonic()))
            connection.sendall(_request(method, path, _authority(host, port), headers))
            # It calls nothing but makefile().
            answer = cast("socket.socket", _Bytes(connection, until))
            response = http.client.HTTPResponse(answer, method=method)
            try:
                response.begin()
                body = response.read(_MAX_BYTES + 1)
            except _TooMuchError:
                body = bytes(_MAX_BYTES + 1)
        if len(body) > _MAX_BYTES:
            raise IdentityError(f"{self.where(path)} answered with more than {_MAX_BYTES} bytes")
        said = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, body, said)

    def where(self, path: str) -> str:
        return f"the metadata service ({self.endpoint}{path})"

    def said(self, path: str, status: int, hint: str = "") -> str:
        if status in (401, 403):
            hint = ". Is the instance's metadata service switched off, or a proxy in between?"
        return f"{self.where(path)} answered {status}{hint}"


class _TooMuchError(Exception):
    """The answer is longer than any valid one."""


class _Bytes(io.RawIOBase):
    """A socket's bytes, until a deadline and up to a total limit."""

    def __init__(self, connection: socket.socket, until: float) -> None:
        self._connection = connection
        self._until = until
        self._left = _MAX_ANSWER

    def makefile(self, _mode: str) -> io.BufferedReader:
        """The only method of a socket that HTTPResponse calls."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if self._left <= 0:
            raise _TooMuchError
        self._connection.settimeout(left)
        count = self._connection.recv_into(buffer)
        self._left -= count
        return count


def _request(method: str, path: str, authority: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {authority}", "Connection: close"]
    if method == "PUT":
        lines.append("Content-Length: 0")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _authority(host: str, port: int) -> str:
    name = f"[{host}]" if ":" in host else host.encode("idna").decode()
    return name if port == http.client.HTTP_PORT else f"{name}:{port}"


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no complete answer in time"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return f"its answer makes no sense ({type(error).__name__})"


def _place(endpoint: str) -> tuple[str, int]:
    """Host and port of the endpoint; ValueError when it has any other part."""
    parts = urlsplit(endpoint)
    bare = not (parts.path or parts.query or parts.fragment or "@" in parts.netloc)
    if parts.scheme != "http" or not parts.hostname or not bare or not endpoint.isprintable():
        raise ValueError(endpoint)
    if " " in endpoint:
        raise ValueError(endpoint)
    if parts.port == 0:
        raise ValueError(endpoint)
    parts.hostname.encode("idna")  # as the resolver will do later, so that it fails here
    return parts.hostname, parts.port or http.client.HTTP_PORT
